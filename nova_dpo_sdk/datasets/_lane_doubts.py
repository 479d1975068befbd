"""What a text must not have in it on a fast lane: what may be a reserved word, a blank text, or a twin."""

from __future__ import annotations

import re
from itertools import compress
from operator import eq
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.datasets._lane_frames import NEXT
from nova_dpo_sdk.datasets._lane_partings import BLANKS, may_go_on, partings
from nova_dpo_sdk.datasets._rules import RESERVED_WORDS
from nova_dpo_sdk.datasets._search import finder

if TYPE_CHECKING:
    from collections.abc import Callable

    from nova_dpo_sdk.datasets._lane_said import Said, Text

_SPACE = rb" \xc2\x85\xa0\xe1\x9a\x80-\x8a\xe2\xa8\xa9\xaf\x81\x9f\xe3"  # every byte that white space is made of
_SAID = rb'"(?:[%b]|\\[nrtf])*(?:[^"\\%b]|\\["\\b/]|\\u(?!%b))' % (_SPACE, _SPACE, BLANKS)
says = re.compile(_SAID).match
"""Whether JSON text is a string that is surely not blank: some character of it is no white space."""

_BEGIN = b'[{"text":'  # the bracket makes it rarer by its first four bytes, which are searched for first
_MARKS = [word[1:-1].encode() for word in RESERVED_WORDS if word.startswith("<")]
_WIDE = (b'"', b"\xc2", b"\xe1", b"\xe2", b"\xe3")
_ESCAPES = (b"\\n", b"\\r", b"\\t", b"\\f", b"\\u0", b"\\u1", b"\\u2", b"\\u3")
_MAYBE_BLANK = [
    *_WIDE,
    *_ESCAPES,
    *(b" " + start for start in (b" ", *_WIDE, *_ESCAPES)),
]
"""How a text begins that may have no character other than white space."""

_IN_TEXTS = [
    *(word.encode() for word in RESERVED_WORDS),
    *(b"<%b\\u003%b" % (mark, last) for mark in _MARKS for last in (b"e", b"E")),
    *(b"\\u00%d" % digit for digit in range(8)),  # an escaped letter may be one of a reserved word
    b"\\nHuman:",  # a turn that is still inside a text
    b'\\"' + NEXT + b'{"',  # a text that a transcript cuts off after a backslash
]
_AT_BEGINNINGS = [
    *(_BEGIN + b'"' + start for start in _MAYBE_BLANK),
    *(_BEGIN + bytes([start]) for start in b"[{ntf-0123456789"),  # no text at all
]

_find_inside = finder(_IN_TEXTS)
_find_beginnings = finder(_AT_BEGINNINGS)


def find(text: bytes) -> list[int]:
    """Where something stands in lines that is suspicious: two searches for half of it take half of the time of one."""
    return _find_inside(text) + _find_beginnings(text)


_HARMLESS = re.compile(
    rb'\\u00(?:2[267bB]|3[dDeE]|3[cC](?!%b)|60|7[fF])|%b%b|(?<=[^\\]\\)\\"'
    % (b"|".join(_MARKS), re.escape(_BEGIN), _SAID)
).match
"""Whether what looks suspicious is not: an escape that is in no reserved word, a text that says something, or one that
ends with an escaped backslash.
"""

_escapes = finder([b"\\u"])
_slashes = finder([b"\\/"])
_LOOK = 1 << 9


def harmful(text: bytes, found: list[int]) -> list[int]:
    """Where something stands that may be a reserved word, a blank text, or no text."""
    return [start for start in found if not _HARMLESS(text, start)]


def sameness(text: bytes, *, has_low: bool) -> Callable[[Any, Any], bool]:
    """How two answers in these lines are compared: one character may be written in several ways."""
    if b"\\" not in text:
        return eq
    has_slashes = b"/" in text and bool(_slashes(text))
    # Where there are escapes, they are near; finding all of them would take long.
    if not has_slashes and not _escapes(text[:_LOOK]) and not _escapes(text):
        return eq
    return _differ_in_capitals if text.isascii() and not has_slashes and not has_low else _may_be_same


def twins(said: Said, same: Callable[[Any, Any], bool]) -> list[int]:
    """Which pairs have answers that are the same, or may be."""
    return list(compress(range(len(said.orders)), map(same, *said.sides())))


def _differ_in_capitals(good: Text, bad: Text) -> bool:
    return len(good) == len(bad) and bytes(good).lower() == bytes(bad).lower()


def _may_be_same(good: Text, bad: Text) -> bool:
    """Whether two texts are the same, or part at a character that can be written in several ways."""
    one, other = bytes(good), bytes(bad)
    if one == other or not one or not other:
        return True
    return may_go_on(one, other, *partings([one], [other]))
