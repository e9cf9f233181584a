"""Frames of several libraries, and demographics joined from a subject table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.frames import open_frame
from audit_toolkit.sources.subjects import join_subjects
from audit_toolkit.sources.survey import SurveyOptions, survey
from audit_toolkit.sources.table import ColumnMap
from audit_toolkit.sources.tabular import open_table

DATA = {
    "reference_subject": [1, 2, 3, 1],
    "probe_subject": [1, 3, 2, 2],
    "reference_group": ["a", "b", "b", "a"],
    "probe_group": ["a", "b", "b", "b"],
    "score": [0.9, 0.1, 0.2, 0.3],
}


def pandas_categorical():
    frame = pd.DataFrame(DATA)
    return frame.assign(reference_group=pd.Categorical(frame["reference_group"], ["z", "b", "a"]))


FRAMES = {
    "pandas": lambda: pd.DataFrame(DATA),
    "pandas object": lambda: pd.DataFrame(DATA).astype({"reference_group": object, "reference_subject": object}),
    "pandas categorical": pandas_categorical,
    "pandas text ids": lambda: pd.DataFrame(DATA).astype({"reference_subject": str, "probe_subject": "string"}),
    "pandas odd index": lambda: pd.DataFrame(DATA, index=[5, 5, 1, 0]),
    "polars": lambda: pl.DataFrame(DATA),
    "polars categorical": lambda: pl.DataFrame(DATA).with_columns(pl.col("probe_group").cast(pl.Categorical)),
    "arrow": lambda: pa.table(DATA),
    "arrow batch": lambda: pa.RecordBatch.from_pydict(DATA),
    "arrow chunks": lambda: pa.concat_tables([pa.table(DATA).slice(0, 1), pa.table(DATA).slice(1)]),
    "arrow dictionary": lambda: pa.table(DATA | {"probe_group": pa.array(DATA["probe_group"]).dictionary_encode()}),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("rows", [3, 1000])
def test_every_frame_gives_the_same_survey(kind, rows):
    found = survey(open_frame(FRAMES[kind]()), SurveyOptions(chunk_rows=rows))
    want = survey(open_frame(pa.table(DATA)), SurveyOptions())
    assert found.sha256 == want.sha256
    assert (found.name, found.format, found.rows_used) == ("frame", "frame", 4)
    assert found.labels == (("a", "b"),)
    assert found.subject_labels.tolist() == [[0], [1], [1]]


def test_missing_integers_in_pandas_do_not_change_the_others():
    frame = pd.DataFrame(DATA).astype({"reference_subject": float})
    frame.loc[0, "reference_subject"] = np.nan
    found = survey(open_frame(frame), SurveyOptions())
    assert found.subjects == 3
    assert [(e.count, e.reason[:18]) for e in found.exclusions] == [(1, "missing subject id")]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_bad_frames(library):
    with pytest.raises(InputError, match=r"scores: Missing column: score. Columns it has: reference_subject"):
        open_frame(library({k: v for k, v in DATA.items() if k != "score"}), name="scores")
    with pytest.raises(InputError, match=r"frame, column score: .*text, not numbers; row 2 is the first") as caught:
        open_frame(library(DATA | {"score": ["0.5", "secret", "1", "2"]}))
    assert "secret" not in str(caught.value)


def test_mixed_objects_are_refused_without_their_values():
    frame = pd.DataFrame(DATA | {"score": [0.5, "secret", 1, 2]})
    with pytest.raises(InputError, match="frame, column score: The column holds values of different kinds") as caught:
        open_frame(frame)
    assert "secret" not in str(caught.value)


def test_what_is_no_frame():
    with pytest.raises(UsageError, match="list is not a data frame"):
        open_frame([1, 2])
    with pytest.raises(UsageError, match="lazy"):
        open_frame(pl.LazyFrame(DATA))


def test_columns_are_mapped():
    frame = pl.DataFrame(DATA).rename({"score": "s"})
    source = open_frame(frame, ColumnMap(score="s", attributes={"sex": ("reference_group", "probe_group")}))
    assert source.attributes == ("sex",)


PLAIN = {k: v for k, v in DATA.items() if not k.endswith("group")}


@pytest.mark.parametrize("how", ["csv", "parquet", "pandas", "polars"])
def test_demographics_are_joined_as_text(tmp_path, how):
    people = pl.DataFrame({"who": ["1", "2", "9"], "sex": ["f", "m", "f"], "born": [1970, 1980, 1990]})
    table = people
    if how == "csv":
        table = tmp_path / "people.csv"
        people.write_csv(table)
    elif how == "parquet":
        table = tmp_path / "people.parquet"
        people.write_parquet(table)
    elif how == "pandas":
        table = people.to_pandas()
    source = join_subjects(open_frame(pa.table(PLAIN)), table, "who", {"sex": "sex", "year": "born"})
    assert source.attributes == ("sex", "year")
    found = survey(source, SurveyOptions(chunk_rows=3))
    assert found.labels == (("f", "m"), ("1970", "1980"))
    assert found.subject_labels.tolist() == [[0, 0], [1, 1], [-1, -1]]  # 3 is not in the table
    assert found.rows_used == 2
    assert [(e.count, e.reason[:23]) for e in found.exclusions if not e.used] == [(2, "subject without a label")]


def test_leading_zeros_of_a_subject_table_stay(tmp_path):
    scores, people = tmp_path / "s.csv", tmp_path / "p.csv"
    scores.write_text("reference_subject,probe_subject,score\n007,007,0.5\n7,007,0.2\n")
    people.write_text("id,sex\n007,f\n7,m\n")
    source = join_subjects(open_table(scores), people, "id", {"sex": "sex"})
    assert source.files == (scores, people)
    assert survey(source, SurveyOptions()).subject_labels.tolist() == [[0], [1]]


def test_a_subject_listed_twice():
    source = open_frame(pa.table(PLAIN))
    same = pa.table({"id": [1, 2, 1, 3], "sex": ["f", "m", "f", "m"]})
    assert survey(join_subjects(source, same, "id", {"sex": "sex"}), SurveyOptions()).rows_used == 4
    other = pa.table({"id": [1, 2, 1, 3], "sex": ["f", "m", "secret", "m"]})
    with pytest.raises(InputError, match="subject table, column sex: Row 1 lists a subject that another row") as caught:
        join_subjects(source, other, "id", {"sex": "sex"})
    assert "secret" not in str(caught.value)


def test_bad_subject_tables(tmp_path):
    source = open_frame(pa.table(DATA))
    people = pa.table({"id": [1, None], "sex": ["f", "m"]})
    with pytest.raises(InputError, match=r"subject table: Missing columns: who, age. Columns it has: id, sex"):
        join_subjects(source, people, "who", {"age": "age"})
    with pytest.raises(InputError, match="Row 2 has no subject id"):
        join_subjects(source, people, "id", {"sex": "sex"})
    with pytest.raises(UsageError, match="'group' already"):
        join_subjects(source, people, "id", {"group": "sex"})
    with pytest.raises(UsageError, match="No attribute"):
        join_subjects(source, people, "id", {})
    with pytest.raises(InputError, match="no such file"):
        join_subjects(source, tmp_path / "none.csv", "id", {"sex": "sex"})
    for name, text in (("a.csv", ""), ("b.csv", "id,sex\n1,f,secret\n"), ("c.xlsx", "x"), ("d.parquet", "PAR1")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=name) as caught:
            join_subjects(source, tmp_path / name, "id", {"sex": "sex"})
        assert "secret" not in str(caught.value)
