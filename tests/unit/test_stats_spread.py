from __future__ import annotations

import math

import numpy as np
import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.dependence import RateSample, from_counts
from audit_toolkit.stats.spread import KERNELS, MEASURES, PROJECTED, SMOOTH, kernel, measure, project
from audit_toolkit.stats.spread_uncertainty import chance, joint_jackknife

RATES = [0.1, 0.2, 0.3, 0.4]


def test_every_measure_by_hand() -> None:
    k, mean = 4, 0.25
    pairs = sum(abs(a - b) for a in RATES for b in RATES)
    by_hand = {
        "max/min": 4.0,
        "max/geomean": 0.4 / (0.1 * 0.2 * 0.3 * 0.4) ** 0.25,
        "max/mean": 1.6,
        "max-min": 0.3,
        "gini": pairs / (2 * k * k * mean),
        "gini-normalised": pairs / (2 * k * k * mean) * k / (k - 1),
        "std": math.sqrt(0.0125),
        "std-sample": math.sqrt(0.05 / 3),
        "mad": 0.1,
    }
    assert set(by_hand) == set(MEASURES) == set(KERNELS) == set(PROJECTED) | set(SMOOTH)
    for name, value in by_hand.items():
        assert MEASURES[name](RATES, None).value == pytest.approx(value, rel=1e-12), name


def test_zero_rates_are_treated_as_stated() -> None:
    some = [0.0, 0.1, 0.2]
    assert "rate of 0" in str(measure("max/min", some).undefined)
    assert "no floor" in str(measure("max/geomean", some).undefined)
    floored = measure("max/geomean", some, floor=0.05)
    assert floored.value == pytest.approx(0.2 / (0.05 * 0.1 * 0.2) ** (1 / 3))
    assert "1 zero rate(s) replaced by 0.05" in str(floored.note)
    assert measure("max/mean", some).value == pytest.approx(2.0)
    nothing = [0.0, 0.0]
    assert measure("gini", nothing).value == 0.0
    assert "by definition" in str(measure("gini", nothing).note)
    assert "every group" in str(measure("max/mean", nothing).undefined)
    assert measure("std", nothing).value == 0.0
    assert "fewer than two" in str(measure("max-min", [0.3]).undefined)


def test_bad_rates_and_names_are_refused() -> None:
    with pytest.raises(UsageError, match="list of rates"):
        measure("gini", [0.1, math.nan])
    with pytest.raises(UsageError, match="list of rates"):
        measure("gini", [0.1, -0.1])
    with pytest.raises(UsageError, match="not known"):
        measure("range", RATES)
    with pytest.raises(UsageError, match="no projection"):
        project("gini", [0.1], [0.2])
    with pytest.raises(UsageError, match="pair up"):
        project("max/min", [0.3, 0.1], [0.2, 0.2])


def test_projection_by_hand() -> None:
    assert project("max/min", [0.1, 0.3], [0.2, 0.6]) == (pytest.approx(1.5), pytest.approx(6.0))
    assert project("max/min", [0.1, 0.2], [0.3, 0.6]) == (1.0, pytest.approx(6.0))
    assert project("max-min", [0.1, 0.3], [0.2, 0.6]) == (pytest.approx(0.1), pytest.approx(0.5))
    assert project("max/mean", [0.1, 0.3], [0.2, 0.6]) == (pytest.approx(0.3 / 0.25), pytest.approx(0.6 / 0.35))
    assert project("max/geomean", [0.1, 0.3], [0.2, 0.6]) == (
        pytest.approx(math.sqrt(0.3 / 0.2)),
        pytest.approx(math.sqrt(0.6 / 0.1)),
    )


def test_projection_with_open_and_zero_ends() -> None:
    assert project("max/min", [0.0, 0.3], [0.1, 0.6]) == (pytest.approx(3.0), None)
    # a single low end of 0 does not matter where the other group never is the smallest
    assert project("max/min", [0.0, 0.3], [None, 0.6]) == (1.0, None)
    assert project("max-min", [None, 0.3], [None, 0.6]) == (0.0, None)
    assert project("max/mean", [0.0, 0.0, 0.1], [0.2, None, 0.3])[1] == 3.0
    assert project("max/mean", [0.0, 0.0], [0.2, 0.3]) == (1.0, 2.0)
    assert project("max/min", [0.1], [0.2]) == (None, None)


@pytest.mark.parametrize(
    ("name", "expected", "errors"),
    # medians and 95th percentiles of 8 groups with lambda expected errors each; Gini normalised by K / (K - 1)
    [
        ("max/min", {3: (5.0, 8.0), 10: (2.5, 4.7), 30: (1.67, 2.26), 100: (1.32, 1.54), 1000: (1.09, 1.15)}, 0.01),
        ("max/geomean", {3: (2.02, 2.96), 10: (1.52, 1.97), 30: (1.27, 1.48), 100: (1.14, 1.25), 1000: (1.04, 1.08)}, 0.01),
        ("gini-normalised", {3: (0.320, 0.489), 10: (0.176, 0.264), 30: (0.101, 0.152), 100: (0.056, 0.083)}, 0.002),
    ],
)  # fmt: skip
def test_chance_reproduces_the_null_table(name: str, expected: dict[int, tuple[float, float]], errors: float) -> None:
    for lam, (median, high) in expected.items():
        found = chance(name, [lam] * 8, [10**7] * 8, 1.0, seed=1, draws=20_000)
        assert found.expected == pytest.approx(median, rel=0.01, abs=errors), lam
        # the table's own 95th percentiles jump where small counts make ratios coarse
        assert found.high == pytest.approx(high, rel=0.07 if lam <= 10 else 0.012), lam


def test_chance_of_gini_at_three_errors_counts_all_files() -> None:
    found = chance("gini-normalised", [3] * 8, [10**7] * 8, 1.0, seed=2, draws=40_000)
    assert (found.expected, found.high) == (pytest.approx(0.320, abs=0.002), pytest.approx(0.489, abs=0.004))
    assert "left out" not in found.method


def test_chance_says_what_it_left_out_and_what_it_corrected() -> None:
    found = chance("max/min", [3] * 8, [10**6] * 8, 1.0, seed=3)
    # P(a group without errors) = 1 - (1 - e^-3)^8 = .336
    share = float(found.method.split("undefined in ")[1].split("%")[0])
    assert share == pytest.approx(33.6, abs=4)
    assert found.corrected == 1.0
    # a design effect makes chance larger
    wide = chance("max/min", [300] * 8, [10**6] * 8, 5.0, seed=3)
    narrow = chance("max/min", [300] * 8, [10**6] * 8, 1.0, seed=3)
    assert wide.expected > narrow.expected  # type: ignore[operator]
    assert chance("max/min", [0] * 8, [10] * 8, 1.0, seed=3).expected is None
    assert chance("gini", [3], [10], 1.0, seed=3).expected is None


def test_chance_moment_correction_by_hand() -> None:
    e, m = [10, 20, 60], [1000, 1000, 1000]
    x = np.array(e) / 1000
    noise = float((2.0 * x * (1 - x) / 1000).mean())
    found = chance("std-sample", e, m, 2.0, seed=1, draws=100)
    assert found.corrected == pytest.approx(math.sqrt(x.var(ddof=1) - noise))
    plain = chance("std", e, m, 2.0, seed=1, draws=100)
    assert plain.corrected == pytest.approx(math.sqrt((x.var(ddof=1) - noise) * 2 / 3))
    equal = chance("std", [30, 31, 29], m, 2.0, seed=1, draws=100)
    assert equal.corrected == 0.0
    gini = chance("gini", e, m, 1.0, seed=1, draws=500)
    assert gini.corrected == pytest.approx(measure("gini", x).value - gini.expected)  # type: ignore[operator]


def test_chance_keeps_to_its_seed() -> None:
    assert chance("gini", [5] * 4, [999] * 4, 1.3, seed=9) == chance("gini", [5] * 4, [999] * 4, 1.3, seed=9)
    assert chance("gini", [5] * 4, [999] * 4, 1.3, seed=9) != chance("gini", [5] * 4, [999] * 4, 1.3, seed=10)


def groups_of(seed: int, rates: list[float], people: int = 60, deff: float | None = None) -> list[RateSample]:
    out = []
    rng = np.random.Generator(np.random.PCG64(seed))
    for k, rate in enumerate(rates):
        made = rng.integers(10, 40, people)
        wrong = rng.binomial(made, rate)
        codes = np.arange(people) + 1000 * k
        out.append(from_counts(int(wrong.sum()), int(made.sum()), wrong, made, subject=codes, deff=deff))
    return out


def test_joint_jackknife_against_brute_force() -> None:
    samples = groups_of(1, [0.1, 0.2, 0.5])
    work, ideal = kernel("std")
    found = joint_jackknife(work, samples, 0.95, ideal=ideal, equal_p=0.001)
    rates = np.array([s.rate for s in samples], dtype=float)
    value, variance, bias = float(rates.std()), 0.0, 0.0
    for k, sample in enumerate(samples):
        left = []
        for change in sample.delta:
            moved = rates.copy()
            moved[k] += change
            left.append(moved.std())
        n = len(left)
        variance += (n - 1) / n * float(((np.array(left) - np.mean(left)) ** 2).sum())
        bias += (n - 1) * (np.mean(left) - value)
    half = found.high - max(value, value - bias)  # type: ignore[operator]
    assert math.sqrt(variance) * 1.97 < half < math.sqrt(variance) * 2.1
    assert found.low == pytest.approx(min(value, value - bias) - half)


def test_lower_end_leaves_the_ideal_only_with_the_equality_test() -> None:
    work, ideal = kernel("gini")
    samples = groups_of(2, [0.1, 0.2, 0.5])
    free = joint_jackknife(work, samples, 0.95, ideal=ideal, equal_p=0.05)
    held = joint_jackknife(work, samples, 0.95, ideal=ideal, equal_p=0.06)
    unknown = joint_jackknife(work, samples, 0.95, ideal=ideal, equal_p=None)
    assert free.low > 0.0  # type: ignore[operator]
    assert held.low == unknown.low == 0.0
    assert held.high == free.high


def test_groups_without_errors_widen_or_open_the_interval() -> None:
    work, ideal = kernel("std")
    open_end = joint_jackknife(work, groups_of(3, [0.1, 0.2, 0.0]), 0.95, ideal=ideal, equal_p=0.01)
    assert open_end.high is None
    closed = joint_jackknife(work, groups_of(3, [0.1, 0.2, 0.0], deff=4.0), 0.95, ideal=ideal, equal_p=0.01)
    tight = joint_jackknife(work, groups_of(3, [0.1, 0.2, 0.0], deff=1.0), 0.95, ideal=ideal, equal_p=0.01)
    assert closed.high is not None
    assert tight.low > closed.low  # type: ignore[operator]


def test_joint_jackknife_says_why_there_is_none() -> None:
    work, ideal = kernel("max/mean")
    one = groups_of(4, [0.1, 0.2], people=1)
    assert "a single subject" in joint_jackknife(work, one, 0.95, ideal=ideal, equal_p=None).method
    zero = groups_of(5, [0.0, 0.0], deff=2.0)
    assert "undefined" in joint_jackknife(work, zero, 0.95, ideal=ideal, equal_p=None).method
    with pytest.raises(UsageError, match="at least one rate"):
        joint_jackknife(work, [], 0.95, ideal=ideal, equal_p=None)


def test_large_true_spread_is_covered() -> None:
    truth = np.array([0.05, 0.1, 0.15, 0.3])
    for name in SMOOTH:
        work, ideal = kernel(name)
        true = float(work(truth))
        covered = sum(
            joint_jackknife(work, groups_of(seed, list(truth)), 0.95, ideal=ideal, equal_p=0.0).contains(true)
            for seed in range(200)
        )
        # nominal .95 less 3 standard errors of 200 files
        assert covered / 200 >= 0.95 - 3 * (0.95 * 0.05 / 200) ** 0.5, name
