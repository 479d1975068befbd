"""Many texts at once: which have nothing to say, which are too much alike, whether a reserved word is among them."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate, compress
from operator import eq, itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nova_dpo_sdk.datasets._harvest import Encoded

# Each pattern begins with one plain character, for which `re` looks quickly. That character is looked for as a number
# before: `b"x" in data` first makes, and forgets, an exception.
_WORDS = (
    (
        ord(":"),
        re.compile(rb":(?<=[mrtMRT]:)(?i:(?<=user:)|(?<=bot:)|(?<=system:)|(?<=assistant:)|(?<=thought:))"),
    ),
    (ord("<"), re.compile(rb"<(?i:image|video|unk)>")),
    (ord("["), re.compile(rb"\[(?i:eos)\]")),
)

_FIRST = itemgetter(0)
_SURROGATE = re.compile("[\ud800-\udfff]")


def silent(texts: Sequence[str]) -> list[int]:
    """Which texts have nothing but white space in them."""
    if all(texts) and not any(map(str.isspace, texts)):
        return []
    return [at for at, text in enumerate(texts) if not text.strip()]


def alike(ones: Sequence[str], others: Sequence[str]) -> list[int]:
    """Where one of two texts begins with the other, or both are the same; none of them is empty."""
    same = map(eq, map(_FIRST, ones), map(_FIRST, others))
    pairs = [(at, ones[at], others[at]) for at in compress(range(len(ones)), same)]
    return [at for at, one, other in pairs if one.startswith(other) or other.startswith(one)]


def not_text(texts: Sequence[str]) -> list[int]:
    """Which texts have half a surrogate pair in them."""
    return [at for at, text in enumerate(texts) if not text.isascii() and _SURROGATE.search(text) is not None]


def word_places(encoded: Encoded) -> list[int]:
    """Which texts may have a reserved word in them, in whatever casing."""
    blob = encoded.blob()
    if not any(pattern.search(blob) for mark, pattern in _WORDS if mark in blob):
        return []
    texts = encoded.texts()
    starts = list(accumulate([len(text) + 1 for text in texts], initial=0))
    found = [match.start() for _, pattern in _WORDS for match in pattern.finditer(b"\n".join(texts))]
    return sorted({bisect_right(starts, place) - 1 for place in found})
