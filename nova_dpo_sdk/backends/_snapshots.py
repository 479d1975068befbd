"""A snapshot for human eyes: lines for a terminal of 80 columns, an escaped table for a notebook."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING

from nova_dpo_sdk.backends._contract import JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nova_dpo_sdk.backends._contract import JobSnapshot, ReplicaSnapshot

_WIDTH = 80
_LABEL = 9
_COLUMNS = ("replica", "phase", "restarts", "node", "why")
LEFT = "text-align:left;vertical-align:top"
"""What notebooks do otherwise in tables."""
COLOURS = {"good": "#1a7f37", "bad": "#cf222e", "trouble": "#9a6700", "": "inherit"}
"""Legible on white and on black."""
_MOODS = {
    JobStatus.SUCCEEDED: "good",
    JobStatus.RUNNING: "good",
    JobStatus.FAILED: "bad",
    JobStatus.STOPPED: "bad",
    JobStatus.DELETED: "bad",
    JobStatus.DEGRADED: "trouble",
    JobStatus.STALLED: "trouble",
    JobStatus.UNSCHEDULABLE: "trouble",
    JobStatus.RESTARTING: "trouble",
    JobStatus.UNKNOWN: "trouble",
}


def facts(snapshot: JobSnapshot) -> list[tuple[str, str]]:
    """What there is to say of a job besides its replicas, each with its label."""
    since = f"{snapshot.since:%Y-%m-%d %H:%M:%S} UTC" if snapshot.since else ""
    why = ": ".join(part for part in (snapshot.reason, snapshot.message) if part)
    rows = [("status", str(snapshot.status)), ("since", since), ("why", why), ("next", snapshot.next_step)]
    return [(label, text) for label, text in rows if text]


def snapshot_lines(snapshot: JobSnapshot, width: int = _WIDTH) -> list[str]:
    """Status, since when, why, what to do, and a row for each replica.

    Args:
        snapshot: What was seen.
        width: Columns of the terminal.
    """
    lines: list[str] = []
    for label, text in facts(snapshot):
        lines += textwrap.wrap(
            text,
            width,
            initial_indent=f"{label:<{_LABEL}}",
            subsequent_indent=" " * _LABEL,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [*lines, *replica_table(snapshot)]


def replica_table(snapshot: JobSnapshot) -> list[str]:
    """Every replica in a line of its own, below a line of headings; nothing when there are none."""
    job = snapshot.ref.rpartition("/")[2]
    shown = [(*_cells(each, job)[:4], each.reason) for each in snapshot.replicas]
    rows = [_COLUMNS, *shown] if shown else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def snapshot_html(snapshot: JobSnapshot, head: Iterable[tuple[str, str]] = ()) -> str:
    """The same for a notebook, escaped.

    Args:
        snapshot: What was seen.
        head: Rows to put before, each a label and a text.
    """
    colour = COLOURS[_MOODS.get(snapshot.status, "")]
    rows = [_row(label, html.escape(text)) for label, text in head]
    for label, text in facts(snapshot):
        escaped = html.escape(text)
        rows.append(_row(label, f"<b style='color:{colour}'>{escaped}</b>" if label == "status" else escaped))
    return f"<table>{''.join(rows)}</table>{_replica_html(snapshot)}"


def _row(label: str, cell: str) -> str:
    return f"<tr><th style='{LEFT}'>{html.escape(label)}</th><td style='{LEFT}'>{cell}</td></tr>"


def _replica_html(snapshot: JobSnapshot) -> str:
    if not snapshot.replicas:
        return ""
    job = snapshot.ref.rpartition("/")[2]
    head = "".join(f"<th style='{LEFT}'>{name}</th>" for name in _COLUMNS)
    rows = (
        "".join(f"<td style='{LEFT}'>{html.escape(cell)}</td>" for cell in _cells(each, job))
        for each in snapshot.replicas
    )
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _cells(replica: ReplicaSnapshot, job: str) -> tuple[str, ...]:
    why = ": ".join(part for part in (replica.reason, replica.message) if part).replace("\n", " ")
    name = replica.name.removeprefix(f"{job}-")
    return name, replica.phase, str(replica.restarts), replica.node or "-", why
