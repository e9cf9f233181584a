from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError
from audit_toolkit.stats.contrast import difference_interval, log_ratio, ratio_interval
from audit_toolkit.stats.dependence import (
    RateSample,
    adjust_for_threshold,
    centred,
    covariance,
    degrees_of_freedom,
    design_effect,
    from_counts,
    jackknife_variance,
    pooled_deff,
    satterthwaite,
    ustat_variance,
    with_deff,
)
from audit_toolkit.stats.intervals import INTERVALS, bonferroni, interval, simultaneous
from audit_toolkit.stats.proportion import t_quantile


def pair_table(seed: int, g: int, rate: float = 0.2) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Errors and comparisons of every unordered subject pair, [g, g] symmetric with a zero diagonal."""
    rng = np.random.Generator(np.random.PCG64(seed))
    made = np.triu(rng.integers(0, 4, (g, g)), 1)
    wrong = rng.binomial(made, rate)
    return wrong + wrong.T, made + made.T


def sample_of(wrong: NDArray[np.int64], made: NDArray[np.int64], **more: object) -> RateSample:
    return from_counts(
        int(wrong.sum()) // 2,
        int(made.sum()) // 2,
        wrong.sum(axis=1),
        made.sum(axis=1),
        **more,  # type: ignore[arg-type]
    )


def test_influence_is_the_exact_delete_one_change() -> None:
    wrong, made = pair_table(1, 9)
    sample = sample_of(wrong, made)
    for k, i in enumerate(sample.subject):
        rest = np.delete(np.arange(9), i)
        left = wrong[np.ix_(rest, rest)].sum() / made[np.ix_(rest, rest)].sum()
        assert sample.delta[k] == pytest.approx(left - sample.errors / sample.comparisons, abs=1e-15)


def test_jackknife_variance_is_the_textbook_one() -> None:
    wrong, made = pair_table(2, 12)
    sample = sample_of(wrong, made)
    rates = sample.delta + sample.errors / sample.comparisons
    textbook = sum((x - rates.mean()) ** 2 for x in rates) * 11 / 12
    assert jackknife_variance(sample) == pytest.approx(textbook, rel=1e-12)


def test_jackknife_of_a_plain_mean_is_its_standard_error() -> None:
    x = np.array([0, 1, 1, 0, 1, 0, 0, 0])
    sample = from_counts(3, 8, x, np.ones(8, dtype=np.int64))
    assert jackknife_variance(sample) == pytest.approx(x.var(ddof=1) / 8, rel=1e-12)
    assert design_effect(sample) == pytest.approx(8 / 7, rel=1e-12)


def test_two_sides_are_two_strata() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    wrong = rng.binomial(2, 0.3, (5, 7))
    made = np.full((5, 7), 2)
    sample = from_counts(
        int(wrong.sum()),
        int(made.sum()),
        np.concatenate([wrong.sum(axis=1), wrong.sum(axis=0)]),
        np.concatenate([made.sum(axis=1), made.sum(axis=0)]),
        stratum=np.repeat([0, 1], [5, 7]),
    )
    p = wrong.sum() / made.sum()
    total = 0.0
    for axis, n in ((0, 5), (1, 7)):
        left = np.array([np.delete(wrong, i, axis).sum() / np.delete(made, i, axis).sum() - p for i in range(n)])
        total += (n - 1) / n * float(((left - left.mean()) ** 2).sum())
    assert jackknife_variance(sample) == pytest.approx(total, rel=1e-12)


def test_ustat_variance_against_the_published_sum() -> None:
    rng = np.random.Generator(np.random.PCG64(4))
    risk = rng.gamma(1.0, 0.2, 200)
    made = np.triu(rng.integers(1, 4, (200, 200)), 1)
    wrong = rng.binomial(made, np.minimum(1.0, 0.5 * risk[:, None] * risk[None, :]))
    wrong, made = wrong + wrong.T, made + made.T
    p = wrong.sum() / made.sum()
    d = wrong - p * made
    square = float(np.square(np.triu(d, 1)).sum())
    m = made.sum() / 2
    published = (np.square(d.sum(axis=1)).sum() - square) / m**2
    sample = sample_of(wrong, made, pair_square=square)
    # the jackknife form carries (G - 1) / G and M - m_i: equal to order 1 / G
    assert ustat_variance(sample) == pytest.approx(published, rel=0.05)
    assert ustat_variance(sample) < jackknife_variance(sample)


def test_ustat_needs_pair_squares() -> None:
    sample = sample_of(*pair_table(5, 9))
    for name in ("logit-ustat", "ustat-wilson"):
        with pytest.raises(UsageError, match="subject pairs"):
            interval(sample, 0.95, name)
    with pytest.raises(UsageError, match="replicates"):
        interval(sample, 0.95, "logit-double-or-nothing")


def test_degrees_of_freedom_follow_concentration() -> None:
    equal = np.where(np.arange(40) % 2, 1.0, -1.0)
    assert satterthwaite(equal) == 39
    one = np.zeros(40)
    one[0] = 1.0
    assert satterthwaite(one) == pytest.approx(2 / (1 - 1 / 40))
    assert satterthwaite(one * 1e-200) == satterthwaite(one)
    assert satterthwaite(np.zeros(5)) == 4
    assert satterthwaite(np.array([1.0, -1.0])) == 1
    normal = np.random.Generator(np.random.PCG64(6)).normal(size=4000)
    # kurtosis 3: 2 G / (3 - 1) = G
    assert satterthwaite(normal) == pytest.approx(3999, rel=0.15)


def test_covariance_of_a_rate_with_itself_is_its_variance() -> None:
    sample = sample_of(*pair_table(7, 15))
    assert covariance(sample, sample) == pytest.approx(jackknife_variance(sample), rel=1e-12)


def test_covariance_is_none_between_strangers_and_matches_joint_delete_one() -> None:
    wrong, made = pair_table(8, 16)
    first, second = np.arange(8), np.arange(8, 16)
    a = sample_of(wrong[np.ix_(first, first)], made[np.ix_(first, first)], subject=first)
    b = sample_of(wrong[np.ix_(second, second)], made[np.ix_(second, second)], subject=second)
    assert covariance(a, b) == 0.0
    whole = sample_of(wrong, made)
    joint = 0.0
    for i, da in zip(a.subject, centred(a), strict=True):
        joint += da * centred(whole)[list(whole.subject).index(i)]
    assert covariance(a, whole) == pytest.approx(joint, rel=1e-12)
    assert abs(covariance(a, whole)) <= math.sqrt(jackknife_variance(a) * jackknife_variance(whole))


def test_ratio_of_a_rate_with_itself_has_no_width() -> None:
    sample = sample_of(*pair_table(9, 40, rate=0.4))
    found = ratio_interval(sample, sample, 0.95)
    assert found.low == pytest.approx(1.0, abs=1e-9)
    assert found.high == pytest.approx(1.0, abs=1e-9)


def test_ratio_turns_over_with_its_arguments() -> None:
    a, b = sample_of(*pair_table(10, 20)), sample_of(*pair_table(11, 20))
    b = RateSample(b.errors, b.comparisons, b.delta, b.subject + 100, b.stratum)
    one, two = ratio_interval(a, b, 0.9), ratio_interval(b, a, 0.9)
    assert one.low is not None
    assert one.high is not None
    assert (1 / one.high, 1 / one.low) == pytest.approx((two.low, two.high), rel=1e-12)
    fit = log_ratio(a, b)
    assert fit is not None
    parts = [jackknife_variance(s) / s.rate**2 for s in (a, b)]  # type: ignore[operator]
    assert fit[1] ** 2 == pytest.approx(sum(parts), rel=1e-12)
    assert fit[2] == min(degrees_of_freedom(a), degrees_of_freedom(b))
    assert one.high == pytest.approx(math.exp(fit[0] + t_quantile(0.95, fit[2]) * fit[1]))


def test_ratio_of_rates_that_share_people_uses_their_covariance() -> None:
    wrong, made = pair_table(31, 40, rate=0.3)
    half = np.arange(20)
    part = sample_of(wrong[np.ix_(half, half)], made[np.ix_(half, half)], subject=half)
    whole = sample_of(wrong, made)
    strangers = RateSample(whole.errors, whole.comparisons, whole.delta, whole.subject + 100, whole.stratum)
    assert covariance(part, whole) > 0
    shared, apart = log_ratio(part, whole), log_ratio(part, strangers)
    assert shared is not None
    assert apart is not None
    assert shared[1] < apart[1]


def none_seen(g: int = 20, start: int = 100, deff: float | None = None) -> RateSample:
    zero = np.zeros(g, dtype=np.int64)
    return from_counts(0, 1000, zero, np.full(g, 100), subject=np.arange(start, start + g), deff=deff)


def test_ratio_with_zero_counts_is_one_sided_or_open() -> None:
    a = sample_of(*pair_table(12, 20))
    open_end = ratio_interval(a, none_seen(), 0.95)
    assert (open_end.low, open_end.high) == (0.0, None)
    bounded = ratio_interval(a, none_seen(deff=2.0), 0.95)
    low = interval(a, 0.975).low
    high = interval(none_seen(deff=2.0), 0.975).high
    assert low is not None
    assert high is not None
    assert bounded.low == pytest.approx(low / high)
    assert bounded.high is None
    other = ratio_interval(none_seen(deff=2.0), a, 0.95)
    assert other.low == 0.0
    assert other.high == pytest.approx(high / low)
    neither = ratio_interval(none_seen(deff=2.0), none_seen(start=500, deff=2.0), 0.95)
    assert (neither.low, neither.high) == (0.0, None)


def test_difference_rebuilds_from_both_intervals() -> None:
    a, b = sample_of(*pair_table(13, 20)), sample_of(*pair_table(14, 20))
    b = RateSample(b.errors, b.comparisons, b.delta, b.subject + 100, b.stratum)
    found, back = difference_interval(a, b, 0.95), difference_interval(b, a, 0.95)
    in_a, in_b = interval(a, 0.95), interval(b, 0.95)
    d = a.errors / a.comparisons - b.errors / b.comparisons
    expected = d - math.hypot(d + b.errors / b.comparisons - in_a.low, in_b.high - b.errors / b.comparisons)  # type: ignore[operator]
    assert found.low == pytest.approx(expected)
    assert found.low == pytest.approx(-back.high)  # type: ignore[operator]
    open_end = difference_interval(a, none_seen(), 0.95)
    assert open_end.low is None
    assert open_end.high is not None


@pytest.mark.parametrize("name", sorted(INTERVALS))
def test_every_method_has_one_signature_and_contains_the_rate(name: str) -> None:
    wrong, made = pair_table(15, 30)
    drawn = np.random.Generator(np.random.PCG64(1)).normal(0.2, 0.02, 200)
    drawn[3] = np.nan
    sample = sample_of(wrong, made, pair_square=30.0, replicates=drawn)
    found = interval(sample, 0.95, name)
    assert found.level == 0.95
    assert name in found.method
    assert found.contains(sample.rate)  # type: ignore[arg-type]
    wider = interval(sample, 0.99, name)
    assert wider.low < found.low < found.high < wider.high  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(set(INTERVALS) - {"wilson"}))
def test_edges_say_why(name: str) -> None:
    method = INTERVALS[name]
    nothing = method(none_seen(), 0.95)
    assert (nothing.low, nothing.high) == (0.0, None)
    assert "no design effect" in nothing.method
    judged = method(none_seen(deff=3.0), 0.95)
    assert judged.high == pytest.approx(1 - 0.025 ** (3 / 1000))
    every = from_counts(1000, 1000, np.full(20, 100), np.full(20, 100), deff=3.0)
    mirrored = method(every, 0.95)
    assert (mirrored.low, mirrored.high) == (pytest.approx(0.025 ** (3 / 1000)), 1.0)
    one = from_counts(1, 10, np.array([1]), np.array([10]))
    single = method(one, 0.95)
    assert (single.low, single.high) == (None, None)
    assert "a single subject" in single.method
    empty = from_counts(0, 0, np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64))
    assert "no comparisons" in method(empty, 0.95).method
    star = from_counts(2, 6, np.array([2, 1, 1]), np.array([6, 3, 3]))
    assert "every comparison" in method(star, 0.95).method


def test_identical_subjects_still_have_a_width() -> None:
    sample = from_counts(10, 100, np.ones(10, dtype=np.int64), np.full(10, 10))
    assert jackknife_variance(sample) == 0.0
    found = interval(sample, 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 0.08
    ratio = ratio_interval(sample, RateSample(10, 100, sample.delta, sample.subject + 50, sample.stratum), 0.95)
    assert ratio.low is not None
    assert ratio.low < 0.6


def test_pooled_design_effect_is_weighted_and_at_least_one() -> None:
    a, b = sample_of(*pair_table(16, 25)), sample_of(*pair_table(17, 25, rate=0.4))
    pooled = pooled_deff([a, none_seen(), b])
    by_hand = (a.errors * design_effect(a) + b.errors * design_effect(b)) / (a.errors + b.errors)  # type: ignore[operator]
    assert pooled == pytest.approx(max(1.0, by_hand))
    assert pooled_deff([none_seen()]) is None
    assert with_deff(none_seen(), pooled).deff == pooled


def test_simultaneous_is_bonferroni_over_groups_with_comparisons() -> None:
    samples = [sample_of(*pair_table(s, 20)) for s in (18, 19, 20)]
    empty = from_counts(0, 0, np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64))
    found = simultaneous([*samples, empty], 0.95)
    assert bonferroni(0.95, 3) == pytest.approx(1 - 0.05 / 3)
    for sample, wide in zip(samples, found, strict=False):
        alone = interval(sample, bonferroni(0.95, 3))
        assert (wide.low, wide.high, wide.level) == (alone.low, alone.high, 0.95)
    assert found[3].low is None


def test_bad_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="differ in length"):
        RateSample(1, 2, np.zeros(3), np.zeros(2, dtype=np.int64), np.zeros(3, dtype=np.int64))
    with pytest.raises(UsageError, match="fewer comparisons"):
        RateSample(3, 2, np.zeros(1), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    with pytest.raises(UsageError, match="not known"):
        interval(none_seen(), 0.95, "bayes")


REPEATS = 6
MATED = 2000


def scored(seed: int, g: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Symmetric non-mated scores of g subjects in 2 groups [g, g, REPEATS], and MATED mated scores a subject."""
    rng = np.random.Generator(np.random.PCG64(seed))
    pull = rng.normal(0, 0.5, g)
    noise = np.triu(np.moveaxis(rng.normal(0, 1, (g, g, REPEATS)), 2, 0), 1)
    mated = rng.normal(3, 1, (g, MATED)) + pull[:, None]
    both = noise + np.swapaxes(noise, 1, 2) + pull[:, None] + pull[None, :]
    return np.moveaxis(both, 0, 2), np.arange(g) % 2, mated


def threshold_at(scores: NDArray[np.float64], target: float) -> float:
    return float(np.quantile(scores, 1 - target))


@pytest.mark.parametrize("kind", ["FMR", "FNMR"])
def test_threshold_adjustment_against_setting_the_threshold_anew(kind: str) -> None:
    g, target = 300, 0.05
    scores, group, mated = scored(21, g)
    upper = np.triu(np.ones((g, g), dtype=bool), 1)
    own = np.flatnonzero(group == 0)
    t = threshold_at(scores[upper], target)

    def rate(keep: NDArray[np.intp], at: float) -> float:
        mine = keep[group[keep] == 0]
        if kind == "FNMR":
            return float((mated[mine] < at).mean())
        block = scores[np.ix_(mine, mine)]
        return float((block[np.triu_indices(len(mine), 1)] >= at).mean())

    everyone = np.arange(g)
    base = rate(everyone, t)
    brute = np.empty(g)
    for i in range(g):
        keep = np.delete(everyone, i)
        block = scores[np.ix_(keep, keep)]
        brute[i] = rate(keep, threshold_at(block[np.triu_indices(g - 1, 1)], target)) - base

    wrong = ((scores >= t) & ~np.eye(g, dtype=bool)[:, :, None]).sum(axis=2)
    overall = from_counts(
        int(wrong[upper].sum()), int(upper.sum()) * REPEATS, wrong.sum(axis=1), np.full(g, (g - 1) * REPEATS)
    )
    h = 0.25
    f_o = float(((scores[upper] >= t - h) & (scores[upper] < t + h)).mean()) / (2 * h)
    if kind == "FMR":
        inner = wrong[np.ix_(own, own)]
        n = len(own)
        sample = from_counts(
            int(inner.sum()) // 2,
            n * (n - 1) // 2 * REPEATS,
            inner.sum(axis=1),
            np.full(n, (n - 1) * REPEATS),
            subject=own,
        )
        mine = scores[np.ix_(own, own)][np.triu_indices(n, 1)]
        adjusted = adjust_for_threshold(
            sample, float(((mine >= t - h) & (mine < t + h)).mean()) / (2 * h), overall, f_o, -1
        )
    else:
        miss = mated[own] < t
        sample = from_counts(int(miss.sum()), miss.size, miss.sum(axis=1), np.full(len(own), MATED), subject=own)
        near = float(((mated[own] >= t - h) & (mated[own] < t + h)).mean()) / (2 * h)
        adjusted = adjust_for_threshold(sample, near, overall, f_o, +1)
    assert list(adjusted.subject) == list(range(g))
    # setting it anew also jumps over single scores, which no influence shows: a little noise on top
    assert np.corrcoef(adjusted.delta, brute)[0, 1] > 0.97
    assert np.square(adjusted.delta).sum() == pytest.approx(np.square(brute).sum(), rel=0.1)
    # without the adjustment the picture is another one
    assert abs(np.square(sample.delta).sum() / np.square(brute).sum() - 1) > 0.2


def test_threshold_adjustment_refuses_what_it_cannot_mean() -> None:
    sample = sample_of(*pair_table(22, 9))
    with pytest.raises(UsageError, match="sign"):
        adjust_for_threshold(sample, 1.0, sample, 1.0, 0)
    with pytest.raises(UsageError, match="density"):
        adjust_for_threshold(sample, 1.0, sample, 0.0, -1)


def test_a_group_that_set_its_own_threshold_has_no_influence_left() -> None:
    sample = sample_of(*pair_table(23, 9))
    adjusted = adjust_for_threshold(sample, 2.0, sample, 2.0, -1)
    assert np.abs(adjusted.delta).max() < 1e-15


def test_pairs_twice_is_the_known_excess() -> None:
    # independent pairs, each once: the jackknife holds their noise twice
    ratios = []
    for seed in range(40):
        rng = np.random.Generator(np.random.PCG64(seed))
        g = 60
        wrong = np.triu(rng.random((g, g)) < 0.05, 1).astype(np.int64)
        sample = sample_of(wrong + wrong.T, (1 - np.eye(g, dtype=np.int64)))
        ratios.append(design_effect(sample))
    assert 1.8 < float(np.mean(ratios)) < 2.2  # type: ignore[arg-type]


def test_degrees_of_freedom_of_a_sample_stay_inside() -> None:
    for seed, g in itertools.product(range(5), (2, 3, 10)):
        sample = sample_of(*pair_table(seed, g, rate=0.5))
        if len(sample.delta) >= 2:
            assert 1.0 <= degrees_of_freedom(sample) <= max(1, len(sample.delta) - 1)
