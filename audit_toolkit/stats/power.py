"""How large a difference a file could have shown at all.

Why: printed beside every "no difference found", so that a small file cannot pass for a good result.
Promise: the standard normal approximation on the log scale, with the design effect of the data. Not promised: exactness
below about ten effective errors a group; there the true detectable ratio is larger still.
"""

from __future__ import annotations

import math

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.proportion import check_level, normal_quantile


def _reach(level: float, power: float) -> float:
    return normal_quantile((1.0 + check_level(level)) / 2.0) + normal_quantile(check_level(power))


def errors_needed(ratio: float, deff: float, level: float = 0.95, power: float = 0.8) -> float:
    """How many errors each of two groups must show before a true ratio of this size is found with this probability.

    E = 2 deff (z_(1 - alpha / 2) + z_power)^2 / ln(ratio)^2. ``ratio`` positive and not 1, ``deff`` > 0. Raises `UsageError`
    otherwise. Source: Poisson counts on the log scale, inflated by the design effect (Kish 1965).
    """
    if not (ratio > 0.0 and ratio != 1.0 and math.isfinite(ratio) and deff > 0.0):
        raise UsageError("A detectable ratio must be positive and differ from 1, and a design effect positive.")
    return 2.0 * deff * _reach(level, power) ** 2 / math.log(ratio) ** 2


def minimum_detectable_ratio(
    errors_a: float,
    deff_a: float | None,
    errors_b: float,
    deff_b: float | None,
    level: float = 0.95,
    power: float = 0.8,
) -> float | None:
    """The smallest true ratio (above 1) that this file would have found with this probability; ``None`` without errors.

    exp((z_(1 - alpha / 2) + z_power) sqrt(deff_a / errors_a + deff_b / errors_b)): the inverse of `errors_needed`. ``errors``
    are those seen, or expected if the rates were equal. ``None`` too where a design effect is unknown.
    """
    reach = _reach(level, power)
    if errors_a <= 0 or errors_b <= 0 or deff_a is None or deff_b is None:
        return None
    exponent = reach * math.sqrt(deff_a / errors_a + deff_b / errors_b)
    return math.exp(exponent) if exponent < 700.0 else None
