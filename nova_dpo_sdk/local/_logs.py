"""The rehearsal cloud's CloudWatch Logs: the cluster's log group, with a stream for each node that trains."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ._aws_protocol import AWSRefusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._machines import Cluster

Json = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TERM = re.compile(r'(-?)(?:"([^"]*)"|%([^%]*)%|([^\s"%]+))')
_STREAM_PAGE = 50
_EVENT_PAGE = 10_000
_MOST_NAMES = 100


@dataclass(frozen=True)
class _Event:
    number: int
    at: int
    arrives: datetime
    stream: str
    text: str

    @property
    def key(self) -> tuple[int, int]:
        return self.at, self.number

    def shown(self) -> Json:
        return {
            "eventId": f"{self.number:056d}",
            "timestamp": self.at,
            "ingestionTime": _milliseconds(self.arrives),
            "message": self.text,
        }


@dataclass
class _Late:
    node: str
    seconds: float


@dataclass
class LocalLogs:
    """One log group. An event is there once it has arrived, a stream once its first event is.

    Attributes:
        cluster: Whose log group it is.
        now: Tells the time.
        exists: Whether the group exists; may be set to False.
        page_sizes: How many events the pages of one search have, over and over; 0 is an empty page that has a
            successor, as the service gives them too.
        zone: The nodes' time zone, in which kubelets stamp the lines of pods.
    """

    cluster: Cluster
    now: Callable[[], datetime] = field(repr=False)
    exists: bool = True
    page_sizes: tuple[int, ...] = (_EVENT_PAGE,)
    zone: timezone = timezone.utc
    _events: dict[str, list[_Event]] = field(default_factory=dict[str, "list[_Event]"], repr=False)
    _late: list[_Late] = field(default_factory=list[_Late], repr=False)
    _count: int = 0

    @property
    def group(self) -> str:
        """The log group's name."""
        return f"/aws/sagemaker/Clusters/{self.cluster.name}/{self.cluster.id}"

    def late(self, seconds: float, node: str = "*") -> None:
        """Let lines that are written from now on arrive later, and so also the stream if it is new.

        Args:
            seconds: How much later; 0 mends it.
            node: Pattern of nodes' names, such as `hyperpod-i-0*`.
        """
        self._late.insert(0, _Late(node, seconds))

    def write(self, group: str, node: str, text: str, at: datetime, late: float = 0.0) -> None:
        """Let a node's training container write a line.

        Args:
            group: The node's instance group.
            node: The node's name.
            text: The line.
            at: Its moment.
            late: Seconds until it arrives, on top of those of `late()`.
        """
        self.put(f"SagemakerHyperPodTrainingJob/{group}/{node.removeprefix('hyperpod-')}", node, text, at, late)

    def put(self, stream: str, node: str, text: str, at: datetime, late: float = 0.0) -> None:
        """Add a line to a stream, which begins with its first line."""
        delay = late + next((each.seconds for each in self._late if fnmatchcase(node, each.node)), 0.0)
        self._count += 1
        event = _Event(self._count, _milliseconds(at), at + timedelta(seconds=delay), stream, text)
        self._events.setdefault(stream, []).append(event)

    def answer(self, operation: str, body: bytes) -> Json | None:
        """Answer a request about this group; None for one that is about something else.

        Raises:
            AWSRefusal: As the service words it.
        """
        given: Json = json.loads(body or b"{}")
        actions: dict[str, Callable[[Json], Json]] = {
            "DescribeLogStreams": self._describe,
            "FilterLogEvents": self._filter,
            "GetLogEvents": self._get,
        }
        if given.get("logGroupName") != self.group or operation not in actions:
            return None
        if not self.exists:
            raise AWSRefusal(400, "ResourceNotFoundException", "The specified log group does not exist.")
        return actions[operation](given)

    def _arrived(self, stream: str) -> list[_Event]:
        now = self.now()
        return sorted((each for each in self._events.get(stream, ()) if each.arrives <= now), key=lambda each: each.key)

    def _streams(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._events if name.startswith(prefix) and self._arrived(name))

    def _describe(self, given: Json) -> Json:
        names = self._streams(str(given.get("logStreamNamePrefix") or ""))
        after = _unfold(given.get("nextToken"), "")
        left = [name for name in names if name > after]
        page = left[: int(given.get("limit") or _STREAM_PAGE)]
        answer: Json = {"logStreams": [{"logStreamName": name, "storedBytes": 0} for name in page]}
        return answer | ({"nextToken": _fold(page[-1])} if len(page) < len(left) else {})

    def _filter(self, given: Json) -> Json:
        matches = _pattern(str(given.get("filterPattern") or ""))
        start, end = given.get("startTime"), given.get("endTime")
        token: tuple[list[int], int] = _unfold(given.get("nextToken"), ([-1, -1], 0))
        after, number = token
        found = sorted(
            (
                event
                for stream in self._chosen(given)
                for event in self._arrived(stream)
                if (start is None or event.at >= start) and (end is None or event.at <= end) and matches(event.text)
            ),
            key=lambda event: event.key,
        )
        left = [event for event in found if list(event.key) > after]
        size = self.page_sizes[number % len(self.page_sizes)]
        page = left[: min(size, int(given.get("limit") or _EVENT_PAGE))]
        shown = [{**event.shown(), "logStreamName": event.stream} for event in page]
        if len(page) == len(left):
            return {"events": shown, "searchedLogStreams": []}
        reached = list(page[-1].key) if page else after
        return {"events": shown, "searchedLogStreams": [], "nextToken": _fold([reached, number + 1])}

    def _chosen(self, given: Json) -> Iterable[str]:
        names: list[str] = given.get("logStreamNames") or []
        prefix = str(given.get("logStreamNamePrefix") or "")
        if (names and prefix) or len(names) > _MOST_NAMES:
            message = "logStreamNamePrefix and logStreamNames exclude each other; at most 100 names are taken."
            raise AWSRefusal(400, "InvalidParameterException", message)
        there = self._streams(prefix)
        if set(names) - set(there):
            raise AWSRefusal(400, "ResourceNotFoundException", "The specified log stream does not exist.")
        return names or there

    def _get(self, given: Json) -> Json:
        stream = str(given.get("logStreamName") or "")
        if stream not in self._streams():
            raise AWSRefusal(400, "ResourceNotFoundException", "The specified log stream does not exist.")
        start, end = given.get("startTime"), given.get("endTime")
        events = [e for e in self._arrived(stream) if (start is None or e.at >= start) and (end is None or e.at < end)]
        size = int(given.get("limit") or _EVENT_PAGE)
        way, place = _unfold(given.get("nextToken"), ["", 0])
        backwards = way == "b" or not (way or given.get("startFromHead"))
        high = (place if way else len(events)) if backwards else min(len(events), place + size)
        low = max(0, high - size) if backwards else place
        page = events[low:high]
        return {
            "events": [event.shown() for event in page],
            "nextForwardToken": _fold(["f", high]),
            "nextBackwardToken": _fold(["b", low]),
        }


def _pattern(text: str) -> Callable[[str], bool]:
    """CloudWatch's terms: all must be in the line, those after a minus must not; `%...%` is a regular expression."""
    if text.startswith(("{", "[", "?")):
        raise AWSRefusal(400, "InvalidParameterException", f"the rehearsal cloud knows terms only, not {text!r}")
    terms = [(bool(minus), phrase or word, regex) for minus, phrase, regex, word in _TERM.findall(text)]

    def matches(line: str) -> bool:
        return all(
            (bool(re.search(regex, line)) if regex else term in line) is not minus for minus, term, regex in terms
        )

    return matches


def _fold(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _unfold(token: Any, first: Any) -> Any:
    if not token:
        return first
    try:
        return json.loads(base64.urlsafe_b64decode(str(token)))
    except ValueError as error:
        raise AWSRefusal(400, "InvalidParameterException", "The specified nextToken is invalid.") from error


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
