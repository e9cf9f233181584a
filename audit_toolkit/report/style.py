"""One look for every drawing: size, fonts and a small palette, the same in a page and in a notebook.

Figures are drawn for a column 380 points wide, so that on a telephone the letters stay legible without zooming. Colours
are stand-ins: a page replaces each by its own light or dark tone (`audit_toolkit.report.svg`). Colour never carries
meaning alone: lines differ in dash and marker too, and limits are labelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from audit_toolkit.evidence.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 380.0
FONT = 10.5
ROW, TOP, AXIS = 37.0, 8.0, 40.0  # a group's row, the air above the first, the room for the axis below
INK, MUTED, RULE, ACCENT, BAD = "#1c2127", "#585f68", "#d6d3cb", "#1d4a7d", "#9b2118"
SERIES = ("#1f5a96", "#b4491a", "#2b7a57", "#74489c", "#85690a", "#ad2f68", "#2e7f9e", "#4b4f55")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
HEAT = ("#eef3f8", "#cfdfee", "#a5c5e0", "#6f9fcb", "#3f76ac", "#1c4a7e")

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so that the layout is the same on every machine
    "font.size": FONT,
    "text.parse_math": False,  # a label with a dollar sign is a label
    "svg.fonttype": "none",
    "svg.hashsalt": "audit_toolkit",
    "path.simplify_threshold": 0.3,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw under the house style whatever the user's own settings are, and leave those untouched."""
    import matplotlib.style

    with matplotlib.style.context(["default", _RC]):
        yield


def canvas(height: float, *, width: float = WIDTH) -> Figure:
    """An empty figure of that size in points, outside any global plotting state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_alpha(0.0)
    return figure


def area(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes with these margins in points."""
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes = figure.add_axes(box)
    axes.patch.set_alpha(0.0)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def ticks(low: float, high: float, *, log: bool, most: int = 5) -> list[float]:
    """Round values within the range: decades (with 2 and 5 where there are few) or equal steps."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
            found = [float(f"{f}e{k}") for k in range(first, last + 1) for f in factors]
            found = [v for v in found if low <= v <= high]
            if len(found) >= 3:
                step = math.ceil(len(found) / most)
                return found[::step]
        return ticks(low, high, log=False, most=most)
    raw = (high - low) / most or 1.0
    size = 10.0 ** math.floor(math.log10(raw))
    step_size = next(size * f for f in (1.0, 2.0, 2.5, 5.0, 10.0) if size * f >= raw * 0.999)
    start = math.ceil(low / step_size - 1e-9)
    stop = math.floor(high / step_size + 1e-9)
    return [float(f"{k * step_size:.12g}") for k in range(start, stop + 1)]


def scale(
    axes: Axes,
    which: Literal["x", "y"],
    low: float,
    high: float,
    *,
    log: bool,
    most: int = 5,
    grid: bool = True,
) -> None:
    """Set one axis: range, round ticks in plain numbers, and a quiet grid."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    if low == high:  # so close together that floats cannot part them
        low, high = low - max(abs(low), 1.0) * 1e-6, high + max(abs(high), 1.0) * 1e-6
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    marks = ticks(low, high, log=log, most=most)
    axis.set_major_locator(FixedLocator(marks))
    names = [number(v) for v in marks]
    if len(set(names)) < len(names):  # closer to each other than three digits can tell
        names = [f"{v:.6g}" for v in marks]
    axis.set_major_formatter(FixedFormatter(names))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if grid:
        axes.grid(axis=which, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, pad=3, color=MUTED, labelsize=FONT)


def span(values: Sequence[float], *, log: bool, pad: float = 0.05) -> tuple[float, float]:
    """A range that holds all values with a little air; never empty."""
    low, high = min(values), max(values)
    if log:
        a, b = math.log10(low), math.log10(high)
        air = max((b - a) * pad, 0.08)
        return 10 ** (a - air), 10 ** (b + air)
    air = (high - low) * pad or max(abs(high) * 0.1, 1e-6)
    return low - air, high + air
