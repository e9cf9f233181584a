"""The toolkit from Python: every way to say who is in which group gives the same audit, and an audit shows itself."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from audit_toolkit import api
from audit_toolkit.errors import AuditError, InputError, PlanError, UsageError
from audit_toolkit.evidence.record import read_record

SECRET = "ZZTOPSECRET"  # noqa: S105 - a subject id that nothing may show
IDS = ["reference_subject", "probe_subject"]


def made(people: int = 80, seed: int = 3) -> pd.DataFrame:
    """A table of comparisons under canonical names, with gender and site on both sides."""
    rng = np.random.Generator(np.random.PCG64(seed))
    i, j = (np.concatenate([np.repeat(np.arange(people), 3), rng.integers(0, people, 500)]) for _ in range(2))
    i[240:], j[240:] = np.sort(rng.integers(0, people, (2, 500)), axis=0)
    gender, site = np.array(["f", "m"]), np.array(["north", "south"])
    name = np.array([f"{SECRET}{k:03d}" for k in range(people)])
    score = np.where(i == j, rng.normal(0.7, 0.12, len(i)), rng.normal(0.3, 0.12, len(i)))
    columns = {"reference_subject": name[i], "probe_subject": name[j], "score": score.round(4)}
    for side, who in (("reference", i), ("probe", j)):
        columns |= {f"{side}_gender": gender[who % 2], f"{side}_site": site[who // 2 % 2]}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return made()


@pytest.fixture(scope="module")
def people(frame: pd.DataFrame) -> pd.DataFrame:
    sides = [
        frame[[f"{s}_subject", f"{s}_gender", f"{s}_site"]].set_axis(["subject", "gender", "site"], axis=1)
        for s in ("reference", "probe")
    ]
    return pd.concat(sides).drop_duplicates().sort_values("subject").reset_index(drop=True)


@pytest.fixture(scope="module")
def bare(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[[*IDS, "score"]]


@pytest.fixture(scope="module")
def audit(frame: pd.DataFrame) -> api.Audit:
    """One audit for the tests that only look at it."""
    return api.disparity(
        frame,
        groups=["gender", "site"],
        intersections=[["gender", "site"]],
        threshold=[0.5, 0.4],
        title="A <b>title</b>",
        min_people=2,
    )


def rates(audit: api.Audit) -> list[Any]:
    return [(e.quantity, e.of, e.at, e.value, e.interval) for q in ("fmr", "fnmr") for e in audit.estimates(q)]


# ---- Ways to name the groups ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(frame: pd.DataFrame) -> list[Any]:
    return rates(api.disparity(frame, groups=["gender"], threshold=0.5))


def test_groups_as_list_and_as_mapping(frame: pd.DataFrame, plain: list[Any]) -> None:
    columns = {"gender": ("reference_gender", "probe_gender")}
    assert rates(api.disparity(frame, groups=columns, threshold=0.5)) == plain
    renamed = frame.rename(columns={"reference_gender": "a", "probe_gender": "b", "score": "similarity"})
    other = api.disparity(renamed, groups={"gender": ("a", "b")}, threshold=0.5, columns={"score": "similarity"})
    assert [r[:4] for r in rates(other)] == [r[:4] for r in plain]


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "categories"])
def test_frames_of_every_kind_with_a_table_of_people(
    bare: pd.DataFrame, people: pd.DataFrame, plain: list[Any], kind: str
) -> None:
    turn = {
        "pandas": lambda f: f,
        "polars": pl.from_pandas,
        "arrow": lambda f: pa.Table.from_pandas(f, preserve_index=False),
        "categories": lambda f: f.astype({c: "category" for c in f.columns if c != "score"}),
    }[kind]
    found = api.disparity(turn(bare), groups=["gender"], subjects=turn(people), threshold=0.5)
    assert [r[:4] for r in rates(found)] == [r[:4] for r in plain]
    mapped = api.disparity(
        turn(bare),
        groups={"gender": "sex"},
        subjects=turn(people.rename(columns={"gender": "sex", "subject": "person"})),
        subject_id="person",
        threshold=0.5,
    )
    assert [r[:4] for r in rates(mapped)] == [r[:4] for r in plain]
    assert SECRET not in found.record.to_bytes().decode()


def test_a_file_and_a_frame_give_the_same_figures(
    frame: pd.DataFrame, bare: pd.DataFrame, people: pd.DataFrame, plain: list[Any], tmp_path: Path
) -> None:
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "s.parquet")
    frame.to_csv(tmp_path / "s.csv", index=False)
    for name in ("s.parquet", "s.csv"):
        for path in (tmp_path / name, str(tmp_path / name)):
            assert rates(api.disparity(path, groups=["gender"], threshold=0.5)) == plain
    people.to_csv(tmp_path / "people.csv", index=False)
    joined = api.disparity(bare, groups=["gender"], subjects=tmp_path / "people.csv", threshold=0.5)
    assert [r[:4] for r in rates(joined)] == [r[:4] for r in plain]


def test_the_frame_is_left_as_it_was(frame: pd.DataFrame) -> None:
    before = frame.copy(deep=True)
    api.disparity(frame, groups=["gender"], threshold=0.5)
    pd.testing.assert_frame_equal(frame, before)


def test_thresholds_that_nobody_named(frame: pd.DataFrame) -> None:
    plan = api.disparity_plan("s.csv", groups=["gender"])
    assert [(t.policy, t.target) for t in plan.disparity.thresholds] == [("eer", None), ("fmr", 1e-3)]
    plan = api.disparity_plan("s.csv", groups=["gender"], fmr=(0.1, 0.2), threshold=np.float64(0.5))
    assert [(t.policy, t.value or t.target) for t in plan.disparity.thresholds] == [
        ("vendor", 0.5),
        ("fmr", 0.1),
        ("fmr", 0.2),
    ]
    plan = api.disparity_plan("s.csv", groups=["gender"], eer=True)
    assert [t.policy for t in plan.disparity.thresholds] == ["eer"]


# ---- What an audit shows -------------------------------------------------------------------------------------------------


def test_estimates_by_group_and_place(audit: api.Audit) -> None:
    assert len(audit.estimates("fmr", {}, threshold=0.5)) < len(audit.estimates("fmr"))
    (one,) = audit.estimates("fmr", {"gender": "f", "site": "north"}, threshold=0.4)
    assert one.value is not None
    assert one.value == one.numerator / one.denominator
    every = audit.estimates("fmr", {"gender": "*"}, threshold=0.5)
    assert {e.of["gender"] for e in every} == {"f", "m"}
    assert audit.estimates("fmr", threshold=0.123) == ()
    assert audit.estimates("nonsense") == ()


def test_rates_are_what_a_short_loop_counts(audit: api.Audit, frame: pd.DataFrame) -> None:
    mated = frame.reference_subject == frame.probe_subject
    same = (frame.reference_gender == "f") & (frame.probe_gender == "f")
    for rate, rows, error in (("fmr", ~mated & same, frame.score >= 0.5), ("fnmr", mated & same, frame.score < 0.5)):
        found = [e for e in audit.estimates(rate, {"gender": "f"}, threshold=0.5) if tuple(e.of) == ("gender",)]
        assert [(e.numerator, e.denominator) for e in found] == [(int((rows & error).sum()), int(rows.sum()))]


def test_series_by_kind(audit: api.Audit) -> None:
    assert {s.kind for s in audit.record.series} >= {"curve", "matrix", "histogram"}
    assert all(s.kind == "curve" for s in audit.series("curve"))
    assert {s.quantity for s in audit.series("matrix", "fmr")} == {"fmr"}
    assert audit.series("nonsense") == ()


def test_plots_are_figures(audit: api.Audit) -> None:
    before = pyplot.get_fignums()
    drawn = [
        audit.plot_rates(),
        audit.plot_rates("fnmr", "site", 0.4),
        audit.plot_rates("fmr", "gender x site"),
        audit.plot_det(),
        audit.plot_det("site"),
        audit.plot_matrix(),
        audit.plot_matrix("site"),
    ]
    for figure in drawn:
        assert isinstance(figure, Figure)
        assert figure.axes
    assert pyplot.get_fignums() == before  # nothing is left open behind the caller's back


def test_plots_of_what_is_not_there(audit: api.Audit) -> None:
    for call, arguments in (
        (audit.plot_rates, ("fmr", "age")),
        (audit.plot_rates, ("nonsense",)),
        (audit.plot_rates, ("fmr", "gender", 0.123)),
        (audit.plot_det, ("age",)),
        (audit.plot_matrix, ("age",)),
        (audit.plot_matrix, ("gender", "nonsense")),
    ):
        with pytest.raises(UsageError, match=r"in this audit\."):
            call(*arguments)


def test_the_display_is_the_report_in_a_frame_of_its_own(audit: api.Audit) -> None:
    shown = audit._repr_html_()
    assert shown.startswith('<iframe title="A &lt;b&gt;title&lt;/b&gt;"')
    inner = html.unescape(shown.split('srcdoc="', 1)[1].rsplit('"></iframe>', 1)[0])
    assert inner.encode() == audit.html()
    assert "<b>title" not in inner
    assert SECRET not in inner


def test_repr_is_the_summary(audit: api.Audit) -> None:
    assert repr(audit) == audit.text()
    assert "A <b>title</b>" in repr(audit)
    assert "\x1b" not in repr(audit)
    assert max(map(len, audit.text(width=60).splitlines())) <= 60
    assert SECRET not in repr(audit)


def test_save_writes_four_files_and_only_them(audit: api.Audit, tmp_path: Path) -> None:
    report = audit.save(tmp_path / "new" / "folder")
    assert report == tmp_path / "new" / "folder" / "report.html"
    assert {p.name for p in report.parent.iterdir()} == {"record.json", "report.html", "run.json", "plan.json"}
    assert read_record((report.parent / "record.json").read_bytes()).to_bytes() == audit.record.to_bytes()
    run = json.loads((report.parent / "run.json").read_bytes())
    assert run["record_sha256"] == audit.record.digest()
    assert str(tmp_path) not in (report.parent / "run.json").read_text()
    audit.save(str(report.parent))  # again, over the earlier files
    assert {p.name for p in report.parent.iterdir()} == {"record.json", "report.html", "run.json", "plan.json"}


def test_save_where_it_cannot(audit: api.Audit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"^file: The folder for the report cannot be written \(.*\)\. Choose"):
        audit.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_saved_audits_of_files_run_again(frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    frame.to_csv(tmp_path / "data" / "s.csv", index=False)
    monkeypatch.chdir(tmp_path)
    first = api.disparity("data/s.csv", groups=["gender"], threshold=0.5)
    first.save("out")
    monkeypatch.chdir("/")
    assert api.run(tmp_path / "out" / "plan.json").record == first.record
    assert api.run(first.plan, folder=tmp_path).record == first.record


def test_saved_audits_of_frames_say_that_they_cannot(audit: api.Audit, tmp_path: Path) -> None:
    audit.save(tmp_path)
    with pytest.raises(PlanError, match=r"\$.disparity.scores: This plan was made for a data frame.*Save the frame"):
        api.run(tmp_path / "plan.json")


def test_the_demonstration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = api.demo_plan()
    assert list(plan.disparity.attributes) == ["gender", "ethnicity", "age"]
    assert plan.all_requirements() == ()  # nothing is required, so it ends in 0


def test_progress_tells_stages_and_rows(frame: pd.DataFrame) -> None:
    told: list[tuple[str, int, int | None]] = []
    api.disparity(frame, groups=["gender"], threshold=0.5, progress=lambda *step: told.append(step))
    assert {stage for stage, _, _ in told} >= {"reading", "counting by subject"}
    assert max(done for stage, done, _ in told if stage == "reading") == len(frame)
    assert all(total is None or done <= total for _, done, total in told)


# ---- Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "options", "kind", "what"),
    [
        ("gender", {}, UsageError, r"`groups` is one string\. Give a list"),
        ([], {}, PlanError, "names no attribute"),
        (["age"], {}, InputError, "Missing columns: reference_age, probe_age"),
        ({"gender": ("reference_gender",)}, {}, UsageError, "'gender' does not name two columns"),
        ({"gender": ("reference_gender", "")}, {}, PlanError, r"attributes.gender: Give both `reference_column` and"),
        ({"gender": "gender"}, {}, PlanError, "neither in the score file nor in a subject table"),
        ({"who": ("reference_subject", "probe_subject")}, {}, PlanError, "names people or samples"),
        (
            ["gender"],
            {"threshold": float("nan")},
            PlanError,
            r"thresholds\[0\].value: A number in a plan must be finite",
        ),
        (["gender"], {"fmr": 2}, PlanError, "needs `target` between 0 and 1"),
        (["gender"], {"nonsense": 1}, PlanError, r"\$.disparity: There is no field `nonsense` here"),
        (["gender"], {"scope": "all"}, PlanError, "'all' is not one of 'within-group'"),
        (["gender"], {"columns": {"score": "similarity"}}, InputError, "Missing column: similarity"),
        (["gender"], {"intersections": [["gender", "age"]]}, PlanError, "`intersections`"),
        (["gender"], {"subjects": 5}, UsageError, "A int is not a data frame"),
        (["gender"], {"requirements": [{"id": "x"}]}, PlanError, r"\$.requirements\[0\]: The field `title` is missing"),
    ],
)
def test_what_cannot_be_asked(frame: pd.DataFrame, groups: Any, options: dict[str, Any], kind: type, what: str) -> None:
    with pytest.raises(AuditError, match=what) as caught:
        api.disparity(frame, groups=groups, **({"threshold": 0.5} | options))
    assert caught.type is kind
    assert SECRET not in str(caught.value)


def test_what_is_no_frame_or_no_number(frame: pd.DataFrame) -> None:
    for given, what in (
        ([1, 2], "A list is not a data frame"),
        (pl.from_pandas(frame).lazy(), "lazy. Collect it first"),
        (frame.assign(score="high"), "not numbers; row 1"),
        (frame.assign(score=[SECRET, *frame.score[1:]]), "different kinds|not numbers"),
        (frame.iloc[:0], "There are no rows"),
    ):
        with pytest.raises(AuditError, match=what) as caught:
            api.disparity(given, groups=["gender"], threshold=0.5)
        assert SECRET not in str(caught.value)


def test_run_takes_a_path_a_mapping_or_a_plan(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "s.csv", index=False)
    plan = api.disparity_plan("s.csv", groups=["gender"], threshold=0.5)
    raw = {"disparity": json.loads(json.dumps(plan.canonical()["disparity"]))}
    (tmp_path / "plan.json").write_text(json.dumps(raw))
    path = tmp_path / "plan.json"
    ways: list[tuple[Any, Path | None]] = [(path, None), (str(path), None), (raw, tmp_path), (plan, tmp_path)]
    records = [api.run(given, folder=folder).record for given, folder in ways]
    assert all(r == records[0] for r in records)
    with pytest.raises(InputError, match=r"s.csv: There is no such file"):
        api.run(plan, folder=tmp_path / "elsewhere")
