"""Where a training job's lines are: one log group for all jobs, one stream for each host of each job."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from nova_dpo_sdk.aws import _training_jobs as calls
from nova_dpo_sdk.backends._logs import LogLine, LogLines, LogView, follow_lines, read_lines
from nova_dpo_sdk.errors import ConfigurationError, JobNotFinishedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from nova_dpo_sdk.aws import LogEvent, LogGroup
    from nova_dpo_sdk.backends._contract import JobRef, JobSnapshot, LogWish
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

GROUP = "/aws/sagemaker/TrainingJobs"
"""CloudWatch's log group of all training jobs; a stream is called `<job>/algo-<host>-<time>`."""
YOUNG = timedelta(minutes=5)
"""For how long after a job's end a missing log stream is nothing unusual."""


def open_logs(backend: TrainingJobBackend, ref: JobRef, wish: LogWish) -> LogLines:
    """Find out where a job's lines are, and give them.

    Raises:
        ConfigurationError: The job has no such host.
        JobNotFinishedError: The job has written nothing yet.
        NotFoundError: It has ended, and its lines are not there (any more).
    """
    source = HostStreams(backend, ref, wish)
    source.refuse_unknown_node()
    if wish.follow:
        lines = follow_lines(source, backend.clock, timeout=wish.timeout, ref=str(ref))
    else:
        source.refuse_if_empty()
        lines = read_lines(source)
    return LogLines(source.name, lines)


class HostStreams:
    """CloudWatch: the streams of the job's hosts.

    Args:
        backend: Where the job lives.
        ref: The job.
        wish: Which lines are wanted.
    """

    def __init__(self, backend: TrainingJobBackend, ref: JobRef, wish: LogWish) -> None:
        self.name = f"CloudWatch log group {GROUP}, the streams of the job's hosts"
        self._backend = backend
        self._ref = ref
        self._wish = wish
        self._group: LogGroup = backend.aws.log_group(GROUP)

    def refuse_unknown_node(self) -> None:
        """Say which hosts there are, when the one that is asked for is none of them.

        Raises:
            ConfigurationError: The job has no such host.
        """
        node = self._wish.node
        hosts = [] if node is None or self._streams() else self._hosts()
        if hosts and node not in hosts:
            raise ConfigurationError(f"node={node!r} is no host of {self._ref.name}: {', '.join(hosts)}.")

    def _hosts(self) -> list[str]:
        """Every host by what SageMaker says of the job, else by its streams; empty while that may be too early."""
        job = calls.describe_or_none(self._backend.aws.client("sagemaker"), self._ref.name) or {}
        count = int(job.get("ResourceConfig", {}).get("InstanceCount") or 0)
        if count or not self._backend.snapshot(self._ref).status.is_terminal:
            return [f"algo-{number}" for number in range(1, count + 1)]
        return sorted({_host(stream) for stream in self._all_streams()})

    def refuse_if_empty(self) -> None:
        """Say why there is nothing to read.

        Raises:
            JobNotFinishedError: The job is too young to have a stream.
            NotFoundError: It has ended, and has none.
        """
        if self._streams():
            return
        snapshot = self._backend.snapshot(self._ref)
        if not snapshot.status.is_terminal or _just_ended(snapshot):
            raise JobNotFinishedError(
                f"{self._ref.name} has no log lines yet ({snapshot.summary}) A host writes once its container runs. "
                "job.logs(follow=True) waits for them.",
                ref=str(self._ref),
                snapshot=snapshot,
            )
        meant = f" of {self._wish.node}" if self._wish.node else ""
        raise NotFoundError(
            f"Log group {GROUP} has no stream {self._ref.name}/algo-...{meant}: its container never ran "
            f"({snapshot.summary}), or its lines were deleted when the group's retention ended.",
            operation="DescribeLogStreams",
            target=GROUP,
        )

    def look(self) -> LogView:
        """See which hosts have a stream, and whether the job has ended."""
        snapshot = self._backend.snapshot(self._ref)
        return LogView(
            dict.fromkeys(self._streams(), self._wish.since), complete=True, over=snapshot.status.is_terminal
        )

    def read(self, places: Sequence[str], start: datetime | None) -> Iterable[LogEvent]:
        """The lines of some streams."""
        return self._group.events(streams=places, start=start)

    def line(self, event: LogEvent) -> LogLine | None:
        """Whose line it is."""
        if self._wish.since is not None and event.at < self._wish.since:
            return None
        return LogLine(event.at, _host(event.stream), "", event.text)

    def _streams(self) -> list[str]:
        node = self._wish.node
        return [each for each in self._all_streams() if node is None or node in (each, _host(each))]

    def _all_streams(self) -> list[str]:
        try:
            return list(self._group.streams(f"{self._ref.name}/"))
        except NotFoundError:
            return []  # the group is made by the first line of the first job


def _host(stream: str) -> str:
    """The host of a stream: `algo-1` of `support-dpo-3f9a1/algo-1-1700000000`."""
    return "-".join(stream.rpartition("/")[2].split("-")[:2])


def _just_ended(snapshot: JobSnapshot) -> bool:
    return snapshot.since is not None and snapshot.observed_at - snapshot.since < YOUNG
