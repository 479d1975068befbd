"""What a record says, read leniently: its texts, turns and media, whatever rules it may break."""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from nova_dpo_sdk.datasets._facts import canonical
from nova_dpo_sdk.datasets._lines import BLANK, BOM, Block, Reader
from nova_dpo_sdk.datasets._rules import LIMITS
from nova_dpo_sdk.datasets._unpack import Unpacked, compression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk.datasets._dataset import Dataset


class _Location(Struct, gc=False, rename={"owner": "bucketOwner"}):
    uri: str = ""
    owner: str = ""


class _Source(Struct, gc=False, rename={"stored": "s3Location"}):
    stored: _Location | None = None
    path: str = ""


class _Media(Struct, gc=False):
    source: _Source
    format: str = ""


class _Thought(Struct, gc=False):
    text: str = ""


class _Reasoning(Struct, gc=False, rename={"inner": "reasoningText"}):
    inner: _Thought


class _Item(
    Struct,
    gc=False,
    rename={"reasoning": "reasoningContent", "use": "toolUse", "result": "toolResult"},
):
    text: str = ""
    image: _Media | UnsetType = UNSET
    video: _Media | UnsetType = UNSET
    document: _Media | UnsetType = UNSET
    reasoning: _Reasoning | UnsetType = UNSET
    use: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET


class _Candidate(Struct, gc=False, rename={"label": "preferenceLabel"}):
    content: list[_Item]
    label: str


class _Turn(Struct, gc=False):
    role: str
    content: list[_Item] | UnsetType = UNSET
    candidates: list[_Candidate] | UnsetType = UNSET


class _System(Struct, gc=False):
    text: str = ""


class _Record(Struct, gc=False, rename={"tools": "toolConfig"}):
    messages: list[_Turn]
    system: list[_System] | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET


class Sight(NamedTuple):
    """What one record says.

    Attributes:
        systems: The system's texts.
        tools: The tools that are declared, if any.
        asked: The texts of every turn before the answer, an empty one for what has none.
        media: The addresses of its media.
        images: Images in it.
        answer: The preferred candidate, or the answer of a chat.
        rejected: The other candidate; None in a chat.
    """

    systems: list[str]
    tools: list[str]
    asked: list[list[str]]
    media: list[str]
    images: int
    answer: str
    rejected: str | None

    @property
    def prompt(self) -> list[str]:
        """Every text before the answer, those of the system first."""
        return [*self.systems, *self.tools, *chain.from_iterable(self.asked)]

    @property
    def turns(self) -> int:
        """Messages, the answer included."""
        return len(self.asked) + 1

    def key(self) -> int:
        """A hash of the prompt of 64 bits, the same on every machine and at any time."""
        whole = "\x1e".join([f"{bool(self.systems):d} {self.turns}", *self.prompt, *self.media])
        return int.from_bytes(hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


_decode = msgspec.json.Decoder(_Record).decode


def look(line: bytes, *, preference: bool) -> Sight | None:
    """What a line says; None when it is not a record of this kind.

    Args:
        line: One line of a data set.
        preference: Whether it should be a preference pair.
    """
    try:
        record = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not record.messages:
        return None
    last = record.messages.pop()
    answer, rejected = _pair(last) if preference else (_chat(last), None)
    if answer is None:
        return None
    system = () if record.system is UNSET else record.system
    tools = [] if record.tools is UNSET else [_as_text(record.tools)]
    media: list[str] = []
    said = [[item.text or _said(item, media) for item in turn.content or ()] for turn in record.messages]
    images = sum(item.image is not UNSET for turn in record.messages for item in turn.content or ())
    return Sight([each.text for each in system], tools, said, media, images, answer, rejected)


def _chat(last: _Turn) -> str | None:
    """The answer of a chat."""
    if last.role != "assistant" or not last.content:
        return None
    return "".join([item.text or _said(item, []) for item in last.content])


def _pair(last: _Turn) -> tuple[str | None, str | None]:
    """The preferred candidate and the other one."""
    if last.candidates is UNSET or len(last.candidates) != 2:
        return None, None
    texts = {each.label: "".join([item.text for item in each.content]) for each in last.candidates}
    if texts.keys() != {"preferred", "non-preferred"}:
        return None, None
    return texts["preferred"], texts["non-preferred"]


def _said(item: _Item, media: list[str]) -> str:
    """The text inside an item that is not a plain text; the address of media goes to `media`."""
    kinds = (item.image, item.video, item.document)
    media += [_address(each.source) for each in kinds if each is not UNSET]
    if item.reasoning is not UNSET:
        return item.reasoning.inner.text
    return "".join([_as_text(raw) for raw in (item.use, item.result) if raw is not UNSET])


def _address(source: _Source) -> str:
    return source.stored.uri if source.stored else source.path


def _as_text(raw: Raw) -> str:
    data = bytes(raw)
    try:
        return canonical(json.loads(data))
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def lines(data: Dataset) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank, with its number, without its line end; a line too long to hold comes as `b""`.

    Raises:
        DatasetError: The file is missing, empty, no regular file, or may not be read.
    """
    passed = 0
    for block in blocks(data):
        if block.skipped:
            passed += 1
            yield passed, b""
            continue
        rows = (block.data if passed else block.data.removeprefix(BOM)).removesuffix(b"\n").split(b"\n")
        yield from ((number, row) for number, row in enumerate(rows, passed + 1) if row.strip(BLANK))
        passed += len(rows)


def blocks(data: Dataset) -> Iterator[Block]:
    """The lines of a data set in blocks, unpacked where they are packed.

    Raises:
        DatasetError: The file is missing, empty, no regular file, or may not be read.
    """
    with data.open() as stream:
        packed = compression(stream)
        plain = cast("BinaryIO", Unpacked(stream, packed, data.path)) if packed else stream
        yield from Reader(plain, longest=LIMITS["line-bytes"].value, hashed=False).blocks()
