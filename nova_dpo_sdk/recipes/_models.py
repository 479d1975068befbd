"""What to train: SFT and DPO recipes as frozen values with Nova's own words."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from nova_dpo_sdk.catalog import (
    Catalog,
    Limit,
    NovaModel,
    Platform,
    Technique,
    TuningKind,
    family_of,
)
from nova_dpo_sdk.errors import Finding, RecipeError, Severity
from nova_dpo_sdk.recipes._checkpoint import Checkpoint
from nova_dpo_sdk.recipes._layout import field_paths
from nova_dpo_sdk.recipes._values import Value, refused, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from typing_extensions import Self


_CHOICES = {"technique", "model", "tuning"}
"""What defaults depend on. One is missing when it was refused; an older pydantic asks for the defaults even so."""


def _published(name: str) -> Any:
    """A field whose default is the published recipe's, for the model and tuning chosen before it."""

    def default(data: dict[str, Any]) -> Any:
        if not data.keys() >= _CHOICES:
            return next(group[name].default for group in Catalog.packaged().widest.values() if name in group)
        return Catalog.packaged().default(data["technique"], data["model"], data["tuning"].kind, name)

    return Field(default_factory=default)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType] - checked next


class FullRank(Value, frozen=True):
    """Train all weights. Larger behaviour changes; needs more nodes and provisioned throughput to serve."""

    kind: ClassVar[TuningKind] = TuningKind.FULL_RANK


class LoRA(Value, frozen=True):
    """Train a low-rank adapter over the frozen base model.

    What is left out takes the published default of the recipe that it is used in.
    """

    kind: ClassVar[TuningKind] = TuningKind.LORA

    alpha: int | None = None
    """Scale of the adapter's weights: 32, 64, 96, 128, 160 or 192. Published: 64 for DPO, 128 for SFT."""
    loraplus_lr_ratio: float | None = None
    """How many times faster LoRA+ trains matrix B than A, 0 to 100. Published: 20 for DPO, 16 for SFT."""
    adapter_dropout: float | None = None
    """Dropout inside the adapter, 0 to 1. Published: 0.01. Not a parameter of Nova 2 Lite."""

    @field_validator("*")
    @classmethod
    def _within_the_widest_limits(cls, value: Any, info: ValidationInfo) -> Any:
        limits = Catalog.packaged().widest[str(Technique.DPO)]
        return _limited(str(info.field_name), value, limits) if value is not None else value

    def completed(self, technique: Technique, model: NovaModel) -> LoRA:
        """This tuning with everything left out filled in as the published recipe has it."""
        known = Catalog.packaged().widest[family_of(technique, Catalog.packaged().models[model].layout)]
        names = [name for name in type(self).model_fields if name in known]
        published = {name: known[name].default for name in names}
        given = {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name) is not None}
        return LoRA(**{**published, **given})


Tuning = LoRA | FullRank


def _published_lora(data: dict[str, Any]) -> Tuning:
    if not {"technique", "model"} <= data.keys():
        return FullRank()
    return LoRA().completed(data["technique"], data["model"])


def _at_the_end(data: dict[str, Any]) -> int:
    steps: int = data.get("max_steps", 1)
    return steps


def _limited(name: str, value: Any, limits: Any) -> Any:
    limit: Limit | None = limits.get(name)
    if limit is None:
        return value
    for finding in Catalog.packaged().judge(name, value, Limit(None, limit.bounds), where=name, context=""):
        raise refused(finding.code, name, finding.message, value, finding.allowed, finding.fix)
    return value


class Recipe(Value, frozen=True, validate_default=True):
    """What every Nova recipe says; use `SFTRecipe`, `DPORecipe` or `Nova2SFTRecipe`.

    Fields that are left out take the defaults of the published recipe for the model and the tuning; a plan
    takes those of the instance type. Limits that hold everywhere are checked on construction; limits that
    depend on model, tuning, instance type and platform by `findings()`, which a plan calls.

    Raises:
        RecipeError: Carries every finding about every field at once.
    """

    # Defaults are validated, since one can be wrong beside what was given: min_lr below lr.

    technique: Technique
    """What this recipe trains with; fixed by its class."""
    name: str = Field(min_length=1, max_length=256)
    """What the run is called. Jobs are named after it; a plan shows the legal form that it takes."""
    model: NovaModel = Field(strict=False)
    """The Nova model to train."""
    tuning: Tuning = Field(default_factory=_published_lora)
    """`LoRA(...)` (the default) or `FullRank()`."""
    replicas: int = _published("replicas")
    """Number of instances. Which numbers Nova allows depends on the model and the instance type."""
    max_length: int = _published("max_length")
    """Longest sequence in tokens; a multiple of 1024. DPO: 1024 to 32768 (16384 on p4d)."""
    global_batch_size: int = _published("global_batch_size")
    """Samples per optimizer step over all replicas."""
    checkpoint: Checkpoint | None = None
    """Where to start from; None for the base model. Set it with `starting_from`."""
    data_s3_path: str = ""
    """S3 path of the training data. A plan sets it to where it uploads the data set."""
    validation_data_s3_path: str | None = None
    """S3 path of validation data, or None to leave the key out. A plan sets it when given a data set."""
    output_s3_path: str = ""
    """S3 path under which the run leaves its manifest. A plan sets it to the client's output."""
    mlflow_tracking_uri: str | None = None
    """MLflow tracking server; None leaves the key out."""
    mlflow_experiment_name: str | None = Field(default=None, min_length=1)
    """MLflow experiment; not empty; None leaves the key out."""
    mlflow_run_name: str | None = Field(default=None, min_length=1)
    """MLflow run; not empty; None leaves the key out."""
    extra: Annotated[dict[str, Any], BeforeValidator(copy.deepcopy)] = Field(default_factory=dict[str, Any])
    """Keys that Nova added since, by their dotted path in the YAML: `{"training_config.new_key": 1}`."""

    @property
    def family(self) -> str:
        """Which images and limits it takes: `DPO`, `SFT` or `SFT nova-2`."""
        return family_of(self.technique, Catalog.packaged().models[self.model].layout)

    @property
    def model_name_or_path(self) -> str:
        """What the run starts from, as the recipe says it: the base model's path or a checkpoint's."""
        return self.checkpoint.uri if self.checkpoint else Catalog.packaged().models[self.model].base_path

    @field_validator("model")
    @classmethod
    def _model_offered(cls, model: NovaModel) -> NovaModel:
        offered = _models_of(cls)
        if model in offered:
            return model
        raise refused(
            "model-not-offered",
            "model",
            f"{Catalog.packaged().models[model].title} cannot be trained with a {cls.__name__}.",
            str(model),
            " or ".join(str(each) for each in offered),
            "Use Nova2SFTRecipe for SFT of Nova 2 Lite; Nova 2 Lite has no DPO."
            if model is NovaModel.LITE_2
            else "Use SFTRecipe for Nova Micro, Lite and Pro.",
        )

    @field_validator("tuning")
    @classmethod
    def _tuning_completed(cls, tuning: Tuning, info: ValidationInfo) -> Tuning:
        if not isinstance(tuning, LoRA) or not {"technique", "model"} <= info.data.keys():
            return tuning
        complete = tuning.completed(info.data["technique"], info.data["model"])
        limits = _limits_of(cls, info.data["model"])
        for name in type(complete).model_fields:
            value = getattr(complete, name)
            if value is not None and name not in limits:
                raise refused(
                    f"{name.replace('_', '-')}-not-offered",
                    f"tuning.{name}",
                    f"{name} is not a parameter of this recipe.",
                    value,
                    "nothing",
                    f"Leave {name} out.",
                )
            _limited(name, value, limits)
        return complete

    @field_validator("*")
    @classmethod
    def _within_limits(cls, value: Any, info: ValidationInfo) -> Any:
        model = info.data.get("model") or next(iter(_models_of(cls)))
        return _limited(str(info.field_name), value, _limits_of(cls, model))

    @field_validator("extra")
    @classmethod
    def _extra_is_extra(cls, extra: dict[str, Any]) -> dict[str, Any]:
        layout = "nova-2" if NovaModel.LITE_2 in _models_of(cls) else "nova-1"
        known = field_paths(layout, dpo=Technique.DPO in _technique_of(cls))
        for path in extra:
            taken = [
                each for each in known if each == path or each.startswith(f"{path}.") or path.startswith(f"{each}.")
            ]
            if taken:
                raise refused(
                    "extra-known",
                    "extra",
                    f"extra names {path}, which is the parameter {known[taken[0]]}.",
                    path,
                    "paths that this recipe does not know",
                    f"Set {known[taken[0]]} instead.",
                )
            if not all(path.split(".")) or path.split(".")[0] not in ("run", "training_config"):
                raise refused(
                    "extra-path",
                    "extra",
                    f"{shown(path)} is not a path in a recipe.",
                    path,
                    "dotted paths below run or training_config",
                    "Write it as run.key or training_config.key.",
                )
        return extra

    @model_validator(mode="after")
    def _one_checkpoint_for_one_model(self) -> Self:
        for finding in _mismatches(self, self.checkpoint) if self.checkpoint else ():
            raise refused(finding.code, finding.where, finding.message, finding.value, finding.allowed, finding.fix)
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like a new one; defaults follow model and tuning.

        Raises:
            RecipeError: A change cannot be made.
        """
        kept = {name: getattr(self, name) for name in self.model_fields_set if name != "technique"}
        return type(self)(**{**kept, **changes})

    def starting_from(self, checkpoint: Checkpoint, *, platform: Platform | None = None) -> Self:
        """A copy that trains on from a checkpoint instead of the base model.

        Args:
            checkpoint: What an earlier run left.
            platform: Where this recipe will run, when known already; a plan checks it in any case.

        Raises:
            RecipeError: The checkpoint is of another model, another kind of tuning or another platform.
        """
        found = [*_mismatches(self, checkpoint), *platform_mismatch(checkpoint, platform)]
        if found:
            raise RecipeError(f"{self.name} cannot start from {checkpoint.uri}:", found)
        return self.replace(checkpoint=checkpoint)

    def for_instance(self, instance_type: str) -> Self:
        """A copy whose left-out fields take the defaults published for an instance type."""
        offers = Catalog.packaged().find(self.technique, self.model, self.tuning.kind, instance_type)
        if not offers:
            return self
        fields = type(self).model_fields
        unset = {
            name: limit.default
            for name, limit in offers[0].limits.items()
            if name in fields and name not in self.model_fields_set and limit.default not in (None, getattr(self, name))
        }
        return self.replace(**unset) if unset else self

    def findings(self, instance_type: str, platform: Platform, catalog: Catalog | None = None) -> list[Finding]:
        """Everything that is wrong or disputed about this recipe on an instance type and platform.

        Args:
            instance_type: Such as `ml.p5.48xlarge`.
            platform: Where it is to run.
            catalog: What Nova offers; the packaged one when left out.

        Returns:
            Errors and warnings with code, source and allowed values; empty when nothing is to be said.
        """
        from nova_dpo_sdk.recipes._findings import recipe_findings

        return recipe_findings(self, instance_type, platform, catalog or Catalog.packaged())

    def to_dict(self) -> dict[str, Any]:
        """The nested layout of the published recipes, as plain values."""
        from nova_dpo_sdk.recipes._layout import nested

        return nested(self)

    def to_yaml(self) -> str:
        """The recipe as Nova reads it: byte-stable, and every float a float to every YAML reader."""
        from nova_dpo_sdk.recipes._yaml import dump

        return dump(self.to_dict())

    @classmethod
    def from_yaml(cls, text: str, *, extra: Iterable[str] = ()) -> Self:
        """Read a published Nova recipe, comments and `1e-5` spellings included.

        Args:
            text: The YAML text of an SFT or DPO recipe. Called on `Recipe`, the text decides which it is.
            extra: Dotted paths of unknown keys to carry along instead of refusing them.

        Raises:
            RecipeError: Names line, path, value, what is allowed and the nearest known key, all at once.
        """
        from nova_dpo_sdk.recipes._reader import read_recipe

        return read_recipe(cls, text, tuple(extra))

    @classmethod
    def from_file(cls, path: str | Path, *, extra: Iterable[str] = ()) -> Self:
        """Read a recipe from a file; see `from_yaml`.

        Raises:
            RecipeError: The file cannot be read, or is no recipe.
        """
        from nova_dpo_sdk.recipes._reader import read_file

        return cls.from_yaml(read_file(path), extra=extra)


class _Nova1Recipe(Recipe, frozen=True):
    """The parameters that SFT and DPO of Nova Micro, Lite and Pro share."""

    max_epochs: int = _published("max_epochs")
    """Passes over the training data, 1 to 5 (up to 100 by one source)."""
    hidden_dropout: float = _published("hidden_dropout")
    """Probability of dropping hidden states, 0 to 1; up to 0.2 against overfitting on small data."""
    attention_dropout: float = _published("attention_dropout")
    """Probability of dropping attention weights, 0 to 1."""
    ffn_dropout: float = _published("ffn_dropout")
    """Probability of dropping feed-forward outputs, 0 to 1."""
    lr: float = _published("lr")
    """Learning rate, above 0 and up to 1; 1e-6 to 1e-4 is advised."""
    optimizer: str = _published("optimizer")
    """`optim.name`; Nova has one: distributed_fused_adam."""
    adam_w_mode: bool = _published("adam_w_mode")
    """Whether weight decay is decoupled (AdamW)."""
    eps: float = _published("eps")
    """Adam's epsilon; published 1e-8 for DPO, 1e-6 for SFT."""
    weight_decay: float = _published("weight_decay")
    """L2 regularization, 0 to 1; 0.01 to 0.1 is advised for DPO."""
    betas: Annotated[tuple[float, float], BeforeValidator(_as_tuple)] = _published("betas")
    """Adam's two decay rates, each 0 to 1. Not the beta of DPO."""
    warmup_steps: int = _published("warmup_steps")
    """Optimizer steps over which the learning rate rises, 1 to 20 (0 to 100 by one source)."""
    constant_steps: int = _published("constant_steps")
    """Optimizer steps at a constant learning rate, 0 or more."""
    min_lr: float = _published("min_lr")
    """Learning rate at the end of the decay, 0 to 1 and below `lr`."""

    @field_validator("min_lr")
    @classmethod
    def _below_lr(cls, min_lr: float, info: ValidationInfo) -> float:
        return _below(min_lr, info)


class SFTRecipe(_Nova1Recipe, frozen=True):
    """Supervised fine-tuning of Nova Micro, Lite or Pro on chats."""

    technique: Literal[Technique.SFT] = Technique.SFT
    """Always SFT."""


class DPORecipe(_Nova1Recipe, frozen=True):
    """Direct preference optimization of Nova Micro, Lite or Pro on preference pairs."""

    technique: Literal[Technique.DPO] = Technique.DPO
    """Always DPO."""
    beta: float = _published("beta")
    """How strongly the model holds to the reference, 0.001 to 0.5 (to 0.1 by some sources); start with 0.1.

    Small values (0.01 to 0.05) learn the preferences faster and drift further.
    """


class Nova2SFTRecipe(Recipe, frozen=True):
    """Supervised fine-tuning of Nova 2 Lite, whose recipes have a layout of their own."""

    technique: Literal[Technique.SFT] = Technique.SFT
    """Always SFT."""
    model: NovaModel = Field(default=NovaModel.LITE_2, strict=False)
    """Always Nova 2 Lite."""
    validation_data_s3_path_list: dict[str, str] | None = None
    """Named validation sets by S3 path; None leaves the key out."""
    max_steps: int = _published("max_steps")
    """Optimizer steps in all, at least 4."""
    save_steps: int = Field(default_factory=_at_the_end)
    """Steps between saves, at most `max_steps`; equal to it when left out."""
    save_top_k: int = _published("save_top_k")
    """How many checkpoints are kept, at least 1 (HyperPod only)."""
    reasoning_enabled: bool = _published("reasoning_enabled")
    """Whether the data holds reasoning content; must match the data."""
    val_check_interval: int = _published("val_check_interval")
    """Steps between validations."""
    limit_val_batches: int = _published("limit_val_batches")
    """Batches per validation."""
    lr: float = _published("lr")
    """Learning rate, above 0 and up to 1."""
    weight_decay: float = _published("weight_decay")
    """L2 regularization, 0 to 1."""
    adam_beta1: float = _published("adam_beta1")
    """Adam's first decay rate, 0 to 1."""
    adam_beta2: float = _published("adam_beta2")
    """Adam's second decay rate, 0 to 1."""
    warmup_steps: int = _published("warmup_steps")
    """Optimizer steps over which the learning rate rises; about 15 % of `max_steps`."""
    min_lr: float = _published("min_lr")
    """Learning rate at the end of the decay, 0 to 1 and below `lr`."""
    fine_tuned_model: float = _published("fine_tuned_model")
    """Weight of the tuned model when merged with the base model, 0 to 1; 1 disables merging."""

    @field_validator("min_lr")
    @classmethod
    def _below_lr(cls, min_lr: float, info: ValidationInfo) -> float:
        return _below(min_lr, info)

    @field_validator("save_steps")
    @classmethod
    def _saved_in_time(cls, save_steps: int, info: ValidationInfo) -> int:
        most = info.data.get("max_steps")
        if most is not None and save_steps > most:
            raise refused(
                "save-steps-not-allowed",
                "save_steps",
                f"save_steps is {save_steps}, above max_steps ({most}).",
                save_steps,
                f"1 to {most}",
                "Leave save_steps out to save at the end.",
            )
        return save_steps


def _below(min_lr: float, info: ValidationInfo) -> float:
    lr = info.data.get("lr")
    if lr is not None and min_lr >= lr:
        raise refused(
            "min-lr-not-allowed",
            "min_lr",
            f"min_lr is {min_lr!r}, not below lr ({lr!r}).",
            min_lr,
            f"0 to {lr!r}, exclusive",
            "Lower min_lr or raise lr.",
        )
    return min_lr


def _technique_of(cls: type[Recipe]) -> tuple[Technique, ...]:
    default = cls.model_fields["technique"].default
    return (default,) if isinstance(default, Technique) else tuple(Technique)


def _models_of(cls: type[Recipe]) -> list[NovaModel]:
    layout = "nova-2" if issubclass(cls, Nova2SFTRecipe) else "nova-1"
    technique = _technique_of(cls)[0]
    return [
        each.name
        for each in Catalog.packaged().models.values()
        if each.layout == layout and technique in each.techniques
    ]


def _limits_of(cls: type[Recipe], model: NovaModel) -> Any:
    catalog = Catalog.packaged()
    return catalog.widest[family_of(_technique_of(cls)[0], catalog.models[model].layout)]


def _mismatches(recipe: Recipe, checkpoint: Checkpoint) -> Iterator[Finding]:
    if checkpoint.model is not recipe.model:
        yield Finding(
            "checkpoint-model",
            Severity.ERROR,
            "checkpoint.model",
            f"{checkpoint.uri} is a checkpoint of {checkpoint.model}; this recipe trains {recipe.model}.",
            str(checkpoint.model),
            str(recipe.model),
            f"Start from a checkpoint of {recipe.model}, or set model to {checkpoint.model}.",
        )
    if checkpoint.tuning is not recipe.tuning.kind:
        want = "LoRA()" if checkpoint.tuning is TuningKind.LORA else "FullRank()"
        yield Finding(
            "checkpoint-tuning",
            Severity.ERROR,
            "checkpoint.tuning",
            f"{checkpoint.uri} was trained with {checkpoint.tuning}; this recipe trains {recipe.tuning.kind}.",
            str(checkpoint.tuning),
            str(recipe.tuning.kind),
            f"Start from a {recipe.tuning.kind} checkpoint, or set tuning={want}.",
        )


def platform_mismatch(checkpoint: Checkpoint, platform: Platform | None) -> list[Finding]:
    """The finding for a checkpoint that another platform made; empty when it fits or nothing is known."""
    if platform is None or checkpoint.platform in (None, platform):
        return []
    message = f"{checkpoint.uri} was trained on {checkpoint.platform} and cannot be continued on {platform}."
    fix = f"Run this stage on {checkpoint.platform}, or start from a checkpoint made on {platform}."
    return [
        Finding(
            "checkpoint-platform",
            Severity.ERROR,
            "checkpoint.platform",
            message,
            str(checkpoint.platform),
            str(platform),
            fix,
        )
    ]


__all__ = [
    "DPORecipe",
    "FullRank",
    "LoRA",
    "Nova2SFTRecipe",
    "Recipe",
    "SFTRecipe",
    "Tuning",
    "platform_mismatch",
]
