"""Duplicates and transactions, judged exactly and in any order."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.core import same
from audit_toolkit.errors import InputError
from audit_toolkit.sources.frames import open_frame
from audit_toolkit.sources.survey import SurveyOptions, survey

NONE = np.zeros(0, np.int32)


def run(rows, options=None, **more):
    names = ("reference_subject", "reference_sample", "probe_subject", "probe_sample", "score")
    arrays = {name: [r[k] for r in rows] for k, name in enumerate(names)}
    return survey(open_frame(pa.table(arrays | more)), options or SurveyOptions())


def counted(found):
    return {e.reason.split(":")[0].split(";")[0]: e.count for e in found.exclusions}


def content(group):
    names = sorted(next(iter(group.partitions[0]())).arrays)
    lines = [zip(*(b[n].tolist() for n in names), strict=True) for part in group.partitions for b in part()]
    return sorted(line for some in lines for line in some)


def test_exact_and_mirrored():
    rows = [("a", "1", "b", "1", 0.5), ("a", "1", "b", "1", 0.5), ("b", "1", "a", "1", 0.5), ("a", "2", "b", "1", 0.5)]
    found = run(rows)
    assert counted(found) == {"duplicate": 1, "mirrored duplicate": 1}
    assert content(found.rows) == [(0, 1, 0, 0.5), (0, 1, 0, 0.5)]  # mated, probe, ref, score: a is the reference


def test_mirrored_pair_keeps_the_smaller_sample_as_reference_within_a_subject():
    found = run([("a", "2", "a", "1", 0.5), ("a", "1", "a", "2", 0.5), ("a", "2", "a", "3", 0.5)])
    assert counted(found) == {"mirrored duplicate": 1}
    assert found.rows_used == 2


def test_mirrored_with_other_scores_stay_and_are_told():
    found = run([("a", "1", "b", "1", 0.5), ("b", "1", "a", "1", 0.6)])
    assert found.rows_used == 2
    assert counted(found) == {"pairs of samples compared both ways with different scores": 1}
    assert any("both ways" in w for w in found.warnings)


def test_a_sample_name_belongs_to_its_subject():
    found = run([("a", "1", "b", "1", 0.5), ("a", "1", "c", "1", 0.5), ("c", "1", "b", "1", 0.5)])
    assert found.rows_used == 3
    assert not found.exclusions


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_conflicting_duplicates_are_refused_with_their_count(chunk):
    rows = [("a", "1", "b", "1", s) for s in (0.5, 0.5, 0.6)] + [("a", "2", "secret", "1", s) for s in (0.1, 0.2)]
    for listed in (rows, rows[::-1]):
        with pytest.raises(InputError, match="2 pairs of samples occur more than once with different") as caught:
            run(listed, SurveyOptions(chunk_rows=chunk))
        assert "secret" not in str(caught.value)


def test_attempts_of_different_transactions_may_repeat_samples():
    rows = [("a", "1", "b", "1", 0.5), ("a", "1", "b", "1", 0.6), ("a", "1", "b", "1", 0.6), ("a", "1", "b", "1", 0.7)]
    found = run(rows, transaction=["t", "u", "u", None])
    assert counted(found) == {"duplicate": 1, "rows without a transaction": 1}
    assert content(found.transactions) == [(0, 1, 0, 0.5), (0, 1, 0, 0.6)]


def test_rows_without_a_sample_are_not_judged():
    found = run([("a", "1", "b", None, 0.5), ("a", "1", "b", None, 0.6), ("a", "1", "b", "", 0.5)])
    assert found.rows_used == 3
    assert counted(found) == {"rows without reference_sample or probe_sample": 3}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_equal_rows_with_other_covariates_the_same_one_stays_in_any_order(order):
    rows = [("a", "1", "b", "1", 0.5)] * 3
    quality = [[3.0, 1.0, 2.0][k] for k in order]
    found = run(rows, **{"covariate.q": quality, "weight": [[1, 2, 3][k] for k in order]})
    assert found.rows_used == 1
    want = run(rows, **{"covariate.q": [3.0, 1.0, 2.0], "weight": [1, 2, 3]})
    assert content(found.rows) == content(want.rows)


def test_transactions_take_the_best_attempt_and_failures_the_lowest():
    rows = [
        ("a", "1", "a", "2", 0.3),
        ("a", "1", "a", "3", 0.8),
        ("b", "1", "a", "4", None),
        ("b", "1", "a", "5", None),
        ("b", "1", "b", "2", None),
        ("b", "1", "b", "3", 0.4),
        ("a", "1", "b", "4", 0.9),
        ("b", "1", "a", "6", 0.1),
    ]
    words = [None, None, "fta", "fta", "fta", None, None, None]
    trans = [1, 1, 2, 2, 3, 3, 4, 4]
    found = run(rows, transaction=trans, failure=words)
    lowest = float(np.finfo(np.float64).min)
    assert content(found.transactions) == [(0, 0, 1, lowest), (1, 0, 0, 0.8), (1, 1, 1, 0.4)]
    assert counted(found)["transactions that mix subjects"] == 1
    assert found.low == 0.1  # a failed transaction's score is no score of the file
    assert found.rows_used == 5


def test_failed_transactions_keep_single_precision_and_distances():
    table = pa.table(
        {
            "reference_subject": ["a", "a"],
            "probe_subject": ["b", "b"],
            "score": pa.array([2.0, None], pa.float32()),
            "failure": [None, "fta"],
            "transaction": ["x", "y"],
        }
    )
    found = survey(open_frame(table), SurveyOptions(higher_is="different"))
    assert [line[3] for line in content(found.transactions)] == [float(np.finfo(np.float32).min), -2.0]


def brute(rows):
    """Duplicates in plain Python: (exact, mirrored, mirrored differing, conflicting) and the number of rows kept."""
    keys = defaultdict(list)
    for i, j, a, b, t, s in rows:
        keys[(i, a), (j, b), t].append(s)
    conflicting = sum(len(set(found)) > 1 for found in keys.values())
    exact = sum(len(found) - 1 for found in keys.values())
    both = [(k, (k[1], k[0], k[2])) for k in keys if k[0] < k[1]]
    mirrored = sum(m in keys and keys[k][0] == keys[m][0] for k, m in both)
    differing = sum(m in keys and keys[k][0] != keys[m][0] for k, m in both)
    return exact, mirrored, differing, conflicting


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 5, st.sampled_from([0.0, 1.0])), max_size=40))
def test_kernel_agrees_with_plain_python(rows):
    rows = [r for r in rows if (r[0], r[2]) != (r[1], r[3])]
    columns = [np.array([r[k] for r in rows], np.int32) for k in range(5)]
    score = np.array([r[5] for r in rows], np.float32)
    keep = np.empty(len(rows), np.uint8)
    i, j, a, b, t = columns
    got = same.find_duplicates(i, j, a, b, t, score, np.zeros(0, np.uint64), keep)
    want = brute(rows)
    assert got[3] == want[3]
    if not want[3]:
        assert got == want
        assert keep.sum() == len(rows) - want[0] - want[1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1e30])), max_size=40))
def test_identical_rows_agree_with_plain_python(rows):
    ref, probe = (np.array([r[k] for r in rows], np.int32) for k in (0, 1))
    score = np.array([r[2] for r in rows], np.float64)
    seen = defaultdict(int)
    for r in rows:
        seen[r] += 1
    identical = sum(n - 1 for n in seen.values())
    mirrored = sum(min(n, seen.get((j, i, s), 0)) for (i, j, s), n in list(seen.items()) if i < j)
    assert same.count_identical(ref, probe, score.view(np.uint64)) == (identical, mirrored)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 9))
def test_parts_hold_every_row_once_and_equal_keys_together(keys, parts):
    keys = np.array(keys, np.int32)
    part = np.empty(len(keys), np.int32)
    same.parts_of_keys(keys, parts, part)
    assert ((part >= 0) & (part < parts)).all()
    order, start = same.order_by_part(part, parts)
    assert sorted(order.tolist()) == list(range(len(keys)))
    assert start[-1] == len(keys)
    for p in range(parts):
        assert (part[order[start[p] : start[p + 1]]] == p).all()
    for key in set(keys.tolist()):
        assert len(set(part[keys == key].tolist())) == 1


def test_a_pair_falls_into_the_same_part_either_way_round():
    rng = np.random.default_rng(3)
    i, j, a, b = (rng.integers(0, 1000, 500).astype(np.int32) for _ in range(4))
    one, two = np.empty(500, np.int32), np.empty(500, np.int32)
    same.parts_of_samples(i, j, a, b, NONE, 13, one)
    same.parts_of_samples(j, i, b, a, NONE, 13, two)
    assert (one == two).all()
    assert set(one.tolist()) == set(range(13))


def test_many_rows_through_spilled_parts():
    rng = np.random.default_rng(11)
    n = 60_000
    pairs = rng.integers(0, 40, (n, 4))
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) | (pairs[:, 2] != pairs[:, 3])]
    x, y = pairs[:, 0] * 40 + pairs[:, 2], pairs[:, 1] * 40 + pairs[:, 3]
    score = (np.minimum(x, y) * 1600.0 + np.maximum(x, y)).tolist()
    texts = [[str(v) for v in pairs[:, k].tolist()] for k in range(4)]
    rows = list(zip(texts[0], texts[2], texts[1], texts[3], score, strict=True))
    unordered = len(set(score))
    ordered = len({(r[0], r[1], r[2], r[3]) for r in rows})
    for options in (SurveyOptions(), SurveyOptions(chunk_rows=5_000, memory_rows=0, duplicate_rows=3_000)):
        found = run(rows, options)
        assert found.rows_used == unordered
        assert counted(found) == {"duplicate": len(rows) - ordered, "mirrored duplicate": ordered - unordered}


@pytest.mark.parametrize("kind", [pa.int64(), pa.int16(), pa.string()])
def test_transactions_may_be_numbers_of_any_sign(kind):
    rows = [("a", str(k), "b", str(k), k / 10) for k in range(6)]
    numbers = [-1, -1, 0, 1, 1, None]
    column = pa.array(numbers, pa.int64()).cast(kind)
    found = run(rows, SurveyOptions(chunk_rows=2), transaction=column)
    assert content(found.transactions) == [(0, 1, 0, 0.1), (0, 1, 0, 0.2), (0, 1, 0, 0.4)]
    assert counted(found) == {"rows without a transaction": 1}
