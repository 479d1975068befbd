"""What a training log says in numbers: rows of metrics, a table of them, a picture."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from nova_dpo_sdk.backends._logs import LogLine

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|NaN|inf|Infinity)"
_END = r"(?![\w%/:]|[.,-]\d)"  # not half of a longer word: 12:30, 10.0.0.1, 3/5, 5s, 90%, 1,000
_NAME = r"[A-Za-z_][\w./-]*"
_PAIR = re.compile(
    rf"(?<![\w./'\"-])(?:(?P<quote>['\"])(?P<quoted>{_NAME})(?P=quote)\s*[:=]|(?P<plain>{_NAME})=)\s*"
    rf"(?P<number>{_NUMBER}){_END}"
)
_EPOCH_WORD = re.compile(r"(?<!\w)Epoch (\d+)(?=[:,\s]|$)")
_LOSSES = ("reduced_train_loss", "train_loss", "train/loss", "loss")
_STEPS = ("global_step", "train/global_step", "step")
_RATES = ("lr", "learning_rate", "train/lr", "train/learning_rate")
_EPOCHS = ("epoch", "train/epoch")
_VALIDATION_LOSSES = ("validation_loss", "val_loss", "eval_loss")
_TELLING = frozenset({*_LOSSES, *_RATES, "val_loss", "eval_loss"})
_SHOWN = ("rewards/accuracies", "rewards/margins")


@dataclass(frozen=True)
class MetricRow:
    """The numbers of one line of a training log.

    Attributes:
        at: When the line was written (aware, UTC).
        step: The optimizer step; None when the line does not say.
        epoch: The epoch, possibly a part of one; None when the line does not say.
        loss: The training loss; None when the line does not say.
        lr: The learning rate; None when the line does not say.
        values: Every number of the line that has a name, under the name that it has there.
    """

    at: datetime
    step: int | None
    epoch: float | None
    loss: float | None
    lr: float | None
    values: Mapping[str, float]


class Metrics(Sequence[MetricRow]):
    """The rows of one run, in order of time; prints as a table.

    Args:
        rows: The rows.
        name: The job's name, for the picture.
        source: Where the lines came from, for people.
    """

    def __init__(self, rows: Iterable[MetricRow], name: str = "", source: str = "") -> None:
        self._rows = tuple(rows)
        self._name = name
        self._source = source

    @overload
    def __getitem__(self, index: int) -> MetricRow: ...
    @overload
    def __getitem__(self, index: slice) -> Metrics: ...
    def __getitem__(self, index: int | slice) -> MetricRow | Metrics:
        if isinstance(index, slice):
            return Metrics(self._rows[index], self._name, self._source)
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Metrics of {self._name or 'a run'}: {plural(len(self._rows), 'row')}>"

    def __str__(self) -> str:
        if not self._rows:
            read = f" (read: {self._source})" if self._source else ""
            return f"no metrics: no line of the log has a wording that is known{read}"
        rewards = [name for name in _SHOWN if any(name in row.values for row in self._rows)]
        header = ["time (UTC)", "step", "epoch", "loss", "lr", *(name.removeprefix("rewards/") for name in rewards)]
        body = [_cells(row, rewards) for row in self._rows]
        used = [n for n in range(len(header)) if n == 0 or any(cells[n] for cells in body)]
        widths = {n: max(len(cells[n]) for cells in [header, *body]) for n in used}
        return "\n".join("  ".join(cells[n].rjust(widths[n]) for n in used) for cells in [header, *body])

    def plot(self, path: str | Path) -> Path:
        """Draw loss, learning rate and reward accuracy over the steps, into a file.

        Args:
            path: The picture; its ending says the format, such as `.png`, `.svg` or `.pdf`.

        Returns:
            The path.

        Raises:
            ConfigurationError: matplotlib is missing, or there are no rows to draw.
        """
        figure_of = _matplotlib()
        panels = _panels(self._rows)
        if not panels:
            raise ConfigurationError("There is nothing to draw: the log has no line with metrics yet.")
        figure = figure_of(figsize=(8.0, 2.2 * len(panels) + 0.6), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (title, curves) in zip(axes, panels, strict=True):
            _draw(axis, title, curves)
        axes[-1].set_xlabel(_x_label(self._rows))
        figure.suptitle(self._name or "training metrics")
        target = Path(path)
        figure.savefig(target, dpi=150)
        return target


_Curves = dict[str, tuple[list[float], list[float]]]


def read_metrics(lines: Iterable[LogLine], name: str = "", source: str = "") -> Metrics:
    """Pick the rows of metrics out of log lines.

    Every node may print the same numbers, so only the replica that prints the most rows is heard. A line counts when
    it names a loss, a learning rate or a reward; any other line stays text.
    """
    found = [(line.replica or line.node, row) for line in lines for row in rows_of(line)]
    if not found:
        return Metrics((), name, source)
    counted = Counter(speaker for speaker, _ in found)
    leader = min(counted, key=lambda speaker: (-counted[speaker], speaker))
    return Metrics((row for speaker, row in found if speaker == leader), name, source)


def rows_of(line: LogLine) -> list[MetricRow]:
    """The rows in one line: none for a wording that is not known, several for a progress bar that was redrawn."""
    rows = (_row(line.at, part) for part in line.text.split("\r"))
    return [row for row in rows if row is not None]


def _row(at: datetime, text: str) -> MetricRow | None:
    values = {match["quoted"] or match["plain"]: float(match["number"]) for match in _PAIR.finditer(text)}
    if not any(name in _TELLING or name.startswith("rewards/") for name in values):
        return None
    word = _EPOCH_WORD.search(text)
    epoch = _first(values, _EPOCHS)
    step = _first(values, _STEPS)
    return MetricRow(
        at=at,
        step=int(step) if step is not None and step.is_integer() else None,
        epoch=epoch if epoch is not None else float(word[1]) if word else None,
        loss=_first(values, _LOSSES),
        lr=_first(values, _RATES),
        values=values,
    )


def _first(values: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((values[name] for name in names if name in values), None)


def _cells(row: MetricRow, rewards: list[str]) -> list[str]:
    return [
        f"{row.at:%Y-%m-%d %H:%M:%S}",
        "" if row.step is None else str(row.step),
        "" if row.epoch is None else f"{row.epoch:g}",
        "" if row.loss is None else f"{row.loss:.4f}",
        "" if row.lr is None else f"{row.lr:.3g}",
        *(f"{row.values[name]:.3f}" if name in row.values else "" for name in rewards),
    ]


def _matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "Drawing needs matplotlib, which is not installed: pip install 'nova-dpo-sdk[plots]'."
        ) from error
    return Figure


def _panels(rows: Sequence[MetricRow]) -> list[tuple[str, _Curves]]:
    losses = {"loss": _curve(rows, "loss"), **_named(rows, _VALIDATION_LOSSES)}
    known = [("loss", losses), ("learning rate", {"learning rate": _curve(rows, "lr")})]
    drawn = [(title, {name: curve for name, curve in curves.items() if curve[0]}) for title, curves in known]
    panels: list[tuple[str, _Curves]] = [(title, curves) for title, curves in drawn if curves]
    accuracy = _named(rows, ["rewards/accuracies"])
    others = sorted({name for row in rows for name in row.values if name.startswith("rewards/")} - accuracy.keys())
    named = [("reward accuracy", accuracy), ("rewards", _named(rows, others))]
    return panels + [(title, curves) for title, curves in named if curves]


def _by_step(rows: Sequence[MetricRow]) -> bool:
    return any(row.step is not None for row in rows)


def _x_label(rows: Sequence[MetricRow]) -> str:
    return "step" if _by_step(rows) else "row of the log"


def _points(rows: Sequence[MetricRow]) -> list[tuple[float, MetricRow]]:
    if _by_step(rows):
        return [(float(row.step), row) for row in rows if row.step is not None]
    return [(float(number), row) for number, row in enumerate(rows)]


def _curve(rows: Sequence[MetricRow], field: str) -> tuple[list[float], list[float]]:
    points = [(x, getattr(row, field)) for x, row in _points(rows)]
    kept = [(x, float(y)) for x, y in points if y is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def _named(rows: Sequence[MetricRow], names: Sequence[str]) -> _Curves:
    curves: _Curves = {}
    for name in names:
        kept = [(x, row.values[name]) for x, row in _points(rows) if name in row.values]
        if kept:
            curves[name] = ([x for x, _ in kept], [y for _, y in kept])
    return curves


def _draw(axis: Any, title: str, curves: _Curves) -> None:
    for name, (xs, ys) in curves.items():
        axis.plot(xs, ys, marker="." if len(xs) <= 60 else None, linewidth=1.2, label=name)
    if title == "reward accuracy" and all(0 <= y <= 1 for _, ys in curves.values() for y in ys if math.isfinite(y)):
        axis.set_ylim(0, 1.02)
    if len(curves) > 1:
        axis.legend(fontsize="small")
    axis.set_ylabel(title)
    axis.grid(visible=True, alpha=0.3)
