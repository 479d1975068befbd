"""Whether lines have nothing besides what was decoded from them.

Decoding takes the last of several equal keys without a word. But then the lines have more colons outside of texts
than the structure that was decoded takes.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from nova_dpo_sdk.datasets import _facts
from nova_dpo_sdk.datasets._rules import SCHEMA_VERSION
from nova_dpo_sdk.datasets._shapes import (
    NO_TEXT,
    PlainCandidate,
    PlainChat,
    PlainChatTurn,
    PlainPair,
    PlainTurn,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nova_dpo_sdk.datasets._harvest import Harvest
    from nova_dpo_sdk.datasets._shapes import Chat, ChatItem, Image, Item, Pair, Video

_write = msgspec.json.Encoder().encode_lines


class _Counts(NamedTuple):
    """What the structure of some records is made of; each may be too low, none too high."""

    records: int
    systems: int
    versions: int
    messages: int
    texts: int
    media: int
    reasonings: int = 0


_NOTHING = (Text(Raw()),)
"""An item whose text takes no bytes at all."""

_NO_SYSTEM_TEXT = Raw(msgspec.json.encode(_NOTHING))


def _size(*, preference: bool, more: int = 0, **fields: Any) -> int:
    """Bytes of a line with a record of no texts, which has two more turns so many times."""
    given: Any = PlainTurn if preference else PlainChatTurn
    user, assistant = given("user", _NOTHING), given("assistant", _NOTHING)
    if not preference:
        return len(_write([PlainChat(messages=[user, assistant, *[user, assistant] * more], **fields)]))
    one, other = PlainCandidate(_NOTHING, "preferred"), PlainCandidate(_NOTHING, "non-preferred")
    last = PlainTurn("assistant", candidates=(one, other))
    return len(_write([PlainPair(messages=[user, *[assistant, user] * more, last], **fields)]))


class Frame:
    """Knows what the structure of records of one kind takes.

    Args:
        preference: Whether records end with two candidates.
    """

    def __init__(self, *, preference: bool) -> None:
        self._preference = preference
        self._record = _size(preference=preference)
        self._two_turns = _size(preference=preference, more=1) - self._record
        self._version = _size(preference=preference, version=SCHEMA_VERSION) - self._record
        self._system = _size(preference=preference, system=_NO_SYSTEM_TEXT) - self._record

    def length(self, records: Sequence[Any], harvest: Harvest) -> int:
        """Bytes of plain records when each is written in a line of its own, without spaces.

        No line can say the same in less. So when lines have exactly that many, there is nothing in them besides what
        was decoded, and no key twice.

        Args:
            records: What was decoded, one from each line.
            harvest: What was taken in of it: all of it, as the file has it.
        """
        count = len(records)
        structure = count * self._record + (len(harvest.prompts) - count) // 2 * self._two_turns
        structure += (count - [record.version for record in records].count(UNSET)) * self._version
        structure += (len(harvest.systems) - harvest.systems.count(b"")) * self._system
        return structure + harvest.size()

    def holds(self, records: Sequence[Any], harvest: Harvest, data: bytes) -> bool:
        """Whether there are as many keys in the lines of plain records as were decoded, whatever spaces stand there.

        Args:
            records: What was decoded, one from each line.
            harvest: What was taken in of it: all of it, as the file has it.
            data: The lines.
        """
        colons = data.count(b":") - harvest.count(b":")
        systems = len(harvest.systems) - harvest.systems.count(b"")
        answers = len(records) * (2 if self._preference else 1)
        counts = _Counts(
            records=len(records),
            systems=systems,
            versions=len(records) - [record.version for record in records].count(UNSET),
            messages=len(harvest.prompts) + len(records),
            texts=systems + len(harvest.prompts) + answers,
            media=0,
        )
        return colons == self._keys(counts)

    def has_no_more_keys(self, records: Sequence[Any], harvest: Harvest, data: bytes) -> bool:
        """Whether there are as many keys in the lines as were decoded, whatever spaces stand between them.

        Args:
            records: What was decoded.
            harvest: What was taken in of it.
            data: The lines.
        """
        counts = self._counted(records, harvest)
        blob = b"\n".join(chain.from_iterable(map(_raws, records)))
        colons = data.count(b":") - blob.count(b":")
        return colons == self._keys(counts) or colons == self._keys(_counted_one_by_one(counts, records))

    def _counted(self, records: Sequence[Any], harvest: Harvest) -> _Counts:
        systems = len(harvest.systems) - harvest.systems.count(b"")
        pieces = systems + len(harvest.prompts) + len(records) * (2 if self._preference else 1)
        media = sum(map(_media, records)) if any(map(MEDIA.__and__, set(harvest.features))) else 0
        return _Counts(
            records=len(records),
            systems=systems,
            versions=len(records) - [record.version for record in records].count(UNSET),
            messages=sum(map(len, [record.messages for record in records])),
            texts=pieces - media,
            media=media,
        )

    def _keys(self, counts: _Counts) -> int:
        """Keys that records take."""
        found = counts.records + counts.systems + counts.versions + 2 * counts.messages + counts.texts
        return found + 6 * counts.media + 2 * counts.reasonings + (4 * counts.records if self._preference else 0)


MEDIA = _facts.IMAGE | _facts.VIDEO
"""Features that come from a file in S3."""


def _counted_one_by_one(counts: _Counts, records: Sequence[Any]) -> _Counts:
    """The same counts, with the texts in answers of several items."""
    texts = reasonings = 0
    for item in chain.from_iterable(map(_items, records)):
        reasoning = getattr(item, "reasoning", UNSET)
        reasonings += reasoning is not UNSET
        texts += reasoning is not UNSET or item.text is not NO_TEXT
    return counts._replace(texts=counts.systems + texts, reasonings=reasonings)


def _items(record: Pair | Chat) -> Iterator[Item | ChatItem | Text]:
    for turn in record.messages:
        if turn.content is not UNSET:
            yield from turn.content
        candidates = getattr(turn, "candidates", UNSET)
        if candidates is not UNSET:
            for candidate in candidates:
                yield from candidate.content


def _media(record: Any) -> int:
    return sum(file_of(item) is not None for item in _items(record))


def file_of(item: Any) -> Image | Video | None:
    """The image or video in a content item."""
    found = getattr(item, "image", UNSET)
    if found is UNSET:
        found = getattr(item, "video", UNSET)
    return None if found is UNSET else found


def _raws(record: Any) -> Iterator[bytes]:
    """Every text and URI of a record, as the file has it."""
    if record.system is not UNSET:
        yield bytes(record.system[0].text)
    for item in _items(record):
        file, reasoning = file_of(item), getattr(item, "reasoning", UNSET)
        if file is not None:
            yield bytes(file.source.s3Location.uri)
        else:
            yield bytes(item.text if reasoning is UNSET else reasoning.inner.text)
