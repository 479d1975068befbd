"""A handle on one job, shaped like a future: look, wait with an end, take the result, cancel."""

from __future__ import annotations

import html
import json
import logging
import math
import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import OUTAGE, Outage, ticks
from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends import Backend, Deletes, JobRef, JobSnapshot, JobStatus, LogWish
from nova_dpo_sdk.backends._metrics import read_metrics
from nova_dpo_sdk.catalog import NovaModel, Platform, Technique, TuningKind
from nova_dpo_sdk.errors import (
    AWSError,
    CheckpointError,
    ClusterError,
    ConfigurationError,
    JobError,
    JobFailedError,
    JobNotFinishedError,
    JobStoppedError,
    JobTimeoutError,
    NovaError,
)
from nova_dpo_sdk.recipes import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from nova_dpo_sdk.aws import S3Uri
    from nova_dpo_sdk.backends import LogLines, Metrics
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

_log = logging.getLogger(__name__)

FIVE_DAYS = 5 * 24 * 3600.0
"""How long a wait lasts when nobody says, in seconds; AWS's own DPO notebook allows a run as much."""
MANIFEST_GRACE = 600.0
"""How long a succeeded job's manifest is waited for, in seconds."""


@dataclass(frozen=True)
class Patience:
    """How long a wait bears with a job that is in trouble but not finished.

    Attributes:
        degraded: Seconds for which a container may keep failing.
        restarts: Restarts of one replica that end it sooner.
        stalled: Seconds for which nothing may happen, or a restart may take.
    """

    degraded: float = 1800.0
    restarts: int = 10
    stalled: float = 1800.0

    def grace(self, status: JobStatus) -> float:
        """Seconds for which a job in this state is borne with; without end when that is no trouble."""
        if status is JobStatus.DEGRADED:
            return self.degraded
        return self.stalled if status in (JobStatus.STALLED, JobStatus.RESTARTING) else math.inf

    def ends(self, snapshot: JobSnapshot, lasted: float) -> bool:
        """Whether a trouble that has lasted for `lasted` seconds ends the wait."""
        most = max((each.restarts for each in snapshot.replicas), default=0)
        return lasted >= self.grace(snapshot.status) or (
            snapshot.status is JobStatus.DEGRADED and most >= self.restarts
        )


@dataclass(frozen=True)
class RunRecord:
    """What was kept of a plan beside its run: enough to know what a checkpoint is.

    Attributes:
        output: The run's `output_s3_path`.
        written_at: When the record was written: before the job was created. None when unknown.
    """

    model: NovaModel
    tuning: TuningKind
    technique: Technique
    platform: Platform
    output: S3Uri
    written_at: datetime | None


class Job:
    """One job. `repr` costs nothing; every method asks the platform.

    Attributes:
        ref: The job as a URL; `nova.job(ref)` finds it again from anywhere.
        adopted: Whether a submit found it there already instead of creating it.
        differs: What such a job was sent with, and what the plan has instead; it keeps what it was sent with.
    """

    def __init__(
        self,
        ref: JobRef,
        backend: Backend,
        output: S3Uri,
        *,
        adopted: bool = False,
        last: JobSnapshot | None = None,
    ) -> None:
        self._ref = ref
        self._backend = backend
        self._output = output
        self.adopted = adopted
        self.differs: tuple[str, ...] = ()
        self._last = last

    @property
    def ref(self) -> str:
        """The job as a URL."""
        return str(self._ref)

    @property
    def name(self) -> str:
        """The job's name on its platform."""
        return self._ref.name

    @property
    def last(self) -> JobSnapshot | None:
        """What was last seen of it, by this handle; None before the first look. Asks nobody."""
        return self._last

    def remember(self, snapshot: JobSnapshot) -> None:
        """Take what somebody else has just seen of this job as its last snapshot."""
        self._last = snapshot

    def __repr__(self) -> str:
        seen = f", last={str(self._last.status)!r}" if self._last else ""
        return f"Job({self.ref!r}{seen})"

    def _repr_html_(self) -> str:
        from nova_dpo_sdk.backends._snapshots import snapshot_html

        if self._last is None:
            return f"<p><code>{html.escape(self.ref)}</code>: not looked at yet; <code>job.status()</code> looks.</p>"
        return snapshot_html(self._last, [("job", self.ref)])

    def status(self) -> JobSnapshot:
        """Look at the job once.

        Raises:
            ClusterError: The cluster cannot be asked; that says nothing about the job.
            AWSError: The same of AWS.
        """
        self._last = self._backend.snapshot(self._ref)
        return self._last

    def wait(
        self,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        *,
        interval: float | None = None,
        patience: Patience | None = None,
    ) -> JobSnapshot:
        """Wait until the job has finished, one way or the other.

        Args:
            timeout: Seconds after which to stop waiting; the job runs on.
            on_update: Called with every snapshot that differs from the one before.
            interval: Seconds between looks; the backend's own when left out.
            patience: How long a job in trouble is borne with.

        Returns:
            The last snapshot: succeeded, failed, stopped or deleted.

        Raises:
            JobTimeoutError: The time is up; the job runs on.
            JobFailedError: The job is in trouble that does not mend itself; it is still on the cluster.
            ClusterError: The cluster refused a look, did not answer the first one, or has not answered for a quarter of
                an hour; that says nothing about the job.
            AWSError: The same of AWS.
        """
        bear = patience or Patience()
        outage = Outage(self._backend.clock)
        trouble: tuple[JobStatus, float] | None = None
        shown: tuple[Any, ...] | None = None
        for passed in ticks(self._backend.clock, interval=interval or self._backend.poll_interval, timeout=timeout):
            snapshot = self._look(outage)
            if snapshot is None:
                continue
            face = snapshot.face
            if on_update is not None and face != shown:
                on_update(snapshot)
            shown = face
            if snapshot.status.is_terminal:
                return snapshot
            if trouble is None or trouble[0] is not snapshot.status:
                trouble = (snapshot.status, passed)
            if bear.ends(snapshot, passed - trouble[1]):
                raise self._given_up(snapshot)
        seen = self._last.summary if self._last else "not seen"
        raise JobTimeoutError(
            f"Stopped waiting for {self.name} after {timeout:.0f} s; the job runs on ({seen}). "
            f"Wait again with nova.job({self.ref!r}).wait().",
            ref=self.ref,
            snapshot=self._last,
        )

    def _look(self, outage: Outage) -> JobSnapshot | None:
        """What is seen of the job; None when there was no answer, which is borne with once there has been one."""
        try:
            snapshot = self.status()
        except (AWSError, ClusterError) as error:
            if self._last is None or not outage.bears(error):
                error.also(f"That says nothing about {self.name}: wait again with nova.job({self.ref!r}).wait().")
                raise
            _log.warning("%s could not be looked at, and will be again: %s", self.name, error)
            return None
        outage.answered()
        return snapshot

    def events(self, timeout: float = FIVE_DAYS, *, interval: float | None = None) -> Iterator[JobSnapshot]:
        """Every change of the job as it happens, or as it is seen.

        Args:
            timeout: Seconds after which to stop; the job runs on.
            interval: Seconds between looks where changes are not sent by themselves; the backend's own when left out.

        Yields:
            A first snapshot at once, then one for each change; the last one is terminal.

        Raises:
            JobTimeoutError: The time is up; the job runs on.
        """
        return watch([self], self._backend, timeout=timeout, interval=interval)

    def _given_up(self, snapshot: JobSnapshot) -> JobFailedError:
        return JobFailedError(
            f"{self.name} does not get on: {snapshot.summary} It is still on the cluster and holds its nodes: "
            "job.cancel() frees them.",
            ref=self.ref,
            snapshot=snapshot,
        )

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that the job's manifest names.

        Raises:
            JobNotFinishedError: The job has not finished.
            JobFailedError: The job failed.
            JobStoppedError: The job was stopped, or deleted before it finished.
            CheckpointError: It finished, but there is no usable manifest.
        """
        snapshot = self.status()
        if not snapshot.status.is_terminal:
            raise JobNotFinishedError(
                f"{self.name} has not finished ({snapshot.summary}) Wait for it with job.wait().",
                ref=self.ref,
                snapshot=snapshot,
            )
        return self.checkpoint_of(snapshot)

    def checkpoint_of(self, snapshot: JobSnapshot) -> Checkpoint:
        """The checkpoint of a job that was seen just now to be over; asks for its manifest only.

        Args:
            snapshot: What was seen: a terminal status.

        Raises:
            JobFailedError: It failed.
            JobStoppedError: It was stopped, or deleted before it finished.
            CheckpointError: It finished, but there is no usable manifest.
        """
        if snapshot.status in (JobStatus.FAILED, JobStatus.STOPPED):
            kind = JobFailedError if snapshot.status is JobStatus.FAILED else JobStoppedError
            raise kind(f"{self.name} has no checkpoint: {snapshot.summary}", ref=self.ref, snapshot=snapshot)
        record = self._record
        try:
            uri = self._backend.checkpoint_uri(self._ref, record.output, snapshot.created_at or record.written_at)
        except CheckpointError as error:
            if snapshot.status is not JobStatus.DELETED:
                raise
            raise JobStoppedError(
                f"{self.name} is not on the cluster and left no manifest: it was deleted before it finished. {error}",
                ref=self.ref,
                snapshot=snapshot,
            ) from error
        return Checkpoint(
            uri=uri,
            model=record.model,
            tuning=record.tuning,
            technique=record.technique,
            platform=record.platform,
            job=self.ref,
        )

    def left_a_checkpoint(self) -> bool:
        """Whether the cluster does not have the job any more, but its manifest names a checkpoint."""
        snapshot = self.status()
        if snapshot.status is not JobStatus.DELETED:
            return False
        try:
            self.checkpoint_of(snapshot)
        except JobError:
            return False
        return True

    def result(
        self,
        timeout: float = FIVE_DAYS,
        on_update: Callable[[JobSnapshot], None] | None = None,
        *,
        patience: Patience | None = None,
    ) -> Checkpoint:
        """Wait for the job to finish and give its checkpoint; the arguments are those of `wait`.

        Raises:
            JobFailedError: It failed, or does not get on.
            JobStoppedError: It was stopped or deleted.
            JobTimeoutError: The time is up; the job runs on.
            CheckpointError: It succeeded, but no usable manifest appeared within ten minutes.
            ClusterError: The cluster refused to answer, or has not for a quarter of an hour.
            AWSError: The same of AWS.
        """
        snapshot = self.wait(timeout, on_update, patience=patience)
        outage = Outage(self._backend.clock)
        failure: NovaError | None = None
        for passed in ticks(self._backend.clock, interval=5.0, timeout=MANIFEST_GRACE + OUTAGE):
            try:
                return self.checkpoint_of(snapshot)
            except CheckpointError as missing:  # noqa: PERF203 - asked a few times, seconds apart
                failure = missing
                outage.answered()
                if passed >= MANIFEST_GRACE:
                    break
            except (AWSError, ClusterError) as error:
                failure = error
                if not outage.bears(error):
                    break
        raise failure or CheckpointError(f"{self.name} left no manifest.", ref=self.ref, snapshot=snapshot)

    def logs(
        self,
        follow: bool = False,
        since: datetime | None = None,
        node: str | None = None,
        *,
        timeout: float = FIVE_DAYS,
    ) -> LogLines:
        """The job's log lines, those of all its nodes merged by time.

        `logs(...).source` says where they come from: the log streams of the nodes that its pods ran on; when the pods
        are gone, only the lines that mention the job; without restricted nodes or a log group, the pods themselves.

        Args:
            follow: Go on with lines that are still to come, each once, until the job has finished.
            since: No line before this moment (aware).
            node: Only this node: the name of the node, the instance or the replica; of a training job, the host, such
                as `algo-1`.
            timeout: Seconds after which following ends; the job runs on.

        Raises:
            JobNotFinishedError: The job is too young to have lines; `follow=True` waits for them.
            NotFoundError: There is no log group, and the pods' own logs may not be read.
            AccessDeniedError: The log group may not be read; names the IAM actions.
            JobTimeoutError: While following: the time is up.
            ConfigurationError: `since` has no time zone, or `node` is none of the job's.
        """
        if since is not None and since.tzinfo is None:
            raise ConfigurationError(f"since={since.isoformat()} has no time zone: give it one, such as timezone.utc.")
        return self._backend.logs(self._ref, LogWish(follow, since, node, timeout, self._submitted_at()))

    def metrics(self, since: datetime | None = None) -> Metrics:
        """The training metrics that the job's log shows so far: loss, learning rate, rewards; see `Metrics`.

        Wordings that are not known stay text: `logs()` has every line. The arguments and errors are those of `logs`.
        """
        lines = self.logs(since=since)
        return read_metrics(lines, self.name, lines.source)

    def saved_metrics(self) -> Metrics:
        """The metrics that a finished training job left in its output: the loss of every step, and validation losses.

        Raises:
            ConfigurationError: The job runs on another platform; `metrics()` reads its log.
            NotFoundError: There is no output (yet), or no table of metrics in it.
        """
        return self._on_training_jobs().saved_metrics(self._ref, self._record.output)

    def _submitted_at(self) -> datetime | None:
        try:
            return self._record.written_at
        except CheckpointError:
            return None

    def to_sagemaker(self) -> Any:
        """The SageMaker SDK's own `TrainingJob` of a training job, for what this package does not do.

        Raises:
            ConfigurationError: The job runs on another platform, or the SageMaker SDK is not installed.
            NotFoundError: There is no such job.
        """
        return self._on_training_jobs().to_sagemaker(self._ref)

    def _on_training_jobs(self) -> TrainingJobBackend:
        from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

        if not isinstance(self._backend, TrainingJobBackend):
            raise ConfigurationError(f"{self.ref} is no SageMaker training job: only those have that.")
        return self._backend

    def model_package(self) -> str:
        """The ARN of the model package that a training job has registered what it trained in.

        A serverless run continues from it: `TrainingJobOptions(model_package=...)`.

        Raises:
            ConfigurationError: The job runs on another platform.
            NotFoundError: There is no such job, or it has registered none (yet).
        """
        return self._on_training_jobs().model_package(self._ref)

    def cancel(self) -> None:
        """Stop the job and free its nodes; nothing happens when it is over or gone already.

        On HyperPod a job is stopped by deleting it, with its pods and its ConfigMap: it is DELETED then. A job that is
        over keeps its last state until `delete`.
        """
        self._backend.cancel(self._ref)

    def delete(self) -> None:
        """Remove a finished job from the cluster, with its pods and its ConfigMap; nothing happens when it is gone.

        What the run wrote to S3 stays, and `checkpoint()` still finds it.

        Raises:
            JobNotFinishedError: The job is not over; `cancel()` stops it.
            ConfigurationError: The platform keeps the records of its jobs for good.
        """
        if not isinstance(self._backend, Deletes):
            raise ConfigurationError(
                f"{self.ref}: this platform keeps the records of finished jobs for good, and they hold no nodes."
            )
        self._backend.delete(self._ref)

    @cached_property
    def _record(self) -> RunRecord:
        return read_record(self._backend, self._output, self._ref)


def watch(
    jobs: Iterable[Job], backend: Backend, *, timeout: float = FIVE_DAYS, interval: float | None = None
) -> Iterator[JobSnapshot]:
    """Follow many jobs of one place at the price of one.

    Args:
        jobs: Which jobs; each remembers what was last seen of it.
        backend: Where they are.
        timeout: Seconds after which to stop; the jobs run on.
        interval: Seconds between looks where changes are not sent by themselves; the backend's own when left out.

    Returns:
        A first snapshot of each job at once, then one for each change, until every job is over.

    Raises:
        ConfigurationError: A job lives elsewhere.
        JobTimeoutError: The time is up; names the jobs that are not over.
    """
    handles: dict[str, list[Job]] = {}
    for job in jobs:
        handles.setdefault(job.ref, []).append(job)
    refs = [JobRef.parse(ref) for ref in handles]
    news = backend.follow(refs, interval=interval or backend.poll_interval, timeout=timeout)
    return _followed(handles, news, timeout)


def _followed(handles: dict[str, list[Job]], news: Iterator[JobSnapshot], timeout: float) -> Iterator[JobSnapshot]:
    left: dict[str, JobSnapshot | None] = dict.fromkeys(handles)
    for snapshot in news:
        left[snapshot.ref] = snapshot
        for job in handles[snapshot.ref]:
            job.remember(snapshot)
        if snapshot.status.is_terminal:
            del left[snapshot.ref]
        yield snapshot
    if left:
        first = next(iter(left))
        shown = ", ".join(
            f"{JobRef.parse(ref).name} ({seen.status if seen else 'not seen'})" for ref, seen in left.items()
        )
        raise JobTimeoutError(
            f"Stopped watching after {timeout:.0f} s, with {len(left)} of {plural(len(handles), 'job')} running on: "
            f"{textwrap.shorten(shown, 1000, placeholder=' ...')}. Watch them again to go on.",
            ref=first,
            snapshot=left[first],
        )


def read_record(backend: Backend, output: S3Uri, ref: JobRef) -> RunRecord:
    """Read what was kept of a job's plan.

    Raises:
        CheckpointError: The record is missing or unreadable: what the checkpoint is must not be guessed.
    """
    from nova_dpo_sdk.aws import S3Uri as Uri

    place = output.join("plans", ref.name, "plan.json")
    held = backend.aws.read_or_none(place)
    if held is None:
        raise CheckpointError(
            f"{place}, the record of {ref.name}'s plan, does not exist, so its model and tuning are not known. "
            "Use the client with the output that the job was submitted with.",
            ref=str(ref),
        )
    try:
        plan: Any = json.loads(held.body)
        return RunRecord(
            NovaModel(plan["model"]),
            TuningKind(plan["tuning"]),
            Technique(plan["technique"]),
            Platform(plan["platform"]),
            Uri.parse(plan["output"]),
            held.last_modified,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{place} is not the record of a plan: {error}.", ref=str(ref)) from error
