"""The picture of a chain: when its stages ran, how they ended, and what they cost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk.chain._records import Outcome
from nova_dpo_sdk.chain._show import (
    BADLY,
    duration,
    gpu_hours,
    headline,
    hours,
    is_at_most,
    said,
    since,
    stage_took,
    took,
)
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from nova_dpo_sdk.chain._records import Attempt, StageRecord

_INK, _PALE, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_WAITED = "#cbd2d9"
_COLOURS = {
    Outcome.SUCCEEDED: "#3d8f6f",
    Outcome.FAILED: "#c25b4e",
    Outcome.OVERDUE: "#c25b4e",
    Outcome.REFUSED: "#c25b4e",
    Outcome.STOPPED: "#d9902f",
    Outcome.RESET: "#d9902f",
    None: "#3b6ea5",
}
_WORDS = {
    "#3d8f6f": "succeeded",
    "#c25b4e": "failed",
    "#d9902f": "stopped or reset",
    "#3b6ea5": "under way",
    _WAITED: "waiting",
}
_HEIGHT = 0.56
_LONGEST_NAME = 34


def draw_timeline(name: str, records: Sequence[StageRecord], path: str | os.PathLike[str], now: datetime) -> None:
    """Draw the stages of a chain into a file, one bar for each attempt.

    Args:
        name: The chain's name.
        records: Its stages, in order.
        path: The picture to write; its ending names the format.
        now: The present moment, for what is under way.

    Raises:
        ConfigurationError: matplotlib is not installed, there is no stage, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "A picture needs matplotlib, which is not installed: pip install 'nova-dpo-sdk[plots]'. "
            "The same numbers are in the chain's table."
        ) from error
    if not records:
        raise ConfigurationError(f"Chain {name} has no stage to draw yet.")
    figure: Any = Figure(figsize=(11, 1.9 + 0.52 * len(records)), dpi=150, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.18, h_pad=0.12)
    # Texts come from names: without math mode a dollar sign is a dollar sign.
    figure.suptitle(
        headline(name, records, now), fontsize=13, fontweight="bold", color=_INK, parse_math=False, x=0.02, ha="left"
    )
    axis: Any = figure.subplots()
    _Timeline(axis, records, now).draw()
    try:
        figure.savefig(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The picture cannot be written to {os.fspath(path)}: {error}.") from error


class _Timeline:
    def __init__(self, axis: Any, records: Sequence[StageRecord], now: datetime) -> None:
        self._axis = axis
        self._records = records
        self._now = now
        self._begin = min(each.claimed_at for record in records for each in record.attempts)
        ends = [self._end(each) for record in records for each in record.attempts]
        self._seconds = max(1.0, (max(ends) - self._begin).total_seconds())
        self._unit, self._per = _unit(self._seconds)
        self._drawn: set[str] = set()
        self._untold: set[int] = set()

    def draw(self) -> None:
        for row, record in enumerate(self._records):
            for attempt in record.attempts:
                self._bar(row, attempt)
            self._cost(row, record)
        self._arrows()
        if any(each.ended_at is None for record in self._records for each in record.attempts):
            self._axis.axvline(self._x(self._now), color=_PALE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            self._axis.annotate(
                "now", (self._x(self._now), 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", ha="center", va="bottom", fontsize=9, color=_PALE,
            )  # fmt: skip
        self._legend()
        self._style()

    def _x(self, moment: datetime) -> float:
        return (moment - self._begin).total_seconds() / self._per

    def _end(self, attempt: Attempt) -> datetime:
        return attempt.ended_at or self._now

    def _bar(self, row: int, attempt: Attempt) -> None:
        begun = since(attempt) or self._end(attempt)
        self._piece(row, attempt.claimed_at, begun, _WAITED)
        if attempt.submitted_at is None:
            return
        colour = _COLOURS[attempt.outcome]
        self._piece(row, begun, self._end(attempt), colour)
        width = self._x(self._end(attempt)) - self._x(begun)
        text = duration(took(attempt, self._now))
        if width > 0.017 * len(text) * self._seconds / self._per:
            middle = self._x(begun) + width / 2
            self._axis.text(middle, row, text, ha="center", va="center", color="white", fontsize=9, fontweight="bold")
        else:
            self._untold.add(row)

    def _piece(self, row: int, start: datetime, end: datetime, colour: str) -> None:
        length = self._x(end) - self._x(start)
        if length <= 0:
            return
        self._drawn.add(colour)
        self._axis.barh(row, length, left=self._x(start), height=_HEIGHT, color=colour, zorder=3, linewidth=0)

    def _cost(self, row: int, record: StageRecord) -> None:
        last = max(self._x(self._end(each)) for each in record.attempts)
        length = stage_took(record, self._now)
        words = [duration(length)] if row in self._untold or len(record.attempts) > 1 else []
        if record.gpus and length:
            words.append(f"{said(hours(gpu_hours(record, self._now)), at_most=is_at_most(record))} GPU-h")
        if len(record.attempts) > 1:
            words.append(f"{len(record.attempts)} attempts")
        gap = 0.012 * self._seconds / self._per
        ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 1.5}
        self._axis.annotate(
            " · ".join(words), (last + gap, row), ha="left", va="center", fontsize=9, color=_INK, zorder=4,
            bbox=ground,
        )  # fmt: skip
        why = record.current.reason
        if why and record.status in BADLY:
            self._axis.annotate(
                why, (last + gap, row + 0.31), ha="left", va="center", fontsize=8, color=_COLOURS[Outcome.FAILED],
                zorder=4, parse_math=False, bbox=ground,
            )  # fmt: skip

    def _arrows(self) -> None:
        """From the end of a stage to the beginning of each that starts from it."""
        rows = {record.stage: row for row, record in enumerate(self._records)}
        for row, record in enumerate(self._records):
            above = rows.get(record.parent.stage) if record.parent else None
            if above is None:
                continue
            left = self._x(self._end(self._records[above].current))
            start = self._x(record.attempts[0].claimed_at)
            self._axis.plot([left, left, start], [above + _HEIGHT / 2, row, row], color=_PALE, linewidth=1, zorder=2)

    def _legend(self) -> None:
        from matplotlib.patches import Patch

        shown = [Patch(color=colour, label=word) for colour, word in _WORDS.items() if colour in self._drawn]
        self._axis.legend(
            handles=shown, frameon=False, fontsize=9, labelcolor=_INK, loc="lower left", bbox_to_anchor=(0, 1.0),
            ncols=len(_WORDS), borderaxespad=0.2, handlelength=1.1, handleheight=0.9, columnspacing=1.4,
        )  # fmt: skip

    def _style(self) -> None:
        axis, count = self._axis, len(self._records)
        axis.set_yticks(range(count), [_short(record.stage) for record in self._records], parse_math=False)
        axis.set_ylim(count - 0.4, -0.6)
        axis.set_xlim(0, 1.3 * self._seconds / self._per)
        axis.set_xlabel(f"{self._unit} since {self._begin:%Y-%m-%d %H:%M} UTC", fontsize=9.5, color=_PALE)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.spines["bottom"].set_color(_PALE)
        axis.tick_params(colors=_INK, labelsize=9.5, length=0)
        axis.set_axisbelow(True)
        axis.grid(visible=True, axis="x", color=_GRID, linewidth=0.8)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 13]}…{name[-12:]}"


def _unit(seconds: float) -> tuple[str, float]:
    if seconds >= 3 * 86400:
        return "days", 86400.0
    if seconds >= 2 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds >= 120 else ("seconds", 1.0)
