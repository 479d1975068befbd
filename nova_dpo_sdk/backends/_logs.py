"""A job's log lines from wherever they are kept: merged over its nodes by time, and followed without loss."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from nova_dpo_sdk._time import ticks
from nova_dpo_sdk.errors import ClusterError, JobTimeoutError, ServiceError, ThrottledError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.aws import LogEvent

_log = logging.getLogger(__name__)

SETTLE = timedelta(seconds=10)
"""How long a followed line is held back, so that the lines of slower nodes can be put before it."""
LATE = timedelta(minutes=10)
"""How late a line may arrive and still be found while following."""
SWEEP = timedelta(minutes=2)
"""How often the whole of `LATE` is read again; between two sweeps only a little of it is."""
QUIET = timedelta(seconds=30)
"""How long nothing new must have come after the job's end; twice as long as lines were late, if that is more."""
MOST_FAILURES = 10
"""Looks in a row that may fail before following gives up."""
_TIDY = 1000
_GRAIN = timedelta(milliseconds=1)  # requests begin at whole milliseconds: by less than one before what is asked for


@dataclass(frozen=True)
class LogLine:
    """One line of a job's log.

    Attributes:
        at: When it was written, as the place that keeps it says (aware, UTC).
        node: The node that wrote it, such as `hyperpod-i-0123456789abcdef0`.
        replica: The replica's pod, such as `support-dpo-3f9a1-worker-0`; empty when that is no longer known.
        text: The line, without its end.
    """

    at: datetime
    node: str
    replica: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%dT%H:%M:%S}Z {self.replica or self.node} {self.text}"


@dataclass(frozen=True)
class LogView:
    """Where a job's lines are, at one moment.

    Attributes:
        starts: Every place that can be read now, and the moment from which it is to be read.
        complete: Whether every place that is expected is there.
        over: Whether the job writes no more.
    """

    starts: Mapping[str, datetime | None]
    complete: bool
    over: bool


class LogSource(Protocol):
    """One way to read a job's lines."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    def look(self) -> LogView:
        """See where the lines are now, and whether there will be more."""
        ...

    def read(self, places: Sequence[str], start: datetime | None) -> Iterable[LogEvent]:
        """The lines of some places from a moment on; those of one place in the order of their moments."""
        ...

    def line(self, event: LogEvent) -> LogLine | None:
        """Whose line it is; None when it is not the job's."""
        ...


class LogLines(Iterator[LogLine]):
    """A job's lines, one after another.

    Attributes:
        source: Where they come from, for people.
    """

    def __init__(self, source: str, lines: Iterator[LogLine]) -> None:
        self.source = source
        self._lines = lines

    def __repr__(self) -> str:
        return f"LogLines(source={self.source!r})"

    def __next__(self) -> LogLine:
        return next(self._lines)


def read_lines(source: LogSource) -> Iterator[LogLine]:
    """Every line that is there now, merged by time; in memory is one page of each node."""
    for _, line in _merged(source, source.look().starts):
        yield line


def follow_lines(
    source: LogSource, clock: Clock, *, timeout: float, interval: float = 5.0, ref: str = ""
) -> Iterator[LogLine]:
    """Every line that is there and that comes, until the job has finished and nothing new comes any more.

    Each line comes once. Lines are in order of time as long as no node is more than `SETTLE` behind; one that arrives
    later is still given, out of order, if it is not later than `LATE`. The end is reached when the job has finished
    and nothing has come for `QUIET`; a node that has not sent anything by then is waited for until `LATE`.

    Args:
        source: Where to read.
        clock: Passes the time between looks.
        timeout: Seconds after which to stop.
        interval: Seconds between looks.
        ref: The job's reference, for the error.

    Raises:
        JobTimeoutError: The time is up; the job runs on.
    """
    tail = _Tail(source, clock)
    yield from tail.history()
    failures = 0
    for _ in ticks(clock, interval=interval, timeout=timeout):
        try:
            lines = tail.news()
        except (ThrottledError, ServiceError, ClusterError) as error:
            failures += 1
            if failures > MOST_FAILURES or not error.may_pass:
                raise
            _log.warning("the log could not be read, and is read again in %g s: %s", interval, error)
            continue
        failures = 0
        yield from lines
        if tail.drained:
            yield from tail.rest()
            return
    raise JobTimeoutError(
        f"Stopped following the log after {timeout:.0f} s; the job runs on. Go on with "
        "job.logs(follow=True, since=<the last line's at>).",
        ref=ref,
    )


def _merged(source: LogSource, starts: Mapping[str, datetime | None]) -> Iterator[tuple[LogEvent, LogLine]]:
    pagers = [source.read([place], start) for place, start in starts.items()]
    for event in heapq.merge(*pagers, key=_order):
        line = source.line(event)
        if line is not None:
            yield event, line


def _order(event: LogEvent) -> tuple[datetime, str]:
    return event.at, event.stream


class _Tail:
    """What has been given of a growing log, and what is held back.

    A place that is new is read from its start. One that is known is read again from a little before the last look,
    and every `SWEEP` from `LATE` before it, because lines arrive after the moment that they carry.
    """

    def __init__(self, source: LogSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._known: set[str] = set()
        self._seen: dict[str, datetime] = {}
        self._held: list[tuple[datetime, int, LogLine]] = []
        self._count = 0
        self._looked = self._swept = clock.now()
        self._lag = timedelta(0)
        self._newest_arrival = clock.now()
        self._ended: datetime | None = None
        self._complete = False

    @property
    def drained(self) -> bool:
        """Whether nothing more is to be expected."""
        now = self._clock.now()
        if self._ended is None:
            return False
        quiet = min(LATE, max(QUIET, 2 * self._lag))
        waited = now - max(self._ended, self._newest_arrival)
        return (self._complete and waited >= quiet) or now - self._ended >= LATE

    def history(self) -> Iterator[LogLine]:
        """What is there at first, without holding all of it in memory; to be read to its end before `news`."""
        now = self._clock.now()
        starts = self._source.look().starts
        for event, line in _merged(self._source, starts):
            if line.at < now - LATE - _GRAIN:
                yield line
            else:
                self._keep([(event, line)], now)
                yield from self._settled(now)
        self._known |= starts.keys()
        self._looked = self._swept = now

    def news(self) -> list[LogLine]:
        """Look once; the lines that may be given now, in order."""
        now = self._clock.now()
        view = self._source.look()
        fresh = {place: start for place, start in view.starts.items() if place not in self._known}
        known = [place for place in view.starts if place in self._known]
        found = list(_merged(self._source, fresh))
        start, sweeps = self._start(now, over=view.over)
        later = list(self._source.read(known, start)) if known else []
        # Nothing of this look is remembered before all of it was read: after an error it is simply done again.
        newest = {event.stream: event.at for event, _ in found}
        self._lag = max([self._lag, *(now - at for at in newest.values())])
        self._keep(found, now)
        self._keep_late(later, now)
        self._known |= fresh.keys()
        self._looked = now
        self._swept = now if sweeps else self._swept
        self._complete = view.complete
        self._ended = (self._ended or now) if view.over else None
        self._forget()
        return self._settled(now)

    def rest(self) -> list[LogLine]:
        """Everything that is held back, in order."""
        return self._settled(None)

    def _start(self, now: datetime, *, over: bool) -> tuple[datetime, bool]:
        sweeps = over or now - self._swept >= SWEEP
        if sweeps:
            return self._swept - LATE, True
        return self._looked - min(LATE, max(3 * SETTLE, 2 * self._lag)), False

    def _keep(self, found: Iterable[tuple[LogEvent, LogLine]], now: datetime) -> None:
        for event, line in found:
            if event.id not in self._seen:
                self._seen[event.id] = event.at
                self._newest_arrival = now
                self._count += 1
                heapq.heappush(self._held, (line.at, self._count, line))

    def _keep_late(self, events: list[LogEvent], now: datetime) -> None:
        fresh = [(event, self._source.line(event)) for event in events if event.id not in self._seen]
        ours = [(event, line) for event, line in fresh if line is not None]
        if ours:
            self._lag = max(now - min(event.at for event, _ in ours), self._lag * 0.9)
        self._keep(sorted(ours, key=lambda pair: _order(pair[0])), now)

    def _forget(self) -> None:
        if len(self._seen) > _TIDY:
            self._seen = {key: at for key, at in self._seen.items() if at >= self._swept - LATE - _GRAIN}

    def _settled(self, now: datetime | None) -> list[LogLine]:
        lines: list[LogLine] = []
        while self._held and (now is None or self._held[0][0] <= now - SETTLE):
            lines.append(heapq.heappop(self._held)[2])
        return lines
