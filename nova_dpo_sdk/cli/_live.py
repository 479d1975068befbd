"""A live table of jobs: one row for each, moving on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.backends import JobRef, JobStatus
from nova_dpo_sdk.cli._colour import harmless, is_lively
from nova_dpo_sdk.cli._out import in_shell_words, say, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

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
_NAME = 40
"""Longest name of a job."""
_OTHERS = 33
"""Columns of everything but the name."""
_HANGING: Any = {"initial_indent": "    ", "subsequent_indent": " " * 10}


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
    if is_lively(sys.stdout):
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
    from rich.text import Text

    real = Console(highlight=False)
    console = Console(highlight=False, width=min(_WIDEST, real.width))

    def picture() -> Text:
        shown = rows(board, console.width, console.height - 1)
        return Text("\n").join(
            Text(harmless(text), style=style, no_wrap=True, overflow="crop") for text, style in shown
        )

    with Live(get_renderable=picture, console=console, refresh_per_second=4, vertical_overflow="crop"):
        for snapshot in news:
            board.put(snapshot)


def rows(board: Board, columns: int, lines: int) -> list[tuple[str, str]]:
    """The table as it is now: each line with its style, no wider and no higher than the screen.

    Args:
        board: What was seen.
        columns: Width of the screen.
        lines: Height of the screen.
    """
    jobs = board.sorted()
    name = min(_NAME, columns - _OTHERS)
    shown = [(f"{'job':<{name}}  {'status':<13}  {'for':>6}  restarts", "bold")]
    room = max(1, lines - 2)
    full = sum(len(_entry(each, board.now(), columns, name, full=True, alone=len(jobs) == 1)) for each in jobs) <= room
    for told, each in enumerate(jobs):
        entry = _entry(each, board.now(), columns, name, full=full, alone=len(jobs) == 1)
        if len(shown) - 1 + len(entry) > room - (told + 1 < len(jobs)):
            shown.append((f"... {len(jobs) - told:,} more", "dim"))
            break
        shown += entry
    return [*shown, (_cut(board.counts(), columns), "dim")]


def _entry(
    each: JobSnapshot, now: datetime, columns: int, name: int, *, full: bool, alone: bool
) -> list[tuple[str, str]]:
    restarts = str(each.restarts) if each.restarts else ""
    job = JobRef.parse(each.ref).name
    first = f"{_cut(job, name):<{name}}  {each.status!s:<13}  {age(each.since, now):>6}  {restarts:>8}"
    entry = [(first.rstrip(), _STYLES.get(each.status, ""))]
    if full:
        why = _because(each)
        entry += [(_cut(f"    {text}", columns), "") for text in why[:1]]
        entry += [(line, "dim") for text in why[1:] for line in textwrap.wrap(text, columns - 6, **_HANGING)]
    if alone:
        entry += [(_cut(_of_replica(replica, f"{job}-", name), columns), "dim") for replica in each.replicas]
    return entry


def _of_replica(replica: ReplicaSnapshot, job: str, name: int) -> str:
    restarts = str(replica.restarts) if replica.restarts else ""
    told = f"  {replica.name.removeprefix(job)}  {replica.reason or replica.node}"
    return f"{_cut(told, name):<{name}}  {replica.phase.lower():<13}  {'':>6}  {restarts:>8}"


def _cut(text: str, columns: int) -> str:
    line = " ".join(text.split()) if not text.startswith(" ") else text.replace("\n", " ")
    return line if len(line) <= columns else f"{line[: columns - 1]}…"


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
