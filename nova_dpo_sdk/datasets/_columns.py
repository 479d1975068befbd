"""Records in which every turn is one text: their texts as columns, which later steps run over in one go each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from msgspec import UNSET

from nova_dpo_sdk.datasets import _facts
from nova_dpo_sdk.datasets._harvest import Harvest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from nova_dpo_sdk.datasets._shapes import PlainChat, PlainPair

# The loops are long on purpose: a call for each turn would show. A key that a turn should not have, such as content
# beside candidates, is not looked for: whoever decoded the records notices that there is more than what is taken here.

_ODD = (ValueError, TypeError, IndexError)
_OTHER = {"user": "assistant", "assistant": "user"}


def pair_columns(records: Sequence[PlainPair], rows: Sequence[int]) -> Harvest:
    """The harvest of preference records; what is odd about turns or labels makes a record doubtful."""
    found = Harvest(rows=rows)
    prompts: list[Any] = found.prompts
    add_prompt, add_count = prompts.append, found.counts.append
    add_first, add_second = found.firsts.append, found.seconds.append
    odd: list[int] = []
    for place, record in enumerate(records):
        # As any values: a turn without content is odd, and told by what is raised here.
        turns, held = cast("list[Any]", record.messages), len(prompts)
        try:
            if len(turns) == 2:
                turn, last = turns
                if turn.role != "user" or last.role == "user":
                    raise ValueError
                add_prompt(turn.content[0].text)
            else:
                last = _add_prompts(turns, prompts)
            first, second = last.candidates
            if first.label == second.label:
                raise ValueError
        except _ODD:
            del prompts[held:]
            odd.append(place)
            continue
        if first.label != "preferred":
            first, second = second, first
        add_first(first.content[0].text)
        add_second(second.content[0].text)
        add_count(len(turns) - 1)
    return _finished(found, records, odd)


def _add_prompts(turns: list[Any], prompts: list[Any]) -> Any:
    """Add the texts of all turns but the last; the last.

    Raises:
        ValueError, TypeError, IndexError: The turns do not go from the user's to the assistant's, or have no text.
    """
    role = "user"
    *before, last = turns
    for turn in before:
        if turn.role != role:
            raise ValueError
        prompts.append(turn.content[0].text)
        role = _OTHER[role]
    if role == "user" or last.role == "user":
        raise ValueError
    return last


def chat_columns(records: Sequence[PlainChat], rows: Sequence[int]) -> Harvest:
    """The harvest of chats; what is odd about turns makes a record doubtful."""
    found = Harvest(rows=rows)
    prompts: list[Any] = found.prompts
    firsts: list[Any] = found.firsts
    odd: list[int] = []
    for place, record in enumerate(records):
        held = len(prompts)
        try:
            last = _add_prompts(cast("list[Any]", record.messages), prompts)
        except _ODD:
            del prompts[held:]
            odd.append(place)
            continue
        firsts.append(last.content[0].text)
        found.counts.append(len(prompts) - held)
    return _finished(found, records, odd)


def _finished(found: Harvest, records: Sequence[PlainPair | PlainChat], odd: list[int]) -> Harvest:
    """Add the systems."""
    systems = [record.system for record in records]
    if odd:
        places = set(odd)
        found.doubtful = [row for place, row in enumerate(found.rows) if place in places]
        found.rows = [row for place, row in enumerate(found.rows) if place not in places]
        systems = [system for place, system in enumerate(systems) if place not in places]
    without = systems.count(UNSET)
    found.features = [_facts.SYSTEM] * len(systems)
    if without == len(systems):
        found.features = [0] * len(systems)
    elif without:
        found.features = [0 if system is UNSET else _facts.SYSTEM for system in systems]
    if without < len(systems):
        found.systems = _copied([system[0].text for system in systems if system is not UNSET])
    if found.systems and without:
        given = iter(found.systems)
        found.systems = [b"" if system is UNSET else next(given) for system in systems]
    return found


def _copied(texts: list[Raw]) -> list[bytes]:
    """System texts copied out of the block; most often, all are the same."""
    first = bytes(texts[0])
    if b"\n".join(texts) == b"\n".join([first] * len(texts)):
        return [first] * len(texts)
    return list(map(bytes, texts))
