"""From searches to rates: who is in which group, how often errors happen, and what leaving out a person changes.

Two kinds of people make a search's outcome random. The probe's person brings all their searches along, so they are left out
together. The people enrolled are shared by all groups' searches: leaving one of them out takes away every false positive of
which that person was the only candidate. Both are exact delete-one jackknives and enter one `RateSample` as two strata, so the
variance is the sum of both; ratios of groups keep the covariance that one shared gallery gives them. With the gallery held
fixed only the first kind is left.

Sources: ISO/IEC 19795-1:2021 and the NIST FRVT 1:N reports for the rates; Efron and Stein 1981 for the jackknife.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.identification.searches import Searches
from audit_toolkit.evidence.estimate import Interval
from audit_toolkit.stats.dependence import (
    RateSample,
    adjust_for_threshold,
    align,
    from_counts,
    no_interval,
    pooled_deff,
    satterthwaite,
    with_deff,
)
from audit_toolkit.stats.intervals import open_interval
from audit_toolkit.stats.proportion import t_quantile

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def missed(searches: Searches, rank: int | None, threshold: float | None) -> Bools:
    """[searches] whether a mated search misses: mate outside the first ``rank`` people, or below the threshold.

    FNIR(N, R, T); ``None`` = no such limit. Ties count against the system: people who score exactly like the mate stand before
    it. False for non-mated searches.
    """
    wrong = np.zeros(searches.n, np.bool_)
    if rank is not None:
        wrong |= searches.ahead >= rank
    wrong |= searches.mate_score < (-np.inf if threshold is None else threshold)
    wrong |= searches.mate_score == -np.inf
    return wrong & searches.mated


def alerted(searches: Searches, threshold: float, level: int = 0) -> Bools:
    """[searches] whether anybody but the probe's own person reaches the threshold, in sub-gallery ``level``."""
    return np.asarray(searches.best[:, level] >= threshold, np.bool_)


def _sample(searches: Searches, among: Bools, wrong: Bools, pull: NDArray[np.int64] | None) -> RateSample:
    """A rate of searches; ``pull`` [enrolled] = errors that go away when that person is left out of the gallery."""
    errors, made = int((wrong & among).sum()), int(among.sum())
    people = len(searches.subject_labels)
    by_subject = np.bincount(searches.subject[among & wrong], minlength=people)
    sample = from_counts(errors, made, by_subject, np.bincount(searches.subject[among], minlength=people))
    if pull is None or len(searches.enrolled) < 2 or not pull.any():
        return sample  # nobody's absence changes anything: that stratum adds 0
    delta = -pull / max(1, made)
    return replace(
        sample,
        delta=np.concatenate([sample.delta, delta]),
        subject=np.concatenate([sample.subject, people + searches.enrolled]),
        stratum=np.concatenate([sample.stratum, np.ones(len(delta), np.int64)]),
    )


def fpir_sample(
    searches: Searches, members: Bools, threshold: float, *, resampled: bool = True, level: int = 0
) -> RateSample:
    """False positive identification rate of a group: non-mated searches with anybody at or above the threshold.

    The denominator is searches, never comparisons; mated searches are not in it. ``resampled``: enrolled people drawn anew too.
    """
    among = members & ~searches.mated
    wrong = alerted(searches, threshold, level)
    pull = None
    if resampled and level == 0:
        alone = among & wrong & (searches.second < threshold)
        pull = _by_enrolled(searches, searches.best_subject[alone])
    return _sample(searches, among, wrong, pull)


def fnir_sample(
    searches: Searches, members: Bools, rank: int | None, threshold: float | None, *, resampled: bool = True
) -> RateSample:
    """False negative identification rate of a group: mated searches whose mate is not in the first ``rank`` at the threshold.

    Leaving out an enrolled person mends a miss where the mate stood exactly one place too low and that person before it. The
    mate's own enrolment goes with the probe's person.
    """
    among = members & searches.mated
    wrong = missed(searches, rank, threshold)
    pull = None
    if resampled:
        saved = np.zeros(0, np.int64)
        if rank is not None and rank <= searches.competitors.shape[1]:
            reaches = searches.mate_score >= (-np.inf if threshold is None else threshold)
            saved = searches.competitors[among & reaches & (searches.ahead == rank), :rank].ravel()
        pull = _by_enrolled(searches, saved[saved >= 0])
    return _sample(searches, among, wrong, pull)


def _by_enrolled(searches: Searches, who: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(searches.enrolled, who), minlength=len(searches.enrolled)).astype(np.int64)


def hit_sample(sample: RateSample) -> RateSample:
    """One less the rate: TPIR from FNIR, with the same people behind it."""
    return replace(sample, errors=sample.comparisons - sample.errors, delta=-sample.delta)


def with_pooled(
    samples: Sequence[RateSample], loose: Callable[[], Sequence[RateSample]] | None = None
) -> list[RateSample]:
    """Every sample with one design effect pooled over the groups that have errors.

    Where none has any, ``loose`` makes the samples of a looser question (a lower threshold, a stricter rank) to lend theirs;
    design effects grow with the rate, so that errs on the wide side.
    """
    pooled = pooled_deff(samples)
    if pooled is None and loose is not None:
        pooled = pooled_deff(loose())
    return [with_deff(s, pooled) for s in samples]


# ---- thresholds ----------------------------------------------------------------------------------------------------------


def lowest_threshold(best: Floats, target: float) -> float:
    """The lowest score at which at most this share of non-mated searches raises an alert.

    ``best`` [non-mated searches] = highest score of anybody. Never the nearest: FPIR at the result is at most ``target``.
    """
    ordered = np.sort(best)[::-1]
    allowed = math.floor(target * len(ordered) + 1e-9)
    if allowed >= len(ordered):
        return -np.finfo(np.float64).max
    return float(np.nextafter(ordered[allowed], np.inf)) if np.isfinite(ordered[allowed]) else -np.finfo(np.float64).max


def set_on_data(
    searches: Searches, members: Bools, sample: RateSample, threshold: float, overall: RateSample, rate: str
) -> RateSample:
    """The sample with what the threshold's own uncertainty adds, where it was set on these very non-mated searches."""
    scores = searches.best[~searches.mated, 0]
    near = np.sort(np.abs(scores[np.isfinite(scores)] - threshold))
    if sample.degenerate or overall.degenerate or len(near) < 4:
        return sample
    width = float(near[min(len(near) - 1, max(20, round(2 * math.sqrt(len(near)))))])
    base = _density(scores, threshold, width)
    if not (width > 0.0 and base > 0.0):
        return sample
    if rate == "fpir":
        own = _density(searches.best[members & ~searches.mated, 0], threshold, width)
        return adjust_for_threshold(sample, own, overall, base, -1)
    own = _density(searches.mate_score[members & searches.mated], threshold, width)
    return adjust_for_threshold(sample, own, overall, base, +1)


def _density(scores: Floats, at: float, width: float) -> float:
    with np.errstate(invalid="ignore"):
        return (
            float((np.abs(scores - at) <= width).sum()) / (2.0 * width * len(scores))
            if len(scores) and width > 0
            else 0.0
        )


# ---- other measures ------------------------------------------------------------------------------------------------------


def mean_interval(
    totals: NDArray[np.int64], made: NDArray[np.int64], level: float
) -> tuple[float | None, Interval, int]:
    """A mean per search (selectivity) with an interval on the log scale; totals and searches by probe person.

    Delete-one-person jackknife; open where nothing was counted or a single person stands behind it.
    """
    keep = made > 0
    t, m = totals[keep].astype(np.float64), made[keep].astype(np.float64)
    name = "log-mean jackknife"
    if m.sum() == 0:
        return None, open_interval(level, f"{name}: none, no searches"), 0
    value = float(t.sum() / m.sum())
    if len(m) < 2 or value == 0.0:
        return (
            value,
            open_interval(level, f"{name}: none, {'a single person' if len(m) < 2 else 'nothing counted'}"),
            len(m),
        )
    delta = (t.sum() - t) / (m.sum() - m) - value
    pull = (delta - delta.mean()) * math.sqrt((len(m) - 1) / len(m))
    error = math.sqrt(float(np.square(pull).sum())) / value
    half = t_quantile((1.0 + level) / 2.0, satterthwaite(pull)) * error
    low, high = value * math.exp(-min(half, 700.0)), value * math.exp(half) if half < 600.0 else None
    return value, Interval(low=low, high=high, level=level, method=name), len(m)


def change_interval(after: RateSample, before: RateSample, level: float) -> Interval:
    """How much a rate changes on the same searches, with a joint jackknife interval, ends in [-1, 1]."""
    name = "paired difference jackknife"
    reason = no_interval(after) or no_interval(before)
    if reason is not None:
        return open_interval(level, f"{name}: none, {reason}")
    pull_a, pull_b = align(after, before)
    pull = pull_a - pull_b
    error = math.sqrt(float(np.square(pull).sum()))
    value = after.errors / after.comparisons - before.errors / before.comparisons
    if error == 0.0:
        return open_interval(level, f"{name}: none, no search changed its outcome")
    half = t_quantile((1.0 + level) / 2.0, satterthwaite(pull)) * error
    return Interval(low=max(-1.0, value - half), high=min(1.0, value + half), level=level, method=name)


def predictive_value(ratio: float, prevalence: float) -> float:
    """Positive predictive value from TPIR / FPIR and the share of people passing by who are on the watchlist.

    PPV = p TPIR / (p TPIR + (1 - p) FPIR): the share of people alerted on who are on the list, if ``prevalence`` is right.
    """
    odds = prevalence / (1.0 - prevalence) * ratio
    return odds / (1.0 + odds)


def scaled_fpir(fmr: float, people: float) -> float:
    """The FPIR that independent comparisons with this many people would give: 1 - (1 - FMR)^N.

    FMR per person enrolled. Exact only where comparisons of one search are independent; a probe that resembles many people
    makes the true growth slower.
    """
    return -math.expm1(people * math.log1p(-fmr)) if fmr < 1.0 else 1.0
