"""The identification audit from its inputs to estimates and series, and what it refuses to say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from audit_toolkit.disparity.identification.assess import assess
from audit_toolkit.disparity.identification.lists import search_lists
from audit_toolkit.disparity.identification.open import open_section
from audit_toolkit.disparity.identification.plan import AlertColumns, SearchThreshold, Section
from audit_toolkit.disparity.identification.searches import TemplateSearch, halvings, search_templates
from audit_toolkit.disparity.plan import FRAME, Attribute, Subjects
from audit_toolkit.engines.context import Context
from audit_toolkit.engines.local import local
from audit_toolkit.errors import InputError, PlanError
from audit_toolkit.evidence.assessment import Assessment
from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.quantities import get
from audit_toolkit.evidence.words import claim
from audit_toolkit.sources.embeddings import open_templates
from audit_toolkit.sources.searches import open_candidates

CONTEXT = Context(seed=b"test", engine=local(2))
STATED: dict[str, Any] = {
    "evaluation_type": "technology",
    "label_source": "made for this test",
    "gallery_selection": "not provided",
    "days_between_mated_captures": "not provided",
    "attributes": {"group": Attribute()},
}
THRESHOLDS = (
    SearchThreshold(policy="vendor", value=0.55),
    SearchThreshold(policy="fpir", target=0.1),
    SearchThreshold(policy="fpir_per_group", target=0.1, axis="group"),
)


def made(folder: Path, people: int = 90, enrolled: int = 60, probes: int = 400, seed: int = 0) -> dict[str, Any]:
    """A gallery, probes of enrolled people and of others, a table of people, and the same scores as full candidate lists."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(people, 12))
    group = np.array(["a", "b", "c"])[np.arange(people) % 3]
    base[group == "b"] += 0.4
    who = rng.integers(0, people, probes)
    gallery = (base[:enrolled] + 0.4 * rng.normal(size=(enrolled, 12))).astype(np.float32)
    vectors = (base[who] + 0.6 * rng.normal(size=(probes, 12))).astype(np.float32)
    np.savez(folder / "gallery.npz", embedding=gallery, subject=[f"s{k}" for k in range(enrolled)])
    np.savez(folder / "probes.npz", embedding=vectors, subject=[f"s{k}" for k in who])
    pd.DataFrame({"subject": [f"s{k}" for k in range(people)], "group": group}).to_csv(
        folder / "people.csv", index=False
    )
    a = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    b = gallery.astype(np.float64) / np.linalg.norm(gallery.astype(np.float64), axis=1, keepdims=True)
    scores = a @ b.T
    pd.DataFrame(
        {
            "probe": np.repeat([f"p{k}" for k in range(probes)], enrolled),
            "probe_subject": np.repeat([f"s{k}" for k in who], enrolled),
            "candidate_subject": np.tile([f"s{k}" for k in range(enrolled)], probes),
            "score": scores.ravel(),
        }
    ).to_parquet(folder / "lists.parquet")
    pd.DataFrame({"subject": [f"s{k}" for k in range(enrolled)]}).to_csv(folder / "enrolled.csv", index=False)
    return {"who": who, "group": group, "scores": scores, "enrolled": enrolled}


def section(**changes: Any) -> Section:
    parts = {**STATED, "gallery": "gallery.npz", "probes": "probes.npz", "subjects": Subjects(path="people.csv")}
    return Section(**{**parts, "thresholds": THRESHOLDS, "ranks": (1, 3, 10), **changes})


def run(plan: Section, folder: Path, context: Context = CONTEXT) -> Assessment:
    return assess(plan, open_section(plan, folder=folder), context)


def find(found: Assessment, quantity: str, of: dict[str, str] | None = None, **at: Any) -> list[Estimate]:
    """The estimates of a quantity at a place, of one group or (``None``) of any; there must be some."""
    some = [
        e
        for e in found.estimates
        if e.quantity == quantity and (of is None or e.of == of) and all(e.at.get(k) == v for k, v in at.items())
    ]
    assert some
    return some


def test_templates_and_the_lists_they_would_return_give_the_same(tmp_path: Path) -> None:
    made(tmp_path)
    one = run(section(), tmp_path)
    lists = section(gallery="", probes="", candidates="lists.parquet", enrolled="enrolled.csv")
    two = run(lists, tmp_path)
    for e, f in zip(one.estimates, two.estimates, strict=True):
        assert (e.quantity, e.of, e.numerator, e.denominator) == (f.quantity, f.of, f.numerator, f.denominator)
        if e.value is not None:
            assert e.value == pytest.approx(f.value, rel=1e-6)
    assert [(s.kind, s.quantity, s.of, s.numerators) for s in one.series] == [
        (s.kind, s.quantity, s.of, s.numerators) for s in two.series
    ]


def test_rates_by_group_are_plain_counts(tmp_path: Path) -> None:
    world = made(tmp_path)
    who, scores, enrolled = world["who"], world["scores"], world["enrolled"]
    found = run(section(), tmp_path)
    group = world["group"][who]
    mated = who < enrolled
    other = scores.copy()
    other[np.flatnonzero(mated), who[mated]] = -np.inf
    for label in "abc":
        here = group == label
        non = here & ~mated
        wrong = (other.max(axis=1) >= 0.55) & non
        for e in find(found, "fpir", {"group": label}, threshold=0.55):
            assert (e.numerator, e.denominator) == (wrong.sum(), non.sum())
        assert len(find(found, "fpir", {"group": label}, threshold=0.55)) == 2
        own = scores[np.flatnonzero(mated & here), who[mated & here]]
        place = 1 + (other[mated & here] >= own[:, None]).sum(axis=1)
        for rank in (1, 3, 10):
            (e, _) = find(found, "fnir", {"group": label}, rank=rank, policy="investigation: no threshold")
            assert (e.numerator, e.denominator) == ((place > rank).sum(), len(place))
            (e, _) = find(found, "fnir", {"group": label}, rank=rank, threshold=0.55)
            assert e.numerator == ((place > rank) | (own < 0.55)).sum()
        (hit,) = find(found, "tpir", {"group": label}, threshold=0.55)
        (miss,) = find(found, "fnir", {"group": label}, threshold=0.55, rank="any")
        assert (hit.numerator, hit.denominator) == ((own >= 0.55).sum(), len(own))
        assert hit.interval is not None
        assert miss.interval is not None
        assert hit.interval.low == 1.0 - (miss.interval.high or 0.0)
        (e,) = find(found, "selectivity", {"group": label}, threshold=0.55)
        assert e.value == pytest.approx((other[non] >= 0.55).sum() / non.sum())
        (curve,) = [s for s in found.series if s.quantity == "cmc" and s.of == {"group": label}]
        assert curve.numerators == tuple((place <= r).sum() for r in range(1, 11))
        tpir, fpir = 1.0 - (own < 0.55).mean(), wrong.sum() / non.sum()
        (e,) = find(found, "ppv", {"group": label}, threshold=0.55)
        assert e.value == pytest.approx(0.001 * tpir / (0.001 * tpir + 0.999 * fpir))
        (e,) = find(found, "alert_burden", {"group": label}, threshold=0.55)
        assert e.value == pytest.approx(999.0 * fpir)
        (e,) = find(found, "alert_share", {"group": label}, threshold=0.55)
        assert (e.numerator, e.denominator) == (wrong.sum(), ((other.max(axis=1) >= 0.55) & ~mated).sum())
        (e,) = find(found, "passerby_share", {"group": label}, threshold=0.55)
        assert e.value == pytest.approx(non.sum() / (~mated).sum())
    (share,) = [s for s in found.series if s.quantity == "gallery_share"]
    assert share.numerators == (20, 20, 20, 0)
    assert sum(share.y) == pytest.approx(1.0)  # type: ignore[arg-type]


def test_the_threshold_set_by_fpir_keeps_it_and_equal_thresholds_cost_somebody(tmp_path: Path) -> None:
    made(tmp_path)
    found = run(section(), tmp_path)
    policy = "lowest with FPIR at most 0.1 over everybody"
    overall = [e for e in found.estimates if e.quantity == "fpir" and not e.of and e.at["policy"] == policy]
    assert len(overall) == 2
    assert all(e.value is not None and e.value <= 0.1 for e in overall)
    what_if = "what if each group had its own threshold with FPIR at most 0.1"
    for label in "abc":
        (own,) = find(found, "fpir", {"group": label}, policy=what_if)
        assert own.value is not None
        assert own.value <= 0.1
        (threshold,) = find(found, "threshold", {"group": label}, policy=what_if)
        (change,) = find(found, "fnir_change", {"group": label}, policy=what_if)
        (after,) = find(found, "fnir", {"group": label}, policy=what_if)
        before = find(found, "fnir", {"group": label}, policy=policy, rank="any")[0]
        assert change.value == pytest.approx((after.value or 0.0) - (before.value or 0.0))
        assert threshold.value is not None
        if threshold.value > float(change.at["from_threshold"]):
            assert change.value >= 0.0


def test_growth_ends_in_the_whole_gallery(tmp_path: Path) -> None:
    made(tmp_path, people=300, enrolled=200)
    found = run(section(), tmp_path)
    curves = [s for s in found.series if s.quantity == "fpir" and s.kind == "curve" and s.at["threshold"] == 0.55]
    assert len(curves) == 4
    for curve in curves:
        assert list(curve.x) == sorted(curve.x)
        assert curve.x[-1] == 200.0
        assert list(curve.numerators) == sorted(curve.numerators)  # type: ignore[type-var]
        whole = find(found, "fpir", curve.of, threshold=0.55)[0]
        assert curve.y[-1] == whole.value
        (line,) = [
            s for s in found.series if s.quantity == "fpir_predicted" and s.of == curve.of and s.at["threshold"] == 0.55
        ]
        assert line.x == curve.x
        mean = find(found, "selectivity", curve.of, threshold=0.55)[0]
        assert line.at["fmr"] == pytest.approx((mean.value or 0.0) / 200)
    assert halvings(200) == 4
    assert halvings(5) == 0


def test_the_same_on_any_number_of_threads(tmp_path: Path) -> None:
    made(tmp_path)
    runs = [run(section(), tmp_path, Context(seed=b"x", engine=local(k))) for k in (1, 2, 5)]
    assert msgspec.json.encode(runs[0]) == msgspec.json.encode(runs[1]) == msgspec.json.encode(runs[2])


def test_every_estimate_has_words(tmp_path: Path) -> None:
    made(tmp_path)
    found = run(section(), tmp_path)
    for e in found.estimates:
        assert get(e.quantity).definition
        text = claim(e)
        assert "None" not in text
    for word in ("unbiased", " fair", "safe", "compliant", "proves"):
        assert not any(word in h.claim for h in found.headlines)
    assert {s.quantity for s in found.series} >= {"cmc", "fpir", "fnir", "fpir_predicted", "gallery_share"}
    for s in found.series:
        assert get(s.quantity)


def test_small_groups_are_withheld_everywhere(tmp_path: Path) -> None:
    made(tmp_path)
    people = pd.read_csv(tmp_path / "people.csv")
    people.loc[:2, "group"] = "rare"
    people.to_csv(tmp_path / "people.csv", index=False)
    found = run(section(), tmp_path)
    rare = [e for e in found.estimates if e.of == {"group": "rare"}]
    assert rare
    assert all(e.value is None and "withheld" in (e.undefined or "") for e in rare)
    assert not any("rare" in s.of.values() or "rare" in s.x or "rare" in s.rows for s in found.series)


def test_probes_that_failed_are_searches_that_miss(tmp_path: Path) -> None:
    made(tmp_path)
    with np.load(tmp_path / "probes.npz") as file:
        vectors, subject = file["embedding"].copy(), file["subject"]
    before = run(section(), tmp_path)
    clear = [k for k, s in enumerate(subject) if int(s[1:]) < 60][:5]
    vectors[clear] = np.nan
    np.savez(tmp_path / "probes.npz", embedding=vectors, subject=subject)
    after = run(section(), tmp_path)
    a, b = (find(f, "fnir", {}, rank="any", threshold=0.55)[0] for f in (before, after))
    assert a.denominator == b.denominator
    assert a.numerator is not None
    assert b.numerator is not None
    assert b.numerator > a.numerator
    assert any("5 probe templates failed" in limit for limit in after.limits)


def test_one_file_as_gallery_and_probes_never_meets_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    subject = np.array([f"s{k // 2}" for k in range(60)] + ["alone1", "alone2"])
    vectors = rng.normal(size=(62, 8)).astype(np.float32)
    np.savez(
        tmp_path / "all.npz",
        embedding=vectors,
        subject=subject,
        **{"group.group": np.array(["a", "b"] * 15 * 2 + ["a", "b"])},
    )
    labels = np.array([["a", "b"][(k // 2) % 2] for k in range(60)] + ["a", "b"])
    np.savez(tmp_path / "all.npz", embedding=vectors, subject=subject, **{"group.group": labels})
    templates = open_templates(tmp_path / "all.npz")
    searches = search_templates(TemplateSearch(templates, templates), [0.5], 10, CONTEXT)
    assert searches.mated.sum() == 60
    assert np.nanmax(searches.mate_score) < 0.999
    assert any("2 searches were made with the only image" in w for w in searches.warnings)
    plan = section(
        gallery="all.npz", probes="all.npz", subjects=None, attributes={"group": Attribute(column="group.group")}
    )
    found = run(plan, tmp_path)
    assert find(found, "fnir", {}, rank="any", threshold=0.55)[0].denominator == 60


def test_a_person_in_two_groups_is_in_none(tmp_path: Path) -> None:
    made(tmp_path)
    people = pd.read_csv(tmp_path / "people.csv")
    twice = pd.concat([people, pd.DataFrame({"subject": ["s0"], "group": ["b"]})])
    twice.to_csv(tmp_path / "people.csv", index=False)
    one = run(section(), tmp_path)
    parts = sum(find(one, "fnir", {"group": g}, rank="any", threshold=0.55)[0].denominator or 0 for g in "abc")
    whole = find(one, "fnir", {}, rank="any", threshold=0.55)[0].denominator or 0
    assert 0 < parts < whole
    assert any("searches for people without a label" in limit for limit in one.limits)
    told = [e.reason for i in one.inputs for e in i.exclusions]
    assert "people with two labels (in no group)" in told


def test_a_gallery_without_mates_and_one_without_strangers(tmp_path: Path) -> None:
    world = made(tmp_path)
    with np.load(tmp_path / "probes.npz") as file:
        vectors, subject = file["embedding"], file["subject"]
    outside = world["who"] >= world["enrolled"]
    np.savez(tmp_path / "probes.npz", embedding=vectors[outside], subject=subject[outside])
    none = run(section(), tmp_path)
    assert all(e.value is None for e in none.estimates if e.quantity in ("fnir", "ppv", "fnir_change"))
    assert any("FNIR and CMC are undefined" in limit for limit in none.limits)
    assert find(none, "fpir", {}, threshold=0.55)[0].value is not None
    np.savez(tmp_path / "probes.npz", embedding=vectors[~outside], subject=subject[~outside])
    all_mated = run(section(), tmp_path)
    assert all(e.value is None for e in all_mated.estimates if e.quantity in ("fpir", "alert_share", "selectivity"))
    assert any("FPIR is undefined" in limit for limit in all_mated.limits)
    assert any("No threshold was set for an FPIR" in limit for limit in all_mated.limits)


def test_ranks_beyond_the_lists_are_undefined(tmp_path: Path) -> None:
    made(tmp_path)
    lists = pd.read_parquet(tmp_path / "lists.parquet")
    top = lists.sort_values(["probe", "score"], ascending=[True, False]).groupby("probe").head(5)
    top.to_parquet(tmp_path / "lists.parquet")
    plan = section(gallery="", probes="", candidates="lists.parquet", enrolled="enrolled.csv")
    found = run(plan, tmp_path)
    for e in find(found, "fnir", rank=10):
        assert e.undefined == "the longest list holds 5 candidates"
    assert max(len(s.x) for s in found.series if s.quantity == "cmc") == 5
    whole = run(section(), tmp_path)
    for rank in (1, 3):
        a, b = (find(f, "fnir", {"group": "a"}, rank=rank, threshold=0.55)[0] for f in (found, whole))
        assert (a.numerator, a.denominator) == (b.numerator, b.denominator)


def test_rates_without_errors_have_upper_limits(tmp_path: Path) -> None:
    made(tmp_path)
    found = run(section(thresholds=(SearchThreshold(policy="vendor", value=0.999),)), tmp_path)
    for e in find(found, "fpir"):
        assert e.value == 0.0
        assert e.interval is not None
        assert e.interval.high is not None
        assert 0.0 < e.interval.high < 0.5
    for e in find(found, "ppv"):
        assert e.value is None


def test_thresholds_need_scores(tmp_path: Path) -> None:
    made(tmp_path)
    lists = pd.read_parquet(tmp_path / "lists.parquet")
    lists["rank"] = lists.groupby("probe")["score"].rank(ascending=False, method="first")
    lists.drop(columns="score").to_parquet(tmp_path / "lists.parquet")
    plan = section(gallery="", probes="", candidates="lists.parquet", enrolled="enrolled.csv")
    with pytest.raises(PlanError, match="ranks and no scores"):
        run(plan, tmp_path)
    found = run(
        section(gallery="", probes="", candidates="lists.parquet", enrolled="enrolled.csv", thresholds=()), tmp_path
    )
    assert find(found, "fnir", {"group": "a"}, rank=1)[0].value is not None


def test_frames_stand_in_place_of_files(tmp_path: Path) -> None:
    made(tmp_path)
    frames = {
        "candidates": pd.read_parquet(tmp_path / "lists.parquet"),
        "enrolled": pd.read_csv(tmp_path / "enrolled.csv"),
        "subjects": pd.read_csv(tmp_path / "people.csv"),
    }
    plan = section(
        gallery="",
        probes="",
        candidates=FRAME,
        enrolled=FRAME,
        subjects=Subjects(path=FRAME),
        thresholds=THRESHOLDS[:1],
    )
    found = assess(plan, open_section(plan, folder=tmp_path, frames=frames), CONTEXT)
    assert find(found, "fpir", {"group": "a"}, threshold=0.55)
    with pytest.raises(PlanError, match="data frame"):
        open_section(plan, folder=tmp_path)


def test_labels_nobody_has(tmp_path: Path) -> None:
    made(tmp_path)
    pd.DataFrame({"subject": ["other"], "group": ["a"]}).to_csv(tmp_path / "people.csv", index=False)
    with pytest.raises(InputError, match="Nobody has a label"):
        run(section(), tmp_path)


def test_dimensions_that_differ(tmp_path: Path) -> None:
    made(tmp_path)
    np.savez(tmp_path / "gallery.npz", embedding=np.eye(5, dtype=np.float32), subject=[f"s{k}" for k in range(5)])
    with pytest.raises(InputError, match="dimensions"):
        run(section(), tmp_path)


# ---- alert logs ------------------------------------------------------------------------------------------------------


def alert_plan(**changes: Any) -> Section:
    return Section(**{**STATED, "alerts": "log.csv", "passers_by": "counts.csv", **changes})


def write_log(folder: Path, judged: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 300
    group = np.array(["a", "b"])[(rng.random(n) < 0.6).astype(int)]
    table = pd.DataFrame(
        {
            "time": [f"2026-02-{1 + k % 20:02d}" for k in range(n)],
            "camera": [f"c{k % 3}" for k in range(n)],
            "entry": [f"w{k}" for k in rng.integers(0, 40, n)],
            "score": rng.random(n),
            "adjudication": np.where(rng.random(n) < judged, np.where(rng.random(n) < 0.3, "false", "true"), ""),
            "group": group,
        }
    )
    table.to_csv(folder / "log.csv", index=False)
    pd.DataFrame({"group": ["a", "b"], "count": [6000, 4000]}).to_csv(folder / "counts.csv", index=False)
    return table


def test_a_log_says_what_it_can_and_not_more(tmp_path: Path) -> None:
    table = write_log(tmp_path, judged=0.7)
    found = run(alert_plan(), tmp_path)
    for e in found.estimates:
        if e.quantity in ("fnir", "fpir"):
            assert e.value is None
    assert any("FNIR is not assessed" in limit for limit in found.limits)
    assert any("verification-biased" in limit for limit in found.limits)
    for label, people in (("a", 6000), ("b", 4000)):
        own = table[table["group"] == label]
        (share,) = find(found, "alert_share", {"group": label})
        assert (share.numerator, share.denominator) == (len(own), 300)
        assert share.interval is not None
        assert share.interval.contains(len(own) / 300)
        (passing,) = find(found, "passerby_share", {"group": label})
        assert passing.value == people / 10_000
        (ratio,) = find(found, "alert_share_ratio", {"group": label})
        assert ratio.value == pytest.approx(len(own) / 300 / (people / 10_000))
        false = (own["adjudication"] == "false").sum()
        (wrong,) = find(found, "false_alert_share", {"group": label})
        assert (wrong.numerator, wrong.denominator) == (false, (own["adjudication"] != "").sum())
        assert "verification-biased" in wrong.notes[0]
        (burden,) = find(found, "alert_burden", {"group": label})
        assert burden.value == pytest.approx(1000 * false / people)
        assert burden.interval is not None
        assert burden.interval.contains(burden.value or 0.0)
        assert "at least this many" in burden.notes[1]


def test_a_log_without_passers_by(tmp_path: Path) -> None:
    write_log(tmp_path)
    found = run(alert_plan(passers_by=""), tmp_path)
    for quantity in ("passerby_share", "alert_share_ratio", "alert_burden"):
        assert all(e.undefined == "the people who passed by were not counted" for e in find(found, quantity))
    assert all(e.value is not None for e in find(found, "alert_share"))
    nobody = run(alert_plan(passers_by="", alert_columns=AlertColumns(adjudication="none")), tmp_path)
    assert all(e.undefined == "no alert of this group was adjudicated" for e in find(nobody, "false_alert_share"))


def test_few_people_behind_a_group_of_a_log(tmp_path: Path) -> None:
    write_log(tmp_path)
    pd.DataFrame({"group": ["a", "b"], "count": [6000, 3]}).to_csv(tmp_path / "counts.csv", index=False)
    found = run(alert_plan(), tmp_path)
    assert all(e.value is None and "withheld" in (e.undefined or "") for e in found.estimates)


# ---- plans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gallery": "", "probes": ""}, "one input"),
        ({"candidates": "x.csv"}, "one input"),
        ({"probes": ""}, "both `gallery` and `probes`"),
        ({"searches": "x.csv"}, "belong to `candidates`"),
        ({"passers_by": "x.csv"}, "belongs to `alerts`"),
        ({"attributes": {}}, "names no attribute"),
        ({"attributes": {"a": Attribute(reference_column="x", probe_column="y")}}, "give `column`"),
        ({"ranks": ()}, "`ranks`"),
        ({"ranks": (0,)}, "`ranks`"),
        ({"ranks": (1, 1)}, "`ranks`"),
        ({"prevalences": (1.0,)}, "`prevalences`"),
        ({"intersections": (("group", "age"),)}, "intersections"),
        ({"thresholds": (SearchThreshold(policy="fpir_per_group", target=0.1, axis="age"),)}, "is none of"),
    ],
)
def test_plans_that_cannot_be_meant(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        section(**changes)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"policy": "vendor"}, "needs `value`"),
        ({"policy": "vendor", "value": 0.5, "target": 0.1}, "no effect"),
        ({"policy": "fpir", "target": 0.0}, "between 0 and 1"),
        ({"policy": "fpir_per_group", "target": 0.1}, "need `axis`"),
    ],
)
def test_thresholds_that_cannot_be_meant(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SearchThreshold(**parts)


def test_a_section_goes_through_json() -> None:
    plan = section(intersections=())
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Section) == plan
    assert set(plan.statements()) == {
        "evaluation type",
        "source of the labels",
        "selection of the gallery",
        "days between enrolment and mated probes",
    }


def test_intersections_of_two_attributes(tmp_path: Path) -> None:
    made(tmp_path)
    people = pd.read_csv(tmp_path / "people.csv")
    people["age"] = np.where(np.arange(len(people)) % 2, "old", "young")
    people.to_csv(tmp_path / "people.csv", index=False)
    plan = section(attributes={"group": Attribute(), "age": Attribute()}, intersections=(("group", "age"),))
    found = run(plan, tmp_path)
    cells = [
        e
        for e in find(found, "fpir", threshold=0.55)
        if set(e.of) == {"group", "age"} and e.at["gallery"] == "resampled"
    ]
    assert len(cells) == 6
    whole = find(found, "fpir", {}, threshold=0.55)[0]
    assert sum(e.denominator or 0 for e in cells) == whole.denominator


def test_lists_keep_their_promise_without_a_gallery_table() -> None:
    table = pd.DataFrame(
        {
            "probe": ["p1", "p1", "p2", "p2"],
            "candidate_subject": ["a", "b", "a", "b"],
            "score": [0.9, 0.2, 0.4, 0.3],
            "probe_subject": ["a", "a", "x", "x"],
            "mated": [True, True, False, False],
            "group": ["g"] * 4,
        }
    )
    searches = search_lists(open_candidates(table, attributes={"group": "group"}), 5)
    assert searches.sizes.tolist() == [2]
    assert not searches.gallery_known
    assert dataclasses.is_dataclass(searches)
