r"""The fast lane: plain records of the usual layouts become Nova lines by splicing, without building their texts.

A lane takes a record only when nothing about it has to be mended or dropped; every other one is left to the exact
way through `_layouts` and `_mend`. What a lane writes is what the exact way would have written, except that a
character which the source escapes (`\u00e9`) stays escaped: the JSON is the same, and nothing is copied twice.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable  # noqa: TC003 - NamedTuple fields
from io import BytesIO
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from nova_dpo_sdk.datasets import _lane_doubts as doubts
from nova_dpo_sdk.datasets import _lane_records as read
from nova_dpo_sdk.datasets import _lane_shapes as shapes
from nova_dpo_sdk.datasets._lane_frames import Frames
from nova_dpo_sdk.datasets._lane_partings import two_texts
from nova_dpo_sdk.datasets._lane_said import SYSTEM_USER, USER, Said, Text, spread
from nova_dpo_sdk.datasets._lane_transcripts import transcripts
from nova_dpo_sdk.datasets._rules import LIMITS
from nova_dpo_sdk.datasets._sources import plain
from nova_dpo_sdk.datasets._texts import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nova_dpo_sdk.datasets._sources import Block, Row


class Lane(NamedTuple):
    """How one layout is read fast.

    Attributes:
        shape: What its plain records look like.
        read: Takes records apart, and says which are plain after all.
        pairs: Whether its records have two answers.
        bare: Whether the texts come without their quotes.
        differ: Whether it takes only such pairs whose answers surely differ.
    """

    shape: type[Struct]
    read: Callable[[list[Any]], Said]
    pairs: bool = True
    bare: bool = False
    differ: bool = False


_SIDES = Lane(shapes.Sides, read.sides)
_TEXTS = Lane(shapes.Texts, read.fields(USER, "prompt", "chosen", "rejected"))
_LISTS = Lane(shapes.Lists, read.answered("prompt", "chosen", "rejected"))
_SCORED_LISTS = Lane(shapes.ScoredLists, read.each(read.scored_lists))

LANES: dict[str, tuple[Lane, ...]] = {
    "prompt-chosen-rejected": (
        _TEXTS,
        _LISTS,
        _SCORED_LISTS,
        _SIDES,
        Lane(shapes.SystemTexts, read.fields(SYSTEM_USER, "system", "prompt", "chosen", "rejected")),
    ),
    "chosen-rejected": (_SIDES, Lane(shapes.TwoTexts, two_texts, bare=True, differ=True)),
    "chosen-rejected-messages": (Lane(shapes.TwoLists, read.each(read.two_lists)),),
    "ultrafeedback": (_SIDES, _TEXTS, _LISTS, _SCORED_LISTS),
    "distilabel": (_SIDES, _TEXTS, _LISTS, _SCORED_LISTS),
    "hh-rlhf": (Lane(shapes.Transcripts, transcripts, bare=True),),
    "orca-pairs": (Lane(shapes.Orca, read.each(read.orca)),),
    "sharegpt-ranking": (Lane(shapes.Ranked, read.asked("conversations", "chosen.content", "rejected.content")),),
    "alpaca-ranking": (Lane(shapes.AlpacaRanked, read.each(read.alpaca_ranked)),),
    "openai-preference": (
        Lane(shapes.Preferred, read.answered("input.messages", "preferred_output", "non_preferred_output")),
    ),
    "when2call": (Lane(shapes.Responses, read.asked("messages", "chosen.content", "rejected.content")),),
    "rejected-response": (Lane(shapes.RejectedText, read.each(read.rejected_text)),),
    "rejected-message": (Lane(shapes.RejectedMessage, read.each(read.rejected_message)),),
    "rejected-messages": (Lane(shapes.RejectedMessages, read.each(read.rejected_messages)),),
    "helpsteer2": (Lane(shapes.HelpSteer2, read.each(read.helpsteer2)),),
    "helpsteer3": (Lane(shapes.HelpSteer3, read.helpsteer3),),
    "alpaca": (Lane(shapes.Alpaca, read.each(read.alpaca, answers=1), pairs=False),),
    "messages": (Lane(shapes.Messages, read.talks("messages"), pairs=False),),
    "sharegpt": (Lane(shapes.Conversations, read.talks("conversations"), pairs=False),),
    "prompt-completion": (
        Lane(shapes.Completion, read.fields(USER, "prompt", "completion"), pairs=False),
        Lane(shapes.Completions, read.each(read.completions, answers=1), pairs=False),
    ),
}
"""The fast lanes of each layout; the one that fits most of the first records is taken."""


class Piece(NamedTuple):
    """Rows in a row that were converted, or were not.

    Attributes:
        first: Where the first of them stands in its block.
        rows: How many there are.
        text: Their Nova lines, each with its newline; empty for rows that need the exact way.
    """

    first: int
    rows: int
    text: bytes | memoryview


class FastLane:
    """Converts what it can of a block; leaves the rest.

    Args:
        layout: The layout's name.
        kind: `preference` or `chat`.
    """

    def __init__(self, layout: str, kind: str) -> None:
        self._ways = [_Way(lane, pair=kind == "preference") for lane in LANES.get(layout, ())]
        self._way: _Way | None = None

    def convert(self, block: Block) -> list[Piece]:
        """The block in pieces, in the order of its rows."""
        rows = block.rows if block.is_text else [_as_json(row) for row in block.rows]
        way = self._chosen(rows)
        return way.pieces(rows) if way else [Piece(0, len(rows), b"")]

    def _chosen(self, rows: list[Row]) -> _Way | None:
        """The way that fits the first rows that any way fits."""
        if self._way is None and self._ways:
            fits = [way.fit(rows[:16]) for way in self._ways]
            self._way = self._ways[fits.index(max(fits))] if any(fits) else None
        return self._way


class _Way:
    """One lane, made ready for pairs or for conversations."""

    def __init__(self, lane: Lane, *, pair: bool) -> None:
        self._decode: Callable[[Row], Any] = msgspec.json.Decoder(lane.shape).decode
        self._read = lane.read
        self._frames = Frames(pair=pair, bare=lane.bare)
        self._has_twins = lane.pairs and pair and not lane.differ
        self._is_side = lane.pairs and not pair
        self._quoted: Callable[[Text], bytes] = b'"%b"'.__mod__ if lane.bare else bytes

    def fit(self, rows: list[Row]) -> int:
        """How many of the rows this way converts."""
        return sum(piece.rows for piece in self.pieces(rows) if piece.text)

    def pieces(self, rows: list[Row]) -> list[Piece]:
        """The lines of the rows, and where the exact way has to make them."""
        said, text = self._said(rows)
        spots, twins = self._suspicions(said, text)
        if all(said.fits) and not spots and not twins and len(text) < _LONGEST:
            return [Piece(0, len(rows), text)]
        ends = list(accumulate(map(len, self._lines(said, text))))
        doubtful = {*twins, *(bisect_right(ends, spot) for spot in spots)}
        if len(text) >= _LONGEST:
            doubtful.update(at for at, (start, end) in enumerate(pairwise([0, *ends])) if end - start >= _LONGEST)
        return _pieces(said.fits, text, ends, doubtful)

    def _said(self, rows: list[Row]) -> tuple[Said, bytes]:
        """What the rows say, and the lines of those that are plain."""
        if not _are_utf8(rows):  # fields that are skipped count as well
            rows = [row if is_utf8(bytes(row)) else b"" for row in rows]
        said = _read(self._decode, self._read, rows)
        if self._is_side:
            said = _one_side(said, self._quoted)
        try:
            return said, self._frames.around(said)
        except ValueError:  # there is no frame around turns that need mending
            said = said.only([bool(self._frames[roles]) for roles in said.orders])
            return said, self._frames.around(said)

    def _suspicions(self, said: Said, text: bytes) -> tuple[list[int], list[int]]:
        """Where the lines have something in them that the exact way has to look at, and which lines have twins."""
        found = doubts.find(text)
        spots = doubts.harmful(text, found)
        if not self._has_twins:
            return spots, []
        has_low = any(text.startswith(b"\\u00", start) for start in found)
        return spots, doubts.twins(said, doubts.sameness(text, has_low=has_low))

    def _lines(self, said: Said, text: bytes) -> list[bytes]:
        """The line of each record that is there."""
        lines = BytesIO(text).readlines()
        if len(lines) > len(said.orders):  # what should be a text is something that is spread over lines
            lines = [self._frames.around(one) for one in said.one_by_one()]
        return lines


def _pieces(fits: list[bool], text: bytes, ends: list[int], doubtful: set[int]) -> list[Piece]:
    """The pieces of a block.

    Args:
        fits: Of all rows, whether each was converted.
        text: The lines of those that were.
        ends: Where each of these lines ends.
        doubtful: Which of the lines are for the exact way after all.
    """
    rows = [row for row, fit in enumerate(fits) if fit]
    odd = sorted([*(row for row, fit in enumerate(fits) if not fit), *map(rows.__getitem__, doubtful)])
    starts, line, made, view = [0, *ends], 0, list[Piece](), memoryview(text)
    for first, last in pairwise([-1, *odd, len(fits)]):  # between two rows for the exact way, or the ends of the block
        count = last - first - 1
        if count:
            made.append(Piece(first + 1, count, view[starts[line] : starts[line + count]]))
            line += count
        if last == len(fits):
            break
        line += fits[last]
        if made and not made[-1].text:
            made[-1] = made[-1]._replace(rows=made[-1].rows + 1)
        else:
            made.append(Piece(last, 1, b""))
    return made


_LONGEST = LIMITS["line-bytes"].value


def _are_utf8(rows: list[Row]) -> bool:
    if isinstance(rows[0], bytes) and all(map(bytes.isascii, rows)):
        return True
    return is_utf8(b"".join(rows))


def _as_json(row: Any) -> bytes:
    """A mapping as JSON; nothing if that is not all of it, or if it is not certain that it is."""
    try:
        return json.dumps(row, ensure_ascii=False, default=plain).encode()
    except (TypeError, ValueError, RecursionError):
        return b""


def _read(decode: Callable[[Row], Any], read: Callable[[list[Any]], Said], rows: list[Row]) -> Said:
    """What the rows say, each of which the decoder may refuse."""
    records, rest = list[Any](), iter(rows)
    while not _all_added(records, map(decode, rest)):
        records.append(None)
    if all(records):
        return read(records)
    said = read(list(filter(None, records)))
    return said._replace(fits=spread([record is not None for record in records], said.fits))


def _all_added(records: list[Any], more: Iterator[Any]) -> bool:
    """Whether more records could be added, all of them; if not, those before the fault were."""
    try:
        records.extend(more)
    except _NOT_PLAIN:
        return False
    return True


_NOT_PLAIN = (msgspec.DecodeError, UnicodeError, RecursionError)


def _one_side(said: Said, quoted: Callable[[Text], bytes]) -> Said:
    """Pairs without the answers that are not preferred, which still have to be some."""
    speaks = [bool(doubts.says(quoted(text))) for text in said.last()]
    return (said if all(speaks) else said.only(speaks)).without_last()
