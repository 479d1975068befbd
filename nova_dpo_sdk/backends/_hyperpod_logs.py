"""Where a HyperPod job's lines are: CloudWatch by the nodes it ran on, a search for its name, or its pods."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.aws import LogEvent
from nova_dpo_sdk.backends._facts import job_facts, job_of_pod
from nova_dpo_sdk.backends._logs import LogLine, LogLines, LogSource, LogView, follow_lines, read_lines
from nova_dpo_sdk.backends._status import fold
from nova_dpo_sdk.errors import ClusterError, ConfigurationError, JobNotFinishedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nova_dpo_sdk.aws import HyperPodCluster, LogGroup
    from nova_dpo_sdk.backends._contract import JobRef, JobSnapshot, LogWish
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend

_log = logging.getLogger(__name__)

STREAMS = "SagemakerHyperPodTrainingJob/"
"""What the names of training's log streams begin with; `<instance group>/<instance id>` follows."""
YOUNG = timedelta(minutes=5)
"""For how long after a pod's start a missing log stream is nothing unusual."""
_ROUNDING = timedelta(seconds=2)  # Kubernetes' moments are whole seconds, and the lines' own come from another clock
_NODE = "hyperpod-"
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?(.*)", re.DOTALL)

Json = dict[str, Any]


@dataclass(frozen=True)
class PodSpan:
    """One pod on one node, and from when to when it wrote.

    Attributes:
        uid: The pod's uid.
        replica: The pod's name.
        node: The node's name.
        start: When it was started there.
        end: When its last container ended; None while it runs.
        restarts: How often its containers were started again.
    """

    uid: str
    replica: str
    node: str
    start: datetime
    end: datetime | None
    restarts: int = 0

    @property
    def instance(self) -> str:
        """The id of the instance, which its log stream is named after."""
        return self.node.removeprefix(_NODE)

    def covers(self, moment: datetime) -> bool:
        """Whether the pod wrote at that moment."""
        return self.start <= moment and (self.end is None or moment <= self.end + _ROUNDING)

    def is_meant(self, node: str | None) -> bool:
        """Whether `node`, a caller's word, means this one: node, instance id or replica."""
        return node is None or node in (self.node, self.instance, self.replica)


def open_logs(backend: HyperPodBackend, ref: JobRef, wish: LogWish) -> LogLines:
    """Find out where a job's lines are, and give them."""
    cluster = backend.aws.describe_hyperpod(backend.cluster)
    group = backend.aws.log_group(f"/aws/sagemaker/Clusters/{cluster.name}/{cluster.id}")
    pods = _Pods(backend, ref, wish)
    source = _choose(cluster, group, pods)
    _log.info("the log of %s is read from %s", ref.name, source.name)
    if wish.follow:
        lines = follow_lines(source, backend.clock, timeout=wish.timeout, ref=str(ref))
    else:
        lines = read_lines(source)
    return LogLines(source.name, lines)


def _choose(cluster: HyperPodCluster, group: LogGroup, pods: _Pods) -> LogSource:
    if not any(each.restricted for each in cluster.groups):
        return _from_pods(pods, f"{cluster.name} has no restricted instance group")
    try:
        streams = group.streams(STREAMS)
    except NotFoundError as error:
        return _from_pods(pods, str(error), error)
    pods.look()
    if not pods.visible or (pods.over and not pods.seen):
        pods.refuse_replica()
        return TextSearch(group, pods)
    if pods.over and not pods.spans:
        raise pods.nobody_meant()
    source = NodeStreams(group, pods, streams)
    if not pods.wish.follow:
        source.refuse_if_empty()
    return source


def _from_pods(pods: _Pods, why: str, error: NotFoundError | None = None) -> LogSource:
    source = PodLogs(pods)
    pods.look()
    try:
        for span in pods.spans[:1]:
            source.text(span, pods.now())
    except ClusterError as refused:
        raise NotFoundError(
            f"The log of {pods.ref.name} cannot be read. {why} And its pods' own logs are closed: {refused}",
            operation="FilterLogEvents",
            target=pods.ref.name,
            code=error.code if error else "",
        ) from refused
    if not pods.wish.follow and not pods.spans:
        raise pods.too_young(f"{why} Its pods' own logs would be read, and no pod of it is on a node (any more).")
    return source


class _Pods:
    """The pods that a job has or had, as far as they were seen."""

    def __init__(self, backend: HyperPodBackend, ref: JobRef, wish: LogWish) -> None:
        self.backend = backend
        self.ref = ref
        self.wish = wish
        self.over = False
        self.visible = True
        self.created: datetime | None = None
        self.snapshot: JobSnapshot | None = None
        self._expected: tuple[str, ...] = ()
        self._spans: dict[str, PodSpan] = {}

    def now(self) -> datetime:
        return self.backend.clock.now()

    @property
    def seen(self) -> bool:
        """Whether any pod of the job is or was on a node, meant or not."""
        return bool(self._spans)

    @property
    def spans(self) -> list[PodSpan]:
        """Those that are or were on a node, and are meant."""
        return [span for span in self._spans.values() if span.is_meant(self.wish.node)]

    def look(self) -> None:
        """See what is there now.

        Raises:
            ConfigurationError: The node that is meant is none of the job's, and cannot become one.
        """
        now = self.now()
        job, pods = self.backend.observe(self.ref)
        self._expected = job_facts(job).pods if job is not None else self._expected
        self.snapshot = fold(str(self.ref), job, pods, now) if job is not None else None
        self.over = self.snapshot is None or self.snapshot.status.is_terminal
        self.created = self.snapshot.created_at if self.snapshot else self.created
        self.visible = pods is not None
        present = {span.uid: span for span in map(_span, pods or ()) if span is not None}
        if self.visible:
            for uid, span in self._spans.items():
                if uid not in present and span.end is None:
                    self._spans[uid] = replace(span, end=now)
        self._spans |= present
        placed = bool(self._expected) and {span.replica for span in present.values()}.issuperset(self._expected)
        if not self.spans and (placed or self._is_beyond()):
            raise self.nobody_meant()

    def _is_beyond(self) -> bool:
        """Whether a replica is meant that the job does not have."""
        return bool(self._expected) and self._means_replica() and self.wish.node not in self._expected

    def _means_replica(self) -> bool:
        return job_of_pod(self.wish.node or "") == self.ref.name

    def refuse_replica(self) -> None:
        """Refuse a replica's name where only nodes are known."""
        if self._means_replica():
            raise ConfigurationError(
                f"node={self.wish.node!r} is a replica, and the pods of {self.ref.name} are not seen (any more): where "
                "it ran is not known. Give a node or an instance id, or leave node out: each line names its node."
            )

    def start_of(self, spans: Iterable[PodSpan]) -> datetime:
        start = min(span.start for span in spans)
        return max(start, self.wish.since) if self.wish.since else start

    def line(self, span: PodSpan | None, event: LogEvent) -> LogLine | None:
        since = self.wish.since
        if span is None or (since is not None and event.at < since):
            return None
        return LogLine(event.at, span.node, span.replica, event.text)

    def nobody_meant(self) -> ConfigurationError:
        ran = ", ".join(f"{span.replica} on {span.node}" for span in self._spans.values()) or ", ".join(self._expected)
        return ConfigurationError(f"node={self.wish.node!r} is no node, instance or replica of {self.ref.name}: {ran}.")

    def too_young(self, why: str) -> JobNotFinishedError:
        seen = f" ({self.snapshot.summary})" if self.snapshot else ""
        return JobNotFinishedError(
            f"{self.ref.name} has no log lines yet{seen}: {why} job.logs(follow=True) waits for them.",
            ref=str(self.ref),
            snapshot=self.snapshot,
        )


class NodeStreams:
    """CloudWatch: the streams of the nodes that the job's pods ran on, from the pods' start to their end."""

    def __init__(self, group: LogGroup, pods: _Pods, streams: Sequence[str]) -> None:
        self.name = f"CloudWatch log group {group.name}, the streams of the job's nodes"
        self._group = group
        self._pods = pods
        self._streams = _by_instance(streams)

    def refuse_if_empty(self) -> None:
        """Say why there is nothing to read.

        Raises:
            JobNotFinishedError: No pod is on a node yet, or it is too young to have a stream.
            ConfigurationError: None of its pods is the one that is meant.
            NotFoundError: The nodes' streams are not in the group.
        """
        spans = self._pods.spans
        if not spans:
            raise self._pods.nobody_meant() if self._pods.seen else self._pods.too_young("no pod of it is on a node.")
        if any(span.instance in self._streams for span in spans):
            return
        if self._pods.now() - min(span.start for span in spans) < YOUNG:
            raise self._pods.too_young("CloudWatch has no stream of its nodes yet; that takes a minute or two.")
        raise NotFoundError(
            f"Log group {self._group.name} has no stream {STREAMS}<group>/<instance> of any node that "
            f"{self._pods.ref.name} ran on ({', '.join(span.node for span in spans)}): the nodes send no logs, or "
            "their lines were deleted when the group's retention ended.",
            operation="DescribeLogStreams",
            target=self._group.name,
        )

    def look(self) -> LogView:
        """See which nodes the pods are on, and which of these have a stream."""
        self._pods.look()
        wanted: dict[str, list[PodSpan]] = {}
        for span in self._pods.spans:
            wanted.setdefault(span.instance, []).append(span)
        if wanted.keys() - self._streams.keys():
            self._streams = _by_instance(self._group.streams(STREAMS))
        starts: dict[str, datetime | None] = {
            self._streams[instance]: self._pods.start_of(spans)
            for instance, spans in wanted.items()
            if instance in self._streams
        }
        return LogView(starts, complete=len(starts) == len(wanted), over=self._pods.over)

    def read(self, places: Sequence[str], start: datetime | None) -> Iterable[LogEvent]:
        """The lines of some streams."""
        ends = [span.end for span in self._pods.spans]
        known = [end for end in ends if end is not None]
        end = max(known) + _ROUNDING if known and len(known) == len(ends) else None
        return self._group.events(streams=places, start=start, end=end)

    def line(self, event: LogEvent) -> LogLine | None:
        """The pod that was on the stream's node at that moment."""
        instance = event.stream.rpartition("/")[2]
        spans = (span for span in self._pods.spans if span.instance == instance and span.covers(event.at))
        return self._pods.line(next(spans, None), event)


class TextSearch:
    """CloudWatch: every line of the cluster's training streams that mentions the job, when its pods are gone."""

    def __init__(self, group: LogGroup, pods: _Pods) -> None:
        self.name = f"CloudWatch log group {group.name}, only lines that mention {pods.ref.name}: its pods are not seen"
        self._group = group
        self._pods = pods

    def look(self) -> LogView:
        """There is one place, and it is there."""
        self._pods.look()
        start = self._pods.wish.since or self._pods.created or self._pods.wish.not_before
        return LogView({STREAMS: start}, complete=True, over=self._pods.over)

    def read(self, places: Sequence[str], start: datetime | None) -> Iterable[LogEvent]:
        """The lines that mention the job, sorted here: a search gives them as it finds them."""
        del places
        found = self._group.events(prefix=STREAMS, start=start, pattern=f'"{self._pods.ref.name}"')
        return sorted(found, key=lambda event: event.at)

    def line(self, event: LogEvent) -> LogLine | None:
        """The line of a node; which replica it was is not known any more."""
        instance = event.stream.rpartition("/")[2]
        span = PodSpan("", "", f"{_NODE}{instance}", event.at, None)
        return self._pods.line(span, event) if span.is_meant(self._pods.wish.node) else None


class PodLogs:
    """The Kubernetes API: what the pods' containers wrote, where that may be read: not on restricted nodes."""

    def __init__(self, pods: _Pods) -> None:
        self.name = f"the Kubernetes API, the logs of the pods of {pods.ref.name}"
        self._pods = pods

    def look(self) -> LogView:
        """See which pods there are."""
        self._pods.look()
        starts: dict[str, datetime | None] = {span.uid: self._pods.start_of([span]) for span in self._pods.spans}
        return LogView(starts, complete=True, over=self._pods.over)

    def read(self, places: Sequence[str], start: datetime | None) -> Iterable[LogEvent]:
        """What some pods wrote."""
        for span in self._pods.spans:
            if span.uid in places:
                yield from (event for event in self._events(span, start) if start is None or event.at >= start)

    def line(self, event: LogEvent) -> LogLine | None:
        """The pod's line."""
        return self._pods.line(next((span for span in self._pods.spans if span.uid == event.stream), None), event)

    def _events(self, span: PodSpan, start: datetime | None) -> Iterator[LogEvent]:
        earlier = self.text(span, start, previous=True) if span.restarts else ""
        count: dict[str, int] = {}
        for line in (earlier + self.text(span, start)).split("\n"):
            match = _LINE.fullmatch(line)
            if match is None:
                continue
            seconds, fraction, zone, text = match.groups(default="")  # a kubelet stamps in its node's own zone
            stamp = f"{seconds}.{fraction}{zone}"
            count[stamp] = count.get(stamp, 0) + 1
            at = _moment(f"{seconds}{zone}", fraction)
            yield LogEvent(f"{span.uid}/{stamp}/{count[stamp]}", at, span.uid, text)

    def text(self, span: PodSpan, start: datetime | None, *, previous: bool = False) -> str:
        """A container's log since a moment; empty when it has not begun, or the pod is gone."""
        api, namespace = self._pods.backend.api(), self._pods.backend.namespace
        try:
            return api.log(namespace, span.replica, since=start, previous=previous)
        except ClusterError as error:
            if error.status not in (400, 404):
                raise
            return ""


def _by_instance(streams: Iterable[str]) -> dict[str, str]:
    return {name.rpartition("/")[2]: name for name in streams}


def _span(pod: Json) -> PodSpan | None:
    status: Json = pod.get("status") or {}
    spec: Json = pod.get("spec") or {}
    meta: Json = pod["metadata"]
    node = str(spec.get("nodeName") or "")
    started = str(status.get("startTime") or meta.get("creationTimestamp") or "")
    if not node or not started:
        return None
    containers: list[Json] = status.get("containerStatuses") or []
    ended = status.get("phase") in ("Succeeded", "Failed")
    ends = [end for end in map(_finished, containers) if end] if ended else []
    restarts = sum(int(each.get("restartCount") or 0) for each in containers)
    end = _moment(max(ends)) if ends else None
    return PodSpan(str(meta["uid"]), str(meta["name"]), node, _moment(started), end, restarts)


def _finished(container: Json) -> str:
    state: Json = container.get("state") or {}
    terminated: Json = state.get("terminated") or {}
    return str(terminated.get("finishedAt") or "")


def _moment(seconds: str, fraction: str = "") -> datetime:
    moment = datetime.fromisoformat(seconds.replace("Z", "+00:00")).astimezone(timezone.utc)
    return moment + timedelta(microseconds=int(fraction[:6].ljust(6, "0") or 0))
