"""A chain for human eyes: how far its stages have come, how long they took, and what they cost."""

from __future__ import annotations

import html
import textwrap
from datetime import timedelta
from typing import TYPE_CHECKING

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.chain._records import StageStatus

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from datetime import datetime

    from nova_dpo_sdk.chain._records import Attempt, StageRecord

COLUMNS = ("stage", "after", "state", "tries", "took", "GPU-hours")
_WIDTH = 80
_NAME = 36
_RIGHT = ("tries", "took", "finished", "GPU-hours")
BADLY = (StageStatus.FAILED, StageStatus.STOPPED, StageStatus.REFUSED)
"""A stage so has ended without a checkpoint, and says why."""


def took(attempt: Attempt, now: datetime) -> timedelta:
    """How long an attempt has had replicas: from the first one's to its end, or until now.

    Where it is not known since when it had any, from its job's being there: at most that long, see `is_at_most`. What
    a job had before it was preempted is not counted if nobody looked at it until it was let in again.
    """
    begun = since(attempt)
    return max(timedelta(0), (attempt.ended_at or now) - begun) if begun else timedelta(0)


def since(attempt: Attempt) -> datetime | None:
    """From when an attempt's hours count; None when its job was not there."""
    if attempt.submitted_at is None or attempt.started_at is None:
        return attempt.submitted_at
    return max(attempt.submitted_at, attempt.started_at)


def is_at_most(*records: StageRecord) -> bool:
    """Whether hours of these stages may be fewer than counted: waiting for instances is among them."""
    attempts = (each for record in records for each in record.attempts)
    return any(each.submitted_at is not None and each.started_at is None for each in attempts)


def said(text: str, *, at_most: bool) -> str:
    """A time or hours in words."""
    return f"at most {text}" if at_most else text


def stage_took(record: StageRecord, now: datetime) -> timedelta:
    """How long all attempts of a stage together have had their replicas."""
    return sum((took(each, now) for each in record.attempts), timedelta(0))


def gpu_hours(record: StageRecord, now: datetime) -> float:
    """GPU-hours of all attempts of a stage: replicas x GPUs of one x hours, see `took`."""
    return record.replicas * record.gpus * stage_took(record, now).total_seconds() / 3600


def duration(length: timedelta) -> str:
    """A length of time as a person says it, such as `2h 04m`."""
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"


def hours(number: float) -> str:
    """Hours of something as a person says them: `1,024.5`, and `0.026` when there are few."""
    return f"{number:,.1f}" if number >= 1 or number == 0 else f"{number:.2g}"


def after(record: StageRecord) -> str:
    """What a stage starts from: another stage, a checkpoint from elsewhere, or nothing but the base model."""
    if record.parent is None:
        return "-"
    return record.parent.stage or "elsewhere"


def rows(records: Sequence[StageRecord], now: datetime, seen: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The cells of the table, without its head.

    Args:
        records: The stages, in order.
        now: The present moment, for what is under way.
        seen: What the platform says about jobs that are under way, by stage.
    """
    return [
        (
            record.stage,
            after(record),
            seen.get(record.stage, str(record.status)),
            str(len(record.attempts)),
            said(duration(stage_took(record, now)), at_most=is_at_most(record)),
            said(hours(gpu_hours(record, now)), at_most=is_at_most(record)) if record.gpus else "?",
        )
        for record in records
    ]


def headline(name: str, records: Sequence[StageRecord], now: datetime) -> str:
    """A chain in one line."""
    if not records:
        return f"chain {name}: no stage was begun yet"
    done = sum(record.status is StageStatus.FINISHED for record in records)
    total = said(hours(sum(gpu_hours(record, now) for record in records)), at_most=is_at_most(*records))
    return f"chain {name}: {done} of {plural(len(records), 'stage')} finished, {total} GPU-hours"


def chain_lines(
    name: str, records: Sequence[StageRecord], now: datetime, seen: Mapping[str, str] | None = None
) -> list[str]:
    """A chain as a table for 80 columns, and below it why stages ended badly."""
    if not records:
        return [headline(name, records, now)]
    columns, cells = _columns(rows(records, now, seen or {}))
    return [headline(name, records, now), *_table([columns, *cells]), *_wrapped(_reasons(records))]


def _columns(cells: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows, without the tries where every stage had one."""
    kept = [n for n, column in enumerate(COLUMNS) if column != "tries" or any(row[n] != "1" for row in cells)]
    return [COLUMNS[n] for n in kept], [[row[n] for n in kept] for row in cells]


def _table(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows below their headings, in 80 columns: the two names of stages give way, as their ends say most."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for column, least in ((1, 12), (0, _NAME), (1, 8), (0, 20)):
        over = sum(widths) + 2 * (len(widths) - 1) - _WIDTH
        widths[column] = max(min(least, widths[column]), widths[column] - max(0, over))
    return [
        "  ".join(
            _aligned(_cut(cell, width), width, column)
            for cell, width, column in zip(row, widths, cells[0], strict=True)
        ).rstrip()
        for row in cells
    ]


def _cut(text: str, width: int) -> str:
    head = width // 3
    return text if len(text) <= width else f"{text[:head]}…{text[head + 1 - width :]}"


def _aligned(cell: str, width: int, column: str) -> str:
    return cell.rjust(width) if column in _RIGHT else cell.ljust(width)


def _reasons(records: Sequence[StageRecord]) -> list[str]:
    """Why stages are not finished, one line for each that says."""
    told: list[str] = []
    for record in records:
        last = record.current
        why = ": ".join(part for part in (last.reason, last.message) if part)
        if why and record.status is not StageStatus.FINISHED:
            told.append(f"{record.stage}: {why}")
    return told


def _wrapped(lines: Iterable[str]) -> list[str]:
    return [
        part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    ]


def html_table(columns: Sequence[str], cells: Iterable[Sequence[str]], right: Container[str]) -> str:
    """A table for a notebook, escaped, with figures below each other: notebooks set everything to the right.

    Args:
        columns: The head.
        cells: The rows.
        right: The columns of figures.
    """
    styles = [f"text-align:{'right' if column in right else 'left'}" for column in columns]

    def row(kind: str, texts: Sequence[str]) -> str:
        made = (
            f"<{kind} style='{style}'>{html.escape(text)}</{kind}>" for style, text in zip(styles, texts, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    return f"<table>{row('th', columns)}{''.join(row('td', each) for each in cells)}</table>"


def chain_html(name: str, records: Sequence[StageRecord], now: datetime) -> str:
    """A chain for a notebook, escaped."""
    columns, cells = _columns(rows(records, now, {}))
    why = "".join(f"<p>{html.escape(line)}</p>" for line in _reasons(records))
    table = html_table(columns, cells, _RIGHT) if records else ""
    return f"<p>{html.escape(headline(name, records, now))}</p>{table}{why}"


def chains_lines(chains: Mapping[str, Sequence[StageRecord]], now: datetime) -> list[str]:
    """Many chains as a table for 80 columns, one in a line."""
    head = ("chain", "finished", "state", "newest", "GPU-hours")
    cells = [
        (
            name,
            f"{sum(each.status is StageStatus.FINISHED for each in records)} of {len(records)}",
            _state(records),
            f"{max(each.claimed_at for each in records):%Y-%m-%d %H:%M}",
            said(hours(sum(gpu_hours(each, now) for each in records)), at_most=is_at_most(*records)),
        )
        for name, records in chains.items()
    ]
    return _table([head, *cells])


def _state(records: Sequence[StageRecord]) -> str:
    """What a chain as a whole is: what asks for somebody comes first."""
    badly = [each.status for each in records if each.status in BADLY]
    if badly:
        return str(badly[0])
    if any(each.status.is_under_way for each in records):
        return "under way"
    return str(next((each.status for each in records if each.status is not StageStatus.FINISHED), "finished"))
