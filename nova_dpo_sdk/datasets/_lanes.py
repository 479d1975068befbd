r"""The fast lane: plain records of the usual layouts become Nova lines by splicing, without building their texts.

A lane takes a record only when nothing about it has to be mended or dropped; every other one is left to the exact
way through `_layouts` and `_mend`. What a lane writes is what the exact way would have written, except that a
character which the source escapes (`\u00e9`) stays escaped: the JSON is the same, and nothing is copied twice.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable  # noqa: TC003 - NamedTuple fields
from functools import cache
from io import BytesIO
from itertools import accumulate, chain, compress, count, groupby, repeat
from operator import attrgetter, contains, eq, getitem, itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from nova_dpo_sdk.datasets._mend import ROLES
from nova_dpo_sdk.datasets._rules import LIMITS, RESERVED_WORDS, SCHEMA_VERSION
from nova_dpo_sdk.datasets._search import finder
from nova_dpo_sdk.datasets._sources import plain
from nova_dpo_sdk.datasets._texts import is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nova_dpo_sdk.datasets._sources import Block, Row

Text: TypeAlias = "Raw | bytes"
"""A JSON string as it stands in the source, quotes and escapes included."""

Roles: TypeAlias = "tuple[str, ...]"
"""Who speaks before the answer, in the source's own words."""

Taken: TypeAlias = "tuple[Roles, Sequence[Text]]"
"""A record taken apart: the roles before the answer, and all texts; a pair has two answers at the end."""


class Lane(NamedTuple):
    """How one layout is read fast.

    Attributes:
        shape: What its plain records look like.
        read: Takes records apart; None for one that is not plain after all.
        pairs: Whether its records have two answers.
        bare: Whether the texts come without their quotes.
        differ: Whether it takes only such pairs whose answers surely differ.
    """

    shape: type[Struct]
    read: Callable[[list[Any]], list[Taken | None]]
    pairs: bool = True
    bare: bool = False
    differ: bool = False


_ABSENT = Raw(b"")
"""Stands for a field that the record does not have."""

# --- shapes: a field that needs care has a type that nothing fits, so that msgspec refuses the record ---------------

_Empty: TypeAlias = Annotated[list[int], Meta(max_length=0)]
_Role: TypeAlias = Literal["user", "human", "assistant", "gpt", "system"]
_Answerer: TypeAlias = Literal["assistant", "gpt"]


class _Base(Struct, gc=False):
    images: _Empty | None = None
    image: None = None
    videos: _Empty | None = None
    audios: _Empty | None = None
    tools: _Empty | None = None


class _Plain(_Base, gc=False):
    system: UnsetType = UNSET


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
    role: _Role
    content: Raw
    tool_calls: None = None
    function_call: None = None


class _Answer(Struct, gc=False):
    role: _Answerer
    content: Raw
    tool_calls: None = None
    function_call: None = None


class _Said(Struct, gc=False):
    role: _Role = msgspec.field(name="from")
    content: Raw = msgspec.field(name="value")
    other_role: UnsetType = msgspec.field(name="role", default=UNSET)
    other_content: UnsetType = msgspec.field(name="content", default=UNSET)
    tool_calls: None = None
    function_call: None = None


class _SaidAnswer(Struct, gc=False):
    role: _Answerer = msgspec.field(name="from")
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


class _SystemTexts(_Unscored, kw_only=True, gc=False):
    system: Raw
    prompt: Raw
    chosen: Raw
    rejected: Raw


class _TwoTexts(_Unscored, kw_only=True, gc=False):
    chosen: Raw
    rejected: Raw
    system: UnsetType = UNSET
    prompt: None = None
    input: None = None
    question: None = None


class _Transcripts(_Plain, kw_only=True, gc=False):
    chosen: Raw
    rejected: Raw


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


class _Lists(_Unscored, kw_only=True, gc=False):
    prompt: list[_Message]
    chosen: tuple[_Answer]
    rejected: tuple[_Answer]
    system: UnsetType = UNSET


class _ScoredLists(_Scored, kw_only=True, gc=False):
    prompt: list[_Message]
    chosen: tuple[_Answer]
    rejected: tuple[_Answer]
    system: UnsetType = UNSET


class _TwoLists(_Plain, kw_only=True, gc=False):
    chosen: list[_Message] = msgspec.field(name="chosen_messages")
    rejected: list[_Message] = msgspec.field(name="rejected_messages")


class _Ranked(_Unscored, kw_only=True, gc=False):
    conversations: list[_Said]
    chosen: _SaidAnswer
    rejected: _SaidAnswer
    system: UnsetType = UNSET


class _Asked(_Plain, kw_only=True, gc=False):
    messages: list[_Message]


class _Preferred(Struct, gc=False):
    input: _Asked
    preferred_output: tuple[_Answer]
    non_preferred_output: tuple[_Answer]


class _Responses(_Plain, kw_only=True, gc=False):
    messages: list[_Message]
    chosen: _Answer = msgspec.field(name="chosen_response")
    rejected: _Answer = msgspec.field(name="rejected_response")


class _RejectedText(_Plain, kw_only=True, gc=False):
    messages: list[_Message]
    rejected_response: Raw


class _RejectedMessage(_Plain, kw_only=True, gc=False):
    messages: list[_Message]
    rejected_message: _Answer


class _RejectedMessages(_Plain, kw_only=True, gc=False):
    messages: list[_Message]
    rejected_messages: list[_Message]


class _HelpSteer2(_Plain, kw_only=True, gc=False):
    prompt: Raw
    response_1: Raw
    response_2: Raw
    preference_strength: float


class _HelpSteer3(_Plain, kw_only=True, gc=False):
    context: list[_Message]
    response1: Raw
    response2: Raw
    overall_preference: float


class _Alpaca(_Base, kw_only=True, gc=False):
    instruction: Raw
    output: Raw
    input: Raw = _ABSENT
    history: _Empty = []
    system: Raw = _ABSENT


class _AlpacaRanked(_Unscored, kw_only=True, gc=False):
    instruction: Raw
    chosen: Raw
    rejected: Raw
    input: Raw = _ABSENT
    history: _Empty = []
    system: Raw = _ABSENT


class _Messages(_Plain, kw_only=True, gc=False):
    messages: list[_Message]


class _Conversations(_Plain, kw_only=True, gc=False):
    conversations: list[_Said]


class _Completion(_Plain, kw_only=True, gc=False):
    prompt: Raw
    completion: Raw


class _Completions(_Plain, kw_only=True, gc=False):
    prompt: list[_Message]
    completion: list[_Message]


# --- taking apart ---------------------------------------------------------------------------------------------------

_EMPTY = Raw(b'""')
_USER: Roles = ("user",)
_SYSTEM_USER: Roles = ("system", "user")
_ASSISTANT = frozenset(name for name, role in ROLES.items() if role == "assistant")

_role = attrgetter("role")
_content = attrgetter("content")


def _fields(roles: Roles, *names: str) -> Callable[[list[Any]], list[Taken | None]]:
    """Records that have each text in a field of its own."""
    texts = attrgetter(*names)
    return lambda records: [(roles, said) for said in map(texts, records)]


def _each(read: Callable[[Any], Taken | None]) -> Callable[[list[Any]], list[Taken | None]]:
    return lambda records: list(map(read, records))


def _asked(before: str, good: str, bad: str) -> Callable[[list[Any]], list[Taken | None]]:
    """Records with a conversation and two answers, each found under the name given."""
    said = attrgetter(before, good, bad)

    def read(records: list[Any]) -> list[Taken | None]:
        return [(tuple(map(_role, asked)), [*map(_content, asked), one, two]) for asked, one, two in map(said, records)]

    return read


def _answered(before: str, good: str, bad: str) -> Callable[[list[Any]], list[Taken | None]]:
    """The same where each answer is a list of one message."""
    said = attrgetter(before, good, bad)

    def read(records: list[Any]) -> list[Taken | None]:
        return [
            (tuple(map(_role, asked)), [*map(_content, asked), one.content, two.content])
            for asked, (one,), (two,) in map(said, records)
        ]

    return read


def _turns(said: Sequence[_Message | _Said], *answers: Text) -> Taken:
    return tuple(map(_role, said)), [*map(_content, said), *answers]


def _talk(said: Sequence[_Message | _Said]) -> Taken | None:
    """A conversation, if it is the assistant who ends it."""
    if not said:
        return None
    *roles, last = map(_role, said)
    return (tuple(roles), [*map(_content, said)]) if last in _ASSISTANT else None


def _two_talks(chosen: list[_Message], rejected: list[_Message]) -> Taken | None:
    """Two whole conversations that differ in the last answer only."""
    if not chosen or not rejected or chosen[:-1] != rejected[:-1]:
        return None
    taken = _talk(chosen)
    return (taken[0], [*taken[1], rejected[-1].content]) if taken and rejected[-1].role in _ASSISTANT else None


def _orca(record: _Orca) -> Taken | None:
    asked = record.question if record.input is _ABSENT else record.input
    return None if record.is_tie() else (_SYSTEM_USER, (record.system, asked, record.chosen, record.rejected))


def _sides(record: _Sides) -> Taken | None:
    if record.is_tie():
        return None
    taken = _two_talks(record.chosen, record.rejected)
    if taken is None or record.prompt is _ABSENT:
        return taken
    if not taken[0]:
        return _USER, [record.prompt, *taken[1]]
    return taken if _begins(record.chosen, record.prompt) else None


def _begins(said: list[_Message], prompt: Raw) -> bool:
    """Whether the messages repeat the prompt."""
    first = said[0] if said[0].role != "system" else said[1]
    return first.role == "user" and first.content == prompt


def _scored_lists(record: _ScoredLists) -> Taken | None:
    if record.is_tie():
        return None
    return _turns(record.prompt, record.chosen[0].content, record.rejected[0].content)


def _two_lists(record: _TwoLists) -> Taken | None:
    return _two_talks(record.chosen, record.rejected)


def _rejected_text(record: _RejectedText) -> Taken | None:
    taken = _talk(record.messages)
    return (taken[0], [*taken[1], record.rejected_response]) if taken else None


def _rejected_message(record: _RejectedMessage) -> Taken | None:
    taken = _talk(record.messages)
    return (taken[0], [*taken[1], record.rejected_message.content]) if taken else None


def _rejected_messages(record: _RejectedMessages) -> Taken | None:
    said, rejected = record.messages, record.rejected_messages
    if len(rejected) != 1:
        return _two_talks(said, rejected)
    taken = _talk(said) if rejected[0].role in _ASSISTANT else None
    return (taken[0], [*taken[1], rejected[0].content]) if taken else None


def _helpsteer2(record: _HelpSteer2) -> Taken | None:
    strength = record.preference_strength
    if strength == 0 or b"extra_id_1" in bytes(record.prompt):
        return None
    sides = (record.response_1, record.response_2)
    return _USER, (record.prompt, *(sides if strength < 0 else sides[::-1]))


def _helpsteer3(record: _HelpSteer3) -> Taken | None:
    strength = record.overall_preference
    if strength == 0:
        return None
    sides = (record.response1, record.response2)
    return _turns(record.context, *(sides if strength < 0 else sides[::-1]))


def _instruction(record: _Alpaca | _AlpacaRanked, *answers: Text) -> Taken | None:
    asked: Text = record.instruction
    if record.input is not _ABSENT and record.input != _EMPTY:
        extra = bytes(record.input)
        head = bytes(asked)
        if asked == _EMPTY or head[:1] != b'"' or extra[:1] != b'"':
            return None  # there is nothing to join, or one of them is no text
        asked = b"%b\\n%b" % (head[:-1], extra[1:])
    if record.system is _ABSENT:
        return _USER, (asked, *answers)
    return _SYSTEM_USER, (record.system, asked, *answers)


def _alpaca(record: _Alpaca) -> Taken | None:
    return _instruction(record, record.output)


def _alpaca_ranked(record: _AlpacaRanked) -> Taken | None:
    return _instruction(record, record.chosen, record.rejected)


def _messages(record: _Messages) -> Taken | None:
    return _talk(record.messages)


def _conversations(record: _Conversations) -> Taken | None:
    return _talk(record.conversations)


def _completions(record: _Completions) -> Taken | None:
    return _talk([*record.prompt, *record.completion])


_HUMAN_SAYS = b"\\n\\nHuman: "
_ANSWER_SAYS = b"\\n\\nAssistant: "

_chosen = attrgetter("chosen")
_rejected = attrgetter("rejected")


def _transcripts(records: list[_Transcripts]) -> list[Taken | None]:
    """Two texts with the names of the speakers in them, which differ after the last name only.

    A name in another place stays in a text, or leaves an empty one: both are suspicions.
    """
    made: list[Taken | None] = []
    for chosen, rejected in zip(map(bytes, map(_chosen, records)), map(bytes, map(_rejected, records)), strict=True):
        turns = chosen.rsplit(_HUMAN_SAYS)  # from the end, as the first byte of a name is rarer than its last
        said = list[bytes]()
        for turn in turns[1:]:
            said += turn.rpartition(_ANSWER_SAYS)
        end = len(chosen) - len(said[-1]) if said else 0
        if turns[0] != b'"' or not end or chosen[:end] != rejected[:end]:
            made.append(None)
            continue
        said[-1:] = (chosen[end:-1], rejected[end:-1])
        del said[1::3]
        made.append((_TALKS[len(turns) - 1], said))
    return made


class _Talks(dict[int, Roles]):
    """The roles of a conversation in which the user speaks so often, before the answer."""

    def __missing__(self, turns: int) -> Roles:
        roles = ("user", "assistant") * (turns - 1) + ("user",)
        if turns <= _OFTEN:
            self[turns] = roles
        return roles


_OFTEN = 64
_TALKS = _Talks()

_BLANKS = rb"(?:00[0-9aA]|1680|20(?:0|2[89fF]|5[fF])|3000)"  # beginnings of the code points of white space, and more

_OTHER_SPACE = re.compile(
    rb"\\(?:[nrtf]|u%b)|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2(?:\x80[\x80-\x8a\xa8\xa9\xaf]|\x81\x9f)|\xe3\x80\x80" % _BLANKS
).search
"""Finds what is, or may be, white space other than a blank: line ends and rare spaces are for the exact way."""

_QUOTE, _BACKSLASH = b'"\\'


def _two_texts(records: list[_TwoTexts]) -> list[Taken | None]:
    """Two texts that begin alike; what they share up to the last space is the prompt."""
    chosen, rejected = list(map(bytes, map(_chosen, records))), list(map(bytes, map(_rejected, records)))
    ends = _partings(chosen, rejected)
    cuts = list(map(bytes.rfind, chosen, repeat(b" "), repeat(0), ends))
    words = [one[cut : end + 1] for one, cut, end in zip(chosen, cuts, ends, strict=True)]
    if _OTHER_SPACE(b"".join(words)):
        cuts = [_at_line_end(word, cut) if _OTHER_SPACE(word) else cut for word, cut in zip(words, cuts, strict=True)]
    taken: list[Taken | None] = [
        (_USER, (one[1:cut], one[cut:-1], other[cut:-1]))
        for one, other, cut in zip(chosen, rejected, cuts, strict=True)
    ]
    if min(cuts, default=0) < 0 or bytes(map(_FIRST, chosen)).strip(b'"'):
        taken = [
            each if cut >= 0 and one[0] == _QUOTE else None for each, cut, one in zip(taken, cuts, chosen, strict=True)
        ]
    for at in _unsure(words, chosen, rejected, ends):
        taken[at] = None
    return taken


def _at_line_end(word: bytes, cut: int) -> int:
    """Where the last line end of a word stands, which begins at the cut; -1 if it is not sure that no space follows."""
    at = word.rfind(b"\\n", 0, -1)  # at the last byte the texts differ already
    is_sure = at > 0 and word[at - 1] != _BACKSLASH and not _OTHER_SPACE(word, at + 2)
    return cut + at if is_sure else -1


def _unsure(words: list[bytes], chosen: list[bytes], rejected: list[bytes], ends: list[int]) -> Iterator[int]:
    """Which texts are the same, or may be up to a later place than where their bytes part."""
    others = bytes(map(getitem, rejected, ends))
    if _QUOTE in others:
        yield from (at for at, byte in enumerate(others) if byte == _QUOTE and chosen[at] == rejected[at])
    escaped = set(compress(count(), map(contains, words, repeat(_BACKSLASH))))
    if _BACKSLASH in others:
        escaped.update(at for at, byte in enumerate(others) if byte == _BACKSLASH)
    for at in escaped:
        if _are_forms(words[at], others[at]) and _may_go_on(chosen[at], rejected[at], ends[at]):
            yield at


def _are_forms(word: bytes, other: int) -> bool:
    """Whether a character may be written in two ways where texts part: at the last byte of the word, and the other."""
    return _BACKSLASH in word[-2:] or other == _BACKSLASH or word[-1:].lower() == b"%c" % (other | _LOWER)


_LOWER = 0x20
_FIRST: Callable[[bytes], int] = itemgetter(0)


def _partings(ones: Sequence[bytes], others: Sequence[bytes]) -> list[int]:
    """Where each two texts begin to differ; at the latest at the last byte of the shorter one.

    Of the greater text, as bytes are ordered, those beginnings that end before this place are less than the other
    text, and all longer ones are not: a search by bisection finds it without a step in Python.
    """
    found, beginnings = list[int](), _beginnings()
    for each, its_other in zip(ones, others, strict=True):
        low, one, other = (0, each, its_other) if len(each) < _FAR else _narrowed(each, its_other)
        less, more = (one, other) if one < other else (other, one)
        found.append(low + bisect_left(beginnings, less, 1, len(one), key=more.__getitem__) - 1)
    return found


_FAR = 1 << 11


@cache
def _beginnings() -> list[slice]:
    return [slice(size) for size in range(_FAR)]


def _narrowed(one: bytes, other: bytes) -> tuple[int, bytes, bytes]:
    """A near part of two texts in which they begin to differ, and where it begins."""
    low, high = 0, min(len(one), len(other))
    while high - low >= _FAR:
        middle = (low + high) >> 1
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low, one[low:high], other[low:high]


_SIDES = Lane(_Sides, _each(_sides))
_TEXTS = Lane(_Texts, _fields(_USER, "prompt", "chosen", "rejected"))
_LISTS = Lane(_Lists, _answered("prompt", "chosen", "rejected"))
_SCORED_LISTS = Lane(_ScoredLists, _each(_scored_lists))

LANES: dict[str, tuple[Lane, ...]] = {
    "prompt-chosen-rejected": (
        _TEXTS,
        _LISTS,
        _SCORED_LISTS,
        _SIDES,
        Lane(_SystemTexts, _fields(_SYSTEM_USER, "system", "prompt", "chosen", "rejected")),
    ),
    "chosen-rejected": (_SIDES, Lane(_TwoTexts, _two_texts, bare=True, differ=True)),
    "chosen-rejected-messages": (Lane(_TwoLists, _each(_two_lists)),),
    "ultrafeedback": (_SIDES, _TEXTS, _LISTS, _SCORED_LISTS),
    "distilabel": (_SIDES, _TEXTS, _LISTS, _SCORED_LISTS),
    "hh-rlhf": (Lane(_Transcripts, _transcripts, bare=True),),
    "orca-pairs": (Lane(_Orca, _each(_orca)),),
    "sharegpt-ranking": (Lane(_Ranked, _asked("conversations", "chosen.content", "rejected.content")),),
    "alpaca-ranking": (Lane(_AlpacaRanked, _each(_alpaca_ranked)),),
    "openai-preference": (Lane(_Preferred, _answered("input.messages", "preferred_output", "non_preferred_output")),),
    "when2call": (Lane(_Responses, _asked("messages", "chosen.content", "rejected.content")),),
    "rejected-response": (Lane(_RejectedText, _each(_rejected_text)),),
    "rejected-message": (Lane(_RejectedMessage, _each(_rejected_message)),),
    "rejected-messages": (Lane(_RejectedMessages, _each(_rejected_messages)),),
    "helpsteer2": (Lane(_HelpSteer2, _each(_helpsteer2)),),
    "helpsteer3": (Lane(_HelpSteer3, _each(_helpsteer3)),),
    "alpaca": (Lane(_Alpaca, _each(_alpaca), pairs=False),),
    "messages": (Lane(_Messages, _each(_messages), pairs=False),),
    "sharegpt": (Lane(_Conversations, _each(_conversations), pairs=False),),
    "prompt-completion": (
        Lane(_Completion, _fields(_USER, "prompt", "completion"), pairs=False),
        Lane(_Completions, _each(_completions), pairs=False),
    ),
}
"""The fast lanes of each layout; the one that fits most of the first records is taken."""


# --- putting together -----------------------------------------------------------------------------------------------


_HEAD = b'{"schemaVersion":"%b",' % SCHEMA_VERSION.encode()
_TURNS = {
    "user": b'{"role":"user","content":[{"text":',
    "assistant": b'{"role":"assistant","content":[{"text":',
}
_PAIR = (
    b'{"role":"assistant","candidates":[{"content":[{"text":',
    b'}],"preferenceLabel":"preferred"},{"content":[{"text":',
    b'}],"preferenceLabel":"non-preferred"}]}]}\n',
)
_ANSWER = (_TURNS["assistant"], b"}]}]}\n")
_NEXT = b"}]},"
_FRAMES = 4096
"""Orders of turns that are remembered."""


class _Frames(dict[Roles, "list[Text]"]):
    """What stands around the texts of a record, with a gap after each piece; empty when its turns need mending.

    The end of the record before is part of the first piece.
    """

    def __init__(self, *, pair: bool, bare: bool) -> None:
        super().__init__()
        self._opening, *between, end = _PAIR if pair else _ANSWER
        self._between: Sequence[bytes] = between
        self._quote = b'"' if bare else b""
        self.end = self._quote + end

    def __missing__(self, roles: Roles) -> list[Text]:
        if len(self) >= _FRAMES:
            self.clear()
        frame = self[roles] = [part for piece in self._pieces(roles) for part in (piece + self._quote, b"")]
        return frame

    def _pieces(self, roles: Roles) -> list[bytes]:
        turns = [ROLES[role] for role in roles]
        system = turns[:1] == ["system"]
        talk = turns[system:]
        if len(talk) % 2 == 0 or talk != (["user", "assistant"] * len(talk))[: len(talk)]:
            return []
        first, *others = [_TURNS[turn] for turn in talk]
        first = b'"messages":[' + first
        head = [_HEAD + b'"system":[{"text":', b"}]," + first] if system else [_HEAD + first]
        pieces = [*head, *(_NEXT + other for other in others), _NEXT + self._opening, *self._between]
        return [self.end + pieces[0], *(self._quote + piece for piece in pieces[1:])]

    def around(self, taken: list[Taken | None]) -> bytes:
        """The lines of those records that are there, each with its newline.

        Raises:
            ValueError: One of them has no frame, so that there are more texts than gaps.
        """
        made = list(filter(None, taken))
        if not made:
            return b""
        parts = self._empty(list(map(_ROLES, made)))
        parts[1::2] = chain.from_iterable(map(_SPOKEN, made))
        parts[0] = parts[0][len(self.end) :]
        parts.append(self.end)
        return b"".join(parts)

    def _empty(self, orders: list[Roles]) -> list[Text]:
        """The frames of records one after the other; mostly all are the same."""
        if orders.count(orders[0]) == len(orders):
            return self[orders[0]] * len(orders)
        return list(chain.from_iterable(map(self.__getitem__, orders)))


_ROLES: Callable[[Taken], Roles] = itemgetter(0)
_SPOKEN: Callable[[Taken], Sequence[Text]] = itemgetter(1)


class Piece(NamedTuple):
    """Rows in a row that were converted, or were not.

    Attributes:
        first: Where the first of them stands in its block.
        rows: How many there are.
        text: Their Nova lines, each with its newline; empty for rows that need the exact way.
    """

    first: int
    rows: int
    text: bytes


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
        self._frames = _Frames(pair=pair, bare=lane.bare)
        self._has_twins = lane.pairs and pair and not lane.differ
        self._is_side = lane.pairs and not pair
        self._quoted: Callable[[Text], bytes] = b'"%b"'.__mod__ if lane.bare else bytes

    def fit(self, rows: list[Row]) -> int:
        """How many of the rows this way converts."""
        return sum(piece.rows for piece in self.pieces(rows) if piece.text)

    def pieces(self, rows: list[Row]) -> list[Piece]:
        """The lines of the rows, and where the exact way has to make them."""
        taken, text = self._taken(rows)
        spots, twins = self._suspicions(taken, text)
        if all(taken) and not spots and not twins and len(text) < _LONGEST:
            return [Piece(0, len(rows), text)]
        lines = self._lines(taken, text)
        ends = list(accumulate(map(len, lines)))
        for at in (*twins, *(bisect_right(ends, spot) for spot in spots)):
            lines[at] = b""
        return _pieces(taken, lines)

    def _taken(self, rows: list[Row]) -> tuple[list[Taken | None], bytes]:
        """The rows taken apart, None for each that needs the exact way; and the lines of the others."""
        taken = _taken(self._decode, self._read, rows)
        if not _are_utf8(rows):  # fields that are skipped count as well
            taken = [each if is_utf8(bytes(row)) else None for each, row in zip(taken, rows, strict=True)]
        if self._is_side:
            taken = [_one_side(each, self._quoted) if each else None for each in taken]
        try:
            return taken, self._frames.around(taken)
        except ValueError:  # there is no frame around turns that need mending
            taken = [each if each and self._frames[each[0]] else None for each in taken]
            return taken, self._frames.around(taken)

    def _suspicions(self, taken: list[Taken | None], text: bytes) -> tuple[list[int], list[int]]:
        """Where the lines have something in them that the exact way has to look at, and which lines have twins."""
        found = _find(text)
        spots = _harmful(text, found)
        if not self._has_twins:
            return spots, []
        has_low = any(text.startswith(b"\\u00", start) for start in found)
        return spots, _twins(taken, _sameness(text, has_low=has_low))

    def _lines(self, taken: list[Taken | None], text: bytes) -> list[bytes]:
        """The line of each record that is there."""
        made = list(filter(None, taken))
        lines = BytesIO(text).readlines()
        if len(lines) > len(made):  # what should be a text is something that is spread over lines
            lines = [self._frames.around([each]) for each in made]
        return lines


def _pieces(taken: list[Taken | None], lines: list[bytes]) -> list[Piece]:
    """The pieces of a block; a line that is empty is for the exact way.

    Args:
        taken: All records; None for those that are for the exact way.
        lines: The lines of the others.
    """
    line, made, first = iter(lines), list[Piece](), 0
    for is_plain, group in groupby([next(line) if each else b"" for each in taken], _is_short):
        run = list(group)
        made.append(Piece(first, len(run), b"".join(run) if is_plain else b""))
        first += len(run)
    return made


_LONGEST = LIMITS["line-bytes"].value


def _is_short(line: bytes) -> bool:
    return 0 < len(line) < _LONGEST


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


def _taken(
    decode: Callable[[Row], Any], read: Callable[[list[Any]], list[Taken | None]], rows: list[Row]
) -> list[Taken | None]:
    records, rest = list[Any](), iter(rows)
    while not _all_added(records, map(decode, rest)):
        records.append(None)
    if all(records):
        return read(records)
    made = iter(read(list(filter(None, records))))
    return [None if record is None else next(made) for record in records]


def _all_added(records: list[Any], more: Iterator[Any]) -> bool:
    """Whether more records could be added, all of them; if not, those before the fault were."""
    try:
        records.extend(more)
    except _NOT_PLAIN:
        return False
    return True


_NOT_PLAIN = (msgspec.DecodeError, UnicodeError, RecursionError)


def _one_side(taken: Taken, quoted: Callable[[Text], bytes]) -> Taken | None:
    """A pair without the answer that is not preferred, which still has to be one."""
    roles, said = taken
    return (roles, said[:-1]) if _says(quoted(said[-1])) else None


# --- what a text must not have in it --------------------------------------------------------------------------------


_SPACE = rb" \xc2\x85\xa0\xe1\x9a\x80-\x8a\xe2\xa8\xa9\xaf\x81\x9f\xe3"  # every byte that white space is made of
_SAID = rb'"(?:[%b]|\\[nrtf])*(?:[^"\\%b]|\\["\\b/]|\\u(?!%b))' % (_SPACE, _SPACE, _BLANKS)
_says = re.compile(_SAID).match
"""Whether JSON text is a string that is surely not blank: some character of it is no white space."""

_BEGIN = b'{"text":'
_MARKS = [word[1:-1].encode() for word in RESERVED_WORDS if word.startswith("<")]
_WIDE = (b'"', b"\xc2", b"\xe1", b"\xe2", b"\xe3")
_MAYBE_BLANK = [
    *_WIDE,
    *(b" " + start for start in (b" ", b"\\", *_WIDE)),
    *(b"\\" + start for start in (b"n", b"r", b"t", b"f", b"u0", b"u1", b"u2", b"u3")),
]
"""How a text begins that may have no character other than white space."""

_IN_TEXTS = [
    *(word.encode() for word in RESERVED_WORDS),
    *(b"<%b\\u003%b" % (mark, last) for mark in _MARKS for last in (b"e", b"E")),
    *(b"\\u00%d" % digit for digit in range(8)),  # an escaped letter may be one of a reserved word
    b"\\nHuman:",  # a turn that is still inside a text
    b'\\"' + _NEXT + b'{"',  # a text that a transcript cuts off after a backslash
]
_AT_BEGINNINGS = [
    *(_BEGIN + b'"' + start for start in _MAYBE_BLANK),
    *(_BEGIN + bytes([start]) for start in b"[{ntf-0123456789"),  # no text at all
]

_find_inside = finder(_IN_TEXTS)
_find_beginnings = finder(_AT_BEGINNINGS)


def _find(text: bytes) -> list[int]:
    """Where something stands in lines that is suspicious: two searches for half of it take half of the time of one."""
    return _find_inside(text) + _find_beginnings(text)


_HARMLESS = re.compile(
    rb'\\u00(?:2[267bB]|3[dDeE]|3[cC](?!%b)|60|7[fF])|%b%b|(?<=[^\\]\\)\\"'
    % (b"|".join(_MARKS), re.escape(_BEGIN), _SAID)
).match
"""Whether what looks suspicious is not: an escape that is in no reserved word, a text that says something, or one that
ends with an escaped backslash.
"""

_escapes = finder([b"\\u"])
_slashes = finder([b"\\/"])
_LOOK = 1 << 9


def _harmful(text: bytes, found: list[int]) -> list[int]:
    """Where something stands that may be a reserved word, a blank text, or no text."""
    return [start for start in found if not _HARMLESS(text, start)]


def _sameness(text: bytes, *, has_low: bool) -> Callable[[Any, Any], bool]:
    """How two answers in these lines are compared: one character may be written in several ways."""
    if b"\\" not in text:
        return eq
    has_slashes = b"/" in text and bool(_slashes(text))
    # Where there are escapes, they are near; finding all of them would take long.
    if not has_slashes and not _escapes(text[:_LOOK]) and not _escapes(text):
        return eq
    return _differ_in_capitals if text.isascii() and not has_slashes and not has_low else _may_be_same


def _twins(taken: list[Taken | None], same: Callable[[Any, Any], bool]) -> list[int]:
    """Which pairs, of those that are there, have answers that are the same, or may be."""
    said = list(map(_SPOKEN, filter(None, taken)))
    return list(compress(range(len(said)), map(same, map(_GOOD, said), map(_BAD, said))))


_GOOD, _BAD = itemgetter(-2), itemgetter(-1)


def _differ_in_capitals(good: Text, bad: Text) -> bool:
    return len(good) == len(bad) and bytes(good).lower() == bytes(bad).lower()


def _may_be_same(good: Text, bad: Text) -> bool:
    """Whether two texts are the same, or part at a character that can be written in several ways."""
    one, other = bytes(good), bytes(bad)
    if one == other or not one or not other:
        return True
    return _may_go_on(one, other, *_partings([one], [other]))


def _may_go_on(one: bytes, other: bytes, at: int) -> bool:
    """Whether two texts may say the same at the byte where they part, because a character has several forms."""
    escape = one.rfind(b"\\u", max(0, at - 5), at)
    if escape >= 0:
        return one[escape : escape + 6].lower() == other[escape : escape + 6].lower()
    for escaped, bare in ((one, other), (other, one)):
        if escaped[at : at + 2] == b"\\u" and b"\\" not in bare[at - 1 : at + 1] and bare[at : at + 1].isascii():
            return escaped[at + 2 : at + 6].lower() == b"00" + bare[at : at + 1].hex().encode()
    near = (one[at - 1 : at + 2], other[at - 1 : at + 2])
    return any(form in each for each in near for form in (b"\\u", b"\\/"))
