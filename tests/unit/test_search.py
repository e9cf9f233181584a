"""The search of one template among many, held against a plain Python search over float64 scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.core.search import Found, prepare, search, subgallery_levels
from audit_toolkit.engines.local import local
from audit_toolkit.errors import InputError, UsageError


def plain(probes: Any, gallery: Any, thresholds: Any, level: Any, levels: int) -> list[dict[str, Any]]:
    """Every score in float64, in the order of the coordinates; people sorted by their best score."""
    out = []
    for i in range(len(probes.vectors)):
        people: dict[int, float] = {}
        of: dict[int, int] = {}
        mate = None
        for j in range(len(gallery.vectors)):
            who = int(gallery.subject[j])
            of[who] = int(level[j])
            if probes.image[i] >= 0 and probes.image[i] == gallery.image[j]:
                continue
            total = 0.0
            for x, y in zip(probes.vectors[i].tolist(), gallery.vectors[j].tolist(), strict=True):
                total += -((x - y) * (x - y)) if probes.metric == "l2" else x * y
            score = -np.sqrt(-total) if probes.metric == "l2" else total
            if who == probes.subject[i]:
                mate = score if mate is None else max(mate, score)
            else:
                people[who] = max(people.get(who, -np.inf), score)
        order = sorted(people.items(), key=lambda item: (-item[1], item[0]))
        out.append(
            {
                "mate": mate,
                "ahead": -1 if mate is None else sum(s >= mate for s in people.values()),
                "names": [] if mate is None else sorted(k for k, s in people.items() if s >= mate),
                "best": [
                    max((s for k, s in people.items() if of[k] >= deep), default=-np.inf) for deep in range(levels)
                ],
                "who": order[0][0] if order else -1,
                "second": order[1][1] if len(order) > 1 else -np.inf,
                "above": [sum(s >= t for s in people.values()) for t in thresholds],
            }
        )
    return out


def same(found: Found, expected: list[dict[str, Any]], kept: int) -> None:
    for i, row in enumerate(expected):
        assert np.isnan(found.mate_score[i]) if row["mate"] is None else found.mate_score[i] == row["mate"]
        assert found.ahead[i] == row["ahead"]
        assert found.best[i].tolist() == row["best"]
        assert (found.best_subject[i], found.second[i]) == (row["who"], row["second"])
        assert found.above[i].tolist() == row["above"]
        named = sorted(found.competitors[i][found.competitors[i] >= 0].tolist())
        assert named == (row["names"] if 0 <= row["ahead"] <= kept else [])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(["cosine", "inner", "l2"]),
    rounded=st.booleans(),
    tile=st.sampled_from([(256, 512), (7, 13), (1, 1), (5, 64)]),
)
def test_every_number_is_that_of_a_plain_search(seed: int, metric: Any, rounded: bool, tile: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    n, m, d, people = int(rng.integers(1, 70)), int(rng.integers(1, 25)), int(rng.integers(1, 12)), 18
    base = rng.normal(size=(people + 6, d))
    enrolled, searched = rng.integers(0, people, n), rng.integers(0, people + 6, m)
    a = (base[enrolled] + 0.7 * rng.normal(size=(n, d))).astype(np.float32)
    b = (base[searched] + 0.7 * rng.normal(size=(m, d))).astype(np.float32)
    if rounded:  # exact ties in abundance
        a, b = np.round(a), np.round(b)
        a[~a.any(axis=1)], b[~b.any(axis=1)] = 1.0, 1.0
    a[0] = b[0]
    gallery, _ = prepare(a, enrolled, np.arange(n), metric, by_subject=True)
    images = np.where(rng.random(m) < 0.3, rng.integers(0, n, m), -1)
    probes, _ = prepare(b, searched, images, metric, by_subject=False)
    level = subgallery_levels(rng.integers(0, 2**63, people + 6).astype(np.uint64), 3)[gallery.subject]
    thresholds = [-2.0, -1.0, -0.5, 0.0] if metric == "l2" else [-0.2, 0.3, 0.5]
    expected = plain(probes, gallery, thresholds, level, 4)
    for run in (local(1), local(3)):
        found = search(
            probes, gallery, thresholds, kept=3, level=level, levels=4, run=run, rows=tile[0], columns=tile[1]
        )
        same(found, expected, 3)


def test_equal_templates_tie_and_the_tie_counts_against_the_system() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(300, 128)).astype(np.float32)
    a[250], a[100] = a[7], a[7]
    gallery, _ = prepare(a, np.arange(300), None, "cosine", by_subject=True)
    probe, _ = prepare(a[7:8] + np.float32(0.01), np.array([7]), None, "cosine", by_subject=False)
    found = search(probe, gallery, columns=64)
    assert found.ahead[0] == 2
    assert found.competitors[0][:2].tolist() == [100, 250]
    assert found.best[0, 0] == found.second[0] == found.mate_score[0]


def test_a_person_enrolled_often_is_one_candidate_with_the_best_score() -> None:
    gallery, _ = prepare(
        np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], np.float32),
        np.array([1, 1, 1, 2]),
        None,
        "cosine",
        by_subject=True,
    )
    probe, _ = prepare(np.array([[1, 0]], np.float32), np.array([2]), None, "cosine", by_subject=False)
    found = search(probe, gallery, [0.5, 0.9])
    assert found.above.tolist() == [[1, 1]]
    assert found.ahead.tolist() == [1]
    assert found.mate_score.tolist() == [0.0]


def test_scores_far_apart_in_size_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    a = (rng.normal(size=(90, 6)) * 10.0 ** rng.integers(-6, 7, (90, 1))).astype(np.float32)
    for metric in ("inner", "l2"):
        gallery, _ = prepare(a, np.arange(90), None, metric, by_subject=True)  # type: ignore[arg-type]
        probes, _ = prepare(a[:20] * np.float32(1.5), np.arange(20), None, metric, by_subject=False)  # type: ignore[arg-type]
        same(search(probes, gallery, [], kept=3), plain(probes, gallery, [], np.zeros(90), 1), 3)


def test_rows_that_cannot_be_compared_are_named() -> None:
    rows = np.ones((5, 3), np.float32)
    rows[1, 0], rows[2, 1], rows[3] = np.nan, np.inf, 0.0
    for metric, usable in (("cosine", [0, 4]), ("inner", [0, 3, 4])):
        made, good = prepare(rows, np.arange(5), None, metric, by_subject=False)  # type: ignore[arg-type]
        assert np.flatnonzero(good).tolist() == usable
        assert made.subject.tolist() == usable
        assert np.isfinite(made.vectors).all()


def test_half_precision_is_read_as_it_is() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(40, 8)).astype(np.float16)
    one, _ = prepare(a, np.arange(40), None, "cosine", by_subject=True)
    two, _ = prepare(a.astype(np.float32), np.arange(40), None, "cosine", by_subject=True)
    assert np.array_equal(one.vectors, two.vectors)


def test_what_cannot_be_searched_is_refused() -> None:
    rows = np.eye(4, dtype=np.float32)
    gallery, _ = prepare(rows, np.array([3, 2, 1, 0]), None, "cosine", by_subject=True)
    probes, _ = prepare(rows, np.arange(4), None, "cosine", by_subject=False)
    assert gallery.subject.tolist() == [0, 1, 2, 3]
    wide, _ = prepare(np.eye(5, dtype=np.float32), np.arange(5), None, "cosine", by_subject=False)
    none = dataclasses.replace(gallery, vectors=rows[:0], subject=gallery.subject[:0], image=gallery.image[:0])
    with pytest.raises(InputError, match="dimensions"):
        search(wide, gallery)
    with pytest.raises(InputError, match="no usable template"):
        search(probes, none)
    with pytest.raises(UsageError, match="ascending"):
        search(probes, gallery, [0.5, 0.5])
    with pytest.raises(UsageError, match="ascending"):
        search(probes, gallery, [np.nan])
    with pytest.raises(UsageError, match="sorted"):
        search(probes, dataclasses.replace(gallery, subject=gallery.subject[::-1]))
    with pytest.raises(UsageError, match="levels"):
        search(probes, gallery, level=np.full(4, 2), levels=2)
    with pytest.raises(UsageError, match="metric"):
        prepare(rows, np.arange(4), None, "angle", by_subject=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="number"):
        prepare(rows, np.arange(3), None, "cosine", by_subject=False)
    with pytest.raises(InputError, match="floating"):
        prepare(np.ones((3, 2), np.int64), np.arange(3), None, "cosine", by_subject=False)


def test_an_interrupt_reaches_the_workers() -> None:
    rows = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    gallery, _ = prepare(rows, np.arange(600), None, "cosine", by_subject=True)
    seen = []

    def progress(count: int) -> None:
        seen.append(count)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(gallery, gallery, run=local(2), progress=progress, rows=10)
    assert len(seen) < 60


def test_halvings_are_nested_and_of_the_right_size() -> None:
    identity = np.random.default_rng(9).integers(0, 2**64, 40_000, np.uint64)
    level = subgallery_levels(identity, 6)
    assert level.max() == 6
    for k in range(1, 7):
        expected = 40_000 / 2**k
        assert abs((level >= k).sum() - expected) < 4.5 * np.sqrt(expected)
    assert np.array_equal(level[:100], subgallery_levels(identity[:100], 6))
