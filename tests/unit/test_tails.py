from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.errors import UsageError
from audit_toolkit.stats import pareto
from audit_toolkit.stats.tails import ML, PWM, fit_tail, influence, rate_at, stability, threshold_at


def draw(shape: float, n: int, seed: int = 0) -> np.ndarray:
    u = np.random.Generator(np.random.PCG64(seed)).random(n)
    return -np.log(u) if shape == 0 else np.expm1(-shape * np.log(u)) / shape


def normal_top(seed: int, n: int = 100_000, keep: int = 1500) -> np.ndarray:
    x = np.random.Generator(np.random.PCG64(seed)).normal(size=n)
    return np.partition(x, -keep)[-keep:]


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.25])
def test_rate_and_threshold_undo_each_other(shape: float) -> None:
    tail = fit_tail(draw(shape, 20_000), 20_000)
    for target in (1e-3, 1e-5, 1e-8):
        at = threshold_at(tail, target)
        assert at.value is not None
        back = rate_at(tail, at.value)
        assert back.value == pytest.approx(target, rel=1e-6)


def test_what_is_said_of_it() -> None:
    found = rate_at(fit_tail(normal_top(1), 100_000), 4.5)
    assert found.method.startswith(
        "extrapolation (ISO/IEC 5152 in spirit): generalised Pareto tail, maximum likelihood"
    )
    assert "scores independent" in found.method
    assert found.notes[0] == "extrapolated from the 1000 highest of 100000 scores; not counted"
    assert found.undefined is None
    assert found.low is not None
    assert found.high is not None
    assert found.value is not None
    assert found.low < found.value < found.high


def test_order_of_the_scores_and_how_many_are_listed_do_not_matter() -> None:
    top = normal_top(2, keep=3000)
    one = fit_tail(top, 100_000)
    other = fit_tail(np.sort(top)[::-1][:1200], 100_000)
    assert (one.start, one.shape, one.scale) == (other.start, other.shape, other.scale)
    assert (one.exceedances, one.share) == (1000, 0.01)


def test_shift_and_scale_of_the_scores() -> None:
    top = normal_top(3)
    tail, moved = fit_tail(top, 100_000), fit_tail(8 * top - 3, 100_000)
    assert moved.shape == pytest.approx(tail.shape, abs=1e-6)
    one, other = rate_at(tail, 4.6), rate_at(moved, 8 * 4.6 - 3)
    assert other.value == pytest.approx(one.value, rel=1e-4)
    assert (other.low, other.high) == (pytest.approx(one.low, rel=1e-3), pytest.approx(one.high, rel=1e-3))


def test_a_tail_that_ends_gives_an_upper_limit_and_no_zero() -> None:
    tail = fit_tail(draw(-0.4, 20_000, 1), 20_000)
    assert tail.end is not None
    found = rate_at(tail, tail.end + 0.01)
    assert found.value is None
    assert found.undefined == "the fitted tail ends below this threshold; only an upper limit can be given"
    assert found.low == 0.0
    assert found.high is not None
    assert 0.0 < found.high < tail.share
    assert rate_at(tail, tail.end - 1e-9).high >= found.high  # type: ignore[operator]


def test_refusals_have_reasons() -> None:
    few = fit_tail(normal_top(0), 100_000, share=0.0004)
    assert few.refused == "40 scores lie in the tail; a fit needs 50"
    assert "40 scores" in str(rate_at(few, 4.0).undefined)
    assert "40 scores" in str(threshold_at(few, 1e-6).undefined)
    coarse = fit_tail(np.round(normal_top(0), 1), 100_000)
    assert "different values" in str(coarse.refused)
    assert "different values" in str(fit_tail(np.ones(2000), 100_000).refused)
    assert fit_tail(np.zeros(0), 0).refused == "0 scores lie in the tail; a fit needs 50"
    tail = fit_tail(normal_top(0), 100_000)
    assert "counted rate" in str(rate_at(tail, tail.start).undefined)
    assert "not rarer" in str(threshold_at(tail, 0.5).undefined)


def test_where_the_likelihood_has_no_maximum_moments_serve_without_interval() -> None:
    # nearly all of the mass at the end: the likelihood grows towards a shape of -1
    x = np.concatenate([np.linspace(0.0, 1.0, 40, endpoint=False), 1.0 - np.geomspace(1e-9, 1e-2, 400)])
    assert pareto.maximum_likelihood(np.sort(x[x > 0])) is None
    tail = fit_tail(x, 10_000, share=0.9)
    assert tail.refused is not None or tail.method == PWM
    if tail.refused is None:
        found = rate_at(tail, 0.99)
        assert (found.low, found.high) == (None, None)
        assert any("without an interval" in note for note in found.notes)
    gentle = draw(0.1, 500)
    shape, scale = pareto.moments(gentle) or (math.nan, math.nan)
    assert (shape, scale) == (pytest.approx(0.1, abs=0.2), pytest.approx(1.0, abs=0.25))


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_tail(np.array([1.0, np.nan]), 10),
        lambda: fit_tail(np.zeros((3, 2)), 10),
        lambda: fit_tail(np.zeros(20), 10),
        lambda: fit_tail(np.zeros(5), 10, share=0.0),
        lambda: fit_tail(np.zeros(5), 10, subjects=np.zeros((4, 2), np.int64)),
        lambda: fit_tail(np.zeros(5), 10, subjects=np.full((5, 2), 7), subject_comparisons=np.ones(3, np.int64)),
        lambda: threshold_at(fit_tail(normal_top(0), 100_000), 0.0),
        lambda: rate_at(fit_tail(normal_top(0), 100_000), 4.0, level=1.0),
    ],
)
def test_numbers_that_cannot_be_meant(call: object) -> None:
    with pytest.raises(UsageError):
        call()  # type: ignore[operator]


def test_influence_is_the_first_order_effect_of_leaving_scores_out() -> None:
    tail = fit_tail(draw(-0.1, 400, 4), 40_000, share=0.05)
    x = 6.0
    z = influence(tail, x)
    assert z.sum() == pytest.approx(1.0, abs=1e-3)

    def log_rate(keep: np.ndarray) -> float:
        shape, scale = pareto.maximum_likelihood(tail.excess[keep]) or (math.nan, math.nan)
        return math.log(keep.sum() / tail.comparisons) + float(pareto.log_survival(x, shape, scale))

    every = np.ones(len(z), bool)
    whole, exact = log_rate(every), []
    for part in np.array_split(np.random.Generator(np.random.PCG64(0)).permutation(len(z)), 40):
        keep = every.copy()
        keep[part] = False
        exact.append((whole - log_rate(keep), z[part].sum()))
    left, right = np.array(exact).T
    assert np.corrcoef(left, right)[0, 1] > 0.97
    assert np.std(right) == pytest.approx(np.std(left), rel=0.25)


def test_few_people_behind_the_top_widen_the_interval() -> None:
    top = draw(0.0, 2000, 5)
    rng = np.random.Generator(np.random.PCG64(6))
    many = rng.integers(0, 1000, (2000, 2))
    many[:, 1] = (many[:, 0] + 1 + many[:, 1] % 998) % 1000
    few = many.copy()
    few[:, 0] = rng.integers(0, 5, 2000)  # five people stand in every high score
    each = np.full(1000, 999)
    found = {
        name: rate_at(
            fit_tail(top, 499_500, share=0.003, subjects=s, subject_comparisons=None if s is None else each), 2.0
        )
        for name, s in {"unknown": None, "many": many, "few": few}.items()
    }
    width = {name: math.log(e.high / e.low) for name, e in found.items()}  # type: ignore[operator]
    assert found["unknown"].deff == 1.0
    assert found["few"].deff > 8 * found["many"].deff > 8
    assert width["few"] > 2 * width["many"] >= 1.8 * width["unknown"] > 0
    assert len({e.value for e in found.values()}) == 1
    assert "widened by the people" in found["few"].method


def test_subjects_of_the_exceedances_follow_their_scores() -> None:
    top = draw(0.0, 600, 7)
    subjects = np.column_stack([np.arange(600), np.arange(600) + 600])
    order = np.random.Generator(np.random.PCG64(8)).permutation(600)
    one = fit_tail(top, 60_000, subjects=subjects)
    other = fit_tail(top[order], 60_000, subjects=subjects[order][:, ::-1])
    assert one.subjects is not None
    assert np.array_equal(top[one.subjects[:, 0]] - one.start, one.excess)
    assert np.array_equal(one.subjects, other.subjects)
    assert one.excess.shape == (599,)


def test_stability_shows_every_share_once() -> None:
    steps = stability(normal_top(9, keep=2500), 100_000, 4.5)
    assert [s.exceedances for s in steps] == [2000, 1000, 500, 200, 100]
    assert all(s.value is not None or s.undefined for s in steps)
    assert [s.exceedances for s in stability(normal_top(9, keep=300), 100_000, 4.5)] == [299, 200, 100]


def test_method_names() -> None:
    assert fit_tail(normal_top(1), 100_000).method == ML


@given(
    shape=st.sampled_from([-0.9, -0.3, -1e-5, -1e-7, 0.0, 1e-9, 1.1e-5, 0.4]),
    log_s=st.floats(-12.0, -0.01),
    scale=st.floats(0.01, 100.0),
)
def test_closed_forms_are_each_others_inverse_and_smooth(shape: float, log_s: float, scale: float) -> None:
    x = pareto.quantile(log_s, shape, scale)
    assert float(pareto.log_survival(x, shape, scale)) == pytest.approx(log_s, rel=1e-6, abs=1e-9)
    beside = pareto.quantile(log_s, shape + 1e-8, scale)
    assert beside == pytest.approx(x, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(shape=st.floats(-0.45, 0.5), seed=st.integers(0, 50))
def test_scores_and_gradients_are_derivatives(shape: float, seed: int) -> None:
    x, h = draw(shape, 30, seed), 1e-6
    analytic = pareto.scores(x, shape, 1.0)
    for k, (a, b) in enumerate((((shape + h, 1.0), (shape - h, 1.0)), ((shape, math.exp(h)), (shape, math.exp(-h))))):
        for i, j in itertools.pairwise(range(0, 30, 7)):
            numeric = pareto.log_likelihood(x[i:j], *a) - pareto.log_likelihood(x[i:j], *b)
            if math.isfinite(numeric):
                assert analytic[i:j, k].sum() == pytest.approx(numeric / (2 * h), rel=2e-3, abs=2e-3)
        at = float(np.median(x))
        numeric = float(pareto.log_survival(at, *a) - pareto.log_survival(at, *b)) / (2 * h)
        assert pareto.log_survival_gradient(at, shape, 1.0)[k] == pytest.approx(numeric, rel=2e-3, abs=2e-3)
