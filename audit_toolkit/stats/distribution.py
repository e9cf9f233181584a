"""How far two groups' score distributions stand apart, whatever the threshold.

Why: standards ask for differences in scores ("differential performance") beside differences in error rates at a threshold.
Promise: sums over counted levels on one shared grid. Not promised: what happens inside a bin; a distance is exact for
scores rounded to the grid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError

Counts = NDArray[np.int64]


def _check(a: Counts, b: Counts) -> None:
    if a.shape != b.shape or a.ndim != 1:
        raise UsageError("Two histograms do not share one grid.", mend="Count both on the same edges.")


def kolmogorov_smirnov(a: Counts, b: Counts) -> tuple[float | None, str | None]:
    """The largest gap between two groups' shares of scores up to a level; 0 alike, 1 apart.

    ``a``, ``b`` [levels] counts on one grid, lowest level first. Returns (distance, None), or (None, reason) where a group has
    no scores. A distance, not a test: comparisons share people. Source: Smirnov 1948, Ann. Math. Stat. 19.
    """
    _check(a, b)
    if a.sum() == 0 or b.sum() == 0:
        return None, "a group has no scores"
    gap = np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum()).max()
    return float(gap), None


def moments(counts: Counts, centres: NDArray[np.float64]) -> tuple[float, float] | None:
    """Mean and variance of counted scores at their bins' centres; ``None`` without scores."""
    n = int(counts.sum())
    if n == 0:
        return None
    held = counts > 0  # outer bins may have no finite centre as long as they are empty
    mean = float(counts[held] @ centres[held]) / n
    return mean, float(counts[held] @ np.square(centres[held] - mean)) / n


def d_prime(a: Counts, b: Counts, centres: NDArray[np.float64]) -> tuple[float | None, str | None]:
    """How many pooled standard deviations two groups' mean scores stand apart; positive where a's scores are higher.

    (mean_a - mean_b) / sqrt((var_a + var_b) / 2), ``centres`` [levels] in score units. Returns (value, None) or (None, reason).
    Source: Green and Swets 1966.
    """
    _check(a, b)
    in_a, in_b = moments(a, centres), moments(b, centres)
    if in_a is None or in_b is None:
        return None, "a group has no scores"
    variance = (in_a[1] + in_b[1]) / 2.0
    if not (variance > 0.0 and math.isfinite(variance)):
        return None, "the scores of both groups do not vary, or lie in an open bin"
    return (in_a[0] - in_b[0]) / math.sqrt(variance), None
