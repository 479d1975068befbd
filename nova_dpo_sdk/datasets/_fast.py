r"""The quick look at many lines: it takes in what is beyond doubt and leaves the rest to the exact diagnosis.

A line is clean only when no rule about a single line has anything to say about it, not even a warning.

Plain records, in which every turn is one text, are decoded many at once. When their lines are as long as the shortest
that say the same, there is nothing in them besides what was decoded, and no key twice. Lines that are written in
another way are looked at more closely; other records one by one. Texts are not decoded. They stay in the JSON that the
file has for them, and are compared, measured and searched as they are; where a file writes them in a longer form than
needed (`\u` escapes), they are shortened first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw

from nova_dpo_sdk.datasets import _facts, _rules
from nova_dpo_sdk.datasets._columns import chat_columns, pair_columns
from nova_dpo_sdk.datasets._frame import MEDIA, Frame, file_of
from nova_dpo_sdk.datasets._harvest import Harvest, kept
from nova_dpo_sdk.datasets._search import finder
from nova_dpo_sdk.datasets._shapes import NO_TEXT, Chat, ChatItem, Pair, PlainChat, PlainPair
from nova_dpo_sdk.datasets._texts import Texts, alike, has_long_forms, not_utf8, shortest, silent, word_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nova_dpo_sdk.datasets._exact import Explainer
    from nova_dpo_sdk.datasets._lines import Lines
    from nova_dpo_sdk.datasets._media import Files
    from nova_dpo_sdk.datasets._shapes import Candidate, ChatTurn, Item, Turn

_NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PIECES = 32
"""Parts of a block that are decoded with one call each: a line that cannot be decoded spoils one of them."""

_BETWEEN = [b'}{"', b"}{ ", b"}{\t", b"}{\r", b"}{\n", b'} {"', b'}\t{"', b'}\r{"']
"""What stands between two records that are not parted by a line end: nothing at all, or one other white space.

Nothing in JSON but a new value brings these brackets together without a comma, and few texts have them so.
"""

_find_between = finder(_BETWEEN, padded=True)


class _OddError(Exception):
    """Something that only the exact diagnosis can judge."""


_ODD = (_OddError, IndexError, ValueError, *_NOT_DECODED)


@dataclass(slots=True)
class _Plain:
    """Plain records, the places of other lines, and of those that have no clean record of any shape in them."""

    records: list[Any] = field(default_factory=list[Any])
    others: list[int] = field(default_factory=list[int])
    hopeless: list[int] = field(default_factory=list[int])

    def leave(self, row: int, error: str) -> None:
        """Leave a line out, for what was said about it."""
        (self.hopeless if _HOPELESS(error) else self.others).append(row)

    def left(self) -> list[int]:
        """The lines that were left out, in order."""
        return sorted(self.others + self.hopeless)


_HOPELESS = re.compile("JSON is malformed|Input data was truncated|Invalid enum value|Expected `[a-z]+`, got ").match
"""What is said about a line that has no shape of a clean record; any other error is one of the plain shape, maybe."""


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
        plain: Any = PlainPair if explainer.preference else PlainChat
        full: Any = Pair if explainer.preference else Chat
        self._plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder(plain)
        self._full: msgspec.json.Decoder[Any] = msgspec.json.Decoder(full)
        self._columns: Callable[[list[Any], Sequence[int]], Harvest] = (
            pair_columns if explainer.preference else chat_columns
        )
        self._frame = Frame(preference=explainer.preference)

    def look(self, lines: Lines) -> Harvest:
        """Take in the clean ones among `lines`; none of them may be longer than is allowed."""
        plain = self._plain_records(lines)
        left = plain.left()
        if not left:
            return self._glance(lines, plain.records) or self._look_closer(lines)
        if len(plain.records) + len(left) != len(lines):
            return self._look_closer(lines)
        harvest = self._glance(lines, plain.records, left) if plain.records else Harvest()
        return self._look_closer(lines) if harvest is None else self._with(harvest, lines, plain)

    def _with(self, harvest: Harvest, lines: Lines, plain: _Plain) -> Harvest:
        """A harvest and that of the lines that are not plain."""
        if plain.others:
            harvest.add(self._apart(lines, plain.others))
        harvest.doubtful += plain.hopeless
        harvest.doubtful.sort()
        return harvest

    def _glance(self, lines: Lines, records: list[Any], left: Sequence[int] = ()) -> Harvest | None:
        """The harvest of plain records, if their lines are nothing else; most often they are.

        Args:
            lines: Lines of which the records were decoded.
            records: As many as lines are not left out.
            left: Lines that were left out.
        """
        harvest = self._columns(records, lines.others(left) if left else range(len(records)))
        if harvest.doubtful:
            return None
        if self._frame.length(records, harvest) == lines.size_without(left):
            # Besides the records there is one byte for each: where they are parted, or after the last.
            if _find_between(lines.data):
                return None
            lines.counted(len(records) + len(left))
        elif not self._is_spread_out(lines, records, harvest, left):
            return None
        return self._sorted(harvest, long_forms=has_long_forms(lines.data))

    def _is_spread_out(self, lines: Lines, records: list[Any], harvest: Harvest, left: Sequence[int]) -> bool:
        """Whether there are spaces besides the records, and nothing more."""
        if len(lines) != len(records) + len(left) or not lines.are_objects(harvest.rows):
            return False
        return self._frame.holds(records, harvest, lines.without(left))

    def _look_closer(self, lines: Lines) -> Harvest:
        """The same, line by line."""
        plain = _Plain()
        self._decode_one_by_one(lines, 0, plain)
        left = plain.left()
        rows = lines.others(left) if left else range(len(lines))
        return self._with(self._together(plain.records, rows, lines), lines, plain)

    # -- plain records

    def _plain_records(self, lines: Lines) -> _Plain:
        """The plain records in lines, and the places of the lines that have something else."""
        plain, data, start = _Plain(), lines.data, 0
        for piece in range(1, _PIECES + 1):
            end = data.rfind(b"\n", start, len(data) * piece // _PIECES) + 1 if piece < _PIECES else len(data)
            if end <= start:
                continue
            try:
                plain.records += self._plain.decode_lines(data[start:end])
            except _NOT_DECODED:
                self._decode_one_by_one(BytesIO(data[start:end]), lines.at(start), plain)
            start = end
        return plain

    def _decode_one_by_one(self, lines: Iterable[bytes], first: int, plain: _Plain) -> None:
        """Add the plain records in lines, of which the first has a place among all of them; leave out the others."""
        rest, row = iter(lines), first - len(plain.records)
        while True:
            try:
                plain.records.extend(map(self._plain.decode, rest))
            except _NOT_DECODED as error:  # noqa: PERF203 - those before it were added; there are few such lines
                plain.leave(row + len(plain.records), str(error))
                row += 1
            else:
                return

    def _together(self, records: list[Any], rows: Sequence[int], lines: Lines) -> Harvest:
        """Sort plain records into clean and doubtful ones."""
        harvest = self._columns(records, rows)
        if harvest.doubtful:
            taken = set(harvest.rows)
            records = kept(records, [row in taken for row in rows])
        if records and not (lines.are_objects(rows) and self._is_all(records, harvest, lines)):
            return self._apart(lines, rows)
        return self._sorted(harvest, long_forms=has_long_forms(lines.data))

    def _is_all(self, records: list[Any], harvest: Harvest, lines: Lines) -> bool:
        """Whether the lines of a harvest have nothing besides its records."""
        if self._frame.length(records, harvest) == lines.size_without(lines.others(harvest.rows)):
            return True
        return self._frame.holds(records, harvest, lines.joined(harvest.rows))

    def _sorted(self, harvest: Harvest, *, long_forms: bool) -> Harvest:
        """Make records doubtful with a text that is blank, no UTF-8, or has a reserved word, or with answers alike.

        Args:
            harvest: What was taken in; its texts are as the file has them, and are shortened.
            long_forms: Whether some texts may not be in their shortest form.
        """
        texts = harvest.joined()
        harvest.drop(harvest.records_of([*silent(texts), *not_utf8(texts)]))
        if long_forms:
            harvest.shorten()
        texts = harvest.joined()
        words = harvest.records_of(word_places(texts)) if self._words else set[int]()
        harvest.drop(words.union(alike(texts, len(harvest.seconds))))
        return harvest

    # -- other records

    def _apart(self, lines: Lines, rows: Sequence[int]) -> Harvest:
        """Sort lines of any content into clean and doubtful ones."""
        harvest, records, places = Harvest(), list[Any](), list[int]()
        add = self._add_pair if self._preference else self._add_chat
        for row in rows:
            try:
                record = self._full.decode(lines[row])
                system = b"" if record.system is UNSET else _taken(record.system[0].text)
                media = add(record, system, harvest)
            except _ODD:
                harvest.doubtful.append(row)
                continue
            records.append(record)
            places.append(row)
            if media:
                harvest.media[row] = media
        harvest.rows = places
        if not any(harvest.systems):
            harvest.systems = []
        if not places:
            return harvest
        if self._frame.has_no_more_keys(records, harvest, lines.joined(places)):
            return self._sorted(harvest, long_forms=False)  # each was shortened when it was taken in
        return self._halves(lines, rows)

    def _halves(self, lines: Lines, rows: Sequence[int]) -> Harvest:
        """Look at each half alone, until the line that is to blame stands alone."""
        if len(rows) == 1:
            return Harvest(doubtful=list(rows))
        half = len(rows) // 2
        harvest = self._apart(lines, rows[:half])
        harvest.add(self._apart(lines, rows[half:]))
        return harvest

    def _add_pair(self, record: Pair, system: bytes, harvest: Harvest) -> Files:
        """Take in a preference record; its media.

        Keys that a turn should not have are not looked for: the frame notices whatever is not counted.

        Raises:
            _OddError, IndexError, ValueError: It is not clean; nothing was taken in.
        """
        turns = record.messages
        prompt, role, media, features = list[bytes](), "user", 0, _facts.SYSTEM if system else 0
        for turn in turns[:-1]:
            content, said = turn.content, list[bytes]()
            if not content or turn.role != role:
                raise _OddError
            for item in content:
                if item.image is not UNSET:
                    features |= _image(item, user=role == "user")
                    media += 1
                    continue
                said.append(_taken(item.text))
            if said:
                prompt.append(b"".join(said))
            role = "assistant" if role == "user" else "user"
        last = turns[-1]
        if role == "user" or last.role == "user" or last.candidates is UNSET:
            raise _OddError
        one, other = _two_candidates(last.candidates)
        files = _files(turns, features, media, prompt) if media else ()
        harvest.append(features, system, prompt, one, other)
        return files

    def _add_chat(self, record: Chat, system: bytes, harvest: Harvest) -> Files:
        """Take in a chat; its media.

        Raises:
            _OddError, IndexError, ValueError: It is not clean; nothing was taken in.
        """
        turns = record.messages
        prompt, role, media = list[bytes](), "user", 0
        features = _facts.SYSTEM if system else 0
        for turn in turns:
            said = list[bytes]()
            if not turn.content or turn.role != role:
                raise _OddError
            for item in turn.content:
                raw, feature = self._said(item, user=role == "user")
                features |= feature
                if raw is NO_TEXT:
                    media += 1
                else:
                    said.append(_taken(raw))
            if said:
                prompt.append(b"".join(said))
            role = "assistant" if role == "user" else "user"
        if role == "assistant" or not turns:
            raise _OddError
        answer = prompt.pop()  # the assistant's, so it has a text
        files = _files(turns, features, media, prompt) if media else ()
        harvest.append(features, system, prompt, answer)
        return files

    def _said(self, item: ChatItem, *, user: bool) -> tuple[Raw, int]:
        """The text inside an item, if there is one, and what its record has with it."""
        if item.image is item.video is item.reasoning is UNSET:
            if item.text is NO_TEXT:
                raise _OddError
            return item.text, 0
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


def _taken(raw: Raw) -> bytes:
    """A text in its shortest form.

    Raises:
        _OddError: It is blank, no text, or not there.
    """
    text = shortest(bytes(raw))
    if not text or silent(Texts([text])):
        raise _OddError
    return text


def _two_candidates(candidates: tuple[Candidate, Candidate]) -> tuple[bytes, bytes]:
    """The preferred text and the other one."""
    first, second = candidates
    (best,), (worst,) = first.content, second.content
    one, other = _taken(best.text), _taken(worst.text)
    if first.label == second.label:
        raise _OddError
    return (one, other) if first.label == "preferred" else (other, one)


# ---------------------------------------------------------------------------------------------- media

_URI = re.compile(rb'"s3://[A-Za-z0-9_\-.]+/[A-Za-z0-9_\-.][A-Za-z0-9_\-/.]*"')
_OWNER = re.compile("[0-9]{12}")
_MOST_IMAGES = min(_rules.LIMITS["images-per-message"].value, _rules.LIMITS["images-per-record"].value)


def _image(item: Item | ChatItem, *, user: bool) -> int:
    if not user or item.image is UNSET or item.text is not NO_TEXT:
        raise _OddError
    return _facts.IMAGE | (_facts.WEBP if item.image.format == "webp" else 0)


def _files(turns: Sequence[Turn | ChatTurn], features: int, media: int, prompt: list[bytes]) -> Files:
    """All media in a record, if they are in order and not too many; their URIs become a part of its prompt."""
    if features & MEDIA == MEDIA or media > (_MOST_IMAGES if features & _facts.IMAGE else 1):
        raise _OddError
    found: list[tuple[str, str]] = []
    for file in [file_of(item) for turn in turns for item in turn.content or ()]:
        if file is None:
            continue
        uri, owner = bytes(file.source.s3Location.uri), file.source.s3Location.bucketOwner
        if not _URI.fullmatch(uri) or not _OWNER.fullmatch(owner):
            raise _OddError
        prompt.append(uri)
        found.append((uri[1:-1].decode(), owner))
    return tuple(found)
