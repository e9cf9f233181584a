"""The plot a finding rests on: values with their intervals, group by group, against a limit.

Promise: a value that is undefined or withheld is written as its reason, an interval that goes on beyond the frame ends in an
arrow, a zero on a logarithmic axis is an open ring at the edge, and the axis says when it is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from audit_toolkit.evidence.estimate import Estimate, Interval
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.words import number
from audit_toolkit.report import style
from audit_toolkit.report.text import NONE, counts_text, describe, group_text, heading, label, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    top = style.TOP + (16.0 if extra else 0.0)
    height = top + style.ROW * len(estimates) + style.AXIS
    with style.styled():
        figure = style.canvas(height)
        axes = style.area(figure, 8, top, 8, style.AXIS)
        style.scale(axes, "x", low, high, log=log, grid=False)
        axes.set_ylim(style.ROW * len(estimates), 0)
        marks = style.ticks(low, high, log=log)
        for k in range(len(estimates)):
            axes.vlines(marks, k * style.ROW + 18, k * style.ROW + 35, color=style.RULE, linewidth=0.7, zorder=0)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        _references(axes, requirement, ideal, low, high)
        for k, estimate in enumerate(estimates):
            _row(axes, estimate, k * style.ROW, low, high)
        unit = short_name(estimates[0].quantity) if len({e.quantity for e in estimates}) == 1 else "value"
        axes.set_xlabel(heading(unit) + (" (logarithmic axis)" if log else ""), fontsize=style.FONT, labelpad=4)
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


def _references(axes: Axes, requirement: Requirement | None, ideal: float | None, low: float, high: float) -> None:
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
        reason = label(estimate.undefined or "undefined", limit=62)
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
    axes.plot([x], [middle], "o", markersize=7, color=style.ACCENT, markerfacecolor=face, clip_on=False, zorder=5)


def _line(axes: Axes, bounds: Interval, y: float, low: float, high: float, width: float, *, from_zero: bool) -> None:
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
