from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.stats.contrast import difference_interval, ratio_interval
from audit_toolkit.stats.dependence import (
    RateSample,
    covariance,
    degrees_of_freedom,
    from_counts,
    jackknife_variance,
    no_interval,
)
from audit_toolkit.stats.intervals import interval, simultaneous
from audit_toolkit.stats.multiplicity import benjamini_hochberg, holm
from audit_toolkit.stats.proportion import clopper_pearson, wilson
from audit_toolkit.stats.spread import KERNELS, PROJECTED, measure, project

probability = st.floats(0.0, 1.0, allow_nan=False)
rates = st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=6)
level = st.sampled_from([0.8, 0.95, 0.99])


@st.composite
def people(draw: st.DrawFn, start: int = 0) -> RateSample:
    made = draw(st.lists(st.integers(1, 20), min_size=1, max_size=12))
    wrong = [draw(st.integers(0, m)) for m in made]
    deff = draw(st.one_of(st.none(), st.floats(0.5, 20.0)))
    codes = np.arange(len(made)) + start
    return from_counts(sum(wrong), sum(made), np.array(wrong), np.array(made), subject=codes, deff=deff)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), level)
def test_binomial_limits_hold_the_rate_and_the_exact_ones_are_mirrored(errors: int, n: int, at: float) -> None:
    errors = min(errors, n)
    for method in (wilson, clopper_pearson):
        low, high = method(errors, n, at)
        assert 0 <= low <= errors / n <= high <= 1
        back = method(n - errors, n, at)
        assert (1 - back[1], 1 - back[0]) == pytest.approx((low, high), abs=1e-9)


@settings(deadline=None)
@given(people(), level)
def test_default_interval_holds_the_rate_and_grows_with_the_level(sample: RateSample, at: float) -> None:
    found = interval(sample, at)
    assert sample.rate is not None
    if no_interval(sample):
        assert (found.low, found.high) == (None, None)
        return
    assert found.contains(sample.rate)
    assert found.low is None or found.low >= 0
    assert found.high is None or found.high <= 1
    wider = interval(sample, (1 + at) / 2)
    assert wider.low is None or found.low is None or wider.low <= found.low
    assert wider.high is None or found.high is None or wider.high >= found.high


@settings(deadline=None)
@given(people())
def test_order_of_people_does_not_matter(sample: RateSample) -> None:
    turned = RateSample(
        sample.errors,
        sample.comparisons,
        sample.delta[::-1],
        sample.subject[::-1],
        sample.stratum[::-1],
        deff=sample.deff,
    )
    one, two = interval(sample, 0.95), interval(turned, 0.95)
    assert (one.low is None) == (two.low is None)
    if one.low is not None and one.high is not None:
        assert (two.low, two.high) == (pytest.approx(one.low, rel=1e-9), pytest.approx(one.high, rel=1e-9))


@settings(deadline=None)
@given(people(), people(start=6))
def test_covariance_is_symmetric_and_bounded(a: RateSample, b: RateSample) -> None:
    if no_interval(a) or no_interval(b):
        return
    assert covariance(a, b) == pytest.approx(covariance(b, a), abs=1e-15)
    assert abs(covariance(a, b)) <= math.sqrt(jackknife_variance(a) * jackknife_variance(b)) * (1 + 1e-9) + 1e-18
    assert 1 <= degrees_of_freedom(a) <= max(1, len(a.delta) - 1)


@settings(deadline=None)
@given(people(), people(start=6), level)
def test_ratio_and_difference_turn_over(a: RateSample, b: RateSample, at: float) -> None:
    one, two = ratio_interval(a, b, at), ratio_interval(b, a, at)
    if one.low and two.high:
        assert one.low * two.high == pytest.approx(1.0, rel=1e-9)
    d, e = difference_interval(a, b, at), difference_interval(b, a, at)
    assert (d.low is None) == (e.high is None)
    if d.low is not None and e.high is not None:
        assert d.low == pytest.approx(-e.high, abs=1e-12)


@settings(deadline=None)
@given(st.lists(people(), min_size=1, max_size=4))
def test_simultaneous_intervals_hold_their_own(samples: list[RateSample]) -> None:
    for sample, wide in zip(samples, simultaneous(samples, 0.95), strict=True):
        alone = interval(sample, 0.95)
        assert wide.low is None or alone.low is None or wide.low <= alone.low
        assert wide.high is None or alone.high is None or wide.high >= alone.high


@settings(deadline=None)
@given(rates)
def test_equal_rates_have_the_ideal_spread_and_order_does_not_matter(x: list[float]) -> None:
    for name, (_, ideal) in KERNELS.items():
        same = measure(name, [x[0]] * len(x)).value
        assert same == pytest.approx(ideal, abs=1e-9)
        found = measure(name, x).value
        assert found is not None
        assert found >= ideal - 1e-9
        assert measure(name, x[::-1]).value == pytest.approx(found, rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(rates, st.floats(0.01, 1.0))
def test_ratios_and_gini_do_not_know_the_unit(x: list[float], scale: float) -> None:
    for name in ("max/min", "max/geomean", "max/mean", "gini", "gini-normalised"):
        one, two = measure(name, x).value, measure(name, [scale * v for v in x]).value
        assert one == pytest.approx(two, rel=1e-6, abs=1e-9)
    assert 0 <= measure("gini-normalised", x).value <= 1 + 1e-9  # type: ignore[operator]


@st.composite
def boxes(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    k = draw(st.integers(2, 4))
    ends = [sorted((draw(st.floats(0.01, 1.0)), draw(st.floats(0.01, 1.0)))) for _ in range(k)]
    return [e[0] for e in ends], [e[1] for e in ends]


@settings(max_examples=150, deadline=None)
@given(boxes())
def test_projection_is_reached_and_never_left(box: tuple[list[float], list[float]]) -> None:
    lows, highs = box
    top = max(lows)
    # every extreme of these measures lies at ends of intervals, at the largest low end, or where they all meet
    grids = [
        sorted({low, high, min(max(low, top), high), *np.linspace(low, high, 5)})
        for low, high in zip(lows, highs, strict=True)
    ]
    corners = np.array(list(itertools.product(*grids)))
    for name in PROJECTED:
        values = KERNELS[name][0](corners)
        low, high = project(name, lows, highs)
        assert low is not None
        assert high is not None
        assert values.min() >= low - 1e-9
        assert values.max() <= high * (1 + 1e-9) + 1e-12
        assert values.max() == pytest.approx(high, rel=1e-9, abs=1e-12)
        assert values.min() == pytest.approx(low, rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(boxes(), st.integers(0, 3))
def test_an_open_end_only_widens(box: tuple[list[float], list[float]], which: int) -> None:
    lows: list[float | None] = list(box[0])
    highs: list[float | None] = list(box[1])
    which %= len(lows)
    for name in PROJECTED:
        closed = project(name, lows, highs)
        opened = project(name, lows, [None if k == which else h for k, h in enumerate(highs)])
        assert opened[0] <= closed[0] + 1e-12  # type: ignore[operator]
        assert opened[1] is None or opened[1] >= closed[1] - 1e-12  # type: ignore[operator]
        zero = project(name, [None if k == which else v for k, v in enumerate(lows)], highs)
        assert zero[0] <= closed[0] + 1e-12  # type: ignore[operator]
        assert zero[1] is None or zero[1] >= closed[1] - 1e-12  # type: ignore[operator]


@settings(deadline=None)
@given(st.lists(probability, max_size=8))
def test_adjusted_p_values_are_ordered_and_never_smaller(p: list[float]) -> None:
    h, b = holm(p), benjamini_hochberg(p)
    for raw, holm_p, bh in zip(p, h, b, strict=True):
        assert raw - 1e-12 <= bh <= holm_p + 1e-12 <= 1 + 1e-12
    order = np.argsort(p, kind="stable")
    for adjusted in (h, b):
        assert (np.diff(np.array(adjusted)[order]) >= -1e-12).all()
    # brute force
    m = len(p)
    for k, raw in enumerate(p):
        step_down = max((sum(q >= r for q in p) * r for r in p if r <= raw), default=0.0)
        assert h[k] == pytest.approx(min(1.0, step_down), rel=1e-12)
        step_up = min(m * r / sum(q <= r for q in p) for r in p if r >= raw)
        assert b[k] == pytest.approx(min(1.0, step_up), rel=1e-12)
