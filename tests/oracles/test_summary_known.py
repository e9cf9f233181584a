"""Published numbers that the summary measures must reproduce to the printed digits.

Balanced34 and Global34: counts of 3,000 mated and 3,000 non-mated comparisons a group (African, Asian, Caucasian, Indian) from
the RFW clean protocol. Their published Fairness Discrepancy Rates divide false matches by all comparisons of a group, not
by the non-mated ones; the values here are the correct ones. imperial-002: NIST FRVT part 3, annex 15, rates read in tenths
of a decade. Gender Shades: Buolamwini & Gebru 2018, error in per cent of lighter/darker men and women.
"""

from __future__ import annotations

import pytest

from audit_toolkit.disparity import summary
from audit_toolkit.stats.spread import measure

N = 3000
BALANCED = ([254, 91, 51, 190], [197, 349, 238, 192])
GLOBAL = ([110, 124, 7, 68], [282, 270, 319, 236])
# F.AmI, F.As, F.Bl, F.Wh, M.AmI, M.As, M.Bl, M.Wh
IMPERIAL_FMR = [10**e for e in (-3.3, -4.4, -4.6, -5.0, -3.6, -4.8, -5.0, -5.0)]
IMPERIAL_FNMR = [0.017, 0.0143, 0.0036, 0.0077, 0.0121, 0.0051, 0.0021, 0.0062]


def rates(counts: tuple[list[int], list[int]]) -> tuple[list[float], list[float]]:
    return [c / N for c in counts[0]], [c / N for c in counts[1]]


@pytest.mark.parametrize(
    ("counts", "fdr", "ir", "garbe"),
    [(BALANCED, 0.94, 3.008804, 0.288797), (GLOBAL, 0.966667, 4.893292, 0.251270)],
)
def test_balanced34_and_global34(counts: tuple[list[int], list[int]], fdr: float, ir: float, garbe: float) -> None:
    x, y = rates(counts)
    assert summary.fairness_discrepancy_rate(x, y, 0.5).value == pytest.approx(fdr, abs=5e-7)
    assert summary.inequity_rate(x, y, 0.5).value == pytest.approx(ir, abs=5e-7)
    assert summary.garbe(x, y, 0.5).value == pytest.approx(garbe, abs=5e-7)


@pytest.mark.parametrize(("counts", "std", "ser"), [(BALANCED, 1.069949, 1.560554), (GLOBAL, 0.662906, 1.296053)])
def test_spread_of_accuracies(counts: tuple[list[int], list[int]], std: float, ser: float) -> None:
    wrong = [100 * (a + b) / (2 * N) for a, b in zip(*counts, strict=True)]
    value = measure("std", wrong).value
    assert value == pytest.approx(std, abs=1e-6)
    assert measure("max/min", wrong).value == pytest.approx(ser, abs=5e-7)


def test_the_published_fdr_is_the_one_with_the_wrong_denominator() -> None:
    x, y = rates(BALANCED)
    halved = [v / 2 for v in x], [v / 2 for v in y]
    assert summary.fairness_discrepancy_rate(*halved, 0.5).value == pytest.approx(0.97, abs=5e-7)


def test_imperial_002() -> None:
    x, y = IMPERIAL_FMR, IMPERIAL_FNMR
    assert summary.fairness_discrepancy_rate(x, y, 0.5).value == pytest.approx(0.992304, abs=5e-7)
    assert summary.inequity_rate(x, y, 0.5).value == pytest.approx(20.142567, abs=5e-7)
    assert summary.garbe(x, y, 0.5).value == pytest.approx(0.581606, abs=5e-7)
    for name, fmr, fnmr in (
        ("gini-normalised", 0.784987, 0.378225),
        ("gini", 0.686864, 0.330947),
        ("max/min", 50.118723, 8.095238),
        ("max/geomean", 14.537844, 2.447687),
    ):
        assert measure(name, x).value == pytest.approx(fmr, abs=5e-7), name
        assert measure(name, y).value == pytest.approx(fnmr, abs=5e-7), name


@pytest.mark.parametrize(
    ("errors", "gap"),
    [([0.3, 7.1, 12.0, 34.7], 34.4), ([0.8, 6.0, 0.7, 34.5], 33.8), ([0.0, 1.7, 6.0, 20.8], 20.8)],
)
def test_gender_shades_gaps(errors: list[float], gap: float) -> None:
    assert measure("max-min", errors).value == pytest.approx(gap, abs=1e-9)


def test_a_zero_group_has_no_ratio_and_says_why() -> None:
    microsoft = [0.0, 0.017, 0.06, 0.208]
    found = measure("max/min", microsoft)
    assert found.value is None
    assert found.undefined is not None
    others = [0.01, 0.02, 0.03, 0.04]
    assert summary.inequity_rate(microsoft, others, 0.5).value is None
    assert "FMR" in (summary.inequity_rate(microsoft, others, 0.5).undefined or "")
    # with no weight on it, an undefined part does not count
    assert summary.inequity_rate(microsoft, others, 0.0).value == pytest.approx(4.0)
    # no errors anywhere: 0/0 is 0 by the rule of Howard et al., and the note says so
    nothing = summary.garbe([0.0, 0.0], [0.0, 0.0], 0.5)
    assert nothing.value == 0.0
    assert nothing.note is not None


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_equal_groups_take_the_ideal_values(alpha: float) -> None:
    x, y = [0.01] * 4, [0.03] * 4
    assert summary.fairness_discrepancy_rate(x, y, alpha).value == pytest.approx(1.0)
    assert summary.inequity_rate(x, y, alpha).value == pytest.approx(1.0)
    assert summary.garbe(x, y, alpha).value == pytest.approx(0.0)
    assert summary.werm(x, y, alpha).value == pytest.approx(1.0, abs=2e-3)


def test_werm_by_hand() -> None:
    x, y = [0.01, 0.04], [0.02, 0.08]
    geo_x = ((0.01 + 1e-5) * (0.04 + 1e-5)) ** 0.5
    geo_y = ((0.02 + 1e-5) * (0.08 + 1e-5)) ** 0.5
    assert summary.werm(x, y, 0.5).value == pytest.approx((0.04 / geo_x) ** 0.5 * (0.08 / geo_y) ** 0.5)
