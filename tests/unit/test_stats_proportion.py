from __future__ import annotations

import math

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.proportion import (
    clopper_pearson,
    normal_quantile,
    t_quantile,
    wilson,
    zero_error_upper,
)


def binomial_tail(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k + 1))


def test_quantiles_of_tables() -> None:
    assert normal_quantile(0.975) == pytest.approx(1.959963984540054, abs=1e-12)
    assert t_quantile(0.975, 1) == pytest.approx(12.706204736432095, rel=1e-10)
    assert t_quantile(0.975, 10) == pytest.approx(2.228138851964939, rel=1e-10)
    assert t_quantile(0.975, 2.5) > t_quantile(0.975, 3)


@pytest.mark.parametrize(
    ("errors", "n", "low", "high"),
    # Newcombe 1998, Stat. Med. 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_newcombe(errors: int, n: int, low: float, high: float) -> None:
    assert wilson(errors, n, 0.95) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("errors", "n", "low", "high"),
    # Newcombe 1998, table I, method 5
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_clopper_pearson_matches_newcombe(errors: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(errors, n, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_clopper_pearson_inverts_the_binomial_tail() -> None:
    low, high = clopper_pearson(4, 30, 0.9)
    assert binomial_tail(4, 30, high) == pytest.approx(0.05, rel=1e-9)
    assert 1 - binomial_tail(3, 30, low) == pytest.approx(0.05, rel=1e-9)


def test_zero_errors_rule_of_three_and_design_effect() -> None:
    n = 100_000
    assert zero_error_upper(n, 1.0, 0.90) == pytest.approx(3 / n, rel=2e-3)
    assert zero_error_upper(n, 1.0, 0.95) == pytest.approx(clopper_pearson(0, n, 0.95)[1], rel=1e-12)
    assert zero_error_upper(n, 7.5, 0.95) == pytest.approx(clopper_pearson(0, n / 7.5, 0.95)[1], rel=1e-9)


def test_zero_errors_without_design_effect_has_no_limit() -> None:
    assert zero_error_upper(1000, None, 0.95) is None
    assert zero_error_upper(1000, math.nan, 0.95) is None


def test_a_design_effect_under_one_does_not_narrow() -> None:
    assert zero_error_upper(1000, 0.2, 0.95) == zero_error_upper(1000, 1.0, 0.95)


def test_a_huge_design_effect_stays_a_rate() -> None:
    limit = zero_error_upper(10, 1e9, 0.95)
    assert limit is not None
    assert limit <= 1.0


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
@pytest.mark.parametrize(("errors", "n"), [(-1, 10), (11, 10), (0, 0), (1, math.nan)])
def test_impossible_counts_are_refused(method: object, errors: float, n: float) -> None:
    with pytest.raises(UsageError, match="error count"):
        method(errors, n, 0.95)  # type: ignore[operator]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, math.nan])
def test_bad_levels_are_refused(level: float) -> None:
    for method in (wilson, clopper_pearson):
        with pytest.raises(UsageError, match="level"):
            method(1, 10, level)
    with pytest.raises(UsageError, match="level"):
        zero_error_upper(10, 1.0, level)
