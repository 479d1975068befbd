"""What differs between a stage as it was begun and as the script now describes it, one readable line for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk.backends import Plan
    from nova_dpo_sdk.chain._records import StageRecord

_PATHS = {"data": "run.data_s3_path", "validation": "run.validation_data_s3_path"}
"""Keys of a recipe that follow from the data, by what reads them; without such data the recipe names the path."""
_SHOWN = 80


def changes(record: StageRecord, plan: Plan) -> list[str]:
    """Every difference between what a record holds and a plan: recipe keys, place and data, old -> new."""
    now = plan.to_dict()
    then = record.plan
    return [*_of_recipe(then, now), *_of_place(then, now), *_of_data(then, now)] or [
        f"nothing that the record shows: it was written by nova-dpo-sdk {record.sdk}, this is {now['sdk']}"
    ]


def _of_recipe(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    old, new = _flat(then.get("recipe")), _flat(now["recipe"])
    # The job's name ends in its digest, so that it always differs; the name that was given may not.
    for tree in (old, new):
        tree["run.name"] = str(tree.get("run.name", "")).rpartition("-")[0]
    follow = [_PATHS[role] for role in _data(then).keys() | _data(now).keys()]
    for key in dict.fromkeys([*old, *new]):
        if key not in follow and old.get(key) != new.get(key):
            yield f"recipe {key}: {_shown(old, key)} -> {_shown(new, key)}"


def _of_place(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    old, new = _flat(then.get("target")), _flat(now["target"])
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield f"place {key}: {_shown(old, key)} -> {_shown(new, key)}"


def _of_data(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    old, new = _data(then), _data(now)
    for role in dict.fromkeys([*old, *new]):
        if role not in old or role not in new or old[role]["sha256"] != new[role]["sha256"]:
            yield f"{role}: {_told(old.get(role))} -> {_told(new.get(role))}"


def _data(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    listed = cast("list[dict[str, Any]]", plan.get("uploads") or [])
    return {str(each["role"]): each for each in listed if each["role"] != "image"}


def _told(upload: dict[str, Any] | None) -> str:
    if upload is None:
        return "(none)"
    return f"{upload['file']} ({upload['records']:,} records, sha256 {upload['sha256'][:12]}...)"


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree} if path else {}
    flat: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", tree).items():
        flat |= _flat(value, f"{path}.{key}" if path else str(key))
    return flat


def _shown(tree: dict[str, Any], key: str) -> str:
    if key not in tree:
        return "(none)"
    text = str(tree[key])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
