r"""Texts as a file has them: JSON strings that were not decoded.

They are compared, measured and searched as they are; where a file writes them in a longer form than needed (`\u`
escapes), they are shortened first.
"""

from __future__ import annotations

import re
from functools import cache
from io import BytesIO
from itertools import accumulate, compress, count, product
from operator import add, eq, itemgetter
from typing import TYPE_CHECKING

import msgspec
from pydantic_core import SchemaValidator, ValidationError

from nova_dpo_sdk.datasets._facts import minimal
from nova_dpo_sdk.datasets._rules import RESERVED_WORDS
from nova_dpo_sdk.datasets._search import finder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_QUOTE, _WIDE, _A_QUOTE = 0x22, 0x80, b'"'

# A text whose first byte after the quote is none of these has something to see in it. `"`: empty. The rest: white
# space, an escape that may stand for it, or the first byte of a wide space. Control characters are always escaped.
_UNSURE = frozenset(b' "\\\xc2\xe1\xe2\xe3')
_WIDE_SPACES = (b"\xc2\x85", b"\xc2\xa0", b"\xe1\x9a\x80", b"\xe2\x80", b"\xe2\x81\x9f", b"\xe3\x80\x80")

_NO_STRINGS = b"-0123456789tfn{["
"""What begins a value in JSON that is no string."""

_find_unsure = finder(
    [b'\n"' + bytes([mark]) for mark in sorted(_UNSURE)] + [b"\n" + bytes([mark]) for mark in _NO_STRINGS]
)
"""Where texts begin, with the line feed before them, that may be no strings or have nothing to see in them."""


class Texts:
    """Some texts, one after the other in one run of bytes: what is asked of all is asked of the run.

    Each stands between two line feeds, which no text has in it as they are. So no word and no character goes over from
    one text to the next.

    Args:
        texts: JSON as a file has it; none is empty.
    """

    __slots__ = ("_texts", "run")

    def __init__(self, texts: Sequence[bytes | msgspec.Raw]) -> None:
        self.run = b"\n".join([b"", *texts, b""])
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, at: int) -> bytes:
        return bytes(self._texts[at])

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self._texts)

    @property
    def size(self) -> int:
        """Bytes of all texts."""
        return len(self.run) - len(self._texts) - 1

    def at(self, places: list[int]) -> list[int]:
        """Which texts have some places of the run in them, which are in order and no line feeds."""
        at, before, found = -1, 0, list[int]()
        for place in places:
            at += len(BytesIO(self.run[before : place + 1]).readlines()) - 1
            before = place
            found.append(at)
        return found

    def places(self, first: int, byte: int = 0) -> tuple[list[int], list[int]]:
        """Where a certain byte of each text is, from a first text on, and how long the texts are."""
        sizes = list(map(len, self._texts[first:]))
        before = len(self.run) - sum(sizes) - len(sizes) + byte
        # One more with each text, for what stands between two.
        return list(map(add, accumulate(sizes[:-1], initial=before), count())) if sizes else [], sizes


def silent(texts: Texts) -> list[int]:
    """Which texts are no JSON strings, or have nothing but white space in them."""
    run = texts.run
    starts = [place + 1 for place in _find_unsure(run)]
    # Most of these begin with an escape or a foreign letter. Where one says nothing, which is rare, all are asked.
    if all(_says_something(run[start : run.index(b"\n", start)]) for start in starts):
        return []
    return [at for at, text in enumerate(texts) if not _says_something(text)]


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


_finders = [finder([mark]) for mark in (b"\\u", b"\\/")]  # one by one is twice as fast as both together


def has_long_forms(text: bytes) -> bool:
    """Whether characters are written in a longer form than needed."""
    return any(find(text) for find in _finders)


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
    if not pairs:
        return []
    run, found = texts.run, list[int]()
    places, sizes = texts.places(len(texts) - 2 * pairs, len(_A_QUOTE))
    marks = bytes(itemgetter(*places)(run))
    for at in compress(range(pairs), map(eq, marks[:pairs], marks[pairs:])):
        size = min(sizes[at], sizes[pairs + at]) - 2 * len(_A_QUOTE)
        if run.startswith(run[places[at] : places[at] + size], places[pairs + at]):
            found.append(at)
    return found


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
    run = texts.run
    found = [at for at in _find(run) if _word(run, max(0, at + _KNOWN_BY - _LONGEST), at + _LONGEST)]
    return list(dict.fromkeys(texts.at(found)))
