"""Every command from start to end: exit codes, what is printed, what is written, and that three paths are one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from score_files import FILES, SECRET, Ended, Row, comparisons, start, write

from audit_toolkit import api
from audit_toolkit.cli.show import progress
from audit_toolkit.evidence.quantities import ALL
from audit_toolkit.plan.catalogue import catalogue

FULL = """
schema = "audit_toolkit/plan/1"
title = "Every section of a plan"
catalogue = ["nist-sp-800-63b-fmr", "fmr-ratio-at-most-2"]

[system]
name = "S"
vendor = "V"
version = "1"
purpose = "P"

[parties]
commissioned_by = "C"
auditor = "A"
operator = "O"

[disparity]
scores = "data/scores.csv"
format = "table"
format_options = { delimiter = ";" }
evaluation_type = "scenario"
label_source = "self-reported"
impostor_selection = "at random"
days_between_mated_captures = "30"
intersections = [["gender", "site"]]
higher_is = "same"
failure_scores = [-1.0]
scope = "within-group"
alphas = [0.0, 0.5, 1.0]
thresholds = [
  { policy = "vendor", value = 0.5 },
  { policy = "fmr", target = 0.05, of = { gender = "f" } },
  { policy = "eer" },
  { policy = "fmr_per_group", target = 0.1, axis = "gender" },
]

[disparity.columns]
reference_subject = "a"
probe_subject = "b"
score = "similarity"
reference_sample = "sa"
probe_sample = "sb"
failure = "failed"
weight = "times"
transaction = "visit"

[disparity.subjects]
path = "data/people.csv"
id = "person"

[disparity.attributes.gender]
column = "sex"
labels = ["f", "m"]
reference = "f"

[disparity.attributes.site]

[disparity.covariates]
camera = "camera"

[disparity.uncertainty]
method = "logit-jackknife"
level = 0.9
replicates = 64

[disparity.support]
min_subjects = 20
min_errors = 5

[[requirements]]
id = "fnmr-of-all"
title = "FNMR at most 0.9"
quantity = "fnmr"
comparator = "<="
limit = 0.9
of = { gender = "*" }
at = { threshold = 0.5 }
min_subjects = 10
min_errors = 0
rationale = "R"
source = { title = "T", clause = "1", read = "primary" }

[disclosure]
min_people = 3

[execution]
threads = 2
chunk_rows = 100
memory_rows = 300
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the full plan and its data."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "data").mkdir()
    made, people = [], {}
    for k, (a, b, ga, gb, score) in enumerate(comparisons(100, labels=("f", "m", "m"))):
        visit = k // 2 if a == b else 10_000 + k
        made.append([a, b, score, f"{a}/{k}", f"{b}/{k}'", "", 1 + k % 2, visit, ["north", "south"][k % 2]])
        people |= {a: ga, b: gb}
    made[0][5], made[0][2] = "fte", ""
    made[5][5], made[5][2] = "fta", ""
    made[9][2] = -1
    header = ("a", "b", "similarity", "sa", "sb", "failed", "times", "visit", "camera")
    write(folder / "data" / "scores.csv", made, header, ";")
    table = [[p, g, "xy"[k % 2]] for k, (p, g) in enumerate(sorted(people.items()))]
    write(folder / "data" / "people.csv", table, ("person", "sex", "site"))
    (folder / "plan.toml").write_text(FULL)
    return folder


@pytest.fixture(scope="module")
def first(whole: Path) -> api.Audit:
    """The full plan carried out once, saved beside it."""
    audit = api.run(whole / "plan.toml")
    audit.save(whole / "results" / "first")
    return audit


def test_a_plan_with_every_section(first: api.Audit, whole: Path) -> None:
    record = first.record
    assert first.exit_code == 1
    (read,) = record.inputs
    assert read.rows_read == read.rows_used + sum(e.count for e in read.exclusions if not e.used)
    assert sorted(e.count for e in read.exclusions if not e.used) == [1, 1, 1]
    statements = {s.name: s.text for s in record.statements}
    assert statements["evaluation type"] == "scenario"
    policies = {e.at.get("policy") for e in record.estimates} - {None}
    assert len({p for p in policies if str(p).startswith("what if")}) == 2
    assert {"stated by the vendor or the plan", "equal error rate (EER)"} <= policies
    assert any("within f" in str(p) for p in policies)
    assert {tuple(e.of) for e in record.estimates} >= {("gender",), ("site",), ("gender", "site")}
    assert {e.quantity for e in record.estimates} >= {
        "fte",
        "fta",
        "gfar",
        "gfrr",
        "far",
        "frr",
        "mantel_haenszel_ratio",
    }
    required = {f.requirement.id: f.verdict for f in record.findings if f.requirement}
    assert set(required) == {"nist-sp-800-63b-fmr", "fmr-ratio-at-most-2", "fnmr-of-all"}
    assert required["fnmr-of-all"] == "satisfied"
    text = "".join(p.read_text(encoding="utf-8") for p in (whole / "results" / "first").iterdir())
    assert SECRET not in text
    assert str(whole) not in text


def test_an_earlier_run_can_be_carried_out_again(cli: Any, first: api.Audit, whole: Path, tmp_path: Path) -> None:
    earlier = whole / "results" / "first" / "plan.json"
    section = json.loads(earlier.read_bytes())["disparity"]
    assert (section["scores"], section["subjects"]["path"]) == ("../../data/scores.csv", "../../data/people.csv")
    again = cli("run", earlier, "--quiet", out=tmp_path / "elsewhere" / "again")
    assert again.code == first.exit_code
    assert (again.folder / "record.json").read_bytes() == first.record.to_bytes()
    assert (again.folder / "report.html").read_bytes() == (earlier.parent / "report.html").read_bytes()


def question(folder: Path, scores: str) -> dict[str, Any]:
    return {
        "title": "One question",
        "disparity": {
            "scores": scores,
            "evaluation_type": "technology",
            "label_source": "self-reported",
            "impostor_selection": "not provided",
            "days_between_mated_captures": "not provided",
            "attributes": {"gender": {"reference_column": "reference_gender", "probe_column": "probe_gender"}},
            "thresholds": [{"policy": "vendor", "value": 0.5}, {"policy": "fmr", "target": 0.05}],
        },
        "requirements": [
            {
                "id": "fmr-ratio-gender",
                "title": "FMR ratio of every gender group to the reference group",
                "quantity": "fmr_ratio",
                "comparator": "<=",
                "limit": 2.0,
                "of": {"gender": "*"},
                "source": {"title": "the command line"},
            }
        ],
    }


def test_three_paths_give_the_same_bytes(
    cli: Any, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(scores, tmp_path / "scores.csv")
    asked = question(tmp_path, "scores.csv")
    options = ("--label-source", "self-reported", "--evaluation-type", "technology", "--title", "One question")
    thresholds = ("--threshold", "0.5", "--fmr", "0.05", "--max-fmr-ratio", "2")
    by_options = cli(
        "disparity", "scores.csv", "--group", "reference_gender,probe_gender", *thresholds, *options, out=tmp_path / "1"
    )
    (tmp_path / "plan.json").write_text(json.dumps(asked))
    by_plan = cli("run", "plan.json", "--quiet", out=tmp_path / "2")
    audit = api.disparity(
        tmp_path / "scores.csv",
        groups=["gender"],
        threshold=0.5,
        fmr=[0.05],
        title="One question",
        evaluation_type="technology",
        label_source="self-reported",
        requirements=asked["requirements"],
    )
    bytes_ = (by_options.folder / "record.json").read_bytes()
    assert bytes_ == (by_plan.folder / "record.json").read_bytes()
    assert bytes_ == audit.record.to_bytes()
    assert by_options.code == by_plan.code == audit.exit_code
    assert api.run(asked, folder=tmp_path).record.to_bytes() == bytes_
    for n, folder in enumerate((by_options.folder, by_plan.folder)):  # and from each of them again
        assert cli("run", folder / "plan.json", "--quiet", out=tmp_path / f"again{n}").record == by_plan.record


def test_saving_over_the_plan_and_through_a_link(cli: Any, scores: Path, tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep", target_is_directory=True)
    out = tmp_path / "link" / "out"
    made = cli("disparity", scores, "--group", "reference_gender,probe_gender", "--threshold", "0.5", out=out)
    before = made.record
    plan = (out / "plan.json").read_bytes()
    assert cli("run", out / "plan.json", out=out).record == before
    assert cli("run", tmp_path / "real" / "deep" / "out" / "plan.json", out=out).record == before
    assert (out / "plan.json").read_bytes() == plan


def test_a_plan_made_for_a_frame_says_that_it_cannot_run_again(cli: Any, rows: list[Row], tmp_path: Path) -> None:
    names = ("reference_subject", "probe_subject", "reference_gender", "probe_gender", "score")
    frame = pa.table({name: [r[k] for r in rows] for k, name in enumerate(names)})
    api.disparity(frame, groups=["gender"], threshold=0.5).save(tmp_path / "frame")
    ended = cli("run", tmp_path / "frame" / "plan.json")
    assert ended.code == 2
    assert ended.err.startswith(
        "Error: $.disparity.scores: This plan was made for a data frame, which cannot be read again"
    )
    assert "Save the frame" in ended.err
    people = pa.table({"subject": sorted({r[0] for r in rows}), "gender": ["f"] * len({r[0] for r in rows})})
    write(tmp_path / "bare.csv", [[r[0], r[1], r[4]] for r in rows], ("reference_subject", "probe_subject", "score"))
    api.disparity(tmp_path / "bare.csv", groups=["gender"], subjects=people, threshold=0.5).save(tmp_path / "mixed")
    ended = cli("run", tmp_path / "mixed" / "plan.json")
    assert (ended.code, ended.err[:34]) == (2, "Error: $.disparity.subjects.path: ")


# ---- Exit codes and what is printed --------------------------------------------------------------------------------------


def test_demo_is_satisfied_and_leaves_four_files(cli: Any, tmp_path: Path) -> None:
    ended = cli("demo")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(p.name for p in ended.folder.iterdir()) == list(FILES)
    last = ended.out.rstrip().splitlines()[-1]
    assert last == f"Report: {ended.folder.resolve() / 'report.html'}"
    again = cli("run", ended.folder / "plan.json", "--quiet", out=tmp_path / "again")
    assert again.code == 0
    assert (again.folder / "record.json").read_bytes() == (ended.folder / "record.json").read_bytes()
    run = json.loads((ended.folder / "run.json").read_bytes())
    assert run["rows"] == ended.input["rows_read"] > 10_000


@pytest.mark.parametrize(
    ("words", "code", "verdict"),
    [
        ((), 0, None),
        (("--max-fmr-ratio", "1000"), 0, "satisfied"),
        (("--max-fmr-ratio", "0.001"), 1, "violated"),
        (("--max-fmr-ratio", "1.05"), 3, "inconclusive"),
        (("--max-fnmr-ratio", "2", "--threshold", "0.01"), 3, "not_assessed"),
        (("--max-fmr-ratio", "0.001", "--max-fnmr-ratio", "2", "--threshold", "0.01"), 1, "violated"),
    ],
)
def test_exit_code_is_the_worst_verdict(
    cli: Any, scores: Path, words: tuple[str, ...], code: int, verdict: str
) -> None:
    given = (*words, *(() if "--threshold" in words else ("--threshold", "0.3")))
    ended: Ended = cli("disparity", scores, "--group", "reference_gender,probe_gender", *given)
    assert (ended.code, ended.err) == (code, "")
    found = [f["verdict"] for f in ended.record["findings"] if f.get("requirement")]
    assert found[:1] == ([verdict] if verdict else [])


def test_quiet_prints_one_line_and_no_progress(audit: Any, scores: Path) -> None:
    ended = audit(scores)
    assert ended.out.splitlines() == [f"Report: {ended.folder.resolve() / 'report.html'}"]
    assert ended.err == ""


def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(quiet=False) as report:
        assert report is None  # the captured stderr is no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(quiet=True) as report:
        assert report is None
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr("audit_toolkit.cli.show.time.monotonic", lambda: clock.now)
    with progress(quiet=False) as report:
        assert report is not None
        report("reading", 10, None)
        assert capsys.readouterr().err == ""  # nothing within the first second
        clock.now = 2.0
        report("reading", 20, 100)
        report("counting", 5, 100)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "reading" in captured.err


def test_help_and_version_and_no_command(cli: Any) -> None:
    for words, code, said in (
        (("--help",), 0, "Exit codes: 0 satisfied"),
        (("-h",), 0, "demo"),
        (("--version",), 0, "audit-toolkit, version "),
        (("run", "--help"), 0, "PLAN"),
        (("disparity", "--help"), 0, "--higher-is"),
    ):
        ended = cli(*words)
        assert ended.code == code
        assert said in ended.out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("nonsense",), "No such command"),
        (("run",), "Missing argument 'PLAN'"),
        (("disparity",), "Missing option '--group'"),
        (("disparity", "--group", "a,b"), "Exactly one of SCORES and --embeddings"),
        (("disparity", "x.csv", "--embeddings", "y.npz", "--group", "a,b"), "Exactly one of SCORES and --embeddings"),
        (("disparity", "x.csv"), "Missing option '--group'"),
        (("disparity", "x.csv", "--group", "a,b", "--thresh", "1"), "No such option"),
        (("disparity", "x.csv", "--group", "a,b", "--threshold", "high"), "not a valid float"),
        (
            ("disparity", "x.csv", "--group", "a,b", "--threshold", "nan"),
            r"thresholds[0].value: A number in a plan must be",
        ),
        (
            ("disparity", "x.csv", "--group", "a,b", "--threshold", "inf"),
            r"thresholds[0].value: A number in a plan must be",
        ),
        (("disparity", "x.csv", "--group", "a,b", "--threshold", "1e300"), "needs `value`, a number of at most 1e+30"),
        (("disparity", "x.csv", "--group", "a,b", "--fmr", "0"), "needs `target` between 0 and 1"),
        (("disparity", "x.csv", "--group", "a,b", "--level", "1.5"), "`level` must lie between 0.5 and 1"),
        (("disparity", "x.csv", "--group", "a,b", "--level", "0.5"), "`level` must lie between 0.5 and 1"),
        (("disparity", "x.csv", "--group", "a,b", "--min-people", "0"), "`min_people` must be at least 1"),
        (("disparity", "x.csv", "--group", "a,b", "--threads", "-1"), "`threads` must be 0 or more"),
        (("disparity", "x.csv", "--group", "a,b", "--failure-score", "nan"), "failure_scores[0]: A number"),
        (("disparity", "x.csv", "--group", "a,b", "--max-fmr-ratio", "nan"), "requirements[0].limit: A number"),
        (("disparity", "x.csv", "--group", "a,b", *("--threshold", "1") * 17), "At most 16 thresholds"),
        (("explain", "nonsense"), "There is no quantity and no requirement of that name"),
        (("explain", "FMR"), "Near: fmr, fmr_extrapolated, fmr_ratio"),
    ],
)
def test_usage_errors_end_in_two(cli: Any, words: tuple[str, ...], what: str) -> None:
    ended = cli(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert what in ended.err
    assert not ended.folder.exists()


def test_explain_knows_every_quantity_and_requirement(cli: Any) -> None:
    listed = cli("explain")
    assert listed.code == 0
    for name, entry in ALL.items():
        assert f"  {name} " in listed.out
        said = cli("explain", name)
        assert said.code == 0
        assert said.out.startswith(entry.name)
        assert "What it is: " in said.out
        assert max(map(len, said.out.splitlines())) <= 100
    for name, requirement in catalogue().items():
        said = cli("explain", name)
        assert said.code == 0
        assert said.out.startswith(requirement.title)
        assert "Requires: " in said.out


def test_a_fault_of_our_own_is_no_verdict(cli: Any, scores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError(f"row of {SECRET}")

    monkeypatch.setattr("audit_toolkit.api.run_plan", broken)
    ended = cli("disparity", scores, "--group", "reference_gender,probe_gender")
    assert ended.code == 4  # never 1, which means "violated"
    assert ended.err.startswith("Error: The run failed where it should not (ValueError in audit_toolkit/api.py, line ")
    assert SECRET not in ended.err
    monkeypatch.setattr("audit_toolkit.api.run_plan", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    ended = cli("disparity", scores, "--group", "reference_gender,probe_gender")
    assert (ended.code, "memory did not suffice" in ended.err) == (4, True)


def test_a_terminal_without_the_labels_letters(rows: list[Row], tmp_path: Path) -> None:
    words = {"f": "女性", "m": "Nữ"}
    path = write(tmp_path / "s.csv", [[*r[:2], words[r[2]], words[r[3]], r[4]] for r in rows])
    process = start(
        *(
            "disparity",
            path,
            "--group",
            "reference_gender,probe_gender",
            "--threshold",
            "0.5",
            "--out",
            tmp_path / "out",
        ),
        PYTHONIOENCODING="latin-1",
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "??" in out
    assert words["f"] in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


# ---- Where it cannot write, and when it is interrupted -------------------------------------------------------------------


def test_out_that_is_no_folder_is_refused_before_the_work(
    cli: Any, scores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_toolkit.api.run_plan", lambda *_, **__: pytest.fail("work was done"))
    words = ("disparity", scores, "--group", "reference_gender,probe_gender")
    ended = cli(*words, out=scores)
    assert (ended.code, "is a file" in ended.err) == (2, True)
    ended = cli(*words, out=scores / "below")
    assert (ended.code, "not a folder. Choose another" in ended.err) == (2, True)
    monkeypatch.setattr("audit_toolkit.cli.show.os.access", lambda _, mode: not mode & os.W_OK)
    ended = cli(*words)
    assert (ended.code, "cannot be written. Choose another" in ended.err) == (2, True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(cli: Any, scores: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    ended = cli("disparity", scores, "--group", "reference_gender,probe_gender", out=locked / "out")
    assert (ended.code, "cannot be written" in ended.err) == (2, True)
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize("fails", ["write_bytes", "folder in the way"])
def test_nothing_is_half_written(
    audit: Any, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "record.json").write_text("an earlier one")
    if fails == "write_bytes":
        plain = Path.write_bytes

        def full(self: Path, data: bytes) -> int:
            if "run.json" in self.name:
                raise OSError(28, "No space left on device")
            return plain(self, data)

        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        (out / "report.html").mkdir()
    ended = audit(scores)
    assert ended.code == 4
    assert "The folder for the report cannot be written (" in ended.err
    assert ended.err.count("\n") == 1
    assert (out / "record.json").read_text() == "an earlier one"
    assert {p.name for p in out.iterdir()} <= {"record.json", "report.html"}


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, sent: signal.Signals) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    n = 300_000
    i, j = rng.integers(0, 2000, n), rng.integers(0, 2000, n)
    label = np.array(["f", "m"])
    columns = {
        "reference_subject": i,
        "probe_subject": j,
        "reference_gender": label[i % 2],
        "probe_gender": label[j % 2],
    }
    pq.write_table(pa.table({**columns, "score": rng.random(n)}), tmp_path / "scores.parquet")
    asked = question(tmp_path, "scores.parquet") | {"execution": {"memory_rows": 1000, "chunk_rows": 1000}}
    (tmp_path / "plan.json").write_text(json.dumps(asked))
    temporary, out = tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    process = start("run", tmp_path / "plan.json", "--out", out, TMPDIR=str(temporary))
    try:
        until = time.monotonic() + 30
        while not list(temporary.glob("audit_toolkit-*/*.npy")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()
        process.send_signal(sent)
        said, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "")
    assert err.strip() == "Interrupted; nothing was written."
    assert list(temporary.iterdir()) == []
    assert not out.exists()
