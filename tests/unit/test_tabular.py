"""Parquet, CSV and Arrow files, sound and broken."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.survey import SurveyOptions, survey
from audit_toolkit.sources.table import ColumnMap
from audit_toolkit.sources.tabular import open_table

ROWS = pa.table(
    {
        "reference_subject": ["a", "a", "b", "007"],
        "probe_subject": ["a", "b", "b", "7"],
        "reference_group": ["f", "f", "m", "m"],
        "probe_group": ["f", "m", "m", "f"],
        "mated": [True, False, True, False],
        "score": [0.9, 0.1, 0.8, 0.2],
        "note": ["not", "for", "the", "audit"],
    }
)
CANONICAL = ("reference_subject", "probe_subject", "mated", "score", "reference.group", "probe.group")


def write(path, table=ROWS):
    kind = path.name.split(".", 1)[1]
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=3)
    elif kind in ("arrow", "feather"):
        feather.write_feather(table, path, chunksize=3)
    elif kind == "ipc":
        with pa.OSFile(str(path), "wb") as raw, pa.ipc.new_stream(raw, table.schema) as out:
            out.write_table(table)
    else:
        pacsv.write_csv(table, path, pacsv.WriteOptions(delimiter="\t" if kind == "tsv" else ","))
    return path


def plain(source, rows):
    batches = list(source.open(rows))
    assert all(b.num_rows <= rows for b in batches)
    assert all(tuple(b.schema.names) == source.columns for b in batches)
    return [line for b in batches for line in b.to_pylist()]


@pytest.mark.parametrize("rows", [2, 1000])
@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "arrow", "feather", "ipc"])
def test_every_kind_gives_the_same_rows(tmp_path, ending, rows):
    source = open_table(write(tmp_path / f"scores.{ending}"))
    assert source.columns == CANONICAL
    assert source.attributes == ("group",)
    assert source.files == (tmp_path / f"scores.{ending}",)
    assert source.name == f"scores.{ending}"
    for _ in range(2):
        got = plain(source, rows)
        assert [line["reference_subject"] for line in got] == ["a", "a", "b", "007"]
        assert [line["score"] for line in got] == [0.9, 0.1, 0.8, 0.2]
    found = survey(source, SurveyOptions(chunk_rows=rows))
    assert (found.subjects, found.rows_used, found.mated) == (4, 4, 2)
    assert found.labels == (("f", "m"),)


def test_all_kinds_give_the_same_survey(tmp_path):
    sources = [open_table(write(tmp_path / f"s.{kind}")) for kind in ("parquet", "csv", "arrow")]
    found = [survey(source, SurveyOptions()) for source in sources]
    assert len({f.codebook_digest for f in found}) == 1
    assert len({f.subject_labels.tobytes() for f in found}) == 1


def test_compressed_csv_and_a_byte_order_mark(tmp_path):
    text = "\ufeffreference_subject,probe_subject,score\r\na,a,.5\r\nb,a,NaN\r\nb,a,\r\n"
    path = tmp_path / "s.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    found = survey(open_table(path), SurveyOptions())
    assert {e.reason: e.count for e in found.exclusions} == {
        "score is not a number (NaN)": 1,
        "missing score without a failure": 1,
    }


def test_columns_are_mapped_and_missing_ones_listed(tmp_path):
    path = write(tmp_path / "s.parquet", ROWS.rename_columns(["r", "p", "gr", "gp", "m", "similarity", "note"]))
    columns = ColumnMap("r", "p", "m", "similarity", attributes={"sex": ("gr", "gp")}, covariates={"note": "note"})
    source = open_table(path, columns)
    assert source.columns == (*CANONICAL[:4], "reference.sex", "probe.sex", "covariate.note")
    assert survey(source, SurveyOptions()).covariate_labels == (("audit", "for", "not", "the"),)
    wrong = ColumnMap("r", "who", score="similarity", weight="w", attributes={"sex": ("gr", "zz")})
    with pytest.raises(InputError, match=r"s.parquet: Missing columns: who, w, zz. Columns it has: r, p, gr, gp"):
        open_table(path, wrong)
    with pytest.raises(UsageError, match="probe_subject must be named"):
        open_table(path, ColumnMap("r", None))  # type: ignore[arg-type]


def test_single_precision_parquet_stays_single(tmp_path):
    table = ROWS.set_column(5, "score", pa.array(ROWS["score"].to_numpy().astype(np.float32)))
    assert survey(open_table(write(tmp_path / "s.parquet", table)), SurveyOptions()).score_dtype == np.float32


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolon"), ("\t", "tab"), ("|", "vertical bar")])
def test_another_delimiter_is_named(tmp_path, delimiter, word):
    path = tmp_path / "s.csv"
    path.write_text(delimiter.join(["reference_subject", "probe_subject", "score"]) + "\n" + delimiter.join("ab1"))
    with pytest.raises(InputError, match=f"separated by {word}s, not by commas. Give delimiter="):
        open_table(path)
    assert len(plain(open_table(path, delimiter=delimiter), 10)) == 1


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow"])
def test_text_among_the_scores_is_named_by_row_only(tmp_path, ending):
    table = ROWS.set_column(5, "score", pa.array(["0.9", "0.1", "secret", "0.2"]))
    with pytest.raises(InputError, match="column score: The column holds text, not numbers; row 3 is the first") as e:
        list(open_table(write(tmp_path / f"s.{ending}", table)).open(100))
    assert "secret" not in str(e.value)
    assert e.value.__cause__ is None
    assert e.value.__context__ is None or e.value.__suppress_context__


def test_numbers_written_as_text_are_refused_in_parquet(tmp_path):
    table = ROWS.set_column(5, "score", pa.array(["0.9", "0.1", "0.5", "0.2"]))
    with pytest.raises(InputError, match="numbers written as text"):
        open_table(write(tmp_path / "s.parquet", table))


def test_late_text_in_a_large_csv_is_found(tmp_path):
    path = tmp_path / "s.csv"
    lines = ["reference_subject,probe_subject,score,covariate.q"] + ["person,person,0.5,1"] * 120_000
    lines[100_000] = "person,person,oops,1"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"column score.*row 100000 is the first"):
        survey(open_table(path), SurveyOptions(chunk_rows=1000))
    lines[100_000] = "person,person,0.5,high"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"column covariate.q.*row 100000 is the first"):
        survey(open_table(path), SurveyOptions(chunk_rows=1000))


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow", "ipc", "csv.gz"])
def test_an_empty_file(tmp_path, ending):
    path = tmp_path / f"s.{ending}"
    path.touch()
    with pytest.raises(InputError, match=rf"s.{ending}: The file is empty"):
        open_table(path)


def test_a_header_alone_has_no_rows(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("reference_subject,probe_subject,score\n")
    with pytest.raises(InputError, match="no rows"):
        survey(open_table(path), SurveyOptions())
    with pytest.raises(InputError, match="no rows"):
        survey(open_table(write(tmp_path / "s.parquet", ROWS.slice(0, 0))), SurveyOptions())


@pytest.mark.parametrize("ending", ["parquet", "arrow", "ipc", "csv.gz"])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.98])
def test_a_truncated_file(tmp_path, ending, keep):
    path = tmp_path / f"s.{ending}"
    rng = np.random.default_rng(1)
    table = pa.table({"reference_subject": ["a"] * 5000, "probe_subject": ["b"] * 5000, "score": rng.random(5000)})
    if ending == "csv.gz":
        pacsv.write_csv(table, tmp_path / "s.csv")
        path.write_bytes(gzip.compress((tmp_path / "s.csv").read_bytes()))
    else:
        write(path, table)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match="damaged or cut short"):
        survey(open_table(path), SurveyOptions())


def test_damage_inside_a_parquet_file(tmp_path):
    path = write(tmp_path / "s.parquet")
    raw = bytearray(path.read_bytes())
    raw[4:200] = b"\xff" * 196
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="damaged or cut short"):
        survey(open_table(path), SurveyOptions())


def test_places_that_are_no_table(tmp_path):
    with pytest.raises(InputError, match="directory"):
        open_table(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        open_table(tmp_path / "none.csv")
    (tmp_path / "s.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"The ending .xlsx .* Known endings: .parquet"):
        open_table(tmp_path / "s.xlsx")


def test_a_row_with_too_few_fields_is_named_by_line_only(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("reference_subject,probe_subject,score\na,b,1\nsecret,b\n")
    with pytest.raises(InputError, match="line 3: A row has 2 fields, the header has 3") as caught:
        list(open_table(path).open(10))
    assert "secret" not in str(caught.value)


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"reference_subject,probe_subject,score\nJos\xe9,b,1\n")
    with pytest.raises(InputError, match="not UTF-8"):
        list(open_table(path).open(10))
    path.write_bytes(b"r\xe9f,probe_subject,score\na,b,1\n")
    with pytest.raises(InputError, match="not UTF-8"):
        open_table(path)


def test_columns_that_cannot_play_their_part(tmp_path):
    table = ROWS.set_column(0, "reference_subject", pa.array([["a"]] * 4))
    with pytest.raises(InputError, match="cannot serve as reference_subject"):
        open_table(write(tmp_path / "s.parquet", table))
    table = ROWS.set_column(5, "score", pa.array([True] * 4))
    with pytest.raises(InputError, match="holds bool, not numbers"):
        open_table(write(tmp_path / "s.parquet", table))
    (tmp_path / "s.csv").write_text("reference_subject,probe_subject,score,score\na,b,1,2\n")
    with pytest.raises(InputError, match="'score' occurs more than once"):
        open_table(tmp_path / "s.csv")


def test_quoted_headers_and_ids_with_commas(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('"reference_subject","probe_subject","score"\n"a,b","a,b",0.5\nc,"a,b",0.25\n')
    got = plain(open_table(path), 10)
    assert [line["reference_subject"] for line in got] == ["a,b", "c"]


def test_many_small_row_groups(tmp_path):
    table = pa.table({"reference_subject": [str(k % 9) for k in range(500)], "probe_subject": ["1"] * 500})
    table = table.append_column("score", pa.array(np.arange(500.0)))
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=7)
    got = plain(open_table(tmp_path / "s.parquet"), 100)
    assert [line["score"] for line in got] == list(range(500))
    assert [line["reference_subject"] for line in got] == [str(k % 9) for k in range(500)]
