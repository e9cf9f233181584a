"""Identification measures against independent plain Python, brute-force deletion, published scaling, and simulated truth."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from audit_toolkit.disparity.identification.lists import search_lists
from audit_toolkit.disparity.identification.rates import (
    alerted,
    change_interval,
    fnir_sample,
    fpir_sample,
    lowest_threshold,
    mean_interval,
    missed,
    predictive_value,
    scaled_fpir,
    set_on_data,
)
from audit_toolkit.disparity.identification.searches import Searches
from audit_toolkit.sources.searches import CandidateLists, open_candidates
from audit_toolkit.stats.contrast import ratio_interval
from audit_toolkit.stats.dependence import covariance, jackknife_variance
from audit_toolkit.stats.intervals import interval

Table = dict[int, tuple[int, dict[int, float]]]
"""search -> (person searched for, person enrolled -> score): the plain form that the oracles work on."""


def made(seed: int, searches: int = 40, enrolled: int = 12, people: int = 18) -> Table:
    rng = np.random.default_rng(seed)
    table: Table = {}
    for k in range(searches):
        who = int(rng.integers(0, people))
        scores = {j: float(round(rng.normal() + (1.5 if j == who else 0.0), 1)) for j in range(enrolled)}
        table[k] = (who, scores)
    return table


def as_searches(table: Table, kept: int = 60, enrolled: int = 12) -> Searches:
    """The same table through the toolkit's reader of candidate lists, every enrolled person listed."""
    import pandas as pd

    rows = [
        {"probe": f"p{k}", "probe_subject": f"s{who}", "candidate_subject": f"s{j}", "score": s}
        for k, (who, scores) in table.items()
        for j, s in scores.items()
    ]
    frame = pd.DataFrame(rows, columns=["probe", "probe_subject", "candidate_subject", "score"])
    gallery = pd.DataFrame({"subject": [f"s{j}" for j in range(enrolled)]})
    people = pd.DataFrame({"subject": [f"s{j}" for j in range(40)], "group": [("a", "b")[j % 2] for j in range(40)]})
    lists = open_candidates(frame, enrolled=gallery, subjects=people, attributes={"group": "group"})
    return search_lists(lists, kept)


# ---- independent metrics ---------------------------------------------------------------------------------------------


def plain_fnir(table: Table, rank: int | None, threshold: float | None) -> tuple[int, int]:
    wrong = total = 0
    for who, scores in table.values():
        if who not in scores:
            continue
        total += 1
        place = 1 + sum(1 for j, s in scores.items() if j != who and s >= scores[who])
        hit = (rank is None or place <= rank) and (threshold is None or scores[who] >= threshold)
        wrong += not hit
    return wrong, total


def plain_fpir(table: Table, threshold: float) -> tuple[int, int]:
    wrong = total = 0
    for who, scores in table.values():
        if who in scores:
            continue
        total += 1
        wrong += any(s >= threshold for s in scores.values())
    return wrong, total


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rates_are_those_of_a_plain_implementation(seed: int) -> None:
    table = made(seed)
    searches = as_searches(table)
    everyone = np.ones(searches.n, np.bool_)
    for rank in (1, 2, 5, 12, None):
        for threshold in (None, 0.4, 1.3):
            sample = fnir_sample(searches, everyone, rank, threshold)
            assert (sample.errors, sample.comparisons) == plain_fnir(table, rank, threshold)
    cmc = [1.0 - plain_fnir(table, r, None)[0] / plain_fnir(table, r, None)[1] for r in range(1, 13)]
    ours = [1.0 - (fnir_sample(searches, everyone, r, None).rate or 0.0) for r in range(1, 13)]
    assert ours == pytest.approx(cmc, abs=0)
    assert cmc == sorted(cmc)
    for threshold in (0.4, 1.3, 2.0):
        sample = fpir_sample(searches, everyone, threshold)
        assert (sample.errors, sample.comparisons) == plain_fpir(table, threshold)
        counts = searches.above([threshold])[:, 0]
        non = [sum(s >= threshold for s in scores.values()) for who, scores in table.values() if who not in scores]
        assert counts[~searches.mated].tolist() == non


def test_cmc_known_by_hand() -> None:
    scores = {0: 0.9, 1: 0.8, 2: 0.8, 3: 0.1}
    table: Table = {0: (0, scores), 1: (1, scores), 2: (3, scores), 3: (9, scores)}
    searches = as_searches(table, enrolled=4)
    everyone = np.ones(4, np.bool_)
    # person 1 ties with person 2 and stands behind it: rank 3, not 2
    assert [fnir_sample(searches, everyone, r, None).errors for r in (1, 2, 3, 4)] == [2, 2, 1, 0]
    assert fpir_sample(searches, everyone, 0.9).errors == 1
    assert fpir_sample(searches, everyone, 0.91).errors == 0
    assert fpir_sample(searches, everyone, 0.9).comparisons == 1


# ---- leaving people out ----------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), rank=st.sampled_from([1, 2, 4]))
def test_influences_are_those_of_brute_force_deletion(seed: int, rank: int) -> None:
    table = made(seed)
    searches = as_searches(table)
    everyone = np.ones(searches.n, np.bool_)
    people = len(searches.subject_labels)
    for rate in ("fpir", "fnir"):
        t = 1.3 if rate == "fpir" else 0.2
        plain: Any = (lambda b: plain_fpir(b, 1.3)) if rate == "fpir" else (lambda b: plain_fnir(b, rank, 0.2))
        sample = fpir_sample(searches, everyone, t) if rate == "fpir" else fnir_sample(searches, everyone, rank, t)
        wrong, total = plain(table)
        if not total:
            continue
        # a code is known by the searches made with it, or by what it is the best candidate of; compare as multisets
        left_out = []
        for who in {w for w, _ in table.values()}:
            rest = {k: v for k, v in table.items() if v[0] != who}
            a, b = plain(rest)
            if b < total:
                left_out.append(a / b - wrong / total if b else math.nan)
        ours = sample.delta[sample.subject < people]
        assert sorted(ours.tolist()) == pytest.approx(sorted(left_out), nan_ok=True)
        competitors = []
        for person in range(12):
            rest = {
                k: (who, {j: s for j, s in scores.items() if j != person or j == who})
                for k, (who, scores) in table.items()
            }
            a, b = plain(rest)
            assert b == total
            competitors.append(a / b - wrong / total)
        pulled = sample.delta[sample.subject >= people]
        if len(pulled):
            assert sorted(pulled.tolist()) == pytest.approx(sorted(competitors))
        else:
            assert competitors == [0.0] * 12


def test_groups_that_share_a_gallery_have_a_covariance() -> None:
    table = made(5, searches=400)
    searches = as_searches(table)
    group = searches.subject_labels[searches.subject, 0]
    a, b = (fpir_sample(searches, group == k, 2.0) for k in (0, 1))
    c, d = (fpir_sample(searches, group == k, 2.0, resampled=False) for k in (0, 1))
    assert covariance(c, d) == 0.0
    assert covariance(a, b) != 0.0
    assert jackknife_variance(a) > jackknife_variance(c)


# ---- known scaling ---------------------------------------------------------------------------------------------------


def test_scaling_with_the_gallery_as_published() -> None:
    # NPL, live facial recognition, threshold .6: 1 in 6,000 with 10,000 enrolled, 1 in 60,000 with 1,000
    fmr = -math.expm1(math.log1p(-1.0 / 6000.0) / 10_000)
    assert scaled_fpir(fmr, 10_000) == pytest.approx(1.0 / 6000.0, rel=1e-12)
    assert scaled_fpir(fmr, 1_000) == pytest.approx(1.0 / 60_000.0, rel=1e-4)
    assert scaled_fpir(1.0 / 6e7, 10_000) == pytest.approx(1.0 / 6000.0, rel=1e-4)
    assert scaled_fpir(1.0 / 6e7, 1_000) == pytest.approx(1.0 / 60_000.0, rel=1e-5)
    assert scaled_fpir(0.0, 10) == 0.0
    assert scaled_fpir(1.0, 10) == 1.0


def test_measured_growth_follows_independence_where_there_is_independence() -> None:
    """Independent scores: 1 - (1 - FMR)^N must fit the measured FPIR of nested halves within 4 standard errors."""
    searches = simulated(np.random.default_rng(4), 512, 3000, 1, 0.0, 0.0, levels=4)
    t, n = 3.2, searches.n
    fmr = 0.5 * math.erfc(t / math.sqrt(2.0))
    for k, people in enumerate(searches.sizes):
        expected = scaled_fpir(fmr, int(people))
        seen = alerted(searches, t, k).mean()
        assert abs(seen - expected) < 4.0 * math.sqrt(expected * (1.0 - expected) / n)


# ---- thresholds and predictive values --------------------------------------------------------------------------------


@given(
    scores=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    target=st.sampled_from([0.001, 0.05, 0.1, 0.25, 0.5, 0.999]),
)
def test_the_lowest_threshold_keeps_its_target_and_no_lower_one_does(scores: list[int], target: float) -> None:
    best = np.array(scores, np.float64)
    t = lowest_threshold(best, target)
    assert (best >= t).mean() <= target + 1e-12
    lower = np.nextafter(t, -np.inf)
    assert t < -1e300 or (best >= lower).mean() > target


def test_predictive_value_is_bayes_rule() -> None:
    tpir, fpir, p = 0.9, 1e-3, 1e-4
    assert predictive_value(tpir / fpir, p) == pytest.approx(p * tpir / (p * tpir + (1 - p) * fpir))


def test_change_of_a_rate_on_the_same_searches() -> None:
    searches = as_searches(made(8, searches=300))
    everyone = np.ones(searches.n, np.bool_)
    low, high = (fnir_sample(searches, everyone, None, t, resampled=False) for t in (0.5, 1.5))
    found = change_interval(high, low, 0.95)
    value = (high.rate or 0.0) - (low.rate or 0.0)
    assert value > 0.0
    assert found.contains(value)
    assert found.low is not None
    assert change_interval(low, low, 0.95).low is None


def test_mean_interval_matches_its_jackknife() -> None:
    rng = np.random.default_rng(0)
    made_, totals = rng.integers(1, 5, 50), rng.poisson(2.0, 50)
    value, found, people = mean_interval(totals, made_, 0.95)
    assert value == totals.sum() / made_.sum()
    assert people == 50
    assert found.contains(value)
    assert mean_interval(np.zeros(5, np.int64), np.ones(5, np.int64), 0.95)[0] == 0.0
    assert mean_interval(np.zeros(5, np.int64), np.zeros(5, np.int64), 0.95)[0] is None


# ---- coverage --------------------------------------------------------------------------------------------------------


def simulated(
    rng: np.random.Generator,
    enrolled: int,
    people: int,
    each: int,
    probe_effect: float,
    gallery_effect: float,
    *,
    effects: Any = None,
    levels: int = 1,
) -> Searches:
    """Non-mated searches: score = effect of the probe's person + effect of the person enrolled + noise."""
    lift = rng.normal(0.0, gallery_effect, enrolled) if effects is None else effects
    scores = (
        np.repeat(rng.normal(0.0, probe_effect, people), each)[:, None]
        + lift
        + rng.normal(size=(people * each, enrolled))
    )
    ordered = np.partition(scores, enrolled - 2, axis=1)[:, -2:]
    n = people * each
    level = np.zeros(enrolled, np.int64)
    for k in range(1, levels):
        level[: enrolled >> k] = k
    best = np.stack([scores[:, level >= k].max(axis=1) for k in range(levels)], axis=1)
    return Searches(
        subject=np.repeat(np.arange(people), each), mated=np.zeros(n, np.bool_), mate_score=np.full(n, np.nan),
        ahead=np.full(n, -1), competitors=np.full((n, 1), -1), best=best, best_subject=people + scores.argmax(axis=1),
        second=ordered[:, 0], above=lambda t: np.zeros((n, len(t)), np.int64), enrolled=people + np.arange(enrolled),
        gallery_known=True, sizes=np.array([(level >= k).sum() for k in range(levels)]), longest=None,
        fpir_unknown=lambda t: None, count_unknown=lambda t: None, thresholds_known=None, attributes=("group",),
        labels=(("a", "b"),), subject_labels=np.zeros((people + enrolled, 1), np.int16), inputs=(), warnings=(), runs=(),
    )  # fmt: skip


def true_fpir(enrolled: int, probe_effect: float, gallery_effect: float, threshold: float) -> float:
    """Over new people and new galleries: 1 - E[Phi((t - f) / sqrt(1 + sd^2))^N], f the probe person's effect."""
    x, w = np.polynomial.hermite_e.hermegauss(60)
    below = ndtr((threshold - probe_effect * x) / math.sqrt(1.0 + gallery_effect**2))
    return float((w / w.sum() * (1.0 - below**enrolled)).sum())


@pytest.mark.parametrize(
    ("enrolled", "probe_effect", "gallery_effect", "threshold", "least"),
    [
        (150, 0.5, 0.5, 4.2, 135),
        (150, 0.8, 0.2, 4.2, 135),
        (300, 0.3, 0.6, 4.4, 135),
        # one or two of the enrolled cause most false positives: a gallery without any of them cannot know
        (150, 0.0, 1.0, 4.6, 120),
    ],
)
def test_the_interval_with_the_gallery_resampled_covers(
    enrolled: int, probe_effect: float, gallery_effect: float, threshold: float, least: int
) -> None:
    """Nominal 95 %, 150 files, people and gallery new in each; "least" is .90 of them, .80 in the severe design."""
    rng = np.random.default_rng(77)
    rate = true_fpir(enrolled, probe_effect, gallery_effect, threshold)
    held = ratios = 0
    for _ in range(150):
        searches = simulated(rng, enrolled, 150, 4, probe_effect, gallery_effect)
        everyone = np.ones(searches.n, np.bool_)
        held += interval(fpir_sample(searches, everyone, threshold), 0.95).contains(rate)
        half = searches.subject % 2 == 0
        a, b = (fpir_sample(searches, g, threshold) for g in (half, ~half))
        ratios += ratio_interval(a, b, 0.95).contains(1.0)
    assert held >= least
    assert ratios >= 135


def test_the_interval_with_the_gallery_fixed_covers_that_gallery_and_no_other() -> None:
    """150 files of new people against one gallery: at least 90 % hold its FPIR. New galleries: clearly fewer hold theirs."""
    rng = np.random.default_rng(78)
    effects = rng.normal(0.0, 1.0, 150)

    def draw(same: bool) -> Searches:
        return simulated(rng, 150, 150, 4, 0.3, 1.0, effects=effects if same else None)

    x, w = np.polynomial.hermite_e.hermegauss(60)
    here = ndtr(4.8 - 0.3 * x[:, None] - effects).prod(axis=1)
    rate = {True: float((w / w.sum() * (1.0 - here)).sum()), False: true_fpir(150, 0.3, 1.0, 4.8)}
    held = {True: 0, False: 0}
    for same in held:
        for _ in range(150):
            searches = draw(same)
            everyone = np.ones(searches.n, np.bool_)
            held[same] += interval(fpir_sample(searches, everyone, 4.8, resampled=False), 0.95).contains(rate[same])
    assert held[True] >= 135
    assert held[False] <= 120


def test_a_threshold_set_on_the_same_searches_is_accounted_for() -> None:
    """FPIR of a group at the threshold set on everybody: spread over files within .7 to 1.5 of what the samples say."""
    rng = np.random.default_rng(79)
    seen, said = [], []
    for _ in range(150):
        searches = simulated(rng, 60, 240, 2, 0.4, 0.2)
        everyone = np.ones(searches.n, np.bool_)
        t = lowest_threshold(searches.best[:, 0], 0.1)
        group = searches.subject < 80
        base = fpir_sample(searches, everyone, t, resampled=False)
        sample = set_on_data(searches, group, fpir_sample(searches, group, t, resampled=False), t, base, "fpir")
        seen.append(sample.rate or 0.0)
        said.append(jackknife_variance(sample))
    ratio = math.sqrt(float(np.mean(said))) / float(np.std(seen))
    assert 0.7 < ratio < 1.5


def test_missed_and_alerted_are_masks_over_searches() -> None:
    searches = as_searches(made(2))
    assert not missed(searches, 1, None)[~searches.mated].any()
    deeper = dataclasses.replace(searches, best=np.full_like(searches.best, -np.inf))
    assert not alerted(deeper, -1e300).any()
    assert isinstance(searches, Searches)
    assert CandidateLists.__slots__
