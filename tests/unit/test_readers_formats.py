from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.formats import FORMATS, detect_format, open_scores
from audit_toolkit.sources.table import ColumnMap

BFW_HEADER = "fold,p1,p2,label,id1,id2,att1,att2,vgg16,a1,a2,g1,g2,e1,e2\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("scores-dev", "a a p 0.5\n", "bob4"),
        ("scores-dev.txt", "a m a p 0.5\n", "bob5"),
        ("s.csv", "probe_subject_id,bio_ref_subject_id,score\na,a,1\n", "bob-csv"),
        ("s.csv", BFW_HEADER, "bfw"),
        ("s.csv", "reference_subject,probe_subject,score\n", "table"),
        ("s.csv", "r;p;s\na;b;1\n", "table"),
        ("m.csv", ",p1,p2\nr1,0.5,1\n", "matrix"),
        ("m.tsv", "p1\tp2\nr1\t0.5\t1\n", "matrix"),
        ("pairs.txt", "10\t300\nAnn\t1\t2\n", "lfw"),
        ("pairs.txt", "m.01\t1\t2\n", "lfw"),
        ("pairs.txt", "m.01\t1\tm.02\t2\n", "lfw"),
        ("gen.txt", "0.5\n", "pyeer"),
        ("gen.txt", "a b -1e3\n", "pyeer"),
        ("x.parquet", "anything", "table"),
        ("x.arrow", "anything", "table"),
        ("x.npz", "anything", "npz"),
        ("x.mtx", "anything", "bee"),
    ],
)
def test_detection(tmp_path: Path, name: str, text: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert detect_format(path) == expected


def test_what_looks_like_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear smithjohn, here are the scores\n")
    with pytest.raises(UsageError, match=r"Name it: table, bob4.*npz") as caught:
        open_scores(path)
    assert "smithjohn" not in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        open_scores(path)


def test_open_scores_passes_options(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("0.5\n")
    (tmp_path / "i.txt").write_text("0.1\n")
    source = open_scores(tmp_path / "g.txt", impostor=tmp_path / "i.txt", independent=True)
    assert source.format.startswith("pyeer")
    with pytest.raises(UsageError, match="format pyeer also needs impostor"):
        open_scores(tmp_path / "g.txt")
    with pytest.raises(UsageError, match=r"no option mask\. It has: impostor, independent"):
        open_scores(tmp_path / "g.txt", impostor="i", mask="m")
    with pytest.raises(UsageError, match=r"no format .xls.\. Known are: table, bob4"):
        open_scores(tmp_path / "g.txt", "xls")
    with pytest.raises(UsageError, match="fixed columns"):
        open_scores(tmp_path / "g.txt", columns=ColumnMap(score="s"), impostor=tmp_path / "i.txt")


def test_open_scores_uses_what_a_format_can_of_a_column_map(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("probe_subject_id,bio_ref_subject_id,score,probe_g,bio_ref_g,yaw\na,a,1,F,M,3\n")
    columns = ColumnMap(attributes={"sex": ("bio_ref_g", "probe_g")}, covariates={"yaw": "yaw"})
    row = next(open_scores(path, columns=columns).open(9)).to_pylist()[0]
    assert (row["reference.sex"], row["probe.sex"], row["covariate.yaw"]) == ("M", "F", 3.0)
    with pytest.raises(UsageError, match="fixed columns"):
        open_scores(path, columns=ColumnMap(attributes=columns.attributes, score="x"))
    np.savez(tmp_path / "s.npz", a=np.array([1]), b=np.array([1]), score=np.array([0.5]))
    source = open_scores(tmp_path / "s.npz", columns=ColumnMap(reference_subject="a", probe_subject="b"))
    assert next(source.open(5)).to_pylist() == [{"reference_subject": 1, "probe_subject": 1, "score": 0.5}]


def test_tables_with_canonical_or_mapped_columns(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("r;p;s\na;b;0.5\n")
    columns = ColumnMap(reference_subject="r", probe_subject="p", score="s")
    row = next(open_scores(path, columns=columns, delimiter=";").open(9)).to_pylist()[0]
    assert (row["reference_subject"], row["probe_subject"], row["score"]) == ("a", "b", 0.5)


def test_every_format_says_what_it_is() -> None:
    assert list(FORMATS) == [
        "table",
        "bob4",
        "bob5",
        "bob-csv",
        "pyeer",
        "bfw",
        "lfw",
        "bee",
        "matrix",
        "npz",
    ]
    assert all(reader.__doc__ for reader in FORMATS.values())
