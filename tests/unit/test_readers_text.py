from __future__ import annotations

import gzip
import io
import math
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.errors import AuditError, InputError, UsageError
from audit_toolkit.sources.bfw import read_bfw
from audit_toolkit.sources.bob import read_bob4, read_bob5, read_bob_csv
from audit_toolkit.sources.compose import chain, keep_attributes, with_labels
from audit_toolkit.sources.lfw import read_lfw
from audit_toolkit.sources.pyeer import read_pyeer
from audit_toolkit.sources.table import ScoreSource

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
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


FOUR = "a a a1 0.9\na b b1 -0.25\n\nNA null n1 1e-3\n"
FOUR_ROWS = [
    {"reference_subject": "a", "probe_subject": "a", "score": 0.9, "probe_sample": "a1"},
    {"reference_subject": "a", "probe_subject": "b", "score": -0.25, "probe_sample": "b1"},
    {"reference_subject": "NA", "probe_subject": "null", "score": 0.001, "probe_sample": "n1"},
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_bob4(tmp_path: Path, end: str) -> None:
    source = read_bob4(write(tmp_path, "scores-dev", FOUR.replace("\n", end)))
    assert read_twice(source) == FOUR_ROWS
    assert (source.name, source.format) == ("scores-dev", "bob 4-column")
    assert "mated" not in source.columns


def test_bob5_with_quotes_and_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "scores-dev", "\ufeffa m1 a p1 0.5\n\"b m'2 a p2 7")
    assert read_twice(read_bob5(path)) == [
        {
            "reference_subject": r,
            "probe_subject": "a",
            "score": s,
            "reference_sample": m,
            "probe_sample": p,
        }
        for r, s, m, p in [("a", 0.5, "m1", "p1"), ('"b', 7.0, "m'2", "p2")]
    ]


def tar_of(path: Path, members: dict[str, bytes], mode: str, link: bool = False) -> Path:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("scores")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        if link:
            entry = tarfile.TarInfo("scores/link")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(entry)
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("s.tar", "w"), ("s.tar.gz", "w:gz"), ("s.tgz", "w:gz"), ("s.tar.xz", "w:xz")]
)
def test_bob_in_an_archive(tmp_path: Path, name: str, mode: str) -> None:
    path = tar_of(tmp_path / name, {"scores/dev": FOUR.encode()}, mode)
    assert read_twice(read_bob4(path)) == FOUR_ROWS
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_bob_gz(tmp_path: Path) -> None:
    assert read_twice(read_bob4(write(tmp_path, "s.txt.gz", gzip.compress(FOUR.encode())))) == FOUR_ROWS


def test_archives_that_are_refused(tmp_path: Path) -> None:
    one = {"scores/dev": FOUR.encode()}
    fails("link or a device", read_bob4, tar_of(tmp_path / "a.tar.gz", one, "w:gz", link=True))
    fails("holds 2 files", read_bob4, tar_of(tmp_path / "b.tar", one | {"eval": b"x"}, "w"))
    fails("holds 0 files", read_bob4, tar_of(tmp_path / "c.tar", {}, "w"))
    fails("cut short or damaged", read_bob4, write(tmp_path, "d.tar", b"no archive at all"))
    body = "".join(f"a b c{i} 0.{i * 7919 % 10000:04d}\n" for i in range(200_000)).encode()
    whole = tar_of(tmp_path / "e.tar.gz", {"dev": body}, "w:gz").read_bytes()
    fails("cut short or damaged", read_bob4, write(tmp_path, "f.tar.gz", whole[: len(whole) // 2]))
    packed = gzip.compress(body)
    fails("cut short or damaged", read_bob4, write(tmp_path, "g.gz", packed[: len(packed) // 2]))


def test_bob_nan(tmp_path: Path) -> None:
    path = write(tmp_path, "s", "a a p nan\na b q NaN\na b r 1\n")
    plain = read_twice(read_bob4(path))
    assert [math.isnan(r["score"]) for r in plain] == [True, True, False]
    marked = read_twice(read_bob4(path, nan_is_failure="fta"))
    assert [(r["score"], r["failure"]) for r in marked] == [(None, "fta"), (None, "fta"), (1.0, "")]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty"),
        ("\n\n\n", "no line with anything"),
        (f"{PERSON}\ta\tp\t1\n", r"s, line 1: .*1 field .*expected 4.*Separated by a tab it has 4"),
        (f"{PERSON},a,p,1\n", r"line 1.*Separated by a comma"),
        (f"a a p 1\na a p 2\n\n{PERSON} a 3\n", r"s, line 4: The line has 3 fields"),
        (f"a a p 1\n{PERSON}  a p 3\n", "line 2: The line has 5 fields"),
        (f"a a p 1\na {PERSON} p 1_0\n", "line 2: The field 'score' is not a number"),
        (f"a a p 1\na a p {PERSON}\n", "line 2: The field 'score' is not a number"),
        (f"a a p 1\na a {PERSON}".encode() + b"\xff 1\n", "line 2: The bytes are not UTF-8"),
        (b"a" * (3 << 20), "line 1: The line is longer"),
        (b"a a p 1\n" + b"a" * (3 << 20), "line 2: The line is longer"),
    ],
)
def test_bob_bad_input(tmp_path: Path, text: str | bytes, match: str) -> None:
    fails(match, read_bob4, write(tmp_path, "s", text))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    fails("no such file", read_bob4, tmp_path / "nothing")
    fails("a folder", read_bob4, tmp_path)


CSV = (
    "probe_template_id,probe_subject_id,probe_gender,probe_key,bio_ref_template_id,bio_ref_subject_id,bio_ref_gender,"
    "probe_yaw,score\n"
    'p1,1,F,k1,r1,1,F,12.5,0.75\np2,2,"M, old",k2,r1,1,,-3,nan\n'
)


def test_bob_csv(tmp_path: Path) -> None:
    path = write(tmp_path, "scores.csv", CSV)
    source = read_bob_csv(path, covariates={"yaw": "probe_yaw"})
    first, second = read_twice(source)
    assert first == {
        "reference_subject": "1",
        "probe_subject": "1",
        "score": 0.75,
        "reference_sample": "r1",
        "probe_sample": "p1",
        "reference.gender": "F",
        "probe.gender": "F",
        "covariate.yaw": 12.5,
    }
    assert (second["reference.gender"], second["probe.gender"]) == ("", "M, old")
    assert math.isnan(second["score"])
    assert (source.attributes, source.covariates) == (("gender",), ("yaw",))
    assert read_bob_csv(path, attributes=()).attributes == ()
    assert read_bob_csv(path, attributes={"g": ("bio_ref_gender", "probe_gender")}).attributes == ("g",)
    assert [r["covariate.k"] for r in table(read_bob_csv(path, covariates={"k": "probe_key"}), 9)] == [
        "k1",
        "k2",
    ]


def test_bob_csv_other_delimiters_and_older_names(tmp_path: Path) -> None:
    text = "bio_ref_subject_id;probe_subject_id;probe_reference_id;key;score\na;b;p;x;1\n"
    source = read_bob_csv(write(tmp_path, "s.csv", text))
    assert read_twice(source) == [{"reference_subject": "a", "probe_subject": "b", "score": 1.0, "probe_sample": "p"}]
    assert read_twice(read_bob_csv(write(tmp_path, "e.csv", text.split("\n")[0] + "\n\n"))) == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            "a,b,score\n1,2,3\n",
            "line 1: The header lacks bio_ref_subject_id, probe_subject_id; it has a, b, score",
        ),
        (f"{PERSON},b,0.5\n", "line 1: The first line holds numbers, so it is no header"),
        (CSV.replace("probe_key", "score"), "names a column twice: score"),
        (CSV + f"p,{PERSON}\n", "line 4: The line has 2 fields separated by a comma, expected 9"),
        (CSV + f"p,1,F,k,r,1,F,1,{PERSON}\n", "line 4: The field 'score' is not a number"),
        (CSV.encode() + b"p,1,\xc3,k,r,1,F,1,1\n", "line 4: The bytes are not UTF-8"),
        ("x" * 200_000 + ",score\n", "too long"),
        ("x," * 800_000 + "score\n", "longer than"),
    ],
)
def test_bob_csv_bad_input(tmp_path: Path, text: str | bytes, match: str) -> None:
    fails(match, read_bob_csv, write(tmp_path, "s.csv", text))


def test_bob_csv_covariate_that_stops_being_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, "s.csv", CSV + "p,1,F,k,r,1,F,left,1\n")
    fails("line 4: The field 'probe_yaw' is not a number", read_bob_csv, path, covariates={"yaw": "probe_yaw"})
    fails("lacks probe_pitch", read_bob_csv, path, covariates={"pitch": "probe_pitch"})


def test_pyeer_with_ids(tmp_path: Path) -> None:
    genuine, impostor = (
        write(tmp_path, "g.txt", "a a 0.5\nb b 1\nc c 2\n"),
        write(tmp_path, "i.txt", "a b 0.1\n"),
    )
    source = read_pyeer(genuine, impostor, reference_label={"sex": "F"}, probe_label={"sex": "M"})
    rows = read_twice(source)
    assert [(r["reference_subject"], r["probe_subject"], r["mated"], r["score"]) for r in rows] == [
        ("a", "a", True, 0.5),
        ("b", "b", True, 1.0),
        ("c", "c", True, 2.0),
        ("a", "b", False, 0.1),
    ]
    assert {(r["reference.sex"], r["probe.sex"]) for r in rows} == {("F", "M")}
    assert source.attributes == ("sex",)
    fails("not independent", read_pyeer, genuine, impostor, independent=True, kind=UsageError)


def test_pyeer_without_ids(tmp_path: Path) -> None:
    genuine, impostor = write(tmp_path, "g.txt", "0.5\n1\n2\n"), write(tmp_path, "i.txt", "0.1\n-1\n.5\n")
    fails("without subjects no interval", read_pyeer, genuine, impostor)
    source = read_pyeer(genuine, impostor, independent=True)
    assert "assumed" in source.format
    rows = read_twice(source)
    assert [r["score"] for r in rows] == [0.5, 1.0, 2.0, 0.1, -1.0, 0.5]
    assert all((r["reference_subject"] == r["probe_subject"]) == r["mated"] for r in rows)
    people = [{r["reference_subject"], r["probe_subject"]} for r in rows]
    assert len(set.union(*people)) == sum(map(len, people)) == 9


def test_pyeer_bad_input(tmp_path: Path) -> None:
    good, ids = write(tmp_path, "g.txt", "0.5\n"), write(tmp_path, "ids.txt", "a b 1\n")
    fails("One file has subject ids", read_pyeer, good, ids)
    fails("line 1.*2 fields", read_pyeer, good, write(tmp_path, "two.txt", f"{PERSON} 1\n"), independent=True)
    fails("by a tab it has 3", read_pyeer, ids, write(tmp_path, "tab.txt", f"{PERSON}\tb\t1\n"))
    fails(
        "bad.txt, line 2.*not a number",
        read_pyeer,
        good,
        write(tmp_path, "bad.txt", f"1\n{PERSON}\n"),
        independent=True,
    )
    fails("empty", read_pyeer, good, write(tmp_path, "empty.txt", ""))


BFW = "fold,p1,p2,label,id1,id2,att1,att2,vgg16,resnet50,a1,a2,g1,g2,e1,e2\n" + (
    "1,af/0/1.jpg,af/0/2.jpg,1,0,0,asian_females,asian_females,0.8,0.9,AF,AF,F,F,A,A\n"
    "5,af/0/1.jpg,wm/7/2.jpg,0,0,7,asian_females,white_males,0.3,0.1,AF,WM,F,M,A,W\n"
)


def test_bfw(tmp_path: Path) -> None:
    path = write(tmp_path, "bfw.csv", BFW)
    source = read_bfw(path, score="resnet50")
    rows = read_twice(source)
    assert rows[1] == {
        "reference_subject": "0",
        "probe_subject": "7",
        "mated": False,
        "score": 0.1,
        "reference_sample": "af/0/1.jpg",
        "probe_sample": "wm/7/2.jpg",
        "reference.attribute": "asian_females",
        "probe.attribute": "white_males",
        "reference.gender": "F",
        "probe.gender": "M",
        "reference.ethnicity": "A",
        "probe.ethnicity": "W",
    }
    assert [r["mated"] for r in rows] == [True, False]
    assert source.attributes == ("attribute", "gender", "ethnicity")
    assert "resnet50" in source.format


def test_bfw_bad_input(tmp_path: Path) -> None:
    path = write(tmp_path, "bfw.csv", BFW)
    fails("is not said; the table has vgg16, resnet50", read_bfw, path)
    fails("no such score column; the table has vgg16, resnet50", read_bfw, path, score="label")
    fails("lacks p1", read_bfw, write(tmp_path, "o.csv", BFW.replace("p1", "x1")), score="vgg16")
    wrong = write(tmp_path, "l.csv", BFW.replace(",0,0,7,", f",{PERSON},0,7,"))
    fails("line 3: The field 'label' is neither 1 nor 0", read_bfw, wrong, score="vgg16")
    one = write(tmp_path, "one.csv", BFW.replace("resnet50", "Unnamed: 0"))
    assert "vgg16" in read_bfw(one).format


PAIRS = "Ann_Lee\t1\t4\nBob\t1\t2\nAnn_Lee\t1\tBob\t3\nCy\t10\tAnn_Lee\t2\n"
PAIR_ROWS = [
    ("Ann_Lee", "Ann_Lee", True, "Ann_Lee/1", "Ann_Lee/4", 0.9),
    ("Bob", "Bob", True, "Bob/1", "Bob/2", 0.8),
    ("Ann_Lee", "Bob", False, "Ann_Lee/1", "Bob/3", 0.25),
    ("Cy", "Ann_Lee", False, "Cy/10", "Ann_Lee/2", -1.0),
]
SCORES = "0.9\n0.8\n0.25\n-1\n"


@pytest.mark.parametrize("header", ["", "1\t2\n", "2\n"])
@pytest.mark.parametrize("kind", ["text", "npy"])
def test_lfw(tmp_path: Path, header: str, kind: str) -> None:
    import numpy as np

    pairs = write(tmp_path, "pairs.txt", header + PAIRS)
    scores = tmp_path / ("scores.txt" if kind == "text" else "scores.npy")
    if kind == "text":
        scores.write_text(SCORES)
    else:
        np.save(scores, np.array([0.9, 0.8, 0.25, -1]))
    source = read_lfw(pairs, scores, reference_label={"race": "A"}, probe_label={"race": "A"})
    names = ("reference_subject", "probe_subject", "mated", "reference_sample", "probe_sample", "score")
    assert [tuple(r[n] for n in names) for r in read_twice(source)] == PAIR_ROWS
    assert source.attributes == ("race",)


def test_lfw_bad_input(tmp_path: Path) -> None:
    import numpy as np

    pairs, scores = write(tmp_path, "pairs.txt", PAIRS), write(tmp_path, "scores.txt", SCORES)
    fails("more pairs than scores .3 go", read_lfw, pairs, write(tmp_path, "few.txt", SCORES[:13]))
    fails("fewer pairs than scores .4 go", read_lfw, pairs, write(tmp_path, "many.txt", SCORES + "1\n2\n"))
    fails("announces 20 pairs and 4 follow", read_lfw, write(tmp_path, "p1", "1\t10\n" + PAIRS), scores)
    fails("p2, line 5: The line is no pair", read_lfw, write(tmp_path, "p2", PAIRS + f"{PERSON}\t1\n"), scores)
    fails("p3, line 1: The line is no pair", read_lfw, write(tmp_path, "p3", f"{PERSON},1,2\n"), scores)
    fails("line 1: The line is no pair", read_lfw, write(tmp_path, "p4", f"{PERSON}\t1\tx\n"), scores)
    fails("UTF-8", read_lfw, write(tmp_path, "p5", PAIRS.encode() + b"\xff\t1\t2\n"), scores)
    fails("empty", read_lfw, write(tmp_path, "p6", ""), scores)
    fails("s1, line 3.*not a number", read_lfw, pairs, write(tmp_path, "s1", f"1\n2\n{PERSON}\n4\n"))
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    fails("not a plain array", read_lfw, pairs, tmp_path / "o.npy")
    np.save(tmp_path / "d.npy", np.zeros((2, 2)))
    fails("not one-dimensional", read_lfw, pairs, tmp_path / "d.npy")


def test_chain_of_labelled_lists(tmp_path: Path) -> None:
    scores = write(tmp_path, "scores.txt", SCORES)
    sources = []
    for race in ("A", "B"):
        pairs = write(tmp_path, f"{race}_pairs.txt", PAIRS.replace("Bob", f"Bob{race}"))
        sources.append(read_lfw(pairs, scores, reference_label={"race": race}, probe_label={"race": race}))
    source = chain(sources)
    rows = read_twice(source)
    assert [r["reference.race"] for r in rows] == ["A"] * 4 + ["B"] * 4
    assert source.name == "A_pairs.txt, scores.txt, B_pairs.txt, scores.txt"
    with pytest.raises(UsageError, match=r"differ in probe\.race, reference\.race"):
        chain([sources[0], read_lfw(pairs, scores)])
    with pytest.raises(UsageError, match="no source"):
        chain([])
    with pytest.raises(UsageError, match=r"already has reference\.race"):
        with_labels(sources[0], {"race": "C"}, {})


def test_a_stream_that_is_left_early_can_be_opened_again(tmp_path: Path) -> None:
    body = "".join(f"a b c{i} 0.5\n" for i in range(200_000)).encode()
    plain = write(tmp_path, "plain", body)
    packed = tar_of(tmp_path / "s.tar.gz", {"dev": body}, "w:gz")
    for source in (read_bob4(plain), read_bob4(packed)):
        for _ in range(5):
            stream = source.open(10)
            assert next(stream).num_rows == 10
            stream.close()
        assert sum(b.num_rows for b in source.open(1 << 20)) == 200_000


def test_chain_keeps_every_score_exact(tmp_path: Path) -> None:
    import numpy as np
    import pyarrow as pa

    pairs = write(tmp_path, "pairs.txt", PAIRS)
    np.save(tmp_path / "single.npy", np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    sources = [read_lfw(pairs, tmp_path / "single.npy"), read_lfw(pairs, write(tmp_path, "s.txt", SCORES))]
    mixed = chain(sources)
    assert next(mixed.open(9)).schema.field("score").type == pa.float64()
    assert [r["score"] for r in read_twice(mixed)] == [float(np.float32(k / 10)) for k in (1, 2, 3, 4)] + [
        0.9,
        0.8,
        0.25,
        -1,
    ]
    assert next(chain(sources[:1]).open(9)).schema.field("score").type == pa.float32()


IDS = st.text(st.characters(blacklist_categories=("Zs", "Zl", "Zp", "Cc", "Cs", "Cf")), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(IDS, IDS, IDS, IDS, st.floats(allow_nan=False)), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_bob5_round_trip(lines: list[tuple[str, str, str, str, float]], rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), "s", "".join(f"{a} {b} {c} {d} {x!r}\n" for a, b, c, d, x in lines))
        found = table(read_bob5(path), rows)
    order = ("reference_subject", "reference_sample", "probe_subject", "probe_sample", "score")
    assert [tuple(r[n] for n in order) for r in found] == lines


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from(
        [f"{PERSON} b c", f"{PERSON} b c d 1", f"a b {PERSON} x", f"a {PERSON} c 1,5", f"a b c\t{PERSON} 1 "]
    ),
)
def test_the_broken_line_is_named(before: int, after: int, broken: str) -> None:
    good = "a b c 0.5\n"
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), "s", good * before + broken + "\n" + good * after)
        with pytest.raises(InputError, match=f"s, line {before + 1}: ") as caught:
            table(read_bob4(path), 7)
    assert PERSON not in str(caught.value)


def test_keep_attributes(tmp_path: Path) -> None:
    source = read_bfw(write(tmp_path, "bfw.csv", BFW), score="vgg16")
    kept = keep_attributes(source, ["gender"])
    assert kept.attributes == ("gender",)
    assert [r["probe.gender"] for r in read_twice(kept)] == ["F", "M"]
    assert keep_attributes(source, ()).columns == source.columns[:6]
    with pytest.raises(UsageError, match=r"no attribute age\. Attributes it has: attribute, gender, ethnicity"):
        keep_attributes(source, ["age"])
