"""The picture of a sweep: the score of each trial over what it tried, or what the trials took."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.chain._show import hours
from nova_dpo_sdk.errors import ConfigurationError
from nova_dpo_sdk.sweep._trials import shown

if TYPE_CHECKING:
    from nova_dpo_sdk.sweep._results import SweepResults, TrialResult

    _Scored = list[tuple[TrialResult, float]]

_INK, _PALE, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_COLOURS = ("#3b6ea5", "#d9902f", "#3d8f6f", "#8d6cab", "#c25b4e", "#4aa3a2")
_DONE, _NOT_DONE = "#3d8f6f", "#c25b4e"
_LONG_AXIS = 20
"""From which ratio between the largest and the smallest value on an axis is logarithmic."""


def draw(results: SweepResults, path: str | os.PathLike[str], scored: _Scored | None, label: str) -> None:
    """Draw the results into a file; see `SweepResults.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "A picture needs matplotlib, which is not installed: pip install 'nova-dpo-sdk[plots]'. "
            "The same numbers are in print(results)."
        ) from error
    if scored is not None and not scored:
        raise ConfigurationError(f"No trial of {results.name} finished, so there is no score to draw.")
    height = 4.8 if scored else 1.7 + 0.42 * len(results)
    figure: Any = Figure(figsize=(9, height), dpi=150, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.18, h_pad=0.12)
    # Texts come from names and values: without math mode a dollar sign is a dollar sign.
    title = f"{results.name}: {len(results.finished)} of {plural(len(results), 'trial')} finished, "
    figure.suptitle(
        f"{title}{results.total}",
        fontsize=12.5, fontweight="bold", color=_INK, parse_math=False, x=0.02, ha="left",
    )  # fmt: skip
    axis: Any = figure.subplots()
    if scored:
        _scores(axis, scored, label)
    else:
        _hours(axis, results)
    try:
        figure.savefig(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The picture cannot be written to {os.fspath(path)}: {error}.") from error


def _scores(axis: Any, scored: _Scored, label: str) -> None:
    """One line for each combination of the other values, over the first field that has several numbers."""
    field = _axis_field([result for result, _ in scored])
    lines: dict[str, list[tuple[Any, float]]] = {}
    for result, value in scored:
        others = " ".join(f"{name}={shown(given)}" for name, given in result.values.items() if name != field)
        lines.setdefault(others, []).append((result.values[field], value))
    numbers = all(_is_number(x) for points in lines.values() for x, _ in points)
    names = list(dict.fromkeys(shown(x) for points in lines.values() for x, _ in points))
    places = {name: n for n, name in enumerate(names)}
    for number, (others, points) in enumerate(lines.items()):
        ordered = sorted((x if numbers else places[shown(x)], y) for x, y in points)
        colour = _COLOURS[number % len(_COLOURS)]
        axis.plot(
            *zip(*ordered, strict=True), color=colour, linewidth=2, marker="o", markersize=7, label=others or None
        )
    best, top = max(scored, key=lambda each: each[1])
    x = best.values[field] if numbers else places[shown(best.values[field])]
    axis.plot([x], [top], marker="o", markersize=15, markerfacecolor="none", markeredgecolor=_INK, markeredgewidth=1.6)
    axis.annotate(
        f"best: {best.trial.label}\n{top:,.4g}", (x, top), xytext=(0, 16), textcoords="offset points", ha="center",
        fontsize=9.5, color=_INK, parse_math=False, annotation_clip=False,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 1.5},
    )  # fmt: skip
    _ticks(axis, [x for points in lines.values() for x, _ in points], names, numbers=numbers)
    axis.margins(x=0.14, y=0.28)
    if any(lines) and len(lines) <= 2 * len(_COLOURS):
        axis.legend(frameon=False, fontsize=9, labelcolor=_INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _style(axis, field, label)
    axis.grid(visible=True, axis="y", color=_GRID, linewidth=0.8)


def _axis_field(results: list[TrialResult]) -> str:
    fields = list(dict.fromkeys(name for each in results for name in each.values))
    complete = [name for name in fields if all(name in each.values for each in results)]
    several = [name for name in complete if len({shown(each.values[name]) for each in results}) > 1]
    numeric = [name for name in several if all(_is_number(each.values[name]) for each in results)]
    chosen = next(iter([*numeric, *several, *complete]), None)
    if chosen is None:
        raise ConfigurationError("The trials have no field in common to draw their scores over. Print them instead.")
    return chosen


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _ticks(axis: Any, values: list[Any], names: list[str], *, numbers: bool) -> None:
    if not numbers:
        axis.set_xticks(range(len(names)), names, parse_math=False)
        return
    if min(values) > 0 and max(values) / min(values) >= _LONG_AXIS:
        axis.set_xscale("log")
    if len(set(values)) <= 8:
        axis.set_xticks(sorted(set(values)), [shown(each) for each in sorted(set(values))])
        axis.set_xticks([], minor=True)


def _hours(axis: Any, results: SweepResults) -> None:
    rows = list(range(len(results)))
    top = max([each.replica_hours for each in results] + [1e-9])
    for row, each in zip(rows, results, strict=True):
        done = each.checkpoint is not None
        axis.barh(row, each.replica_hours, height=0.6, color=_DONE if done else _NOT_DONE, zorder=3)
        words = hours(each.replica_hours) + ("" if done else f"  {each.status}")
        axis.text(
            each.replica_hours + 0.012 * top, row, words, va="center", fontsize=9.5,
            color=_INK if done else _NOT_DONE, parse_math=False,
        )  # fmt: skip
    axis.set_yticks(rows, [each.trial.label for each in results], parse_math=False)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, 1.2 * top)
    _style(axis, "replica-hours", "")
    axis.grid(visible=True, axis="x", color=_GRID, linewidth=0.8)


def _style(axis: Any, x_label: str, y_label: str) -> None:
    axis.set_xlabel(x_label, fontsize=10, color=_PALE, parse_math=False)
    axis.set_ylabel(y_label, fontsize=10, color=_PALE, parse_math=False)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(_PALE)
    axis.tick_params(colors=_INK, labelsize=9.5, length=0, which="both")
    axis.set_axisbelow(True)
