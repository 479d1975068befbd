"""The picture of a profile."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._words import plural
from nova_dpo_sdk.errors import ConfigurationError, DatasetError

if TYPE_CHECKING:
    import os

    from nova_dpo_sdk.datasets._advice import Advice
    from nova_dpo_sdk.datasets._histogram import Distribution
    from nova_dpo_sdk.datasets._profile import Profile

_INK, _PALE, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_BLUE, _GREEN, _RED, _GOLD = "#3b6ea5", "#3d8f6f", "#c25b4e", "#d9902f"
_BARS = 48
_DECADES = 300
"""A range from where on the powers of ten are marks enough."""


def draw(profile: Profile, path: str | os.PathLike[str], advice: Advice | None) -> None:
    """Draw a profile into a file; see `Profile.plot`."""
    _save(drawing(profile, advice), Path(path))


def drawing(profile: Profile, advice: Advice | None) -> Any:
    """The picture as a matplotlib figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "A picture needs matplotlib, which is not installed: pip install 'nova-dpo-sdk[plots]'. "
            "The same numbers are in print(profile)."
        ) from error
    if not profile.records:
        raise DatasetError(f"{profile.name} has no readable records to draw. Run check() to see why.")
    figure: Any = Figure(figsize=(11, 7.2), dpi=150, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.18, h_pad=0.12, wspace=0.04, hspace=0.06)
    # Texts come from file names: without math mode a dollar sign is a dollar sign.
    figure.suptitle(_title(profile), fontsize=13, fontweight="bold", color=_INK, parse_math=False)
    axes: Any = figure.subplots(2, 2)
    _tokens(axes[0][0], profile, advice)
    _lengths(axes[0][1], profile)
    _bottom_left(axes[1][0], profile)
    _counts(axes[1][1], profile)
    return figure


def _save(figure: Any, target: Path) -> None:
    from nova_dpo_sdk.datasets._files import refuse_same, replacing_all

    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format=target.suffix[1:] or "png")
    except ValueError as error:
        raise DatasetError(f"The picture cannot be written to {target}: {error}.") from error
    refuse_same(None, target)
    with replacing_all([target]) as (file,):
        file.write(drawn.getvalue())


def _title(profile: Profile) -> str:
    about = "" if profile.prompts_exact else "about "
    records = plural(profile.records, f"{profile.kind} record")
    return f"{Path(profile.name).name}: {records}, {about}{plural(profile.prompts, 'different prompt')}"


def _tokens(axis: Any, profile: Profile, advice: Advice | None) -> None:
    tokens = profile.tokens
    value = advice.values["max_length"] if advice else None
    top = max(tokens.quantile(0.995) * 1.15, 1)
    if value is not None and value <= 3 * top:
        top = max(top, value * 1.06)
    _bars(axis, tokens, (0, top), _BLUE)
    counted = "prompt and the longer answer" if profile.kind == "preference" else "the whole conversation"
    _style(axis, "Length of a record", f"estimated tokens: {counted} (bytes of text / 4)")
    axis.margins(y=0.5)  # room for what the lines say
    _mark(axis, tokens.median, f"median {tokens.median:,}", _INK, 0.96)
    _mark(axis, tokens.quantile(0.99), f"99 % ≤ {tokens.quantile(0.99):,}", _PALE, 0.84)
    if value is not None and value <= top:
        _mark(axis, value, f"max_length {value:,}", _GOLD, 0.72, bold=True)
    elif value is not None:
        _note(axis, f"recommended max_length {value:,} →", _GOLD, 0.72)
    beyond = tokens.above(int(top))
    if beyond:
        _note(axis, f"{beyond:,} longer, up to {tokens.maximum:,} →", _PALE, 0.58)


def _lengths(axis: Any, profile: Profile) -> None:
    answer = "preferred" if profile.kind == "preference" else "answer"
    drawn = [("prompt", profile.prompt, _BLUE), (answer, profile.answer, _GREEN), ("rejected", profile.rejected, _RED)]
    drawn = [each for each in drawn if each[1].count]
    for name, each, colour in drawn:
        xs, ys = _cumulated(each)
        axis.plot(xs, ys, color=colour, linewidth=2.2, label=f"{name}, median {each.median:,}")
    least = max(1, min(max(each.quantile(0.005), 1) for _, each, _ in drawn))
    _logarithmic(axis, least, max(each.maximum for _, each, _ in drawn))
    axis.set_ylim(0, 102)
    axis.yaxis.set_major_formatter(_as_percent)
    _style(axis, "Share of records up to a length", "characters (logarithmic)", records=False)
    # Below the chart: wherever it stood inside, some data would run through it.
    axis.legend(
        frameon=False, fontsize=8.5, labelcolor=_INK, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(drawn),
        columnspacing=1.2, handlelength=1.2, handletextpad=0.5,
    )  # fmt: skip


def _bottom_left(axis: Any, profile: Profile) -> None:
    if profile.kind == "preference":
        _margin(axis, profile)
        return
    top = max(profile.turns.quantile(0.995), 6)
    shown = [(low, count) for low, _, count in profile.turns.bins if low <= top]
    axis.bar([low for low, _ in shown], [count for _, count in shown], width=0.8, color=_GREEN, zorder=2)
    axis.set_xlim(0.4, top + 0.6)
    axis.xaxis.get_major_locator().set_params(integer=True)
    _style(axis, "Turns in a record", "messages, the answer included")


def _margin(axis: Any, profile: Profile) -> None:
    margin = profile.margin
    reach = max(abs(margin.quantile(0.01)), abs(margin.quantile(0.99)), 1) * 1.1
    equal = _at_zero(margin)
    _bars(axis, margin, (-reach, 0), _RED, bars=_BARS // 2)
    width = _bars(axis, margin, (0, reach), _GREEN, bars=_BARS // 2)
    if equal:
        # Part of the first bar to the right, which begins with pairs that are neither longer nor shorter.
        axis.bar([width / 2], [equal], width=width * 0.92, color=_PALE, linewidth=0, zorder=3)
    axis.set_xlim(-reach, reach)
    axis.axvline(0, color=_INK, linewidth=1)
    longer = margin.above(0)
    shorter = margin.count - longer - equal
    for x, side, count, what, colour in (
        (0.03, "left", shorter, "shorter", _RED),
        (0.5, "center", equal, "as long", _PALE),
        (0.97, "right", longer, "longer", _GREEN),
    ):
        if count or what != "as long":
            axis.text(
                x, 0.95, f"{_percent(count / margin.count)}\n{what}", transform=axis.transAxes, va="top", fontsize=11,
                ha=side, color=colour, fontweight="bold", linespacing=1.3, zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
            )  # fmt: skip
    _style(axis, "Is the preferred answer simply the longer one?", "characters, preferred minus rejected")
    axis.margins(y=0.5)


def _at_zero(margin: Distribution) -> int:
    return next((count for low, high, count in margin.bins if low == 0 and high == 1), 0)


def _counts(axis: Any, profile: Profile) -> None:
    """Bars with their numbers for what comes in kinds: scripts, turns, images, validation prompts."""
    total, written = profile.records, sum(profile.scripts.values())
    rows = [(name, count / written, _BLUE) for name, count in list(profile.scripts.items())[:4]]
    if profile.kind == "preference":
        turns = profile.turns
        single = sum(count for low, _, count in turns.bins if low <= 2)
        share = single / turns.count
        rows += [("one question", share, _GREEN), ("several turns", 1 - share, _GREEN)]
    rows.append(("system prompt", profile.system_records / total, _PALE))
    rows.append(("images", profile.image_records / total, _PALE))
    if profile.overlap is not None and profile.overlap.prompts:
        rows.append(("validation prompts\ntrained on too", profile.overlap.shared / profile.overlap.prompts, _RED))
    places = list(range(len(rows)))[::-1]
    axis.barh(places, [100 * share for _, share, _ in rows], color=[colour for *_, colour in rows], height=0.62)
    axis.set_yticks(places, [name for name, *_ in rows])
    for place, (_, share, _) in zip(places, rows, strict=True):
        axis.text(100 * share + 1.5, place, _percent(share), va="center", fontsize=9, color=_INK)
    axis.set_ylim(min(-0.6, len(rows) - 6.6), len(rows) - 0.4)
    axis.set_xlim(0, 118)
    axis.set_xticks([0, 25, 50, 75, 100])
    axis.xaxis.set_major_formatter(_as_percent)
    _style(axis, "What the records are", "share of records", records=False)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)


def _percent(share: float) -> str:
    return "0 %" if share == 0 else f"{share:.1%}".replace("%", " %") if share >= 0.001 else "< 0.1 %"


def _as_percent(value: float, _: int | None) -> str:
    return f"{value:.0f} %"


def _as_number(value: float, _: int | None) -> str:
    return f"{value:,.0f}"


def _as_length(value: float, place: int | None) -> str:
    """No length is below 1; some releases of matplotlib mark what lies before the axis too."""
    return _as_number(value, place) if value >= 1 else ""


# --- parts of a chart ---------------------------------------------------------------------------------------------


def _bars(axis: Any, each: Distribution, span: tuple[float, float], colour: str, *, bars: int = _BARS) -> float:
    """Draw the part of a distribution that lies within a span, and say how wide a bar is."""
    low, high = span
    bars = min(bars, max(8, round(3 * each.count**0.5)))  # few records make few bars
    if high - low < bars:
        bars = max(1, round(high - low))
    width = (high - low) / bars
    heights = [0.0] * bars
    for first, after, count in each.bins:
        _spread(heights, (first - low) / width, (after - low) / width, count)
    axis.bar(
        [low + (n + 0.5) * width for n in range(bars)], heights, width=width * 0.92, color=colour, linewidth=0, zorder=2
    )
    axis.set_xlim(low, high)
    return width


def _logarithmic(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis that names 1, 2 and 5 where the powers of ten alone would be too few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.set_xlim(low / 1.05, high * 1.1)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > _DECADES else (1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(_as_length)
    axis.xaxis.set_minor_formatter(NullFormatter())


def _spread(heights: list[float], first: float, after: float, count: int) -> None:
    """Share a step's records among the bars that it touches."""
    for bar in range(max(0, int(first)), min(len(heights), int(after) + 1)):
        part = min(after, bar + 1) - max(first, bar)
        if part > 0:
            heights[bar] += count * part / (after - first)


def _cumulated(each: Distribution) -> tuple[list[float], list[float]]:
    xs, ys, seen = list[float](), list[float](), 0
    for _, after, count in each.bins:
        seen += count
        xs.append(max(after - 1, 1))
        ys.append(100 * seen / each.count)
    return [xs[0], *xs], [0.0, *ys]


def _mark(axis: Any, value: float, text: str, colour: str, height: float, *, bold: bool = False) -> None:
    left, right = axis.get_xlim()
    late = value > left + 0.62 * (right - left)
    axis.axvline(value, color=colour, linewidth=2 if bold else 1.3, linestyle="-" if bold else (0, (4, 3)), zorder=3)
    axis.annotate(
        text, (value, height), xycoords=("data", "axes fraction"), xytext=(-6 if late else 6, 0),
        textcoords="offset points", ha="right" if late else "left", va="center", fontsize=9.5, color=colour,
        fontweight="bold" if bold else "normal", zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )  # fmt: skip


def _note(axis: Any, text: str, colour: str, height: float) -> None:
    axis.text(
        0.98, height, text, transform=axis.transAxes, ha="right", va="center", fontsize=9.5, color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 1.5},
    )  # fmt: skip


def _style(axis: Any, title: str, label: str, *, records: bool = True) -> None:
    axis.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=_INK, pad=8)
    axis.set_xlabel(label, fontsize=9.5, color=_PALE)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(_PALE)
    axis.tick_params(colors=_INK, labelsize=9, length=0, axis="both", which="both")
    axis.set_axisbelow(True)
    axis.grid(visible=True, axis="y", color=_GRID, linewidth=0.8)
    if records:
        axis.set_ylabel("records", fontsize=9.5, color=_PALE)
        axis.yaxis.set_major_formatter(_as_number)
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.xaxis.set_major_formatter(_as_number)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.margins(y=0.12)
