"""The memory of a follower: what is kept of each job, what was said of it last, and when to say it anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nova_dpo_sdk.backends._contract import JobSnapshot, JobStatus
from nova_dpo_sdk.backends._facts import JobFacts, PodFacts, Trouble
from nova_dpo_sdk.backends._status import gone, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from nova_dpo_sdk.backends._queue import WorkloadFacts

_TRIES = 10
"""Looks at a job whose pods the scheduler has not spoken of, one at each tick."""


@dataclass(slots=True)
class _Entry:
    ref: str
    job: JobFacts | None = None
    pods: dict[str, PodFacts] | None = None
    workload: WorkloadFacts | None = None
    told: JobSnapshot | None = None
    until: datetime | None = None
    unsettled: int = 0


class Roster:
    """Some hundred bytes for each unfinished job and each of its pods; a finished job costs nothing any more.

    Args:
        names: The jobs to follow.
        ref_of: Gives the reference of a job of that name.
    """

    def __init__(self, names: Iterable[str], ref_of: Callable[[str], str]) -> None:
        self._entries = {name: _Entry(ref_of(name)) for name in names}
        self._touched: set[str] = set()

    @property
    def unfinished(self) -> frozenset[str]:
        """The jobs that are not terminal, as far as it was told."""
        return frozenset(self._entries)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def version(self, name: str) -> str:
        """The resource version that was seen of a job; empty for none."""
        job = self._entries[name].job
        return job.version if job else ""

    def pod_names(self) -> Iterator[tuple[str, str]]:
        """Every unfinished job that has been let in, with each name that its pods should have."""
        for name, entry in self._entries.items():
            if entry.job and not entry.job.suspend:
                yield from ((name, pod) for pod in entry.job.pods)

    def unsettled(self) -> set[str]:
        """The jobs with a pod that waits for the scheduler: what it decides is not seen in any cell."""
        return {name for name, entry in self._entries.items() if 0 < entry.unsettled <= _TRIES}

    def waiting(self) -> set[str]:
        """The jobs for which no room was found when they were looked at: why may be another reason by now."""
        held = (JobStatus.UNSCHEDULABLE, JobStatus.QUEUED)
        return {name for name, entry in self._entries.items() if entry.told and entry.told.status in held}

    def has_held(self) -> bool:
        """Whether a queue holds any of the jobs back."""
        return any(entry.job is not None and entry.job.is_held for entry in self._entries.values())

    def put_workloads(self, found: Mapping[str, WorkloadFacts]) -> None:
        """Keep what Kueue says of the jobs, by their identities."""
        for name, entry in self._entries.items():
            workload = found.get(entry.job.uid) if entry.job and entry.job.is_held else None
            if entry.workload != workload:
                entry.workload = workload
                self._touched.add(name)

    def put_job(self, job: JobFacts) -> None:
        """Keep what is known of a job now."""
        entry = self._entries.get(job.name)
        if entry is None:
            return
        if entry.job and entry.job.uid != job.uid:
            entry.pods = None if entry.pods is None else {}
        entry.job = job
        self._touched.add(job.name)

    def put_pods(self, name: str, pods: Iterable[PodFacts] | None) -> None:
        """Keep all pods of a job; None when they may not be seen."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.pods = None if pods is None else {pod.replica.name: pod for pod in pods}
            self._touched.add(name)

    def put_pod(self, pod: PodFacts) -> None:
        """Keep one pod beside the others of its job."""
        entry = self._entries.get(pod.job)
        if entry is not None:
            entry.pods = {**(entry.pods or {}), pod.replica.name: pod}
            self._touched.add(pod.job)

    def drop_pod(self, name: str, job: str, uid: str = "") -> None:
        """Forget a pod, unless another one of the same name has taken its place."""
        entry = self._entries.get(job)
        held = (entry.pods or {}).get(name) if entry else None
        if entry and held and uid in ("", held.uid):
            entry.pods = {key: pod for key, pod in (entry.pods or {}).items() if key != name}
            self._touched.add(job)

    def drop_job(self, name: str) -> None:
        """Keep that the cluster does not have a job."""
        entry = self._entries.get(name)
        if entry is not None:
            entry.job = None
            self._touched.add(name)

    def next_due(self) -> datetime | None:
        """The first moment from which something may be said anew though nothing has changed."""
        return min((entry.until for entry in self._entries.values() if entry.until), default=None)

    def settle(self, now: datetime) -> list[JobSnapshot]:
        """What is to be said anew of the jobs that were touched, and of those that change by time alone."""
        due = {name for name, entry in self._entries.items() if entry.until is not None and entry.until < now}
        judged = [self._judge(self._entries[name], now) for name in sorted(self._touched | due)]
        self._touched.clear()
        news = [snapshot for snapshot in judged if snapshot is not None]
        for snapshot in news:
            if snapshot.status.is_terminal:
                self._entries.pop(snapshot.ref.rpartition("/")[2], None)
        return news

    def _judge(self, entry: _Entry, now: datetime) -> JobSnapshot | None:
        if entry.job is None:
            snapshot, entry.until = gone(entry.ref, now), None
        else:
            pods = None if entry.pods is None else [entry.pods[name] for name in sorted(entry.pods)]
            snapshot, entry.until = judge(entry.ref, entry.job, pods, now, entry.workload)
        entry.unsettled = entry.unsettled + 1 if _is_unsettled(entry) else 0
        before = entry.told
        if before is not None and before.face == snapshot.face:
            return None
        if before is not None and (before.status, before.reason) == (snapshot.status, snapshot.reason):
            moments = [each.since for each in (before, snapshot) if each.since]
            snapshot = replace(snapshot, since=min(moments, default=None))
        entry.told = snapshot
        return snapshot


def _is_unsettled(entry: _Entry) -> bool:
    return any(
        pod.replica.phase == "Pending" and not pod.replica.node and pod.trouble is Trouble.NONE
        for pod in (entry.pods or {}).values()
    )
