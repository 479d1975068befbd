"""What differs between a job as it was sent and as a plan would send it, one readable line for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN = 80
_HIDDEN = "Environment."
"""Values of the environment are left out: messages and logs go to more places than a plan, which shows them."""


def differences(then: object, now: object) -> tuple[str, ...]:
    """Every value of two trees of plain values that is not the same, old -> new."""
    old, new = dict(_leaves(then)), dict(_leaves(now))
    keys = [key for key in dict.fromkeys([*old, *new]) if key not in old or key not in new or old[key] != new[key]]
    return tuple(
        f"{key} differs" if key.startswith(_HIDDEN) else f"{key}: {_shown(old, key)} -> {_shown(new, key)}"
        for key in keys
    )


def _leaves(tree: object, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in cast("dict[str, Any]", tree).items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, list):
        for index, value in enumerate(cast("list[object]", tree)):
            yield from _leaves(value, f"{path}[{index}]")
    else:
        yield path, tree


def _shown(tree: dict[str, Any], key: str) -> str:
    text = str(tree.get(key, "(none)"))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
