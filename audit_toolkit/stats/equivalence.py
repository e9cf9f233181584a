"""How unequal two rates could still be: the other half of "no difference found".

Why: a test that finds nothing in a small file has shown nothing. Equivalence turns the burden round: which ratios can
this file exclude?
Promise: the ratio given is excluded at the stated level in both directions. Not promised: that it is small.
"""

from __future__ import annotations

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.contrast import ratio_interval
from audit_toolkit.stats.dependence import RateSample
from audit_toolkit.stats.proportion import check_level


def tost_ratio(a: RateSample, b: RateSample, level: float) -> float | None:
    """The smallest r >= 1 such that this file excludes that one rate is more than r times the other; ``None`` if none.

    Two one-sided tests, each erring with probability at most 1 - level, which is the two-sided interval of the ratio at level
    2 level - 1. ``level`` in (.5, 1). Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15. Uses `ratio_interval`, so shared
    people and few errors are accounted for. Raises `UsageError` on a level of one half or less.
    """
    if check_level(level) <= 0.5:
        raise UsageError("An equivalence test needs a level above one half.", mend="Give a level such as 0.95.")
    found = ratio_interval(a, b, 2.0 * level - 1.0)
    if found.low is None or found.high is None or found.low <= 0.0:
        return None
    return max(found.high, 1.0 / found.low)
