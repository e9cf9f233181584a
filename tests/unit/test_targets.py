from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.errors import AuditError, InputError, StateError, UsageError
from audit_toolkit.targets.callable import MOST_LEFT_BEHIND, callable_target
from audit_toolkit.targets.contract import Failed, TargetError, Unanswered, read_answers, read_lines
from audit_toolkit.targets.drive import drive, target_from
from audit_toolkit.targets.outcome import Counts
from audit_toolkit.targets.work import Pair, Sample

ROOT = Path(__file__).parents[2]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Twelve images of six people, two a person, in two groups of different size."""
    out = []
    for k in range(12):
        path = tmp_path / f"secret{k:02}.png"
        path.write_bytes(bytes([k]) * 8)
        group = "f" if k < 8 else "m"
        out.append(Sample(path, f"person{k // 2}", f"s{k}", {"gender": group, "age": "young" if k % 4 < 2 else "old"}))
    return out


@pytest.fixture
def pairs(samples: list[Sample]) -> list[Pair]:
    return [Pair(a, b) for i, a in enumerate(samples) for b in samples[i + 1 :]]


def number(path: Path) -> int:
    return int(path.stem.removeprefix("secret"))


def score(pair: tuple[Path, Path]) -> float:
    return number(pair[0]) + number(pair[1]) / 100


def compare(pairs: list[tuple[Path, Path]]) -> list[float]:
    return [score(p) for p in pairs]


def expected(pairs: Sequence[Pair]) -> list[float]:
    return [score((p.reference.image, p.probe.image)) for p in pairs]


def test_rows_stand_in_the_order_of_the_work(pairs: list[Pair]) -> None:
    out = drive(callable_target(compare=compare), pairs, batch=5)
    rows = list(out.rows())
    assert [r["score"] for r in rows] == expected(pairs)
    assert rows[0] == {
        "reference_subject": "person0",
        "reference_sample": "s0",
        "reference.gender": "f",
        "reference.age": "young",
        "probe_subject": "person0",
        "probe_sample": "s1",
        "probe.gender": "f",
        "probe.age": "young",
        "score": 0.01,
        "failure": "",
    }
    assert out.overall == Counts(None, (), 66, 66, 0, 0, 0, 0, 0, 0, 0, 0)
    assert out.remarks() == ()
    assert sum(c.items for c in out.counts if c.axis == "gender") == 66
    assert {c.groups for c in out.counts if c.axis == "gender"} == {("f", "f"), ("f", "m"), ("m", "m")}


def test_columns_are_read_by_the_audit(pairs: list[Pair]) -> None:
    import pyarrow as pa

    from audit_toolkit.sources.frames import open_frame
    from audit_toolkit.sources.table import ColumnMap

    def some_fail(asked: list[tuple[Path, Path]]) -> list[object]:
        return ["fta" if number(p) == 9 else {"failure": "fte"} if number(r) == 3 else score((r, p)) for r, p in asked]

    out = drive(callable_target(compare=some_fail), pairs, batch=7)
    columns = ColumnMap(attributes={"gender": ("reference.gender", "probe.gender")})
    source = open_frame(pa.table(out.columns()), columns)
    (batch,) = source.open(1000)
    got = batch.to_pydict()
    assert got["failure"].count("fta") == out.overall.fta == 9
    assert got["failure"].count("fte") == out.overall.fte == 7
    assert [s is None for s in got["score"]] == [f != "" for f in got["failure"]]
    assert out.overall.unstated == 0
    by = {c.groups: c for c in out.counts if c.axis == "gender"}
    assert (by["f", "m"].fta, by["m", "m"].fta) == (8, 1)
    assert by["f", "f"].fte == 4


def test_a_batch_belongs_to_one_cell_and_cells_take_turns(pairs: list[Pair]) -> None:
    group = {p.reference.image: p.reference.groups["gender"] for p in pairs} | {
        p.probe.image: p.probe.groups["gender"] for p in pairs
    }
    seen: list[set[tuple[str, str]]] = []

    def watch(asked: list[tuple[Path, Path]]) -> list[float]:
        seen.append({(group[r], group[p]) for r, p in asked})
        return compare(asked)

    drive(callable_target(compare=watch), pairs, batch=2)
    assert all(len(cells) == 1 for cells in seen)
    first = [next(iter(cells)) for cells in seen[:9]]
    assert {("f", "f"), ("f", "m"), ("m", "m")} <= set(first)


def test_speed_is_taken_from_full_batches_after_the_first_call(pairs: list[Pair]) -> None:
    def slow_for_m(asked: list[tuple[Path, Path]]) -> list[float]:
        time.sleep(0.03 if number(asked[0][0]) >= 8 else 0.003)
        return compare(asked)

    plain = [
        Pair(
            Sample(p.reference.image, "a", "", {"g": p.reference.groups["gender"]}),
            Sample(p.probe.image, "b", "", {"g": "x"}),
        )
        for p in pairs
    ]
    out = drive(callable_target(compare=slow_for_m), plain, batch=3)
    by = {s.groups: s for s in out.speeds}
    assert by["m", "x"].calls == 2
    assert by["f", "x"].calls == len([p for p in plain if p.reference.groups["g"] == "f"]) // 3 - 1
    slow, fast = by["m", "x"], by["f", "x"]
    assert slow.median is not None
    assert fast.median is not None
    assert slow.lowest is not None
    assert slow.highest is not None
    assert slow.lowest <= slow.median <= slow.highest <= 3 / 0.03
    assert fast.median > 2 * slow.median
    none = drive(callable_target(compare=slow_for_m), plain[:2], batch=3).speeds[0]
    assert none.median is None
    assert none.undefined
    json.dumps(out.run(), allow_nan=False)


def test_templates(samples: list[Sample]) -> None:
    def template(images: list[Path]) -> list[object]:
        return [{"failure": "fte"} if number(p) == 4 else [number(p), 1.5, -2] for p in images]

    out = drive(callable_target(template=template), samples, batch=4)
    vectors = out.vectors()
    assert vectors.dtype == np.float32
    assert vectors.shape == (12, 3)
    assert vectors[:, 0].tolist() == [k if k != 4 else 0 for k in range(12)]
    assert not vectors[4].any()
    columns = out.columns()
    assert [k for k, f in enumerate(columns["failure"]) if f == "fte"] == [4]
    assert columns["group.gender"] == ["f"] * 8 + ["m"] * 4
    assert columns["sample"][0] == "s0"
    array = callable_target(template=lambda images: np.array([[number(p), 2.0] for p in images], np.float64))
    assert drive(array, samples, batch=5).vectors().shape == (12, 2)
    with pytest.raises(UsageError):
        drive(callable_target(compare=compare), [Pair(samples[0], samples[1])]).vectors()


def test_one_bad_item_does_not_take_its_batch_along(pairs: list[Pair]) -> None:
    def throws(asked: list[tuple[Path, Path]]) -> list[float]:
        if any(number(r) == 0 and number(p) == 7 for r, p in asked):
            raise ValueError(f"cannot read {asked[0][0]}")
        return compare(asked)

    out = drive(callable_target(compare=throws), pairs, batch=8, backoff=0)
    bad = [k for k, p in enumerate(pairs) if (number(p.reference.image), number(p.probe.image)) == (0, 7)]
    assert [k for k, a in enumerate(out.answers) if isinstance(a, Failed)] == bad
    assert out.answers[bad[0]] == Failed("fta", "throw")
    assert out.overall.unstated == out.overall.fta == 1
    assert out.overall.retries == 0  # what a function raises is not asked again
    assert out.overall.throw == 4  # the batch of 8, then halves of 4, 2 and 1
    assert "1 of 66 comparisons got no answer" in out.remarks()[0]
    assert "secret" not in json.dumps(out.run())


def test_a_hanging_function_is_counted_and_then_refused(samples: list[Sample]) -> None:
    release = threading.Event()

    def hangs(images: list[Path]) -> list[list[float]]:
        if number(images[0]) == 2:
            release.wait(20)
        return [[1.0, 2.0]] * len(images)

    try:
        out = drive(callable_target(template=hangs), samples, batch=1, timeout=0.2, retries=1, backoff=0)
        assert out.answers[2] == Failed("fte", "timeout")
        assert (out.overall.timeout, out.overall.retries, out.overall.fte) == (2, 1, 1)
        with pytest.raises(TargetError, match="cannot be stopped"):
            drive(callable_target(template=hangs), samples, batch=1, timeout=0.05, retries=MOST_LEFT_BEHIND, backoff=0)
    finally:
        release.set()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n: None, "not a list"),
        (lambda n: 3.0, "not a list"),
        (lambda n: "0.5", "not a list"),
        (lambda n: np.float64(1), "not a list"),
        (lambda n: np.array(1.0), "not a list"),
        (lambda n: [0.5] * (n - 1), "answers to"),
        (lambda n: [0.5] * (n + 1), "answers to"),
        (lambda n: [], "answers to"),
        (lambda n: [None] * n, "not a number"),
        (lambda n: [True] * n, "not a number"),
        (lambda n: [[0.5]] * n, "not a number"),
        (lambda n: [float("nan")] * n, "not finite"),
        (lambda n: [10**400] * n, "not finite"),
        (lambda n: np.full(n, np.inf), "not finite"),
        (lambda n: ["FTA"] * n, "must be fte or fta"),
        (lambda n: [{"failure": 1}] * n, "must be a word"),
        (lambda n: [{"score": "fta"}] * n, "made of numbers"),
        (lambda n: [{"score": {"score": 1}}] * n, "made of numbers"),
        (lambda n: [{"template": [1.0]}] * n, "not asked for"),
        (lambda n: [{"score": 0.5, "failure": "fta"}] * n, "exactly one"),
        (lambda n: [{}] * n, "exactly one"),
    ],
)
def test_answers_of_the_wrong_shape(pairs: list[Pair], answer: object, says: str) -> None:
    target = callable_target(compare=lambda asked: answer(len(asked)))  # type: ignore[operator]
    with pytest.raises(TargetError, match=says) as caught:
        drive(target, pairs, batch=8)
    assert not re.search("secret|person", str(caught.value))
    with pytest.raises(TargetError):
        drive(target, pairs, batch=8, unreadable="failure")  # every one: the system is not there


@pytest.mark.parametrize(
    "template",
    [
        [],
        [[1.0]],
        ["a"],
        [1.0, None],
        [True],
        1.0,
        [float("inf")],
        [1e300],
        np.array(["a"]),
        np.zeros((1, 2)),
        [10**400],
    ],
    ids=repr,
)
def test_templates_of_the_wrong_shape(samples: list[Sample], template: object) -> None:
    with pytest.raises(TargetError):
        drive(callable_target(template=lambda images: [template] * len(images)), samples)


def test_templates_must_have_one_length(samples: list[Sample]) -> None:
    def uneven(images: list[Path]) -> list[list[float]]:
        return [[1.0] * (3 if number(p) == 5 else 2) for p in images]

    with pytest.raises(TargetError, match="where others have"):
        drive(callable_target(template=uneven), samples, batch=1)
    out = drive(callable_target(template=uneven), samples, batch=4, unreadable="failure")
    assert out.answers[5] == Failed("fte", "unreadable")
    assert out.overall.answered == 11


def test_a_system_that_is_down_is_not_a_failure_of_people(pairs: list[Pair], tmp_path: Path) -> None:
    up = [30]

    def dies(asked: list[tuple[Path, Path]]) -> list[float]:
        up[0] -= len(asked)
        if up[0] < 0:
            raise ConnectionError
        return compare(asked)

    results = tmp_path / "results.jsonl"
    with pytest.raises(TargetError, match=r"7 items in a row .* raised ConnectionError"):
        drive(callable_target(compare=dies), pairs, batch=4, give_up_after=7, results=results)
    assert "throw" not in results.read_text()
    up[0] = 10**6
    out = drive(callable_target(compare=dies), pairs, batch=4, give_up_after=7, results=results)
    assert [r["score"] for r in out.rows()] == expected(pairs)
    assert 0 < out.resumed <= 30
    with pytest.raises(TargetError, match="Not one item"):
        drive(callable_target(compare=lambda asked: 1 // 0), pairs[:3])  # type: ignore[arg-type, return-value]


def interrupted(pairs: list[Pair], results: Path, after: int) -> None:
    seen = [0]

    def stops(name: str, done: int, total: int | None) -> None:
        assert (name, total) == ("driving the target", len(pairs))
        seen[0] = done
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(callable_target(compare=compare), pairs, batch=4, results=results, progress=stops)


def test_resume(pairs: list[Pair], tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    interrupted(pairs, results, 20)
    text = results.read_text()
    for line in text.splitlines():
        json.loads(line)
    assert not re.search("secret|person", text)
    asked = []

    def watch(questions: list[tuple[Path, Path]]) -> list[float]:
        asked.extend(questions)
        return compare(questions)

    watch.__qualname__, watch.__name__ = compare.__qualname__, compare.__name__
    with results.open("a") as file:
        file.write('{"check":"12')  # the line a crash cut short
    out = drive(callable_target(compare=watch), pairs, batch=4, results=results)
    assert out.resumed == 20
    assert len(asked) == 46
    whole = drive(callable_target(compare=compare), pairs, batch=4)
    assert (out.answers, out.counts) == (whole.answers, whole.counts)
    asked.clear()
    assert drive(callable_target(compare=watch), pairs, batch=4, results=results).resumed == 66
    assert asked == []


KILLED = """
import os, signal, sys
from pathlib import Path
from audit_toolkit.targets.callable import callable_target
from audit_toolkit.targets.drive import drive
from audit_toolkit.targets.work import Sample
folder, calls = Path(sys.argv[1]), [0]
def template(images):
    calls[0] += 1
    if calls[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return [[int(p.stem), 0.1] for p in images]
work = [Sample(folder / f"{k}.png", f"p{k}") for k in range(20)]
print(drive(callable_target(template=template, name="v1"), work, batch=3, results=folder / "r.jsonl").vectors().tolist())
"""


def test_resume_after_the_audit_was_killed(tmp_path: Path) -> None:
    for k in range(20):
        (tmp_path / f"{k}.png").write_text(str(k))
    codes = []
    for _ in range(4):
        run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
        codes.append(run.returncode)
        if run.returncode == 0:
            break
    assert codes == [-9, -9, 0]  # seven calls in all, three a life
    assert json.loads(run.stdout) == [[k, float(np.float32(0.1))] for k in range(20)]


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_any_damage_is_noticed_or_asked_again(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    samples = []
    for k in range(4):
        path = folder / f"secret{k:02}.png"
        path.write_bytes(b"x")
        samples.append(Sample(path, f"person{k}"))
    pairs = [Pair(a, b) for i, a in enumerate(samples) for b in samples[i + 1 :]]
    results = folder / "results.jsonl"
    target = callable_target(compare=compare)
    drive(target, pairs, batch=2, results=results)
    data = bytearray(results.read_bytes())
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    results.write_bytes(data)
    out, refusal = None, None
    try:
        out = drive(target, pairs, batch=2, results=results)
    except StateError as error:
        refusal = error
    if out is not None:
        assert [r["score"] for r in out.rows()] == expected(pairs)
        return
    assert not cut
    assert "secret" not in str(refusal)
    assert results.read_bytes() == data  # a refusal changes nothing


def test_a_file_of_another_drive_is_refused(pairs: list[Pair], tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    interrupted(pairs, results, 20)
    before = results.read_bytes()
    for other, options in (
        (callable_target(compare=compare, name="other"), {"batch": 4}),
        (callable_target(compare=compare), {"batch": 5}),
        (callable_target(compare=compare), {"batch": 4, "timeout": 1.0}),
    ):
        with pytest.raises(StateError, match="another system"):
            drive(other, pairs, results=results, **options)  # type: ignore[arg-type]
    with pytest.raises(StateError, match="another system"):
        drive(callable_target(compare=compare), pairs[:-1], batch=4, results=results)
    pairs[0].probe.image.write_bytes(b"another image")
    with pytest.raises(StateError, match="another system"):
        drive(callable_target(compare=compare), pairs, batch=4, results=results)
    assert results.read_bytes() == before
    results.write_text("my diary")
    with pytest.raises(StateError, match="not a file of results"):
        drive(callable_target(compare=compare), pairs, batch=4, results=results)
    results.write_text("my diary\n")
    with pytest.raises(StateError, match="another system"):
        drive(callable_target(compare=compare), pairs, batch=4, results=results)
    assert results.read_text() == "my diary\n"
    with pytest.raises(StateError, match="cannot be opened"):
        drive(callable_target(compare=compare), pairs, results=tmp_path)


def test_lines_that_stand_twice_or_come_from_elsewhere(pairs: list[Pair], tmp_path: Path) -> None:
    results, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    interrupted(pairs, results, 20)
    drive(callable_target(compare=compare), pairs[:40], batch=4, results=other)
    lines, foreign = results.read_bytes().splitlines(True), other.read_bytes().splitlines(True)
    for extra in (lines[1], foreign[-1]):
        results.write_bytes(b"".join([*lines, extra]))
        with pytest.raises(StateError, match=f"line {len(lines) + 1}: .*Delete this line"):
            drive(callable_target(compare=compare), pairs, batch=4, results=results)
    results.write_bytes(b"".join([lines[0], *lines[2:]]))  # a deleted line is asked again
    assert drive(callable_target(compare=compare), pairs, batch=4, results=results).overall.answered == 66


def test_two_drives_do_not_share_a_file(pairs: list[Pair], tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    results = tmp_path / "results.jsonl"
    refused = []

    def second(asked: list[tuple[Path, Path]]) -> list[float]:
        if not refused:
            with pytest.raises(StateError, match="Another drive") as caught:
                drive(callable_target(compare=compare), pairs, results=results)
            refused.append(caught.value)
        return compare(asked)

    drive(callable_target(compare=second), pairs, results=results)
    assert refused


def test_a_full_disk_leaves_what_is_there(pairs: list[Pair], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    results = tmp_path / "results.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(StateError, match="cannot be written"):
            drive(callable_target(compare=compare), pairs, batch=4, results=results)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert results.stat().st_size == 1500
    out = drive(callable_target(compare=compare), pairs, batch=4, results=results)
    assert out.resumed > 0
    assert [r["score"] for r in out.rows()] == expected(pairs)


def test_results_go_to_a_plain_file(pairs: list[Pair]) -> None:
    if Path("/dev/null").exists():
        with pytest.raises(StateError, match="no plain file"):
            drive(callable_target(compare=compare), pairs, results="/dev/null")


def test_the_time_of_the_whole_drive(pairs: list[Pair], tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"

    def slow(asked: list[tuple[Path, Path]]) -> list[float]:
        time.sleep(0.05)
        return compare(asked)

    started = time.monotonic()
    with pytest.raises(TargetError, match="whole drive is over"):
        drive(callable_target(compare=slow), pairs, batch=1, total=0.4, results=results)
    assert time.monotonic() - started < 2
    out = drive(callable_target(compare=slow), pairs, batch=1, results=results)
    assert 2 <= out.resumed <= 8
    assert out.overall.answered == 66


def test_arguments_that_cannot_be_meant(pairs: list[Pair], samples: list[Sample]) -> None:
    target = callable_target(compare=compare)
    for options in (
        {"batch": 0},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"total": -1.0},
        {"retries": -1},
        {"backoff": -1.0},
        {"unreadable": "ignore"},
        {"give_up_after": 0},
    ):
        with pytest.raises(UsageError):
            drive(target, pairs, **options)  # type: ignore[arg-type]
    for work in ([], [*pairs[:2], samples[0]], [1], samples, [Pair(samples[0], Sample(samples[1].image, "x"))]):
        with pytest.raises(UsageError):
            drive(target, work)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        drive(compare, pairs)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 of the work's images") as caught:
        drive(target, [Pair(samples[0], Sample(Path("/nowhere/secret.png"), "x", "", samples[0].groups))])
    assert "secret" not in str(caught.value)


def test_functions_by_name_are_refused() -> None:
    with pytest.raises(UsageError, match="named by text"):
        callable_target(compare="os:system")  # type: ignore[arg-type]
    for bad in (1, b"os:system"):
        with pytest.raises(UsageError, match="cannot be called"):
            callable_target(template=bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        callable_target()
    with pytest.raises(UsageError, match="must not run code"):
        target_from({"kind": "callable", "function": "os:system"}, allow_commands=True)


def test_targets_from_data() -> None:
    command = {"kind": "command", "argv": ["matcher", "{image}"], "does": "template"}
    with pytest.raises(UsageError, match="start a program"):
        target_from(command)
    assert target_from(command, allow_commands=True).kind == "command"
    assert target_from({"kind": "http", "url": "http://127.0.0.1:9/x", "does": "compare"}).kind == "http"
    for bad in (
        {},
        {"kind": "ftp"},
        {"kind": "http", "url": "http://127.0.0.1/"},
        {"kind": "http", "does": "compare"},
        {"kind": "http", "url": "http://127.0.0.1/", "does": "compare", "proxy": "x"},
        {"kind": "http", "url": "http://example.org/", "does": "compare"},
        {"kind": "command", "argv": ["m", "{image}"], "does": "template", "folder": "/"},
    ):
        with pytest.raises(UsageError):
            target_from(bad, allow_commands=True)


@given(st.binary(max_size=200))
def test_any_output_is_read_or_refused(output: bytes) -> None:
    for does in ("compare", "template"):
        answers, cause = [], None
        try:
            lines = read_lines(output)
            answers = read_answers(lines, does, len(lines))  # type: ignore[arg-type]
        except Unanswered as error:
            cause = error.cause
        assert cause in (None, "unreadable")
        assert all(isinstance(a, float | Failed | np.ndarray) for a in answers)


def test_output_that_is_hard_to_read() -> None:
    assert read_lines(b'0.5\r\n1\n{"failure": "fta"}\n\n') == [0.5, 1, {"failure": "fta"}]
    for bad in (b"[" * 100_000, b"0.5\n\n0.5", b"nan", b"NaN", b"Infinity", b"\xff", b"0,5", b"score: 1", b"9" * 5000):
        with pytest.raises(Unanswered):
            read_lines(bad)


def test_errors_are_of_the_house() -> None:
    assert issubclass(TargetError, AuditError)
    assert issubclass(Unanswered, TargetError)


def test_the_page_keeps_to_the_language() -> None:
    page = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    table = (ROOT / "docs" / "language.md").read_text(encoding="utf-8").split("## Words that are not used", 1)[1]
    words = [line.split("|")[1].strip() for line in table.split("\n## ", 1)[0].splitlines() if line.startswith("| ")][
        1:
    ]
    assert "safe" in words
    assert re.findall(rf"\b({'|'.join(words)})\b", page, re.I) == []
    assert not re.search(r"https?://(?!127\.0\.0\.1|localhost)", page)
