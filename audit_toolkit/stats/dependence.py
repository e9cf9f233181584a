"""How sure an error rate is when one person stands in many comparisons.

Why: a person who is easily confused with others adds errors to hundreds of comparisons at once, so comparisons are not
independent and the textbook interval covers the truth in as few as 7 of 100 files. Everything here starts from one
vector: how the rate changes when one subject is left out with all their comparisons (`RateSample.delta`). Variances,
covariances of rates that share people, degrees of freedom and design effects are sums over it.
Promise: exact delete-one arithmetic, any missing or unequal comparison counts, no resampling. Not promised: validity with
a handful of subjects; whatever dependence goes beyond the subject (site, camera, day) is not seen.

Sources: delete-one jackknife, Efron and Stein 1981, Ann. Stat. 9, stratified as in Rust 1985, J. Off. Stat. 1; degrees of
freedom after Satterthwaite 1946, Biometrics Bull. 2; U-statistic variance of a pairwise rate, Fogliato, Patil and Perona
2024.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class RateSample:
    """One rate with what its uncertainty can be made from.

    errors/comparisons is the rate. ``delta[k]`` is the change of the rate when the k-th contributing subject (global code
    ``subject[k]``) is left out with all their comparisons: p_(i) - p = -(r_i - p m_i) / (M - m_i); NaN where nothing is
    left. ``stratum[k]`` is the side a subject was sampled on (all 0 within a group; 0/1 for the two groups of a
    cross-group cell). The three vectors are equally long; a subject code occurs at most once.
    """

    errors: int
    comparisons: int
    delta: NDArray[np.float64]
    subject: NDArray[np.int64]
    stratum: NDArray[np.int64]
    pair_square: float | None = None
    """Sum over unordered subject pairs of d_ij^2, where pair counts are held (for the U-statistic variance); 0 for mated
    comparisons, which belong to one subject each."""
    replicates: NDArray[np.float64] | None = None
    """The rate in each double-or-nothing replicate (NaN where its denominator is 0)."""
    deff: float | None = None
    """Design effect pooled from groups or thresholds that have errors: what a zero-error group is judged with."""

    def __post_init__(self) -> None:
        if not (len(self.delta) == len(self.subject) == len(self.stratum)):
            raise UsageError(
                "The per-subject vectors of a rate differ in length.",
                mend="Give one entry a subject in each.",
            )
        if not 0 <= self.errors <= self.comparisons:
            raise UsageError("A rate has fewer comparisons than errors.", mend="Check numerator and denominator.")

    @property
    def rate(self) -> float | None:
        """The rate errors / comparisons, ``None`` without comparisons."""
        return self.errors / self.comparisons if self.comparisons else None

    @property
    def degenerate(self) -> bool:
        """Whether no error was seen, or nothing but errors: then leaving subjects out tells nothing."""
        return self.errors in (0, self.comparisons)


def from_counts(
    errors: int,
    comparisons: int,
    subject_errors: NDArray[np.int64],
    subject_comparisons: NDArray[np.int64],
    *,
    subject: NDArray[np.int64] | None = None,
    stratum: NDArray[np.int64] | None = None,
    pair_square: float | None = None,
    replicates: NDArray[np.float64] | None = None,
    deff: float | None = None,
) -> RateSample:
    """A rate from the errors and comparisons each subject takes part in.

    ``subject_errors`` and ``subject_comparisons`` [subjects] count every comparison a subject stands in on either side, so
    a comparison of two subjects counts for both and their sum is twice the total. Subjects without comparisons are left
    out. ``subject`` defaults to 0..subjects-1, ``stratum`` to zeros.
    """
    made = np.asarray(subject_comparisons)
    keep = made > 0
    m = made[keep].astype(np.float64)
    r = np.asarray(subject_errors)[keep].astype(np.float64)
    p = errors / comparisons if comparisons else 0.0
    left = comparisons - m
    delta = np.full(len(m), np.nan)
    np.divide(-(r - p * m), left, out=delta, where=left > 0)
    codes = np.arange(len(made), dtype=np.int64) if subject is None else np.asarray(subject, dtype=np.int64)
    sides = np.zeros(len(made), dtype=np.int64) if stratum is None else np.asarray(stratum, dtype=np.int64)
    return RateSample(int(errors), int(comparisons), delta, codes[keep], sides[keep], pair_square, replicates, deff)


def no_interval(sample: RateSample) -> str | None:
    """Why no interval can be made from this sample, in words; ``None`` where one can."""
    if sample.comparisons == 0:
        return "no comparisons"
    if len(sample.delta) < 2:
        return "a single subject"
    _, sizes = np.unique(sample.stratum, return_counts=True)
    if sizes.min() < 2:
        return "a single subject on one side"
    if not np.isfinite(sample.delta).all():
        return "one subject stands in every comparison"
    return None


def centred(sample: RateSample) -> NDArray[np.float64]:
    """Each subject's pull on the rate, centred and scaled within strata, so that the sum of squares is the variance.

    sqrt((n_s - 1) / n_s) (delta_i - mean_s) [subjects], in units of the rate. Zero for a stratum of one.
    """
    _, where, sizes = np.unique(sample.stratum, return_inverse=True, return_counts=True)
    means = np.bincount(where, weights=sample.delta, minlength=len(sizes)) / np.maximum(sizes, 1)
    scale = np.sqrt((sizes - 1) / np.maximum(sizes, 1))
    return np.asarray((sample.delta - means[where]) * scale[where], dtype=np.float64)


def jackknife_variance(sample: RateSample) -> float:
    """The variance of the rate over the people who happened to be tested: the stratified delete-one jackknife.

    sum over strata (n_s - 1) / n_s sum (delta_i - mean_s)^2. Counts the noise of single pairs twice (the Efron-Stein
    inequality: never too small on average), see `ustat_variance`.
    """
    return float(np.square(centred(sample)).sum())


def binomial_variance(sample: RateSample) -> float:
    """The variance p (1 - p) / M of comparisons that stand alone; the floor of every variance here."""
    p = sample.rate or 0.0
    return p * (1.0 - p) / max(1, sample.comparisons)


def ustat_variance(sample: RateSample) -> float:
    """The jackknife variance with the noise of single pairs counted once instead of twice, floored at the binomial one.

    var - sum_{i<j} d_ij^2 / M^2. Raises `UsageError` where ``pair_square`` is not held.
    """
    if sample.pair_square is None:
        raise UsageError(
            "The U-statistic variance needs the sum of squares over subject pairs, and this sample holds none.",
            mend="Choose the interval 'logit-jackknife'.",
        )
    corrected = jackknife_variance(sample) - sample.pair_square / max(1, sample.comparisons) ** 2
    return max(corrected, binomial_variance(sample))


def satterthwaite(influence: NDArray[np.float64], strata: int = 1) -> float:
    """How many subjects' worth of information the variance rests on: few, where a few people make most of the errors.

    df = clip(2 (sum R^2)^2 / (sum R^4 - (sum R^2)^2 / G), 2, G - strata), R the influences of G subjects.
    """
    g = len(influence)
    top = float(g - strata)
    # scaled by the largest, so that fourth powers of tiny rates do not underflow
    largest = float(np.abs(influence).max(initial=0.0))
    if largest == 0.0:
        return max(1.0, top)
    square = np.square(influence / largest)
    total = float(square.sum())
    spread = float(np.square(square).sum()) - total * total / g
    df = top if spread <= 0.0 else 2.0 * total * total / spread
    return max(1.0, min(max(df, 2.0), top))


def degrees_of_freedom(sample: RateSample) -> float:
    """Satterthwaite's degrees of freedom of one rate's jackknife variance, between 2 and subjects - strata."""
    return satterthwaite(centred(sample), len(np.unique(sample.stratum)))


def design_effect(sample: RateSample) -> float | None:
    """How many dependent comparisons weigh as much as one independent one: variance over binomial variance.

    ``None`` where it is undefined (no errors, nothing but errors, or no interval possible); otherwise positive, usually
    above 1.
    """
    if no_interval(sample) is not None or sample.degenerate:
        return None
    return jackknife_variance(sample) / binomial_variance(sample)


def pooled_deff(samples: Iterable[RateSample]) -> float | None:
    """One design effect from all groups or thresholds that have errors, weighted by their errors; at least 1.

    ``None`` where no sample has a design effect. It stands in for a group in which no error was seen. Design effects grow
    with the error rate, so pooling from looser thresholds errs on the wide side.
    """
    pairs = [(sample.errors, effect) for sample in samples if (effect := design_effect(sample)) is not None]
    if not pairs:
        return None
    return max(1.0, sum(errors * effect for errors, effect in pairs) / sum(errors for errors, _ in pairs))


def with_deff(sample: RateSample, deff: float | None) -> RateSample:
    """The same sample carrying a pooled design effect."""
    return replace(sample, deff=deff)


def align(a: RateSample, b: RateSample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The centred influences of two rates over all subjects of either.

    A subject who stands in only one rate pulls the other by 0.
    """
    people, where = np.unique(np.concatenate([a.subject, b.subject]), return_inverse=True)
    in_a, in_b = where[: len(a.subject)], where[len(a.subject) :]
    pull = np.zeros((2, len(people)))
    pull[0, in_a], pull[1, in_b] = centred(a), centred(b)
    return pull[0], pull[1]


def joint_strata(sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """One stratum per combination of sides: ``sides`` [rates, people] (-1 = not in the rate) -> codes from 0 [people].

    People who were sampled alike for every rate are one stratum of the joint resampling.
    """
    code = np.zeros(sides.shape[1], dtype=np.int64)
    for side in sides:
        _, own = np.unique(side, return_inverse=True)
        _, code = np.unique(code * (int(own.max(initial=0)) + 1) + own, return_inverse=True)
    return code


def covariance(a: RateSample, b: RateSample) -> float:
    """How two rates move together because they share people: the joint jackknife; 0 where they share nobody.

    sum over shared subjects of the centred influences' product, so that covariance(a, a) is the jackknife variance and no
    correlation exceeds 1.
    """
    _, at_a, at_b = np.intersect1d(a.subject, b.subject, assume_unique=True, return_indices=True)
    return float(centred(a)[at_a] @ centred(b)[at_b])


def adjust_for_threshold(
    sample: RateSample, density: float, overall: RateSample, density_overall: float, sign: int
) -> RateSample:
    """The same rate, with the influences it has when the threshold was set on the very same data.

    Leaving a subject out moves the overall FMR by delta_o, so the threshold that keeps the target moves by delta_o / f_o,
    and the group's rate follows: delta_g - (f_g / f_o) delta_o for FMR (``sign`` -1), delta_g + (h_g / f_o) delta_o for FNMR
    (``sign`` +1). ``density`` is the group's share of scores per unit of score at the threshold (non-mated f_g for FMR,
    mated h_g for FNMR), ``density_overall`` f_o that of the scores the target was set on, > 0. Subjects outside the group
    enter as strata of their own. Pair squares and replicates do not carry over. Raises `UsageError` on a bad density or sign.
    """
    if sign not in (-1, 1):
        raise UsageError("The sign of a threshold adjustment is neither -1 (FMR) nor +1 (FNMR).")
    if not (density >= 0.0 and density_overall > 0.0):
        raise UsageError(
            "A score density at the threshold is not positive.", mend="Widen the window it is estimated in."
        )
    people, where = np.unique(np.concatenate([sample.subject, overall.subject]), return_inverse=True)
    own, every = where[: len(sample.subject)], where[len(sample.subject) :]
    delta = np.zeros(len(people))
    delta[own] = sample.delta
    delta[every] += sign * density / density_overall * overall.delta
    stratum = np.zeros(len(people), dtype=np.int64)
    stratum[every] = overall.stratum + (int(sample.stratum.max(initial=0)) + 1 - int(overall.stratum.min(initial=0)))
    stratum[own] = sample.stratum
    return replace(sample, delta=delta, subject=people, stratum=stratum, pair_square=None, replicates=None)
