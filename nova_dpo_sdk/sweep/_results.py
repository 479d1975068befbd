"""How the trials of a sweep ended: a table, rows, a picture, and the best of them."""

from __future__ import annotations

import html
import math
import textwrap
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.chain._show import duration, hours, html_table, said, stage_took
from nova_dpo_sdk.errors import ConfigurationError
from nova_dpo_sdk.sweep._trials import Trial, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from nova_dpo_sdk.chain import StageRecord
    from nova_dpo_sdk.jobs import Job
    from nova_dpo_sdk.recipes import Checkpoint

    Score = Callable[["TrialResult"], float]

WIDTH = 80
"""Columns of a table."""


@dataclass(frozen=True)
class TrialResult:
    """How one trial ended.

    Attributes:
        trial: Which one.
        status: `finished`, `failed`, `stopped` or `refused`; `in trouble` when its job does not get on, or could
            not be looked at; `left out` when a cap left no room.
        checkpoint: What it left; None unless it finished.
        job: Its last job; None when it had none.
        took: How long its attempts together had replicas, from the first one's.
        replica_hours: The same times its replicas, in hours.
        at_most: Whether both may be less: since when it had replicas is not known, so waiting for them is counted.
        error: Why it did not finish; empty when it did.
    """

    trial: Trial
    status: str
    checkpoint: Checkpoint | None = None
    job: Job | None = None
    took: timedelta = timedelta(0)
    replica_hours: float = 0.0
    at_most: bool = False
    error: str = ""

    @property
    def values(self) -> Mapping[str, Any]:
        """What it tried, by field."""
        return self.trial.values


class SweepResults:
    """How every trial of a sweep ended; prints as a table.

    Attributes:
        name: The recipe's name.
        trials: One result for each trial, in the sweep's order.
    """

    def __init__(self, name: str, trials: Iterable[TrialResult]) -> None:
        self.name = name
        self.trials = tuple(trials)

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[TrialResult]:
        return iter(self.trials)

    def __repr__(self) -> str:
        return f"<{self._head()}>"

    @property
    def finished(self) -> tuple[TrialResult, ...]:
        """The trials that left a checkpoint."""
        return tuple(each for each in self.trials if each.checkpoint is not None)

    @property
    def replica_hours(self) -> float:
        """Replica-hours of all trials together."""
        return sum(each.replica_hours for each in self.trials)

    def best(self, score: Score) -> TrialResult:
        """The finished trial with the highest score.

        Args:
            score: Gives a number for a finished trial, from its checkpoint or its job's metrics; for a loss, give the
                negative of it. A trial whose score is NaN, such as one that diverged, is left out.

        Raises:
            ConfigurationError: No trial finished, a score is no number, or every score is NaN.
        """
        if not self.finished:
            why = next((each.error for each in self.trials if each.error), "none was begun")
            raise ConfigurationError(f"No trial of {self.name} finished, so none is the best. The first: {why}")
        return max(self._scored(score), key=lambda pair: pair[1])[0]

    def _scored(self, score: Score) -> list[tuple[TrialResult, float]]:
        """The finished trials with their scores, without those that are NaN: no number is above or below it."""
        kept: list[tuple[TrialResult, float]] = []
        for each in self.finished:
            given = score(each)
            try:
                kept += [] if math.isnan(given) else [(each, float(given))]
            except TypeError:
                raise ConfigurationError(
                    f"The score of {each.trial.label} is {given!r}. Give a number, or NaN to leave the trial out."
                ) from None
        if self.finished and not kept:
            raise ConfigurationError(f"Every score of {self.name} is NaN, so there is none to go by.")
        return kept

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row of plain values for each trial, for JSON or a data frame."""
        return [
            {
                **{name: shown(value) if name == "tuning" else value for name, value in each.values.items()},
                "stage": each.trial.stage,
                "status": each.status,
                "hours": each.took.total_seconds() / 3600,
                "replica_hours": each.replica_hours,
                "at_most": each.at_most,
                "job": each.job.ref if each.job else None,
                "checkpoint": each.checkpoint.uri if each.checkpoint else None,
                "error": each.error or None,
            }
            for each in self.trials
        ]

    def plot(self, path: str | os.PathLike[str], score: Score | None = None, label: str = "score") -> None:
        """Draw the trials into a file: their scores, or without a score what they took.

        Args:
            path: The picture to write; its ending names the format.
            score: Gives a number for a finished trial; one whose score is NaN is left out.
            label: What the number is called.

        Raises:
            ConfigurationError: matplotlib is not installed, there is nothing to draw, a score is no number, or the
                file cannot be written.
        """
        from nova_dpo_sdk.sweep._plot import draw

        draw(self, path, None if score is None else self._scored(score), label)

    def __str__(self) -> str:
        return "\n".join([self._head(), *table([self._columns(), *self._cells()]), *self._reasons()])

    def _repr_html_(self) -> str:
        columns = self._columns()
        rows_html = html_table(columns, self._cells(), [each for each in columns if each != "status"])
        return f"<p>{html.escape(self._head())}</p>{rows_html}"

    def _head(self) -> str:
        done = f"{len(self.finished)} of {plural(len(self), 'trial')} finished"
        return f"sweep of {self.name}: {done}, {self.total}"

    @property
    def total(self) -> str:
        """Replica-hours of all trials together, in words."""
        at_most = any(each.at_most for each in self.trials)
        return f"{said(hours(self.replica_hours), at_most=at_most)} replica-hours"

    def _columns(self) -> list[str]:
        return [*self._fields(), "status", "took", "replica-hours"]

    def _fields(self) -> list[str]:
        return list(dict.fromkeys(name for each in self.trials for name in each.values))

    def _cells(self) -> list[list[str]]:
        return [
            [
                *(shown(each.values[name]) if name in each.values else "" for name in self._fields()),
                each.status,
                said(duration(each.took), at_most=each.at_most),
                said(hours(each.replica_hours), at_most=each.at_most),
            ]
            for each in self.trials
        ]

    def _reasons(self) -> list[str]:
        lines: list[str] = []
        for each in self.trials:
            if each.error:
                text = f"{each.trial.label}: {each.error}"
                lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        return lines


def replica_hours(record: StageRecord, now: datetime) -> float:
    """Replica-hours of all attempts of a stage: replicas x hours that it had them."""
    return record.replicas * stage_took(record, now).total_seconds() / 3600


def table(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows below a line of headings, numbers to the right, in 80 columns: the widest columns give way."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths[widths.index(max(widths))] -= 1
    right = [all(cell[:1].isdigit() for cell in column[1:]) for column in zip(*cells, strict=True)]
    return ["  ".join(map(_aligned, row, widths, right)).rstrip() for row in cells]


def _aligned(cell: str, width: int, right: bool) -> str:
    return _cut(cell, width).rjust(width) if right else _cut(cell, width).ljust(width)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"
