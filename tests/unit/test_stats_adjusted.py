from __future__ import annotations

import math

import numpy as np
import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.adjusted import fit_logistic, mantel_haenszel, odds_ratios
from audit_toolkit.stats.proportion import t_quantile


def thirty_people() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """30 people, 3 groups, 3 covariate classes, mated comparisons: the same counts as were given to statsmodels 0.14."""
    people = np.zeros((30, 3, 2), dtype=np.int64)
    for s in range(30):
        for x in range(3):
            n = 4 + (s * 7 + x * 3) % 6
            e = ((s * s + 5 * x + s * x) % 7) % (3 + x) if s % 3 else (s + x) % 2
            people[s, x] = (n, min(e, n))
    group = np.arange(30) % 3
    return np.array([people[group == k].sum(axis=0) for k in range(3)]), people, group


def test_mantel_haenszel_against_statsmodels() -> None:
    cells, people, group = thirty_people()
    found = mantel_haenszel(cells, people, group, 1, 0, 0.95)
    # StratifiedTable.riskratio_pooled
    assert found.value == pytest.approx(2.2564102564102564, rel=1e-12)
    assert found.classes == 3


def test_mantel_haenszel_interval_against_brute_force() -> None:
    cells, people, group = thirty_people()

    def log_ratio(c: np.ndarray) -> float:
        n = c[1, :, 0] + c[0, :, 0]
        return math.log((c[1, :, 1] * c[0, :, 0] / n).sum() / (c[0, :, 1] * c[1, :, 0] / n).sum())

    variance = 0.0
    for k in (0, 1):
        left = []
        for s in np.flatnonzero(group == k):
            c = cells.astype(float).copy()
            c[k] -= people[s]
            left.append(log_ratio(c))
        variance += (len(left) - 1) / len(left) * float(((np.array(left) - np.mean(left)) ** 2).sum())
    found = mantel_haenszel(cells, people, group, 1, 0, 0.95).interval
    assert found is not None
    half = (math.log(found.high) - math.log(found.low)) / 2  # type: ignore[arg-type]
    assert t_quantile(0.975, 18) * math.sqrt(variance) <= half <= t_quantile(0.975, 2) * math.sqrt(variance)
    assert math.sqrt(found.high * found.low) == pytest.approx(math.exp(log_ratio(cells.astype(float))))  # type: ignore[operator]


def test_odds_ratios_against_statsmodels() -> None:
    cells, people, group = thirty_people()
    found = odds_ratios(cells, people, group, 0, 0.95)
    # Logit(...).fit(cov_type="cluster", use_correction=False): group coefficients and standard errors
    for adjusted, beta, se in (
        (found[1], 0.9914956792901465, 0.19563973170119545),
        (found[2], 0.8671426625111956, 0.1878399680144731),
    ):
        assert adjusted.value == pytest.approx(math.exp(beta), rel=1e-8)
        bounds = adjusted.interval
        assert bounds is not None
        half = (math.log(bounds.high) - math.log(bounds.low)) / 2  # type: ignore[arg-type]
        corrected = se * math.sqrt(30 / 29)
        assert t_quantile(0.975, 27) * corrected * (1 - 1e-9) <= half <= t_quantile(0.975, 2) * corrected
    assert (found[0].group, found[0].value, found[0].interval) == (0, 1.0, None)


def test_one_class_is_the_plain_odds_ratio() -> None:
    people = np.array([[[10, 1]], [[10, 3]], [[10, 2]], [[10, 5]], [[10, 4]], [[10, 6]]])
    group = np.array([0, 0, 0, 1, 1, 1])
    cells = np.array([people[group == k].sum(axis=0) for k in (0, 1)])
    found = odds_ratios(cells, people, group, 0, 0.9)
    assert found[1].value == pytest.approx((15 / 15) / (6 / 24), rel=1e-9)
    assert mantel_haenszel(cells, people, group, 1, 0, 0.9).value == pytest.approx(15 / 6, rel=1e-12)


def test_a_confounded_gap_disappears_within_classes() -> None:
    # both groups err at 5 % with camera 0 and at 30 % with camera 1; group 1 mostly stood before camera 1
    rng = np.random.Generator(np.random.PCG64(1))
    group = np.repeat([0, 1], 150)
    made = np.where((group == 0)[:, None], [40, 10], [10, 40])
    wrong = rng.binomial(made, [0.05, 0.3])
    people = np.stack([made, wrong], axis=2)
    cells = np.array([people[group == k].sum(axis=0) for k in (0, 1)])
    raw = (cells[1, :, 1].sum() / cells[1, :, 0].sum()) / (cells[0, :, 1].sum() / cells[0, :, 0].sum())
    assert raw > 2
    for found in (mantel_haenszel(cells, people, group, 1, 0, 0.95), odds_ratios(cells, people, group, 0, 0.95)[1]):
        assert found.interval is not None
        assert found.interval.contains(1.0)
        assert 0.8 < found.value < 1.25  # type: ignore[operator]


def test_adjusted_intervals_cover_with_shared_people() -> None:
    covered = {"mh": 0, "or": 0}
    files = 300
    for seed in range(files):
        rng = np.random.Generator(np.random.PCG64([seed, 5]))
        group = np.repeat([0, 1], 60)
        made = rng.integers(3, 12, (120, 3))
        # equal marginal rates within a class; people differ
        base = np.array([0.05, 0.1, 0.2])
        wrong = rng.binomial(
            made, rng.beta(8 * base, 8 * (1 - base), (120, 3)).mean(axis=1, keepdims=True) * base / base.mean()
        )
        people = np.stack([made, wrong], axis=2)
        cells = np.array([people[group == k].sum(axis=0) for k in (0, 1)])
        covered["mh"] += mantel_haenszel(cells, people, group, 1, 0, 0.95).interval.contains(1.0)  # type: ignore[union-attr]
        covered["or"] += odds_ratios(cells, people, group, 0, 0.95)[1].interval.contains(1.0)  # type: ignore[union-attr]
    # nominal .95, at most 2.5 standard errors of 300 files below
    assert min(covered.values()) / files >= 0.95 - 2.5 * (0.95 * 0.05 / files) ** 0.5


def test_undefined_adjustments_say_why() -> None:
    _, people, group = thirty_people()
    none = people.copy()
    none[group == 1, :, 1] = 0
    empty = np.array([none[group == k].sum(axis=0) for k in range(3)])
    assert "no errors" in str(mantel_haenszel(empty, none, group, 1, 0, 0.95).undefined)
    by_group = odds_ratios(empty, none, group, 0, 0.95)
    assert by_group[1].value is None
    assert "no errors" in str(by_group[1].undefined)
    assert by_group[2].value is not None
    assert all(a.value is None and "reference" in str(a.undefined) for a in odds_ratios(empty, none, group, 1, 0.95))
    apart = np.zeros((2, 2, 2), dtype=np.int64)
    apart[0, 0], apart[1, 1] = (10, 2), (10, 3)
    single = np.zeros((4, 2, 2), dtype=np.int64)
    single[:2, 0], single[2:, 1] = (5, 1), (5, 1)
    split = np.array([0, 0, 1, 1])
    assert "no class" in str(mantel_haenszel(apart, single, split, 1, 0, 0.95).undefined)
    assert "cannot be told apart" in str(odds_ratios(apart, single, split, 0, 0.95)[1].undefined)


def test_one_person_with_all_errors_has_no_interval() -> None:
    people = np.array([[[10, 3]], [[10, 0]], [[10, 2]], [[10, 5]]])
    group = np.array([0, 0, 1, 1])
    cells = np.array([people[group == k].sum(axis=0) for k in (0, 1)])
    found = mantel_haenszel(cells, people, group, 1, 0, 0.95)
    assert found.value == pytest.approx(7 / 3)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (None, None)


def test_a_separating_term_has_no_finite_answer() -> None:
    design = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert fit_logistic(np.array([3.0, 0.0]), np.array([10.0, 10.0]), design) is None


def test_counts_that_do_not_fit_are_refused() -> None:
    cells, people, group = thirty_people()
    with pytest.raises(UsageError, match="do not fit"):
        mantel_haenszel(cells[:, :2], people, group, 1, 0, 0.95)
    with pytest.raises(UsageError, match="differ in length"):
        odds_ratios(cells, people, group[:5], 0, 0.95)
