from __future__ import annotations

import math

import numpy as np
import pytest

from audit_toolkit.stats.power import errors_needed, minimum_detectable_ratio
from audit_toolkit.stats.proportion import zero_error_upper
from audit_toolkit.stats.spread import measure

IMPERIAL_FMR = [10**-3.3, 10**-4.4, 10**-4.6, 10**-5.0, 10**-3.6, 10**-4.8, 10**-5.0, 10**-5.0]
IMPERIAL_FNMR = [0.017, 0.0143, 0.0036, 0.0077, 0.0121, 0.0051, 0.0021, 0.0062]


@pytest.mark.parametrize(
    ("rates", "name", "published"),
    # NIST FRVT-3 Annex 15, algorithm imperial-002, 8 groups
    [
        (IMPERIAL_FMR, "gini-normalised", 0.784987),
        (IMPERIAL_FMR, "gini", 0.686864),
        (IMPERIAL_FMR, "max/geomean", 14.537844),
        (IMPERIAL_FMR, "max/min", 50.118723),
        (IMPERIAL_FNMR, "gini-normalised", 0.378225),
        (IMPERIAL_FNMR, "gini", 0.330947),
        (IMPERIAL_FNMR, "max/geomean", 2.447687),
        (IMPERIAL_FNMR, "max/min", 8.095238),
    ],
)
def test_imperial_002(rates: list[float], name: str, published: float) -> None:
    assert measure(name, rates).value == pytest.approx(published, abs=5e-7)


def test_imperial_002_inequity_and_garbe() -> None:
    ratio = math.sqrt(measure("max/min", IMPERIAL_FMR).value * measure("max/min", IMPERIAL_FNMR).value)  # type: ignore[operator]
    assert ratio == pytest.approx(20.142567, abs=5e-7)
    garbe = 0.5 * (measure("gini-normalised", IMPERIAL_FMR).value + measure("gini-normalised", IMPERIAL_FNMR).value)  # type: ignore[operator]
    assert garbe == pytest.approx(0.581606, abs=5e-7)
    gap = 0.5 * (measure("max-min", IMPERIAL_FMR).value + measure("max-min", IMPERIAL_FNMR).value)  # type: ignore[operator]
    assert 1 - gap == pytest.approx(0.992304, abs=5e-7)


@pytest.mark.parametrize(
    ("false_matches", "false_non_matches", "inequity", "garbe", "fdr"),
    # counts of 3,000 by group: Balanced34 and Global34
    [
        ([254, 91, 51, 190], [197, 349, 238, 192], 3.008804, 0.288797, 0.94),
        ([110, 124, 7, 68], [282, 270, 319, 236], 4.893292, 0.251270, 0.966667),
    ],
)
def test_rfw_counts(
    false_matches: list[int], false_non_matches: list[int], inequity: float, garbe: float, fdr: float
) -> None:
    x, y = np.array(false_matches) / 3000, np.array(false_non_matches) / 3000
    both = {n: (measure(n, x).value, measure(n, y).value) for n in ("max/min", "gini-normalised", "max-min")}
    assert math.sqrt(math.prod(both["max/min"])) == pytest.approx(inequity, abs=5e-7)  # type: ignore[arg-type]
    assert sum(both["gini-normalised"]) / 2 == pytest.approx(garbe, abs=5e-7)  # type: ignore[arg-type]
    assert 1 - sum(both["max-min"]) / 2 == pytest.approx(fdr, abs=5e-7)  # type: ignore[arg-type]


def test_global34_accuracy_spread() -> None:
    x, y = np.array([110, 124, 7, 68]), np.array([282, 270, 319, 236])
    error = 100 * (x + y) / 6000
    assert measure("std", error).value == pytest.approx(0.662906, abs=5e-7)
    assert measure("max/min", error).value == pytest.approx(1.296053, abs=5e-7)


@pytest.mark.parametrize(
    ("errors", "gap"),
    # Gender Shades: error rates in % by sex and skin type
    [([0.3, 7.1, 12.0, 34.7], 34.4), ([0.8, 6.0, 0.7, 34.5], 33.8), ([0.0, 1.7, 6.0, 20.8], 20.8)],
)
def test_gender_shades(errors: list[float], gap: float) -> None:
    assert measure("max-min", errors).value == pytest.approx(gap)
    if min(errors) == 0:
        assert measure("max/min", errors).value is None


@pytest.mark.parametrize(("ratio", "needed"), [(2.0, 33), (1.5, 96), (1.25, 315), (1.1, 1728)])
def test_errors_needed(ratio: float, needed: int) -> None:
    found = errors_needed(ratio, 1.0)
    # the published figures are rounded, some up
    assert found == pytest.approx(needed, abs=0.6)
    assert errors_needed(ratio, 4.0) == pytest.approx(4 * found)
    # the inverse
    assert minimum_detectable_ratio(found, 1.0, found, 1.0) == pytest.approx(ratio)


def test_rule_of_three() -> None:
    assert zero_error_upper(300, 1.0, 0.90) == pytest.approx(3 / 300, rel=0.01)
