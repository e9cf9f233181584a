"""How sure one error rate can be when every trial stands alone.

Why: the classical limits for ``errors`` out of ``n`` independent trials are the yardstick everything else is held against,
and the exact one carries the case in which no error was seen.
Promise: closed forms or exact binomial tails, no simulation. Not promised: that comparisons which share a person are
independent (they are not: see `audit_toolkit.stats.dependence`); `wilson` on raw comparison counts is far too narrow.
"""

from __future__ import annotations

import math

from audit_toolkit.errors import UsageError


def check_level(level: float) -> float:
    """Refuse a confidence level that is not strictly between 0 and 1; returns the level."""
    if not 0.0 < level < 1.0:
        raise UsageError("A confidence level lies outside (0, 1).", mend="Give a level such as 0.95.")
    return level


def check_counts(errors: float, n: float) -> None:
    """Refuse counts that cannot be errors out of n trials."""
    if not (math.isfinite(errors) and math.isfinite(n) and 0 <= errors <= n and n > 0):
        raise UsageError(
            "An error count lies outside 0..n, or n is not positive.",
            mend="Give 0 <= errors <= n with n > 0; a rate without trials is undefined.",
        )


def normal_quantile(probability: float) -> float:
    """The point below which a standard normal value falls with this probability (0 < probability < 1)."""
    from scipy.special import ndtri

    return float(ndtri(probability))


def t_quantile(probability: float, df: float) -> float:
    """The point below which a Student t value with ``df`` > 0 (not necessarily whole) falls with this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


def wilson(errors: float, n: float, level: float) -> tuple[float, float]:
    """The Wilson score limits for a proportion of independent trials.

    ``n`` may be an effective number of trials (not whole), ``errors`` then likewise. Returns (low, high) in [0, 1].
    Source: Wilson 1927, JASA 22; raises `UsageError` on impossible counts or level.
    """
    check_counts(errors, n)
    z = normal_quantile((1.0 + check_level(level)) / 2.0)
    p = errors / n
    shrink = 1.0 + z * z / n
    centre = (p + z * z / (2.0 * n)) / shrink
    half = z * math.sqrt((p * (1.0 - p) + z * z / (4.0 * n)) / n) / shrink
    low = 0.0 if errors == 0 else max(0.0, centre - half)
    return low, 1.0 if errors == n else min(1.0, centre + half)


def clopper_pearson(errors: float, n: float, level: float) -> tuple[float, float]:
    """The exact binomial limits for a proportion of independent trials; never narrower than the level asks.

    Each side errs with probability at most (1 - level) / 2. Source: Clopper and Pearson 1934, Biometrika 26, in the
    form of beta quantiles. Raises `UsageError` on impossible counts or level.
    """
    from scipy.special import betaincinv

    check_counts(errors, n)
    tail = (1.0 - check_level(level)) / 2.0
    low = 0.0 if errors == 0 else float(betaincinv(errors, n - errors + 1.0, tail))
    high = 1.0 if errors == n else float(betaincinv(errors + 1.0, n - errors, 1.0 - tail))
    return low, high


def zero_error_upper(n: float, deff: float | None, level: float) -> float | None:
    """The largest error rate that seeing no error at all still leaves possible; ``None`` without a design effect.

    The exact binomial limit 1 - tail^(1 / n_eff) with n_eff = n / deff and tail = (1 - level) / 2, the upper end of the
    two-sided Clopper-Pearson interval (so level .90 gives the "rule of three", 3 / n_eff). ``deff`` (variance over
    binomial variance, taken as at least 1) must come from groups or thresholds that have errors: comparisons that share
    people make "no errors" far likelier than independent ones would, so without it no limit is given.
    """
    check_counts(0, n)
    tail = (1.0 - check_level(level)) / 2.0
    if deff is None or not math.isfinite(deff):
        return None
    return -math.expm1(math.log(tail) * max(1.0, deff) / n)
