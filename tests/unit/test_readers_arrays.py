from __future__ import annotations

import io
import math
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit_toolkit.errors import AuditError, InputError, UsageError
from audit_toolkit.sources import matrix as matrix_module
from audit_toolkit.sources.bee import read_bee
from audit_toolkit.sources.matrix import read_matrix
from audit_toolkit.sources.npz import read_npz
from audit_toolkit.sources.sigset import read_sigset
from audit_toolkit.sources.table import ColumnMap, ScoreSource

PERSON = "smithjohn"


def table(source: ScoreSource, rows: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for batch in source.open(rows):
        assert 0 < batch.num_rows <= rows
        assert tuple(batch.schema.names) == source.columns
        out += batch.to_pylist()
    return out


def read_twice(source: ScoreSource) -> list[dict[str, Any]]:
    small, large = table(source, 2), table(source, 1000)
    assert repr(small) == repr(large)
    assert all(f.is_file() for f in source.files)
    return large


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def fails(match: str, call: Any, *args: Any, kind: type[AuditError] = InputError, **kwargs: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        read_twice(call(*args, **kwargs))
    assert PERSON not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# ---- BEE


def bee_bytes(cells: NDArray[Any], order: str = "<", kind: str = "S2", t: str = "t.xml", q: str = "q.xml") -> bytes:
    mask = cells.dtype == np.uint8
    head = f"{kind}\n{t}\n{q}\nM{'B' if mask else 'F'} {cells.shape[0]} {cells.shape[1]} ".encode()
    body = cells.tobytes() if mask else cells.astype(order + "f4").tobytes()
    return head + struct.pack(order + "I", 0x12345678) + b"\n" + body


def sigset(entries: list[tuple[str, str, dict[str, str]]], namespace: str = "") -> str:
    lines = [f'<?xml version="1.0" encoding="UTF-8"?>\n<biometric-signature-set{namespace}>']
    for subject, file_name, labels in entries:
        more = "".join(f' {k}="{v}"' for k, v in labels.items())
        lines.append(f'<biometric-signature name="{subject}">')
        lines.append(f'<presentation name="x" modality="face" file-name="{file_name}"{more}/></biometric-signature>')
    return "\n".join([*lines, "</biometric-signature-set>\n"])


TARGETS = [("ann", "a1", {"sex": "F", "age": "30"}), ("bob", "b1", {"sex": "M"}), ("cy", "c1", {})]
QUERIES = [("bob", "b2", {"sex": "M", "sensor": "x"}), ("ann", "a2", {"sex": "F"})]
CELLS = np.array([[0.25, 0.75, -1.5], [9.0, math.nan, 1e-30]], np.float32)
MASK = np.array([[0x7F, 0xFF, 0x7F], [0xFF, 0x00, 0x00]], np.uint8)


def bee_files(folder: Path, order: str = "<", kind: str = "S2", mask: NDArray[Any] | None = MASK) -> Path:
    write(folder, "t.xml", sigset(TARGETS, ' xmlns="urn:sigset"'))
    write(folder, "q.xml", sigset(QUERIES))
    if mask is not None:
        write(folder, "m.mask", bee_bytes(mask, order))
    return write(folder, "m.mtx", bee_bytes(CELLS, order, kind))


@pytest.mark.parametrize("order", ["<", ">"])
def test_bee(tmp_path: Path, order: str) -> None:
    source = read_bee(bee_files(tmp_path, order))
    rows = read_twice(source)
    assert rows[1] == {
        "reference_subject": "bob",
        "probe_subject": "bob",
        "mated": True,
        "score": 0.75,
        "reference_sample": "b1",
        "probe_sample": "b2",
        "reference.sex": "M",
        "probe.sex": "M",
    }
    assert [(r["reference_subject"], r["probe_subject"], r["mated"], r["score"]) for r in rows] == [
        ("ann", "bob", False, 0.25),
        ("bob", "bob", True, 0.75),
        ("cy", "bob", False, -1.5),
        ("ann", "ann", True, 9.0),
    ]
    assert rows[2]["reference.sex"] is None
    assert source.skipped == (("marked not to be used in the mask", 2),)
    assert source.higher_is_hint == "same"
    assert source.attributes == ("sex",)
    assert [f.name for f in source.files] == ["m.mtx", "m.mask", "t.xml", "q.xml"]
    assert next(source.open(9)).schema.field("score").type == pa.float32()


def test_bee_without_mask_and_distances(tmp_path: Path) -> None:
    source = read_bee(bee_files(tmp_path, kind="D2", mask=None), attributes=())
    rows = read_twice(source)
    assert len(rows) == 6
    assert source.columns == (
        "reference_subject",
        "probe_subject",
        "score",
        "reference_sample",
        "probe_sample",
    )
    assert (source.higher_is_hint, source.skipped) == ("different", ())
    assert "distance" in source.format
    assert "names are equal" in source.format


def test_bee_without_the_files_the_header_names(tmp_path: Path) -> None:
    path = bee_files(tmp_path)
    (tmp_path / "q.xml").rename(tmp_path / "other.xml")
    fails("query signature set that the header names is not beside", read_bee, path)
    assert len(read_twice(read_bee(path, query=tmp_path / "other.xml"))) == 4
    write(tmp_path, "m.mtx", bee_bytes(CELLS, q="../../other.xml"))
    assert len(read_twice(read_bee(path))) == 4


def test_bee_bad_matrix(tmp_path: Path) -> None:
    path = bee_files(tmp_path)
    whole = path.read_bytes()
    for cut in (whole[:-1], whole[:-20], whole + b"\0"):
        path.write_bytes(cut)
        fails("2 x 3 cells .24 bytes. and", read_bee, path)
    for broken in (
        b"S3" + whole[2:],
        b"x" * 40_000,
        b"S2\nt\nq\nMF 2\n",
        b"\x02\0\0\0\x03\0\0\0" + bytes(24),
    ):
        path.write_bytes(broken)
        fails("not a BEE matrix", read_bee, path)
    path.write_bytes(whole.replace(b"\x78\x56\x34\x12", b"\x78\x56\x12\x34"))
    fails("not 0x12345678", read_bee, path)
    path.write_bytes(b"")
    fails("empty", read_bee, path)
    path.write_bytes(bee_bytes(MASK))
    fails("kind MB, expected MF", read_bee, path)
    path.write_bytes(bee_bytes(CELLS[:, :2]))
    fails("target set lists 3 presentations and the matrix has 2 columns", read_bee, path)
    path.write_bytes(bee_bytes(np.tile(CELLS, (2, 1))))
    fails("query set lists 2 presentations and the matrix has 4 rows", read_bee, path)


def test_bee_bad_mask(tmp_path: Path) -> None:
    path = bee_files(tmp_path, mask=MASK.T)
    fails("mask has 3 x 2 cells and the matrix 2 x 3", read_bee, path)
    odd = MASK.copy()
    odd[1, 2] = 0x7E
    fails("m.mask, row 2, column 3: A mask byte is none", read_bee, bee_files(tmp_path, mask=odd))
    fails("no such file", read_bee, bee_files(tmp_path), mask=tmp_path / "none.mask")
    fails("kind MF, expected MB", read_bee, path, mask=path)
    fails(
        "do not both have the attribute age; both have: sex",
        read_bee,
        path,
        attributes=["age"],
        kind=UsageError,
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from("<>"),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_bee_round_trip(rows: int, columns: int, order: str, batch: int, random: Any) -> None:
    scores = np.array([random.uniform(-9, 9) for _ in range(rows * columns)], np.float32).reshape(rows, columns)
    mask = np.array([random.choice([0, 0x7F, 0xFF]) for _ in range(rows * columns)], np.uint8).reshape(rows, columns)
    targets = [(f"s{random.randrange(3)}", f"t{k}", {"g": random.choice("XY")}) for k in range(columns)]
    queries = [(f"s{random.randrange(3)}", f"q{k}", {"g": random.choice("XY")}) for k in range(rows)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, "t.xml", sigset(targets))
        write(folder, "q.xml", sigset(queries))
        write(folder, "m.mask", bee_bytes(mask, order))
        source = read_bee(write(folder, "m.mtx", bee_bytes(scores, order)))
        found = table(source, batch)
    expected = [
        (t[0], q[0], mask[i, j] == 0xFF, scores[i, j], t[1], q[1], t[2]["g"], q[2]["g"])
        for i, q in enumerate(queries)
        for j, t in enumerate(targets)
        if mask[i, j]
    ]
    assert [tuple(r.values()) for r in found] == expected
    assert sum(n for _, n in source.skipped) == rows * columns - len(expected)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><biometric-signature-set/>', "declares a document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/hostname"><biometric-signature-set/>', "declares a document type"),
        ("<signatures/>", "line 1: This is not a biometric-signature-set"),
        (sigset(QUERIES)[:-30], "The XML is broken"),
        (f"<biometric-signature-set>\n<{PERSON}/></biometric-signature-set>", "line 2: There is an element"),
        (sigset(QUERIES).replace('file-name="a2"', ""), "no file-name"),
        (sigset(QUERIES).replace(' name="ann"', ""), "no name"),
        (sigset(QUERIES).encode().replace(b"ann", b"\xff"), "line 5: The XML is broken"),
        (sigset(QUERIES).replace("UTF-8", "klingon"), "line 1: The XML declares an encoding"),
        (sigset(QUERIES).replace("UTF-8", "shift_jis"), "line 1: The XML declares an encoding"),
        ("", "empty"),
    ],
)
def test_sigset_bad_input(tmp_path: Path, text: str | bytes, match: str) -> None:
    fails(match, lambda p: read_sigset(p), write(tmp_path, "s.xml", text))


def test_sigset_with_prefix_and_several_presentations(tmp_path: Path) -> None:
    text = (
        '<b:biometric-signature-set xmlns:b="urn:x"><b:biometric-signature name="ann">'
        '<b:presentation file-name="1" sex="F"/><b:presentation file-name="2"/></b:biometric-signature>'
        "<!-- a remark --></b:biometric-signature-set>"
    )
    found = read_sigset(write(tmp_path, "s.xml", text))
    assert [(p.subject, p.sample, p.labels) for p in found] == [("ann", "1", {"sex": "F"}), ("ann", "2", {})]


# ---- matrices

MATRIX = "id,p1,p2,p3\nr1,0.5,-1,nan\nr2,1e-3,,7\n"


@pytest.mark.parametrize(
    "text",
    [
        MATRIX,
        MATRIX.replace("id,", ""),
        MATRIX.replace("id,", ","),
        MATRIX.replace(",", ";").replace("\n", "\r\n"),
        MATRIX.replace(",", "\t") + "\n",
        "\ufeff" + MATRIX.replace("r1", '"r1"').replace("p2", '"p2"'),
    ],
)
def test_matrix(tmp_path: Path, text: str) -> None:
    source = read_matrix(write(tmp_path, "m.csv", text))
    rows = read_twice(source)
    assert [(r["reference_subject"], r["probe_subject"]) for r in rows] == [
        (r, p) for r in ("r1", "r2") for p in ("p1", "p2", "p3")
    ]
    assert [repr(r["score"]) for r in rows] == ["0.5", "-1.0", "nan", "0.001", "None", "7.0"]
    assert source.columns == ("reference_subject", "probe_subject", "score")


def test_matrix_with_subjects(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", MATRIX)
    subjects = {"r1": "ann", "r2": "bob", "p1": "ann", "p2": "cy"}
    expected = [("ann", "ann"), ("cy", "ann"), (None, "ann"), ("ann", "bob"), ("cy", "bob"), (None, "bob")]
    listed = write(tmp_path, "subjects.csv", "subject,sample\n" + "".join(f"{v},{k}\n" for k, v in subjects.items()))
    for how in (subjects, subjects.get, listed, str(listed)):
        source = read_matrix(path, subject_of=how, rows_are="probe")
        rows = read_twice(source)
        assert [(r["reference_subject"], r["probe_subject"]) for r in rows] == expected
        assert [(r["probe_sample"], r["reference_sample"]) for r in rows][2:4] == [("r1", "p3"), ("r2", "p1")]
    write(tmp_path, "subjects.csv", f"subject,sample\nann,r1\n{PERSON},r1\n")
    fails("listed with two subjects", read_matrix, path, subject_of=listed)


def test_matrix_quoted_ids_with_a_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", ',"a, b",c\n"d ""e"", f",1,2\n')
    assert read_twice(read_matrix(path)) == [
        {"reference_subject": 'd "e", f', "probe_subject": p, "score": s} for p, s in (("a, b", 1.0), ("c", 2.0))
    ]


def test_matrix_blocks_of_rows_agree_with_a_plain_reading(tmp_path: Path) -> None:
    scores = np.random.Generator(np.random.PCG64(1)).normal(size=(37, 11)).round(6)
    lines = ["id," + ",".join(f"p{j}" for j in range(11))]
    lines += [f"r{i}," + ",".join(str(v) for v in row) for i, row in enumerate(scores)]
    source = read_matrix(write(tmp_path, "m.csv", "\n".join(lines)))
    for rows in (1, 5, 11, 30, 100, 10_000):
        found = table(source, rows)
        assert [r["score"] for r in found] == scores.ravel().tolist()
        assert [(r["reference_subject"], r["probe_subject"]) for r in found] == [
            (f"r{i}", f"p{j}") for i in range(37) for j in range(11)
        ]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty"),
        (MATRIX.splitlines()[0] + "\n", "no row below its header"),
        (MATRIX.replace(",", " "), "line 2: The header has 1 fields and the first row 1"),
        (MATRIX.replace("p3", "p1"), "line 1: The ids of columns 1 and 3 are the same"),
        (MATRIX + "r1,1,2,3\n", "line 4: The id of this row stands in an earlier row"),
        (MATRIX + f"{PERSON},1,2\n", "line 4: The row has 2 scores and the header 3 columns"),
        (MATRIX + f"r3,1,2,{PERSON}\n", "line 4, column 4: The cell is not a number"),
        (MATRIX.encode() + b"r\xff,1,2,3\n", "line 4: The bytes are not UTF-8"),
        ("id," + "x" * 200_000 + "\nr,1\n", "too long for an id"),
    ],
)
def test_matrix_bad_input(tmp_path: Path, text: str | bytes, match: str) -> None:
    fails(match, read_matrix, write(tmp_path, "m.csv", text))


def test_matrix_huge_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = 20_000
    text = "," + ",".join(f"p{j}" for j in range(wide)) + "\nr," + ",".join(["0.5"] * wide) + "\n"
    path = write(tmp_path, "m.csv", text)
    assert sum(b.num_rows for b in read_matrix(path).open(3000)) == wide
    monkeypatch.setattr(matrix_module, "ROW_LIMIT", 100_000)
    fails("line 1: The row is longer than 100,000 bytes", read_matrix, path)


# ---- NPZ


def npz(folder: Path, compressed: bool = False, **arrays: Any) -> Path:
    path = folder / "s.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


BASE: dict[str, Any] = {
    "reference_subject": np.array(["a", "bé", "a"]),
    "probe_subject": np.array([b"a", b"a", b"c"]),
    "score": np.array([0.5, math.nan, 2], np.float32),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path: Path, compressed: bool) -> None:
    more = {"reference.sex": np.array(["F", "M", "F"]), "probe.sex": np.array(["F", "F", "M"])}
    path = npz(
        tmp_path,
        compressed,
        **BASE,
        **more,
        **{
            "covariate.age": np.array([1, 2, 3], ">i4"),
            "mated": np.array([1, 0, 0], np.int8),
            "extra": np.zeros((2, 2)),
        },
    )
    source = read_npz(path)
    rows = read_twice(source)
    assert rows[1]["reference_subject"] == "bé"
    assert [(r["probe_subject"], r["mated"], r["covariate.age"], r["probe.sex"]) for r in rows] == [
        ("a", True, 1, "F"),
        ("a", False, 2, "F"),
        ("c", False, 3, "M"),
    ]
    assert next(source.open(9)).schema.field("score").type == pa.float32()
    assert (source.attributes, source.covariates) == (("sex",), ("age",))


def test_npz_mapped_names_and_other_types(tmp_path: Path) -> None:
    arrays = {
        "enrolled": np.array([3, 4], ">u8"),
        "probe": np.array([3, 5]),
        "sim": np.array([1, 2], np.float16),
        "gr": np.array(["x", "y"]),
        "gp": np.array(["x", "z"]),
        "light": np.array([0.5, 1.5]),
        "mated": np.array([True, False]),
    }
    columns = ColumnMap(
        reference_subject="enrolled",
        probe_subject="probe",
        score="sim",
        attributes={"g": ("gr", "gp")},
        covariates={"lux": "light"},
    )
    rows = read_twice(read_npz(npz(tmp_path, **arrays), columns))
    assert rows[1] == {
        "reference_subject": 4,
        "probe_subject": 5,
        "mated": False,
        "score": 2.0,
        "reference.g": "y",
        "probe.g": "z",
        "covariate.lux": 1.5,
    }


def test_npz_bad_input(tmp_path: Path) -> None:
    def bad(match: str, **change: Any) -> None:
        fails(match, read_npz, npz(tmp_path, **{k: v for k, v in (BASE | change).items() if v is not None}))

    with_objects = io.BytesIO()
    np.save(with_objects, np.array([PERSON, None, 1], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(npz(tmp_path, **BASE), "a") as archive:
        archive.writestr("mated.npy", with_objects.getvalue())
    fails("mated holds Python objects", read_npz, tmp_path / "s.npz")
    bad("arrays score are missing; the file has probe_subject, reference_subject", score=None)
    bad("differ in length .reference_subject 3, probe_subject 3, score 2", score=np.zeros(2))
    bad("score has shape .3, 1.", score=np.zeros((3, 1)))
    bad("score has shape .3,. and type <U1", score=np.array(["1", "2", "3"]))
    bad("probe_subject has shape .3,. and type <f8", probe_subject=np.zeros(3))
    bad("row 3: An entry|An entry of mated", mated=np.array([0, 1, 2]))
    bad("reference_subject has shape .3,. and type <U9000", reference_subject=np.array(["x" * 9000, "", ""]))
    bad("not UTF-8", probe_subject=np.array([b"\xff", b"", b""]))
    bad("no .npz archive|shape", score=np.zeros(3, [("é", "f4")]))
    fails("no .npz archive", read_npz, write(tmp_path, "x.npz", b"not a zip"))
    fails("empty", read_npz, write(tmp_path, "e.npz", b""))
    whole = npz(tmp_path, compressed=True, **BASE).read_bytes()
    fails("no .npz archive", read_npz, write(tmp_path, "t.npz", whole[:-40]))
    short = io.BytesIO()
    np.save(short, BASE["score"])
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        for name in ("reference_subject", "probe_subject", "score"):
            archive.writestr(f"{name}.npy", short.getvalue()[:-4] if name == "score" else _npy(BASE[name]))
    fails("score is cut short", read_npz, tmp_path / "c.npz")


def _npy(values: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def test_npz_without_rows(tmp_path: Path) -> None:
    empty = {k: v[:0] for k, v in BASE.items()}
    assert read_twice(read_npz(npz(tmp_path, **empty))) == []
