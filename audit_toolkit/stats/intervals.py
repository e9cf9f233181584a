"""The interval of one error rate, by methods of one signature.

Why: an auditor must be able to hold the default against its alternatives, on the same counts. ``INTERVALS`` maps a name to
a function ``(sample, level) -> Interval``; `DEFAULT` is the one that kept its promise in every simulated design with at
least 40 expected errors (``benchmarks/interval_coverage.py``).
Promise: the interval carries the method that made it and why a side is open; no errors and nothing but errors are answered
by an exact limit on the effective number of comparisons, never by a width of 0. Not promised: that the alternatives hold;
"wilson" is there to show what ignoring shared people does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from audit_toolkit.errors import UsageError
from audit_toolkit.evidence.estimate import Interval
from audit_toolkit.stats.dependence import (
    RateSample,
    binomial_variance,
    degrees_of_freedom,
    jackknife_variance,
    no_interval,
    ustat_variance,
)
from audit_toolkit.stats.proportion import check_level, t_quantile, wilson, zero_error_upper

IntervalMethod = Callable[[RateSample, float], Interval]


def open_interval(level: float, method: str) -> Interval:
    """An interval unbounded on both sides, whose method says why."""
    return Interval(low=None, high=None, level=level, method=method)


def _edge(sample: RateSample, level: float, method: str) -> Interval | None:
    """The interval where leaving subjects out tells nothing: no interval possible, no errors, nothing but errors."""
    check_level(level)
    reason = no_interval(sample)
    if reason is not None:
        return open_interval(level, f"{method}: none, {reason}")
    if not sample.degenerate:
        return None
    limit = zero_error_upper(sample.comparisons, sample.deff, level)
    seen = "no errors seen" if sample.errors == 0 else "nothing but errors seen"
    how = (
        f"{method}: {seen}, and no design effect to judge them with"
        if limit is None
        else f"{method}: {seen}, exact binomial limit on comparisons / design effect {sample.deff:.3g}"
    )
    if sample.errors == 0:
        return Interval(low=0.0, high=limit, level=level, method=how)
    return Interval(low=None if limit is None else 1.0 - limit, high=1.0, level=level, method=how)


def _logit(sample: RateSample, level: float, variance: float, df: float, method: str) -> Interval:
    """logit(p) +- t_df sqrt(variance) / (p (1 - p)), back on the scale of rates."""
    p = sample.errors / sample.comparisons
    variance = max(variance, binomial_variance(sample))
    half = t_quantile((1.0 + level) / 2.0, df) * math.sqrt(variance) / (p * (1.0 - p))
    odds = math.log(p) - math.log1p(-p)
    return Interval(low=_expit(odds - half), high=_expit(odds + half), level=level, method=method)


def _expit(x: float) -> float:
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    # below -700 exp underflows to 0, which is the right lower bound to print
    return math.exp(x) / (1.0 + math.exp(x))


def logit_jackknife(sample: RateSample, level: float) -> Interval:
    """The default: leave each subject out in turn, on the logit scale, with Satterthwaite's t quantile.

    ``level`` in (0, 1). Variance `jackknife_variance`, floored at the binomial one. Zero-error files through
    `zero_error_upper` with ``sample.deff``; raises `UsageError` on a bad level only.
    """
    name = "logit-jackknife"
    edge = _edge(sample, level, name)
    return edge or _logit(sample, level, jackknife_variance(sample), degrees_of_freedom(sample), name)


def logit_double_or_nothing(sample: RateSample, level: float) -> Interval:
    """Each subject counted double or not at all, again and again: the variance of those replicates, on the logit scale.

    Counts the noise of single pairs three times, so it is wider than the jackknife where errors are sparse. Raises
    `UsageError` where the sample holds fewer than 30 usable replicates. Source: Owen and Eckles 2012, Ann. Appl. Stat. 6.
    """
    name = "logit-double-or-nothing"
    edge = _edge(sample, level, name)
    if edge is not None:
        return edge
    drawn = np.empty(0) if sample.replicates is None else sample.replicates[np.isfinite(sample.replicates)]
    if len(drawn) < 30:
        raise UsageError(
            "The double-or-nothing interval needs at least 30 replicates with comparisons, and this sample holds fewer.",
            mend="Count by replicate, or choose the interval 'logit-jackknife'.",
        )
    return _logit(sample, level, float(drawn.var(ddof=1)), degrees_of_freedom(sample), name)


def logit_ustat(sample: RateSample, level: float) -> Interval:
    """The default with the noise of single pairs counted once instead of twice: narrower where errors are sparse.

    Raises `UsageError` where ``sample.pair_square`` is not held. Variance: `ustat_variance`.
    """
    name = "logit-ustat"
    edge = _edge(sample, level, name)
    return edge or _logit(sample, level, ustat_variance(sample), degrees_of_freedom(sample), name)


def ustat_wilson(sample: RateSample, level: float) -> Interval:
    """The best published closed form: Wilson limits on the effective number of comparisons from the U-statistic variance.

    n_eff = p (1 - p) / var. Uses the normal quantile, so it is too narrow where a few people make most errors. Source:
    Fogliato, Patil and Perona 2024. Raises `UsageError` where ``sample.pair_square`` is not held.
    """
    name = "ustat-wilson"
    edge = _edge(sample, level, name)
    if edge is not None:
        return edge
    p = sample.errors / sample.comparisons
    effective = p * (1.0 - p) / ustat_variance(sample)
    low, high = wilson(p * effective, effective, level)
    return Interval(low=low, high=high, level=level, method=name)


def naive_wilson(sample: RateSample, level: float) -> Interval:
    """What one gets by pretending that comparisons which share people are independent: far too narrow, for show only."""
    check_level(level)
    if sample.comparisons == 0:
        return open_interval(level, "wilson: none, no comparisons")
    low, high = wilson(sample.errors, sample.comparisons, level)
    return Interval(low=low, high=high, level=level, method="wilson (comparisons taken as independent)")


DEFAULT = "logit-jackknife"
INTERVALS: Mapping[str, IntervalMethod] = MappingProxyType(
    {
        DEFAULT: logit_jackknife,
        "logit-double-or-nothing": logit_double_or_nothing,
        "logit-ustat": logit_ustat,
        "ustat-wilson": ustat_wilson,
        "wilson": naive_wilson,
    }
)
"""Interval methods by the name a plan uses; each ``(RateSample, level) -> Interval``."""


def interval(sample: RateSample, level: float, method: str = DEFAULT) -> Interval:
    """The interval of one rate by a named method; raises `UsageError` on a name that `INTERVALS` does not hold."""
    if method not in INTERVALS:
        raise UsageError("An interval method is not known.", mend=f"Choose one of {', '.join(INTERVALS)}.")
    return INTERVALS[method](sample, level)


def bonferroni(level: float, family: int) -> float:
    """The level each of ``family`` intervals needs so that all hold at once with ``level``, however they depend."""
    return 1.0 - (1.0 - check_level(level)) / max(1, family)


def simultaneous(samples: Sequence[RateSample], level: float, method: str = DEFAULT) -> list[Interval]:
    """Intervals that hold for all groups at once: each made at level 1 - (1 - level) / K (Bonferroni).

    Valid whatever the groups share. K counts the samples that have comparisons. The returned ``level`` is the family's.
    Bonferroni rather than Sidak: the gain is in the fourth digit and Sidak's guarantee needs independence.
    """
    family = sum(sample.comparisons > 0 for sample in samples)
    each = bonferroni(level, family)
    found = [interval(sample, each, method) for sample in samples]
    return [
        Interval(low=i.low, high=i.high, level=level, method=f"{i.method}; all {family} at once (Bonferroni)")
        for i in found
    ]
