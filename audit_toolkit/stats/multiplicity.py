"""What many tests at once do to a p-value.

Why: twenty comparisons of equal groups give one "significant" difference at the 5 % level on average.
Promise: adjusted p-values that can be held against the level directly. Not promised: anything about tests that were made
and not handed in. "False discovery rate" is always spelt out here: FDR is the Fairness Discrepancy Rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError


def _ordered(p_values: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise UsageError("A p-value lies outside [0, 1].", mend="Leave undefined tests out of the family.")
    order = np.argsort(p, kind="stable")
    return p[order], order


def _back(values: NDArray[np.float64], order: NDArray[np.intp]) -> list[float]:
    out = np.empty(len(values))
    out[order] = np.minimum(values, 1.0)
    return [float(v) for v in out]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false alarm in the whole family at the level, however tests depend.

    The i-th smallest of m times m - i + 1, made non-decreasing; in the order given. Source: Holm 1979, Scand. J. Stat. 6.
    Raises `UsageError` on a p-value outside [0, 1].
    """
    p, order = _ordered(p_values)
    m = len(p)
    return _back(np.maximum.accumulate(p * (m - np.arange(m))), order)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the expected share of false alarms among the alarms at the level.

    The i-th smallest of m times m / i, made non-decreasing from above; valid for independent or positively dependent
    tests. Source: Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57. Raises `UsageError` on a p-value outside [0, 1].
    """
    p, order = _ordered(p_values)
    m = len(p)
    raised = p * m / np.arange(1, m + 1)
    return _back(np.minimum.accumulate(raised[::-1])[::-1], order)
