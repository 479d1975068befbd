"""Plain records taken apart one by one, in the layouts where that is the fastest way."""

from __future__ import annotations

from itertools import chain, compress
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Raw

from nova_dpo_sdk.datasets import _lane_shapes as shapes
from nova_dpo_sdk.datasets._lane_said import SYSTEM_USER, USER, Roles, Said, Text
from nova_dpo_sdk.datasets._mend import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Taken: TypeAlias = "tuple[Roles, Sequence[Text]]"
"""A record taken apart: the roles before the answer, and all texts."""

_EMPTY = Raw(b'""')
_ASSISTANT = frozenset(name for name, role in ROLES.items() if role == "assistant")

_LAST = {(name,) for name in _ASSISTANT}

_chosen = attrgetter("chosen")
_rejected = attrgetter("rejected")
_prompt = attrgetter("prompt")
_role = attrgetter("role")
_content = attrgetter("content")


def fields(roles: Roles, *names: str) -> Callable[[list[Any]], Said]:
    """Records that have each text in a field of its own."""
    columns = list(map(attrgetter, names))
    return lambda records: Said.in_columns(roles, [list(map(column, records)) for column in columns])


def each(read: Callable[[Any], Taken | None], answers: int = 2) -> Callable[[list[Any]], Said]:
    """Records that are read one by one; None for one that is not plain after all."""
    return lambda records: _said(list(map(read, records)), answers)


def _said(taken: list[Taken | None], answers: int = 2) -> Said:
    there = list(filter(None, taken))
    fits = [True] * len(taken) if len(there) == len(taken) else [each is not None for each in taken]
    return Said(fits, list(map(_roles, there)), list(chain.from_iterable(map(_texts, there))), answers)


_roles: Callable[[Taken], Roles] = itemgetter(0)
_texts: Callable[[Taken], Sequence[Text]] = itemgetter(1)


def asked(before: str, good: str, bad: str) -> Callable[[list[Any]], Said]:
    """Records with a conversation and two answers, each found under the name given."""
    talk, one, two = map(attrgetter, (before, good, bad))
    return lambda records: _with_answers(list(map(talk, records)), list(map(one, records)), list(map(two, records)))


def answered(before: str, good: str, bad: str) -> Callable[[list[Any]], Said]:
    """The same where each answer is a list of one message."""
    talk, one, two = map(attrgetter, (before, good, bad))

    def answers(side: Callable[[Any], tuple[shapes.Answer]], records: list[Any]) -> list[Text]:
        return list(map(_content, chain.from_iterable(map(side, records))))

    return lambda records: _with_answers(list(map(talk, records)), answers(one, records), answers(two, records))


def talks(name: str) -> Callable[[list[Any]], Said]:
    """Records with a conversation that the assistant ends."""
    said = attrgetter(name)

    def read(records: list[Any]) -> Said:
        whole = list(map(said, records))
        roles, columns = _in_columns(whole) or ((), [])
        if roles and roles[-1] in _ASSISTANT:
            return Said.in_columns(roles[:-1], columns)
        return _said(list(map(_talk, whole)), 1)

    return read


def _with_answers(said: list[list[shapes.Message]], good: list[Text], bad: list[Text]) -> Said:
    """What conversations and the two answers to each of them say."""
    even = _in_columns(said)
    if even is not None:
        roles, columns = even
        return Said.in_columns(roles, [*columns, good, bad])
    orders: list[Roles] = [tuple(map(_role, each)) for each in said]
    texts = [[*map(_content, each), one, two] for each, one, two in zip(said, good, bad, strict=True)]
    return Said([True] * len(said), orders, list(chain.from_iterable(texts)))


def _in_columns(said: list[list[shapes.Message]]) -> tuple[Roles, list[list[Text]]] | None:
    """The roles of conversations, and the texts of their first, second ... turns; None if their roles differ."""
    size = len(said[0]) if said else 0
    if list(map(len, said)).count(size) < len(said):
        return None
    spoken = list(chain.from_iterable(said))
    roles = list(map(_role, spoken))
    if roles != roles[:size] * len(said):
        return None
    texts = list(map(_content, spoken))
    return tuple(roles[:size]), [texts[place::size] for place in range(size)]


def _turns(said: Sequence[shapes.Message | shapes.Said], *answers: Text) -> Taken:
    return tuple(map(_role, said)), [*map(_content, said), *answers]


def _talk(said: Sequence[shapes.Message | shapes.Said]) -> Taken | None:
    """A conversation, if it is the assistant who ends it."""
    if not said:
        return None
    *roles, last = map(_role, said)
    return (tuple(roles), [*map(_content, said)]) if last in _ASSISTANT else None


def _two_talks(chosen: list[shapes.Message], rejected: list[shapes.Message]) -> Taken | None:
    """Two whole conversations that differ in the last answer only."""
    if not chosen or not rejected or chosen[:-1] != rejected[:-1]:
        return None
    taken = _talk(chosen)
    return (taken[0], [*taken[1], rejected[-1].content]) if taken and rejected[-1].role in _ASSISTANT else None


def orca(record: shapes.Orca) -> Taken | None:
    asked = record.question if record.input is shapes.ABSENT else record.input
    if asked is shapes.ABSENT or record.is_tie():
        return None
    return SYSTEM_USER, (record.system, asked, record.chosen, record.rejected)


def sides(records: list[shapes.Sides]) -> Said:
    """Two whole conversations, of which both may repeat the prompt."""
    return _even_sides(records) or _said(list(map(_sides, records)))


def _even_sides(records: list[shapes.Sides]) -> Said | None:
    """The same where all have one order; None if some have another, or there is anything else about one of them."""
    if len({len(record.chosen) for record in records[:_FEW]}) > 1:
        return None
    good, bad = _in_columns(list(map(_chosen, records))), _in_columns(list(map(_rejected, records)))
    if good is None or bad is None or any(map(shapes.Sides.is_tie, records)):
        return None
    (roles, texts), (others, rejected) = good, bad
    first = 1 if roles[:1] == ("system",) else 0
    prompts = list(map(_prompt, records))
    is_told = texts[first : first + 1] == [prompts] and roles[first] == "user"
    is_whole = is_told or prompts.count(shapes.ABSENT) == len(prompts)
    if not is_whole or roles != others or roles[-1:] not in _LAST or texts[:-1] != rejected[:-1]:
        return None
    return Said.in_columns(roles[:-1], [*texts, rejected[-1]])


_FEW = 8


def _sides(record: shapes.Sides) -> Taken | None:
    if record.is_tie():
        return None
    taken = _two_talks(record.chosen, record.rejected)
    if taken is None or record.prompt is shapes.ABSENT:
        return taken
    if not taken[0]:
        return USER, [record.prompt, *taken[1]]
    return taken if _begins(record.chosen, record.prompt) else None


def _begins(said: list[shapes.Message], prompt: Raw) -> bool:
    """Whether the messages repeat the prompt."""
    first = said[0] if said[0].role != "system" else said[1]
    return first.role == "user" and first.content == prompt


def scored_lists(record: shapes.ScoredLists) -> Taken | None:
    if record.is_tie():
        return None
    return _turns(record.prompt, record.chosen[0].content, record.rejected[0].content)


def two_lists(record: shapes.TwoLists) -> Taken | None:
    return _two_talks(record.chosen, record.rejected)


def rejected_text(record: shapes.RejectedText) -> Taken | None:
    taken = _talk(record.messages)
    return (taken[0], [*taken[1], record.rejected_response]) if taken else None


def rejected_message(record: shapes.RejectedMessage) -> Taken | None:
    taken = _talk(record.messages)
    return (taken[0], [*taken[1], record.rejected_message.content]) if taken else None


def rejected_messages(record: shapes.RejectedMessages) -> Taken | None:
    said, rejected = record.messages, record.rejected_messages
    if len(rejected) != 1:
        return _two_talks(said, rejected)
    taken = _talk(said) if rejected[0].role in _ASSISTANT else None
    return (taken[0], [*taken[1], rejected[0].content]) if taken else None


def helpsteer2(record: shapes.HelpSteer2) -> Taken | None:
    strength = record.preference_strength
    if strength == 0 or b"extra_id_1" in bytes(record.prompt):
        return None
    sides = (record.response_1, record.response_2)
    return USER, (record.prompt, *(sides if strength < 0 else sides[::-1]))


def helpsteer3(records: list[shapes.HelpSteer3]) -> Said:
    """A context and two answers, with a number that says which is preferred; none is where it is zero."""
    fits = [record.overall_preference != 0 for record in records]
    kept = records if all(fits) else list(compress(records, fits))
    is_first = [record.overall_preference < 0 for record in kept]
    good = [record.response1 if first else record.response2 for record, first in zip(kept, is_first, strict=True)]
    bad = [record.response2 if first else record.response1 for record, first in zip(kept, is_first, strict=True)]
    said = _with_answers([record.context for record in kept], list(good), list(bad))
    return said._replace(fits=fits)


def _instruction(record: shapes.Alpaca | shapes.AlpacaRanked, *answers: Text) -> Taken | None:
    asked: Text = record.instruction
    if record.input is not shapes.ABSENT and record.input != _EMPTY:
        extra = bytes(record.input)
        head = bytes(asked)
        if asked == _EMPTY or head[:1] != b'"' or extra[:1] != b'"':
            return None  # there is nothing to join, or one of them is no text
        asked = b"%b\\n%b" % (head[:-1], extra[1:])
    if record.system is shapes.ABSENT:
        return USER, (asked, *answers)
    return SYSTEM_USER, (record.system, asked, *answers)


def alpaca(record: shapes.Alpaca) -> Taken | None:
    return _instruction(record, record.output)


def alpaca_ranked(record: shapes.AlpacaRanked) -> Taken | None:
    return _instruction(record, record.chosen, record.rejected)


def completions(record: shapes.Completions) -> Taken | None:
    return _talk([*record.prompt, *record.completion])
