"""From the text of a published recipe to a typed one, with every wrong key and value named at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nova_dpo_sdk.catalog import Catalog, NovaModel, TuningKind
from nova_dpo_sdk.errors import Finding, RecipeError, Severity
from nova_dpo_sdk.recipes._checkpoint import Checkpoint
from nova_dpo_sdk.recipes._layout import field_paths
from nova_dpo_sdk.recipes._models import (
    DPORecipe,
    FullRank,
    LoRA,
    Nova2SFTRecipe,
    Recipe,
    SFTRecipe,
)
from nova_dpo_sdk.recipes._values import nearest, shown
from nova_dpo_sdk.recipes._yaml import LARGEST, load

if TYPE_CHECKING:
    from collections.abc import Iterator

R = TypeVar("R", bound=Recipe)
_DPO_MARK = "training_config.model.dpo_cfg"


def read_file(path: str | Path) -> str:
    """The text of a recipe file.

    Raises:
        RecipeError: The file is missing, no file, too long, or not UTF-8.
    """
    file = Path(path)
    try:
        if not file.is_file():
            what = "is not a file" if file.exists() else "does not exist"
            raise RecipeError(f"{file} {what}. Give the path of a recipe's YAML file.")
        if file.stat().st_size > LARGEST:
            raise RecipeError(f"{file} is longer than {LARGEST} bytes, which no recipe is.")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {error.strerror or error}.") from error


def read_recipe(cls: type[R], text: str, carry: tuple[str, ...]) -> R:
    """Read a recipe of `cls`, or of the class that the text asks for when `cls` is `Recipe`."""
    leaves, lines = load(text)
    kind = _kind(cls, leaves, lines)
    layout = "nova-2" if kind is Nova2SFTRecipe else "nova-1"
    known = field_paths(layout, dpo=kind is DPORecipe)
    extra = {path: value for path, value in leaves.items() if _carried(path, carry)}
    found = list(_unknown(leaves, lines, known, set(extra)))
    values, troubles = _Fields(kind, leaves, lines, known).read()
    if extra:
        values["extra"] = extra
    found += troubles
    try:
        recipe = kind(**values)
    except RecipeError as error:
        found += [_placed(finding, known, lines) for finding in error.findings]
        raise RecipeError("This recipe cannot be used:", found) from None
    if found:
        raise RecipeError("This recipe cannot be used:", found)
    return cast("R", recipe)


def _kind(cls: type[Recipe], leaves: dict[str, Any], lines: dict[str, int]) -> type[Recipe]:
    told: type[Recipe] = SFTRecipe
    if leaves.get("run.model_type") == Catalog.packaged().models[NovaModel.LITE_2].model_type:
        told = Nova2SFTRecipe
    elif any(path == _DPO_MARK or path.startswith(f"{_DPO_MARK}.") for path in lines):
        told = DPORecipe
    if cls is Recipe or told is cls:
        return told
    if cls is DPORecipe and told is Nova2SFTRecipe:
        reason = "run.model_type is Nova 2 Lite, which has no DPO"
    else:
        reason = f"training_config.model.dpo_cfg {'is' if told is DPORecipe else 'is not'} in it"
    where = lines.get("run.model_type", 1)
    raise RecipeError(
        f"This is not a {cls.__name__}: {reason} (line {where}). "
        f"Read it with {told.__name__}.from_yaml or Recipe.from_yaml."
    )


def _carried(path: str, carry: tuple[str, ...]) -> bool:
    return any(path == each or path.startswith(f"{each}.") for each in carry)


def _unknown(
    leaves: dict[str, Any], lines: dict[str, int], known: dict[str, str], carried: set[str]
) -> Iterator[Finding]:
    for path, value in leaves.items():
        opens = any(each.startswith(f"{path}.") for each in known) and value in ({}, None)
        inside = any(path.startswith(f"{each}.") for each in known if each.endswith("_list"))
        if path in known or path in carried or opens or inside:
            continue
        close = nearest(path, known) or _same_leaf(path, known)
        yield Finding(
            code="unknown-key",
            severity=Severity.ERROR,
            where=f"line {lines[path]}, {path}",
            message=f"{path} is not a key of this recipe.",
            value=value,
            allowed=f"{close} (the nearest known key)" if close else "the keys of the published recipes",
            fix=(f"Did you mean {close}? " if close else "")
            + f'A key that Nova added since is carried with extra=["{path}"].',
        )


def _same_leaf(path: str, known: dict[str, str]) -> str:
    leaf = path.rpartition(".")[2]
    word = nearest(leaf, [each.rpartition(".")[2] for each in known])
    return next((each for each in known if each.rpartition(".")[2] == word), "") if word else ""


class _Fields:
    """Gathers one recipe's constructor arguments from the leaves of its YAML."""

    def __init__(
        self, kind: type[Recipe], leaves: dict[str, Any], lines: dict[str, int], known: dict[str, str]
    ) -> None:
        self._kind = kind
        self._leaves = leaves
        self._lines = lines
        self._known = known
        self._found: list[Finding] = []
        self._paths = {name: path for path, name in known.items()}

    def read(self) -> tuple[dict[str, Any], list[Finding]]:
        special = ("model", "checkpoint", "tuning", "save_steps", "validation_data_s3_path_list")
        values: dict[str, Any] = {}
        for path, name in self._known.items():
            if path in self._leaves and name not in special and not name.startswith("tuning."):
                values[name] = self._leaves[path]
        values.update(self._model())
        values.update(self._tuning())
        if self._kind is Nova2SFTRecipe:
            values.update(self._nova_2())
        values.update(self._start(values))
        return values, self._found

    def _leaf(self, name: str) -> Any:
        return self._leaves.get(self._paths[name])

    def _wrong(self, name: str, code: str, message: str, allowed: str, fix: str) -> None:
        path = self._paths[name]
        where = f"line {self._lines.get(path, 1)}, {path}"
        self._found.append(Finding(code, Severity.ERROR, where, message, self._leaf(name), allowed, fix))

    def _model(self) -> dict[str, Any]:
        types = {each.model_type: each.name for each in Catalog.packaged().models.values()}
        told = self._leaf("model")
        if told in types:
            return {"model": types[told]}
        allowed = ", ".join(types)
        self._wrong(
            "model",
            "model-unknown",
            f"run.model_type is {shown(told)}, which is no Nova model.",
            allowed,
            f"Did you mean {nearest(str(told), types) or next(iter(types))}?",
        )
        return {}

    def _tuning(self) -> dict[str, Any]:
        scheme = self._leaf("tuning")
        lora_keys = [path for path, name in self._known.items() if name.startswith("tuning.") and path in self._leaves]
        if scheme == "lora":
            given = {self._known[path].partition(".")[2]: self._leaves[path] for path in lora_keys}
            try:
                return {"tuning": LoRA(**given)}
            except RecipeError as error:
                self._found += [
                    _placed(
                        each,
                        {p: n.partition(".")[2] for p, n in self._known.items() if n.startswith("tuning.")},
                        self._lines,
                    )
                    for each in error.findings
                ]
                return {"tuning": LoRA()}
        if scheme in (None, "null"):
            for path in lora_keys:
                self._found.append(
                    Finding(
                        "lora-key-in-full-rank",
                        Severity.ERROR,
                        f"line {self._lines[path]}, {path}",
                        f"{path} is set, but peft_scheme is null (full rank).",
                        self._leaves[path],
                        "no LoRA keys",
                        "Remove it, or set peft_scheme to lora.",
                    )
                )
            return {"tuning": FullRank()}
        self._wrong(
            "tuning",
            "peft-scheme-unknown",
            f"peft_scheme is {shown(scheme)}.",
            "lora or null",
            "Set it to lora, or to null for full rank.",
        )
        return {}

    def _start(self, values: dict[str, Any]) -> dict[str, Any]:
        path = self._leaf("checkpoint")
        models = Catalog.packaged().models
        model: NovaModel | None = values.get("model")
        if path is None or model is None or path == models[model].base_path:
            return {}
        if isinstance(path, str) and path.startswith("s3://") and "tuning" in values:
            kind: TuningKind = values["tuning"].kind
            try:
                return {"checkpoint": Checkpoint(uri=path, model=model, tuning=kind)}
            except RecipeError as error:
                self._found += [
                    _placed(each, {self._paths["checkpoint"]: "uri"}, self._lines) for each in error.findings
                ]
                return {}
        other = next((each.title for each in models.values() if each.base_path == path), None)
        why = f"the base path of {other}" if other else "neither a base path nor an S3 checkpoint"
        self._wrong(
            "checkpoint",
            "model-path-not-allowed",
            f"model_name_or_path is {shown(path)}, {why}.",
            f"{models[model].base_path} or s3://<checkpoint>",
            f"Set it to {models[model].base_path}.",
        )
        return {}

    def _nova_2(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        steps = self._leaf("save_steps")
        same_as_max = isinstance(steps, str) and steps.replace(" ", "") in (
            "${oc.select:training_config.max_steps}",
            "${training_config.max_steps}",
        )
        if "training_config.save_steps" in self._leaves and not same_as_max:
            values["save_steps"] = steps
        listed = "run.validation_data_s3_path_list"
        if listed in self._lines:
            inside = {
                path.removeprefix(f"{listed}."): value
                for path, value in self._leaves.items()
                if path.startswith(f"{listed}.")
            }
            values["validation_data_s3_path_list"] = inside or self._leaves.get(listed) or {}
        return values


def _placed(finding: Finding, known: dict[str, str], lines: dict[str, int]) -> Finding:
    """The same finding with the YAML path and line of its field."""
    head = finding.where.partition(".")[0]
    paths = {name: path for path, name in known.items()}
    path = paths.get(finding.where) or paths.get(head)
    if path is None:
        return finding
    line = f"line {lines[path]}, " if path in lines else ""
    return replace(finding, where=f"{line}{path}")
