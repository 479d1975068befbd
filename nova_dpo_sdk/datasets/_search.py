"""Many words looked for at once in a block of bytes."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def counter(words: Sequence[bytes]) -> Callable[[bytes], list[int]]:
    """A function that says how often each of the words stands in a text; as `finder`."""
    library = _library()
    if library is None:
        return lambda text: [text.count(word) for word in words]
    find = library.BytesAhoCorasick(list(words), matchkind=library.MatchKind.LeftmostFirst).find_matches_as_indexes

    def count(text: bytes) -> list[int]:
        found = [word for word, _, _ in find(text)]
        return [found.count(word) for word in range(len(words))]

    return count


def finder(words: Sequence[bytes]) -> Callable[[bytes], list[int]]:
    """A function that says where any of the words stands in a text; of words that overlap, only the first is told.

    One pass with vector instructions takes a tenth of the time of a regular expression that looks for one letter.
    Where `ahocorasick-rs` has no build for a platform, an expression does the same work more slowly.

    Args:
        words: None of them is the beginning of another.
    """
    library = _library()
    if library is None:
        return _by_expression(words)
    # Only this kind of match is searched for with vector instructions.
    find = library.BytesAhoCorasick(list(words), matchkind=library.MatchKind.LeftmostFirst).find_matches_as_indexes
    return lambda text: [start for _, start, _ in find(text)]


def _library() -> Any:
    try:
        return import_module("ahocorasick_rs")
    except ImportError:
        return None


def _by_expression(words: Sequence[bytes]) -> Callable[[bytes], list[int]]:
    find = re.compile(b"|".join(map(re.escape, words))).finditer
    return lambda text: [match.start() for match in find(text)]
