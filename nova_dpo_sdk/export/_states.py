"""The states that a machine is made of, as values: Amazon States Language, with JSONPath as its query language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Json = dict[str, Any]

REFUSED = ("400", "401", "403", "404", "409", "422")
"""Answers of a Kubernetes API that another try does not change."""
EVENTS_A_LOOK = 16
"""Entries in an execution's history for one look at a job and its first replica, the wait included."""


@dataclass(frozen=True)
class Names:
    """How the states of one stage are called: `sft: create job`.

    A state's name holds at most 80 characters, a stage's at most 63.
    """

    stage: str

    def __call__(self, what: str) -> str:
        return f"{self.stage}: {what}"


def task(resource: str, parameters: Json, **fields: Any) -> Json:
    """A call of a service; `fields` are the state's own, such as ResultSelector."""
    return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters, **fields}


def choice(rules: Iterable[tuple[Json, str]], default: str) -> Json:
    """A fork: the first rule that holds names the next state."""
    return {"Type": "Choice", "Choices": [{**rule, "Next": target} for rule, target in rules], "Default": default}


def wait(seconds: int, then: str) -> Json:
    """A pause."""
    return {"Type": "Wait", "Seconds": seconds, "Next": then}


def fail(error: str, cause: str) -> Json:
    """An end that says what happened and what to do next."""
    return {"Type": "Fail", "Error": error, "Cause": cause}


def keep(path: str, place: str, then: str) -> Json:
    """Copy one value of the state's data to another place."""
    return {"Type": "Pass", "InputPath": path, "ResultPath": place, "Next": then}


def put(values: Json, place: str, then: str) -> Json:
    """Write values into the state's data."""
    return {"Type": "Pass", "Parameters": values, "ResultPath": place, "Next": then}


def try_again(service: str, refused: Iterable[str] = ()) -> list[Json]:
    """What to retry: everything but the answers that would be the same again.

    Args:
        service: The prefix of its errors, such as `EKS`.
        refused: Errors, without that prefix, that are final.
    """
    final = [f"{service}.{each}" for each in refused]
    never: list[Json] = [{"ErrorEquals": final, "MaxAttempts": 0}] if final else []
    again = {
        "ErrorEquals": ["States.TaskFailed", "States.Timeout"],
        "IntervalSeconds": 5,
        "MaxAttempts": 6,
        "BackoffRate": 2.0,
        "MaxDelaySeconds": 120,
        "JitterStrategy": "FULL",
    }
    return [*never, again]


def catch(error: str, then: str) -> Json:
    """Go on elsewhere after an error; what it said stays in the execution's history."""
    return {"ErrorEquals": [error], "ResultPath": None, "Next": then}


def text_with(parts: list[str], values: Iterable[str]) -> tuple[Json, str]:
    """A text with values in it that are known only while the machine runs.

    The text goes in as data and never as a template, so nothing in it needs escaping.

    Args:
        parts: The text, cut where the values belong.
        values: Paths of the values, one for each cut.

    Returns:
        What to put at `$.text`, and the intrinsic that joins it.
    """
    pieces = {f"part{n}": part for n, part in enumerate(parts)}
    order: list[str] = []
    for name, value in zip(pieces, [*values, ""], strict=True):
        order += [f"$.text.{name}", *([value] if value else [])]
    return dict(pieces), f"States.Format('{'{}' * len(order)}', {', '.join(order)})"


def all_of(*rules: Json) -> Json:
    """Every rule holds."""
    return {"And": list(rules)}


def none_of(*rules: Json) -> Json:
    """No rule holds."""
    return {"Not": rules[0] if len(rules) == 1 else {"Or": list(rules)}}


def present(path: str) -> Json:
    """There is such a value."""
    return {"Variable": path, "IsPresent": True}


def equals(path: str, text: str) -> Json:
    """The value is this text."""
    return {"Variable": path, "StringEquals": text}


def matches(path: str, pattern: str) -> Json:
    """The value is a text of this shape; `*` stands for anything."""
    return {"Variable": path, "StringMatches": pattern}


def is_true(path: str) -> Json:
    """The value is true."""
    return {"Variable": path, "BooleanEquals": True}


def at_least(path: str, number: int) -> Json:
    """There is such a number, and it is not smaller."""
    return all_of(present(path), {"Variable": path, "NumericGreaterThanEquals": number})


def without_nothing(values: Mapping[str, Any]) -> Json:
    """The values that are not None."""
    return {key: value for key, value in values.items() if value is not None}
