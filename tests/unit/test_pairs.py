"""All pairs of templates: counts, lists and exclusions against brute force, and input that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audit_toolkit.core import binning, pairs, tiles
from audit_toolkit.core.fold import Batch, digest, from_bytes, to_bytes
from audit_toolkit.engines.fold import fold
from audit_toolkit.engines.local import local
from audit_toolkit.errors import AuditError, StateError, UsageError


@dataclass
class Given:
    vectors: NDArray[Any]
    subject: NDArray[np.int32]
    image: NDArray[np.int32]
    group: NDArray[np.int32]
    groups: int


def people(n: int = 300, d: int = 24, subjects: int = 60, groups: int = 3, seed: int = 1, shared: int = 0) -> Given:
    rng = np.random.Generator(np.random.PCG64(seed))
    subject = rng.integers(0, subjects, n).astype(np.int32)
    group = rng.integers(0, groups, subjects).astype(np.int32)[subject]
    vectors = rng.standard_normal((subjects, d))[subject] + 0.7 * rng.standard_normal((n, d))
    image = rng.integers(-1, shared, n).astype(np.int32) if shared else np.arange(n, dtype=np.int32)
    return Given(vectors.astype(np.float32), subject, image, group, groups)


def prepare(given: Given, metric: str = "cosine", tile: int = 64, **more: Any) -> tiles.Prepared:
    return tiles.prepare(
        given.vectors, given.subject, given.image, given.group, given.groups, metric, tile=tile, **more
    )


def run(measure: pairs.PairCounts, workers: int = 1, per: int | None = None, backwards: bool = False) -> dict[str, Any]:
    parts = tiles.partitions(measure.prepared, per)
    with tiles.one_blas_thread():
        return fold([measure], parts[::-1] if backwards else parts, local(workers))[0]


def float32_scores(p: tiles.Prepared) -> NDArray[np.float32]:
    """The tiles' own scores, put together."""
    out = np.zeros((len(p.rows), len(p.rows)), np.float32)
    t = p.tile
    with tiles.one_blas_thread():
        for i, j in tiles.tiles(p):
            out[i * t : i * t + t, j * t : j * t + t] = tiles.score_tile(p, int(i), int(j))
    return out


def exact_scores(p: tiles.Prepared) -> NDArray[np.float64]:
    rows = p.rows[: p.n].astype(np.float64)
    if p.metric == "l2":
        return -np.square(rows[:, None, :] - rows[None, :, :]).sum(axis=2)
    return np.einsum("id,jd->ij", rows, rows)


def brute(p: tiles.Prepared, score: NDArray[Any], edges: NDArray[np.float32]) -> dict[str, Any]:
    """Pair by pair, in plain Python."""
    nonmated = np.zeros((p.groups, p.groups, len(edges) + 1), np.int64)
    mated = np.zeros((p.groups, len(edges) + 1), np.int64)
    excluded = np.zeros((p.groups, p.groups, 2), np.int64)
    for i, j in combinations(range(p.n), 2):
        g, h = sorted((int(p.group[i]), int(p.group[j])))
        same = p.subject[i] == p.subject[j]
        if p.image[i] >= 0 and p.image[i] == p.image[j]:
            excluded[g, h, int(same)] += 1
            continue
        level = sum(1 for e in edges if score[i, j] >= e)
        if same:
            mated[g, level] += 1
        else:
            nonmated[g, h, level] += 1
    return {"nonmated": nonmated, "mated": mated, "excluded": excluded}


@pytest.mark.parametrize("metric", tiles.METRICS)
@pytest.mark.parametrize("tile", [32, 64, 512])
def test_counts_equal_a_loop_over_pairs(metric: str, tile: int) -> None:
    given = people(230, shared=40)
    p = prepare(given, metric, tile)
    scores = float32_scores(p)
    low, high = float(scores.min()), float(scores.max())
    edges = binning.even_edges(low, high, 64, [low + 0.61 * (high - low)])
    state = run(pairs.PairCounts(p, edges))
    for name, expected in brute(p, scores, edges).items():
        np.testing.assert_array_equal(state[name], expected, err_msg=name)
    assert state["excluded"].sum() > 0
    assert state["nonmated"].sum() + state["mated"].sum() + state["excluded"].sum() == p.pairs


@pytest.mark.parametrize("kind", ["even", "odd few", "odd many", "one"])
def test_counts_of_large_rectangles_are_exact_for_every_kind_of_grid(kind: str) -> None:
    given = people(700, 16, 300, groups=1)
    p = prepare(given, tile=512)
    score = float32_scores(p)
    rng = np.random.Generator(np.random.PCG64(4))
    # Edges that are observed scores, so that "at or above" is put to the test.
    observed = np.unique(score[:200, 300:500])
    edges = {
        "even": binning.even_edges(-1, 1, 1000),
        "odd few": binning.even_edges(-0.5, 0.5, 500, rng.choice(observed, 9)),
        "odd many": np.unique(rng.choice(observed, 400)),
        "one": observed[5000:5001],
    }[kind].astype(np.float32)
    assert binning.table(edges).direct == (kind == "odd many")
    state = run(pairs.PairCounts(p, edges))
    i, j = np.triu_indices(p.n, 1)
    keep = p.subject[i] != p.subject[j]
    level = np.searchsorted(edges, score[i[keep], j[keep]], side="right")
    np.testing.assert_array_equal(state["nonmated"][0, 0], np.bincount(level, minlength=len(edges) + 1))


def test_edges_and_their_neighbours_in_float32_fall_on_the_right_side() -> None:
    edges = binning.even_edges(-0.7, 0.9, 300, [0.1234567, -0.3, 0.5, 1e-30])
    values = np.concatenate([np.nextafter(edges, np.float32(-9)), edges, np.nextafter(edges, np.float32(9))])
    values = np.concatenate([values, np.array([-50, 50, 0.0, -0.0, 1e30, -1e30], np.float32)]).astype(np.float32)
    t = binning.table(edges)
    size = 256
    scores = np.resize(values, (size, size)).astype(np.float32)
    out = np.zeros(len(edges) + 1, np.int64)
    binning._rectangle(
        scores, 0, size, 0, size, np.zeros(size, np.int64), t.edges, t.base, t.cell, t.odd, t.per, t.first, t.last,
        t.direct, np.float32(np.inf), np.zeros(size, np.uint32), np.zeros((binning.LANES, t.cells), np.int32),
        np.zeros(len(t.odd), np.int64), np.zeros(size, np.int32), out,
    )  # fmt: skip
    expected = np.bincount(np.searchsorted(edges, scores.ravel(), side="right"), minlength=len(edges) + 1)
    np.testing.assert_array_equal(out, expected)


def test_list_holds_every_pair_from_a_score_on_and_near_thresholds() -> None:
    p = prepare(people(300, shared=30))
    score = float32_scores(p)
    near = float(np.quantile(score, 0.2))
    measure = pairs.PairCounts(p, binning.even_edges(-1, 1, 64), listed_from=0.4, near=(near,))
    state = run(measure)
    bound = tiles.fp32_bound(p)
    expected, mates = set(), set()
    for i, j in combinations(range(p.n), 2):
        if p.image[i] >= 0 and p.image[i] == p.image[j]:
            continue
        if p.subject[i] == p.subject[j]:
            mates.add((i, j))
        elif score[i, j] >= np.float32(0.4) or abs(float(score[i, j]) - near) <= bound:
            expected.add((i, j))
    listed = list(zip(state["listed_i"].tolist(), state["listed_j"].tolist(), strict=True))
    assert expected <= set(listed)
    assert len(set(listed)) == len(listed) <= len(expected) + 2  # ranges are rounded outwards
    assert listed == sorted(listed)
    np.testing.assert_array_equal(state["listed_score"].view(np.float32), score[state["listed_i"], state["listed_j"]])
    assert set(zip(state["own_i"].tolist(), state["own_j"].tolist(), strict=True)) == mates
    np.testing.assert_array_equal(state["own_score"].view(np.float32), score[state["own_i"], state["own_j"]])


def test_a_list_that_overflows_keeps_the_highest_whatever_the_order() -> None:
    p = prepare(people(300))
    edges = binning.even_edges(-1, 1, 64)
    whole = run(pairs.PairCounts(p, edges, listed_from=0.0))
    measure = pairs.PairCounts(p, edges, listed_from=0.0, most_listed=100, most_own=3)
    found = [run(measure, workers, per, back) for workers, per, back in ((1, 1, False), (2, 1, True), (3, 2, False))]
    assert len({digest(measure, s) for s in found}) == 1
    state = found[0]
    top = np.sort(whole["listed_score"].view(np.float32))[::-1]
    np.testing.assert_array_equal(np.sort(state["listed_score"].view(np.float32))[::-1], top[:100])
    assert state["listed_more"][0] == len(top) - 100
    assert len(state["own_i"]) == 0
    assert pairs.complete_from(measure, state) > top[99]
    with pytest.raises(AuditError, match="does not reach down"):
        pairs.false_matches(measure, state, [float(top[150])])
    with pytest.raises(AuditError, match="cannot be settled"):
        pairs.recount_at(measure, state, [float(top[150])])
    assert len(pairs.false_matches(measure, state, [float(top[50])])["i"]) >= 50


@pytest.mark.parametrize("metric", tiles.METRICS)
def test_recounts_are_those_of_float64_for_every_tile_shape(metric: str) -> None:
    given = people(400, 33, shared=60)
    # Exact duplicates and near duplicates across people make scores that stand at a threshold.
    given.vectors[1::7] = given.vectors[0::7][: len(given.vectors[1::7])]
    found = []
    for tile in (32, 96, 512):
        p = prepare(given, metric, tile)
        exact = exact_scores(p)
        i, j = np.triu_indices(p.n, 1)
        kept = ~((p.image[i] >= 0) & (p.image[i] == p.image[j]))
        i, j = i[kept], j[kept]
        other = p.subject[i] != p.subject[j]
        values = np.sort(exact[i[other], j[other]])
        asked = np.unique(np.float32([values[-3], values[-200], values[-5000]])).astype(np.float64)
        edges = binning.even_edges(float(values[0]), float(values[-1]), 128, asked)
        measure = pairs.PairCounts(p, edges, listed_from=float(asked[1]) - 0.01, near=tuple(asked))
        recount = pairs.recount_at(measure, run(measure, 2), asked)
        scores = tiles.rescore(p, i, j)
        np.testing.assert_allclose(scores, exact[i, j], rtol=0, atol=1e-12 * (1 + abs(exact).max()))
        for t, value in enumerate(asked):
            reach = scores >= value
            expected = np.zeros((p.groups, p.groups), np.int64)
            np.add.at(expected, (p.group[i[other]], p.group[j[other]]), reach[other])
            np.testing.assert_array_equal(recount["nonmated"][:, :, 1 + t], expected)
            own = np.bincount(p.group[i[~other]], reach[~other], p.groups)
            np.testing.assert_array_equal(recount["mated"][:, 1 + t], own)
        assert recount["nonmated"][:, :, 0].sum() == other.sum()
        found.append(recount)
    for later in found[1:]:
        for name in ("nonmated", "mated"):
            np.testing.assert_array_equal(found[0][name], later[name])


@pytest.mark.parametrize("metric", tiles.METRICS)
def test_float32_scores_stay_within_the_bound(metric: str) -> None:
    given = people(200, 512)
    given.vectors *= np.linspace(0.1, 30, 200, dtype=np.float32)[:, None]
    p = prepare(given, metric)
    i, j = np.triu_indices(p.n, 1)
    error = np.abs(float32_scores(p)[i, j] - tiles.rescore(p, i, j)).max()
    assert 0 < error <= tiles.fp32_bound(p)


def test_counts_by_subject_equal_a_loop_over_pairs() -> None:
    p = prepare(people(260, shared=25))
    asked = np.array([0.3, 0.55])
    measure = pairs.PairCounts(p, binning.even_edges(-1, 1, 32), listed_from=0.25)
    nonmated, mated = pairs.by_subject(measure, run(measure), asked)
    expected = np.zeros_like(nonmated)
    own = np.zeros_like(mated)
    exact = exact_scores(p)
    for i, j in combinations(range(p.n), 2):
        if p.image[i] >= 0 and p.image[i] == p.image[j]:
            continue
        hits = np.concatenate([[1], exact[i, j] >= asked]).astype(np.int64)
        if p.subject[i] == p.subject[j]:
            own[p.subject[i]] += hits
        else:
            expected[p.subject[i], 0, p.group[j]] += hits
            expected[p.subject[j], 1, p.group[i]] += hits
    np.testing.assert_array_equal(nonmated, expected)
    np.testing.assert_array_equal(mated, own)
    matches = pairs.false_matches(measure, run(measure), asked)
    assert len(matches["i"]) == expected[:, 0, :, 1].sum()
    assert (matches["level"] == 2).sum() == expected[:, 0, :, 2].sum()


def test_mated_counts_are_made_in_pieces() -> None:
    given = people(2200, 4, subjects=2, groups=1)
    p = prepare(given)
    by_person = pairs.mated_at(p, [0.5])
    exact = exact_scores(p)
    i, j = np.triu_indices(p.n, 1)
    for s in range(2):
        own = (p.subject[i] == s) & (p.subject[j] == s)
        assert by_person[s].tolist() == [own.sum(), (exact[i, j][own] >= 0.5).sum()]


def test_states_do_not_depend_on_workers_or_order_and_survive_bytes() -> None:
    p = prepare(people(500, shared=90), tile=64)
    measure = pairs.PairCounts(p, binning.even_edges(-1, 1, 256, [0.21]), listed_from=0.2, near=(0.21,))
    states = [run(measure, w, per, back) for w, per, back in ((1, None, False), (2, 1, True), (3, 5, False))]
    assert len({digest(measure, s) for s in states}) == 1
    again = from_bytes(measure, to_bytes(measure, states[0]))
    assert digest(measure, again) == digest(measure, states[0])
    assert digest(measure, measure.merge(measure.zero(), again)) == digest(measure, states[0])
    other = pairs.PairCounts(p, binning.even_edges(-1, 1, 64))
    with pytest.raises(StateError):
        other.merge(other.zero(), states[0])


def test_unusable_rows_are_counted_and_never_compared() -> None:
    given = people(120)
    given.vectors[3] = 0
    given.vectors[5, 2] = np.nan
    given.vectors[6, 0] = np.inf
    given.subject[8] = -1
    given.group[9] = -1
    p = prepare(given)
    told = {tiles.UNUSABLE[k]: int(n) for k, n in enumerate(np.bincount(p.unusable, minlength=5))}
    assert told == {
        "": 115, "no subject or group": 2, "not a finite number": 2, "a zero vector under cosine": 1, "values too large": 0,
    }  # fmt: skip
    assert not set(p.order.tolist()) & {3, 5, 6, 8, 9}
    state = run(pairs.PairCounts(p, binning.even_edges(-1, 1, 16)))
    assert state["nonmated"].sum() + state["mated"].sum() == 115 * 114 // 2
    given.vectors[10] = 1e30
    assert prepare(given, "inner").unusable[10] == 4
    assert prepare(given, "inner").unusable[3] == 0
    assert prepare(given).unusable[10] == 0


def test_order_is_by_group_subject_and_place_and_cosine_rows_have_unit_length() -> None:
    given = people(100)
    given.vectors *= 100
    p = prepare(given)
    keys = list(zip(p.group.tolist(), p.subject.tolist(), p.order.tolist(), strict=True))
    assert keys == sorted(keys)
    np.testing.assert_allclose(np.linalg.norm(p.rows[: p.n].astype(np.float64), axis=1), 1, atol=1e-7)
    assert not p.rows[p.n :].any()
    assert len(p.rows) % p.tile == 0
    half = Given(given.vectors.astype(np.float16), given.subject, given.image, given.group, 3)
    assert prepare(half).rows.dtype == np.float32
    assert prepare(half).digest != p.digest


def test_memory_mapped_vectors_and_a_copy_on_disk_give_the_same(tmp_path: Path) -> None:
    given = people(150)
    np.save(tmp_path / "v.npy", given.vectors)
    p = prepare(given)
    given.vectors = np.load(tmp_path / "v.npy", mmap_mode="r")
    mapped = prepare(given, most_bytes=1000, scratch=tmp_path)
    assert isinstance(mapped.rows, np.memmap)
    assert mapped.digest == p.digest
    measures = [pairs.PairCounts(x, binning.even_edges(-1, 1, 16)) for x in (p, mapped)]
    assert len({digest(m, run(m)) for m in measures}) == 1
    with pytest.raises(UsageError, match="folder"):
        prepare(given, most_bytes=1000)


def test_input_that_cannot_be_meant_is_refused() -> None:
    given = people(50)
    with pytest.raises(UsageError, match="metric"):
        prepare(given, "manhattan")
    with pytest.raises(UsageError, match="one row a template"):
        tiles.prepare(np.zeros(4, np.float32), given.subject, None, given.group, 3)
    with pytest.raises(UsageError, match="one row a template"):
        tiles.prepare(np.zeros((50, 3), np.int32), given.subject, None, given.group, 3)
    with pytest.raises(UsageError, match="equally many"):
        tiles.prepare(given.vectors, given.subject[:9], None, given.group, 3)
    with pytest.raises(UsageError, match="beyond"):
        tiles.prepare(given.vectors, given.subject, None, given.group, 1)
    twice = int(np.bincount(given.subject).argmax())
    given.group[np.flatnonzero(given.subject == twice)[-1]] += 1
    given.groups = 5
    with pytest.raises(AuditError, match="two groups"):
        prepare(given)
    p = prepare(people(50))
    for edges in (np.array([0.1, 0.1], np.float32), np.array([0.1]), np.array([], np.float32), np.float32([np.nan])):
        with pytest.raises(UsageError, match="ascending"):
            pairs.PairCounts(p, edges)
    with pytest.raises(AuditError, match="memory"):
        pairs.PairCounts(prepare(Given(**{**people(50).__dict__, "groups": 4000})), binning.even_edges(-1, 1, 64))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_templates(n: int) -> None:
    given = people(4)
    few = Given(given.vectors[:n], given.subject[:n], given.image[:n], given.group[:n], 3)
    p = prepare(few)
    measure = pairs.PairCounts(p, binning.even_edges(-1, 1, 16), listed_from=-2.0)
    state = run(measure)
    assert state["nonmated"].sum() + state["mated"].sum() == p.pairs == n * (n - 1) // 2
    assert pairs.recount_at(measure, state, [0.0])["nonmated"][:, :, 0].sum() == state["nonmated"].sum()


def test_one_batch_counts_its_pairs() -> None:
    p = prepare(people(150), tile=64)
    batches = [b for part in tiles.partitions(p, 2) for b in part()]
    assert sum(b.n for b in batches) == p.pairs
    assert [len(b["tile"]) for b in batches] == [2, 2, 2]
    measure = pairs.PairCounts(p, binning.even_edges(-1, 1, 16))
    state = measure.zero()
    measure.update(state, Batch({"tile": np.array([[0, 1]], np.int32)}, 64 * 64))
    assert state["nonmated"].sum() + state["mated"].sum() == 64 * 64
