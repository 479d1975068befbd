"""What is wrong with a state machine's definition: what Step Functions would refuse, and data that nobody wrote.

Sources: Amazon States Language specification (states.language); AWS Step Functions quotas (1 MB for a definition,
80 characters for a state's name, 25,000 events in an execution's history).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

LARGEST = 1024 * 1024
"""Longest definition, in bytes."""
LONGEST_NAME = 80
"""Longest name of a state, in characters."""
_ENDS = ("Succeed", "Fail")
_NEEDS = {
    "Task": {"Resource"}, "Choice": {"Choices", "Default"}, "Wait": {"Seconds"}, "Parallel": {"Branches"},
    "Pass": set[str](), "Succeed": set[str](), "Fail": {"Error", "Cause"},
}  # fmt: skip
_PATH = re.compile(r"\$\.(\w+)(?:\.(\w+))?")


def definition_findings(definition: Json) -> list[Finding]:
    """Everything that is wrong with a definition: shape, references between states, and data read before it is written.

    Args:
        definition: The definition, as a value.

    Returns:
        One error for each fault; none for a sound machine.
    """
    found = list(_machine(definition, set(), set()))
    size = len(json.dumps(definition).encode())
    if size > LARGEST:
        found.append(_fault("definition", f"The definition has {size:,} bytes; Step Functions takes {LARGEST:,}."))
    names = _all_names(definition)
    found += [_fault(name, "Two states have this name.") for name in sorted({n for n in names if names.count(n) > 1})]
    return found


def _fault(where: str, message: str) -> Finding:
    return Finding("state-machine", Severity.ERROR, where, message, source="Amazon States Language")


def _all_names(machine: Json) -> list[str]:
    names = list(machine.get("States", {}))
    for state in machine.get("States", {}).values():
        for branch in state.get("Branches", ()):
            names += _all_names(branch)
    return names


def _machine(machine: Json, written: set[str], outer: set[str]) -> Iterator[Finding]:
    states: dict[str, Json] = machine.get("States", {})
    begin = str(machine.get("StartAt", ""))
    if begin not in states:
        yield _fault("StartAt", f"It names {begin!r}, which is no state.")
        return
    for name, state in states.items():
        yield from _shape(name, state, states)
    reached = _reached(begin, states)
    yield from (_fault(name, "No way leads here.") for name in states if name not in reached)
    yield from (_fault(name, "No way leads from here to an end.") for name in reached if not _ends(name, states))
    yield from _data(begin, states, written | outer)


def _shape(name: str, state: Json, states: dict[str, Json]) -> Iterator[Finding]:
    kind = str(state.get("Type"))
    if len(name) > LONGEST_NAME:
        yield _fault(name, f"The name has {len(name)} characters; {LONGEST_NAME} are allowed.")
    if kind not in _NEEDS:
        yield _fault(name, f"Type {kind!r} is none that this package writes.")
        return
    missing = _NEEDS[kind] - set(state)
    if missing:
        yield _fault(name, f"It lacks {', '.join(sorted(missing))}.")
    ways = ("Next" in state) + (state.get("End") is True)
    if ways != (0 if kind in (*_ENDS, "Choice") else 1):
        yield _fault(name, "It must have one of Next and End, unless it is a fork or an end.")
    for target in _targets(state):
        if target not in states:
            yield _fault(name, f"It leads to {target!r}, which is no state.")


def _targets(state: Json) -> list[str]:
    direct = [str(state[key]) for key in ("Next", "Default") if key in state]
    return [*direct, *(str(each["Next"]) for key in ("Choices", "Catch") for each in state.get(key, ()))]


def _reached(begin: str, states: dict[str, Json]) -> set[str]:
    seen, open_ends = {begin}, [begin]
    while open_ends:
        for target in _targets(states[open_ends.pop()]):
            if target in states and target not in seen:
                seen.add(target)
                open_ends.append(target)
    return seen


def _ends(name: str, states: dict[str, Json]) -> bool:
    return any(states[each].get("End") is True or states[each].get("Type") in _ENDS for each in _reached(name, states))


def _data(begin: str, states: dict[str, Json], known: set[str]) -> Iterator[Finding]:
    """Which values are surely there before each state: on every way that leads to it."""
    before: dict[str, set[str]] = {begin: known}
    again = [begin]
    while again:
        name = again.pop()
        state = states[name]
        for target, after in _after(state, before[name]):
            held = before.get(target)
            merged = after if held is None else held & after
            if target in states and merged != held:
                before[target] = merged
                again.append(target)
    for name, state in states.items():
        if name not in before:
            continue
        missing = {path for path in _read_paths(state) if not _is_there(path, before[name])}
        for path in sorted(missing):
            yield _fault(name, f"It reads {path}, which no state before it writes on every way.")
        for branch in state.get("Branches", ()):
            yield from _machine(branch, set(), before[name])


def _after(state: Json, before: set[str]) -> list[tuple[str, set[str]]]:
    """Where a state leads, and what is written by then; an error leads away with nothing written."""
    place = state.get("ResultPath")
    written = {*before, *_fields(place, state)} if isinstance(place, str) else before
    ways = [(str(each["Next"]), before) for each in state.get("Catch", ())]
    ways += [(str(each["Next"]), written) for each in state.get("Choices", ())]
    return [*ways, *((str(state[key]), written) for key in ("Next", "Default") if key in state)]


def _fields(place: str, state: Json) -> set[str]:
    values: Json = state.get("ResultSelector") or (state.get("Parameters") if state["Type"] == "Pass" else None) or {}
    return {place, *(f"{place}.{key.removesuffix('.$')}" for key in values)}


def _is_there(path: str, known: set[str]) -> bool:
    top = path.rpartition(".")[0]
    return path in known or (top in known and not any(each.startswith(f"{top}.") for each in known))


def _read_paths(state: Json) -> set[str]:
    """The values of the machine's own data that a state reads; what ResultSelector reads is the call's answer."""
    asked = {key: value for key, value in state.items() if key in ("Parameters", "InputPath")}
    found = {"$." + ".".join(part for part in match if part) for text in _texts(asked) for match in _PATH.findall(text)}
    for choice in state.get("Choices", ()):
        found |= _compared(choice)
    return found


def _texts(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from _texts(each, str(name))  # pyright: ignore[reportUnknownArgumentType] - JSON
    elif isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from _texts(each)
    elif isinstance(value, str) and (key.endswith(".$") or key == "InputPath"):
        yield value


def _compared(rule: Json) -> set[str]:
    """The values that a rule compares; one that asks whether a value is there needs none."""
    nested = [*rule.get("And", ()), *rule.get("Or", ()), *([rule["Not"]] if "Not" in rule else [])]
    found = set[str]().union(*(_compared(each) for each in nested)) if nested else set[str]()
    asked_for = {str(each["Variable"]) for each in nested if "IsPresent" in each}
    if "Variable" in rule and "IsPresent" not in rule:
        texts = [str(rule["Variable"]), *(str(value) for key, value in rule.items() if key.endswith("Path"))]
        found |= {"$." + ".".join(p for p in match if p) for text in texts for match in _PATH.findall(text)}
    return {path for path in found if not any(each.startswith(path) for each in asked_for)}
