"""False match rates below what was ever counted: a generalised Pareto tail fitted to the highest non-mated scores.

Why: one false match in a million cannot be counted among a hundred thousand comparisons, and a count of zero says only
"few". Extreme value theory says what shape the top of nearly any score distribution takes (Pickands 1975, Ann. Stat. 3;
Balkema and de Haan 1974), so the few highest scores can be continued; ISO/IEC 5152 builds on that, and this is in its
spirit, not a reading of its clauses.

Promise: an extrapolated rate is its own quantity and never mixes with counted ones; where the scores do not carry a fit the
answer is a reason, not a number; the interval widens where few people stand behind the highest scores. Not promised: that
the tail keeps its shape beyond the scores seen. Bell-shaped scores reach their limiting shape slowly: from the top
hundredth a rate ten thousand times rarer comes out too low by about half, more often than not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.pareto import (
    information,
    log_likelihood,
    log_survival,
    log_survival_gradient,
    maximum_likelihood,
    moments,
    profile,
    quantile,
    scores,
)
from audit_toolkit.stats.proportion import check_level, normal_quantile, t_quantile

FEWEST = 50
"""Exceedances a fit needs at least."""
FEWEST_VALUES = 25
"""Different scores among them at least: a score in a few steps has no tail to continue."""
MOST = 10_000
"""Exceedances a fit uses at most: more of them lie further from the tail and bring bias, not knowledge."""
ML = "maximum likelihood"
PWM = "probability-weighted moments (Hosking & Wallis 1987)"
NAME = "extrapolation (ISO/IEC 5152 in spirit): generalised Pareto tail"

_LEAST_LOG = -650.0  # below it a probability is zero in float64


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """A fitted tail: scores above ``start`` exceed it by a generalised Pareto variable of this shape and scale.

    ``shape`` < 0: the tail ends at start - scale / shape; 0: exponential; > 0: heavy. ``exceedances`` of ``comparisons``
    scores lie above ``start``. ``refused`` says why there is no fit; shape and scale are 0 then.
    """

    start: float
    exceedances: int
    comparisons: int
    shape: float
    scale: float
    method: str
    refused: str | None
    excess: NDArray[np.float64]
    """[exceedances] score - start, sorted."""
    subjects: NDArray[np.int64] | None
    """[exceedances, 2] the two subjects behind each, where they are known."""
    subject_comparisons: NDArray[np.float64] | None
    """[subjects] comparisons that each subject stands in."""

    @property
    def share(self) -> float:
        """The counted share of comparisons above ``start``."""
        return self.exceedances / self.comparisons if self.comparisons else 0.0

    @property
    def end(self) -> float | None:
        """The highest score that the fitted tail allows; ``None`` where it has no end."""
        return self.start - self.scale / self.shape if self.shape < 0 else None


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """A rate at a threshold, or a threshold at a rate, beyond what was counted.

    ``low`` ``None`` with ``high`` ``None``: no interval (``notes`` say why); a ``high`` of ``None`` beside a ``low`` is
    unbounded. ``deff`` is how many times wider than for independent scores the variance is; 1 where subjects are unknown.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    method: str
    exceedances: int
    start: float
    shape: float
    deff: float
    notes: tuple[str, ...] = ()
    undefined: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What the top ``share`` alone gives: a figure that hardly moves with the share is one to lean on."""

    share: float
    exceedances: int
    shape: float | None
    value: float | None
    undefined: str | None


def fit_tail(
    top: NDArray[np.float64],
    comparisons: int,
    *,
    share: float = 0.01,
    most: int = MOST,
    subjects: NDArray[np.int64] | None = None,
    subject_comparisons: NDArray[np.int64] | None = None,
) -> Tail:
    """Fit the top ``share`` of non-mated scores.

    top [n]: the highest scores in any order (all of those at or above some score; finite, larger = more alike);
    comparisons: how many non-mated scores there are in all; subjects [n, 2]: the codes of the two people behind each;
    subject_comparisons [S]: in how many non-mated comparisons each person stands (default: equally many). The tail starts
    at the highest score that is left out, so at most ``min(n - 1, most, share x comparisons)`` exceed it.

    Maximum likelihood (Grimshaw 1993, Technometrics 35); where the likelihood has no maximum inside, probability-weighted
    moments. Raises `UsageError` for numbers that cannot be meant; whatever the data lack is said in ``refused``.
    """
    top = np.asarray(top, np.float64)
    if top.ndim != 1 or not np.isfinite(top).all():
        raise UsageError("The highest scores are not one row of finite numbers.", mend="Leave failures out first.")
    if not 0.0 < share < 1.0 or most < 1 or comparisons < len(top):
        raise UsageError(
            "A tail needs a share between 0 and 1 and at least as many comparisons as scores listed.",
            mend="Give the share of comparisons to fit, and the count of all non-mated comparisons.",
        )
    if subjects is not None and np.shape(subjects) != (len(top), 2):
        raise UsageError("There are not two subjects to each score.", mend="Give subjects as [n, 2].")
    count = min(len(top) - 1, most, int(share * comparisons))
    people, each = _people(subjects, subject_comparisons, comparisons)

    def refuse(reason: str, start: float = 0.0, above: int = 0) -> Tail:
        return Tail(start, above, comparisons, 0.0, 0.0, "", reason, np.zeros(0), None, None)

    if count < FEWEST:
        return refuse(f"{max(count, 0)} scores lie in the tail; a fit needs {FEWEST}", above=max(count, 0))
    order = np.argsort(top, kind="stable")
    start = float(top[order[-count - 1]])
    order = order[-count:]
    order = order[top[order] > start]
    excess = top[order] - start
    if len(excess) < FEWEST or len(np.unique(excess)) < FEWEST_VALUES:
        return refuse(
            f"the highest scores take {len(np.unique(excess))} different values above the start of the tail; a fit needs"
            f" {FEWEST} scores of {FEWEST_VALUES} values",
            start,
            len(excess),
        )
    method, fitted = ML, maximum_likelihood(excess)
    if fitted is None:
        method, fitted = PWM, moments(excess)
    if fitted is None:
        return refuse("the fit of the tail does not converge", start, len(excess))
    return Tail(
        start,
        len(excess),
        comparisons,
        *fitted,
        method,
        None,
        excess,
        None if people is None else people[order],
        each,
    )


def _people(
    subjects: NDArray[np.int64] | None, each: NDArray[np.int64] | None, comparisons: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]:
    if subjects is None:
        return None, None
    codes = np.sort(np.asarray(subjects, np.int64), axis=1)
    if each is None:
        n = len(np.unique(codes))
        codes = np.unique(codes, return_inverse=True)[1].reshape(codes.shape)
        return codes, np.full(n, 2.0 * comparisons / max(n, 1))
    if len(codes) and codes.max() >= len(each):
        raise UsageError("A subject's code lies beyond the counts by subject.", mend="Give one count a subject.")
    return codes, np.asarray(each, np.float64)


def rate_at(tail: Tail, threshold: float, level: float = 0.95) -> Extrapolation:
    """The false match rate at a threshold in the tail, with its interval.

    The interval is the profile likelihood's (Coles 2001, section 4.3.3), its deviance divided by the design effect of the
    people behind the exceedances and held against a t quantile; the counted share's own uncertainty is added on the
    logarithmic scale. Undefined below the start of the tail (count there) and where the fitted tail ends below the
    threshold: then only the upper limit stands.
    """
    reason = tail.refused
    if reason is None and threshold <= tail.start:
        reason = "the threshold lies below the start of the tail: the counted rate applies there"
    if reason is not None:
        return _undefined(tail, level, reason)
    x = threshold - tail.start
    log_s = float(log_survival(x, tail.shape, tail.scale))
    value = tail.share * math.exp(log_s) if log_s > _LEAST_LOG else None
    reason = None
    if value is None:
        reason = "the fitted tail ends below this threshold; only an upper limit can be given"
    deff, quantile_ = _spread(tail, x, level)
    low = high = None
    notes = _notes(tail, value)
    if tail.method == ML:
        low_s, high_s = _limits(lambda ls: profile(tail.excess, x, ls), log_s, tail, quantile_, deff)
        width = quantile_ * math.sqrt(deff / tail.exceedances)
        log_share = math.log(tail.share)
        if value is None:
            low, high = 0.0, math.exp(min(0.0, log_share + high_s + width))
        else:
            down, up = math.hypot(log_s - low_s, width), math.hypot(high_s - log_s, width)
            low = math.exp(log_share + log_s - down) if math.isfinite(down) else 0.0
            high = math.exp(min(0.0, log_share + log_s + up))
    return _result(tail, value, low, high, level, deff, notes, reason)


def threshold_at(tail: Tail, target: float, level: float = 0.95) -> Extrapolation:
    """The threshold at which the fitted tail has this false match rate, with its interval.

    Made as in `rate_at`, with the threshold as the parameter of interest. Undefined where the target is no rarer than the
    share of scores in the tail: count there.
    """
    if not 0.0 < target < 1.0:
        raise UsageError("A target false match rate lies outside (0, 1).", mend="Give a rate such as 1e-6.")
    if tail.refused is not None:
        return _undefined(tail, level, tail.refused)
    if target >= tail.share:
        return _undefined(tail, level, "the target is not rarer than the scores in the tail: count its threshold")
    log_s = math.log(target / tail.share)
    x = quantile(log_s, tail.shape, tail.scale)
    deff, quantile_ = _spread(tail, x, level)
    low: float | None = None
    high: float | None = None
    if tail.method == ML:
        low_x, high_x = _limits(lambda q: profile(tail.excess, math.exp(q), log_s), math.log(x), tail, quantile_, deff)
        width = quantile_ * math.sqrt(deff / tail.exceedances)
        up = quantile(log_s - width, tail.shape, tail.scale) - x
        down = x - quantile(min(log_s + width, -1e-12), tail.shape, tail.scale)
        low = tail.start + max(0.0, x - math.hypot(x - math.exp(low_x), down))
        high = tail.start + x + math.hypot(math.exp(high_x) - x, up) if high_x < 600.0 else None
    return _result(tail, tail.start + x, low, high, level, deff, _notes(tail, target), None)


def stability(
    top: NDArray[np.float64],
    comparisons: int,
    threshold: float,
    shares: Sequence[float] = (0.02, 0.01, 0.005, 0.002, 0.001),
    most: int = MOST,
) -> tuple[Step, ...]:
    """The rate at a threshold from several top shares, as a check on how much the choice of the tail's start decides.

    Shares beyond what ``top`` lists are cut to what is there; a share that gives the same tail as the one before is left
    out.
    """
    steps: list[Step] = []
    for share in sorted(shares, reverse=True):
        tail = fit_tail(top, comparisons, share=share, most=most)
        if steps and steps[-1].exceedances == tail.exceedances:
            continue
        log_s = -math.inf
        reason = tail.refused
        if reason is None and threshold <= tail.start:
            reason = "the threshold lies below the start of the tail"
        if reason is None:
            log_s = float(log_survival(threshold - tail.start, tail.shape, tail.scale))
            reason = None if log_s > _LEAST_LOG else "the fitted tail ends below this threshold"
        steps.append(
            Step(
                tail.exceedances / comparisons,
                tail.exceedances,
                None if tail.refused else tail.shape,
                None if reason else tail.share * math.exp(log_s),
                reason,
            )
        )
    return tuple(steps)


def _undefined(tail: Tail, level: float, reason: str) -> Extrapolation:
    return _result(tail, None, None, None, check_level(level), 1.0, (), reason)


def _result(
    tail: Tail,
    value: float | None,
    low: float | None,
    high: float | None,
    level: float,
    deff: float,
    notes: tuple[str, ...],
    undefined: str | None,
) -> Extrapolation:
    method = f"{NAME}, {tail.method}"
    if low is not None:
        widened = "widened by the people behind the exceedances" if tail.subjects is not None else "scores independent"
        method += f"; profile likelihood, {widened}"
    return Extrapolation(
        value, low, high, level, method, tail.exceedances, tail.start, tail.shape, deff, notes, undefined
    )


def _notes(tail: Tail, rate: float | None) -> tuple[str, ...]:
    notes = [f"extrapolated from the {tail.exceedances} highest of {tail.comparisons} scores; not counted"]
    if tail.method == PWM:
        notes.append("the likelihood has no maximum inside; fitted by moments, without an interval")
    if tail.subjects is None:
        notes.append("the people behind the highest scores are not known; the interval takes scores for independent")
    if rate is not None and rate * tail.comparisons < 0.01:
        notes.append("more than a hundred times rarer than one in the number of comparisons")
    return tuple(notes)


def influence(tail: Tail, x: float) -> NDArray[np.float64]:
    """[exceedances] by how much each moves the logarithm of the rate at ``start + x``; they sum to 1.

    The first-order effect of leaving a score out (Hampel 1974, JASA 69): of the counted share, and of shape and scale by
    way of the expected information of the generalised Pareto distribution.
    """
    # past the end of the fitted tail the logarithm has no slope: the direction just before it is what matters
    x = min(x, quantile(-math.log(10.0 * tail.exceedances), tail.shape, tail.scale))
    gradient = np.array(log_survival_gradient(x, tail.shape, tail.scale))
    weights = np.linalg.solve(information(tail.shape), gradient)
    return (1.0 + scores(tail.excess, tail.shape, tail.scale) @ weights) / tail.exceedances


def _spread(tail: Tail, x: float, level: float) -> tuple[float, float]:
    """Design effect of the people behind the exceedances (at least 1), and the quantile for the interval's half-width.

    The variance is the infinitesimal jackknife's over people: squares of the sums of influences by person (Efron and Stein
    1981). It counts the noise of single comparisons twice, so independent scores come out up to twice as variable as they
    are; taking that noise out, as a counted rate does, lost coverage here (.80 for .95 with strong subject effects).
    """
    check_level(level)
    if tail.subjects is None or tail.subject_comparisons is None:
        return 1.0, normal_quantile((1.0 + level) / 2.0)
    z = influence(tail, x)
    people = len(tail.subject_comparisons)
    by_person = -tail.subject_comparisons / tail.comparisons
    for side in (0, 1):
        by_person = by_person + np.bincount(tail.subjects[:, side], z, people)
    squares = by_person**2
    variance = float(squares.sum())
    independent = float((z**2).sum())
    excess = float((squares**2).sum()) - float(squares.sum()) ** 2 / people
    df = float(people - 1)
    if excess > 0.0:
        df = min(max(2.0 * float(squares.sum()) ** 2 / excess, 2.0), max(df, 2.0))
    return max(1.0, variance / independent), t_quantile((1.0 + level) / 2.0, max(df, 2.0))


def _limits(
    profiled: Callable[[float], float], best: float, tail: Tail, quantile_: float, deff: float
) -> tuple[float, float]:
    """Where the profile deviance reaches the cut on either side of ``best`` (-inf and +inf: nowhere)."""
    from scipy.optimize import brentq

    top = log_likelihood(tail.excess, tail.shape, tail.scale)

    def over(at: float) -> float:
        return 2.0 * (top - profiled(at)) / deff - quantile_**2

    def search(sign: float) -> float:
        inside, step = best, 0.05
        if not math.isfinite(best) or best <= _LEAST_LOG:
            if sign < 0:
                return -math.inf
            inside, step = _LEAST_LOG, 5.0
            if over(inside) > 0:
                return inside
        for _ in range(200):
            outside = inside + sign * step
            if abs(outside) > -_LEAST_LOG:
                return sign * math.inf
            if over(outside) > 0:
                return float(brentq(over, *sorted((inside, outside)), xtol=1e-6))
            inside, step = outside, step * 1.5
        return sign * math.inf

    return search(-1.0), search(1.0)
