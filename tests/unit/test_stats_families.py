from __future__ import annotations

import math

import numpy as np
import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.contrast import ratio_interval
from audit_toolkit.stats.dependence import RateSample, from_counts
from audit_toolkit.stats.distribution import d_prime, kolmogorov_smirnov, moments
from audit_toolkit.stats.equivalence import tost_ratio
from audit_toolkit.stats.multiplicity import benjamini_hochberg, holm
from audit_toolkit.stats.power import errors_needed, minimum_detectable_ratio


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_benjamini_hochberg_by_hand() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    # Benjamini and Hochberg 1995, section 3.2: 15 tests, 4 rejected at .05
    p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
    ]  # fmt: skip
    assert sum(v <= 0.05 for v in benjamini_hochberg(p)) == 4
    assert sum(v <= 0.05 for v in holm(p)) == 3


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_bad_p_values_are_refused(adjust: object) -> None:
    for bad in ([1.2], [-0.1], [math.nan]):
        with pytest.raises(UsageError, match="p-value"):
            adjust(bad)  # type: ignore[operator]


def rate(seed: int, p: float, start: int, people: int = 200) -> RateSample:
    rng = np.random.Generator(np.random.PCG64(seed))
    made = np.full(people, 50)
    wrong = rng.binomial(made, p)
    return from_counts(int(wrong.sum()), int(made.sum()), wrong, made, subject=np.arange(people) + start)


def test_equivalence_is_the_further_end_of_the_90_percent_interval() -> None:
    a, b = rate(1, 0.1, 0), rate(2, 0.12, 1000)
    bounds = ratio_interval(a, b, 0.9)
    assert tost_ratio(a, b, 0.95) == pytest.approx(max(bounds.high, 1 / bounds.low))  # type: ignore[operator,type-var]
    assert tost_ratio(a, b, 0.95) == pytest.approx(tost_ratio(b, a, 0.95))
    assert tost_ratio(a, b, 0.99) > tost_ratio(a, b, 0.95) > 1  # type: ignore[operator]


def test_nothing_is_excluded_without_errors() -> None:
    none = from_counts(0, 1000, np.zeros(20, dtype=np.int64), np.full(20, 50), subject=np.arange(20) + 5000, deff=1.0)
    assert tost_ratio(rate(1, 0.1, 0), none, 0.95) is None
    with pytest.raises(UsageError, match="one half"):
        tost_ratio(none, none, 0.5)


def test_equivalence_is_seldom_claimed_at_its_own_edge() -> None:
    claimed = 0
    files = 400
    for seed in range(files):
        r = tost_ratio(rate(2 * seed, 0.1, 0, 60), rate(2 * seed + 1, 0.15, 1000, 60), 0.95)
        claimed += r is not None and r < 1.5
    assert claimed / files <= 0.05 + 2 * (0.05 * 0.95 / files) ** 0.5


def test_detectable_ratio_grows_with_dependence_and_is_none_without_errors() -> None:
    small = minimum_detectable_ratio(50, 1.0, 50, 1.0)
    large = minimum_detectable_ratio(50, 5.0, 50, 5.0)
    assert 1 < small < large  # type: ignore[operator]
    assert minimum_detectable_ratio(0, 1.0, 50, 1.0) is None
    assert minimum_detectable_ratio(10, None, 50, 1.0) is None
    assert minimum_detectable_ratio(1, 1e9, 1, 1e9) is None
    for bad in (1.0, -2.0, math.inf):
        with pytest.raises(UsageError, match="detectable"):
            errors_needed(bad, 1.0)


def test_detectable_ratio_is_detected_with_the_power_it_names() -> None:
    # 60 expected errors against 60 times the ratio, independent comparisons
    ratio = minimum_detectable_ratio(60, 1.0, 60, 1.0)
    assert ratio is not None
    up, down = 60 / 10_000 * math.sqrt(ratio), 60 / 10_000 / math.sqrt(ratio)
    found = sum(
        not ratio_interval(rate(2 * s, up, 0), rate(2 * s + 1, down, 1000), 0.95).contains(1.0) for s in range(300)
    )
    assert found / 300 == pytest.approx(0.8, abs=0.08)


def test_distances_by_hand() -> None:
    a, b = np.array([2, 2, 0]), np.array([0, 1, 3])
    assert kolmogorov_smirnov(a, b) == (pytest.approx(0.75), None)
    assert kolmogorov_smirnov(a, a) == (0.0, None)
    centres = np.array([0.0, 1.0, 2.0])
    assert moments(a, centres) == (0.5, 0.25)
    value, reason = d_prime(b, a, centres)
    assert value == pytest.approx((1.75 - 0.5) / math.sqrt((0.25 + 0.1875) / 2))
    assert reason is None
    # an empty outer bin may be unbounded
    assert (
        d_prime(b, a, np.array([0.0, 1.0, 2.0]))[0]
        == d_prime(np.append(b, 0), np.append(a, 0), np.append(centres, np.inf))[0]
    )


def test_distances_against_scipy() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.Generator(np.random.PCG64(3))
    x, y = rng.integers(0, 30, 400), rng.integers(3, 33, 300)
    a, b = np.bincount(x, minlength=40), np.bincount(y, minlength=40)
    assert kolmogorov_smirnov(a, b)[0] == pytest.approx(ks_2samp(x, y).statistic, abs=1e-12)


def test_undefined_distances_say_why() -> None:
    a, none = np.array([1, 2]), np.array([0, 0])
    assert kolmogorov_smirnov(a, none) == (None, "a group has no scores")
    assert d_prime(none, a, np.array([0.0, 1.0])) == (None, "a group has no scores")
    still = np.array([0, 5])
    assert "do not vary" in str(d_prime(still, still, np.array([0.0, 1.0]))[1])
    with pytest.raises(UsageError, match="one grid"):
        kolmogorov_smirnov(a, np.array([1, 2, 3]))
