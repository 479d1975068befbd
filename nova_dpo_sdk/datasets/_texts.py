r"""Texts as a file has them: JSON strings that were not decoded.

They are compared, measured and searched as they are; where a file writes them in a longer form than needed (`\u`
escapes), they are shortened first.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate, compress
from operator import eq, itemgetter
from typing import TYPE_CHECKING

import msgspec

from nova_dpo_sdk.datasets._facts import minimal
from nova_dpo_sdk.datasets._search import finder

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUOTE, _WIDE = 0x22, 0x80

# A text whose first byte after the quote is none of these has something to see in it. `"`: empty. The rest: white
# space, an escape that may stand for it, or the first byte of a wide space.
_UNSURE = frozenset(b' "\\\xc2\xe1\xe2\xe3')
_MARKED = bytes(byte in _UNSURE or byte < 33 for byte in range(256))
_WIDE_SPACES = (b"\xc2\x85", b"\xc2\xa0", b"\xe1\x9a\x80", b"\xe2\x80", b"\xe2\x81\x9f", b"\xe3\x80\x80")

_SECOND_BYTE = itemgetter(1)

_TOGETHER = 16
"""Texts that are decoded together; more would not stay in a processor's cache."""

# Each pattern begins with one plain character: `re` looks for that quickly.
_WORDS = (
    (
        ord(":"),
        re.compile(rb":(?<=[mrtMRT]:)(?i:(?<=user:)|(?<=bot:)|(?<=system:)|(?<=assistant:)|(?<=thought:))"),
    ),
    (ord("<"), re.compile(rb"<(?i:image|video|unk)>")),
    (ord("["), re.compile(rb"\[(?i:eos)\]")),
)


def silent(texts: list[bytes]) -> list[int]:
    """Which texts are no JSON strings, or have nothing but white space in them."""
    try:
        if [text[0] for text in texts].count(_QUOTE) == len(texts):
            marks = bytes([text[1] for text in texts]).translate(_MARKED)
            return [at for at in _marked(marks) if not _says_something(texts[at])]
    except IndexError:
        pass
    return [at for at, text in enumerate(texts) if not _says_something(text)]


def _marked(marks: bytes) -> Iterator[int]:
    at = marks.find(1)
    while at >= 0:
        yield at
        at = marks.find(1, at + 1)


def _says_something(text: bytes) -> bool:
    if len(text) < 2 or text[0] != _QUOTE or text[1] == _QUOTE:
        return False
    if text[1] not in _UNSURE or (text[1] >= _WIDE and not text.startswith(_WIDE_SPACES, 1)):
        return True
    try:
        return bool(msgspec.json.decode(text, type=str).strip())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def not_utf8(texts: list[bytes]) -> list[int]:
    """Which texts are not UTF-8."""
    odd = [text for text in texts if not text.isascii()]
    try:
        for start in range(0, len(odd), _TOGETHER):
            # Each ends with a quote, so that none is completed by the next.
            b"".join(odd[start : start + _TOGETHER]).decode()
    except UnicodeDecodeError:
        return [at for at, text in enumerate(texts) if not _is_utf8(text)]
    return []


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


has_long_forms = finder([b"\\u", b"\\/"])
"""Where characters are written in a longer form than needed."""


def shortest(text: bytes) -> bytes | None:
    """The shortest form of a text; None when half a surrogate pair is in it."""
    if not has_long_forms(text):
        return text
    try:
        return minimal(msgspec.json.decode(text, type=str))
    except (msgspec.DecodeError, UnicodeError):
        return None


def alike(ones: list[bytes], others: list[bytes]) -> list[int]:
    """Where one of two texts in their shortest form begins with the other, or both are the same."""
    same = map(eq, map(_SECOND_BYTE, ones), map(_SECOND_BYTE, others))
    return [
        at
        for at in compress(range(len(ones)), same)
        if ones[at].startswith(others[at][:-1]) or others[at].startswith(ones[at][:-1])
    ]


def word_places(texts: list[bytes]) -> list[int]:
    """Which texts, in their shortest form, have a reserved word in them, in whatever casing."""
    blob = b"\n".join(texts)
    found = [match.start() for mark, pattern in _WORDS if mark in blob for match in pattern.finditer(blob)]
    if not found:
        return []
    starts = list(accumulate([len(text) + 1 for text in texts], initial=0))
    return sorted({bisect_right(starts, place) - 1 for place in found})
