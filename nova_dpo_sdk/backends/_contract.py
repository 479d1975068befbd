"""What a backend must be able to do, and the values that pass between it and its callers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nova_dpo_sdk.catalog import Platform
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.aws import AWS, S3Uri
    from nova_dpo_sdk.backends._logs import LogLines
    from nova_dpo_sdk.backends._plan import Plan
    from nova_dpo_sdk.backends._preflight import Preflight
    from nova_dpo_sdk.catalog import Catalog, Technique
    from nova_dpo_sdk.errors import Finding
    from nova_dpo_sdk.recipes import Recipe


class JobStatus(str, Enum):
    """What a job is doing. A word that nobody knows is UNKNOWN: neither failed nor finished."""

    PENDING = "pending"
    """Accepted; nothing has acted on it yet."""
    QUEUED = "queued"
    """Held back by the cluster's queue until there is quota."""
    UNSCHEDULABLE = "unschedulable"
    """The scheduler finds no node for its pods."""
    STARTING = "starting"
    """Pods exist; the training container does not run in all of them yet."""
    RUNNING = "running"
    """Training."""
    RESTARTING = "restarting"
    """A replica failed and is being started again."""
    DEGRADED = "degraded"
    """A container keeps failing: crash loop, image that cannot be pulled, wrong configuration."""
    STALLED = "stalled"
    """Nothing happens although it should: no pods appear, or the operator is silent."""
    STOPPING = "stopping"
    """Asked to stop; not gone yet."""
    SUCCEEDED = "succeeded"
    """Finished as it should. The checkpoint is in the manifest."""
    FAILED = "failed"
    """Failed for good."""
    STOPPED = "stopped"
    """Stopped before it finished; there is no checkpoint."""
    DELETED = "deleted"
    """The cluster does not have it (any more)."""
    UNKNOWN = "unknown"
    """In a state that this version does not know."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will change any more."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.DELETED)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ReplicaSnapshot:
    """One replica's pod as last seen.

    Attributes:
        name: The pod's name.
        phase: `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        node: Where it runs; empty when nowhere yet.
        restarts: How often its containers were started again.
        reason: Why it waits or ended, such as `CrashLoopBackOff`; empty when all is well.
        message: The same in the cluster's own words.
    """

    name: str
    phase: str
    node: str = ""
    restarts: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class JobSnapshot:
    """What was seen of a job at one moment.

    Attributes:
        ref: The job's reference.
        status: What it is doing.
        observed_at: When this was seen, in UTC.
        reason: Why, in one word, such as `Unschedulable`; empty when there is nothing to say.
        message: Why, in a sentence, usually the cluster's own.
        since: Since when, as far as the cluster says; None when it does not.
        created_at: When the job was created; None when unknown.
        started_at: When the first of its instances was its own: a pod got its node, or SageMaker began to bill. None
            before, and when it is not known.
        next_step: What to do about it; empty when nothing.
        replicas: Every replica that could be seen.
    """

    ref: str
    status: JobStatus
    observed_at: datetime
    reason: str = ""
    message: str = ""
    since: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    next_step: str = ""
    replicas: tuple[ReplicaSnapshot, ...] = ()

    @property
    def restarts(self) -> int:
        """Restarts of all replicas together."""
        return sum(each.restarts for each in self.replicas)

    @property
    def face(self) -> tuple[Any, ...]:
        """What makes it another snapshot than the one before: everything but the moment of looking."""
        return self.status, self.reason, self.message, self.replicas

    @property
    def summary(self) -> str:
        """The snapshot in one line, without its replicas."""
        why = ": ".join(part for part in (self.reason, self.message) if part)
        step = f" Next: {self.next_step}" if self.next_step else ""
        return f"{self.status}{f' ({why})' if why else ''}.{step}"

    def __str__(self) -> str:
        from nova_dpo_sdk.backends._snapshots import snapshot_lines

        return "\n".join(snapshot_lines(self))

    def _repr_html_(self) -> str:
        from nova_dpo_sdk.backends._snapshots import snapshot_html

        return snapshot_html(self)


_REF = re.compile(r"(?P<platform>[a-z-]+)://(?P<region>[a-z0-9-]+)/(?P<path>[^\s?#]+)\Z")


@dataclass(frozen=True)
class JobRef:
    """A job as a URL: `hyperpod://<region>/<cluster>/<namespace>/<job>` or `training-jobs://<region>/<job>`."""

    platform: Platform
    region: str
    path: tuple[str, ...]

    @property
    def name(self) -> str:
        """The job's own name."""
        return self.path[-1]

    @classmethod
    def parse(cls, text: str) -> JobRef:
        """Read a reference.

        Raises:
            ConfigurationError: The text is no reference of a known platform.
        """
        match = _REF.match(text)
        lengths = {Platform.HYPERPOD: 3, Platform.TRAINING_JOBS: 1}
        known = {str(platform): platform for platform in lengths}
        path = tuple(match["path"].split("/")) if match else ()
        platform = known.get(match["platform"]) if match else None
        if match is None or platform is None or len(path) != lengths[platform] or not all(path):
            raise ConfigurationError(
                f"{text!r} is not a job reference. One looks like hyperpod://us-east-1/<cluster>/<namespace>/<job> or "
                "training-jobs://us-east-1/<job>: take it from job.ref."
            )
        return cls(platform, match["region"], path)

    def __str__(self) -> str:
        return f"{self.platform}://{self.region}/{'/'.join(self.path)}"


@dataclass(frozen=True)
class LogWish:
    """Which of a job's log lines are wanted.

    Attributes:
        follow: Whether to go on with those that are still to come, until the job has finished.
        since: No line before this moment (aware).
        node: Only this node, by the name of the node, the instance or the replica.
        timeout: Seconds after which following ends.
        not_before: When the job cannot have begun yet; bounds a search when the platform has forgotten the job.
    """

    follow: bool = False
    since: datetime | None = None
    node: str | None = None
    timeout: float = 0.0
    not_before: datetime | None = None


class Backend(Protocol):
    """Where jobs run. Constructing one does no I/O; rendering a plan does none either."""

    @property
    def platform(self) -> Platform:
        """Which platform this is."""
        ...

    @property
    def instance_type(self) -> str:
        """The instance type that jobs ask for."""
        ...

    @property
    def catalog(self) -> Catalog:
        """What Nova offers."""
        ...

    @property
    def aws(self) -> AWS:
        """Where data, plans and manifests are kept."""
        ...

    @property
    def clock(self) -> Clock:
        """What tells the time."""
        ...

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks at a job."""
        ...

    def identity(self) -> dict[str, str]:
        """What tells this place from another, for the plan's digest: nothing that changes from run to run."""
        ...

    def findings(self, recipe: Recipe) -> list[Finding]:
        """What is wrong about running this recipe here, as far as it can be said without asking anybody."""
        ...

    def render(self, recipe: Recipe, digest: str) -> tuple[dict[str, Any], ...]:
        """The objects or the request that would be sent for a recipe whose name is the job's name."""
        ...

    def unresolved(self) -> dict[str, str]:
        """What only AWS knows and is not known yet: name and the placeholder that stands for it."""
        ...

    def resolve(self) -> None:
        """Ask AWS for what is unresolved, once."""
        ...

    def ref(self, name: str) -> JobRef:
        """The reference of the job of that name here."""
        ...

    def preflight(self, plan: Plan) -> Preflight:
        """Ask AWS and the platform everything that only they can answer about a plan; sends no job."""
        ...

    def submit(self, plan: Plan) -> bool:
        """Send the plan's objects exactly once.

        Returns:
            True when the very same job was there already and was adopted.
        """
        ...

    def snapshot(self, ref: JobRef) -> JobSnapshot:
        """Look at a job once."""
        ...

    def find_jobs(
        self, name: str | None = None, technique: Technique | None = None, since: datetime | None = None
    ) -> list[JobSnapshot]:
        """Look at every job here that this package has made, at a number of requests that hardly grows with them.

        Args:
            name: Only jobs of recipes of this name.
            technique: Only jobs of this technique.
            since: Only jobs created at this moment or later.

        Returns:
            One snapshot of each, the newest job first.
        """
        ...

    def follow(self, refs: Iterable[JobRef], *, interval: float, timeout: float) -> Iterator[JobSnapshot]:
        """Look at many jobs together until all are terminal, or the time is up.

        Args:
            refs: Which jobs.
            interval: Seconds between looks where changes are not sent by themselves.
            timeout: Seconds after which to stop.

        Yields:
            A first snapshot of each job, then one whenever a job's changes.
        """
        ...

    def logs(self, ref: JobRef, wish: LogWish) -> LogLines:
        """A job's log lines, merged over its nodes by time."""
        ...

    def cancel(self, ref: JobRef) -> None:
        """Stop a job; nothing happens when it is over or gone already."""
        ...

    def checkpoint_uri(self, ref: JobRef, output: S3Uri, not_before: datetime | None) -> str:
        """The S3 path of the checkpoint that a finished job's manifest states."""
        ...


@runtime_checkable
class Deletes(Protocol):
    """A backend whose platform keeps a finished job until it is deleted."""

    def delete(self, ref: JobRef) -> None:
        """Remove what a finished job has left; nothing happens when it is gone already.

        Raises:
            JobNotFinishedError: The job is not over.
        """
        ...
