"""How far two error rates lie apart: their ratio and their difference, with intervals.

Why: "three times as often" is the sentence an audit is read for, and two rates that share people (a group and everybody,
two cells of the cross-group matrix) are not independent. The covariance comes from leaving out each person from both at once.
Promise: zero counts give one-sided or open intervals, never an invented pseudo-count. Not promised: power; with a few
errors the honest ratio interval is wide.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.evidence.estimate import Interval
from audit_toolkit.stats.dependence import (
    RateSample,
    align,
    binomial_variance,
    covariance,
    degrees_of_freedom,
    jackknife_variance,
    no_interval,
)
from audit_toolkit.stats.intervals import DEFAULT, interval, open_interval
from audit_toolkit.stats.proportion import check_level, t_quantile


def log_ratio(a: RateSample, b: RateSample) -> tuple[float, float, float] | None:
    """The logarithm of p_a / p_b, its standard error, its degrees of freedom; ``None`` where a count is 0 or no interval exists.

    Influence delta_a / p_a - delta_b / p_b over all subjects of either; degrees of freedom are those of the rate that rests
    on fewer people. (Pooling them after Welch covered .92 where a few people make most of the errors; this covered .96 or
    more.) Where a rate's jackknife variance lies under the binomial one, the difference is added.
    """
    if a.degenerate or b.degenerate or no_interval(a) or no_interval(b):
        return None
    p_a, p_b = a.errors / a.comparisons, b.errors / b.comparisons
    pull_a, pull_b = align(a, b)
    influence: NDArray[np.float64] = pull_a / p_a - pull_b / p_b
    lacking = sum(max(0.0, binomial_variance(s) - jackknife_variance(s)) / p**2 for s, p in ((a, p_a), (b, p_b)))
    error = math.sqrt(float(np.square(influence).sum()) + lacking)
    return math.log(p_a / p_b), error, min(degrees_of_freedom(a), degrees_of_freedom(b))


def ratio_interval(a: RateSample, b: RateSample, level: float) -> Interval:
    """How many times p_b goes into p_a, with an interval: log scale, joint jackknife, see `log_ratio`.

    Where a rate has no errors (or nothing but errors) the interval is put together from both rates' own intervals at
    level (1 + level) / 2 each, so that each end still errs with probability at most (1 - level) / 2: with errors in a only
    it has a lower end and no upper one unless b's lower end is above 0; with errors in b only it starts at 0; without any
    errors it says nothing. ``None`` = open. Raises `UsageError` on a bad level only.
    """
    check_level(level)
    reason = no_interval(a) or no_interval(b)
    if reason is not None:
        return open_interval(level, f"log-ratio jackknife: none, {reason}")
    fit = log_ratio(a, b)
    if fit is not None:
        centre, error, df = fit
        half = t_quantile((1.0 + level) / 2.0, df) * error
        # past +-700 the exponential leaves the range of floats; such an end says nothing
        high = math.exp(centre + half) if centre + half < 700.0 else None
        low = math.exp(max(-700.0, centre - half))
        return Interval(low=low, high=high, level=level, method="log-ratio jackknife")
    half_level = (1.0 + level) / 2.0
    in_a, in_b = interval(a, half_level), interval(b, half_level)
    return Interval(
        low=0.0 if in_a.low is None or in_b.high is None else in_a.low / in_b.high,
        high=None if in_a.high is None or not in_b.low else in_a.high / in_b.low,
        level=level,
        method="ratio from both rates' own intervals: a rate of 0 or 1 was seen",
    )


def difference_interval(a: RateSample, b: RateSample, level: float, method: str = DEFAULT) -> Interval:
    """How much larger p_a is than p_b, in rate units, with an interval rebuilt from both rates' own intervals.

    low = d - sqrt(u^2 + v^2 - 2 c u v) with u = p_a - low_a, v = high_b - p_b and c the correlation from the joint
    jackknife; the upper end mirrored. So it inherits the asymmetry of the logit intervals and their zero-error limits. Source:
    Zou and Donner 2008, Stat. Med. 27 (method of variance estimates recovery). Ends are clipped to [-1, 1]; ``None`` = open.
    """
    check_level(level)
    reason = no_interval(a) or no_interval(b)
    if reason is not None:
        return open_interval(level, f"difference: none, {reason}")
    p_a, p_b = a.errors / a.comparisons, b.errors / b.comparisons
    scale = math.sqrt(jackknife_variance(a) * jackknife_variance(b))
    correlation = 0.0 if scale == 0.0 else min(1.0, max(-1.0, covariance(a, b) / scale))
    in_a, in_b = interval(a, level, method), interval(b, level, method)

    def reach(u: float, v: float) -> float:
        return math.sqrt(max(0.0, u * u + v * v - 2.0 * correlation * u * v))

    low = high = None
    if in_a.low is not None and in_b.high is not None:
        low = max(-1.0, p_a - p_b - reach(p_a - in_a.low, in_b.high - p_b))
    if in_a.high is not None and in_b.low is not None:
        high = min(1.0, p_a - p_b + reach(in_a.high - p_a, p_b - in_b.low))
    return Interval(low=low, high=high, level=level, method=f"difference by variance recovery from {method}")
