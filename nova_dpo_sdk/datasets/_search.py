"""Many words looked for at once in a block of bytes."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NOBODYS = [bytes([byte] * 3) for byte in range(4)]
"""With these there are enough first letters for vector instructions to be used."""


def finder(words: Sequence[bytes], *, padded: bool = False) -> Callable[[bytes], list[int]]:
    """A function that says where any of the words stands in a text; of words that overlap, only the first is told.

    One pass with vector instructions takes a tenth of the time of a regular expression that looks for one letter.
    Where `ahocorasick-rs` has no build for a platform, an expression does the same work more slowly.

    Args:
        words: None of them is the beginning of another.
        padded: Whether to look for words that nobody writes as well. It makes the search for a few that begin alike
            twice as fast, and slows down that for others.
    """
    library = _library()
    if library is None:
        return _by_expression(words)
    known, more = len(words), _NOBODYS if padded else []
    # Only this kind of match is searched for with vector instructions.
    find = library.BytesAhoCorasick([*words, *more], matchkind=library.MatchKind.LeftmostFirst).find_matches_as_indexes
    return lambda text: [start for word, start, _ in find(text) if word < known]


def spotter(words: Sequence[bytes]) -> Callable[[bytes], list[tuple[int, int, int]]]:
    """A function that says which of a few words stand where in a text: the number of each, its start and its end.

    Args:
        words: None of them is the beginning of another, and none has one of the first control characters thrice.
    """
    library = _library()
    if library is None:
        return _spots_by_expression(words)
    searcher = library.BytesAhoCorasick([*words, *_NOBODYS], matchkind=library.MatchKind.LeftmostFirst)
    return cast("Callable[[bytes], list[tuple[int, int, int]]]", searcher.find_matches_as_indexes)


def _library() -> Any:
    try:
        return import_module("ahocorasick_rs")
    except ImportError:
        return None


def _by_expression(words: Sequence[bytes]) -> Callable[[bytes], list[int]]:
    find = re.compile(b"|".join(map(re.escape, words))).finditer
    return lambda text: [match.start() for match in find(text)]


def _spots_by_expression(words: Sequence[bytes]) -> Callable[[bytes], list[tuple[int, int, int]]]:
    find = re.compile(b"|".join(b"(%b)" % re.escape(word) for word in words)).finditer
    return lambda text: [((match.lastindex or 0) - 1, *match.span()) for match in find(text)]
