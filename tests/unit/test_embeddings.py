"""Templates from every format give the same codes; every row is used or counted under one reason."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.errors import AuditError, InputError, MissingExtraError, UsageError
from audit_toolkit.sources import embeddings
from audit_toolkit.sources.embeddings import Templates, open_templates
from audit_toolkit.sources.frames import open_frame
from audit_toolkit.sources.survey import SurveyOptions, survey

PEOPLE = ("p é", "p 1", "p 2", "p 10")


def vectors(n: int = 12, d: int = 7, dtype: Any = np.float32, seed: int = 3) -> np.ndarray:
    made = np.random.Generator(np.random.PCG64(seed)).normal(size=(n, d))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(dtype)


def columns(n: int = 12) -> dict[str, list[str]]:
    return {
        "subject": [PEOPLE[k % 4] for k in range(n)],
        "sample": [str(k // 4) for k in range(n)],
        "group.sex": ["f" if k % 4 < 2 else "m" for k in range(n)],
    }


def write(folder: Path, kind: str, x: np.ndarray, beside: dict[str, list[Any]], **more: Any) -> dict[str, Any]:
    """One file of the kind; returns the arguments that open it."""
    if kind == "npz":
        np.savez(folder / "t.npz", embedding=x, **{k: np.array(v) for k, v in beside.items()})
        return {"path": folder / "t.npz"}
    if kind == "npz compressed":
        np.savez_compressed(folder / "t.npz", vectors=x, **{k: np.array(v) for k, v in beside.items()})
        return {"path": folder / "t.npz"}
    if kind == "npy":
        np.save(folder / "t.npy", x)
        pacsv.write_csv(pa.table(beside), folder / "rows.csv")
        return {"path": folder / "t.npy", "rows": folder / "rows.csv"}
    if kind.startswith("parquet"):
        value = pa.float16() if x.dtype == np.float16 else pa.float32()
        listed = pa.list_(value, x.shape[1]) if kind.endswith("fixed") else pa.list_(value)
        table = pa.table({"embedding": pa.array(list(x), listed), **beside})
        pq.write_table(table, folder / "t.parquet", row_group_size=5)
        return {"path": folder / "t.parquet"}
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "t.h5", "w") as file:
        file["features"] = x
        for name, values in beside.items():
            file[name] = values
    return {"path": folder / "t.h5"}


KINDS = ["npz", "npz compressed", "npy", "parquet", "parquet fixed", "hdf5"]


def npz(folder: Path, x: np.ndarray, **beside: Any) -> Path:
    np.savez(folder / "t.npz", embedding=x, **{k.replace("group_", "group."): np.array(v) for k, v in beside.items()})
    return folder / "t.npz"


def excluded(found: Templates) -> dict[str, int]:
    assert found.rows_read == found.rows_used + sum(e.count for e in found.exclusions if not e.used)
    assert found.rows_used == found.used.sum() == (found.subject >= 0).sum()
    return {e.reason: e.count for e in found.exclusions if not e.used}


def remarks(found: Templates) -> dict[str, int]:
    return {e.reason: e.count for e in found.exclusions if e.used}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_codes(tmp_path: Path, kind: str, dtype: Any) -> None:
    x = vectors(dtype=dtype)
    found = open_templates(**write(tmp_path, kind, x, columns()))
    order = sorted(PEOPLE)
    assert found.subject.tolist() == [order.index(s) for s in columns()["subject"]]
    assert found.vectors.dtype == dtype
    assert np.array_equal(found.vectors, x)
    assert np.array_equal(found.read(3, 8), x[3:8])
    assert (found.subjects, found.dimensions, found.rows_read, found.rows_used) == (4, 7, 12, 12)
    assert found.labels == (("f", "m"),)
    assert found.subject_labels[:, 0].tolist() == [1 if order[s] in ("p 2", "p 10") else 0 for s in range(4)]
    assert len(set(found.image.tolist())) == 12
    assert found.enrol.tolist() == [[3, 0]] * 4
    assert (found.attributes, found.has_failures, excluded(found), found.warnings) == (("sex",), False, {}, ())
    assert (found.subject.dtype, found.image.dtype, found.subject_labels.dtype) == (np.int32, np.int32, np.int16)


@pytest.mark.parametrize("kind", ["npz", "parquet", "hdf5"])
def test_past_the_bound_vectors_wait_in_a_file(tmp_path: Path, kind: str) -> None:
    x = vectors(40, 6)
    found = open_templates(**write(tmp_path, kind, x, columns(40)), memory_bytes=100)
    assert isinstance(found.vectors, np.memmap)
    assert np.array_equal(found.vectors, x)


def test_the_codebook_is_a_score_files(tmp_path: Path) -> None:
    scores = pa.table({"reference_subject": PEOPLE, "probe_subject": PEOPLE[::-1], "score": [0.1, 0.2, 0.3, 0.4]})
    found = open_templates(npz(tmp_path, vectors(), **columns()))
    same = survey(open_frame(scores), SurveyOptions())
    assert found.codebook_digest == same.codebook_digest
    assert np.array_equal(found.identity, same.identity)
    assert found.sha256 == hashlib.sha256((tmp_path / "t.npz").read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["csv", "parquet", "pandas", "arrow"])
def test_labels_from_a_table_of_subjects(tmp_path: Path, form: str) -> None:
    table = pa.table({"who": [*PEOPLE[:3], "nobody"], "sex": ["f", "f", "unknown", "m"]})
    given: Any = table
    if form == "csv":
        pacsv.write_csv(table, given := tmp_path / "s.csv")
    elif form == "parquet":
        pq.write_table(table, given := tmp_path / "s.parquet")
    elif form == "pandas":
        given = table.to_pandas()
    found = open_templates(
        npz(tmp_path, vectors(), subject=columns()["subject"]),
        subjects=given,
        id_column="who",
        attributes={"gender": "sex"},
    )
    assert (found.attributes, found.labels) == (("gender",), (("f",),))
    assert excluded(found) == {"subject without a label (gender)": 6}  # listed as unknown, and not listed
    by_name = dict(zip(sorted(PEOPLE), found.subject_labels[:, 0].tolist(), strict=True))
    assert by_name == {"p é": 0, "p 1": 0, "p 2": -1, "p 10": -1}
    assert found.enrol[:, 0].tolist() == [3, 3, 3, 3]


def test_every_reason_is_counted_once(tmp_path: Path) -> None:
    x = vectors(14, 5)
    x[1] = 0.0
    x[2, 3] = np.nan
    x[3, 0] = -np.inf
    x[13] = x[12]
    found = open_templates(
        npz(
            tmp_path,
            x,
            subject=["a", "a", "a", "b", "b", "", "c", "d", "d", "e", "f", "f", "g", "g"],
            sample=["1", "2", "3", "1", "2", "1", "1", "1", "2", "1", "1", "2", "1", "1"],
            failure=["", "", "", "", "fte", "", "", "", "", "", "", "", "", ""],
            group_sex=["f", "f", "f", "m", "m", "m", " Unknown ", "f", "m", "x", "f", "f", "m", "m"],
        ),
        labels={"sex": ["f", "m"]},
    )
    assert excluded(found) == {
        "missing subject id": 1,
        "enrolment failure (FTE), flagged in the file": 1,
        "enrolment failure (FTE): the template is missing or holds values that are not numbers": 1,
        "enrolment failure (FTE): the template holds infinite values or is longer than 1e+18": 1,
        "enrolment failure (FTE): the template has length zero, which cosine cannot compare": 1,
        "subject without a label (sex)": 1,
        "label is not among the declared ones (sex)": 1,
        "subject with two different labels on one attribute (all rows of such subjects)": 2,
        "duplicate: same subject, same sample, same template; first kept": 1,
    }
    assert np.flatnonzero(found.used).tolist() == [0, 10, 11, 12]
    assert found.enrol.tolist() == [[3, 2], [2, 2], [1, 0], [2, 0], [1, 0], [2, 0], [2, 0]]
    assert found.has_failures
    assert found.labels == (("f", "m"),)
    assert found.subject_labels[:, 0].tolist() == [0, 1, -1, -1, -1, 0, 1]
    assert remarks(found) == {"subjects with a single image; they give no mated comparison": 2}
    assert found.image[~found.used].tolist() == [-1] * 10


def test_zero_vectors_can_be_compared_by_distance(tmp_path: Path) -> None:
    x = vectors()
    x[0] = 0.0
    path = npz(tmp_path, x, **columns())
    assert open_templates(path, metric="l2").rows_used == 12
    assert open_templates(path, metric="cosine").rows_used == 11


def test_lengths_other_than_one_are_said_once_and_only_for_cosine(tmp_path: Path) -> None:
    path = npz(tmp_path, vectors() * np.float32(3), **columns())
    said = "Templates are not of length 1; for cosine they are normalised before they are compared."
    assert open_templates(path).warnings == (said,)
    assert open_templates(path, metric="inner").warnings == ()


def test_identical_templates_are_counted_and_stay(tmp_path: Path) -> None:
    x = vectors(9, 4)
    x[4] = x[0]  # another sample of the same subject
    x[1] = x[0]  # another subject
    x[0, 0], x[8] = 0.0, x[7]
    x[1, 0] = x[4, 0] = -0.0  # the same number as 0.0
    found = open_templates(
        npz(
            tmp_path,
            x,
            subject=["a", "b", "c", "d", "a", "b", "c", "d", "d"],
            sample=["1", "1", "1", "1", "2", "2", "2", "2", "3"],
        )
    )
    assert found.rows_used == 9
    assert remarks(found) == {
        "templates identical to another sample's of the same subject; counted and not dropped": 2,
        "templates identical to another subject's; counted and not dropped": 1,
    }
    assert any(w.startswith("1 templates are identical to a template of another subject") for w in found.warnings)
    bare = open_templates(npz(tmp_path, x, subject=["a", "b", "c", "d", "a", "b", "c", "d", "d"]))
    assert bare.rows_used == 9
    assert bare.image.tolist() == [-1] * 9
    assert any("no sample ids" in w for w in bare.warnings)


def test_one_sample_with_two_templates_stays_and_is_one_image(tmp_path: Path) -> None:
    found = open_templates(npz(tmp_path, vectors(4), subject=["a", "a", "b", "b"], sample=["1", "1", "1", "2"]))
    assert found.image.tolist() == [0, 0, 1, 2]  # sample 1 of another subject is another image
    assert remarks(found) == {
        "subjects with a single image; they give no mated comparison": 1,
        "further templates of a sample that has one already; never compared with each other": 1,
    }


def test_single_images_and_single_subjects_are_said(tmp_path: Path) -> None:
    found = open_templates(npz(tmp_path, vectors(3), subject=["a", "b", "c"], sample=["1", "2", "3"]))
    assert any("no mated comparisons" in w for w in found.warnings)
    found = open_templates(npz(tmp_path, vectors(3), subject=["a", "a", "a"], sample=["1", "2", "3"]))
    assert any("no non-mated comparisons" in w for w in found.warnings)


def test_missing_lists_and_numbers_are_failures(tmp_path: Path) -> None:
    listed = pa.array([None, [1.0, 0.0], [None, 1.0], [0.0, 1.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": listed, "subject": [1, 1, 2, 2]}), tmp_path / "t.parquet", row_group_size=1)
    found = open_templates(tmp_path / "t.parquet")
    assert np.flatnonzero(found.used).tolist() == [1, 3]
    assert found.enrol.tolist() == [[2, 1], [2, 1]]


@pytest.mark.parametrize("dtype", [np.float64, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_layouts_are_read_the_same(tmp_path: Path, dtype: str, order: str) -> None:
    x = np.asarray(vectors(dtype=np.float64), dtype=dtype, order=order)
    np.save(tmp_path / "t.npy", x)
    from_npy = open_templates(tmp_path / "t.npy", rows=pa.table(columns()))
    from_npz = open_templates(npz(tmp_path, x, **columns()))
    for found in (from_npy, from_npz):
        assert found.vectors.dtype == np.dtype("<f4")
        assert np.array_equal(found.vectors, x.astype(np.float32))
        assert any("rounded" in w for w in found.warnings) == (x.dtype.itemsize == 8)


def test_numbers_beyond_float32_are_infinite_and_counted(tmp_path: Path) -> None:
    x = vectors(dtype=np.float64)
    x[0, 0] = 1e200
    assert "infinite" in next(iter(excluded(open_templates(npz(tmp_path, x, **columns())))))


def test_a_npy_is_mapped_and_not_copied(tmp_path: Path) -> None:
    found = open_templates(**write(tmp_path, "npy", vectors(), columns()))
    assert isinstance(found.vectors, np.memmap)
    assert not found.vectors.flags.writeable
    found.check()


def test_a_mapped_file_that_shrinks_is_an_error_and_no_crash(tmp_path: Path) -> None:
    found = open_templates(**write(tmp_path, "npy", vectors(4000, 64), columns(4000)))
    with (tmp_path / "t.npy").open("r+b") as file:
        file.truncate(4096)
    for use in (found.check, lambda: found.read(2000, 2001)):
        with pytest.raises(InputError, match=r"t\.npy: The file became shorter"):
            use()
    # the race after the check: the read itself notices
    blind = dataclasses.replace(found.mapped, size=4096, changed=(tmp_path / "t.npy").stat().st_mtime_ns)
    with pytest.raises(InputError, match="became shorter"):
        dataclasses.replace(found, mapped=blind).read(2000, 2001)


def test_a_mapped_file_that_changes_or_goes_is_an_error(tmp_path: Path) -> None:
    found = open_templates(**write(tmp_path, "npy", vectors(), columns()))
    np.save(tmp_path / "t.npy", vectors(13))
    with pytest.raises(InputError, match="was changed"):
        found.check()
    (tmp_path / "t.npy").unlink()
    with pytest.raises(InputError, match="went away"):
        found.check()


def test_frames_are_known_by_what_was_learnt(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", vectors())
    one = open_templates(tmp_path / "t.npy", rows=pa.table(columns()))
    same = open_templates(tmp_path / "t.npy", rows=pd.DataFrame(columns()))
    other = open_templates(tmp_path / "t.npy", rows=pa.table(columns() | {"group.sex": ["f"] * 12}))
    assert one.sha256 == same.sha256 != other.sha256


def test_names_may_be_given(tmp_path: Path) -> None:
    made = {"v": vectors(), "who": columns()["subject"], "img": columns()["sample"], "s": columns()["group.sex"]}
    np.savez(tmp_path / "t.npz", **made, bad=np.arange(12) == 3)
    found = open_templates(
        tmp_path / "t.npz",
        columns={"vectors": "v", "subject": "who", "sample": "img"},
        attributes={"sex": "s"},
        failure="bad",
    )
    plain = open_templates(npz(tmp_path, vectors(), **columns()))
    assert found.rows_used == 11
    assert found.labels == plain.labels
    assert np.array_equal(found.subject_labels, plain.subject_labels)


def bad_inputs() -> dict[str, Any]:
    x, beside = vectors(), columns()

    def save(name: str, **arrays: Any) -> Any:
        def make(folder: Path) -> dict[str, Any]:
            np.savez(folder / name, **arrays)
            return {"path": folder / name}

        return make

    def cut(kind: str, keep: float) -> Any:
        def make(folder: Path) -> dict[str, Any]:
            made = write(folder, kind, vectors(400, 64), columns(400))
            data = made["path"].read_bytes()
            made["path"].write_bytes(data[: int(len(data) * keep)])
            return made

        return make

    def parquet(**arrays: Any) -> Any:
        def make(folder: Path) -> dict[str, Any]:
            pq.write_table(pa.table(arrays), folder / "t.parquet")
            return {"path": folder / "t.parquet"}

        return make

    def flip(folder: Path) -> dict[str, Any]:
        made = write(folder, "npz", vectors(400, 64), columns(400))
        data = bytearray(made["path"].read_bytes())
        data[3000] ^= 255
        made["path"].write_bytes(data)
        return made

    def rows(n: int) -> Any:
        def make(folder: Path) -> dict[str, Any]:
            np.save(folder / "t.npy", x)
            return {"path": folder / "t.npy", "rows": pa.table(columns(n))}

        return make

    def objects(folder: Path) -> dict[str, Any]:
        np.save(folder / "t.npy", np.array([[1.0], [1.0, 2.0]], object), allow_pickle=True)
        return {"path": folder / "t.npy", "rows": pa.table(columns(2))}

    def one(folder: Path) -> dict[str, Any]:
        (folder / "t.npz").write_bytes(b"PK nonsense")
        return {"path": folder / "t.npz"}

    def with_subjects(table: pa.Table) -> Any:
        def make(folder: Path) -> dict[str, Any]:
            return {"path": npz(folder, x, **beside), "subjects": table, "attributes": {"sex": "sex"}}

        return make

    ragged = pa.array([[1.0, 2.0], [1.0]], pa.list_(pa.float32()))
    none = pa.array([None, None], pa.list_(pa.float32()))
    return {
        "no file": (lambda f: {"path": f / "t.npz"}, "There is no such file"),
        "a folder": (lambda f: {"path": f}, "This is a folder"),
        "an ending": (lambda f: {"path": (f / "t.txt").write_text("x") and f / "t.txt"}, "ending .txt is not"),
        "0 bytes": (lambda f: {"path": (f / "t.npz").write_bytes(b"") or f / "t.npz"}, "empty"),
        "no archive": (one, "no .npz archive"),
        "cut npz": (cut("npz", 0.7), "no .npz archive"),
        "cut npy": (cut("npy", 0.7), "cut short"),
        "cut parquet": (cut("parquet", 0.7), "not a readable Parquet"),
        "cut hdf5": (cut("hdf5", 0.7), "HDF5"),
        "a flipped bit": (flip, "damaged"),
        "no vectors": (save("t.npz", subject=beside["subject"]), "no vectors called"),
        "no subject": (save("t.npz", embedding=x), "Missing: subject"),
        "one dimension": (save("t.npz", embedding=x[0], subject=["a"] * 7), "shape"),
        "no rows": (save("t.npz", embedding=x[:0], subject=beside["subject"][:0]), "no templates"),
        "no columns": (save("t.npz", embedding=x[:, :0], subject=beside["subject"]), "no templates"),
        "integers": (save("t.npz", embedding=np.ones((2, 2), int), subject=["a", "b"]), "type int64"),
        "objects": (objects, "Python objects"),
        "object ids": (save("t.npz", embedding=x, subject=np.array(beside["subject"], object)), "Python objects"),
        "fewer ids": (save("t.npz", embedding=x, subject=beside["subject"][:5]), "12 templates and 5 entries"),
        "fewer rows": (rows(11), "11 rows and the file 12 templates"),
        "mixed dimensions": (parquet(embedding=ragged, subject=["a", "b"]), "Row 2 has 1 numbers where others have 2"),
        "nothing but null": (parquet(embedding=none, subject=["a", "b"]), "Every template is missing"),
        "no list": (parquet(embedding=[1.0, 2.0], subject=["a", "b"]), "lists of float32"),
        "empty parquet": (parquet(embedding=ragged[:0], subject=pa.array([], pa.string())), "no templates"),
        "failure words": (
            save("t.npz", embedding=x, subject=beside["subject"], failure=["perhaps"] * 12),
            "Row 1 has a failure word",
        ),
        "nothing left": (save("t.npz", embedding=x * 0, subject=beside["subject"]), "None of the 12 templates"),
        "torn table": (
            with_subjects(pa.table({"subject": [PEOPLE[0], PEOPLE[0]], "sex": ["f", "m"]})),
            "lists a subject that another row gives",
        ),
        "no such column": (with_subjects(pa.table({"subject": [PEOPLE[0]]})), "Missing column: sex"),
        "empty table": (
            with_subjects(pa.table({"subject": pa.array([], pa.string()), "sex": pa.array([], pa.string())})),
            "There are no rows",
        ),
    }


@pytest.mark.parametrize("case", bad_inputs())
def test_bad_input_is_one_clear_sentence_without_an_id(tmp_path: Path, case: str) -> None:
    make, said = bad_inputs()[case]
    with pytest.raises(InputError) as caught:
        open_templates(**make(tmp_path))
    assert said in str(caught.value)
    assert not any(person in str(caught.value) for person in PEOPLE)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "manhattan"},
        {"columns": {"vector": "v"}},
        {"subjects": pa.table({"subject": ["a"]})},
        {"labels": {"age": ["young"]}},
        {"labels": {"sex": []}},
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_templates(npz(tmp_path, vectors(), **columns()), **options)


def test_a_npy_needs_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", vectors())
    with pytest.raises(UsageError, match="does not say whom"):
        open_templates(tmp_path / "t.npy")


def test_without_its_package_hdf5_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "t.h5").write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=r"audit_toolkit\[hdf5\]"):
        open_templates(tmp_path / "t.h5")


def test_hdf5_does_not_follow_links_out_of_the_file(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = vectors()
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")
        file["subject"] = columns()["subject"]
    with pytest.raises(InputError, match="no vectors called"):
        open_templates(tmp_path / "t.h5")


def test_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(AuditError, match="No space left"):
        open_templates(npz(tmp_path, vectors(), **columns()), memory_bytes=10)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_row_order_changes_no_count(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("order")
    n = data.draw(st.integers(2, 12))
    x = vectors(n, 3, seed=data.draw(st.integers(0, 5)))
    for k in range(n):
        x[k] = x[data.draw(st.integers(0, n - 1))]
    x[0] = [1.0, 0.0, 0.0]
    choice = {
        "subject": [data.draw(st.sampled_from(["a", "b", "c", ""])) for _ in range(n - 1)] + ["a"],
        "sample": [data.draw(st.sampled_from(["1", "2", ""])) for _ in range(n)],
        "group.sex": [data.draw(st.sampled_from(["f", "m"])) for _ in range(n)],
    }
    order = data.draw(st.permutations(range(n)))

    def run(at: list[int]) -> Any:
        np.savez(folder / "t.npz", embedding=x[at], **{k: np.array(v)[at] for k, v in choice.items()})
        try:
            found = open_templates(folder / "t.npz")
        except InputError as error:
            return str(error)
        excluded(found)
        return (
            found.exclusions,
            found.warnings,
            found.enrol.tolist(),
            found.subject_labels.tolist(),
            found.identity.tolist(),
        )

    assert run(list(range(n))) == run(list(order))


def test_the_table_of_readers_is_what_messages_list(tmp_path: Path) -> None:
    (tmp_path / "t.bin").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        open_templates(tmp_path / "t.bin")
    assert all(ending in str(caught.value) for ending in embeddings.READERS)
