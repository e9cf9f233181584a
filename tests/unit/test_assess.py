"""The audit's rarer inputs end to end: failures, transactions, covariates, withheld groups, nothing to compare."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audit_toolkit import api
from audit_toolkit.evidence.estimate import Estimate


def comparisons(
    seed: int = 0, people: int = 80, n: int = 4000, *, gap: float = 0.0, sizes: tuple[float, ...] = (0.5, 0.5)
) -> dict[str, Any]:
    """Scores with person effects; non-mated comparisons of the second group are shifted up by ``gap``."""
    rng = np.random.default_rng(seed)
    labels = np.array(["a", "b", "c", "d"])[: len(sizes)]
    group = rng.choice(labels, people, p=sizes)
    effect = rng.normal(0, 0.4, people)
    ref = rng.integers(0, people, n)
    mated = rng.random(n) < 0.3
    probe = np.where(mated, ref, (ref + rng.integers(1, people, n)) % people)
    night = rng.random(n) < np.where(group[ref] == "b", 0.8, 0.2)
    score = effect[ref] + effect[probe] + rng.normal(0, 1, n) + 3.0 * mated + gap * night
    return {
        "reference_subject": [f"id-{i}" for i in ref],
        "probe_subject": [f"id-{i}" for i in probe],
        "reference_group": group[ref].tolist(),
        "probe_group": group[probe].tolist(),
        "mated": mated.tolist(),
        "score": score.astype(np.float32).tolist(),
        "light": np.where(night, "night", "day").tolist(),
    }


def audit(data: dict[str, Any], **options: Any) -> api.Audit:
    options.setdefault("threshold", 1.5)
    return api.disparity(pa.table(data), groups=["group"], **options)


def by_group(found: api.Audit, quantity: str, **at: Any) -> dict[str, Estimate]:
    return {e.of["group"]: e for e in found.estimates(quantity, {"group": "*"}, **at)}


def test_failures_become_rates_and_generalised_rates() -> None:
    data = comparisons(1)
    n = len(data["score"])
    data["reference_sample"] = [f"{s}/r" for s in data["reference_subject"]]
    data["probe_sample"] = [f"{s}/p{k}" for k, s in enumerate(data["probe_subject"])]
    data["failure"] = [None] * n
    scores: list[float | None] = list(data["score"])
    failed_people = {data["reference_subject"][0], data["reference_subject"][1]}
    fta_rows = set(range(100, 160))
    for k in range(n):
        if data["reference_subject"][k] in failed_people:
            data["failure"][k], scores[k] = "fte", None
        elif k in fta_rows:
            data["failure"][k], scores[k] = "fta", None
    data["score"] = pa.array(scores, pa.float32())
    found = audit(data)
    people = {
        g: {s for s, h in zip(data["reference_subject"], data["reference_group"], strict=True) if h == g} for g in "ab"
    }
    fte, fta = by_group(found, "fte"), by_group(found, "fta")
    for g in "ab":
        assert fte[g].denominator == len(people[g])
        assert fte[g].numerator == len(people[g] & failed_people)
        assert fta[g].numerator == sum(data["failure"][k] == "fta" and data["probe_group"][k] == g for k in range(n))
        fmr, fnmr = by_group(found, "fmr")[g], by_group(found, "fnmr")[g]
        gfar, gfrr = by_group(found, "gfar")[g], by_group(found, "gfrr")[g]
        assert gfar.value == pytest.approx((1 - fte[g].value) * (1 - fta[g].value) * fmr.value)
        expected = fte[g].value + (1 - fte[g].value) * (fta[g].value + (1 - fta[g].value) * fnmr.value)
        assert gfrr.value == pytest.approx(expected)
        for e in (gfar, gfrr):
            assert e.interval is not None
            assert e.interval.low <= e.value <= e.interval.high
    (overall,) = [e for e in found.estimates("fte") if not e.of]
    assert overall.numerator == 2


def test_without_failures_the_rates_are_undefined_with_a_reason() -> None:
    found = audit(comparisons(1))
    for e in (*found.estimates("fte"), *found.estimates("fta")):
        assert e.value is None
        assert "no column of failures" in (e.undefined or "")
    assert any("cannot be seen" in text for text in found.record.limits)


def test_transactions_take_the_best_attempt() -> None:
    data = comparisons(2, n=1500)
    n = len(data["score"])
    # three attempts each: the row's own pair, tried again with other scores; the last attempt of some fails to acquire
    rng = np.random.default_rng(3)
    rows: dict[str, list[Any]] = {k: [] for k in (*data, "transaction", "failure")}
    best: list[float] = []
    for k in range(n):
        attempts = [data["score"][k], *(data["score"][k] + rng.normal(0, 0.5, 2)).astype(np.float32).tolist()]
        fails = [False, False, k % 7 == 0] if k % 50 else [True, True, True]
        best.append(max((s for s, f in zip(attempts, fails, strict=True) if not f), default=-np.inf))
        for s, f in zip(attempts, fails, strict=True):
            for name in data:
                rows[name].append(data[name][k] if name != "score" else (None if f else s))
            rows["transaction"].append(k)
            rows["failure"].append("fta" if f else None)
    made = {**rows, "score": pa.array(rows["score"], pa.float32())}
    found = audit(made)
    for g in "ab":
        inside = [k for k in range(n) if data["reference_group"][k] == data["probe_group"][k] == g]
        mated = [k for k in inside if data["mated"][k]]
        other = [k for k in inside if not data["mated"][k]]
        far, frr = by_group(found, "far")[g], by_group(found, "frr")[g]
        assert (far.numerator, far.denominator) == (sum(best[k] >= np.float32(1.5) for k in other), len(other))
        assert (frr.numerator, frr.denominator) == (sum(best[k] < np.float32(1.5) for k in mated), len(mated))


def test_a_gap_that_a_covariate_explains_shrinks_within_its_classes() -> None:
    data = comparisons(4, people=200, n=20000, gap=1.0)
    found = audit(data, covariates={"light": "light"}, threshold=2.0)
    raw = by_group(found, "fmr_ratio")
    (group,) = raw
    adjusted = by_group(found, "mantel_haenszel_ratio", rate="fmr")[group]
    odds = by_group(found, "logistic_odds_ratio", rate="fmr")[group]
    away = max(raw[group].value, 1 / raw[group].value)
    assert away > 1.6
    for e in (adjusted, odds):
        assert max(e.value, 1 / e.value) < 1 + (away - 1) / 2
        assert e.interval is not None
        assert e.interval.contains(1.0)
        assert e.at["covariate"] == "light"


def test_small_groups_leave_no_trace() -> None:
    data = comparisons(5, people=90, sizes=(0.5, 0.4, 0.06, 0.04))
    groups = dict(
        zip(
            data["reference_subject"] + data["probe_subject"],
            data["reference_group"] + data["probe_group"],
            strict=True,
        )
    )
    people = {g: sum(v == g for v in groups.values()) for g in "abcd"}
    minimum = people["d"] + 1 if people["d"] <= people["c"] else people["c"] + 1
    found = audit(data, min_people=minimum, eer=True)
    hidden = {g for g, e in by_group(found, "fmr").items() if e.value is None}
    assert len(hidden) >= 2
    for e in found.record.estimates:
        if set(e.of.values()) & hidden or e.at.get("against") in hidden:
            assert e.value is None
            assert e.undefined is not None
            assert e.undefined.startswith("withheld")
            assert e.numerator is None
            assert e.interval is None
            assert e.support is None
    for series in found.record.series:
        assert not set(series.of.values()) & hidden
        assert not {*series.rows, *map(str, series.x)} & hidden
    assert found.estimates("max_min_ratio")[0].at["groups"] == 4 - len(hidden)


def test_no_mated_and_no_nonmated_comparisons() -> None:
    data = comparisons(6)
    keep = [k for k, m in enumerate(data["mated"]) if not m]
    only = {name: [values[k] for k in keep] for name, values in data.items()}
    found = audit(only)
    assert all(
        e.value is None and "no mated comparisons" in (e.undefined or "") for e in by_group(found, "fnmr").values()
    )
    assert all(e.value is not None for e in by_group(found, "fmr").values())
    assert found.exit_code == 0
    keep = [k for k, m in enumerate(data["mated"]) if m]
    only = {name: [values[k] for k in keep] for name, values in data.items()}
    found = audit(only)
    assert all(e.value is None for e in by_group(found, "fmr").values())
    with pytest.raises(api.AuditError, match="needs non-mated comparisons"):
        audit(only, threshold=None, fmr=0.01)


def test_requirements_are_judged_on_intervals() -> None:
    data = comparisons(7, people=300, n=40000, gap=0.0)
    many = [("strict", 1e-6), ("loose", 0.9)]
    required = [
        {"id": name, "title": name, "quantity": "fmr", "comparator": "<=", "limit": value, "of": {"group": "*"}}
        for name, value in many
    ]
    found = audit(data, requirements=required)
    verdicts = {f.id.rsplit("-", 1)[0]: f.verdict for f in found.record.findings if f.requirement is not None}
    assert verdicts == {"strict": "violated", "loose": "satisfied"}
    assert found.exit_code == 1
    found = audit(data, requirements=required[1:])
    assert found.exit_code == 0
    nothing = [{"id": "x", "title": "x", "quantity": "fmr", "comparator": "<=", "limit": 1, "of": {"camera": "*"}}]
    found = audit(data, requirements=nothing)
    assert found.exit_code == 3
    assert found.record.findings[0].verdict == "not_assessed"


def test_thin_groups_are_insufficient_evidence_not_dropped() -> None:
    data = comparisons(8, people=40)
    required = [
        {"id": "r", "title": "r", "quantity": "fmr_ratio", "comparator": "<=", "limit": 50, "of": {"group": "*"}}
    ]
    found = audit(data, requirements=required)
    (finding,) = [f for f in found.record.findings if f.requirement is not None]
    assert finding.verdict == "not_assessed"
    assert "insufficient evidence" in finding.reason
    assert all(e.value is not None for e in by_group(found, "fmr").values())


@pytest.mark.parametrize(
    "method", ["logit-jackknife", "logit-double-or-nothing", "logit-ustat", "ustat-wilson", "wilson"]
)
def test_every_interval_method_runs_through(method: str) -> None:
    found = audit(comparisons(9), uncertainty={"method": method, "replicates": 256})
    for e in (*by_group(found, "fmr").values(), *by_group(found, "fnmr").values()):
        assert e.interval is not None
        assert e.interval.low <= e.value <= e.interval.high
        assert e.interval.method.startswith(method.split("-")[0])


def test_a_threshold_set_on_the_data_is_told_and_changes_the_interval() -> None:
    data = comparisons(10, people=60, n=8000)
    at_target = audit(data, threshold=None, fmr=0.05)
    (t,) = at_target.estimates("threshold")
    assert any("set on this file" in note for note in t.notes)
    fixed = audit(data, threshold=t.value)
    moved, still = by_group(at_target, "fmr"), by_group(fixed, "fmr")
    for g in moved:
        assert moved[g].value == still[g].value
        assert moved[g].interval != still[g].interval


def test_the_record_is_json_without_nan_and_without_ids() -> None:
    found = audit(comparisons(11), eer=True, fmr=0.01)
    text = found.record.to_bytes().decode()
    assert "id-1" not in text
    assert "id-1" not in found.html().decode()
    assert "NaN" not in text
    assert json.loads(text)["schema"] == "audit_toolkit/record/1"


def test_an_unknown_method_is_a_plan_error() -> None:
    with pytest.raises(api.AuditError, match="method is not known"):
        audit(comparisons(12), uncertainty={"method": "bootstrap"})
