"""The 8-bit path against scoring every pair: bounds that hold, counts and digests that are equal, refusals that say why."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.core import certified, int8
from audit_toolkit.core.certified import choose_path, count_above, floor_of, nonmated_totals
from audit_toolkit.core.fold import digest_arrays
from audit_toolkit.core.int8 import Multiplier, open_session, products_are_exact, quantise
from audit_toolkit.core.pairs import PairCounts, false_matches, group_of_subject, mated_at, recount_at
from audit_toolkit.core.tiles import one_blas_thread, partitions, prepare, rescore
from audit_toolkit.engines.fold import fold
from audit_toolkit.engines.local import local
from audit_toolkit.errors import AuditError, InputError, MissingExtraError, UsageError

try:
    import onnxruntime  # noqa: F401

    _INSTALLED = True
except ImportError:
    _INSTALLED = False
needs_runtime = pytest.mark.skipif(not _INSTALLED, reason="onnxruntime is an optional package")


def templates(n, d, *, kind="random", seed=0, groups=3, per=3, images=True, metric="cosine", tile=64):
    rng = np.random.Generator(np.random.PCG64(seed))
    subject = np.arange(n, dtype=np.int32) // per
    group = (subject % groups).astype(np.int32)
    image = np.full(n, -1, np.int32)
    if images:
        image[::2] = rng.integers(0, max(2, n // 3), len(image[::2]))
    vectors = rng.standard_normal((n, d))
    if kind == "clustered":
        centre = rng.standard_normal((4, d))
        vectors = centre[rng.integers(0, 4, n)] + 0.2 * vectors
    elif kind == "nearly equal":
        vectors = rng.standard_normal(d) + 1e-7 * vectors
    elif kind == "outliers":
        vectors[np.arange(n), rng.integers(0, d, n)] *= 1e4
    elif kind == "no residual":
        vectors = rng.integers(-127, 128, (n, d)).astype(float)
        vectors[:, 0] = 127
        # Scales of twelve bits: rows are exact in float32, products of two scales are not.
        vectors *= rng.integers(2049, 4096, (n, 1)) / 4096
    elif kind == "against":
        # Every second row points along what quantising leaves of the row before, so that one half of the bound is all used.
        scale = np.float32(np.abs(vectors).max(1, keepdims=True)) / np.float32(127)
        left = vectors - np.rint(vectors / scale) * scale
        vectors[1::2] = 127 * np.sign(left[: 2 * (n // 2) : 2])
    elif kind == "scales":
        vectors *= 10.0 ** rng.uniform(-18, 17, (n, 1))
    elif kind == "duplicates":
        vectors = vectors[rng.integers(0, 5, n)]
    if kind != "random" and metric == "inner":
        vectors[n // 2] = 0
    return prepare(vectors.astype(np.float32), subject, image, group, groups, metric, tile=tile)


def slow(p, thresholds):
    """Every pair scored exactly, one at a time."""
    t = len(thresholds)
    nonmated, mated = np.zeros((p.groups, p.groups, 1 + t), np.int64), np.zeros((p.groups, 1 + t), np.int64)
    i, j = np.triu_indices(p.n, 1)
    score = rescore(p, i, j)
    pairs = []
    for a, b, s in zip(i.tolist(), j.tolist(), score.tolist(), strict=True):
        if p.image[a] >= 0 and p.image[a] == p.image[b]:
            continue
        row = mated[p.group[a]] if p.subject[a] == p.subject[b] else nonmated[p.group[a], p.group[b]]
        row[0] += 1
        for k, threshold in enumerate(thresholds):
            row[1 + k] += s >= threshold
        if p.subject[a] != p.subject[b] and s >= thresholds[0]:
            pairs.append((a, b, s))
    return {"nonmated": nonmated, "mated": mated}, pairs


def asked_of(p, shares=(0.5, 0.9, 0.99, 1.0)):
    """Thresholds that stand exactly on scores, one just above the highest, and one no pair is near."""
    i, j = np.triu_indices(p.n, 1)
    score = np.sort(rescore(p, i, j))
    on = [score[min(len(score) - 1, int(q * len(score)))] for q in shares]
    return np.unique([*on, np.nextafter(score[-1], np.inf), score[len(score) // 2] + 1e-9])


KINDS = ("random", "clustered", "nearly equal", "outliers", "no residual", "duplicates", "against")


@needs_runtime
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("d", "metric"), [(64, "cosine"), (37, "inner"), (5, "cosine")])
def test_counts_equal_those_of_scoring_every_pair(kind, d, metric):
    p = templates(150, d, kind=kind, metric=metric)
    thresholds = asked_of(p)
    found = count_above(quantise(p), thresholds)
    counts, pairs = slow(p, thresholds)
    assert digest_arrays(found.counts()) == digest_arrays(counts)
    assert list(zip(found.i.tolist(), found.j.tolist(), found.score.tolist(), strict=True)) == pairs
    assert found.overflow == 0
    assert found.rescored >= len(pairs)


@needs_runtime
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_rows_of_wildly_different_length_keep_their_counts():
    p = templates(130, 24, kind="scales", metric="inner")
    for thresholds in ([0.0, 1.0], [-1e20, 1e-30, 1e20], [1e-38], [3e34]):
        found = count_above(quantise(p), thresholds)
        counts, pairs = slow(p, thresholds)
        assert digest_arrays(found.counts()) == digest_arrays(counts)
        assert len(found.i) == len(pairs)


@needs_runtime
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_counts_pairs_and_digests_equal_those_of_the_float32_path(kind):
    p = templates(700, 128, kind=kind, seed=3, tile=128)
    thresholds = asked_of(p, (0.98, 0.999, 0.9999))[1:]  # not the median
    grid = np.linspace(-1, 1, 200, dtype=np.float32)
    measure = PairCounts(p, grid, listed_from=float(thresholds[0]) - 1e-3)
    with one_blas_thread():
        (state,) = fold([measure], partitions(p), local(2))
    found = count_above(quantise(p), thresholds)
    assert digest_arrays(found.counts()) == digest_arrays(recount_at(measure, state, thresholds))
    assert digest_arrays(found.matches()) == digest_arrays(false_matches(measure, state, thresholds))
    assert np.array_equal(found.excluded, state["excluded"])
    assert np.array_equal(found.mated_by_subject, mated_at(p, thresholds))
    assert 0 < len(found.i) < found.rescored < 0.3 * p.pairs


@needs_runtime
def test_neither_threads_nor_tiles_change_anything():
    given_ = {"n": 700, "d": 40, "kind": "clustered", "seed": 5, "images": False}
    thresholds = asked_of(templates(**given_), (0.9, 0.99))
    found = [
        count_above(quantise(templates(**given_, tile=tile), workers=workers), thresholds, workers=workers)
        for tile, workers in ((64, 1), (64, 3), (128, 2), (512, 2))
    ]
    wholes = [{**f.counts(), "i": f.i, "j": f.j, "score": f.score.view(np.int64)} for f in found]
    assert len({digest_arrays(w) for w in wholes}) == 1
    assert len({f.rescored for f in found}) == 1


@needs_runtime
def test_two_templates_and_people_with_one_image():
    p = prepare(np.eye(2, 8, dtype=np.float32), *(np.arange(2, dtype=np.int32),) * 2, np.zeros(2, np.int32), 1, tile=64)
    found = count_above(quantise(p), [0.0, 0.5])
    assert found.nonmated.tolist() == [[[1, 1, 0]]]
    assert found.mated.tolist() == [[0, 0, 0]]


def undecided(q, a, b, floor):
    """Whether the kernel leaves a pair of the first tile undecided: the other columns are given products far below."""
    codes = q.codes[: q.prepared.tile].astype(np.int32) - 128
    products = np.full((1, len(codes)), -(2**30), np.int32)
    products[0, b] = codes[a] @ codes[b]
    out = np.zeros((1, len(codes) // 64), np.int32)
    row, tile = slice(a, a + 1), slice(0, len(codes))
    certified._undecided(products, q.scale[row], q.size[row], q.residual[row], q.scale[tile], q.residual[tile],
                         q.norm[tile], floor, out)  # fmt: skip
    return bool(out[0, b // 64])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([1, 2, 7, 33]),
    st.sampled_from(["random", "outliers", "nearly equal", "no residual", "against", "scales"]), st.sampled_from([0, 0, -14, 14]),
)  # fmt: skip
def test_no_interval_ends_below_the_truth(seed, d, kind, power):
    p = templates(12, d, kind=kind, seed=seed, metric="inner", per=1)
    p = replace(p, rows=p.rows * np.float32(2**power))
    q = quantise(p)
    rows = p.rows.astype(np.float64)
    for a in range(p.n):
        for b in range(p.n):
            truth = math.fsum((rows[a] * rows[b]).tolist())
            assert undecided(q, a, b, floor_of(truth))


@needs_runtime
def test_a_pair_at_the_end_of_its_interval_is_counted():
    p = templates(60, 33, kind="against", per=1, metric="inner", images=False)
    q, place = quantise(p), np.argsort(p.order)
    pairs = np.sort(place.reshape(-1, 2), axis=1)
    for (i, j), score in zip(pairs.tolist(), rescore(p, pairs[:, 0], pairs[:, 1]).tolist(), strict=True):
        found = count_above(q, [score], workers=1)
        assert (i, j) in set(zip(found.i.tolist(), found.j.tolist(), strict=True))


def test_an_interval_that_overflows_has_decided_nothing():
    q = quantise(templates(64, 8, per=1))
    codes = q.codes[:64].astype(np.int32) - 128
    b = int(np.flatnonzero(codes @ codes[3] < 0)[0])
    assert not undecided(q, 3, b, np.float32(2))
    q.scale[b] = q.residual[b] = np.inf  # minus infinity and infinity: not a number
    assert undecided(q, 3, b, np.float32(2))


def test_sizes_of_the_parts_hold_and_padding_is_zero():
    q = quantise(templates(70, 33, kind="outliers"))
    rows = q.prepared.rows.astype(np.float64)
    near = (q.codes - 128.0) * q.scale[:, None].astype(np.float64)
    assert (q.size >= np.linalg.norm(near, axis=1)).all()
    assert (q.residual >= np.linalg.norm(rows - near, axis=1)).all()
    assert (q.norm >= np.linalg.norm(rows, axis=1)).all()
    for values in (q.codes[70:] - np.uint8(128), q.scale[70:], q.size[70:], q.residual[70:], q.norm[70:]):
        assert not values.any()
    assert q.codes.min() >= 1


def test_a_row_without_residual_is_known_to_be_exact():
    q = quantise(templates(64, 40, kind="no residual", metric="inner"))
    near = (q.codes - 128.0) * q.scale[:, None]
    assert np.array_equal(near[: q.prepared.n], q.prepared.rows)
    assert (q.residual <= 2.01 * int8.SLACK * q.norm).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 4), st.integers(1, 5))
def test_totals_in_closed_form(seed, n, groups, per):
    p = templates(n, 4, seed=seed, groups=groups, per=per)
    totals, excluded = nonmated_totals(p)
    expected, left_out = np.zeros_like(totals), np.zeros_like(excluded)
    for i in range(p.n):
        for j in range(i + 1, p.n):
            same = p.subject[i] == p.subject[j]
            if p.image[i] >= 0 and p.image[i] == p.image[j]:
                left_out[p.group[i], p.group[j], int(same)] += 1
            elif not same:
                expected[p.group[i], p.group[j]] += 1
    assert np.array_equal(totals, expected)
    assert np.array_equal(excluded, left_out)


@needs_runtime
def test_integer_products_are_exact_at_their_extremes():
    multiplier = Multiplier(open_session(64, 2048), 64)
    a, b = np.full((64, 2048), 255, np.uint8), np.full((64, 2048), 1, np.uint8)
    multiplier.columns(b)
    assert (multiplier.rows(a) == -127 * 127 * 2048).all()
    assert (multiplier.rows(b) == 127 * 127 * 2048).all()
    assert products_are_exact(multiplier, 64, 2048)


class Saturating:
    """Pairs of products added in 16 bits, as processors without 8-bit dot products do."""

    def columns(self, codes):
        self.b = codes.astype(np.int32) - 128

    def rows(self, codes):
        halves = np.clip(codes[:, None, 0::2] * self.b[:, 0::2] + codes[:, None, 1::2] * self.b[:, 1::2], -32768, 32767)
        return halves.sum(2) - 128 * self.b.sum(1)


def test_saturating_products_are_found_out():
    assert not products_are_exact(Saturating(), 64, 32)


@pytest.fixture
def forgotten():
    open_session.cache_clear()
    yield
    open_session.cache_clear()


@needs_runtime
@pytest.mark.usefixtures("forgotten")
def test_inexact_products_are_refused(monkeypatch):
    monkeypatch.setattr(int8, "products_are_exact", lambda *_: False)
    p = templates(200, 8)
    with pytest.raises(AuditError, match="not exact"):
        count_above(quantise(p), [0.5])
    path, q = choose_path(p, [0.5])
    assert (path.name, q) == (certified.FLOAT32, None)
    assert "not exact" in path.reason


@pytest.mark.usefixtures("forgotten")
def test_without_the_optional_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    p = templates(200, 8)
    with pytest.raises(MissingExtraError, match="fast"):
        count_above(quantise(p), [0.5])
    path, _ = choose_path(p, [0.5])
    assert path.name == certified.FLOAT32
    assert "onnxruntime" in path.reason


@needs_runtime
def test_a_path_is_chosen_by_trial_and_says_why():
    p = templates(300, 64)
    path, q = choose_path(p, [0.9], seconds=0.0, must_gain=0.0)
    assert path.name == certified.CERTIFIED
    assert q is not None
    assert set(path.trial) == {certified.FLOAT32, certified.CERTIFIED}
    assert all(v > 0 for v in path.trial.values())
    path, q = choose_path(p, [0.9], seconds=0.0, must_gain=1e9)
    assert (path.name, q) == (certified.FLOAT32, None)
    assert "times as fast" in path.reason


def test_paths_that_need_no_trial():
    assert "too few" in choose_path(templates(100, 8), [0.5])[0].reason
    assert "distances" in choose_path(templates(200, 8, metric="l2"), [-0.5])[0].reason
    assert "blocks" in choose_path(templates(200, 8, tile=32), [0.5])[0].reason


@needs_runtime
def test_a_list_that_is_too_long_is_left_out_and_counted():
    p = templates(150, 16)
    whole, short = (count_above(quantise(p), [0.0, 0.3], most_listed=most) for most in (10**6, 100))
    assert digest_arrays(whole.counts()) == digest_arrays(short.counts())
    assert short.overflow == len(whole.i) > 100
    assert len(short.i) == 0
    with pytest.raises(AuditError, match="higher threshold"):
        short.matches()


@needs_runtime
@pytest.mark.parametrize("kind", ["duplicates", "nearly equal"])
def test_more_undecided_pairs_than_the_room_for_them(kind):
    p = templates(64 * 8, 8, kind=kind, images=False, tile=64)
    found = count_above(quantise(p), [-2.0, 0.999], workers=1)
    assert found.rescored == p.pairs - p.mated_pairs
    assert digest_arrays(found.counts()) == digest_arrays(slow(p, [-2.0, 0.999])[0])


@needs_runtime
def test_progress_ends_with_every_pair():
    told = []
    p = templates(300, 8)
    count_above(quantise(p), [0.5], progress=lambda done, every: told.append((done, every)))
    assert told[-1] == (p.pairs, p.pairs)
    assert [d for d, _ in told] == sorted(d for d, _ in told)


@needs_runtime
def test_an_interruption_reaches_the_caller():
    def stop(done, every):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_above(quantise(templates(300, 8)), [0.5], progress=stop)


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.2], [0.5, 0.5], [float("nan")], [float("inf")], np.arange(17) / 20])
def test_thresholds_that_cannot_be_meant(thresholds):
    with pytest.raises(UsageError):
        count_above(quantise(templates(20, 8)), thresholds)


def test_templates_that_cannot_be_scored_in_8_bits():
    p = templates(20, 8)
    rows = p.rows.copy()
    rows[3, 2] = np.nan
    with pytest.raises(InputError, match="prepared row 3"):
        quantise(replace(p, rows=rows))
    with pytest.raises(UsageError, match="float32 path"):
        quantise(templates(20, 8, metric="l2"))
    with pytest.raises(UsageError, match="60,000"):
        quantise(templates(3, int8.MOST_DIMENSIONS + 1))


def test_group_of_subject_is_where_mated_counts_stand():
    p = templates(30, 8)
    assert np.array_equal(group_of_subject(p)[p.subject], p.group)


@needs_runtime
def test_the_benchmark_agrees_with_the_float32_path(tmp_path):
    root = Path(__file__).resolve().parents[2]
    argv = [sys.executable, root / "benchmarks" / "certified_speed.py", "--toy", "--data", tmp_path, "--out", tmp_path]
    subprocess.run(argv, cwd=root, check=True, capture_output=True)
    (told,) = tmp_path.glob("certified_speed_*.json")
    result = json.loads(told.read_text(encoding="utf-8"))
    assert len(result["checks"]) == 3
    assert all(check["held"] for check in result["checks"])
    assert not any(row["error"] for row in result["contenders"])
