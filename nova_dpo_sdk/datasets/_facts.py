"""What one record adds to the picture of the whole file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nova_dpo_sdk.datasets._media import Files

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

    Texts are compared and measured in the shortest JSON that can be written for them, quotes included: that is what
    a file has anyway, so a good line needs no text to be decoded.

    Attributes:
        features: Bits of `FEATURES`.
        size: Bytes of text that a model would see at most: system, tools, prompt, and the longer answer.
        key: Hash of all texts and tools; the same when the two candidates change places.
        turned: Which of the two places the candidates have.
        media: The addresses of its media, and their owners.
    """

    features: int
    size: int
    key: int
    turned: bool
    media: Files = ()


minimal = msgspec.json.Encoder().encode
"""The shortest JSON of a text; two texts are the same exactly when these bytes are."""


digest = xxhash.xxh3_64_intdigest
"""A hash of 64 bits, the same in every process: several processes may look at one file."""


def system_seed(texts: Iterable[bytes]) -> int:
    """What a prompt is hashed with: a hash of the system texts, or a number where there are none.

    A prompt has another hash than the same text as an answer, so that one does not cancel the other out.
    """
    whole = b"".join(texts)
    return digest(whole, 1) if whole else 2


BETWEEN_TURNS = b"\n"
"""Stands in no JSON text, so that two turns are told from one of two texts."""


def prompt_key(system: Iterable[bytes], turns: Iterable[bytes]) -> int:
    """A hash of a prompt: of its system texts, and of its turns, each of which is its texts in their shortest JSON."""
    return digest(BETWEEN_TURNS.join(turns), system_seed(system))


def facts_of(
    features: int,
    system: Iterable[str],
    prompt: Iterable[Sequence[str]],
    first: Iterable[str],
    second: Iterable[str] | None,
    media: Files = (),
) -> Facts:
    """The facts of a record that was read in full.

    Args:
        features: Bits of `FEATURES`.
        system: System texts.
        prompt: The texts of each turn before the answer, then each URI of media.
        first: Texts of the preferred candidate, or of the answer of a chat.
        second: Texts of the other candidate; None in a chat.
        media: The addresses of media, and their owners.
    """
    before, given = list(map(minimal_or_odd, system)), joined(prompt)
    one, size = b"".join(map(minimal_or_odd, first)), sum(map(len, (*before, *given)))
    key = digest(one)
    turned = False
    if second is not None:
        other = b"".join(map(minimal_or_odd, second))
        keys = key, digest(other)
        # Either way round the same; candidates that are the same, where that is allowed, do not cancel each other out.
        key = keys[0] ^ keys[1] or digest(one, 3)
        turned = keys[0] < keys[1]
        size += max(len(one), len(other))
    else:
        size += len(one)
    return Facts(features, size, key ^ prompt_key(before, given), turned, media)


def joined(turns: Iterable[Sequence[str]]) -> list[bytes]:
    """The turns that have some text, each as its texts in their shortest JSON."""
    return [b"".join(map(minimal_or_odd, texts)) for texts in turns if texts]


class Json(str):
    """What is JSON already: it is compared and measured as it stands, not as a text that is written in JSON."""

    __slots__ = ()


def canonical(value: Any) -> Json:
    """A value that is no text, so that neither spaces nor the order of its keys matter."""
    return Json(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def minimal_or_odd(text: str) -> bytes:
    """The shortest JSON of any text."""
    if isinstance(text, Json):
        return text.encode("utf-8", "backslashreplace")
    try:
        return minimal(text)
    except UnicodeEncodeError:  # half a surrogate pair, in a file whose user turned that rule down
        return minimal(text.encode("utf-8", "backslashreplace").decode())


def step(size: int) -> int:
    """The step of the histogram that a record of `size` bytes of text falls in, from 0."""
    return max(0, size - 1) // BYTES_PER_STEP
