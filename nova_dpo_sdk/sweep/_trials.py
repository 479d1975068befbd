"""The trials of a sweep: one recipe each, with a name that says what it tries."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import ConfigurationError, Finding, RecipeError
from nova_dpo_sdk.recipes import FullRank, LoRA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nova_dpo_sdk.recipes import Recipe

MOST_TRIALS = 1000
"""Most trials of one sweep: more is a slip of the pen."""
STAGE_NAME = 63
"""Longest name of a chain's stage, in characters."""
_FIXED = frozenset(
    {"name", "model", "checkpoint", "data_s3_path", "validation_data_s3_path", "output_s3_path", "extra"}
)
"""Fields that tell what is trained from what; trials differ in how."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        stage: Its name as a stage of a chain, such as `support-dpo-beta-0p05`.
        values: What it tries, by field.
        recipe: The recipe with these values.
    """

    stage: str
    values: Mapping[str, Any]
    recipe: Recipe

    @property
    def label(self) -> str:
        """What it tries, in a line."""
        return " ".join(f"{name}={shown(value)}" for name, value in self.values.items())


def grid(values: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Every combination of values, the last field changing fastest."""
    lists = {name: _several(name, given) for name, given in values.items()}
    return [dict(zip(lists, each, strict=True)) for each in itertools.product(*lists.values())]


def _several(name: str, given: Iterable[Any]) -> list[Any]:
    values = [] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)
    if not values:
        raise ConfigurationError(f"{name} is {given!r}; a sweep takes a list of values, such as {name}=[...].")
    return values


def make_trials(recipe: Recipe, given: Sequence[Mapping[str, Any]]) -> tuple[Trial, ...]:
    listed = isinstance(given, Sequence) and all(isinstance(each, Mapping) for each in given)  # pyright: ignore[reportUnnecessaryIsInstance] - for callers without types
    if not listed:
        raise ConfigurationError(
            f"trials is {given!r}; a sweep takes a list with the values of each trial, such as "
            'trials=[{"beta": 0.05}, {"beta": 0.1, "lr": 1e-6}].'
        )
    if not 0 < len(given) <= MOST_TRIALS:
        raise ConfigurationError(
            f"A sweep has 1 to {MOST_TRIALS} trials, not {len(given)}. Give lists of values, such as beta=[0.05, 0.1]."
        )
    made: list[Trial] = []
    found: list[Finding] = []
    for values in given:
        try:
            changed = _with(recipe, values)
        except RecipeError as error:  # noqa: PERF203 - every trial is looked at, once
            label = Trial("", values, recipe).label
            found += [replace(each, where=f"{label}: {each.where}") for each in error.findings]
        else:
            made.append(Trial(_stage(recipe.name, values), dict(values), changed))
    if found:
        raise RecipeError(f"The sweep of {recipe.name} has values that cannot be tried:", found)
    _all_different(made)
    return tuple(made)


def _all_different(trials: Sequence[Trial]) -> None:
    seen: dict[str, Trial] = {}
    for trial in trials:
        other = seen.setdefault(trial.stage, trial)
        if other is not trial:
            raise ConfigurationError(f"Two trials are the same: {other.label}, and {trial.label}. Leave one out.")


def _with(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with these values; those of its tuning, or of the trial's, such as `alpha`, are found there."""
    before = values.get("tuning", recipe.tuning)
    fields = set(type(recipe).model_fields) - _FIXED
    tuned = set(LoRA.model_fields) if isinstance(before, LoRA) else set[str]()
    for name in values:
        if name not in fields | tuned:
            raise _unknown(recipe, before, name, sorted(fields | tuned))
    changes = {name: value for name, value in values.items() if name in fields}
    tuning = {name: value for name, value in values.items() if name not in fields}
    if tuning:
        kept = {name: getattr(before, name) for name in before.model_fields_set}
        changes["tuning"] = LoRA(**{**kept, **tuning})
    return recipe.replace(**changes)


def _unknown(recipe: Recipe, tuning: object, name: str, known: list[str]) -> ConfigurationError:
    if name in _FIXED:
        return ConfigurationError(f"{name} cannot differ within a sweep. It tells what is trained: make two sweeps.")
    if name in LoRA.model_fields:
        return ConfigurationError(
            f"{name} is no field of a {type(recipe).__name__} with tuning={tuning!r}: it is LoRA's."
        )
    near = difflib.get_close_matches(str(name), known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return ConfigurationError(f"{name} is no field of a {type(recipe).__name__}.{hint} It has {', '.join(known)}.")


def _stage(name: str, values: Mapping[str, Any]) -> str:
    """A stage's name that says what the trial tries, and is the same whenever the sweep is written again."""
    told = "-".join([name, *(f"{field}-{shown(value)}" for field, value in values.items())])
    slug = re.sub(r"[^a-z0-9]+", "-", told.lower().replace(".", "p").replace("+", "")).strip("-")
    if len(slug) <= STAGE_NAME:
        return slug
    return f"{slug[: STAGE_NAME - 9].rstrip('-')}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def shown(value: Any) -> str:
    """A value as a person writes it; of a tuning, what was given."""
    if isinstance(value, (LoRA, FullRank)):
        given = (
            f"{name}={shown(getattr(value, name))}"
            for name in type(value).model_fields
            if getattr(value, name) is not None
        )
        return f"{type(value).__name__}({', '.join(given)})"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
