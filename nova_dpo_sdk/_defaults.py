"""What is taken where a caller passes nothing, for rooms that may not know the room it comes from.

The front door knows all rooms, and is always there first: it says here what to take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_makers: dict[str, Callable[[], Any]] = {}


def offer(name: str, make: Callable[[], Any]) -> None:
    """Say how something is made that may be left out."""
    _makers[name] = make


def default(name: str) -> Any:
    """What is taken for something that was left out."""
    return _makers[name]()
