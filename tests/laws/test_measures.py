"""Every measure keeps the laws of a fold: identity, any order, any grouping, any cut, bytes there and back, and a slow twin."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.core.cells import replicate_bits
from audit_toolkit.core.fold import Batch, Measure, State, digest, from_bytes, to_bytes
from audit_toolkit.disparity.measures import (
    FalseMatches,
    GridCounts,
    ReplicateCounts,
    Scheme,
    ScoresInRange,
    StratumCounts,
    SubjectCounts,
)
from audit_toolkit.disparity.pairs import PairCounts
from audit_toolkit.errors import StateError

PEOPLE, GROUPS = 12, 3
GROUP = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1, 1, 2, 0], np.int32)
EDGES = np.array([-0.5, 0.0, 0.25, 0.25000003, 0.7, 0.9], np.float32)
FEW = np.array([0.25, 0.7], np.float32)
SCHEME = Scheme(GROUP, GROUPS, "codebook")
BITS = replicate_bits(np.arange(PEOPLE, dtype=np.uint64) * np.uint64(7919), 5, 128)


def rows(seed: int, n: int, *, weighted: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ref = rng.integers(0, PEOPLE, n).astype(np.int32)
    mated = (rng.random(n) < 0.3).astype(np.uint8)
    other = (ref + rng.integers(1, PEOPLE, n)) % PEOPLE
    pool = np.concatenate([EDGES, np.nextafter(EDGES, np.float32(9)), np.nextafter(EDGES, np.float32(-9))])
    score = np.where(rng.random(n) < 0.4, rng.choice(pool, n), rng.normal(0.3, 0.5, n)).astype(np.float32)
    made = {
        "ref": ref,
        "probe": np.where(mated == 1, ref, other).astype(np.int32),
        "mated": mated,
        "score": score,
        "x.camera": rng.integers(0, 2, n).astype(np.int32),
    }
    return {**made, "weight": rng.integers(1, 5, n)} if weighted else made


def batch(arrays: dict[str, np.ndarray], keep: Any = slice(None)) -> Batch:
    cut = {name: np.ascontiguousarray(values[keep]) for name, values in arrays.items()}
    return Batch(cut, len(cut["ref"]))


MEASURES: dict[str, Measure] = {
    "grid": GridCounts(SCHEME, EDGES),
    "subject": SubjectCounts(SCHEME, FEW),
    "replicate": ReplicateCounts(SCHEME, FEW, BITS),
    "stratum": StratumCounts(SCHEME, "camera", 2, np.float32(0.25)),
    "list": FalseMatches(SCHEME, FEW),
    "range": ScoresInRange(SCHEME, np.float32(0.0), np.float32(0.7), np.dtype(np.float32)),
    "pairs": PairCounts(SCHEME, FEW),
}


def fold(measure: Measure, batches: Iterator[Batch] | list[Batch]) -> State:
    state = measure.zero()
    for b in batches:
        measure.update(state, b)
    return measure.merge(measure.zero(), state)


def each_row(arrays: dict[str, np.ndarray]) -> Iterator[tuple[int, int, int, np.float32, int, int]]:
    weight = arrays.get("weight", np.ones(len(arrays["ref"]), np.int64))
    for r in range(len(arrays["ref"])):
        yield (
            int(arrays["ref"][r]), int(arrays["probe"][r]), int(arrays["mated"][r]), arrays["score"][r],
            int(arrays["x.camera"][r]), int(weight[r]),
        )  # fmt: skip


def level(score: np.float32, edges: np.ndarray) -> int:
    return sum(1 for e in edges if score >= e)


def slow(name: str, arrays: dict[str, np.ndarray]) -> dict[str, Counter[tuple[int, ...]]]:
    """The same counts, one row at a time, in plain Python."""
    out: dict[str, Counter[tuple[int, ...]]] = {}

    def add(key: str, cell: tuple[int, ...], w: int) -> None:
        out.setdefault(key, Counter())[cell] += w

    for i, j, m, s, x, w in each_row(arrays):
        gi, gj = int(GROUP[i]), int(GROUP[j])
        if name == "grid":
            add("mated", (gi, level(s, EDGES)), w) if m else add("nonmated", (gi, gj, level(s, EDGES)), w)
        elif name == "subject":
            k = level(s, FEW)
            if m:
                add("mated", (i, k), w)
            else:
                add("nonmated", (i, 0, gj, k), w)
                add("nonmated", (j, 1, gi, k), w)
        elif name == "replicate":
            k = level(s, FEW)
            cell = (GROUPS * GROUPS + gi) * 3 + k if m else (gi * GROUPS + gj) * 3 + k
            for b in range(128):
                if (int(BITS[i, b // 64]) >> (b % 64)) & (int(BITS[j, b // 64]) >> (b % 64)) & 1:
                    add("replicate", (cell, b), w)
        elif name == "stratum" and gi == gj:
            wrong = (not (s >= np.float32(0.25))) if m else bool(s >= np.float32(0.25))
            for e in (0, 1) if wrong else (0,):
                add("cells", (m, gi, x, e), w)
                add("mated" if m else "nonmated", (i, x, e), w)
                if not m:
                    add("nonmated", (j, x, e), w)
    return out


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["grid", "subject", "replicate", "stratum"])
def test_kernel_equals_its_slow_twin(name: str, weighted: bool) -> None:
    arrays = rows(3, 700, weighted=weighted)
    state = fold(MEASURES[name], [batch(arrays)])
    expected = slow(name, arrays)
    for key, values in state.items():
        got = {tuple(int(c) for c in cell): int(values[tuple(cell)]) for cell in np.argwhere(values)}
        assert got == dict(expected.get(key, {})), key


@pytest.mark.parametrize("weighted", [False, True])
def test_lists_equal_their_slow_twins(weighted: bool) -> None:
    arrays = rows(4, 500, weighted=weighted)
    listed = fold(MEASURES["list"], [batch(arrays)])
    expected = sorted((i, j, level(s, FEW), w) for i, j, m, s, _, w in each_row(arrays) if not m and s >= FEW[0])
    assert sorted(zip(*(listed[k].tolist() for k in ("ref", "probe", "level", "weight")), strict=True)) == expected
    ranged = fold(MEASURES["range"], [batch(arrays)])
    inside: Counter[tuple[Any, ...]] = Counter()
    for i, j, m, s, _, w in each_row(arrays):
        if np.float32(0.0) <= s < np.float32(0.7):
            inside[float(s), int(GROUP[i]), int(GROUP[j]), m] += w
    got = zip(
        ranged["score"].view(np.float32).tolist(), ranged["ref_group"].tolist(), ranged["probe_group"].tolist(),
        ranged["mated"].tolist(), ranged["weight"].tolist(), strict=True,
    )  # fmt: skip
    assert {tuple(g[:4]): g[4] for g in got} == dict(inside)
    paired = fold(MEASURES["pairs"], [batch(arrays)])
    pairs: Counter[tuple[int, int]] = Counter()
    for i, j, m, s, _, w in each_row(arrays):
        if not m:
            pairs[i << 32 | j, level(s, FEW)] += w
    assert dict(
        zip(zip(paired["pair"].tolist(), paired["level"].tolist(), strict=True), paired["n"].tolist(), strict=True)
    ) == dict(pairs)


@pytest.mark.parametrize("name", MEASURES)
def test_identity_commutes_and_associates(name: str) -> None:
    measure = MEASURES[name]
    parts = [batch(rows(seed, 90)) for seed in (1, 2, 3)]

    def alone(k: int) -> State:
        return fold(measure, [parts[k]])

    whole = digest(measure, fold(measure, parts))
    assert digest(measure, measure.merge(measure.zero(), alone(0))) == digest(measure, alone(0))
    assert digest(measure, measure.merge(alone(0), measure.zero())) == digest(measure, alone(0))
    for a, b, c in permutations(range(3)):
        assert digest(measure, measure.merge(measure.merge(alone(a), alone(b)), alone(c))) == whole
        assert digest(measure, measure.merge(alone(a), measure.merge(alone(b), alone(c)))) == whole


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=6), seed=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_any_cut_and_any_order_give_the_same_digest(name: str, cuts: list[int], seed: int, order: Any) -> None:
    measure = MEASURES[name]
    arrays = rows(seed, 300, weighted=seed % 2 == 1)
    shuffled = list(range(300))
    order.shuffle(shuffled)
    bounds = [0, *sorted(cuts), 300]
    pieces = [batch(arrays, shuffled[a:b]) for a, b in pairwise(bounds)]
    assert digest(measure, fold(measure, pieces)) == digest(measure, fold(measure, [batch(arrays)]))


@pytest.mark.parametrize("name", MEASURES)
def test_bytes_there_and_back(name: str) -> None:
    measure = MEASURES[name]
    state = fold(measure, [batch(rows(9, 200))])
    data = to_bytes(measure, state)
    back = from_bytes(measure, data)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[k], state[k]) and back[k].dtype == state[k].dtype for k in state)
    assert digest(measure, back) == digest(measure, state)
    for damaged in (data[:-1], data + b"\0", b"x" + data, data[: len(data) // 2]):
        with pytest.raises(StateError):
            from_bytes(measure, damaged)
    flipped = bytearray(data)
    flipped[-1] ^= 1
    with pytest.raises(StateError):
        from_bytes(measure, bytes(flipped))


def test_states_of_other_measures_are_refused() -> None:
    a, b = MEASURES["subject"], SubjectCounts(SCHEME, np.array([0.25, 0.8], np.float32))
    data = to_bytes(a, fold(a, [batch(rows(1, 50))]))
    with pytest.raises(StateError, match="another measure or to other parameters"):
        from_bytes(b, data)
    with pytest.raises(StateError, match="different shapes"):
        a.merge(a.zero(), MEASURES["grid"].zero())


@pytest.mark.parametrize("name", MEASURES)
def test_measures_travel(name: str) -> None:
    measure = MEASURES[name]
    copy = pickle.loads(pickle.dumps(measure))  # noqa: S301 - our own bytes, made a line ago
    state = fold(measure, [batch(rows(2, 60))])
    assert digest(copy, state) == digest(measure, state)
    assert hash(measure) is not None


@pytest.mark.parametrize("name", [n for n in MEASURES if n != "stratum"])
def test_a_refused_batch_leaves_the_state_as_it_was(name: str) -> None:
    measure = MEASURES[name]
    if name in ("range", "pairs"):
        pytest.skip("these take any score type")
    state = fold(measure, [batch(rows(1, 40))])
    before = digest(measure, state)
    wrong = rows(2, 40)
    wrong["score"] = wrong["score"].astype(np.float64)
    with pytest.raises(Exception, match="different number types"):
        measure.update(state, batch(wrong))
    assert digest(measure, state) == before


def test_an_edge_is_exact_in_the_scores_own_type() -> None:
    edge = np.array([0.7], np.float32)
    arrays = {
        "ref": np.array([0, 0, 0], np.int32),
        "probe": np.array([3, 3, 3], np.int32),
        "mated": np.zeros(3, np.uint8),
        "score": np.array(
            [0.7, np.nextafter(np.float32(0.7), np.float32(0)), np.nextafter(np.float32(0.7), np.float32(1))],
            np.float32,
        ),
    }
    state = fold(GridCounts(SCHEME, edge), [batch(arrays)])
    assert state["nonmated"][0, 0].tolist() == [1, 2]
