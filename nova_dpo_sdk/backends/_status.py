"""What a PyTorchJob is doing, folded from its conditions and its pods: the operator alone does not tell."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._contract import JobSnapshot, JobStatus, ReplicaSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Json = Mapping[str, Any]

NO_PODS_AFTER = timedelta(minutes=5)
"""Without pods for this long, a job that nobody queued is stalled."""
SILENT_AFTER = timedelta(minutes=2)
"""Without any condition for this long, the operator is silent."""

KNOWN_CONDITIONS = frozenset({"Created", "Running", "Restarting", "Suspended", "Succeeded", "Failed"})
_BROKEN = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_NEXT_STEPS = {
    "CrashLoopBackOff": "The container ends by itself: mend what its message names, cancel, and submit plan.again().",
    "ImagePullBackOff": "Check the image's Region and account and that nodes may pull it; cancel; plan.again().",
    "Unschedulable": "Wait for nodes, scale the instance group, or submit with fewer replicas.",
    "Suspended": "Wait for quota in the queue, or ask who runs the cluster.",
    "NoPods": "The operator cannot create pods, or is not running: ask who runs the cluster for the job's events.",
    "OperatorSilent": "The training operator has not looked at the job: ask who runs the cluster whether it runs.",
}


def fold(ref: str, job: Json, pods: Iterable[Json] | None, now: datetime) -> JobSnapshot:
    """Tell what a job is doing.

    Args:
        ref: The job's reference.
        job: The PyTorchJob as the API server gave it.
        pods: Its pods, or None when they may not be seen.
        now: The present moment, in UTC.
    """
    conditions = _true_conditions(job)
    created = _moment(job["metadata"].get("creationTimestamp"))
    replicas = tuple(_replica(pod) for pod in pods or ())
    status, reason, message, since = _judge(job, conditions, list(pods) if pods is not None else None, replicas, now)
    return JobSnapshot(
        ref=ref,
        status=status,
        observed_at=now,
        reason=reason,
        message=message,
        since=since or created,
        created_at=created,
        next_step=_next_step(status, reason),
        replicas=replicas,
    )


def gone(ref: str, now: datetime) -> JobSnapshot:
    """The snapshot of a job that the cluster does not have."""
    return JobSnapshot(
        ref=ref,
        status=JobStatus.DELETED,
        observed_at=now,
        reason="NotFound",
        message="the cluster has no such job (any more)",
        next_step="If it had finished, job.checkpoint() still finds its manifest.",
    )


_Verdict = tuple[JobStatus, str, str, "datetime | None"]


def _judge(
    job: Json,
    conditions: dict[str, Json],
    pods: list[Json] | None,
    replicas: tuple[ReplicaSnapshot, ...],
    now: datetime,
) -> _Verdict:
    ended = _ended(job, conditions)
    if ended:
        return ended
    broken = next((each for each in replicas if _is_broken(each)), None)
    if "Suspended" in conditions or job.get("spec", {}).get("runPolicy", {}).get("suspend"):
        return _from("Suspended", conditions, JobStatus.QUEUED)
    if broken:
        return JobStatus.DEGRADED, broken.reason.rpartition(":")[2], f"{broken.name}: {broken.message}", None
    waiting = next((each for each in replicas if each.reason == "Unschedulable"), None)
    if waiting:
        return JobStatus.UNSCHEDULABLE, waiting.reason, waiting.message, None
    return _under_way(job, conditions, pods, replicas, now)


def _ended(job: Json, conditions: dict[str, Json]) -> _Verdict | None:
    if "Succeeded" in conditions:
        return _from("Succeeded", conditions, JobStatus.SUCCEEDED)
    if "Failed" in conditions:
        return _from("Failed", conditions, JobStatus.FAILED)
    if job["metadata"].get("deletionTimestamp"):
        return JobStatus.STOPPING, "Deleted", "the job is being deleted", _moment(job["metadata"]["deletionTimestamp"])
    return None


def _under_way(
    job: Json,
    conditions: dict[str, Json],
    pods: list[Json] | None,
    replicas: tuple[ReplicaSnapshot, ...],
    now: datetime,
) -> _Verdict:
    strange = sorted(set(conditions) - KNOWN_CONDITIONS)
    if strange:
        return JobStatus.UNKNOWN, strange[0], f"the condition {strange[0]} is not known to this version", None
    if "Restarting" in conditions:
        return _from("Restarting", conditions, JobStatus.RESTARTING)
    if "Running" in conditions:
        up = pods is None or all(each.phase in ("Running", "Succeeded") for each in replicas)
        return _from("Running", conditions, JobStatus.RUNNING if up else JobStatus.STARTING)
    age = now - (_moment(job["metadata"].get("creationTimestamp")) or now)
    if not conditions:
        if age > SILENT_AFTER:
            return JobStatus.STALLED, "OperatorSilent", f"no condition {_minutes(age)} after its creation", None
        return JobStatus.PENDING, "", "", None
    if pods == [] and age > NO_PODS_AFTER:
        return JobStatus.STALLED, "NoPods", f"no pods {_minutes(age)} after its creation", None
    return (JobStatus.STARTING if replicas else JobStatus.PENDING), "", "", None


def _from(kind: str, conditions: dict[str, Json], status: JobStatus) -> _Verdict:
    condition = conditions.get(kind, {})
    own = condition.get("reason", "")
    # "PyTorchJobRunning" says no more than the status does.
    reason = "" if own == f"PyTorchJob{kind}" else own
    message = "" if status in (JobStatus.RUNNING, JobStatus.SUCCEEDED) else condition.get("message", "")
    return (
        status,
        reason or ("Suspended" if kind == "Suspended" else ""),
        message,
        _moment(condition.get("lastTransitionTime")),
    )


def _true_conditions(job: Json) -> dict[str, Json]:
    listed: list[Json] = job.get("status", {}).get("conditions") or []
    return {str(each.get("type")): each for each in listed if each.get("status") == "True"}


def _replica(pod: Json) -> ReplicaSnapshot:
    status: Json = pod.get("status", {})
    containers: list[Json] = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    reason, message = _trouble(status, containers)
    return ReplicaSnapshot(
        name=pod["metadata"]["name"],
        phase=status.get("phase", "Unknown"),
        node=pod.get("spec", {}).get("nodeName", ""),
        restarts=sum(int(each.get("restartCount", 0)) for each in containers),
        reason=reason,
        message=message,
    )


def _trouble(status: Json, containers: list[Json]) -> tuple[str, str]:
    for each in containers:
        waiting: Json = each.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _BROKEN:
            return str(waiting["reason"]), _last_words(each) or str(waiting.get("message", ""))
    conditions: list[Json] = status.get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("reason", "")), str(condition.get("message", ""))
    if status.get("phase") == "Failed":
        ended = next((_last_words(each) for each in containers if _last_words(each)), "")
        return str(status.get("reason") or "Failed"), ended or str(status.get("message", ""))
    return "", ""


def _last_words(container: Json) -> str:
    for state in ("state", "lastState"):
        ended: Json = container.get(state, {}).get("terminated") or {}
        if ended.get("exitCode"):
            return f"exit code {ended['exitCode']}: {ended.get('message') or ended.get('reason', '')}".rstrip(": ")
    return ""


def _is_broken(replica: ReplicaSnapshot) -> bool:
    return replica.reason in _BROKEN


def _next_step(status: JobStatus, reason: str) -> str:
    if status in (JobStatus.DEGRADED, JobStatus.UNSCHEDULABLE, JobStatus.QUEUED, JobStatus.STALLED):
        fallback = _NEXT_STEPS["ImagePullBackOff"] if "Image" in reason else _NEXT_STEPS["CrashLoopBackOff"]
        return _NEXT_STEPS.get(reason, fallback)
    if status is JobStatus.FAILED:
        return "Mend what the message names, then submit plan.again()."
    return ""


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _minutes(age: timedelta) -> str:
    return f"{age.total_seconds() / 60:.0f} minutes"
