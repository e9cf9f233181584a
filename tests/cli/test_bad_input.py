"""Bad data through the command line: one clear sentence, or counted exclusions; never a traceback, never an id."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from score_files import FILES, HEADER, SECRET, Ended, Row, comparisons, start, write

SAMPLES = (*HEADER, "reference_sample", "probe_sample")


def refused(ended: Ended, code: int, what: str, name: str = "scores.csv") -> None:
    """One sentence on stderr that names the place and how to mend it; nothing on stdout, nothing written, nobody named."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    assert ended.err.count("\n") == 1
    assert ended.err.startswith(f"Error: {name}")
    assert re.search(what, ended.err), ended.err
    assert ended.err.rstrip().endswith(".")
    assert SECRET.lower() not in ended.err.lower()
    assert not ended.folder.exists()


def counted(ended: Ended, reasons: dict[str, int], code: int = 0) -> None:
    """A whole report in which every row is used or counted under a reason, and nobody is named."""
    assert (ended.code, ended.err) == (code, "")
    assert sorted(p.name for p in ended.folder.iterdir()) == list(FILES)
    found = ended.excluded
    assert len(found) == len(reasons)
    for part, count in reasons.items():
        assert [n for reason, n in found.items() if part in reason] == [count]
    assert SECRET.lower() not in ended.everything.lower()


def changed(rows: list[Row], *changes: tuple[int, int, Any]) -> list[Row]:
    """The rows with (row, column, value) put in."""
    copy = [list(r) for r in rows]
    for row, column, value in changes:
        copy[row][column] = value
    return copy


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Where each test writes its score file."""
    return tmp_path / "scores.csv"


# ---- Columns and files ---------------------------------------------------------------------------------------------------


def test_missing_columns_are_named(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, [[*r[:2], *r[3:4]] for r in rows], ("reference_subject", "probe_subject", "probe_gender"))
    refused(audit(given), 4, r"Missing columns: score, reference_gender\. Columns it has: reference_subject, ")


def test_columns_named_by_options_are_looked_for(cli: Any, scores: Path) -> None:
    ended = cli("disparity", scores, "--group", "reference_x,probe_x", "--column", "score=similarity")
    refused(ended, 4, "Missing columns: similarity, reference_x, probe_x")


@pytest.mark.parametrize("sep", [",", ";", "\t"])
def test_a_file_without_header_is_not_quoted(audit: Any, given: Path, rows: list[Row], sep: str) -> None:
    write(given, rows[1:], rows[0], sep)
    refused(audit(given), 4, "first line looks like a row, not like a header; expected are reference_subject")


@pytest.mark.parametrize(("sep", "word"), [(";", "semicolons"), ("|", "vertical bars"), ("\t", "tabs")])
def test_wrong_delimiter(audit: Any, given: Path, rows: list[Row], sep: str, word: str) -> None:
    write(given, rows, sep=sep)
    refused(audit(given), 4, f"separated by {word}, not by commas. Give delimiter=")
    assert audit(given, "--format-option", f"delimiter={sep}").code == 0


def test_a_delimiter_is_one_character(audit: Any, scores: Path) -> None:
    ended = audit(scores, "--format-option", "delimiter=;;")
    assert (ended.code, ended.err) == (
        2,
        "Error: The delimiter is not one character. For example delimiter=';'.\n",
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "The file is empty"),
        ("\n\n\n", "no line with anything in it"),
        (",".join(HEADER) + "\n", "There are no rows"),
        (",".join(HEADER), "There are no rows"),
        (",".join(HEADER) + f"\n{SECRET},{SECRET},f,f,0.5,extra\n", "line 2: A row has 6 fields, the header has 5"),
        (",".join(HEADER) + f"\n{SECRET},{SECRET},f,f\n", "line 2: A row has 4 fields, the header has 5"),
    ],
)
def test_empty_or_ragged_csv(audit: Any, given: Path, content: str, what: str) -> None:
    given.write_text(content)
    refused(audit(given), 4, what)


def test_a_column_name_twice(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, [[*r, r[4]] for r in rows], (*HEADER, "score"))
    refused(audit(given), 4, "'score' occurs more than once. Rename")


def test_text_that_is_not_utf8(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, changed(rows, (3, 2, "é")))
    given.write_bytes(given.read_text(encoding="utf-8").encode("latin-1"))
    refused(audit(given), 4, "not UTF-8. Save the file as UTF-8")


def test_no_file_and_a_folder(audit: Any, tmp_path: Path) -> None:
    refused(audit(tmp_path / "scores.csv"), 4, "There is no such file. Check the path")
    (tmp_path / "scores.parquet").mkdir()
    refused(audit(tmp_path / "scores.parquet"), 4, "folder|directory", "scores.parquet")


@pytest.fixture(scope="module")
def parquet(rows: list[Row]) -> bytes:
    table = pa.table({name: [r[k] for r in rows] for k, name in enumerate(HEADER)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("cut", ["half", "tail", "middle", "text", "nothing", "no rows"])
def test_damaged_parquet(audit: Any, tmp_path: Path, parquet: bytes, cut: str) -> None:
    path = tmp_path / "scores.parquet"
    if cut == "no rows":
        pq.write_table(pq.read_table(pa.BufferReader(parquet)).slice(0, 0), path)
    else:
        path.write_bytes(
            {
                "half": parquet[: len(parquet) // 2],
                "tail": parquet[:-5],
                "middle": parquet[:200] + bytes(400) + parquet[600:],
                "text": f"{SECRET},hello".encode(),
                "nothing": b"",
            }[cut]
        )
    what = {"nothing": "empty", "no rows": "There are no rows"}.get(cut, "damaged or cut short. Ask for it again")
    refused(audit(path), 4, what, "scores.parquet")


def test_format_options_that_do_not_exist(audit: Any, scores: Path) -> None:
    for words, what in (
        (("--format", "foo"), "no format 'foo'. Known are: table"),
        (("--format", "bob4"), "bob4 has fixed columns"),
        (("--format-option", "zz=1"), "format table has no option zz. It has: delimiter"),
        (("--format-option", "zz"), "--format-option takes KEY=VALUE. For example --format-option 'delimiter=;'"),
        (("--column", "score=a", "--column", "score=b"), "--column names 'score' twice"),
        (("--column", "zz=score"), r"\$.disparity.columns: There is no field `zz` here"),
    ):
        ended = audit(scores, *words)
        assert ended.code == 2
        assert re.search(what, ended.err), ended.err
        assert ended.err.count("\n") == 1


# ---- Scores --------------------------------------------------------------------------------------------------------------


def test_scores_that_are_none_are_counted(audit: Any, given: Path, rows: list[Row]) -> None:
    write(
        given, changed(rows, (3, 4, "nan"), (4, 4, "inf"), (5, 4, "-inf"), (6, 4, "NaN"), (7, 4, ""), (8, 4, "1e400"))
    )
    counted(audit(given), {"(NaN)": 2, "infinite": 3, "missing score": 1})


@pytest.mark.parametrize("value", [SECRET, "0x10", "1.2.3"])
def test_text_in_the_score_column(audit: Any, given: Path, rows: list[Row], value: str) -> None:
    write(given, changed(rows, (9, 4, value)))
    refused(audit(given), 4, "column score: The column holds text, not numbers; row 10 is the first")


def test_scores_too_large_for_arithmetic(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, changed(rows, (5, 4, "1e308"), (6, 4, "-1e308")))
    ended = audit(given, out=given.parent / "large")
    assert ended.code in (0, 4)  # a report, or one sentence
    assert ended.err.count("\n") == (ended.code == 4)
    assert SECRET not in ended.everything
    write(given, changed(rows, (5, 4, "1e308")))
    counted(audit(given, "--failure-score", "1e308"), {"declared as no comparison": 1})


def test_special_values_declared_and_undeclared(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, changed(rows, *[(k, 4, -1) for k in range(40)]))
    counted(audit(given, "--failure-score", "-1"), {"score equals -1, declared as no comparison": 40})
    ended = audit(given)
    counted(ended, {})
    assert [w for w in ended.input["warnings"] if "share the lowest score, -1;" in w]


def test_saturated_scores_warn(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, [[*r[:4], min(max(r[4], 0.25), 0.8)] for r in rows])
    ended = audit(given)
    counted(ended, {})
    said = [w for w in ended.input["warnings"] if "look saturated" in w]
    assert len(said) == 2
    assert all(w.split(";")[0] in (ended.folder / "report.html").read_text(encoding="utf-8") for w in said)


def test_inverted_scores_warn_and_are_not_turned_round(audit: Any, given: Path, scores: Path, rows: list[Row]) -> None:
    write(given, [[*r[:4], round(1 - r[4], 4)] for r in rows])
    ended = audit(given)
    counted(ended, {})
    assert [w for w in ended.input["warnings"] if "look inverted" in w and 'declare higher_is = "different"' in w]
    assert next(e for e in ended.estimates("fnmr") if not e["of"])["value"] > 0.9
    as_distance = audit(given, "--higher-is", "different", "--threshold", "0.5")
    assert not [w for w in as_distance.input["warnings"] if "inverted" in w]
    plain = audit(scores, out=given.parent / "plain")
    for rate in ("fmr", "fnmr"):
        assert [e["value"] for e in as_distance.estimates(rate)] == [e["value"] for e in plain.estimates(rate)]
    assert {e["at"]["threshold"] for e in as_distance.estimates("fmr")} == {0.5}


def test_threshold_outside_the_scores(audit: Any, scores: Path) -> None:
    for threshold, fmr, fnmr in (("100", 0.0, 1.0), ("-5", 1.0, 0.0)):
        ended = audit(scores, "--threshold", threshold)
        counted(ended, {})
        assert {e["value"] for e in ended.estimates("fmr")} == {fmr}
        assert {e["value"] for e in ended.estimates("fnmr")} == {fnmr}


# ---- Who is compared -----------------------------------------------------------------------------------------------------


def sampled(rows: list[Row]) -> list[Row]:
    return [[*r, f"{SECRET}/a{k}", f"{SECRET}/b{k}"] for k, r in enumerate(rows)]


def test_equal_duplicates(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, [*sampled(rows), *sampled(rows)[:5]], SAMPLES)
    counted(audit(given), {"same two samples with the same score": 5})
    write(given, rows + rows[:5])  # without sample ids nobody can know
    ended = audit(given)
    counted(ended, {})
    assert [e["count"] for e in ended.input["exclusions"] if "counted and not dropped" in e["reason"]] == [5]


def test_conflicting_duplicates_are_refused(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, [*sampled(rows), *changed(sampled(rows)[:1], (0, 4, 0.123))], SAMPLES)
    refused(audit(given), 4, "occur more than once with different scores. Keep one score for each pair")


def test_mirrored_pairs_and_self_comparisons(audit: Any, given: Path, rows: list[Row]) -> None:
    whole = sampled(rows)
    mirrored = [[r[1], r[0], r[3], r[2], r[4], r[6], r[5]] for r in whole[300:310]]
    alone = [[r[0], r[0], r[2], r[2], 1.0, r[5], r[5]] for r in whole[250:257]]
    write(given, whole + mirrored + alone, SAMPLES)
    counted(audit(given), {"mirrored duplicate": 10, "self comparison": 7})


def test_labels_that_are_missing_or_contradict(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, changed(rows, (300, 2, ""), (301, 3, "unknown"), (0, 2, "m")))
    torn = sum(rows[0][0] in r[:2] for k, r in enumerate(rows) if k not in (300, 301))
    counted(audit(given), {"without a label": 2, "two different labels": torn})


def test_flags_that_contradict_the_ids(audit: Any, given: Path, rows: list[Row]) -> None:
    flagged = [[*r, int(r[0] == r[1])] for r in rows]
    header = (*HEADER, "mated")
    write(given, changed(flagged, (0, 5, 0), (300, 5, 1)), header)
    counted(audit(given), {"mated flag is true, subject ids differ": 1, "mated flag is false": 1})
    write(given, changed(flagged, (4, 5, SECRET)), header)
    refused(
        audit(given, out=given.parent / "none"),
        4,
        "column mated: Row 5 has a mated flag that is neither true nor false",
    )


@pytest.mark.parametrize("weight", [-1, 0, 1.5])
def test_weights_are_positive_integers(audit: Any, given: Path, rows: list[Row], weight: float) -> None:
    write(given, changed([[*r, 1] for r in rows], (3, 5, weight)), (*HEADER, "weight"))
    refused(audit(given), 4, "column weight: Row 4 has a weight that is not a positive integer")


def test_no_mated_comparison_leaves_fnmr_undefined(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, [r for r in rows if r[0] != r[1]])
    ended = audit(given)
    counted(ended, {})
    assert all(e["value"] is None and e["undefined"] for e in ended.estimates("fnmr"))
    assert all(e["value"] is not None for e in ended.estimates("fmr"))
    assert "no mated comparisons" in " ".join(ended.input["warnings"])


def test_no_nonmated_comparison_leaves_fmr_undefined(audit: Any, given: Path, rows: list[Row], tmp_path: Path) -> None:
    write(given, [r for r in rows if r[0] == r[1]])
    ended = audit(given)
    counted(ended, {})
    assert all(e["value"] is None and e["undefined"] for e in ended.estimates("fmr"))
    for words, what in ((("--fmr", "0.01"), "threshold by FMR"), (("--eer",), "equal error rate")):
        ended = audit(given, *words, out=tmp_path / "none")
        refused(ended, 2, f"{what} needs .*non-mated comparisons", "$.disparity.thresholds[0]")


def test_one_group_one_person_and_groups_too_small(audit: Any, given: Path, rows: list[Row]) -> None:
    write(given, [[r[0], r[1], "f", "f", r[4]] for r in rows])
    ended = audit(given)
    counted(ended, {})
    assert not [e for e in ended.estimates("fmr_ratio") if e["value"] is not None]
    write(given, [[SECRET, SECRET, "f", "f", k / 100] for k in range(30, 90)])
    counted(audit(given), {})
    write(given, comparisons(6, nonmated=60))
    ended = audit(given)
    counted(ended, {})
    of_groups = [e for e in ended.record["estimates"] if e["of"]]
    assert of_groups
    assert all(e["value"] is None and "withheld" in e["undefined"] for e in of_groups if e["quantity"] == "fmr")
    assert "withheld" in (ended.folder / "report.html").read_text(encoding="utf-8")


def test_equal_scores_give_a_report(given: Path, rows: list[Row], tmp_path: Path) -> None:
    write(given, [[*r[:4], 5] for r in rows])
    process = start(
        "disparity", given, "--group", "reference_gender,probe_gender", "--eer", "--quiet", "--out", tmp_path / "out"
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert out.startswith("Report: ")


# ---- Labels, names and ids that attack -----------------------------------------------------------------------------------

HOSTILE = {
    "markup": ("<script>alert(1)</script>", "<img src=x onerror=alert(2)>"),
    "long": ("a" * 4000, "b" * 300),
    "scripts of the world": ("女性 🏿", "أنثى Nữ giới"),
    "mathematics": (r"$\frac{1}{$", "$x$ %(a)s {b} {{c}}"),
    "brackets": ("[bold]f[/bold]", "[/]"),
    "separators": ("a x b", "a=b:c"),
    "control characters": ("f\x07\x1b[31m", "m\u202e"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_labels_are_text_and_nothing_else(cli: Any, given: Path, rows: list[Row], kind: str) -> None:
    f, m = HOSTILE[kind]
    write(given, [[*r[:2], *({"f": f, "m": m}[x] for x in r[2:4]), r[4]] for r in rows])
    name = "<b>sex</b>=reference_gender,probe_gender"
    ended = cli("disparity", given, "--group", name, "--threshold", "0.5", "--title", "</title><script>x</script>")
    assert (ended.code, ended.err) == (0, "")
    assert {e["of"]["<b>sex</b>"] for e in ended.estimates("fmr") if "<b>sex</b>" in e["of"]} == {f, m}
    page = (ended.folder / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page.lower()
    assert "<img src=x" not in page
    assert "<b>sex" not in page
    assert SECRET not in ended.everything


@pytest.mark.parametrize(
    "name",
    [lambda i: i + 1000, lambda i: f" {SECRET} 👩🏿 {i} ", lambda i: f'"{SECRET}, {i}"', lambda i: f"{SECRET}'; --{i}"],
    ids=["integers", "spaces and emoji", "quoted commas", "quotes"],
)
def test_ids_of_any_kind(audit: Any, given: Path, scores: Path, name: Any, tmp_path: Path) -> None:
    ended = audit(write(given, comparisons(name=name)))
    counted(ended, {})
    plain = audit(scores, out=tmp_path / "plain")
    for rate in ("fmr", "fnmr"):
        assert [e["value"] for e in ended.estimates(rate)] == [e["value"] for e in plain.estimates(rate)]


def test_ids_are_refused_as_groups(cli: Any, scores: Path) -> None:
    for words in (
        ("--group", "who=reference_subject,probe_subject"),
        ("--group", "reference_gender,probe_gender", "--covariate", "who=reference_subject"),
    ):
        ended = cli("disparity", scores, *words, "--threshold", "0.5")
        refused(ended, 2, "names people or samples", "$.disparity")


def test_one_column_cannot_be_both_sides(audit: Any, scores: Path) -> None:
    ended = audit(scores, "--column", "probe_subject=reference_subject")
    refused(ended, 2, "One column is named for the reference and for the probe", "$.disparity.columns")


def test_file_names_with_spaces_and_signs(audit: Any, tmp_path: Path, rows: list[Row]) -> None:
    ended = audit(write(tmp_path / "a b <i> 👩🏿'\".csv", rows))
    counted(ended, {})
    assert ended.input["name"] == "a b <i> 👩🏿'\".csv"
    assert "<i>" not in (ended.folder / "report.html").read_text(encoding="utf-8")


def test_a_file_name_that_is_no_text(audit: Any, tmp_path: Path) -> None:
    ended = audit(tmp_path / "\udcff.csv")
    assert ended.code == 2
    assert "$.disparity.scores: A text or a file's name in a plan must be valid Unicode" in ended.err


# ---- Table of people -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(rows: list[Row]) -> list[Row]:
    return [list(p) for p in sorted({(r[0], r[2]) for r in rows} | {(r[1], r[3]) for r in rows})]


@pytest.fixture
def joined(cli: Any, tmp_path: Path, rows: list[Row]) -> Any:
    bare = write(
        tmp_path / "bare.csv", [[r[0], r[1], r[4]] for r in rows], ("reference_subject", "probe_subject", "score")
    )

    def call(table: Path, *more: Any) -> Ended:
        words = ("--group", "gender", "--subjects", table, "--threshold", "0.5", "--quiet")
        return cli("disparity", bare, *words, *more)

    return call


def test_people_listed_twice_or_not_at_all(joined: Any, tmp_path: Path, rows: list[Row], people: list[Row]) -> None:
    table = tmp_path / "people.csv"
    header = ("subject", "gender")
    whole = joined(write(table, people + people[:3], header))
    counted(whole, {})
    few = joined(write(table, people[3:], header))
    gone = {p[0] for p in people[:3]}
    counted(few, {"without a label": sum(bool(gone & set(r[:2])) for r in rows)})


def test_bad_tables_of_people(joined: Any, tmp_path: Path, people: list[Row]) -> None:
    header = ("subject", "gender")
    other = "m" if people[0][1] == "f" else "f"
    cases: list[tuple[list[Row], Any, str, str]] = [
        (
            [*people, [people[0][0], other]],
            header,
            ",",
            "Row 1 lists a subject that another row gives a different gender",
        ),
        ([["", "f"], *people], header, ",", "column subject: Row 1 has no subject id"),
        (people, ("subject", "sex"), ",", r"Missing column: gender\. Columns it has: subject, sex"),
        (people, ("person", "gender"), ",", r"Missing column: subject\. Columns it has: person, gender"),
        (people[1:], people[0], ",", "first line looks like a row"),
        (people[1:], people[0], ";", "first line looks like a row"),
        (people, header, ";", "separated by semicolons, not by commas"),
        ([*people, [SECRET]], header, ",", "rows differ in length"),
        ([], header, ",", "There are no rows"),
        ([[*p, p[1]] for p in people], (*header, "gender"), ",", "'gender' occurs more than once"),
    ]
    for rows, head, sep, what in cases:
        refused(joined(write(tmp_path / "people.csv", rows, head, sep)), 4, what, "people.csv")
    refused(joined(tmp_path), 4, "This is a folder", tmp_path.name)
    refused(joined(tmp_path / "none.csv"), 4, "no such file", "none.csv")
    (tmp_path / "people.xlsx").write_bytes(b"PK")
    refused(joined(tmp_path / "people.xlsx"), 4, "ending .xlsx", "people.xlsx")
    (tmp_path / "people.csv").write_bytes(b"subject,gender\nx,f\xe9\n")
    refused(joined(tmp_path / "people.csv"), 4, "not UTF-8", "people.csv")
    write(tmp_path / "people.csv", people, header)
    assert joined(tmp_path / "people.csv", "--subject-id", "gender").code == 2  # the id column is no group


def test_group_options_that_do_not_fit(cli: Any, scores: Path) -> None:
    for words, what in (
        (("--group", "reference_gender"), "--group needs two columns"),
        (("--group", "a,b,c"), "--group needs two columns"),
        (("--group", "reference_gender,probe_gender", "--group", "gender=a,b"), "--group names 'gender' twice"),
        (("--group", "g=reference_gender,probe_gender", "--intersection", "g"), "`intersections`"),
        (("--group", "g=reference_gender,probe_gender", "--intersection", "g,h"), "`intersections`"),
        (("--group", "g:h=reference_gender,probe_gender"), "`attributes` is empty or holds ':'"),
    ):
        ended = cli("disparity", scores, *words, "--threshold", "0.5")
        assert ended.code == 2
        assert what in ended.err
        assert not ended.folder.exists()


# ---- Groups that a plan declares -----------------------------------------------------------------------------------------


@pytest.fixture
def planned(cli: Any, scores: Path, tmp_path: Path) -> Any:
    """Run a plan on the sound file with fields of its attribute and its thresholds changed."""

    def call(*thresholds: dict[str, Any], **attribute: Any) -> Ended:
        columns = {"reference_column": "reference_gender", "probe_column": "probe_gender"}
        section = {
            "scores": str(scores),
            "evaluation_type": "not provided",
            "label_source": "not provided",
            "impostor_selection": "not provided",
            "days_between_mated_captures": "not provided",
            "attributes": {"gender": columns | attribute},
            "thresholds": list(thresholds) or [{"policy": "vendor", "value": 0.5}],
        }
        (tmp_path / "plan.json").write_text(json.dumps({"disparity": section}))
        return cli("run", tmp_path / "plan.json", "--quiet")

    return call


def test_labels_outside_the_declared_ones_are_counted(planned: Any, rows: list[Row]) -> None:
    ended = planned(labels=["f", "woman"])
    outside = sum("m" in r[2:4] for r in rows)
    counted(ended, {"label is not among the declared ones": outside})
    assert "No row names 'woman', declared for gender; check the spelling." in ended.input["warnings"]


def test_groups_that_do_not_exist(planned: Any) -> None:
    refused(planned(labels=["x", "y"]), 4, "None of the .* rows can be used .*declared labels spelt as in the file")
    refused(
        planned(reference="x"), 2, "reference group stands in no used row", "$.disparity.attributes.gender.reference"
    )
    ended = planned({"policy": "fmr", "target": 0.1, "of": {"gender": "x"}})
    refused(ended, 2, "threshold's group has no people", "$.disparity.thresholds[0].of")
