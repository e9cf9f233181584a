"""Searches from the command line: three paths to one record, what a run leaves, and wrong input in one sentence."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_files import FILES, SECRET, Ended, write

from audit_toolkit import api
from audit_toolkit.evidence.record import read_record

DIMENSIONS = 16
ENROLLED, MATED, STRANGERS = 40, 20, 40
AT = 0.7


@dataclass(frozen=True)
class Person:
    id: str
    sex: str
    face: np.ndarray


def people(start: int, count: int, seed: int) -> list[Person]:
    rng = np.random.Generator(np.random.PCG64(seed))
    faces = rng.normal(size=(count, DIMENSIONS))
    return [Person(f"{SECRET}{start + i:03d}", "fm"[i % 2], faces[i]) for i in range(count)]


def templates(path: Path, whom: Sequence[Person], seed: int, *, labels: bool = True, bad: Sequence[int] = ()) -> Path:
    """A .npz as the toolkit reads it; rows in ``bad`` hold no numbers."""
    rng = np.random.Generator(np.random.PCG64(seed))
    vectors = np.array([p.face for p in whom]).reshape(len(whom), DIMENSIONS)
    vectors = (vectors + 0.5 * rng.normal(size=vectors.shape)).astype(np.float32)
    vectors[list(bad)] = np.nan
    columns = {"group.sex": np.array([p.sex for p in whom], "U1")} if labels else {}
    np.savez(path, vectors=vectors, subject=np.array([p.id for p in whom], "U16"), **columns)
    return path


ENROLLED_PEOPLE = people(0, ENROLLED, 1)
OTHERS = people(ENROLLED, STRANGERS, 2)
CROWD = [*ENROLLED_PEOPLE[:MATED], *OTHERS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with templates, with the lists that a search of them would return, and with an alert log."""
    folder = tmp_path_factory.mktemp("searches")
    templates(folder / "gallery.npz", ENROLLED_PEOPLE, 3)
    templates(folder / "crowd.npz", CROWD, 4)
    with np.load(folder / "gallery.npz") as g, np.load(folder / "crowd.npz") as p:
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (g["vectors"], p["vectors"]))
    scores = np.round((b @ a.T).astype(np.float64), 4)
    lists = [
        [f"s{k}", rank + 1, scores[k, j], CROWD[k].id, ENROLLED_PEOPLE[j].id]
        for k in range(len(CROWD))
        for rank, j in enumerate(np.argsort(-scores[k], kind="stable")[:10])
    ]
    header = ("probe", "rank", "score", "probe_subject", "candidate_subject")
    write(folder / "lists.csv", lists, header)
    write(folder / "ranks.csv", [[s, r, p, c] for s, r, _, p, c in lists], ("probe", *header[1:2], *header[3:]))
    write(folder / "enrolled.csv", [[p.id] for p in ENROLLED_PEOPLE], ("subject",))
    write(folder / "searches.csv", [[f"s{k}", p.id] for k, p in enumerate(CROWD)], ("probe", "probe_subject"))
    write(folder / "people.csv", [[p.id, p.sex] for p in [*ENROLLED_PEOPLE, *OTHERS]], ("subject", "sex"))
    log = [
        [f"2024-05-{1 + k % 9:02d} 10:00", f"c{k % 3}", ENROLLED_PEOPLE[k % 15].id, "fm"[k % 3 == 0], word]
        for k, word in enumerate(["false", "true", "false", ""] * 15)
    ]
    write(folder / "log.csv", log, ("time", "camera", "entry", "sex", "adjudication"))
    write(folder / "passers.csv", [["f", 4000], ["m", 6000]], ("sex", "count"))
    return folder


@pytest.fixture
def watch(cli: Any, tmp_path: Path) -> Callable[..., Ended]:
    """``watch("--gallery", file, ...)``: the command ``watchlist`` by sex, quietly."""

    def call(*words: Any, group: str = "sex=group.sex", out: Path | None = None) -> Ended:
        folder = out or tmp_path / "out"
        groups = ("--group", group) if group else ()
        return cli("watchlist", *words, *groups, "--quiet", "--out", folder, out=folder)

    return call


INPUTS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "templates": (
        {"gallery": "gallery.npz", "probes": "crowd.npz"},
        {"threshold": AT, "fpir": 0.1, "prevalences": [0.01]},
        "group.sex",
    ),
    "lists": (
        {"candidates": "lists.csv", "searches": "searches.csv", "enrolled": "enrolled.csv", "subjects": "people.csv"},
        {"threshold": AT, "fpir": 0.1, "prevalences": [0.001]},
        "sex",
    ),
    "log": ({"alerts": "log.csv", "passers_by": "passers.csv"}, {}, "sex"),
}
"""Per kind of input: its files, what is asked of it, and where the group stands."""

QUANTITIES = {
    "templates": {"fpir", "fnir", "tpir", "selectivity", "alert_share", "alert_burden", "ppv", "fpir_ratio"},
    "lists": {"fpir", "fnir", "tpir", "alert_share", "alert_burden", "ppv", "fpir_ratio"},
    "log": {"fnir", "fpir", "alert_share", "false_alert_share", "passerby_share", "alert_share_ratio", "alert_burden"},
}


def as_plan(files: dict[str, str], asked: dict[str, Any], column: str) -> str:
    thresholds = [{"policy": "vendor", "value": asked["threshold"]}] if "threshold" in asked else []
    thresholds += [{"policy": "fpir", "target": asked["fpir"]}] if "fpir" in asked else []
    inline = ", ".join("{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in t.items()) + " }" for t in thresholds)
    lines = [
        'title = "Audit of identification by demographic group"',
        "[identification]",
        'evaluation_type = "scenario"',
        'label_source = "self-reported"',
        'gallery_selection = "drawn at random"',
        'days_between_mated_captures = "30"',
        *(f'{k} = "{v}"' for k, v in files.items() if k != "subjects"),
        f"thresholds = [{inline}]",
        *([f"prevalences = {asked['prevalences']}"] if "prevalences" in asked else []),
        "[identification.attributes.sex]",
        f'column = "{column}"',
    ]
    if "subjects" in files:
        lines += ["[identification.subjects]", f'path = "{files["subjects"]}"']
    return "\n".join(lines)


@pytest.mark.parametrize("kind", INPUTS)
def test_command_function_and_plan_file_give_one_record(
    kind: str, watch: Any, cli: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, asked, column = INPUTS[kind]
    stated = {
        "evaluation_type": "scenario",
        "label_source": "self-reported",
        "gallery_selection": "drawn at random",
        "days_between_mated_captures": "30",
    }
    words = [w for name, file in files.items() for w in (f"--{name.replace('_', '-')}", made / file)]
    for name, option in (("threshold", "--threshold"), ("fpir", "--fpir")):
        words += [option, asked[name]] if name in asked else []
    words += ["--prevalence", asked["prevalences"][0]] if "prevalences" in asked else []
    words += ["--evaluation-type", "scenario", "--label-source", "self-reported"]
    words += ["--gallery-selection", "drawn at random", "--days", "30"]
    command = watch(*words, group=f"sex={column}")
    assert command.code == 0, command.err
    assert command.err == ""
    assert sorted(p.name for p in command.folder.iterdir()) == sorted(FILES)
    whole = (command.folder / "record.json").read_bytes()

    monkeypatch.chdir(made)
    called = api.watchlist(groups={"sex": column}, **files, **asked, **stated)
    assert called.record.to_bytes() == whole
    assert read_record(whole).to_bytes() == whole
    assert called.html() == (command.folder / "report.html").read_bytes()

    (tmp_path / "plan.toml").write_text(as_plan(files, asked, column), encoding="utf-8")
    for file in files.values():
        shutil.copy(made / file, tmp_path / file)
    ran = cli("run", tmp_path / "plan.toml", "--quiet", out=tmp_path / "ran")
    assert ran.code == 0, ran.err
    assert (ran.folder / "record.json").read_bytes() == whole

    again = cli("run", command.folder / "plan.json", "--quiet", out=tmp_path / "again")
    assert again.code == 0, again.err
    for name in ("record.json", "report.html"):
        assert (again.folder / name).read_bytes() == (command.folder / name).read_bytes()

    assert {e["quantity"] for e in command.record["estimates"]} >= QUANTITIES[kind]
    for ended in (command, ran, again):
        assert SECRET not in ended.everything
        assert str(made) not in ended.everything
    assert json.loads((command.folder / "run.json").read_bytes())["record_sha256"] == called.record.digest()


@pytest.mark.parametrize("kind", ["lists", "log"])
def test_frames_give_the_figures_that_files_give(kind: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    files, asked, column = INPUTS[kind]
    monkeypatch.chdir(made)
    from_files = api.watchlist(groups={"sex": column}, **files, **asked)
    frames = {name: pd.read_csv(file) for name, file in files.items()}
    from_frames = api.watchlist(groups={"sex": column}, frames=frames, **asked)
    assert from_frames.record.estimates == from_files.record.estimates
    assert from_frames.record.plan_digest != ""


def overall(ended: Ended, quantity: str, **at: Any) -> dict[str, Any]:
    return next(
        e
        for e in ended.estimates(quantity)
        if not e.get("of") and all(e["at"].get(name) == value for name, value in at.items())
    )


def test_counts_are_those_of_the_scores(watch: Any, made: Path) -> None:
    """A twin in five lines: the best stranger of each non-mated search, the mate of each mated one."""
    ended = watch("--gallery", made / "gallery.npz", "--probes", made / "crowd.npz", "--threshold", AT)
    with np.load(made / "gallery.npz") as g, np.load(made / "crowd.npz") as p:
        a, b = (v.astype(np.float64) / np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True)
                for v in (g["vectors"], p["vectors"]))  # fmt: skip
    scores = b @ a.T
    alarms = int((scores[MATED:].max(axis=1) >= AT).sum())
    missed = int((np.diag(scores[:MATED, :MATED]) < AT).sum())
    assert 0 < alarms < STRANGERS
    assert 0 < missed < MATED
    fpir, fnir = overall(ended, "fpir", threshold=AT), overall(ended, "fnir", threshold=AT)
    assert (fpir["numerator"], fpir["denominator"]) == (alarms, STRANGERS)
    assert (fnir["numerator"], fnir["denominator"]) == (missed, MATED)


def test_lists_and_templates_count_alike(watch: Any, made: Path, tmp_path: Path) -> None:
    first = watch("--gallery", made / "gallery.npz", "--probes", made / "crowd.npz", "--threshold", AT)
    words = (
        "--candidates",
        made / "lists.csv",
        "--searches",
        made / "searches.csv",
        "--enrolled",
        made / "enrolled.csv",
    )
    second = watch(*words, "--subjects", made / "people.csv", "--threshold", AT, group="sex", out=tmp_path / "second")
    assert (first.code, second.code) == (0, 0)
    for quantity in ("fpir", "fnir"):
        pair = [
            {
                (json.dumps(e.get("of", {})), json.dumps(e["at"], sort_keys=True)): (e["numerator"], e["denominator"])
                for e in ended.estimates(quantity)
                if e["at"].get("threshold") == AT and e["at"].get("rank", "any") == "any"
            }
            for ended in (first, second)
        ]
        assert pair[0] == pair[1]
        assert len(pair[0]) >= 3


def test_a_requirement_decides_the_exit_code(cli: Any, made: Path, tmp_path: Path) -> None:
    files, asked, column = INPUTS["templates"]
    for file in files.values():
        shutil.copy(made / file, tmp_path / file)
    requirement = """
[[requirements]]
id = "fpir"
title = "FPIR over everybody"
quantity = "fpir"
comparator = "<="
limit = LIMIT
at = { threshold = 0.7, gallery = "held fixed" }
"""
    plan = tmp_path / "plan.toml"
    for limit, code in ((0.999, 0), (0.1, 3), (0.0001, 1)):
        plan.write_text(as_plan(files, asked, column) + requirement.replace("LIMIT", str(limit)), encoding="utf-8")
        assert api.run(plan).exit_code == code
    assert cli("run", plan, "--quiet").code == 1


def test_an_alert_log_has_no_misses(watch: Any, made: Path) -> None:
    ended = watch("--alerts", made / "log.csv", "--passers-by", made / "passers.csv", group="sex")
    assert ended.code == 0
    missed = ended.estimates("fnir")
    assert missed
    assert all(e.get("value") is None and "no searches" in e["undefined"] for e in missed)
    alone = watch("--alerts", made / "log.csv", group="sex")
    burden = alone.estimates("alert_burden")
    assert burden
    assert all("not counted" in e["undefined"] for e in burden)


# ---- wrong input ---------------------------------------------------------------------------------------------------------


def refused(ended: Ended, code: int, *parts: str) -> None:
    """One sentence with its remedy, the right code, nothing written, nobody named."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert not ended.folder.exists() or not any(ended.folder.iterdir())
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) == 1, ended.err
    for part in parts:
        assert part in ended.err
    assert SECRET not in ended.err


def test_missing_file(watch: Any, made: Path) -> None:
    refused(watch("--gallery", made / "no.npz", "--probes", made / "crowd.npz"), 4, "no.npz", "There is no such file")
    refused(watch("--candidates", made / "no.csv", group="sex"), 4, "no.csv")
    refused(watch("--alerts", made / "no.csv", group="sex"), 4, "no.csv")


def test_no_group(watch: Any, made: Path) -> None:
    ended = watch("--gallery", made / "gallery.npz", "--probes", made / "crowd.npz", group="")
    assert ended.code == 2
    assert "--group" in ended.err
    assert "Traceback" not in ended.err
    none = watch("--gallery", made / "gallery.npz", "--probes", made / "crowd.npz", group="sex=group.origin")
    refused(none, 4, "crowd.npz", "group.origin")


INPUT = "give one input"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), INPUT),
        (("--gallery", "gallery.npz"), "templates need both"),
        (("--probes", "crowd.npz"), "templates need both"),
        (("--gallery", "gallery.npz", "--probes", "crowd.npz", "--candidates", "lists.csv"), INPUT),
        (("--candidates", "lists.csv", "--alerts", "log.csv"), INPUT),
        (("--gallery", "gallery.npz", "--probes", "crowd.npz", "--enrolled", "enrolled.csv"), "belong to `candidates`"),
        (("--candidates", "lists.csv", "--passers-by", "passers.csv"), "belongs to `alerts`"),
        (("--gallery", "gallery.npz", "--probes", "crowd.npz", "--fpir", "0"), "`target` between 0 and 1"),
        (("--gallery", "gallery.npz", "--probes", "crowd.npz", "--prevalence", "1"), "between 0 and 1"),
        (("--gallery", "gallery.npz", "--probes", "crowd.npz", "--threshold", "nan"), "must be finite"),
    ],
)
def test_what_cannot_be_meant_is_no_plan(words: tuple[str, ...], says: str, watch: Any, made: Path) -> None:
    full = [made / w if "." in w and w[0].isalpha() else w for w in words]
    refused(watch(*full), 2, says[1:])


def test_a_gallery_without_mates_has_no_fnir(watch: Any, made: Path, tmp_path: Path) -> None:
    crowd = templates(tmp_path / "strangers.npz", OTHERS, 5)
    ended = watch("--gallery", made / "gallery.npz", "--probes", crowd, "--threshold", AT)
    assert ended.code == 0
    assert all("no mated searches" in e["undefined"] for e in ended.estimates("fnir"))
    assert all(e.get("value") is not None for e in ended.estimates("fpir"))
    assert "FNIR and CMC are undefined" in ended.everything


def test_a_crowd_of_enrolled_people_has_no_fpir(watch: Any, made: Path, tmp_path: Path) -> None:
    crowd = templates(tmp_path / "known.npz", ENROLLED_PEOPLE, 6)
    ended = watch("--gallery", made / "gallery.npz", "--probes", crowd, "--threshold", AT, "--fpir", 0.1)
    assert ended.code == 0
    assert all("no non-mated searches" in e["undefined"] for e in ended.estimates("fpir"))
    assert all(e.get("value") is not None for e in ended.estimates("fnir"))
    assert "No threshold was set for an FPIR of at most 0.1" in ended.everything


def test_an_empty_gallery(watch: Any, made: Path, tmp_path: Path) -> None:
    gallery = templates(tmp_path / "empty.npz", [], 7)
    refused(watch("--gallery", gallery, "--probes", made / "crowd.npz"), 4, "empty.npz")
    hollow = templates(tmp_path / "hollow.npz", ENROLLED_PEOPLE, 7, bad=range(ENROLLED))
    refused(watch("--gallery", hollow, "--probes", made / "crowd.npz"), 4, "hollow.npz", "can be used")


def test_rows_that_are_no_numbers_are_counted(watch: Any, made: Path, tmp_path: Path) -> None:
    """A probe without a template is a search that returned nobody; an enrolled person without one is not enrolled."""
    crowd = templates(tmp_path / "crowd.npz", CROWD, 4, bad=[0, MATED + 1])
    ended = watch("--gallery", made / "gallery.npz", "--probes", crowd, "--threshold", AT)
    assert ended.code == 0
    fpir, fnir = overall(ended, "fpir", threshold=AT), overall(ended, "fnir", threshold=AT)
    assert (fpir["denominator"], fnir["denominator"]) == (STRANGERS, MATED)
    assert "2 probe templates failed" in ended.everything
    gallery = templates(tmp_path / "gallery.npz", ENROLLED_PEOPLE, 3, bad=[0])
    ended = watch("--gallery", gallery, "--probes", made / "crowd.npz", "--threshold", AT)
    assert ended.code == 0
    assert overall(ended, "fnir", threshold=AT)["denominator"] == MATED - 1
    assert overall(ended, "fpir", threshold=AT)["denominator"] == STRANGERS + 1
    first = ended.record["inputs"][0]
    lost = sum(e["count"] for e in first["exclusions"] if not e.get("used"))
    assert (first["rows_read"], first["rows_used"], lost) == (ENROLLED, ENROLLED - 1, 1)


def test_templates_of_different_dimensions(watch: Any, made: Path, tmp_path: Path) -> None:
    with np.load(made / "crowd.npz") as file:
        arrays = dict(file)
    arrays["vectors"] = arrays["vectors"][:, :-1]
    np.savez(tmp_path / "short.npz", **arrays)
    refused(watch("--gallery", made / "gallery.npz", "--probes", tmp_path / "short.npz"), 4, "15 dimensions")


def test_lists_without_scores_take_no_threshold(watch: Any, made: Path) -> None:
    words = ("--candidates", made / "ranks.csv", "--enrolled", made / "enrolled.csv", "--subjects", made / "people.csv")
    refused(watch(*words, "--threshold", AT, group="sex"), 2, "$.identification.thresholds", "ranks and no scores")
    ended = watch(*words, group="sex")
    assert ended.code == 0
    assert {e["at"]["rank"] for e in ended.estimates("fnir")} == {1, 10, 50}
    assert all("longest list holds 10" in e["undefined"] for e in ended.estimates("fnir") if e["at"]["rank"] == 50)


def test_a_repeated_rank_names_its_row(watch: Any, made: Path, tmp_path: Path) -> None:
    with (made / "lists.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    rows[3][1] = rows[2][1]
    lists = write(tmp_path / "twice.csv", rows, header)
    words = ("--enrolled", made / "enrolled.csv", "--subjects", made / "people.csv")
    refused(watch("--candidates", lists, *words, group="sex"), 4, "twice.csv", "Row 4 repeats a rank")


def test_words_of_adjudication(watch: Any, made: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [["e1", "f", "maybe"]], ("entry", "sex", "adjudication"))
    refused(watch("--alerts", log, group="sex"), 4, "log.csv, column adjudication", "Row 1")


# ---- disparity --embeddings ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two templates of each of sixty people."""
    both = [*people(0, 60, 8)] * 2
    return templates(tmp_path_factory.mktemp("pairs") / "faces.npz", both, 9)


def test_embeddings_through_the_command_and_from_python(
    cli: Any, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("disparity", "--embeddings", pairs, "--group", "sex", "--threshold", AT, "--fmr", 0.01, "--quiet")
    command = cli(*words)
    assert command.code == 0, command.err
    with np.load(pairs) as file:
        v = file["vectors"].astype(np.float64)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    i, j = np.triu_indices(len(v), 1)
    scores, mated = np.einsum("ij,ij->i", v[i], v[j]), i % 60 == j % 60
    fmr, fnmr = overall(command, "fmr", threshold=AT), overall(command, "fnmr", threshold=AT)
    assert (fmr["numerator"], fmr["denominator"]) == (int((scores[~mated] >= AT).sum()), int((~mated).sum()))
    assert (fnmr["numerator"], fnmr["denominator"]) == (int((scores[mated] < AT).sum()), 60)

    monkeypatch.chdir(pairs.parent)
    called = api.disparity(pairs.name, metric="cosine", groups={"sex": "group.sex"}, threshold=AT, fmr=0.01)
    mine, theirs = (json.loads(r) for r in (called.record.to_bytes(), (command.folder / "record.json").read_bytes()))
    assert mine["estimates"] == theirs["estimates"]

    again = cli("run", command.folder / "plan.json", "--quiet", out=tmp_path / "again")
    assert (again.folder / "record.json").read_bytes() == (command.folder / "record.json").read_bytes()
    assert SECRET not in command.everything + again.everything


def test_a_journal_changes_no_figure(cli: Any, pairs: Path, tmp_path: Path) -> None:
    words = ("disparity", "--embeddings", pairs, "--group", "sex", "--threshold", AT, "--quiet")
    plain = cli(*words, out=tmp_path / "plain")
    journal = tmp_path / "pairs.journal"
    for name in ("first", "second"):
        kept = cli(*words, "--journal", journal, out=tmp_path / name)
        assert kept.code == 0, kept.err
        assert (kept.folder / "record.json").read_bytes() == (plain.folder / "record.json").read_bytes()


def test_scores_or_embeddings(cli: Any, pairs: Path, scores: Path) -> None:
    both = cli("disparity", scores, "--embeddings", pairs, "--group", "sex", "--quiet")
    refused(both, 2, "Exactly one of SCORES and --embeddings")
    refused(cli("disparity", "--group", "sex", "--quiet"), 2, "Exactly one of SCORES and --embeddings")


def test_embeddings_have_no_reference_and_probe(cli: Any, pairs: Path) -> None:
    words = ("disparity", "--embeddings", pairs, "--quiet", "--threshold", AT)
    sided = cli(*words, "--group", "reference_sex,probe_sex")
    assert sided.code == 2
    assert "Traceback" not in sided.err
    refused(cli(*words, "--group", "sex", "--covariate", "camera=camera"), 2, "covariates")


def test_a_threshold_below_the_list_is_refused(cli: Any, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is made small here; in use it holds millions of pairs."""
    from audit_toolkit.disparity import templates as passes

    monkeypatch.setattr(passes, "MOST_LISTED", 500)
    words = ("disparity", "--embeddings", pairs, "--group", "sex", "--quiet")
    refused(cli(*words, "--threshold", -0.5), 2, "$.disparity.thresholds", "than can be listed")
