r"""The quick look at many lines: it takes in what is beyond doubt and leaves the rest to the exact diagnosis.

A line is clean only when no rule about a single line has anything to say about it, not even a warning.
Texts are not decoded. They stay in the JSON that the file has for them, and are compared, measured and searched as
they are; where a file writes them in a longer form than needed (`\u` escapes), they are shortened first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain
from operator import lt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw

from nova_dpo_sdk.datasets import _facts, _rules
from nova_dpo_sdk.datasets._shapes import NO_TEXT, Chat, ChatItem, Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nova_dpo_sdk.datasets._exact import Explainer
    from nova_dpo_sdk.datasets._shapes import ChatTurn, Image, Item, Text, Turn, Video

    Take = Callable[[Raw], bytes]

T = TypeVar("T")
R = TypeVar("R")

_NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _OddError(Exception):
    """Something that only the exact diagnosis can judge."""


_ODD = (_OddError, IndexError, ValueError)


@dataclass(slots=True)
class Harvest:
    """What a quick look took in: one entry in each list for every clean line, and the doubtful ones.

    Attributes:
        rows: Places of the clean lines among those that were given.
        features: Bits of `FEATURES`.
        prompts: Texts before the answer, and URIs of media.
        firsts: The preferred candidate, or the answer.
        seconds: The other candidate; the list stays empty for chats.
        doubtful: Places of the other lines, in order.
    """

    rows: list[int] = field(default_factory=list[int])
    features: list[int] = field(default_factory=list[int])
    prompts: list[Sequence[bytes]] = field(default_factory=list["Sequence[bytes]"])
    firsts: list[bytes] = field(default_factory=list[bytes])
    seconds: list[bytes] = field(default_factory=list[bytes])
    doubtful: list[int] = field(default_factory=list[int])

    def facts(self) -> list[_facts.Facts]:
        """The facts of every clean line."""
        keys, turned = self.keys()
        turned = turned or [False] * len(keys)
        return list(map(_facts.Facts, self.features, self.sizes(), keys, turned))

    def sizes(self) -> list[int]:
        """Bytes of text that a model would see at most, for every clean line."""
        if not self.seconds:
            return [sum(map(len, prompt)) + len(answer) for prompt, answer in self._chat_parts()]
        return [sum(map(len, prompt)) + max(len(one), len(other)) for prompt, one, other in self._pair_parts()]

    def keys(self) -> tuple[list[int], list[bool]]:
        """Hashes of all texts, and which way round the candidates stand; nothing of the latter for chats."""
        prompts = [hash(tuple(prompt)) for prompt in self.prompts]
        ones = list(map(hash, self.firsts))
        if not self.seconds:
            return [prompt ^ one for prompt, one in zip(prompts, ones, strict=True)], []
        others = list(map(hash, self.seconds))
        keys = [prompt ^ one ^ other for prompt, one, other in zip(prompts, ones, others, strict=True)]
        return keys, list(map(lt, ones, others))

    def _chat_parts(self) -> Iterator[tuple[Sequence[bytes], bytes]]:
        return zip(self.prompts, self.firsts, strict=True)

    def _pair_parts(self) -> Iterator[tuple[Sequence[bytes], bytes, bytes]]:
        return zip(self.prompts, self.firsts, self.seconds, strict=True)

    def add(self, other: Harvest, offset: int) -> None:
        """Add the harvest of lines that begin `offset` lines further down."""
        self.rows += [row + offset for row in other.rows]
        self.features += other.features
        self.prompts += other.prompts
        self.firsts += other.firsts
        self.seconds += other.seconds
        self.doubtful += [row + offset for row in other.doubtful]

    def keep(self, clean: list[bool]) -> None:
        """Keep the clean lines that are marked; the others become doubtful."""
        self.doubtful += [row for row, stays in zip(self.rows, clean, strict=True) if not stays]
        self.doubtful.sort()
        self.rows = _kept(self.rows, clean)
        self.features = _kept(self.features, clean)
        self.prompts = _kept(self.prompts, clean)
        self.firsts = _kept(self.firsts, clean)
        self.seconds = _kept(self.seconds, clean) if self.seconds else []


class _Counts(NamedTuple):
    """What the structure of some records is made of; each may be too low, none too high."""

    records: int
    systems: int
    versions: int
    messages: int
    texts: int
    media: int
    reasonings: int = 0


class QuickLook:
    """Takes in clean lines of one kind.

    Args:
        explainer: Knows the kind of record.
        words: Whether to look for reserved words.
    """

    def __init__(self, explainer: Explainer, *, words: bool = True) -> None:
        self._words = words
        self._preference = explainer.preference
        self._nova2 = explainer.nova2
        shape: Any = Pair if explainer.preference else Chat
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode

    def look(self, lines: list[bytes]) -> Harvest:
        """Take in the clean ones among `lines`; none of them may be longer than is allowed."""
        records, places, doubtful = self._decoded(lines)
        data = b"\n".join(lines)
        long_forms = _LONG_FORM.search(data) is not None
        harvest = Harvest(doubtful=doubtful)
        sort = self._pairs if self._preference else self._chats
        taken = sort(records, places, harvest, _shortest if long_forms else bytes)
        if not harvest.rows:
            harvest.doubtful.sort()
            return harvest
        texts = [*chain.from_iterable(harvest.prompts), *harvest.firsts, *harvest.seconds]
        blob = b"\n".join(texts)
        if not (
            (blob.isascii() or _are_utf8(texts))
            and self._is_plain(data, lines, harvest, taken, None if long_forms else blob)
        ):
            return self._halves(lines)
        if self._words and _has_words(blob):
            return self._without_words(harvest)
        harvest.doubtful.sort()
        return harvest

    def _halves(self, lines: list[bytes]) -> Harvest:
        """Look at each half alone, until the line that is to blame stands alone."""
        if len(lines) == 1:
            return Harvest(doubtful=[0])
        half = len(lines) // 2
        harvest = self.look(lines[:half])
        harvest.add(self.look(lines[half:]), half)
        return harvest

    def _without_words(self, harvest: Harvest) -> Harvest:
        seconds = harvest.seconds or [b""] * len(harvest.rows)
        parts = zip(harvest.prompts, harvest.firsts, seconds, strict=True)
        harvest.keep([not _has_words(b"\n".join([*prompt, one, other])) for prompt, one, other in parts])
        return harvest

    def _decoded(self, lines: list[bytes]) -> tuple[list[Any], list[int], list[int]]:
        """The records, their places, and the places of lines that do not have the shape of one."""
        decode = self._decode
        records: list[Any] = []
        places: list[int] = []
        doubtful: list[int] = []
        for place, line in enumerate(lines):
            try:
                records.append(decode(line))
            except _NOT_DECODED:  # noqa: PERF203 - free while nothing is raised
                doubtful.append(place)
            else:
                places.append(place)
        return records, places, doubtful

    # The two loops are long on purpose: at three microseconds a record, a call for each text would show.

    def _pairs(  # noqa: C901 - see above
        self, records: list[Pair], places: list[int], harvest: Harvest, take: Take
    ) -> list[Pair]:
        """Sort records into clean and doubtful ones; the clean ones.

        Keys that a turn should not have are not looked for: `_is_plain` notices whatever is not counted here.
        """
        visible, odd = _VISIBLE, list[int]()
        all_features, prompts = harvest.features, harvest.prompts
        firsts, seconds = harvest.firsts, harvest.seconds
        for place, record in enumerate(records):
            turns, system = record.messages, record.system
            try:
                prompt = [] if system is UNSET else [_checked(take(system[0].text))]
                role, media, features = "user", 0, len(prompt)
                for turn in turns[:-1]:
                    content = turn.content
                    if not content or turn.role != role:
                        raise _OddError
                    for item in content:
                        if item.image is not UNSET:
                            features |= _image(item, user=role == "user")
                            media += 1
                            continue
                        text = take(item.text)
                        if text[:2] not in visible:
                            _checked(text)
                        prompt.append(text)
                    role = "assistant" if role == "user" else "user"
                last = turns[-1]
                if role == "user" or last.role == "user" or last.candidates is UNSET:
                    raise _OddError
                first, second = last.candidates
                (best,), (worst,) = first.content, second.content
                one, other = take(best.text), take(worst.text)
                start, begin = one[:2], other[:2]
                if start == begin or start not in visible or begin not in visible:
                    _compare(one, other)
                if first.label != "preferred":
                    one, other = other, one
                if first.label == second.label:
                    raise _OddError
                if media:
                    prompt += _uris(turns, features, media)
            except _ODD:
                odd.append(place)
                continue
            all_features.append(features)
            prompts.append(prompt)
            firsts.append(one)
            seconds.append(other)
        return _sorted_out(records, places, odd, harvest)

    def _chats(self, records: list[Chat], places: list[int], harvest: Harvest, take: Take) -> list[Chat]:
        """Sort records into clean and doubtful ones; the clean ones."""
        visible, odd = _VISIBLE, list[int]()
        for place, record in enumerate(records):
            turns, system = record.messages, record.system
            try:
                prompt = [] if system is UNSET else [_checked(take(system[0].text))]
                role, media, cut, features = "user", 0, 0, len(prompt)
                for turn in turns:
                    content = turn.content
                    cut = len(prompt)
                    if not content or turn.role != role:
                        raise _OddError
                    for item in content:
                        raw = item.text
                        if raw is NO_TEXT or not item.image is item.video is item.reasoning is UNSET:
                            raw, feature = self._no_text(item, user=role == "user")
                            features |= feature
                            if raw is NO_TEXT:
                                media += 1
                                continue
                        text = take(raw)
                        if text[:2] not in visible:
                            _checked(text)
                        prompt.append(text)
                    role = "assistant" if role == "user" else "user"
                if role == "assistant" or not turns:
                    raise _OddError
                answer = prompt[cut:]
                del prompt[cut:]
                if media:
                    prompt += _uris(turns, features, media)
            except _ODD:
                odd.append(place)
                continue
            harvest.features.append(features)
            harvest.prompts.append(prompt)
            harvest.firsts.append(answer[0] if len(answer) == 1 else b"".join(answer))
        return _sorted_out(records, places, odd, harvest)

    def _no_text(self, item: ChatItem, *, user: bool) -> tuple[Raw, int]:
        """The text inside an item that is not a plain text, if there is one, and what its record has with it."""
        if item.reasoning is not UNSET:
            if user or not self._nova2 or item.text is not NO_TEXT or not item.image is item.video is UNSET:
                raise _OddError
            return item.reasoning.inner.text, _facts.REASONING
        if item.video is UNSET:
            features = _image(item, user=user)
        elif user and item.image is UNSET and item.text is NO_TEXT:
            features = _facts.VIDEO | (_facts.WEBM if item.video.format == "webm" else 0)
        else:
            raise _OddError
        if self._nova2 and features & (_facts.WEBP | _facts.WEBM):
            raise _OddError
        return NO_TEXT, features

    # -- no key stands twice

    def _is_plain(
        self, data: bytes, lines: list[bytes], harvest: Harvest, records: list[Any], blob: bytes | None
    ) -> bool:
        """Whether the clean lines have nothing besides what was decoded.

        Decoding takes the last of several equal keys without a word. But then the line has more bytes, or more
        colons outside of texts, than the structure that was decoded takes.

        Args:
            data: All lines, with a newline between them.
            lines: All lines.
            harvest: Which of them are clean.
            records: The clean records.
            blob: Texts and URIs of the clean records as the file has them; None to collect them.
        """
        if len(records) < len(lines):
            data = b"\n".join([lines[row] for row in harvest.rows])
        counts = self._counted(records, harvest)
        if blob is not None and not counts.media:
            texts = len(blob) - counts.texts + 1
            if texts + self._structure(counts) == len(data) - len(records) + 1:
                return True
        if blob is None:
            blob = b"\n".join(chain.from_iterable(map(_raws, records)))
        colons = data.count(b":") - blob.count(b":")
        return colons == self._keys(counts) or colons == self._keys(_counted_one_by_one(counts, records))

    def _counted(self, records: list[Any], harvest: Harvest) -> _Counts:
        pieces = sum(map(len, harvest.prompts)) + len(records) * (2 if self._preference else 1)
        media = sum(map(_media, records)) if any(map(_HAS_MEDIA.__and__, harvest.features)) else 0
        return _Counts(
            records=len(records),
            systems=sum(map(_facts.SYSTEM.__and__, harvest.features)),
            versions=len(records) - [record.version for record in records].count(UNSET),
            messages=sum([len(record.messages) for record in records]),
            texts=pieces - media,
            media=media,
        )

    def _structure(self, counts: _Counts) -> int:
        """Bytes that records without media take besides their texts, when they are written without a space."""
        records, systems, messages, texts = counts.records, counts.systems, counts.messages, counts.texts
        found = records * _RECORD + systems * _SYSTEM + counts.versions * _VERSION
        found += messages - records  # commas between messages
        found += messages // 2 * (_USER + _ASSISTANT)
        contents = messages
        if self._preference:
            found += records * (_CANDIDATES - _ASSISTANT)
            contents += records
        return found + texts * _TEXT + (texts - systems - contents)

    def _keys(self, counts: _Counts) -> int:
        """Keys that records take."""
        found = counts.records + counts.systems + counts.versions + 2 * counts.messages + counts.texts
        return found + 6 * counts.media + 2 * counts.reasonings + (4 * counts.records if self._preference else 0)


_RECORD = len(b'{"messages":[]}')
_SYSTEM = len(b'"system":[],')
_VERSION = len(b'"schemaVersion":"bedrock-conversation-2024",')
_USER = len(b'{"role":"user","content":[]}')
_ASSISTANT = len(b'{"role":"assistant","content":[]}')
_CANDIDATES = len(
    b'{"role":"assistant","candidates":[{"content":[],"preferenceLabel":"preferred"},'
    b'{"content":[],"preferenceLabel":"non-preferred"}]}'
)
_TEXT = len(b'{"text":}')
_HAS_MEDIA = _facts.IMAGE | _facts.VIDEO


def _counted_one_by_one(counts: _Counts, records: list[Any]) -> _Counts:
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
    return sum(_file(item) is not None for item in _items(record))


def _file(item: Any) -> Image | Video | None:
    found = getattr(item, "image", UNSET)
    if found is UNSET:
        found = getattr(item, "video", UNSET)
    return None if found is UNSET else found


def _raws(record: Any) -> Iterator[bytes]:
    """Every text and URI of a record, as the file has it."""
    if record.system is not UNSET:
        yield bytes(record.system[0].text)
    for item in _items(record):
        file, reasoning = _file(item), getattr(item, "reasoning", UNSET)
        if file is not None:
            yield bytes(file.source.s3Location.uri)
        else:
            yield bytes(item.text if reasoning is UNSET else reasoning.inner.text)


# ---------------------------------------------------------------------------------------------- texts

# The two bytes with which a text begins that is more than white space: the quote and a visible character.
_UNSURE = b' "\\\xc2\xe1\xe2\xe3'
_VISIBLE = frozenset(bytes((34, byte)) for byte in range(33, 256) if byte not in _UNSURE)
_WIDE_SPACES = (b"\xc2\x85", b"\xc2\xa0", b"\xe1\x9a\x80", b"\xe2\x80", b"\xe2\x81\x9f", b"\xe3\x80\x80")
_QUOTE, _BACKSLASH, _WIDE = 34, 92, 0x80

# Each of these begins with one plain character: `re` looks for that quickly.
_LONG_FORM = re.compile(rb"\\[u/]")
_COLON_WORD = re.compile(rb":(?<=[mrtMRT]:)(?i:(?<=user:)|(?<=bot:)|(?<=system:)|(?<=assistant:)|(?<=thought:))")
_ANGLE_WORD = re.compile(rb"<(?i:image|video|unk)>")
_SQUARE_WORD = re.compile(rb"\[(?i:eos)\]")


def _are_utf8(texts: list[bytes]) -> bool:
    try:
        for text in texts:
            if not text.isascii():
                text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_words(blob: bytes) -> bool:
    """Whether a reserved word, in whatever casing, stands in texts in their shortest form."""
    return (
        _COLON_WORD.search(blob) is not None
        or (b"<" in blob and _ANGLE_WORD.search(blob) is not None)
        or (b"[" in blob and _SQUARE_WORD.search(blob) is not None)
    )


def _shortest(raw: Raw) -> bytes:
    """The shortest form of a text."""
    text = bytes(raw)
    return _facts.minimal(msgspec.json.decode(text)) if _LONG_FORM.search(text) else text


def _checked(text: bytes) -> bytes:
    """The JSON of a text, if it is one, with more than white space in it."""
    if text[:2] in _VISIBLE:
        return text
    if text[0] != _QUOTE or text[1] == _QUOTE:
        raise _OddError
    if text[1] >= _WIDE and not text.startswith(_WIDE_SPACES, 1):
        return text
    if not msgspec.json.decode(text).strip():
        raise _OddError
    return text


def _compare(one: bytes, other: bytes) -> None:
    """Whether two candidates are texts of which neither is the beginning of the other."""
    _checked(one)
    _checked(other)
    # In their shortest form, texts begin with each other exactly when their bytes do.
    if one.startswith(other[:-1]) or other.startswith(one[:-1]):
        raise _OddError


# ---------------------------------------------------------------------------------------------- media

_URI = re.compile(rb'"s3://[A-Za-z0-9_\-.]+/[A-Za-z0-9_\-.][A-Za-z0-9_\-/.]*"')
_OWNER = re.compile("[0-9]{12}")
_MOST_IMAGES = min(_rules.LIMITS["images-per-message"].value, _rules.LIMITS["images-per-record"].value)


def _image(item: Item | ChatItem, *, user: bool) -> int:
    if not user or item.image is UNSET or item.text is not NO_TEXT:
        raise _OddError
    return _facts.IMAGE | (_facts.WEBP if item.image.format == "webp" else 0)


def _uris(turns: Sequence[Turn | ChatTurn], features: int, media: int) -> list[bytes]:
    """The URIs of all media in a record, if they are in order and not too many."""
    if features & _HAS_MEDIA == _HAS_MEDIA or media > (_MOST_IMAGES if features & _facts.IMAGE else 1):
        raise _OddError
    found: list[bytes] = []
    for turn in turns:
        for file in map(_file, turn.content or ()):
            if file is None:
                continue
            uri = bytes(file.source.s3Location.uri)
            if not _URI.fullmatch(uri) or not _OWNER.fullmatch(file.source.s3Location.bucketOwner):
                raise _OddError
            found.append(uri)
    return found


def _sorted_out(records: list[R], places: list[int], odd: list[int], harvest: Harvest) -> list[R]:
    """Note which lines are clean and which are doubtful; the clean records."""
    if not odd:
        harvest.rows = places
        return records
    clean = [True] * len(records)
    for place in odd:
        clean[place] = False
    harvest.doubtful += [places[place] for place in odd]
    harvest.rows = _kept(places, clean)
    return _kept(records, clean)


def _kept(items: list[T], stays: list[bool]) -> list[T]:
    return [item for item, stay in zip(items, stays, strict=True) if stay]
