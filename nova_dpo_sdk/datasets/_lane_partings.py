"""Two texts that begin alike become a prompt and two answers: where texts part, and where they may be cut."""

from __future__ import annotations

import re
from itertools import compress, count, repeat
from operator import attrgetter, contains, eq, getitem, itemgetter
from typing import TYPE_CHECKING

from rapidfuzz.distance import Prefix

from nova_dpo_sdk.datasets._lane_said import USER, Said, copies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nova_dpo_sdk.datasets import _lane_shapes as shapes

BLANKS = rb"(?:00[0-9aA]|1680|20(?:0|2[89fF]|5[fF])|3000)"  # beginnings of the code points of white space, and more

_OTHER_SPACE = re.compile(
    rb"\\(?:[nrtf]|u%b)|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2(?:\x80[\x80-\x8a\xa8\xa9\xaf]|\x81\x9f)|\xe3\x80\x80" % BLANKS
).search
"""Finds what is, or may be, white space other than a blank: line ends and rare spaces are for the exact way."""

_QUOTE, _BACKSLASH = b'"\\'


_chosen = attrgetter("chosen")
_rejected = attrgetter("rejected")


def two_texts(records: list[shapes.TwoTexts]) -> Said:
    """Two texts that begin alike; what they share up to the last space is the prompt."""
    chosen, rejected = copies(list(map(_chosen, records))), copies(list(map(_rejected, records)))
    ends = partings(chosen, rejected)
    cuts = list(map(bytes.rfind, chosen, repeat(b" "), repeat(0), ends))
    words = [one[cut : end + 1] for one, cut, end in zip(chosen, cuts, ends, strict=True)]
    escaped = list(compress(count(), map(contains, words, repeat(_BACKSLASH))))
    for at in escaped if b"".join(words).isascii() else range(len(words)):
        if _OTHER_SPACE(words[at]):
            cuts[at] = _at_line_end(words[at], cuts[at])
    said = Said.in_columns(
        USER,
        [
            [one[1:cut] for one, cut in zip(chosen, cuts, strict=True)],
            [one[cut:-1] for one, cut in zip(chosen, cuts, strict=True)],
            [other[cut:-1] for other, cut in zip(rejected, cuts, strict=True)],
        ],
    )
    odd = set(_unsure(escaped, words, chosen, rejected, ends))
    if min(cuts, default=0) < 0 or bytes(map(_FIRST, chosen)).strip(b'"'):
        odd.update(at for at, (cut, one) in enumerate(zip(cuts, chosen, strict=True)) if cut < 0 or one[0] != _QUOTE)
    return said.only([at not in odd for at in range(len(records))]) if odd else said


def _at_line_end(word: bytes, cut: int) -> int:
    """Where the last line end of a word stands, which begins at the cut; -1 if it is not sure that no space follows."""
    at = word.rfind(b"\\n", 0, -1)  # at the last byte the texts differ already
    is_sure = at > 0 and word[at - 1] != _BACKSLASH and not _OTHER_SPACE(word, at + 2)
    return cut + at if is_sure else -1


def _unsure(
    escaped: list[int], words: list[bytes], chosen: list[bytes], rejected: list[bytes], ends: list[int]
) -> Iterator[int]:
    """Which texts are the same, or may be up to a later place than where their bytes part.

    Args:
        escaped: Which of the words have a backslash in them.
        words: Where the texts part: the last word that they share, and one byte more of the first text.
        chosen: The first texts.
        rejected: The other ones.
        ends: Where each two part.
    """
    others = bytes(map(getitem, rejected, ends))
    if _QUOTE in others:
        yield from (at for at, byte in enumerate(others) if byte == _QUOTE and chosen[at] == rejected[at])
    if _BACKSLASH in others:
        escaped = [*escaped, *(at for at, byte in enumerate(others) if byte == _BACKSLASH)]
    # May a character be written in two ways at the last byte of the word, or at the other byte?
    alike = [
        at
        for at in escaped
        if (other := others[at]) == _BACKSLASH
        or _BACKSLASH in (end := words[at][-2:])
        or end[-1] | _LOWER == other | _LOWER
    ]
    yield from (at for at in alike if may_go_on(chosen[at], rejected[at], ends[at]))


_LOWER = 0x20
_FIRST: Callable[[bytes], int] = itemgetter(0)


def partings(ones: Sequence[bytes], others: Sequence[bytes]) -> list[int]:
    """Where each two texts begin to differ; at the latest at the last byte of the other one."""
    ends = list(map(Prefix.similarity, ones, others))
    if any(map(eq, ends, map(len, others))):
        return [min(end, len(other) - 1) for end, other in zip(ends, others, strict=True)]
    return ends


def may_go_on(one: bytes, other: bytes, at: int) -> bool:
    """Whether two texts may say the same at the byte where they part, because a character has several forms."""
    escape = one.rfind(b"\\u", max(0, at - 5), at)
    if escape >= 0:
        return one[escape : escape + 6].lower() == other[escape : escape + 6].lower()
    for escaped, bare in ((one, other), (other, one)):
        if escaped[at : at + 2] == b"\\u" and b"\\" not in bare[at - 1 : at + 1] and bare[at : at + 1].isascii():
            return escaped[at + 2 : at + 6].lower() == b"00" + bare[at : at + 1].hex().encode()
    near = (one[at - 1 : at + 2], other[at - 1 : at + 2])
    return any(form in each for each in near for form in (b"\\u", b"\\/"))
