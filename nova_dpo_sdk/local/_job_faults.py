"""Bad days of a job, on request: what goes wrong in the cluster, to which jobs, from when, and for how long."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.errors import ConfigurationError

from ._conditions import holds
from ._resources import PODS, PYTORCHJOBS, Kind
from ._store import stamp

if TYPE_CHECKING:
    from datetime import datetime

    from ._agenda import Agenda
    from ._store import ObjectStore

Json = dict[str, Any]

JOB_FAULTS = {
    "unschedulable": "the scheduler finds no node for its pods",
    "queued": "Kueue suspends it at creation, and lets it in when the fault is over",
    "preempted": "Kueue suspends it while it runs, and lets it in again when the fault is over",
    "image-pull": "its image cannot be pulled",
    "init-crash": "its init container ends by itself, again and again",
    "crash-loop": "its containers end by themselves soon after they begin, again and again",
    "crash-recovers": "its containers end by themselves twice, and run the third time",
    "node-loss": "a node stops answering while it runs, and is replaced when the fault is over",
    "operator-silent": "the training operator does not see it",
    "manifest-late": "its manifest is written after it has succeeded",
    "manifest-missing": "its manifest is never written",
    "manifest-relative": "its manifest names a path relative to the escrow location",
    "manifest-broken": "its manifest is cut short",
    "manifest-other-key": "its manifest names the checkpoint under another key",
    "output-kms-denied": "what it writes is under a KMS key that the caller may not use",
    "logs-late": "its log lines, and so its log streams, arrive late",
}
"""By name: what happens to a job."""

_WHILE_RUNNING = frozenset({"preempted", "node-loss"})
_HOLD = "local-cloud/node-does-not-answer"


@dataclass
class JobFault:
    """One planned fault.

    Attributes:
        name: Its name in `JOB_FAULTS`.
        job: Pattern of the names of the jobs that it meets.
        after: Seconds from the job's start until it begins, for what happens to a running job.
        lasts: Seconds until it is over; None for never.
        times: How often it strikes one job, for crashes; None for always.
        message: What the container or the cluster says.
    """

    name: str
    job: str
    after: float
    lasts: float | None
    times: int | None
    message: str
    begun: dict[str, datetime] = field(default_factory=dict[str, "datetime"], repr=False)
    struck: dict[str, int] = field(default_factory=dict[str, int], repr=False)


class JobFaults:
    """The faults that are planned for jobs; asked by operator, scheduler and kubelets, and acting by itself on others.

    Args:
        store: The objects.
        agenda: When things happen.
        pace: Factor on all durations.
    """

    def __init__(self, store: ObjectStore, agenda: Agenda, pace: float = 1.0) -> None:
        self._store = store
        self._agenda = agenda
        self._pace = pace
        self._planned: list[JobFault] = []
        self._met: set[tuple[int, str]] = set()
        store.listeners.append(self._notice)

    def plan(
        self,
        name: str,
        *,
        job: str = "*",
        after: float = 5.0,
        lasts: float | None = None,
        times: int | None = None,
        message: str = "",
    ) -> JobFault:
        """Let something happen to jobs; see `JobFault`.

        Raises:
            ConfigurationError: No fault has this name.
        """
        if name not in JOB_FAULTS:
            raise ConfigurationError(f"{name!r} is no fault of a job; there are {', '.join(JOB_FAULTS)}.")
        if lasts is None and name in ("preempted", "manifest-late", "logs-late"):
            lasts = 60.0
        if name == "crash-recovers":
            name, times = "crash-loop", times or 2
        fault = JobFault(name, job, after, lasts, times, message or f"a fault that was asked for: {name}")
        self._planned.append(fault)
        return fault

    def active(self, name: str, job: str, now: datetime) -> JobFault | None:
        """The fault of this name that holds for a job now; it begins when it is first asked for."""
        for fault in self._planned:
            if fault.name != name or not fnmatchcase(job, fault.job):
                continue
            end = self.end(fault, fault.begun.setdefault(job, now))
            if end is None or now < end:
                return fault
        return None

    def strikes(self, name: str, job: str, now: datetime) -> JobFault | None:
        """The same, counted: a fault that strikes so many times is over then."""
        fault = self.active(name, job, now)
        if fault is None or (fault.times is not None and fault.struck.get(job, 0) >= fault.times):
            return None
        fault.struck[job] = fault.struck.get(job, 0) + 1
        return fault

    def end(self, fault: JobFault, begun: datetime) -> datetime | None:
        """When a fault that began then is over; None for never."""
        return None if fault.lasts is None else begun + timedelta(seconds=fault.lasts * self._pace)

    def manifest(self, job: str) -> JobFault | None:
        """What happens to a job's manifest, if anything."""
        mine = (each for each in self._planned if fnmatchcase(job, each.job))
        return next((each for each in mine if each.name.startswith("manifest-")), None)

    def is_locked(self, key: str) -> bool:
        """Whether the object of this key was written by a job under a KMS key that the caller may not use."""
        job = key.rpartition("/")[0].rpartition("/")[2]
        return key.endswith("/manifest.json") and any(
            each.name == "output-kms-denied" and fnmatchcase(job, each.job) for each in self._planned
        )

    def log_delay(self, job: str) -> float:
        """Seconds by which the log lines of a job arrive late."""
        late = (each for each in self._planned if each.name == "logs-late" and fnmatchcase(job, each.job))
        fault = next(late, None)
        return 0.0 if fault is None else (fault.lasts or 0.0) * self._pace

    def delay(self, fault: JobFault) -> timedelta:
        """How long a fault lasts."""
        return timedelta(seconds=(fault.lasts or 0.0) * self._pace)

    def admit(self, kind: Kind, item: Json, now: datetime) -> None:
        """Change a new job as Kueue's webhook does."""
        if kind is PYTORCHJOBS and self.active("queued", str(item["metadata"].get("name")), now):
            item.setdefault("spec", {}).setdefault("runPolicy", {})["suspend"] = True

    def _notice(self, change: str, kind: Kind, item: Json, now: datetime) -> None:
        if kind is not PYTORCHJOBS or change == "DELETED":
            return
        meta: Json = item["metadata"]
        for number, fault in enumerate(self._planned):
            key = (number, str(meta["uid"]))
            if key in self._met or not fnmatchcase(str(meta["name"]), fault.job):
                continue
            if fault.name == "queued" and change == "ADDED":
                self._met.add(key)
                self._later_suspend(meta, self.end(fault, now), value=False)
            elif fault.name in _WHILE_RUNNING and holds(item.get("status", {}), "Running"):
                self._met.add(key)
                self._strike_running(fault, meta, now + timedelta(seconds=fault.after * self._pace))

    def _strike_running(self, fault: JobFault, meta: Json, begin: datetime) -> None:
        end = self.end(fault, begin)
        if fault.name == "preempted":
            self._later_suspend(meta, begin, value=True)
            self._later_suspend(meta, end, value=False)
            return
        self._agenda.at(begin, lambda now: self._lose_node(meta, now))
        if end is not None:
            self._agenda.at(end, lambda now: self._replace_node(meta, now))

    def _later_suspend(self, meta: Json, moment: datetime | None, *, value: bool) -> None:
        if moment is not None:
            self._agenda.at(moment, lambda now: self._suspend(meta, now, value=value))

    def _suspend(self, meta: Json, now: datetime, *, value: bool) -> None:
        job = self._store.peek(PYTORCHJOBS, meta["namespace"], meta["name"])
        if job is None or job["metadata"]["uid"] != meta["uid"]:
            return
        changed = copy.deepcopy(job)
        changed["spec"].setdefault("runPolicy", {})["suspend"] = value
        self._store.update(PYTORCHJOBS, meta["namespace"], changed, now)

    def _pods(self, meta: Json) -> list[Json]:
        owned = [
            pod
            for pod in self._store.scan(PODS)
            if any(each["uid"] == meta["uid"] for each in pod["metadata"].get("ownerReferences", []))
        ]
        return sorted(owned, key=lambda pod: str(pod["metadata"]["name"]))

    def _lose_node(self, meta: Json, now: datetime) -> None:
        """The node of the job's last pod: its kubelet can no longer say that the pod is gone."""
        pods = self._pods(meta)
        if not pods:
            return
        pod = copy.deepcopy(pods[-1])
        node = pod["spec"].get("nodeName", "its node")
        pod["metadata"]["finalizers"] = [_HOLD]
        self._store.update(PODS, meta["namespace"], pod, now)
        status = copy.deepcopy(pod["status"])
        kept = [each for each in status.get("conditions", []) if each["type"] not in ("Ready", "ContainersReady")]
        status["conditions"] = [
            *kept,
            {"type": "Ready", "status": "False", "lastTransitionTime": stamp(now)},
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTaintManager",
                "message": f"Taint manager: deleting due to NoExecute taint; {node} does not answer",
                "lastTransitionTime": stamp(now),
            },
        ]
        self._store.set_status(PODS, meta["namespace"], pod["metadata"]["name"], status, now)
        self._store.delete(PODS, meta["namespace"], pod["metadata"]["name"], now)

    def _replace_node(self, meta: Json, now: datetime) -> None:
        for pod in self._pods(meta):
            if _HOLD in pod["metadata"].get("finalizers", []):
                freed = copy.deepcopy(pod)
                freed["metadata"]["finalizers"] = []
                self._store.update(PODS, meta["namespace"], freed, now)
