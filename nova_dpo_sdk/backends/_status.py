"""What a PyTorchJob is doing, folded from its conditions and its pods: the operator alone does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends._contract import JobSnapshot, JobStatus
from nova_dpo_sdk.backends._facts import JobFacts, PodFacts, Trouble, job_facts, pod_facts
from nova_dpo_sdk.backends._next_steps import next_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from nova_dpo_sdk.backends._queue import WorkloadFacts

    Json = Mapping[str, Any]

NO_PODS_AFTER = timedelta(minutes=5)
"""Without a pod for this long, a job that nobody queued does not get it by itself."""
SILENT_AFTER = timedelta(minutes=2)
"""Without a condition where one is due for this long, the operator is silent."""
CREATING_AFTER = timedelta(minutes=45)
"""Containers that are not created for this long will not be: longer than the largest image takes."""
LEAVING_AFTER = timedelta(minutes=10)
"""A pod that is being deleted for this long stands on a node that does not answer."""

KNOWN_CONDITIONS = frozenset({"Created", "Running", "Restarting", "Suspended", "Succeeded", "Failed"})


def fold(
    ref: str, job: Json, pods: Iterable[Json] | None, now: datetime, workload: WorkloadFacts | None = None
) -> JobSnapshot:
    """Tell what a job is doing.

    Args:
        ref: The job's reference.
        job: The PyTorchJob as the API server gave it.
        pods: Its pods, or None when they may not be seen.
        now: The present moment, in UTC.
        workload: What Kueue says of it, if that may be seen.
    """
    kept = None if pods is None else [pod_facts(pod) for pod in pods]
    return judge(ref, job_facts(job), kept, now, workload)[0]


def judge(
    ref: str,
    job: JobFacts,
    pods: Sequence[PodFacts] | None,
    now: datetime,
    workload: WorkloadFacts | None = None,
) -> tuple[JobSnapshot, datetime | None]:
    """Tell what a job is doing from what was kept of it.

    Args:
        ref: The job's reference.
        job: What was kept of the job.
        pods: What was kept of its pods, or None when they may not be seen.
        now: The present moment, in UTC.
        workload: What Kueue says of it, if that may be seen.

    Returns:
        The snapshot, and the moment from which it may be another one though nothing has changed; None for never.
    """
    verdict = _Judge(job, pods, now, workload).verdict()
    snapshot = JobSnapshot(
        ref=ref,
        status=verdict.status,
        observed_at=now,
        reason=verdict.reason,
        message=verdict.message,
        since=verdict.since or job.created,
        created_at=job.created,
        started_at=min((pod.placed for pod in pods or () if pod.placed), default=None),
        next_step=next_step(verdict.status, verdict.reason, verdict.detail),
        replicas=tuple(pod.replica for pod in pods or ()),
    )
    return snapshot, verdict.until


def gone(ref: str, now: datetime) -> JobSnapshot:
    """The snapshot of a job that the cluster does not have."""
    return JobSnapshot(
        ref=ref,
        status=JobStatus.DELETED,
        observed_at=now,
        reason="NotFound",
        message="the cluster has no such job (any more)",
        next_step=next_step(JobStatus.DELETED, "NotFound"),
    )


@dataclass(frozen=True)
class _Verdict:
    status: JobStatus
    reason: str = ""
    message: str = ""
    since: datetime | None = None
    until: datetime | None = None
    detail: str = ""


class _Judge:
    """Reads conditions by whether they hold, never by their order; what is over comes first, then what hinders."""

    def __init__(
        self, job: JobFacts, pods: Sequence[PodFacts] | None, now: datetime, workload: WorkloadFacts | None
    ) -> None:
        self.job = job
        self.pods = pods
        self.now = now
        self.workload = workload

    def verdict(self) -> _Verdict:
        return self._ended() or self._queued() or self._hindered() or self._under_way()

    def _with(self, trouble: Trouble) -> list[PodFacts]:
        return [pod for pod in self.pods or () if pod.trouble is trouble]

    def _ended(self) -> _Verdict | None:
        succeeded, failed = self.job.holds("Succeeded"), self.job.holds("Failed")
        if succeeded:
            return _Verdict(JobStatus.SUCCEEDED, _own_word(succeeded.reason), since=succeeded.since)
        if failed:
            words = next((f"{pod.replica.name}: {pod.words}" for pod in self.pods or () if pod.words), "")
            message = " ".join(part for part in (failed.message, f"Last words: {words}" if words else "") if part)
            return _Verdict(JobStatus.FAILED, self._limit() or _own_word(failed.reason), message, failed.since)
        if self.job.deleted:
            return _Verdict(JobStatus.STOPPING, "Deleted", "the job is being deleted", self.job.deleted)
        return None

    def _limit(self) -> str:
        """Which limit failed the job, told from its times: the operator gives one reason for everything."""
        job = self.job
        lasted = job.completed - job.started if job.started and job.completed else timedelta(0)
        if job.deadline is not None and lasted >= timedelta(seconds=job.deadline):
            return "DeadlineExceeded"
        return "BackoffLimitExceeded" if job.backoff is not None else ""

    def _queued(self) -> _Verdict | None:
        held = self.job.holds("Suspended")
        queue = f"queue {self.job.queue}" if self.job.queue else "its queue"
        if self.job.suspend is False and held:
            message = f"{queue} has let it in; the operator has not made its pods yet"
            return _Verdict(JobStatus.PENDING, "Admitted", message, held.since)
        if not (held or self.job.suspend):
            return None
        since = held.since if held else None
        told = self.workload
        if told and told.admitted:
            return _Verdict(JobStatus.PENDING, "Admitted", f"{queue} has let it in", told.since)
        if told and told.reason and told.reason != "Pending":
            ran = "it ran, and " if self.job.condition("Running") else ""
            message = f"{ran}{queue} holds it back: {told.message or told.reason}"
            return _Verdict(JobStatus.QUEUED, told.reason, message, told.since or since)
        if told and told.message and not self.job.condition("Running"):
            message = f"{queue} holds it back: {told.message}"
            return _Verdict(JobStatus.QUEUED, "Suspended", message, told.since or since)
        if self.job.condition("Running"):
            message = f"it ran, and was suspended again: {queue} gave its place to another job"
            return _Verdict(JobStatus.QUEUED, "Preempted", message, since)
        return _Verdict(JobStatus.QUEUED, "Suspended", f"it waits for {queue} to let it in", since)

    def _hindered(self) -> _Verdict | None:
        broken = self._with(Trouble.BROKEN)
        if broken:
            reason = broken[0].replica.reason
            detail = "init" if reason.startswith("Init:") else ""
            return _Verdict(
                JobStatus.DEGRADED, reason.rpartition(":")[2], _told(broken), _earliest(broken), detail=detail
            )
        leaving = self._with(Trouble.LEAVING)
        if leaving:
            return self._leaving(leaving)
        for trouble, status in (
            (Trouble.GATED, JobStatus.QUEUED),
            (Trouble.UNSCHEDULABLE, JobStatus.UNSCHEDULABLE),
            (Trouble.FAILED, JobStatus.RESTARTING),
            (Trouble.CRASHED, JobStatus.RESTARTING),
        ):
            found = self._with(trouble)
            if found:
                return _Verdict(status, found[0].replica.reason, _told(found), _earliest(found))
        return None

    def _leaving(self, leaving: list[PodFacts]) -> _Verdict:
        since = _earliest(leaving)
        reason, message = leaving[0].replica.reason, _told(leaving)
        until = since + LEAVING_AFTER if since else None
        if until and self.now >= until:
            message += f" (for {_minutes(LEAVING_AFTER)} and longer: its node does not answer)"
            return _Verdict(JobStatus.STALLED, "NodeLost", message, since)
        return _Verdict(JobStatus.RESTARTING, reason, message, since, until)

    def _under_way(self) -> _Verdict:
        strange = sorted(each.kind for each in self.job.conditions if each.holds and each.kind not in KNOWN_CONDITIONS)
        if strange:
            return _Verdict(JobStatus.UNKNOWN, strange[0], f"the condition {strange[0]} is not known to this version")
        restarting, running = self.job.holds("Restarting"), self.job.holds("Running")
        # A new node pulls the image like a first one, and is given as much time.
        if restarting and self._with(Trouble.CREATING):
            return self._starting()
        if restarting:
            return _Verdict(JobStatus.RESTARTING, _own_word(restarting.reason), restarting.message, restarting.since)
        if running:
            return self._running(running.since)
        if self.job.holds("Created"):
            return self._created()
        return self._unseen()

    def _running(self, since: datetime | None) -> _Verdict:
        if self.pods is None:
            message = "so the operator says; its pods may not be seen, and a crash loop would look the same"
            return _Verdict(JobStatus.RUNNING, "", message, since)
        if not self.pods:
            message = "the operator says that it runs, and it has no pods"
            return _Verdict(JobStatus.RESTARTING, "NoPods", message, since)
        if finished := self._finished_unseen(since):
            return finished
        due = since + NO_PODS_AFTER if since else None
        missing = self._missing()
        if missing and due and self.now > due:
            return _Verdict(JobStatus.RESTARTING, "NoPods", missing, since)
        if missing or not all(pod.is_up for pod in self.pods):
            return self._starting(due if missing else None)
        return _Verdict(JobStatus.RUNNING, "", self._restarted(), since)

    def _missing(self) -> str:
        """What is wrong when not every pod that the operator makes is there; empty when nothing."""
        there = {pod.replica.name for pod in self.pods or ()}
        missing = [name for name in self.job.pods if name not in there]
        if not missing:
            return ""
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return f"{', '.join(missing[:3])}{more} not there; the others wait and hold their nodes"

    def _restarted(self) -> str:
        pod = next((pod for pod in self.pods or () if pod.replica.restarts and pod.words), None)
        return f"{pod.replica.name} was restarted {_times(pod.replica.restarts)}; {pod.words}" if pod else ""

    def _finished_unseen(self, since: datetime | None) -> _Verdict | None:
        """A master that has ended well, and an operator that does not say so."""
        ended = next((pod.finished for pod in self.pods or () if pod.replica.name.endswith("-master-0")), None)
        if ended is None:
            return None
        if self.now < ended + SILENT_AFTER:
            return _Verdict(JobStatus.RUNNING, "", "", since, ended + SILENT_AFTER)
        message = "its containers have ended well, and the training operator has not taken note"
        return _Verdict(JobStatus.STALLED, "OperatorSilent", message, ended, detail="finished")

    def _starting(self, due: datetime | None = None) -> _Verdict:
        """Containers are being created; at `due` a pod that is missing will have been missing for too long."""
        creating = self._with(Trouble.CREATING)
        since = _earliest(creating)
        if since is None:
            return _Verdict(JobStatus.STARTING, until=due)
        until = since + CREATING_AFTER
        if self.now < until:
            return _Verdict(JobStatus.STARTING, "", "", since, min(until, due or until))
        message = f"{_told(creating)}; not created {_minutes(CREATING_AFTER)} after it got its node"
        return _Verdict(JobStatus.STALLED, "ContainerCreating", message, since)

    def _created(self) -> _Verdict:
        # A job that waited in a queue is as old as it is: what counts is when it was let in.
        seen = [each.since for each in self.job.conditions if each.kind in ("Created", "Suspended") and each.since]
        begun = max(seen, default=self.job.created)
        if self.pods is None:
            return _Verdict(JobStatus.PENDING)
        due = begun + NO_PODS_AFTER if begun else None
        lacks = (
            self._missing() if self.pods else f"no pods for more than {_minutes(NO_PODS_AFTER)} since it was taken up"
        )
        if lacks and due and self.now > due:
            return _Verdict(JobStatus.STALLED, "NoPods", lacks, begun)
        return self._starting(due if lacks else None) if self.pods else _Verdict(JobStatus.PENDING, until=due)

    def _unseen(self) -> _Verdict:
        until = (self.job.created or self.now) + SILENT_AFTER
        if self.now > until:
            message = f"no condition for more than {_minutes(SILENT_AFTER)} since its creation"
            return _Verdict(JobStatus.STALLED, "OperatorSilent", message)
        return _Verdict(JobStatus.PENDING, until=until)


def _own_word(reason: str) -> str:
    """A reason that says more than the condition's type does: "PyTorchJobRunning" does not."""
    return "" if reason.startswith("PyTorchJob") else reason


def _told(pods: list[PodFacts]) -> str:
    first = pods[0].replica
    more = f" (and {len(pods) - 1} more of its pods)" if len(pods) > 1 else ""
    return f"{first.name}: {first.message or first.reason}{more}"


def _earliest(pods: list[PodFacts]) -> datetime | None:
    return min((pod.since for pod in pods if pod.since), default=None)


def _minutes(age: timedelta) -> str:
    return plural(round(age.total_seconds() / 60), "minute")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
