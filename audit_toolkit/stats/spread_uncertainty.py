"""How sure a spread measure is, and what it would show if all groups were equal.

Why: the usual delta or percentile interval of a spread measure excludes equality in half to all of the files in which the
groups are equal, since noise only ever adds spread. Here the lower end of a smooth measure leaves the ideal value only where
the test of equality rejects, and `chance` says what noise alone gives.
Promise: with equal groups the interval excludes the ideal value at most as often as the equality test rejects. Not
promised: exact coverage at small true spreads; there the interval errs on the side of including equality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError
from audit_toolkit.evidence.estimate import Chance, Interval
from audit_toolkit.stats.dependence import RateSample, centred, joint_strata, no_interval, satterthwaite
from audit_toolkit.stats.intervals import open_interval
from audit_toolkit.stats.proportion import check_level, t_quantile, zero_error_upper
from audit_toolkit.stats.spread import Kernel, kernel

Floats = NDArray[np.float64]

LEAST_DEFINED = 0.5
"""Where the measure is defined in fewer draws than this share, what chance would give is left undefined too."""

_MOST_CELLS = 4_000_000


def joint_jackknife(
    function: Kernel, samples: Sequence[RateSample], level: float, *, ideal: float, equal_p: float | None
) -> Interval:
    """The interval of any smooth function of all groups' rates, by leaving each person out of all of them at once.

    ``function`` maps rates [..., groups] to values [...]; ``ideal`` is its value, and least value, when all rates are equal.
    ``equal_p`` is the p-value of the test of equal rates: unless it is at most 1 - level the lower end is ``ideal`` (noise only
    adds spread, so the jackknife alone would exclude equality far too often). The lower end starts from the smaller of
    the value and its jackknife bias correction, the upper end from the larger. A group without errors is put both
    at 0 and at its own upper limit, and the wider answer is taken; without a design effect to make that limit the upper end is
    open. Pass only samples with comparisons. Raises `UsageError` on a bad level or without samples.
    """
    check_level(level)
    if not samples:
        raise UsageError("A spread interval needs at least one rate.")
    method = "joint subject jackknife, lower end released by the equality test"
    for sample in samples:
        reason = no_interval(sample)
        if reason is not None:
            return open_interval(level, f"{method}: none, {reason}")
    rates = np.array([sample.errors / sample.comparisons for sample in samples])
    people, where = np.unique(np.concatenate([sample.subject for sample in samples]), return_inverse=True)
    step = max(1, _MOST_CELLS // max(1, len(samples)))
    pull = np.zeros((len(people), len(samples)), dtype=np.float64)
    side = np.full((len(people), len(samples)), -1, dtype=np.int64)
    at = 0
    for k, sample in enumerate(samples):
        mine = where[at : at + len(sample.subject)]
        at += len(sample.subject)
        pull[mine, k] = sample.delta
        side[mine, k] = sample.stratum
    stratum = joint_strata(side.T)
    value = float(function(rates))
    if not math.isfinite(value):
        return open_interval(level, f"{method}: none, the measure is undefined")
    left = np.empty(len(people))
    for low in range(0, len(people), step):
        left[low : low + step] = function(np.clip(rates + pull[low : low + step], 0.0, 1.0))
    if not np.isfinite(left).all():
        return open_interval(level, f"{method}: none, the measure is undefined when one person is left out")
    influence = centred(RateSample(0, 1, left - value, people, stratum))
    sizes = np.bincount(stratum)
    means = np.bincount(stratum, weights=left - value) / sizes
    corrected = value - float(((sizes - 1) * means).sum())
    half = t_quantile((1.0 + level) / 2.0, satterthwaite(influence, len(sizes))) * math.sqrt(
        float(np.square(influence).sum())
    )
    places, unbounded = _zero_places(rates, samples, level)
    values = [value, *(float(function(place)) for place in places)]
    low_end = (
        max(ideal, min(corrected, *values) - half) if len(values) > 1 else max(ideal, min(corrected, value) - half)
    )
    if equal_p is None or equal_p > 1.0 - level:
        low_end = ideal
    high_end = None if unbounded else max(corrected, *values, ideal) + half
    if high_end is not None and low_end > high_end:
        low_end = high_end
    return Interval(low=low_end, high=high_end, level=level, method=method)


def _zero_places(rates: Floats, samples: Sequence[RateSample], level: float) -> tuple[list[Floats], bool]:
    """The rates with error-free groups at their upper limits, one by one and together; and whether a limit is missing."""
    limits = {
        k: zero_error_upper(sample.comparisons, sample.deff, level)
        for k, sample in enumerate(samples)
        if sample.errors == 0
    }
    if any(limit is None for limit in limits.values()):
        return [], True
    places = []
    together = rates.copy()
    for k, limit in limits.items():
        alone = rates.copy()
        alone[k] = together[k] = limit
        places.append(alone)
    return ([*places, together] if limits else []), False


def null_rates(
    errors: Sequence[int], comparisons: Sequence[int], deff: float | Sequence[float], *, seed: int, draws: int
) -> Floats:
    """Rates [draws, groups] that files of this size would show if every group had the pooled rate.

    Each group draws Binomial(round(M_k / deff_k), pooled rate) errors, deff taken as at least 1; M_k > 0.
    """
    m = np.asarray(comparisons, dtype=np.float64)
    effect = np.maximum(1.0, np.broadcast_to(np.asarray(deff, dtype=np.float64), m.shape))
    effective = np.maximum(1, np.round(m / effect)).astype(np.int64)
    pooled = float(np.sum(errors)) / float(m.sum())
    rng = np.random.Generator(np.random.Philox(seed))
    return np.asarray(rng.binomial(effective, pooled, (draws, len(m))) / effective)


def chance(
    name: str,
    errors: Sequence[int],
    comparisons: Sequence[int],
    deff: float | Sequence[float],
    *,
    seed: int,
    draws: int = 2000,
    floor: float | None = None,
) -> Chance:
    """What a spread measure shows when all true rates are equal: median and 95th percentile, and the value less that.

    Every group draws Binomial(round(M_k / deff_k), pooled rate) errors; ``deff`` is one number or one a group, taken as at
    least 1. Draws in which the measure is undefined (a zero group in max/min, or in max/geomean without a ``floor``) are left out
    and their share stands in the method. ``corrected``: for "std" and "std-sample" the
    method of moments, sqrt(max(0, variance of rates - mean noise variance)); for the others the observed value less (chance
    median - ideal), not below the ideal. All fields ``None`` without errors, or with fewer than two groups.
    """
    work, ideal = kernel(name)
    e = np.asarray(errors, dtype=np.float64)
    m = np.asarray(comparisons, dtype=np.float64)
    effect = np.maximum(1.0, np.broadcast_to(np.asarray(deff, dtype=np.float64), e.shape))
    if len(e) < 2 or (m <= 0).any() or e.sum() == 0:
        return Chance(expected=None, high=None, corrected=None, method="none: fewer than two groups, or no errors")
    x = null_rates(errors, comparisons, deff, seed=seed, draws=draws)
    rates = e / m
    if name == "max/geomean" and floor is not None:
        x = np.where(x == 0, floor, x)
        rates = np.where(rates == 0, floor, rates)
    values = work(x)
    defined = values[np.isfinite(values)]
    share = len(defined) / draws
    how = f"{draws} parametric draws at the pooled rate with the design effect"
    if share < 1.0:
        how += f"; undefined in {1 - share:.1%} of draws, which are left out"
    if share < LEAST_DEFINED:
        return Chance(expected=None, high=None, corrected=None, method=how)
    expected, high = (float(v) for v in np.quantile(defined, [0.5, 0.95]))
    observed = float(work(rates))
    if name in ("std", "std-sample"):
        noise = float((effect * rates * (1.0 - rates) / m).mean())
        excess = max(0.0, float(rates.var(ddof=1)) - noise)
        corrected: float | None = math.sqrt(excess * ((len(e) - 1) / len(e) if name == "std" else 1.0))
        how += "; corrected by the method of moments"
    else:
        corrected = max(ideal, observed - (expected - ideal)) if math.isfinite(observed) else None
        how += "; corrected = observed less (median under equality less ideal)"
    return Chance(expected=expected, high=high, corrected=corrected, method=how)
