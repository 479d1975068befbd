"""The fast lane: plain records of the usual layouts become Nova lines by splicing, without building their texts.

A lane takes a record only when nothing about it has to be mended or dropped; every other one is left to the exact
way through `_layouts` and `_mend`. What a lane writes is, byte for byte, what the exact way would have written.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence  # noqa: TC003 - NamedTuple fields
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from nova_dpo_sdk.datasets._mend import ROLES
from nova_dpo_sdk.datasets._rules import LIMITS, RESERVED_WORDS, SCHEMA_VERSION

if TYPE_CHECKING:
    from nova_dpo_sdk.datasets._sources import Block, Row

Text: TypeAlias = "Raw | bytes"
"""A JSON string as it stands in the source, quotes and escapes included."""

Roles: TypeAlias = "tuple[str, ...]"
Read: TypeAlias = "Callable[[Any, bool], tuple[Roles, list[Text]] | None]"


class Lane(NamedTuple):
    """How one layout is read fast.

    Attributes:
        shape: What its plain records look like.
        read: Takes one apart: who speaks before the answer, and all texts with the answers at the end; both answers
            if the second argument is true, else the chosen one. None for a record that is not plain after all.
    """

    shape: type[Struct]
    read: Read


_ABSENT = Raw(b"")
"""Stands for a field that the record does not have."""

# --- shapes: a field that needs care has a type that nothing fits, so that msgspec refuses the record ---------------


class _Base(Struct, gc=False):
    images: None = None
    image: None = None
    videos: None = None
    audios: None = None
    tools: None = None


class _Scored(_Base, gc=False):
    status: Literal["unchanged", "swapped"] | None = None
    score_chosen: float | None = None
    score_rejected: float | None = None
    chosen_score: float | None = None
    rejected_score: float | None = None
    chosen_rating: float | None = None
    rejected_rating: float | None = None

    def is_tie(self) -> bool:
        """Whether two scores are the same."""
        return (
            (self.score_chosen is not None and self.score_chosen == self.score_rejected)
            or (self.chosen_score is not None and self.chosen_score == self.rejected_score)
            or (self.chosen_rating is not None and self.chosen_rating == self.rejected_rating)
        )


class _Unscored(_Base, gc=False):
    status: None = None
    score_chosen: None = None
    chosen_score: None = None
    chosen_rating: None = None


class _Message(Struct, gc=False):
    role: str
    content: Raw
    tool_calls: None = None
    function_call: None = None


class _Said(Struct, gc=False):
    role: str = msgspec.field(name="from")
    content: Raw = msgspec.field(name="value")
    other_role: UnsetType = msgspec.field(name="role", default=UNSET)
    other_content: UnsetType = msgspec.field(name="content", default=UNSET)
    tool_calls: None = None
    function_call: None = None


class _Texts(_Unscored, kw_only=True, gc=False):
    prompt: Raw
    chosen: Raw
    rejected: Raw
    system: UnsetType = UNSET


class _Transcripts(_Base, kw_only=True, gc=False):
    chosen: Raw
    rejected: Raw
    system: UnsetType = UNSET


class _Orca(_Scored, kw_only=True, gc=False):
    system: Raw
    chosen: Raw
    rejected: Raw
    prompt: None = None
    input: Raw = _ABSENT
    question: Raw = _ABSENT


class _Sides(_Scored, kw_only=True, gc=False):
    chosen: list[_Message]
    rejected: list[_Message]
    prompt: Raw = _ABSENT
    input: None = None
    question: None = None
    system: UnsetType = UNSET


class _Ranked(_Unscored, kw_only=True, gc=False):
    conversations: list[_Said]
    chosen: _Said
    rejected: _Said
    system: UnsetType = UNSET


class _Alpaca(_Base, kw_only=True, gc=False):
    instruction: Raw
    output: Raw
    input: Raw = _ABSENT
    history: Annotated[list[int], Meta(max_length=0)] = []
    system: Raw = _ABSENT


class _AlpacaRanked(_Unscored, kw_only=True, gc=False):
    instruction: Raw
    chosen: Raw
    rejected: Raw
    input: Raw = _ABSENT
    history: Annotated[list[int], Meta(max_length=0)] = []
    system: Raw = _ABSENT


class _Messages(_Base, kw_only=True, gc=False):
    messages: list[_Message]
    system: UnsetType = UNSET


class _Conversations(_Base, kw_only=True, gc=False):
    conversations: list[_Said]
    system: UnsetType = UNSET


# --- taking apart ---------------------------------------------------------------------------------------------------

_EMPTY = Raw(b'""')
_USER: Roles = ("user",)
_SYSTEM_USER: Roles = ("system", "user")


def _answers(
    roles: Roles, texts: list[Text], chosen: Raw, rejected: Raw, pair: bool
) -> tuple[Roles, list[Text]] | None:
    """The texts with the answers after them; None when the answers are the same, or the unused one is none."""
    if not pair:
        return (roles, [*texts, chosen]) if _says(rejected) else None
    return (roles, [*texts, chosen, rejected]) if chosen != rejected else None


def _texts(record: _Texts, pair: bool) -> tuple[Roles, list[Text]] | None:
    return _answers(_USER, [record.prompt], record.chosen, record.rejected, pair)


def _orca(record: _Orca, pair: bool) -> tuple[Roles, list[Text]] | None:
    asked = record.question if record.input is _ABSENT else record.input
    if record.is_tie():
        return None
    return _answers(_SYSTEM_USER, [record.system, asked], record.chosen, record.rejected, pair)


def _sides(record: _Sides, pair: bool) -> tuple[Roles, list[Text]] | None:
    chosen, rejected = record.chosen, record.rejected
    if not chosen or not rejected or chosen[:-1] != rejected[:-1] or record.is_tie():
        return None
    *before, good = chosen
    if not _is_answer(good) or not _is_answer(rejected[-1]):
        return None
    if record.prompt is not _ABSENT and before and not _begins(before, record.prompt):
        return None
    alone = not before and record.prompt is not _ABSENT
    roles = _USER if alone else tuple([said.role for said in before])
    texts: list[Text] = [record.prompt] if alone else [said.content for said in before]
    return _answers(roles, texts, good.content, rejected[-1].content, pair)


def _begins(before: list[_Message], prompt: Raw) -> bool:
    """Whether the messages repeat the prompt."""
    first = before[0] if before[0].role != "system" else before[1] if len(before) > 1 else None
    return first is not None and first.role == "user" and first.content == prompt


def _is_answer(said: _Message | _Said) -> bool:
    return ROLES.get(said.role) == "assistant"


def _ranked(record: _Ranked, pair: bool) -> tuple[Roles, list[Text]] | None:
    if not _is_answer(record.chosen) or not _is_answer(record.rejected):
        return None
    roles = tuple([said.role for said in record.conversations])
    texts: list[Text] = [said.content for said in record.conversations]
    return _answers(roles, texts, record.chosen.content, record.rejected.content, pair)


def _instruction(record: _Alpaca | _AlpacaRanked) -> tuple[Roles, list[Text]] | None:
    asked: Text = record.instruction
    if record.input is not _ABSENT and record.input != _EMPTY:
        extra = bytes(record.input)
        if asked == _EMPTY or extra[:1] != b'"':
            return None
        asked = b"%b\\n%b" % (bytes(asked)[:-1], extra[1:])
    return (_USER, [asked]) if record.system is _ABSENT else (_SYSTEM_USER, [record.system, asked])


def _alpaca(record: _Alpaca, pair: bool) -> tuple[Roles, list[Text]] | None:  # noqa: ARG001 - a conversation has one answer
    asked = _instruction(record)
    return (asked[0], [*asked[1], record.output]) if asked else None


def _alpaca_ranked(record: _AlpacaRanked, pair: bool) -> tuple[Roles, list[Text]] | None:
    asked = _instruction(record)
    return _answers(*asked, record.chosen, record.rejected, pair) if asked else None


def _talk(said: Sequence[_Message | _Said]) -> tuple[Roles, list[Text]] | None:
    if not said or not _is_answer(said[-1]):
        return None
    return tuple([one.role for one in said[:-1]]), [one.content for one in said]


def _messages(record: _Messages, pair: bool) -> tuple[Roles, list[Text]] | None:  # noqa: ARG001 - the same
    return _talk(record.messages)


def _conversations(record: _Conversations, pair: bool) -> tuple[Roles, list[Text]] | None:  # noqa: ARG001 - the same
    return _talk(record.conversations)


_SPLIT = re.compile(rb"\\n\\n(Human|Assistant):(?: |(?=\\n)|\Z)")
_NAMES = {b"Human": "user", b"Assistant": "assistant"}


def _transcripts(record: _Transcripts, pair: bool) -> tuple[Roles, list[Text]] | None:
    chosen, rejected = bytes(record.chosen), bytes(record.rejected)
    if b"\\\\" in chosen or b"\\\\" in rejected:  # where escapes are escaped, only decoding tells which is which
        return None
    start, *said = _SPLIT.split(chosen[1:-1])
    *before, answer = _SPLIT.split(rejected[1:-1])
    if start or [start, *said[:-1]] != before or said[-2:-1] != [b"Assistant"]:
        return None
    roles = tuple([_NAMES[name] for name in said[:-2:2]])
    texts: list[Text] = [b'"%b"' % text for text in said[1:-1:2]]
    return _answers(roles, texts, Raw(b'"%b"' % said[-1]), Raw(b'"%b"' % answer), pair)


LANES: dict[str, tuple[Lane, ...]] = {
    "prompt-chosen-rejected": (Lane(_Texts, _texts), Lane(_Sides, _sides)),
    "chosen-rejected": (Lane(_Sides, _sides),),
    "ultrafeedback": (Lane(_Sides, _sides), Lane(_Texts, _texts)),
    "distilabel": (Lane(_Sides, _sides), Lane(_Texts, _texts)),
    "hh-rlhf": (Lane(_Transcripts, _transcripts),),
    "orca-pairs": (Lane(_Orca, _orca),),
    "sharegpt-ranking": (Lane(_Ranked, _ranked),),
    "alpaca-ranking": (Lane(_AlpacaRanked, _alpaca_ranked),),
    "alpaca": (Lane(_Alpaca, _alpaca),),
    "messages": (Lane(_Messages, _messages),),
    "sharegpt": (Lane(_Conversations, _conversations),),
}
"""The fast lanes of each layout; the one that fits its first record is taken."""


# --- putting together -----------------------------------------------------------------------------------------------


_SPACE = rb" \xc2\x85\xa0\xe1\x9a\x80-\x8a\xe2\xa8\xa9\xaf\x81\x9f\xe3"  # every byte that white space is made of
_SAID = rb'"(?:[%b]|\\[nrtf])*(?:[^"\\%b]|\\["\\b/u])' % (_SPACE, _SPACE)
_says = re.compile(_SAID).match
"""Whether JSON text is a string that is surely not blank: some byte of it is in no white space."""

_HEAD = b'{"schemaVersion":"%b",' % SCHEMA_VERSION.encode()
_TURNS = {
    "user": b'{"role":"user","content":[{"text":',
    "assistant": b'{"role":"assistant","content":[{"text":',
}
_PAIR = (
    b'{"role":"assistant","candidates":[{"content":[{"text":',
    b'}],"preferenceLabel":"preferred"},{"content":[{"text":',
    b'}],"preferenceLabel":"non-preferred"}]}]}',
)
_ANSWER = (_TURNS["assistant"], b"}]}]}")
_NEXT = b"}]},"


@lru_cache(maxsize=4096)
def _frame(roles: Roles, pair: bool) -> list[Text] | None:
    """What stands around the texts of a record, with gaps for them; None when its turns need mending."""
    turns = [ROLES.get(role.lower(), "") for role in roles]
    system = turns[:1] == ["system"]
    talk = turns[system:]
    if len(talk) % 2 == 0 or talk != (["user", "assistant"] * len(talk))[: len(talk)]:
        return None
    first, *others = [_TURNS[turn] for turn in talk]
    first = b'"messages":[' + first
    head = [_HEAD + b'"system":[{"text":', b"}]," + first] if system else [_HEAD + first]
    opening, *closing = _PAIR if pair else _ANSWER
    pieces = [*head, *(_NEXT + other for other in others), _NEXT + opening, *closing]
    return [part for piece in pieces[:-1] for part in (piece, b"")] + pieces[-1:]


def _splice(row: Row, decode: Callable[[Row], Any], read: Read, pair: bool) -> bytes | None:
    try:
        taken = read(decode(row), pair)
    except _NOT_PLAIN:
        return None
    frame = _frame(taken[0], pair) if taken is not None else None
    if taken is None or frame is None:
        return None
    parts = frame.copy()
    parts[1::2] = taken[1]
    return b"".join(parts)


_NOT_PLAIN = (msgspec.DecodeError, UnicodeError, RecursionError)


# --- whole blocks ---------------------------------------------------------------------------------------------------


class FastLane:
    """Converts what it can of a block; leaves the rest.

    Args:
        layout: The layout's name.
        kind: `preference` or `chat`.
    """

    def __init__(self, layout: str, kind: str) -> None:
        self._pair = kind == "preference"
        self._lanes = [(msgspec.json.Decoder(lane.shape).decode, lane.read) for lane in LANES.get(layout, ())]
        self._lane: tuple[Callable[[Row], Any], Read] | None = None

    def convert(self, block: Block) -> tuple[list[bytes | None], bytes]:
        """The Nova line of each row, None for a row that needs the exact way; and the lines as one text.

        The text is empty when there is such a row.
        """
        rows, pair = block.rows, self._pair
        lane = self._chosen(rows) if block.is_text else None
        if lane is None:
            return [None] * len(rows), b""
        lines = [_splice(row, *lane, pair) for row in rows]
        text = _joined(lines)
        if _ESCAPE.search(text):
            self._unescape(lines, rows, *lane)
            text = _joined(lines)
        if spots := _spots(text):
            _remove(lines, spots)
            return lines, b""
        return lines, b"" if None in lines else text

    def _unescape(self, lines: list[bytes | None], rows: list[Row], decode: Callable[[Row], Any], read: Read) -> None:
        """Make the lines again that are escaped in another way than ours, from rows written in our way."""
        for at, line in enumerate(lines):
            if line is None or not _ESCAPE.search(line):
                continue
            plain = _rewritten(rows[at])
            again = _splice(plain, decode, read, self._pair) if plain is not None else None
            lines[at] = None if again is None or _ESCAPE.search(again) else again

    def _chosen(self, rows: list[Row]) -> tuple[Callable[[Row], Any], Read] | None:
        """The lane that fits the first rows that any lane fits."""
        if self._lane is None and self._lanes:
            fits = [sum(_splice(row, *lane, self._pair) is not None for row in rows[:16]) for lane in self._lanes]
            self._lane = self._lanes[fits.index(max(fits))] if any(fits) else None
        return self._lane


def _joined(lines: list[bytes | None]) -> bytes:
    return b"\n".join([line for line in lines if line is not None])


def _rewritten(row: Row) -> bytes | None:
    try:
        return msgspec.json.encode(msgspec.json.decode(row))
    except _NOT_PLAIN:
        return None


# --- what a line must not have in it --------------------------------------------------------------------------------


_SPEAKERS = [word.encode() for word in RESERVED_WORDS if word.endswith(":")]
_MARKS = [word.encode() for word in RESERVED_WORDS if word.startswith("<")]
_OTHERS = [word.encode() for word in RESERVED_WORDS if not word.endswith(":") and not word.startswith("<")]
_LAST = b"".join(sorted({word[-2:-1] for word in _SPEAKERS}))

# Each looks for one rare byte, and only where it stands, at what is around it: many times faster than an alternation.
_SPEAKER = re.compile(rb":(?<=[%b]:)(?:%b)" % (_LAST, b"|".join(b"(?<=%b)" % re.escape(word) for word in _SPEAKERS)))
_MARK = re.compile(rb"<(?:%b)" % b"|".join(re.escape(word[1:]) for word in _MARKS))
_BRACKET = re.compile(rb'\[(?=%b|\{"text":(?!%b))' % (b"|".join(re.escape(word[1:]) for word in _OTHERS), _SAID))
_ESCAPE = re.compile(rb"\\[u/]")
_PIECE = 1 << 16
_EVERYWHERE = -1
_LONGEST = LIMITS["line-bytes"].value


def _spots(text: bytes) -> list[int]:
    """Where something stands that the exact way has to look at."""
    spots = [match.start() for pattern in (_SPEAKER, _BRACKET) for match in pattern.finditer(text)]
    if b"<" in text:
        spots += [match.start() for match in _MARK.finditer(text)]
    return spots if len(text) < _LONGEST and _is_utf8(text) else [*spots, _EVERYWHERE]


def _is_utf8(text: bytes) -> bool:
    """Decoded in pieces, because what does not fit the processor's cache is decoded at half the speed."""
    if text.isascii():
        return True
    view, at = memoryview(text), 0
    try:
        while at < len(text):
            piece = view[at : at + _PIECE]
            _, used = codecs.utf_8_decode(piece, "strict", at + _PIECE >= len(text))
            at += used
    except UnicodeDecodeError:
        return False
    return True


def _remove(lines: list[bytes | None], spots: list[int]) -> None:
    """Leave the lines in which there are spots to the exact way."""
    made = [at for at, line in enumerate(lines) if line is not None]
    ends = list(accumulate(len(lines[at] or b"") + 1 for at in made))
    hit = {made[bisect_right(ends, spot)] for spot in spots if spot != _EVERYWHERE}
    for at in made if _EVERYWHERE in spots else hit:
        if _spots(lines[at] or b""):
            lines[at] = None
