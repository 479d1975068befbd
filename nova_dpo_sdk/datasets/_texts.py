r"""Texts as a file has them: JSON strings that were not decoded.

They are compared, measured and searched as they are; where a file writes them in a longer form than needed (`\u`
escapes), they are shortened first.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache
from itertools import accumulate, compress, product
from operator import eq, itemgetter
from typing import TYPE_CHECKING

import msgspec
from pydantic_core import SchemaValidator, ValidationError

from nova_dpo_sdk.datasets._facts import minimal
from nova_dpo_sdk.datasets._rules import RESERVED_WORDS
from nova_dpo_sdk.datasets._search import finder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_QUOTE, _WIDE = 0x22, 0x80

# A text whose first byte after the quote is none of these has something to see in it. `"`: empty. The rest: white
# space, an escape that may stand for it, or the first byte of a wide space.
_UNSURE = frozenset(b' "\\\xc2\xe1\xe2\xe3')
_MARKED = bytes(byte in _UNSURE or byte < 33 for byte in range(256))
_WIDE_SPACES = (b"\xc2\x85", b"\xc2\xa0", b"\xe1\x9a\x80", b"\xe2\x80", b"\xe2\x81\x9f", b"\xe3\x80\x80")


class Texts:
    """Some texts, one after the other in one run of bytes: what is asked of all is asked of the run.

    No word and no character goes over from one text to the next: each begins and ends with a quote.

    Args:
        texts: JSON as a file has it; none is empty.
    """

    __slots__ = ("_marks", "run", "starts")

    def __init__(self, texts: Sequence[bytes | msgspec.Raw]) -> None:
        self.run = b"".join(texts)
        self.starts = list(accumulate(map(len, texts), initial=0))
        self._marks: bytes | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, at: int) -> bytes:
        return self.run[self.starts[at] : self.starts[at + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self)))

    @property
    def marks(self) -> bytes:
        """What follows the quote of each text; empty when one of them is no JSON string."""
        if self._marks is None:
            self._marks = self._found_marks()
        return self._marks

    def _found_marks(self) -> bytes:
        pick = itemgetter(0, *self.starts[:-1])  # one more, as a getter of a single item returns no tuple
        try:
            quotes, marks = bytes(pick(self.run)), bytes(pick(self.run[1:]))
        except IndexError:
            return b""
        return marks[1:] if quotes.count(_QUOTE) == len(quotes) else b""


def silent(texts: Texts) -> list[int]:
    """Which texts are no JSON strings, or have nothing but white space in them."""
    if texts.marks:
        return [at for at in _marked(texts.marks.translate(_MARKED)) if not _says_something(texts[at])]
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


def not_utf8(texts: Texts) -> list[int]:
    """Which texts are not UTF-8."""
    return [] if is_utf8(texts.run) else [at for at, text in enumerate(texts) if not is_utf8(text)]


def is_utf8(text: bytes) -> bool:
    """Whether bytes are UTF-8."""
    if text.isascii():
        return True
    try:
        _validator()(text)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] == _TOO_LONG
    return not text


_TOO_LONG = "string_too_long"


@cache
def _validator() -> Callable[[bytes], str]:
    """Refuses every text: no UTF-8 for that reason, all others as too long, before it would make a string of them.

    So nothing is decoded, which takes half of the time that decoding takes.
    """
    return SchemaValidator({"type": "str", "max_length": 0}).validate_python


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


def alike(texts: Texts, pairs: int) -> list[int]:
    """Which pairs have two answers of which one begins with the other, or that are the same.

    Args:
        texts: In their shortest form; the last ones are the first answers of all pairs, then the second ones.
        pairs: How many pairs there are.
    """
    ones, others = len(texts) - 2 * pairs, len(texts) - pairs
    same = map(eq, texts.marks[ones:others], texts.marks[others:])
    return [at for at in compress(range(pairs), same) if _goes_on(texts[ones + at], texts[others + at])]


def _goes_on(one: bytes, other: bytes) -> bool:
    return one.startswith(other[:-1]) or other.startswith(one[:-1])


_KNOWN_BY = 3


def _pieces(word: str) -> list[bytes]:
    """What a word is looked for by, in every casing: few enough letters for the fastest kind of search."""
    piece = word[-_KNOWN_BY:] if word.endswith(":") else word[:_KNOWN_BY]
    return ["".join(letters).encode() for letters in product(*({char.lower(), char.upper()} for char in piece))]


_find = finder(sorted({piece for word in RESERVED_WORDS for piece in _pieces(word)}))
_word = re.compile("|".join(map(re.escape, RESERVED_WORDS)).encode(), re.IGNORECASE).search
_LONGEST = max(map(len, RESERVED_WORDS))


def word_places(texts: Texts) -> list[int]:
    """Which texts, in their shortest form, have a reserved word in them, in whatever casing."""
    run, starts = texts.run, texts.starts
    found = [at for at in _find(run) if _word(run, max(0, at + _KNOWN_BY - _LONGEST), at + _LONGEST)]
    return sorted({bisect_right(starts, at) - 1 for at in found})
