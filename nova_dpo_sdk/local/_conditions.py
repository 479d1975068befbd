"""Conditions of a PyTorchJob, folded as the training operator folds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._store import stamp

if TYPE_CHECKING:
    from datetime import datetime

Json = dict[str, Any]


def holds(status: Json, wanted: str) -> bool:
    """Whether a condition of this type is there and true."""
    conditions: list[Json] = status.get("conditions", [])
    return any(each["type"] == wanted and each["status"] == "True" for each in conditions)


def is_finished(status: Json) -> bool:
    """Whether the operator has written its last word."""
    return holds(status, "Succeeded") or holds(status, "Failed")


def set_condition(
    status: Json, kind: str, message: str, now: datetime, *, value: str = "True", reason: str = ""
) -> None:
    """Set one condition, with what follows from it for the others.

    Running and Restarting drive each other out; Running becomes false, and stays in the list, when the job succeeds
    or fails.

    Args:
        status: The job's status, changed in place.
        kind: Type of the condition, such as `Running`.
        message: The sentence for people.
        now: The moment of the change.
        value: `True` or `False`.
        reason: `PyTorchJob` and the type, when left out.
    """
    reason = reason or f"PyTorchJob{kind}"
    old: list[Json] = status.get("conditions", [])
    before = next((each for each in old if each["type"] == kind), None)
    if before is not None and (before["status"], before["reason"]) == (value, reason):
        return
    changed = stamp(now)
    if before is not None and before["status"] == value:
        changed = before["lastTransitionTime"]
    kept = [_marked(each, kind) for each in old if not _driven_out(each["type"], kind)]
    new = {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp(now),
        "lastTransitionTime": changed,
    }
    status["conditions"] = [*kept, new]


def _driven_out(present: str, coming: str) -> bool:
    return present == coming or {present, coming} == {"Running", "Restarting"}


def _marked(condition: Json, coming: str) -> Json:
    ended = coming in {"Succeeded", "Failed"} and condition["type"] in {"Running", "Failed"}
    return {**condition, "status": "False"} if ended else condition
