"""Estimates and series as drawings: interval plot, curve, matrix, histogram, ladder.

One function a kind, from values to a matplotlib figure; the page and the Python interface call the same ones. Promise:
undefined and withheld values are written out where they would stand and never drawn as a number; an interval that goes on
beyond the frame ends in an arrow; the axis says when it is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from audit_toolkit.evidence.estimate import Estimate, Interval
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.series import Series
from audit_toolkit.evidence.words import number
from audit_toolkit.report import style
from audit_toolkit.report.text import (
    NONE,
    at_text,
    counts_text,
    describe,
    group_text,
    heading,
    label,
    short_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _TOP, _AXIS = 37.0, 8.0, 40.0
_RATIOS = ("ratio", "rate ratio", "odds ratio")


def interval_plot(
    estimates: Sequence[Estimate], *, requirement: Requirement | None = None, ideal: float | None = None
) -> Figure:
    """Each group's value with its interval, one row a group, against the limit where one is required.

    The thick line is the estimate's own interval, the thin one the interval that holds for all groups at once. ``ideal``
    draws a dotted line at the value that no difference would give. Estimates without a value get their reason in words.
    Raises `ValueError` if there is no estimate.
    """
    if not estimates:
        raise ValueError("An interval plot needs at least one estimate.")
    limit = None if requirement is None else requirement.limit
    extra = [v for v in (limit, ideal) if v is not None]
    log, low, high = _frame(estimates, extra)
    top = _TOP + (16.0 if extra else 0.0)
    height = top + _ROW * len(estimates) + _AXIS
    with style.styled():
        figure = style.canvas(height)
        axes = style.area(figure, 8, top, 8, _AXIS)
        style.scale(axes, "x", low, high, log=log, grid=False)
        axes.set_ylim(_ROW * len(estimates), 0)
        marks = style.ticks(low, high, log=log)
        for k in range(len(estimates)):
            axes.vlines(marks, k * _ROW + 18, k * _ROW + 35, color=style.RULE, linewidth=0.7, zorder=0)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        _references(axes, requirement, ideal, low, high)
        for k, estimate in enumerate(estimates):
            _row(axes, estimate, k * _ROW, low, high)
        unit = short_name(estimates[0].quantity) if len({e.quantity for e in estimates}) == 1 else "value"
        axes.set_xlabel(
            heading(unit) + (" (logarithmic axis)" if log else ""), fontsize=style.FONT, labelpad=4
        )
    return figure


def _bounds(estimate: Estimate) -> list[float]:
    ends = [e for i in (estimate.interval, estimate.simultaneous) if i is not None for e in (i.low, i.high)]
    return [e for e in ends if e is not None]


def _frame(estimates: Sequence[Estimate], extra: Sequence[float]) -> tuple[bool, float, float]:
    """Whether to draw on a logarithmic axis, and its ends; far-off bounds are cut so that the values stay apart."""
    values = [e.value for e in estimates if e.value is not None]
    ends = [b for e in estimates for b in _bounds(e)]
    shown = [*values, *ends, *extra]
    positive = [v for v in shown if v > 0]
    core = [v for v in (*values, *extra) if v > 0] or positive
    ratio = all(describe(e.quantity).unit in _RATIOS for e in estimates)
    if positive and min(shown) >= 0 and (ratio or max(positive) / min(positive) >= 20):
        low, high = max(min(positive), min(core) / 300), min(max(positive), max(core) * 300)
        return True, *style.span([low, high], log=True)
    if not shown:
        return False, 0.0, 1.0
    low, high = style.span(shown, log=False)
    # A rate or a count cannot be below zero; the axis should not suggest it.
    return False, (max(low, 0.0) if min(shown) >= 0 else low), high


def _references(
    axes: Axes, requirement: Requirement | None, ideal: float | None, low: float, high: float
) -> None:
    if requirement is not None:
        limit = requirement.limit
        beyond = (limit, high) if requirement.comparator == "<=" else (low, limit)
        axes.axvspan(*beyond, color=style.BAD, alpha=0.07, linewidth=0)
        axes.axvline(limit, color=style.BAD, linewidth=1.4, linestyle=(0, (5, 2.5)))
        words = f"limit: {'at most' if requirement.comparator == '<=' else 'at least'} {number(limit)}"
        _edge_text(axes, limit, words, low, high, style.BAD)
    if ideal is not None and (requirement is None or ideal != requirement.limit):
        axes.axvline(ideal, color=style.MUTED, linewidth=1.1, linestyle=(0, (1.5, 2)))
        if requirement is None:
            _edge_text(axes, ideal, f"no difference: {number(ideal)}", low, high, style.MUTED)


def _edge_text(axes: Axes, x: float, words: str, low: float, high: float, colour: str) -> None:
    """A label above the frame that leans away from the nearer edge."""
    at = _fraction(axes, x, low, high)
    side: Literal["left", "center", "right"] = "left" if at < 0.25 else "right" if at > 0.75 else "center"
    axes.text(x, 1.0, words, transform=axes.get_xaxis_transform(), ha=side, va="bottom", color=colour)


def _fraction(axes: Axes, x: float, low: float, high: float) -> float:
    if axes.get_xscale() == "log":
        return (math.log(x) - math.log(low)) / (math.log(high) - math.log(low)) if x > 0 else 0.0
    return (x - low) / (high - low)


def _row(axes: Axes, estimate: Estimate, y: float, low: float, high: float) -> None:
    over = axes.get_yaxis_transform()
    if y > 0:
        axes.plot([0, 1], [y, y], transform=over, color=style.RULE, linewidth=0.7)
    against = estimate.at.get("against")
    name = group_text(estimate.of) + ("" if against is None else f" to {label(str(against))}")
    if estimate.value is None:
        axes.text(0, y + 11, label(name, limit=54), transform=over, va="center")
        reason = label(estimate.undefined or "undefined", limit=56)
        axes.text(0, y + 26, reason, transform=over, va="center", color=style.MUTED, style="italic")
        return
    counts = counts_text(estimate)
    words = number(estimate.value) if counts == NONE else f"{number(estimate.value)}  ({counts})"
    axes.text(0, y + 11, label(name, limit=max(12, 56 - len(words))), transform=over, va="center")
    axes.text(1, y + 11, words, transform=over, va="center", ha="right")
    middle, zero = y + 26, estimate.value == 0
    if estimate.simultaneous is not None:
        _line(axes, estimate.simultaneous, middle, low, high, 1.0, from_zero=zero)
    if estimate.interval is not None:
        _line(axes, estimate.interval, middle, low, high, 3.4, from_zero=zero)
    x = min(max(estimate.value, low), high)
    # A value that the axis cannot show (a zero on a logarithmic one) is an open ring at the edge.
    face = style.ACCENT if low <= estimate.value <= high else "#fdfdfe"
    axes.plot(
        [x], [middle], "o", markersize=7, color=style.ACCENT, markerfacecolor=face, clip_on=False, zorder=5
    )


def _line(
    axes: Axes, bounds: Interval, y: float, low: float, high: float, width: float, *, from_zero: bool
) -> None:
    """One interval; an end that is open or lies beyond the frame becomes an arrow at the edge."""
    left = low if bounds.low is None else min(max(bounds.low, low), high)
    right = high if bounds.high is None else min(max(bounds.high, low), high)
    axes.plot([left, right], [y, y], color=style.ACCENT, linewidth=width, solid_capstyle="butt")
    log = axes.get_xscale() == "log"
    goes_left = bounds.low is None or bounds.low < low
    # Below zero there is nothing: a line that starts at a measured zero, or at the zero of its axis, simply ends there.
    if goes_left and not from_zero and (log or low != 0.0):
        axes.plot([left], [y], "<", markersize=6, color=style.ACCENT, clip_on=False, markeredgewidth=0)
    elif width < 2 and bounds.low is not None:
        axes.plot([left], [y], "|", markersize=7, color=style.ACCENT, markeredgewidth=1.2)
    if bounds.high is None or bounds.high > high:
        axes.plot([right], [y], ">", markersize=6, color=style.ACCENT, clip_on=False, markeredgewidth=0)
    elif width < 2:
        axes.plot([right], [y], "|", markersize=7, color=style.ACCENT, markeredgewidth=1.2)


def _name(series: Series) -> str:
    return group_text(series.of) if series.of else (at_text(series.at) or "everybody")


def curve(series: Series | Sequence[Series]) -> Figure:
    """One or more curves over a common axis, told apart by dash and marker as well as colour.

    Axes are logarithmic where all drawn values are positive and reach over two decades. ``None`` breaks a line; values
    that a logarithmic axis cannot show (zero) are left out of the drawing and stay in the record.
    """
    members = [series] if isinstance(series, Series) else list(series)
    points = [
        [(float(x), y) for x, y in zip(s.x, s.y, strict=True) if not isinstance(x, str)] for s in members
    ]
    xs = [x for line in points for x, y in line if y is not None]
    ys = [y for line in points for _, y in line if y is not None]
    rows = len(members)
    height = 290.0 + 17.0 * rows
    with style.styled():
        figure = style.canvas(height)
        axes = style.area(figure, 62, 10, 14, 46 + 17.0 * rows)
        log_x = _wide(xs)
        log_y = _wide(ys) or (log_x and _wide(ys, 4))
        seen_x = [x for x in xs if x > 0 or not log_x] or [0.0, 1.0]
        seen_y = [y for y in ys if y > 0 or not log_y] or [0.0, 1.0]
        style.scale(axes, "x", *style.span(seen_x, log=log_x, pad=0.02), log=log_x)
        style.scale(axes, "y", *style.span(seen_y, log=log_y, pad=0.04), log=log_y)
        for k, line in enumerate(points):
            shown = [
                (x, math.nan if y is None or (log_y and y <= 0) else y) for x, y in line if x > 0 or not log_x
            ]
            every = max(1, len(shown) // 6)
            axes.plot(
                [x for x, _ in shown],
                [y for _, y in shown],
                color=style.SERIES[k % 8],
                linestyle=style.DASHES[k % 4],
                linewidth=1.7,
                marker=style.MARKERS[k % 8],
                markersize=5,
                markevery=(k % every, every),
            )
        _axis_names(axes, members[0], log_x, log_y)
        _legend(figure, [_name(s) for s in members], height)
    return figure


def _wide(values: Sequence[float], factor: float = 30) -> bool:
    """Whether values reach over so many orders that equal steps would hide the small ones."""
    positive = [v for v in values if v > 0]
    return bool(positive) and min(values) >= 0 and max(positive) / min(positive) >= factor


def _axis_names(axes: Axes, first: Series, log_x: bool, log_y: bool) -> None:
    def words(name: str, log: bool) -> str:
        return label(name, limit=40) + (" (log)" if log and name else "")

    axes.set_xlabel(words(first.x_name, log_x), labelpad=4)
    axes.set_ylabel(words(first.y_name, log_y), labelpad=4)


def _legend(figure: Figure, names: Sequence[str], height: float) -> None:
    """Names under the drawing, one a line, each beside a piece of its own line."""
    legend = figure.add_axes((0, 0, 1, (17.0 * len(names) + 4) / height))
    legend.set_axis_off()
    legend.set_xlim(0, style.WIDTH)
    legend.set_ylim(17.0 * len(names), 0)
    for k, name in enumerate(names):
        y = 17.0 * k + 8
        legend.plot(
            [62, 82, 102],
            [y, y, y],
            color=style.SERIES[k % 8],
            linestyle=style.DASHES[k % 4],
            linewidth=1.7,
            marker=style.MARKERS[k % 8],
            markersize=5,
            markevery=[1],
        )
        legend.text(110, y, label(name, limit=40), va="center")


def matrix(series: Series) -> Figure:
    """A heat map with the value and its counts in every cell; darker = larger, on a logarithmic scale.

    Rows and columns that carry the same names are numbered on the top edge to save width. Cells without a value stay
    blank with a dash; a zero is written as 0 in an empty frame.
    """
    rows, columns = len(series.rows), len(series.x)
    numbered = tuple(map(str, series.x)) == tuple(series.rows)
    left, top, cell_w, cell_h = 205.0, 42.0 if numbered else 96.0, 62.0, 42.0
    positive = [v for v in series.y if v is not None and v > 0]
    with style.styled():
        from matplotlib.patches import Rectangle

        width, height = left + cell_w * columns + 8, top + cell_h * rows + 8
        figure = style.canvas(height, width=width)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        if series.x_name:
            axes.text(left, 12, f"{label(series.x_name, limit=40)} →", color=style.MUTED, va="center")
        if series.y_name:
            axes.text(
                left - 8,
                12,
                f"{label(series.y_name, limit=24)} ↓",
                color=style.MUTED,
                va="center",
                ha="right",
            )
        for j, name in enumerate(series.x):
            x = left + cell_w * (j + 0.5)
            if numbered:
                axes.text(x, top - 11, str(j + 1), ha="center", va="center")
            else:
                axes.text(x - 8, top - 6, label(str(name), limit=16), ha="left", va="bottom", rotation=40)
        for i, name in enumerate(series.rows):
            words = f"{label(name, limit=28)}  {i + 1}" if numbered else label(name, limit=31)
            axes.text(left - 8, top + cell_h * (i + 0.5), words, ha="right", va="center")
            for j in range(columns):
                k = i * columns + j
                value = series.y[k]
                shade = None if value is None or value <= 0 else _shade(value, positive)
                corner = (left + cell_w * j + 1, top + cell_h * i + 1)
                axes.add_patch(
                    Rectangle(
                        corner,
                        cell_w - 2,
                        cell_h - 2,
                        facecolor="none" if shade is None else style.HEAT[shade],
                        edgecolor=style.RULE,
                        linewidth=0.8,
                    )
                )
                ink = style.INK if shade is None else "#fdfdfe" if shade >= 4 else "#11161c"
                x, y = corner[0] + cell_w / 2 - 1, corner[1] + cell_h / 2 - 1
                if value is None:
                    axes.text(x, y, NONE, ha="center", va="center", color=style.MUTED)
                    continue
                counts = _cell_counts(series, k)
                axes.text(x, y - (8 if counts else 0), number(value), ha="center", va="center", color=ink)
                if counts:
                    axes.text(x, y + 8, counts, ha="center", va="center", color=ink, fontsize=10)
    return figure


def _shade(value: float, positive: Sequence[float]) -> int:
    low, high = math.log(min(positive)), math.log(max(positive))
    return 0 if high == low else min(5, int(6 * (math.log(value) - low) / (high - low)))


def _cell_counts(series: Series, k: int) -> str:
    if not series.numerators or not series.denominators:
        return ""
    return f"{_brief(series.numerators[k])}/{_brief(series.denominators[k])}"


def _brief(count: int | None) -> str:
    if count is None:
        return NONE
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= size:
            return f"{count / (1000 if letter == 'k' else size):.3g}{letter}"
    return str(count)


def histogram(series: Series | Sequence[Series]) -> Figure:
    """Distributions one above the other, one row a group; classes in a row differ in fill and outline.

    Each distribution is scaled to its own peak, so that shapes and positions compare while sizes do not.
    """
    members = [series] if isinstance(series, Series) else list(series)
    groups = list(dict.fromkeys(_group(s) for s in members))
    classes = list(dict.fromkeys(at_text(s.at) for s in members))
    xs = [float(x) for s in members for x in s.x if not isinstance(x, str)] or [0.0, 1.0]
    row, below = 66.0, 46 + 17.0 * len(classes)
    height = 8 + row * len(groups) + below
    with style.styled():
        figure = style.canvas(height)
        axes = style.area(figure, 8, 8, 8, below)
        style.scale(axes, "x", min(xs), max(xs), log=False)
        axes.set_ylim(row * len(groups), 0)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        for s in members:
            k, c = groups.index(_group(s)), classes.index(at_text(s.at))
            base = row * (k + 1)
            heights = [0.0 if y is None else y for y in s.y]
            peak = max(heights, default=0.0) or 1.0
            line = [base - (row - 24) * h / peak for h in heights]
            colour = style.SERIES[c % 8]
            axes.fill_between([float(x) for x in s.x], line, base, color=colour, alpha=0.16, linewidth=0)
            axes.plot(
                [float(x) for x in s.x], line, color=colour, linewidth=1.5, linestyle=style.DASHES[c % 4]
            )
        for k, name in enumerate(groups):
            axes.plot(
                [0, 1],
                [row * (k + 1)] * 2,
                transform=axes.get_yaxis_transform(),
                color=style.MUTED,
                linewidth=0.7,
            )
            axes.text(
                0, row * k + 12, label(name, limit=54), transform=axes.get_yaxis_transform(), va="center"
            )
        axes.set_xlabel(label(members[0].x_name, limit=40), labelpad=4)
        legend = figure.add_axes((0, 0, 1, (17.0 * len(classes) + 4) / height))
        legend.set_axis_off()
        legend.set_xlim(0, style.WIDTH)
        legend.set_ylim(17.0 * len(classes), 0)
        for c, name in enumerate(classes):
            legend.plot(
                [8, 44],
                [17 * c + 8] * 2,
                color=style.SERIES[c % 8],
                linestyle=style.DASHES[c % 4],
                linewidth=1.7,
            )
            legend.text(52, 17 * c + 8, name or label(members[0].y_name), va="center")
    return figure


def _group(series: Series) -> str:
    return group_text(series.of)


def ladder(series: Series) -> Figure:
    """Values step by step, one bar a step, with the value in words at its end."""
    known = [v for v in series.y if v is not None]
    log = _wide(known) and min(known, default=0.0) > 0
    low, high = (
        style.span(known or [0.0, 1.0], log=log)
        if log
        else (min(0.0, *known, 0.0), max([*known, 1e-9]) * 1.05)
    )
    height = _TOP + _ROW * len(series.x) + _AXIS
    with style.styled():
        figure = style.canvas(height)
        axes = style.area(figure, 8, _TOP, 8, _AXIS)
        style.scale(axes, "x", low, high, log=log)
        axes.set_ylim(_ROW * len(series.x), 0)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        over = axes.get_yaxis_transform()
        for k, (name, value) in enumerate(zip(series.x, series.y, strict=True)):
            axes.text(0, k * _ROW + 11, label(str(name), limit=40), transform=over, va="center")
            axes.text(1, k * _ROW + 11, number(value), transform=over, va="center", ha="right")
            if value is not None:
                axes.barh(k * _ROW + 26, value - low, left=low, height=9, color=style.ACCENT)
        axes.set_xlabel(label(series.y_name, limit=40) + (" (logarithmic axis)" if log else ""), labelpad=4)
    return figure
