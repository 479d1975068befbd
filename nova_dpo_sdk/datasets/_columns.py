"""Records in which every turn is one text: their texts as columns, which later steps run over in one go each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from nova_dpo_sdk.datasets import _facts
from nova_dpo_sdk.datasets._harvest import Harvest
from nova_dpo_sdk.datasets._rules import NEXT_ROLE
from nova_dpo_sdk.datasets._shapes import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from nova_dpo_sdk.datasets._shapes import PlainChat, PlainPair

# The loops are long on purpose: a call for each turn would show. A key that a turn should not have, such as content
# beside candidates, is not looked for: whoever decoded the records notices that there is more than what is taken here.

_ODD = (ValueError, TypeError, IndexError)


def pair_columns(records: Sequence[PlainPair], rows: Sequence[int]) -> Harvest:
    """The harvest of preference records; what is odd about turns or labels makes a record doubtful."""
    found = Harvest(rows=rows)
    prompts: list[Any] = found.prompts
    add_prompt, add_count = prompts.append, found.counts.append
    add_first, add_second = found.firsts.append, found.seconds.append
    odd: list[int] = []
    for place, record in enumerate(records):
        # As any values: a turn without content is odd, and told by what is raised here.
        turns = cast("list[Any]", record.messages)
        try:
            if len(turns) == 2:
                turn, last = turns
                (first, second), count = last.candidates, 1
                if turn.role != "user" or last.role == "user" or first.label == second.label:
                    raise ValueError
                add_prompt(turn.content[0].text)
            else:
                (first, second), count = turns[-1].candidates, len(turns) - 1
                if first.label == second.label:
                    raise ValueError
                _add_prompts(turns, prompts)
        except _ODD:
            del prompts[sum(found.counts) :]
            odd.append(place)
            continue
        if first.label != "preferred":
            first, second = second, first
        add_first(first.content[0].text)
        add_second(second.content[0].text)
        add_count(count)
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
        role = NEXT_ROLE[role]
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
    """Add the systems; a record with an odd one becomes doubtful."""
    systems = [record.system for record in records]
    if odd:
        places = set(odd)
        found.doubtful = [row for place, row in enumerate(found.rows) if place in places]
        found.rows = [row for place, row in enumerate(found.rows) if place not in places]
        systems = [system for place, system in enumerate(systems) if place not in places]
    found.plain = len(found.rows)
    if not _take_same_system(found, systems):
        _take_systems(found, list(map(_system_text, map(bytes, systems))))
    return found


def _take_same_system(found: Harvest, systems: list[Raw]) -> bool:
    """Add the systems, if all are the same text or there are none, as nearly always."""
    first, count = bytes(systems[0]) if systems else b"", len(systems)
    if b"\n".join([*systems, b""]) != (first + b"\n") * count:
        return False
    text = _system_text(first)
    if text is None:
        return False
    found.systems = [text] * count if text else []
    found.features = [_facts.SYSTEM if text else 0] * count
    return True


def _take_systems(found: Harvest, texts: list[bytes | None]) -> None:
    """Add the systems; a record with an odd one becomes doubtful."""
    if any(texts):
        found.systems = [text or b"" for text in texts]
    found.features = [_facts.SYSTEM if text else 0 for text in texts]
    if None in texts:
        found.keep([text is not None for text in texts])


_read_system = msgspec.json.Decoder(tuple[Text]).decode


def _system_text(system: bytes) -> bytes | None:
    if not system:
        return b""
    try:
        return bytes(_read_system(system)[0].text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
