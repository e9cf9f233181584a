"""The whole audit against plain Python on small files: every rate, threshold and matrix cell, and the thresholds' own noise."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audit_toolkit import api


def table(seed: int = 0, people: int = 40, n: int = 3000, *, step: float | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sex = np.where(rng.random(people) < 0.5, "f", "m")
    hue = np.where(rng.random(people) < 0.4, "a", "b")
    effect = rng.normal(0, 0.5, people)
    ref = rng.integers(0, people, n)
    mated = rng.random(n) < 0.2
    probe = np.where(mated, ref, (ref + rng.integers(1, people, n)) % people)
    score = effect[ref] + effect[probe] + rng.normal(0, 1, n) + 4.0 * mated
    if step is not None:
        score = np.round(score / step) * step
    score = score.astype(np.float32)
    return {
        "reference_subject": [f"s{i:03d}" for i in ref],
        "probe_subject": [f"s{i:03d}" for i in probe],
        "reference_sex": sex[ref].tolist(),
        "probe_sex": sex[probe].tolist(),
        "reference_hue": hue[ref].tolist(),
        "probe_hue": hue[probe].tolist(),
        "mated": mated.tolist(),
        "score": score,
    }


def audit(data: dict[str, Any], **options: Any) -> api.Audit:
    frame = pa.table({**data, "score": pa.array(data["score"])})
    return api.disparity(frame, groups=["sex", "hue"], intersections=[["sex", "hue"]], min_people=1, **options)


def every_row(data: dict[str, Any]) -> list[dict[str, Any]]:
    names = list(data)
    return [dict(zip(names, row, strict=True)) for row in zip(*data.values(), strict=True)]


def fraction(rows: list[dict[str, Any]], t: np.float32, *, mated: bool) -> tuple[int, int]:
    kept = [r for r in rows if r["mated"] is mated]
    wrong = sum(1 for r in kept if (r["score"] < t if mated else r["score"] >= t))
    return wrong, len(kept)


@pytest.mark.parametrize("step", [None, 0.25])
def test_every_rate_of_every_group(step: float | None) -> None:
    data = table(step=step)
    rows = every_row(data)
    t = 1.25
    found = audit(data, threshold=t)
    compared = 0
    for e in found.record.estimates:
        if e.quantity not in ("fmr", "fnmr"):
            continue
        inside = [r for r in rows if all(r[f"reference_{a}"] == g and r[f"probe_{a}"] == g for a, g in e.of.items())]
        assert (e.numerator, e.denominator) == fraction(inside, np.float32(t), mated=e.quantity == "fnmr")
        assert e.value == pytest.approx(e.numerator / e.denominator)
        assert e.interval is not None
        assert e.interval.low <= e.value <= e.interval.high
        compared += 1
    assert compared == 2 * (1 + 2 + 2 + 4)


def test_the_cross_group_matrix() -> None:
    data = table(1)
    rows = every_row(data)
    found = audit(data, threshold=1.0)
    (matrix,) = [s for s in found.series("matrix", "fmr") if s.of["axis"] == "sex"]
    cells = [(a, b) for a in matrix.rows for b in matrix.x]
    for (a, b), wrong, made in zip(cells, matrix.numerators, matrix.denominators, strict=True):
        inside = [r for r in rows if r["reference_sex"] == a and r["probe_sex"] == b]
        assert (wrong, made) == fraction(inside, np.float32(1.0), mated=False)


def chosen(found: api.Audit) -> float:
    (value,) = [e.value for e in found.record.estimates if e.quantity == "threshold"]
    return float(value)


@pytest.mark.parametrize("step", [None, 0.25, 1.0])
@pytest.mark.parametrize("target", [0.2, 0.05, 0.013, 0.001, 1e-5])
def test_lowest_threshold_at_a_target_fmr(target: float, step: float | None) -> None:
    data = table(2, step=step)
    scores = [r["score"] for r in every_row(data) if not r["mated"]]
    found = audit(data, fmr=target)
    t = np.float32(chosen(found))
    allowed = Fraction(str(target)) * len(scores)
    assert sum(s >= t for s in scores) <= allowed
    observed = [s for s in set(scores) if sum(v >= s for v in scores) <= allowed]
    if observed:
        # the lowest observed score that keeps the target, or just above a tie that would break it
        assert sum(s >= t for s in scores) == sum(s >= min(observed) for s in scores)
        below = max((s for s in scores if s < t), default=None)
        assert below is None or sum(s >= below for s in scores) > allowed
    else:
        assert t == np.nextafter(max(scores), np.float32(np.inf))


def test_threshold_within_a_reference_group() -> None:
    data = table(3)
    found = audit(data, thresholds=[{"policy": "fmr", "target": 0.05, "of": {"sex": "f"}}])
    t = np.float32(chosen(found))
    inside = [r for r in every_row(data) if r["reference_sex"] == r["probe_sex"] == "f"]
    wrong, made = fraction(inside, t, mated=False)
    assert wrong == int(Fraction("0.05") * made)


def test_equal_error_rate_is_the_closest_crossing() -> None:
    data = table(4)
    rows = every_row(data)
    found = audit(data, eer=True)
    t = np.float32(chosen(found))

    def gap(s: np.float32) -> Fraction:
        (fm, n), (fnm, m) = fraction(rows, s, mated=False), fraction(rows, s, mated=True)
        return abs(Fraction(fm, n) - Fraction(fnm, m))

    assert gap(t) == min(gap(s) for s in {r["score"] for r in rows})


def test_per_group_thresholds_are_a_named_what_if() -> None:
    data = table(5)
    found = audit(data, thresholds=[{"policy": "fmr_per_group", "target": 0.05, "axis": "sex"}])
    rates = [e for e in found.record.estimates if e.quantity == "fmr" and e.of]
    assert {tuple(e.of.items()) for e in rates} == {(("sex", "f"),), (("sex", "m"),)}
    for e in rates:
        assert str(e.at["policy"]).startswith("what if")
        inside = [r for r in every_row(data) if r["reference_sex"] == r["probe_sex"] == e.of["sex"]]
        wrong, made = fraction(inside, np.float32(e.at["threshold"]), mated=False)
        assert (e.numerator, e.denominator) == (wrong, made)
        assert wrong == int(Fraction("0.05") * made)


@pytest.mark.parametrize("scope", ["probe-group", "all-impostor"])
def test_other_scopes(scope: str) -> None:
    data = table(6)
    rows = every_row(data)
    found = audit(data, threshold=1.0, scope=scope)
    for e in found.record.estimates:
        if e.quantity == "fmr" and set(e.of) == {"sex"}:
            g = e.of["sex"]
            if scope == "probe-group":
                inside = [r for r in rows if r["probe_sex"] == g]
            else:
                inside = [r for r in rows if g in (r["probe_sex"], r["reference_sex"])]
            assert (e.numerator, e.denominator) == fraction(inside, np.float32(1.0), mated=False)
            assert e.interval is not None
            assert e.interval.high is not None


def test_distances_are_the_mirror_of_similarities() -> None:
    data = table(7)
    alike = audit(data, threshold=1.25, fmr=0.01)
    mirrored = {**data, "score": -data["score"]}
    apart = audit(mirrored, threshold=-1.25, fmr=0.01, higher_is="different")

    def rates(found: api.Audit) -> list[tuple[Any, ...]]:
        return [
            (e.quantity, tuple(e.of.items()), e.numerator, e.denominator, e.interval)
            for e in found.record.estimates
            if e.quantity in ("fmr", "fnmr")
        ]

    assert rates(alike) == rates(apart)
    shown = [e.value for e in apart.record.estimates if e.quantity == "threshold"]
    assert shown == [-e.value for e in alike.record.estimates if e.quantity == "threshold"]


def test_weights_are_multiplicities() -> None:
    data = table(8, n=400)
    rng = np.random.default_rng(8)
    weight = rng.integers(1, 4, 400)
    repeated = {
        k: np.repeat(np.asarray(v), weight).tolist() if k != "score" else np.repeat(v, weight) for k, v in data.items()
    }
    once, many = audit({**data, "weight": weight.tolist()}, threshold=1.0), audit(repeated, threshold=1.0)
    pick = [
        [
            (e.quantity, e.of, e.numerator, e.denominator, e.value, e.interval)
            for e in a.record.estimates
            if e.quantity in ("fmr", "fnmr")
        ]
        for a in (once, many)
    ]
    assert pick[0] == pick[1]


def test_an_outlying_score_costs_no_precision() -> None:
    data = table(9)
    wide = {k: ([*v, v[0]] if k != "score" else np.append(v, np.float32(1e6))) for k, v in data.items()}
    wide["probe_subject"][-1] = wide["reference_subject"][-1]
    wide["probe_sex"][-1], wide["probe_hue"][-1] = wide["reference_sex"][-1], wide["reference_hue"][-1]
    wide["mated"][-1] = True
    scores = [r["score"] for r in every_row(wide) if not r["mated"]]
    t = np.float32(chosen(audit(wide, fmr=0.03)))
    assert sum(s >= t for s in scores) == int(Fraction("0.03") * len(scores))
