"""What terminals get: colours, movement, and no orders that come from data."""

from __future__ import annotations

import os
import re
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_STYLES = {"good": "32", "warning": "33", "error": "1;31", "label": "36", "quiet": "2"}
_WORDS = {
    "good": "ok|succeeded|running|finished",
    "warning": "warning|note|degraded|stalled|unschedulable|restarting|unknown",
    "error": "error|failed|stopped|deleted",
}
_MOODS = {word: mood for mood, words in _WORDS.items() for word in words.split("|")}
_LABELS = "plan|trains|from|where|data|validation|output|record|digest|unresolved|job|since|why|next"
_PATTERNS = (
    (re.compile(r"^(?:error|warning|note)(?= \[[\w-]+\])"), ""),  # a finding
    (re.compile(r"^error(?=:)"), ""),
    (re.compile(r"^(?:ok|note|warning|error)(?= {2,}\S)"), ""),  # an answer of check and doctor
    (re.compile(r"(?<=^status {3})\w+"), ""),
    (re.compile(r"^\d\d:\d\d:\d\d(?=  )"), "quiet"),
    (re.compile(rf"^(?:{_LABELS}|status)(?= {{2,}}\S)"), "label"),
    (re.compile(r"\b[Rr]eady to submit\b|^Ready\b"), "good"),
    (re.compile(r"\bcannot be submitted\b|^It would be refused\b|^Not ready\b"), "error"),
)


_ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters: a terminal obeys them."""


def harmless(text: str) -> str:
    """A text whose control characters are shown instead of obeyed: names and messages come from anywhere."""
    return _ORDERS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def has_colours(stream: TextIO) -> bool:
    """Whether a stream gets colours: NO_COLOR forbids them, FORCE_COLOR asks for them, else a terminal has them."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def is_lively(stream: TextIO) -> bool:
    """Whether a stream shows things that move: a terminal that is no dumb one, with `rich` to draw them."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and find_spec("rich") is not None


def painted(line: str) -> str:
    """A line with the words in colour that say how things stand."""
    for pattern, style in _PATTERNS:
        line = pattern.sub(partial(_dressed, style), line)
    return line


def _dressed(style: str, found: re.Match[str]) -> str:
    chosen = style or _MOODS.get(found[0], "")
    return f"\x1b[{_STYLES[chosen]}m{found[0]}\x1b[0m" if chosen else found[0]
