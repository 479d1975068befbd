"""What is kept of a PyTorchJob and of its pods: enough to tell at any later moment what the job is doing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.backends._contract import ReplicaSnapshot
from nova_dpo_sdk.backends._manifests import QUEUE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Json = Mapping[str, Any]

JOB_LABEL = "training.kubeflow.org/job-name"
"""The label by which the operator ties a pod to its job."""

_BROKEN = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_DISRUPTIONS = {
    "PreemptionByScheduler": "Preempted",
    "PreemptionByKubeScheduler": "Preempted",
    "DeletionByTaintManager": "NodeLost",
    "DeletionByPodGC": "NodeLost",
    "EvictionByEvictionAPI": "Evicted",
    "TerminationByKubelet": "Evicted",
}
_POD = re.compile(r"(?P<job>.+)-(?:master|worker)-\d+\Z")


class Trouble(str, Enum):
    """What keeps one pod from training."""

    NONE = ""
    LEAVING = "leaving"
    """It is being deleted, or its node does not answer."""
    BROKEN = "broken"
    """A container cannot be started, or keeps failing."""
    CRASHED = "crashed"
    """A container has just ended badly and is about to be started again."""
    CREATING = "creating"
    """It has a node; its containers are not created yet."""
    GATED = "gated"
    """The scheduler may not look at it yet."""
    UNSCHEDULABLE = "unschedulable"
    """The scheduler finds no node for it."""
    FAILED = "failed"
    """It has ended; the operator makes another one in its place."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a job."""

    kind: str
    holds: bool
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What is kept of a PyTorchJob: a few hundred bytes of some thousand.

    Attributes:
        name: Its name.
        uid: Its identity: a job of the same name made anew has another one.
        version: Its resource version.
        created: When it was created.
        deleted: Since when it is being deleted.
        started: When the operator started it.
        completed: When the operator wrote its last word.
        suspend: What its `runPolicy.suspend` says; None when nothing.
        queue: Kueue's queue it waits in; empty when none.
        deadline: `activeDeadlineSeconds`.
        backoff: `backoffLimit`.
        pods: The names that the operator gives its pods.
        conditions: Its conditions, in their order.
    """

    name: str
    uid: str
    version: str
    created: datetime | None
    deleted: datetime | None
    started: datetime | None
    completed: datetime | None
    suspend: bool | None
    queue: str
    deadline: int | None
    backoff: int | None
    pods: tuple[str, ...]
    conditions: tuple[Condition, ...]

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, whether it holds or not."""
        return next((each for each in self.conditions if each.kind == kind), None)

    def holds(self, kind: str) -> Condition | None:
        """The condition of that type, if it holds."""
        found = self.condition(kind)
        return found if found is not None and found.holds else None

    @property
    def is_held(self) -> bool:
        """Whether a queue holds it back, or has just let it in."""
        return bool(self.suspend) or self.holds("Suspended") is not None

    @property
    def is_finished(self) -> bool:
        """Whether the operator has written its last word."""
        return self.holds("Succeeded") is not None or self.holds("Failed") is not None


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is kept of a pod.

    Attributes:
        job: The job that it belongs to; empty when unknown.
        uid: Its identity.
        replica: It, as users see it.
        trouble: What keeps it from training.
        since: Since when, as far as the pod says.
        words: What its container said when it last ended badly.
        finished: When its containers ended well; None when they did not.
        placed: When it got its node; None before.
    """

    job: str
    uid: str
    replica: ReplicaSnapshot
    trouble: Trouble
    since: datetime | None
    words: str
    finished: datetime | None
    placed: datetime | None

    @property
    def is_up(self) -> bool:
        """Whether it runs, or did to the end, and is there to stay."""
        return self.replica.phase in ("Running", "Succeeded") and self.trouble is Trouble.NONE


def job_facts(job: Json) -> JobFacts:
    """Keep what matters of a PyTorchJob."""
    meta: Json = job["metadata"]
    spec: Json = _part(job, "spec")
    status: Json = _part(job, "status")
    policy: Json = _part(spec, "runPolicy")
    labels: Json = _part(meta, "labels")
    listed: list[Json] = status.get("conditions") or []
    return JobFacts(
        name=str(meta["name"]),
        uid=str(meta.get("uid") or ""),
        version=str(meta.get("resourceVersion") or ""),
        created=moment(meta.get("creationTimestamp")),
        deleted=moment(meta.get("deletionTimestamp")),
        started=moment(status.get("startTime")),
        completed=moment(status.get("completionTime")),
        suspend=policy.get("suspend"),
        queue=str(labels.get(QUEUE_LABEL) or ""),
        deadline=policy.get("activeDeadlineSeconds"),
        backoff=policy.get("backoffLimit"),
        pods=tuple(_pod_names(str(meta["name"]), spec)),
        conditions=tuple(_condition(each) for each in listed),
    )


def pod_facts(pod: Json) -> PodFacts:
    """Keep what matters of a pod."""
    meta: Json = pod["metadata"]
    status: Json = _part(pod, "status")
    containers = list(_containers(status))
    trouble, reason, message, since = _trouble(meta, status, containers)
    labels: Json = _part(meta, "labels")
    name = str(meta["name"])
    return PodFacts(
        job=str(labels.get(JOB_LABEL) or job_of_pod(name)),
        uid=str(meta.get("uid") or ""),
        replica=ReplicaSnapshot(
            name=name,
            phase=str(status.get("phase") or "Unknown"),
            node=str(_part(pod, "spec").get("nodeName") or ""),
            restarts=sum(int(each.get("restartCount") or 0) for _, each in containers),
            reason=reason,
            message=message,
        ),
        trouble=trouble,
        since=since,
        words=next((words for _, each in containers if (words := _last_words(each))), ""),
        finished=_finished(status, containers),
        placed=_placed(status),
    )


def job_of_pod(name: str) -> str:
    """The job that a pod of this name belongs to; empty when the operator gives no such names."""
    match = _POD.match(name)
    return match["job"] if match else ""


def moment(text: str | None) -> datetime | None:
    """A moment as Kubernetes writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _part(parent: Json, key: str) -> Json:
    """A part of an object; empty when it is not there, or null."""
    found: Json | None = parent.get(key)
    return found or {}


def _pod_names(name: str, spec: Json) -> Iterator[str]:
    specs: Mapping[str, Json] = _part(spec, "pytorchReplicaSpecs")
    for role in ("Master", "Worker"):
        if role in specs:
            count = specs[role].get("replicas")
            for index in range(1 if count is None else int(count)):
                yield f"{name}-{role.lower()}-{index}"


def _condition(raw: Json) -> Condition:
    return Condition(
        kind=str(raw.get("type") or ""),
        holds=raw.get("status") == "True",
        reason=str(raw.get("reason") or ""),
        message=str(raw.get("message") or ""),
        since=moment(raw.get("lastTransitionTime")),
    )


def _containers(status: Json) -> Iterator[tuple[str, Json]]:
    """Every container's status, each with what its reasons are prefixed with."""
    for prefix, field in (("Init:", "initContainerStatuses"), ("", "containerStatuses")):
        for each in status.get(field) or ():
            yield prefix, each


_Told = tuple[Trouble, str, str, "datetime | None"]


def _trouble(meta: Json, status: Json, containers: list[tuple[str, Json]]) -> _Told:
    conditions: dict[str, Json] = {str(each.get("type")): each for each in status.get("conditions") or ()}
    phase = status.get("phase")
    if meta.get("deletionTimestamp") or phase == "Unknown" or status.get("reason") == "NodeLost":
        return _leaving(meta, status, conditions)
    if phase == "Succeeded":
        return Trouble.NONE, "", "", None
    if phase == "Failed":
        words = next((words for _, each in containers if (words := _last_words(each))), "")
        reason = _disruption(conditions) or str(status.get("reason") or "Failed")
        return Trouble.FAILED, reason, words or str(status.get("message") or ""), None
    return _of_containers(containers, conditions) or _of_placement(conditions)


def _leaving(meta: Json, status: Json, conditions: dict[str, Json]) -> _Told:
    deleted = meta.get("deletionTimestamp")
    lost = status.get("phase") == "Unknown" or status.get("reason") == "NodeLost"
    reason = _disruption(conditions) or ("NodeLost" if lost else "PodDeleted")
    message = str(_part(conditions, "DisruptionTarget").get("message") or status.get("message") or "")
    told = "it is being deleted" if deleted else "its node does not answer"
    return Trouble.LEAVING, reason, message or told, moment(deleted) or _not_ready_since(conditions)


def _disruption(conditions: dict[str, Json]) -> str:
    target = _part(conditions, "DisruptionTarget")
    return _DISRUPTIONS.get(str(target.get("reason")), "Evicted") if target.get("status") == "True" else ""


def _of_containers(containers: list[tuple[str, Json]], conditions: dict[str, Json]) -> _Told | None:
    for prefix, each in containers:
        waiting: Json = _part(each, "state").get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        if reason in _BROKEN:
            message = _last_words(each) or str(waiting.get("message") or "")
            since = _not_ready_since(conditions) or _last_end(each)
            return Trouble.BROKEN, f"{prefix}{reason}", message, since
    for prefix, each in containers:
        state: Json = _part(each, "state")
        ended: Json = _part(state, "terminated")
        if ended.get("exitCode"):
            reason = f"{prefix}{ended.get('reason') or 'Error'}"
            return Trouble.CRASHED, reason, _last_words(each), moment(ended.get("finishedAt"))
    for prefix, each in containers:
        waiting = _part(each, "state").get("waiting") or {}
        if waiting.get("reason") in ("ContainerCreating", "PodInitializing"):
            placed = _part(conditions, "PodScheduled")
            since = moment(placed.get("lastTransitionTime"))
            return Trouble.CREATING, f"{prefix}{waiting['reason']}", str(waiting.get("message") or ""), since
    return None


def _of_placement(conditions: dict[str, Json]) -> _Told:
    placed = _part(conditions, "PodScheduled")
    if placed.get("status") != "False":
        return Trouble.NONE, "", "", None
    reason = str(placed.get("reason") or "")
    trouble = {"SchedulingGated": Trouble.GATED, "Unschedulable": Trouble.UNSCHEDULABLE}.get(reason, Trouble.NONE)
    return trouble, reason, str(placed.get("message") or ""), moment(placed.get("lastTransitionTime"))


def _not_ready_since(conditions: dict[str, Json]) -> datetime | None:
    ready = _part(conditions, "Ready")
    return moment(ready.get("lastTransitionTime")) if ready.get("status") == "False" else None


def _last_end(container: Json) -> datetime | None:
    return moment(_part(_part(container, "lastState"), "terminated").get("finishedAt"))


def _last_words(container: Json) -> str:
    for state in ("state", "lastState"):
        ended: Json = _part(container, state).get("terminated") or {}
        if ended.get("exitCode"):
            return f"exit code {ended['exitCode']}: {ended.get('message') or ended.get('reason', '')}".rstrip(": \n")
    return ""


def _placed(status: Json) -> datetime | None:
    for each in status.get("conditions") or ():
        if each.get("type") == "PodScheduled" and each.get("status") == "True":
            return moment(each.get("lastTransitionTime"))
    return None


def _finished(status: Json, containers: list[tuple[str, Json]]) -> datetime | None:
    if status.get("phase") != "Succeeded":
        return None
    ends = [moment(_part(_part(each, "state"), "terminated").get("finishedAt")) for _, each in containers]
    return max((end for end in ends if end is not None), default=None)
