"""A live table of jobs: one row for each, moving on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nova_dpo_sdk.backends import JobRef, JobStatus
from nova_dpo_sdk.cli._out import in_shell_words, plural, say, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from rich.console import Console
    from rich.table import Table

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.backends import JobSnapshot, ReplicaSnapshot

_STYLES = {
    JobStatus.SUCCEEDED: "green",
    JobStatus.RUNNING: "green",
    JobStatus.FAILED: "bold red",
    JobStatus.STOPPED: "red",
    JobStatus.DELETED: "red",
    JobStatus.DEGRADED: "bold yellow",
    JobStatus.STALLED: "bold yellow",
    JobStatus.UNSCHEDULABLE: "yellow",
    JobStatus.RESTARTING: "yellow",
    JobStatus.UNKNOWN: "yellow",
}
_ORDER = (
    JobStatus.FAILED,
    JobStatus.DEGRADED,
    JobStatus.STALLED,
    JobStatus.UNKNOWN,
    JobStatus.UNSCHEDULABLE,
    JobStatus.RESTARTING,
    JobStatus.RUNNING,
    JobStatus.STARTING,
    JobStatus.PENDING,
    JobStatus.QUEUED,
    JobStatus.STOPPING,
    JobStatus.STOPPED,
    JobStatus.DELETED,
    JobStatus.SUCCEEDED,
)
"""What needs somebody comes first."""
_WIDEST = 120
_FRAME = 3
"""Lines of the screen that are no rows."""


class Board:
    """What was last seen of each job.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, JobSnapshot] = {}

    def put(self, snapshot: JobSnapshot) -> None:
        """Keep what was seen of a job."""
        self._seen[snapshot.ref] = snapshot

    def now(self) -> datetime:
        """The present moment."""
        return self._clock.now()

    def sorted(self) -> list[JobSnapshot]:
        """The jobs, those first that need somebody."""
        return sorted(self._seen.values(), key=lambda each: (_ORDER.index(each.status), each.ref))

    def counts(self) -> str:
        """How many jobs are in which state."""
        jobs = self.sorted()
        told = {status: sum(each.status is status for each in jobs) for status in _ORDER}
        parts = ", ".join(f"{count} {status}" for status, count in told.items() if count)
        return f"{plural(len(jobs), 'job')}: {parts}" if jobs else "no job was seen yet"

    @property
    def lost(self) -> bool:
        """Whether any job ended otherwise than it should."""
        bad = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.DELETED)
        return any(each.status in bad for each in self._seen.values())


def show(news: Iterable[JobSnapshot], clock: Clock) -> Board:
    """Show jobs as they change, until there is no more news.

    Args:
        news: Every change.
        clock: Tells the time, for ages.
    """
    board = Board(clock)
    if sys.stdout.isatty() and find_spec("rich"):
        _move(news, board)
    else:
        _write(news, board)
    return board


def _write(news: Iterable[JobSnapshot], board: Board) -> None:
    for snapshot in news:
        board.put(snapshot)
        lead = f"{snapshot.observed_at:%H:%M:%S}  {JobRef.parse(snapshot.ref).name}  {snapshot.status}"
        say(*wrapped("  ".join([lead, *_because(snapshot)]), "", " " * 10))
    say(board.counts())


def _move(news: Iterable[JobSnapshot], board: Board) -> None:
    from rich.console import Console
    from rich.live import Live

    real = Console(highlight=False)
    console = Console(highlight=False, width=min(_WIDEST, real.width))

    def picture() -> Table:
        return table(board, console)

    with Live(get_renderable=picture, console=console, refresh_per_second=4, vertical_overflow="crop"):
        for snapshot in news:
            board.put(snapshot)


def table(board: Board, console: Console) -> Table:
    """The table as it is now, no higher than the screen."""
    from rich.table import Table
    from rich.text import Text

    jobs = board.sorted()
    made = Table(
        box=None, padding=(0, 2, 0, 0), expand=True, caption=board.counts(), caption_justify="left", show_edge=False
    )
    made.add_column("job", header_style="bold", no_wrap=True, overflow="ellipsis", max_width=30)
    made.add_column("status", header_style="bold", no_wrap=True)
    made.add_column("for", header_style="bold", no_wrap=True, justify="right")
    made.add_column("restarts", header_style="bold", no_wrap=True, justify="right")
    made.add_column("why, and what to do", header_style="bold", ratio=1)
    room = max(1, console.height - _FRAME)
    shown = 0
    for each in jobs:
        rows = list(_rows(each, board.now(), alone=len(jobs) == 1))
        if shown + len(rows) > room:
            made.add_row(f"... {len(jobs) - shown} more", "", "", "", "")
            break
        for cells, style in rows:
            made.add_row(*(Text(cell, style=style) for cell in cells))
        shown += len(rows)
    return made


def _rows(each: JobSnapshot, now: datetime, *, alone: bool) -> Iterator[tuple[Sequence[str], str]]:
    restarts = str(each.restarts) if each.restarts else ""
    why = " ".join(_because(each))
    yield (
        (JobRef.parse(each.ref).name, str(each.status), age(each.since, now), restarts, why),
        _STYLES.get(each.status, ""),
    )
    for replica in each.replicas if alone else ():
        yield _of_replica(replica), "dim"


def _of_replica(replica: ReplicaSnapshot) -> tuple[str, ...]:
    restarts = str(replica.restarts) if replica.restarts else ""
    return f"  {replica.name}", replica.phase.lower(), "", restarts, replica.reason or replica.node


def _because(snapshot: JobSnapshot) -> list[str]:
    why = ": ".join(part for part in (snapshot.reason, snapshot.message) if part)
    step = in_shell_words(snapshot.next_step) if why else ""
    return [part for part in (why, f"Next: {step}" if step else "") if part]


def age(since: datetime | None, now: datetime) -> str:
    """How long something has lasted, in one or two units."""
    if since is None:
        return ""
    seconds = max(0, int((now - since).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            rest = seconds % length
            small, word = {"d": (3600, "h"), "h": (60, "m"), "m": (1, "s")}[unit]
            return f"{seconds // length}{unit}{rest // small:02d}{word}"
    return f"{seconds}s"
