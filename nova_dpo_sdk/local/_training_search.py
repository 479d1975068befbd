"""How SageMaker's Search filters training jobs, and how its lists are cut into pages."""

from __future__ import annotations

from typing import Any

from ._aws_protocol import AWSRefusal

Json = dict[str, Any]


def matches(job: Json, expression: Json) -> bool:
    """Whether a job with its tags fits a SearchExpression of filters, all of which must hold."""
    return all(_holds(_value(job, str(each["Name"])), each) for each in expression.get("Filters") or ())


def _value(job: Json, name: str) -> Any:
    if name.startswith("Tags."):
        tags: dict[str, str] = {each["Key"]: each["Value"] for each in job.get("Tags") or ()}
        return tags.get(name.removeprefix("Tags."))
    return job.get(name)


def _holds(value: Any, given: Json) -> bool:
    operator, wanted = str(given.get("Operator", "Equals")), given.get("Value")
    if operator in ("Exists", "NotExists"):
        return (value is not None) is (operator == "Exists")
    if operator == "Equals":
        return str(value) == str(wanted)
    if operator == "Contains":
        return value is not None and str(wanted) in str(value)
    if operator in ("GreaterThanOrEqualTo", "LessThanOrEqualTo") and value is not None:
        held, limit = float(value), _moment(wanted)
        return held >= limit if operator == "GreaterThanOrEqualTo" else held <= limit
    raise AWSRefusal(400, "ValidationException", f"the rehearsal cloud does not know the operator {operator}")


def _moment(text: Any) -> float:
    from datetime import datetime

    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()


def page_of(items: list[Json], given: Json, *, default: int) -> tuple[list[Json], Json]:
    """One page of a list, and the token of the next one if there is one."""
    start = int(given.get("NextToken") or 0)
    end = start + int(given.get("MaxResults") or default)
    return items[start:end], {"NextToken": str(end)} if end < len(items) else {}
