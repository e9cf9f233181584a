"""Estimates and series as drawings: interval plot, curve, matrix, histogram, ladder.

One function a kind, from values to a matplotlib figure; the page and the Python interface call the same ones. Promise:
undefined and withheld values are written out where they would stand and never drawn as a number; an interval that goes on
beyond the frame ends in an arrow; the axis says when it is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from audit_toolkit.evidence.series import Series
from audit_toolkit.evidence.words import number
from audit_toolkit.report import style
from audit_toolkit.report.intervals import interval_plot
from audit_toolkit.report.text import (
    NONE,
    at_text,
    group_text,
    label,
)

__all__ = ["curve", "histogram", "interval_plot", "ladder", "matrix"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _name(series: Series) -> str:
    return group_text(series.of) if series.of else "everybody"


def curve(series: Series | Sequence[Series]) -> Figure:
    """One or more curves over a common axis, told apart by dash and marker as well as colour.

    Axes are logarithmic where all drawn values are positive and reach over two decades. ``None`` breaks a line; values
    that a logarithmic axis cannot show (zero) are left out of the drawing and stay in the record.
    """
    members = [series] if isinstance(series, Series) else list(series)
    points = [[(float(x), y) for x, y in zip(s.x, s.y, strict=True) if not isinstance(x, str)] for s in members]
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
        low_y, high_y = style.span(seen_y, log=log_y, pad=0.04)
        if not log_y and min(seen_y) >= 0:  # nothing lies below zero, and a flat zero needs some height
            low_y, high_y = max(low_y, 0.0), high_y if max(seen_y) > 0 else 1.0
        style.scale(axes, "y", low_y, high_y, log=log_y)
        for k, line in enumerate(points):
            shown = [(x, math.nan if y is None or (log_y and y <= 0) else y) for x, y in line if x > 0 or not log_x]
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
    longest = max((len(label(name, limit=28)) for name in series.rows), default=0)
    left, top, cell_w, cell_h = 44.0 + 6.1 * longest, 42.0 if numbered else 96.0, 62.0, 42.0
    positive = [v for v in series.y if v is not None and v > 0]
    with style.styled():
        from matplotlib.patches import Rectangle

        width, height = max(left + cell_w * columns + 8, 310.0), top + cell_h * rows + 8
        figure = style.canvas(height, width=width)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        named = (("rows", series.y_name), ("columns", series.x_name))
        words = ", ".join(f"{side}: {label(name, limit=24)}" for side, name in named if name)
        axes.text(8, 12, words, color=style.MUTED, va="center")
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
            axes.plot([float(x) for x in s.x], line, color=colour, linewidth=1.5, linestyle=style.DASHES[c % 4])
        for k, name in enumerate(groups):
            axes.plot(
                [0, 1],
                [row * (k + 1)] * 2,
                transform=axes.get_yaxis_transform(),
                color=style.MUTED,
                linewidth=0.7,
            )
            axes.text(0, row * k + 12, label(name, limit=54), transform=axes.get_yaxis_transform(), va="center")
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
    low, high = style.span(known or [0.0, 1.0], log=log) if log else (min(0.0, *known, 0.0), max([*known, 1e-9]) * 1.05)
    height = style.TOP + style.ROW * len(series.x) + style.AXIS
    with style.styled():
        figure = style.canvas(height)
        axes = style.area(figure, 8, style.TOP, 8, style.AXIS)
        style.scale(axes, "x", low, high, log=log)
        axes.set_ylim(style.ROW * len(series.x), 0)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        over = axes.get_yaxis_transform()
        for k, (name, value) in enumerate(zip(series.x, series.y, strict=True)):
            axes.text(0, k * style.ROW + 11, label(str(name), limit=40), transform=over, va="center")
            axes.text(1, k * style.ROW + 11, number(value), transform=over, va="center", ha="right")
            if value is not None:
                axes.barh(k * style.ROW + 26, value - low, left=low, height=9, color=style.ACCENT)
        axes.set_xlabel(label(series.y_name, limit=40) + (" (logarithmic axis)" if log else ""), labelpad=4)
    return figure
