"""The audit of a file of templates equals the audit of the score file that all its pairs would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audit_toolkit import api
from audit_toolkit.errors import AuditError


def people(seed: int = 0, subjects: int = 60, n: int = 260, d: int = 24) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    who = rng.integers(0, subjects, n)
    sex = np.where(np.arange(subjects) % 3 == 0, "f", "m")
    centre = {"f": rng.normal(size=d), "m": rng.normal(size=d)}
    face = rng.normal(size=(subjects, d))
    shift = np.stack([centre[s] for s in sex])
    vectors = face[who] + 0.4 * shift[who] + 0.5 * rng.normal(size=(n, d))
    return {"vectors": vectors.astype(np.float32), "subject": np.array([f"p{i:02d}" for i in who]), "sex": sex[who]}


def scores(made: dict[str, np.ndarray], metric: str) -> pa.Table:
    """Every unordered pair once, in float64."""
    v = made["vectors"].astype(np.float64)
    if metric == "cosine":
        v = (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    i, j = np.triu_indices(len(v), 1)
    product = np.einsum("ij,ij->i", v[i], v[j])
    if metric == "l2":
        product = np.square(v[i] - v[j]).sum(axis=1)
    return pa.table(
        {
            "reference_subject": made["subject"][i], "probe_subject": made["subject"][j],
            "reference_sex": made["sex"][i], "probe_sex": made["sex"][j], "score": product,
        }
    )  # fmt: skip


def file(folder: Path, made: dict[str, np.ndarray]) -> str:
    path = folder / "faces.npz"
    np.savez(path, vectors=made["vectors"], subject=made["subject"], **{"group.sex": made["sex"]})
    return str(path)


def rates(audit: api.Audit) -> list[tuple[Any, ...]]:
    return sorted(
        (e.quantity, tuple(e.of.items()), e.numerator, e.denominator)
        for e in audit.record.estimates
        if e.quantity in ("fmr", "fnmr")
    )


@pytest.mark.parametrize(("metric", "threshold"), [("cosine", 0.45), ("inner", 12.0), ("l2", 30.0)])
def test_counts_and_intervals_equal_those_of_the_score_file(tmp_path: Path, metric: str, threshold: float) -> None:
    made = people()
    higher = "different" if metric == "l2" else "same"
    plan = api.disparity_plan(
        file(tmp_path, made), metric=metric, groups={"sex": "group.sex"}, threshold=threshold, higher_is=higher
    )
    from_templates = api.run(plan)
    from_scores = api.disparity(scores(made, metric), groups=["sex"], threshold=threshold, higher_is=higher)
    assert rates(from_templates) == rates(from_scores)
    by_axis = [
        {tuple(e.of.items()): e.interval for e in a.estimates("fmr", {"sex": "*"})}
        for a in (from_templates, from_scores)
    ]
    assert by_axis[0].keys() == by_axis[1].keys()
    for group, bounds in by_axis[0].items():
        assert bounds.low == pytest.approx(by_axis[1][group].low)
        assert bounds.high == pytest.approx(by_axis[1][group].high)


def test_a_threshold_at_a_target_keeps_it(tmp_path: Path) -> None:
    made = people(1)
    plan = api.disparity_plan(file(tmp_path, made), metric="cosine", groups={"sex": "group.sex"}, fmr=0.01)
    audit = api.run(plan)
    (overall,) = audit.estimates("fmr", {})
    table = scores(made, "cosine")
    different = np.array(table["reference_subject"]) != np.array(table["probe_subject"])
    assert overall.denominator == int(different.sum())
    assert overall.numerator == int(0.01 * different.sum())


def test_the_matrix_is_its_own_mirror(tmp_path: Path) -> None:
    made = people(2)
    plan = api.disparity_plan(file(tmp_path, made), metric="cosine", groups={"sex": "group.sex"}, threshold=0.4)
    (matrix,) = api.run(plan).series("matrix", "fmr")
    assert matrix.numerators[1] == matrix.numerators[2]
    assert matrix.denominators[1] == matrix.denominators[2]
    assert matrix.denominators[1] == int((made["sex"] == "f").sum()) * int((made["sex"] == "m").sum())


def test_threads_and_tiles_change_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_toolkit.core import tiles

    made = people(3, n=1100, subjects=200)
    path = file(tmp_path, made)

    def run(threads: int) -> api.Audit:
        plan = api.disparity_plan(
            path, metric="cosine", groups={"sex": "group.sex"}, threshold=0.4, fmr=1e-3, threads=threads
        )
        return api.run(plan)

    one, two = run(1), run(2)
    assert one.record.to_bytes() == two.record.to_bytes()
    original = tiles.prepare
    monkeypatch.setattr(tiles, "prepare", lambda *a, **k: original(*a, **{**k, "tile": 96}))
    narrow = run(2)
    exact = [r for r in narrow.record.runs if r.measure == "all pairs at the asked thresholds"]
    assert [r.state_digest for r in exact] == [
        r.state_digest for r in one.record.runs if r.measure == "all pairs at the asked thresholds"
    ]
    assert rates(narrow) == rates(one)


def test_a_run_goes_on_from_its_journal(tmp_path: Path) -> None:
    made = people(4)
    plan = api.disparity_plan(file(tmp_path, made), metric="cosine", groups={"sex": "group.sex"}, threshold=0.4)
    whole = api.run(plan)

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "comparing all pairs" and done:
            raise KeyboardInterrupt

    journal = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        api.run(plan, journal=journal, progress=stop)
    assert api.run(plan, journal=journal).record.to_bytes() == whole.record.to_bytes()
    assert api.run(plan, journal=journal).record.to_bytes() == whole.record.to_bytes()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"scope": "probe-group"}, "templates have none"),
        ({"covariates": {"camera": "c"}}, "not of templates"),
        ({"higher_is": "different"}, "higher_is"),
        ({"format_options": {"colour": "red"}}, "format_options"),
        ({"groups": {"sex": ("a", "b")}}, "no reference and probe columns"),
    ],
)
def test_what_templates_cannot_have_is_refused(change: dict[str, Any], what: str) -> None:
    options: dict[str, Any] = {"metric": "cosine", "groups": {"sex": "group.sex"}, "threshold": 0.4, **change}
    with pytest.raises(AuditError, match=what):
        api.disparity_plan("faces.npz", **options)


def test_the_certified_path_counts_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `fast` is not installed")
    from audit_toolkit.core import certified

    made = people(5, n=1400, subjects=300, d=32)
    path = file(tmp_path, made)
    common: dict[str, Any] = {"metric": "cosine", "groups": {"sex": "group.sex"}, "threshold": [0.4, 0.5]}
    exact = api.run(api.disparity_plan(path, **common))
    plan = api.disparity_plan(path, **common, curves=False)
    # which way is taken is a matter of speed; here it is forced
    original = certified.choose_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "audit_toolkit.disparity.templates.choose_path", lambda *a, **k: original(*a, **{**k, "must_gain": 1e-9})
        )
        fast = api.run(plan)
    (run,) = fast.record.runs
    assert run.parameters["path"] == "certified-int8"
    assert run.state_digest in {r.state_digest for r in exact.record.runs}
    assert rates(fast) == rates(exact)
    assert not fast.series("curve")
    # without a gain the float32 path is taken, and it counts the same
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "audit_toolkit.disparity.templates.choose_path", lambda *a, **k: original(*a, **{**k, "must_gain": 1e9})
        )
        slow = api.run(plan)
    assert rates(slow) == rates(exact)
    assert run.state_digest in {r.state_digest for r in slow.record.runs}
