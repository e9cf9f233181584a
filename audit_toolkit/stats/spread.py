"""One number for how far the groups' error rates lie apart, and how much of it chance alone would give.

Why: reports compare systems by such numbers, and every one of them is large by chance in a small file: with eight equal
groups and three expected errors each, the largest rate is typically five times the smallest. So a measure never stands
alone here: beside it stand an interval (`project` or `joint_jackknife`) and its value under equality (`chance`).
Promise: undefined is said with a reason; zero rates are treated as each function states. Not promised: that one number
ranks systems; measures disagree, show several.

Measures are functions of one signature ``(rates, floor) -> Spread`` in `MEASURES`; ``rates`` [groups] in [0, 1]; only
"max/geomean" reads ``floor``, what a zero rate is replaced by. Sources: Gini after Gini 1912, normalised by K / (K - 1) as in
Howard et al. 2022 (GARBE, arXiv 2203.05051); max/geometric mean, NIST IR 8429; the excess of the variance over its noise,
DerSimonian and Laird 1986.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError

Floats = NDArray[np.float64]
Kernel = Callable[[Floats], Floats]
"""[..., groups] -> [...]; NaN where undefined, inside this module only."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A spread measure's value, or why it has none, and what was done to get it."""

    value: float | None
    undefined: str | None = None
    note: str | None = None


def _max_min(x: Floats) -> Floats:
    low = x.min(axis=-1)
    return np.asarray(np.divide(x.max(axis=-1), low, out=np.full(low.shape, np.nan), where=low > 0))


def _max_geomean(x: Floats) -> Floats:
    ok = x.min(axis=-1) > 0
    logs = np.log(np.where(ok[..., None], x, 1.0))
    return np.where(ok, np.exp(logs.max(axis=-1) - logs.mean(axis=-1)), np.nan)


def _max_mean(x: Floats) -> Floats:
    mean = x.mean(axis=-1)
    return np.asarray(np.divide(x.max(axis=-1), mean, out=np.full(mean.shape, np.nan), where=mean > 0))


def _difference(x: Floats) -> Floats:
    return np.asarray(x.max(axis=-1) - x.min(axis=-1))


def _gini(x: Floats) -> Floats:
    # sum_ij |x_i - x_j| over sorted values is 2 sum_i (2 i - K + 1) x_(i), i from 0
    k = x.shape[-1]
    total = x.sum(axis=-1)
    lift = np.sort(x, axis=-1) @ (2.0 * np.arange(k) - k + 1.0)
    return np.asarray(np.maximum(0.0, np.divide(lift, k * total, out=np.zeros(total.shape), where=total > 0)))


def _gini_normalised(x: Floats) -> Floats:
    k = x.shape[-1]
    return np.asarray(_gini(x) * (k / (k - 1)))


def _std(x: Floats) -> Floats:
    return np.asarray(x.std(axis=-1))


def _std_sample(x: Floats) -> Floats:
    return np.asarray(x.std(axis=-1, ddof=1))


def _mad(x: Floats) -> Floats:
    return np.asarray(np.abs(x - x.mean(axis=-1, keepdims=True)).mean(axis=-1))


KERNELS: Mapping[str, tuple[Kernel, float]] = MappingProxyType(
    {
        "max/min": (_max_min, 1.0),
        "max/geomean": (_max_geomean, 1.0),
        "max/mean": (_max_mean, 1.0),
        "max-min": (_difference, 0.0),
        "gini": (_gini, 0.0),
        "gini-normalised": (_gini_normalised, 0.0),
        "std": (_std, 0.0),
        "std-sample": (_std_sample, 0.0),
        "mad": (_mad, 0.0),
    }
)
"""The arithmetic by name, over the last axis, with the value it takes when all rates are equal."""

PROJECTED = ("max/min", "max/geomean", "max/mean", "max-min")
SMOOTH = ("gini", "gini-normalised", "std", "std-sample", "mad")


def kernel(name: str) -> tuple[Kernel, float]:
    """The arithmetic of a measure and its value under equality; raises `UsageError` on an unknown name."""
    if name not in KERNELS:
        raise UsageError("A spread measure is not known.", mend=f"Choose one of {', '.join(KERNELS)}.")
    return KERNELS[name]


def _vector(rates: Sequence[float] | Floats) -> Floats:
    x = np.asarray(rates, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all() or (x < 0).any():
        raise UsageError("A spread measure was given something other than a list of rates.")
    return x


def measure(name: str, rates: Sequence[float] | Floats, floor: float | None = None) -> Spread:
    """One spread measure of a list of rates; fewer than two rates have no spread.

    Zero rates: "max/min" and, without a ``floor``, "max/geomean" are undefined; with a ``floor`` > 0 zeros are replaced by it
    for "max/geomean" and the note says so; "max/mean" is undefined only where all rates are 0; Gini of all zeros is 0 by
    definition, and the note says so. Raises `UsageError` on negative or non-finite rates or an unknown name.
    """
    work, _ = kernel(name)
    x = _vector(rates)
    if len(x) < 2:
        return Spread(None, "fewer than two groups have a rate")
    note = None
    zeros = int((x == 0).sum())
    if zeros and name == "max/min":
        return Spread(None, "a group has a rate of 0")
    if zeros and name == "max/geomean":
        if floor is None or not floor > 0:
            return Spread(None, "a group has a rate of 0, and no floor was given")
        x = np.where(x == 0, floor, x)
        note = f"{zeros} zero rate(s) replaced by {floor:.3g}"
    if zeros == len(x):
        if name == "max/mean":
            return Spread(None, "every group has a rate of 0")
        if name.startswith("gini"):
            note = "every rate is 0: the Gini coefficient is 0 by definition"
    return Spread(float(work(x)), None, note)


def _named(name: str) -> Callable[[Sequence[float] | Floats, float | None], Spread]:
    def of(rates: Sequence[float] | Floats, floor: float | None = None) -> Spread:
        return measure(name, rates, floor)

    of.__name__ = name
    of.__doc__ = f"The spread measure {name} of a list of rates."
    return of


MEASURES: Mapping[str, Callable[[Sequence[float] | Floats, float | None], Spread]] = MappingProxyType(
    {name: _named(name) for name in KERNELS}
)
"""Spread measures by name, each ``(rates, floor) -> Spread``."""


def project(
    name: str, lows: Sequence[float | None], highs: Sequence[float | None]
) -> tuple[float | None, float | None]:
    """The smallest and largest value of a measure while every rate stays inside its own interval.

    Where the intervals hold simultaneously with some level, so does the result, whatever the dependence, and with equal true
    rates it excludes the ideal value only when the box does: that is why "max/min", "max/geomean", "max/mean" and "max-min" get
    their intervals here. Exact: with m the largest low end, "max/min" is at least m over the smallest high end and at most
    the largest high_k / low_l (k, l different); the quotients by a mean are least where everybody stands at
    min(high, m) and largest with one group at its high end and all others at their low ends. ``None`` in ``lows`` counts as 0,
    in ``highs`` as unbounded; ``None`` in the result is unbounded. Fewer than two groups give (None, None).
    """
    if name not in PROJECTED:
        raise UsageError("This spread measure has no projection.", mend=f"Choose one of {', '.join(PROJECTED)}.")
    low = np.array([0.0 if v is None else v for v in lows])
    high = np.array([math.inf if v is None else v for v in highs])
    if len(low) != len(high) or (low > high).any() or (low < 0).any():
        raise UsageError("The groups' intervals do not pair up into a box of rates.")
    k = len(low)
    if k < 2:
        return None, None
    top = float(low.max())
    if name == "max-min":
        reach = max(high[i] - np.delete(low, i).min() for i in range(k))
        return max(0.0, top - float(high.min())), float(reach) if math.isfinite(reach) else None
    kind, _ = kernel(name)
    # with every low end at 0 all rates may be equal and tiny
    least = 1.0 if top == 0.0 else float(kind(np.minimum(high, top)))
    if name == "max/min":
        least = 1.0 if top <= high.min() else top / float(high.min())
    most = 1.0
    for i in range(k):
        rest = np.delete(low, i)
        if name == "max/mean":
            # an unbounded or lonely rate takes the whole sum
            lonely = not math.isfinite(high[i]) or (rest.sum() == 0 and high[i] > 0)
            value = float(k) if lonely else k * high[i] / (high[i] + rest.sum()) if high[i] > 0 else 1.0
        elif rest.min() <= 0 or not math.isfinite(high[i]):
            return max(1.0, least), None
        elif name == "max/min":
            value = high[i] / rest.min()
        else:
            value = math.exp((1 - 1 / k) * math.log(high[i]) - np.log(rest).sum() / k) if high[i] > 0 else 1.0
        most = max(most, float(value))
    least = max(1.0, least)
    return least, max(least, most)
