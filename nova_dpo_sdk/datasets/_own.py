"""Records that are in Nova's own layout already: a good one is kept as it is, byte for byte where it can be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from nova_dpo_sdk.datasets._exact import Explainer, Fault
from nova_dpo_sdk.datasets._mend import Drop, Notes, cleaned, encoded
from nova_dpo_sdk.datasets._rules import RULES, SCHEMA_VERSION
from nova_dpo_sdk.datasets._sources import is_list, is_record
from nova_dpo_sdk.errors import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nova_dpo_sdk.datasets._sources import Row

_IMAGE = re.compile(r"\.image\b")
_BREAKS = re.compile(rb"[\r\n]")
_EXPLAINERS = {
    "preference": (Explainer(preference=True),),
    "chat": (Explainer(preference=False), Explainer(preference=False, nova2=True)),  # one of them has to like it
}


def own_line(kind: str, row: Row, record: Mapping[str, Any], notes: Notes, *, preferred: bool) -> bytes:
    """The line of a record in Nova's own layout.

    Args:
        kind: `preference` or `chat`: what it shall be.
        row: How it stands in the source.
        record: What it says.
        notes: What may be done to it.
        preferred: Whether a conversation is to be made of a pair, from its preferred side.

    Raises:
        Drop: It breaks a rule of Nova's layout, so that `report()` would call it bad.
    """
    if not isinstance(row, bytes | msgspec.Raw):
        record = _without_nulls(record, notes)
    try:
        return _good_line(kind, row, record, notes, preferred=preferred)
    except Drop:
        # In a file nobody has filled what is missing: a null inside a tool's input or result is its own.
        bare = _without_nulls(record, notes, but=_OF_TOOLS)
        if bare == record:
            raise
        return _good_line(kind, bare, bare, notes, preferred=preferred)


def _good_line(kind: str, row: Row, record: Mapping[str, Any], notes: Notes, *, preferred: bool) -> bytes:
    line = _line(row, record, notes, preferred=preferred)
    _refuse_faults(line, kind, notes)
    return line


def _line(row: Row, record: Mapping[str, Any], notes: Notes, *, preferred: bool) -> bytes:
    changed = _texts_cleaned(_preferred_side(record) if preferred else record, notes)
    if preferred or not isinstance(row, bytes | msgspec.Raw):
        return encoded(changed)
    text = bytes(row).strip()
    as_it_is = changed is record and not _BREAKS.search(text) and _is_strict(text)
    return text if as_it_is else encoded(changed)


def _refuse_faults(line: bytes, kind: str, notes: Notes) -> None:
    found = [_errors(explainer, line, notes) for explainer in _EXPLAINERS[kind]]
    faults = min(found, key=len)
    if faults:
        first, more = faults[0], f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise Drop("bad-record", f"{first.code} at {first.path}: {first.message.removesuffix('.')}{more}")


def _errors(explainer: Explainer, line: bytes, notes: Notes) -> list[Fault]:
    faults = [each for each in explainer.explain(line).faults if RULES[each.code].severity is Severity.ERROR]
    # Where local images are kept, `with_images` looks at each of them.
    return [each for each in faults if not (notes.local_images and _IMAGE.search(each.path))]


def _is_strict(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _preferred_side(record: Mapping[str, Any]) -> dict[str, Any]:
    *turns, last = _listed(record.get("messages")) or [None]
    for candidate in _listed(last.get("candidates")) if is_record(last) else ():
        if is_record(candidate) and candidate.get("preferenceLabel") == "preferred":
            answer = {"role": "assistant", "content": candidate.get("content")}
            return {"schemaVersion": SCHEMA_VERSION, **record, "messages": [*turns, answer]}
    raise Drop("no-answer", "no candidate is preferred")


def _listed(value: object) -> list[Any]:
    return value if is_list(value) else []


_OF_TOOLS = frozenset({"toolUse", "toolResult", "toolConfig"})


def _without_nulls(value: Any, notes: Notes, *, but: frozenset[str] = frozenset()) -> Any:
    """Tables fill every missing field with null; Nova takes none.

    Args:
        value: A part of a record.
        notes: Where it is noted.
        but: Fields whose values stay as they are.
    """
    if is_record(value):
        if any(item is None for item in value.values()):
            notes.mend("null-field")
        return {
            key: item if key in but else _without_nulls(item, notes, but=but)
            for key, item in value.items()
            if item is not None
        }
    if is_list(value):
        return [_without_nulls(item, notes, but=but) for item in value]
    return value


def _texts_cleaned(record: Mapping[str, Any], notes: Notes) -> Mapping[str, Any]:
    """The record without reserved words at the start of lines, if that was asked for; itself if it had none."""
    if not notes.clean_reserved:
        return record
    made = {key: _cleaned(value, notes, 0) if key in {"system", "messages"} else value for key, value in record.items()}
    return made if "reserved-prefix" in notes.mended else record


def _cleaned(value: Any, notes: Notes, number: int) -> Any:
    if is_list(value):
        return [_cleaned(item, notes, number or at) for at, item in enumerate(value, 1)]
    if not is_record(value):
        return value
    return {
        key: cleaned(item, notes, number) if key == "text" and isinstance(item, str) else _cleaned(item, notes, number)
        for key, item in value.items()
    }
