"""Laws of counting all pairs: any cut, any order, any merging gives the same bytes; every pair is counted once."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_toolkit.core import binning, pairs, tiles
from audit_toolkit.core.fold import Batch, State, digest


@st.composite
def templates(draw: st.DrawFn) -> tiles.Prepared:
    n = draw(st.integers(0, 90))
    rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**32))))
    subjects = draw(st.integers(1, 40))
    groups = draw(st.integers(1, 4))
    subject = rng.integers(0, subjects, n).astype(np.int32)
    group = rng.integers(0, groups, subjects).astype(np.int32)[subject]
    image = rng.integers(-1, draw(st.integers(0, 30)), n).astype(np.int32)
    vectors = rng.integers(-2, 3, (n, 5)).astype(np.float32)
    metric = draw(st.sampled_from(["inner", "l2"]))
    return tiles.prepare(vectors, subject, image, group, groups, metric, tile=draw(st.sampled_from([8, 16, 64])))


def counted(measure: pairs.PairCounts, order: list[int], every: list[Batch]) -> State:
    state = measure.zero()
    for k in order:
        measure.update(state, every[k])
    return state


def batches(p: tiles.Prepared) -> list[Batch]:
    return [b for part in tiles.partitions(p) for b in part()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(templates(), st.randoms(use_true_random=False), st.sampled_from([5, 40, 10_000]))
def test_merging_is_commutative_associative_and_blind_to_the_cut(p: tiles.Prepared, rng, most: int) -> None:  # type: ignore[no-untyped-def]
    measure = pairs.PairCounts(
        p, binning.even_edges(-30, 30, 64, [2.0]), listed_from=3.0, near=(1.0,), most_listed=most
    )
    every = batches(p)
    order = list(range(len(every)))
    rng.shuffle(order)
    a, b = sorted(rng.choices(range(len(every) + 1), k=2))
    x, y, z = (counted(measure, part, every) for part in (order[:a], order[a:b], order[b:]))
    whole = measure.merge(measure.zero(), counted(measure, sorted(order), every))
    expected = digest(measure, whole)
    assert digest(measure, measure.merge(measure.merge(x, y), z)) == expected
    assert digest(measure, measure.merge(x, measure.merge(y, z))) == expected
    assert digest(measure, measure.merge(measure.merge(z, x), y)) == expected
    assert digest(measure, measure.merge(whole, measure.zero())) == expected


@settings(max_examples=60, deadline=None)
@given(templates())
def test_every_pair_is_counted_once_and_agrees_with_a_plain_count(p: tiles.Prepared) -> None:
    edges = binning.even_edges(-30, 30, 32, [0.5, 1.0])
    measure = pairs.PairCounts(p, edges, listed_from=0.0)
    state = measure.merge(measure.zero(), counted(measure, list(range(len(batches(p)))), batches(p)))
    i, j = np.triu_indices(p.n, 1)
    score = tiles.rescore(p, i, j)  # small integers: exact in float32 too
    excluded = (p.image[i] >= 0) & (p.image[i] == p.image[j])
    mated = p.subject[i] == p.subject[j]
    level = np.searchsorted(edges, score, side="right")
    expected = np.zeros_like(state["nonmated"])
    keep = ~excluded & ~mated
    np.add.at(expected, (p.group[i[keep]], p.group[j[keep]], level[keep]), 1)
    np.testing.assert_array_equal(state["nonmated"], expected)
    own = np.zeros_like(state["mated"])
    keep = ~excluded & mated
    np.add.at(own, (p.group[i[keep]], level[keep]), 1)
    np.testing.assert_array_equal(state["mated"], own)
    assert state["excluded"].sum() == excluded.sum()
    # By subject: each comparison stands once on either side, and the cells add up to the grid's.
    t = 0.0 + tiles.fp32_bound(p) + 0.25
    nonmated, by_person = pairs.by_subject(measure, state, [t])
    recount = pairs.recount_at(measure, state, [t])
    np.testing.assert_array_equal(nonmated[:, 0].sum(axis=(0, 1)), nonmated[:, 1].sum(axis=(0, 1)))
    np.testing.assert_array_equal(nonmated[:, 0].sum(axis=(0, 1)), recount["nonmated"].sum(axis=(0, 1)))
    np.testing.assert_array_equal(by_person.sum(axis=0), recount["mated"].sum(axis=0))
    assert recount["nonmated"][:, :, 1].sum() == (~excluded & ~mated & (score >= t)).sum()
    groups = pairs.group_of_subject(p)
    as_first = np.zeros((p.groups, p.groups, 2), np.int64)
    np.add.at(as_first, groups, nonmated[:, 0])
    np.testing.assert_array_equal(as_first, recount["nonmated"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=40, unique=True),
    st.lists(st.floats(-1e7, 1e7, width=32, allow_subnormal=False), min_size=1, max_size=60),
)
def test_levels_are_exact_for_any_edges(edges: list[float], scores: list[float]) -> None:
    table = binning.table(np.unique(np.array(edges, np.float32)))
    held = np.resize(np.array(scores, np.float32), (256, 128))
    out = np.zeros(len(table.edges) + 1, np.int64)
    binning._rectangle(
        held, 0, 256, 0, 128, np.zeros(256, np.int64), table.edges, table.base, table.cell, table.odd, table.per,
        table.first, table.last, table.direct, np.float32(np.inf), np.zeros(128, np.uint32),
        np.zeros((binning.LANES, table.cells), np.int32), np.zeros(len(table.odd), np.int64), np.zeros(256, np.int32), out,
    )  # fmt: skip
    expected = np.bincount(np.searchsorted(table.edges, held.ravel(), side="right"), minlength=len(out))
    np.testing.assert_array_equal(out, expected)
