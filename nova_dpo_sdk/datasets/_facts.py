"""What one record adds to the picture of the whole file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import xxhash

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM, IMAGE, VIDEO, DOCUMENT, REASONING, TOOLS, WEBP, WEBM = (1 << bit for bit in range(8))
"""Features of a record, as bits of `Facts.features`."""

FEATURES = {
    "system": SYSTEM,
    "image": IMAGE,
    "video": VIDEO,
    "document": DOCUMENT,
    "reasoning": REASONING,
    "tools": TOOLS,
    "webp": WEBP,
    "webm": WEBM,
}

MEDIA = {"image": IMAGE, "video": VIDEO, "document": DOCUMENT}

LENGTH_STEP = 1024
"""Tokens per step of the histogram of lengths; `max_length` is a multiple of it."""

BYTES_PER_TOKEN = 4
"""Nova's tokenizer is not public; four bytes of UTF-8 a token is a fair guess for most languages."""

BYTES_PER_STEP = LENGTH_STEP * BYTES_PER_TOKEN


class Facts(NamedTuple):
    """What one record is.

    Attributes:
        features: Bits of `FEATURES`.
        size: Bytes of text that a model would see at most: system, prompt, and the longer answer.
        key: Hash of all texts; the same when the two candidates change places.
        turned: Which of the two places the candidates have.
    """

    features: int
    size: int
    key: int
    turned: bool


digest = xxhash.xxh3_64_intdigest
"""A hash of 64 bits of bytes, the same in every process: several processes may look at one file."""

NO_SYSTEM = 0
"""Stands for the hash of a system text that is not there."""


def joined(digests: Sequence[int]) -> int:
    """One hash for several texts."""
    return digests[0] if len(digests) == 1 else hash(tuple(digests))


def facts_of(
    features: int,
    system: Sequence[str],
    prompt: Sequence[str],
    first: Sequence[str],
    second: Sequence[str] | None,
) -> Facts:
    """The facts of a record that was read in full.

    Args:
        features: Bits of `FEATURES`.
        system: System texts.
        prompt: The texts before the answer, and the URIs of media.
        first: Texts of the preferred candidate, or of the answer of a chat.
        second: Texts of the other candidate; None in a chat.
    """
    before, given = list(map(_encoded, system)), list(map(_encoded, prompt))
    asked = joined([digest(text) for text in before if text] or [NO_SYSTEM]), joined(list(map(digest, given)))
    one, size = _encoded("".join(first)), sum(map(len, (*before, *given)))
    if second is None:
        return Facts(features, size + len(one), hash((*asked, digest(one))), turned=False)
    other = _encoded("".join(second))
    keys = digest(one), digest(other)
    key = hash((*asked, sum(keys)))
    return Facts(features, size + max(len(one), len(other)), key, turned=keys[0] < keys[1])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # half a surrogate pair, if its rule was turned down


def step(size: int) -> int:
    """The step of the histogram that a record of `size` bytes of text falls in, from 0."""
    return max(0, size - 1) // BYTES_PER_STEP
