"""The benchmarks measure what they say they measure, at toy size; no time is asserted here."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
# Behind everything else: an installed audit_toolkit stays the one under test.
sys.path.append(str(ROOT))

from benchmarks import bootstrap_speed, data, disparity_speed, harness, machine, memory_flat, script, whole_audit  # noqa: E402

ROWS, SUBJECTS = 6_000, 60


# --- order, medians, ratios ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "order"),
    [
        ([2, 2], "ABAB"),
        ([3, 3, 3], "ABCABCABC"),
        ([5, 1], "AAABAA"),
        ([4, 1], "AABAA"),
        ([1, 1], "AB"),
        ([3, 0], "AAA"),
        ([], ""),
    ],
)
def test_schedule(runs: list[int], order: str) -> None:
    assert "".join("ABC"[k] for k in harness.schedule(runs)) == order


@given(st.lists(st.integers(0, 9), max_size=5))
def test_schedule_runs_each_as_often_as_asked_and_spreads_it(runs: list[int]) -> None:
    order = harness.schedule(runs)
    assert Counter(order) == Counter({k: n for k, n in enumerate(runs) if n})
    for k, n in enumerate(runs):
        # In the first half stand as many as in the second, give or take one.
        before = sum(1 for x in order[: len(order) // 2] if x == k)
        assert abs(2 * before - n) <= 2


def fixed(log: list[str], name: str, seconds: list[float]) -> harness.Contender:
    left = iter(seconds)

    def run() -> harness.Sample:
        log.append(name)
        value = next(left)
        return harness.Sample(value, value, value, 10 * harness.MIB, "told")

    return harness.Contender(name, run)


def test_measure_warms_up_then_interleaves_and_reports_medians_of_counted_runs() -> None:
    log: list[str] = []
    a, b = fixed(log, "A", [99, 3, 1, 2]), fixed(log, "B", [99, 30, 40, 20])
    result = harness.measure("x", "X", [a, b], runs=3, warmups=1)
    assert "".join(log) == "AB" + "ABABAB"
    assert harness.row(result, "A")["seconds"] == {"median": 2, "min": 1, "max": 3, "runs": 3}
    assert harness.row(result, "B")["seconds"] == {"median": 30, "min": 20, "max": 40, "runs": 3}
    assert [s["warmup"] for s in harness.row(result, "A")["samples"]] == [True, False, False, False]
    places = sorted(s["place"] for r in result["contenders"] for s in r["samples"])
    assert places == list(range(8))
    found = harness.ratio(result, "B", "A")
    assert (found["median"], found["low"], found["high"]) == (15, 20 / 3, 40)
    assert harness.ratio(result, "B", "A", "peak_rss_mib")["median"] == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_spread(values: list[float]) -> None:
    found = harness.spread(values)
    assert found is not None
    assert found["min"] <= found["median"] <= found["max"]
    assert (found["median"], found["runs"]) == (statistics.median(values), len(values))


def test_spread_of_nothing_is_none() -> None:
    assert harness.spread([]) is None


def test_two_contenders_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        harness.measure("x", "X", [fixed([], "A", []), fixed([], "A", [])], runs=1)


@pytest.mark.parametrize(
    ("value", "at_most", "judged", "met"),
    [(10, True, True, True), (10.1, True, True, False), (10, False, True, True), (9, False, True, False),
     (10, True, False, None), (None, True, True, None)],
)  # fmt: skip
def test_goal(value: float | None, at_most: bool, judged: bool, met: bool | None) -> None:
    assert harness.goal("g", value, 10, "s", at_most=at_most, judged=judged)["met"] is met


# --- runs ------------------------------------------------------------------------------------------------------------


def python(code: str, **options: object) -> harness.Sample:
    return harness.command([sys.executable, "-S", "-c", code], **options)()  # type: ignore[arg-type]


def test_peak_memory_is_the_childs_own_and_not_its_starters() -> None:
    held = bytearray(b"x") * (256 * harness.MIB)  # this process is large now
    small = python("pass")
    large = python("x = bytearray(b'x') * (120 << 20)")
    assert len(held) > 0
    assert small.peak_rss_bytes is not None
    assert large.peak_rss_bytes is not None
    assert 0 < small.peak_rss_bytes < 64 * harness.MIB
    assert large.peak_rss_bytes - small.peak_rss_bytes > 110 * harness.MIB
    assert small.seconds > 0
    assert small.cpu_seconds > 0


def test_peak_memory_of_a_grandchild_counts() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'x = bytearray(b\"x\") * (120 << 20)'])"
    peak = python(code).peak_rss_bytes
    assert peak is not None
    assert peak > 120 * harness.MIB


def test_in_process_run_reports_time_memory_and_what_was_given_back() -> None:
    sample = harness.in_process(lambda: {"n": len(bytearray(b"x") * (64 * harness.MIB))})()
    assert sample.result == {"n": 64 * harness.MIB}
    assert sample.seconds > 0
    assert sample.peak_rss_bytes is not None
    assert sample.peak_rss_bytes > 64 * harness.MIB
    assert sample.rss_scope.startswith("this process")


def test_time_told_from_inside_is_counted_and_the_whole_is_kept() -> None:
    sample = python("print('noise'); print('{\"seconds\": 0.25, \"answer\": 7}')", inside=True)
    assert (sample.seconds, sample.result["answer"], sample.error) == (0.25, 7, None)
    assert sample.whole_seconds != 0.25


@pytest.mark.parametrize(
    "said", ["", "print('no json')", "print('{}')", "print('{\"seconds\": null}')", "print('[1]')"]
)
def test_no_time_told_from_inside_is_an_error(said: str) -> None:
    assert python(said or "pass", inside=True).error is not None


def test_exit_codes(tmp_path: Path) -> None:
    assert python("raise SystemExit(3)", accept=(0, 1, 3)).error is None
    failed = python(f"raise ValueError('in {ROOT}/x')")
    assert failed.error is not None
    assert "exit code 1" in failed.error
    assert "ValueError" in failed.error
    assert str(ROOT) not in failed.error
    # An exception ends with 1 as well: what must be left on disk tells the two apart.
    left = tmp_path / "record.json"
    assert python("raise ValueError('x')", accept=(0, 1), leaves=[left]).error is not None
    assert python(f"open({str(left)!r}, 'w'); raise SystemExit(1)", accept=(0, 1), leaves=[left]).error is None


def test_a_command_that_hangs_is_stopped() -> None:
    sample = python("import time; time.sleep(60)", timeout=0.5)
    assert sample.error == "stopped after 0.5 s"


def test_a_command_that_does_not_exist_is_an_error() -> None:
    sample = harness.command(["no-such-program-here"])()
    assert sample.error is not None
    assert sample.peak_rss_bytes is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor affinity on this system")
def test_cores_pin_the_command() -> None:
    code = "import json, os; print(json.dumps({'seconds': 1, 'cores': len(os.sched_getaffinity(0))}))"
    assert python(code, inside=True, cores=1).result["cores"] == 1
    assert python(code, inside=True, env={"X": "1"}).result["cores"] == len(os.sched_getaffinity(0))


def test_a_failing_contender_is_not_run_again_and_says_so_in_its_row() -> None:
    log: list[str] = []

    def fail() -> harness.Sample:
        log.append("B")
        return harness.Sample(0, 0, 0, None, "nothing", error="out of memory | killed")

    result = harness.measure("x", "X", [fixed(log, "A", [1] * 4), harness.Contender("B", fail)], runs=3)
    assert "".join(log) == "ABAAA"
    assert harness.row(result, "B")["seconds"] is None
    assert harness.row(result, "B")["error"] == "out of memory | killed"
    assert harness.ratio(result, "B", "A")["median"] is None
    page = harness.markdown(result)
    assert "| B | failed: out of memory / killed |" in page


# --- result files and machine ----------------------------------------------------------------------------------------


def test_result_files(tmp_path: Path) -> None:
    result = harness.measure(
        "x", "X", [fixed([], "A", [1, 2]), fixed([], "B", [3, 5])], runs=1, settings={"rows": 12345}
    )
    result["ratios"].append(harness.ratio(result, "B", "A"))
    result["goals"].append(harness.goal("be quick", 2.0, 10, "s", at_most=True))
    result["goals"].append(harness.goal("be quicker", 2.0, 1, "s", at_most=True))
    result["checks"] += [harness.check("equal answers", True), harness.check("other answers", False)]
    written, page = harness.write(result, tmp_path / "results")
    assert (written.name, page.name) == ("x.json", "x.md")
    read = json.loads(written.read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(result))
    assert read["schema"] == "audit_toolkit/benchmark/1"
    assert set(read) == {
        "schema", "name", "title", "date", "machine", "settings", "contenders", "ratios", "goals", "checks",
    }  # fmt: skip
    for found in read["contenders"]:
        assert set(found) == {
            "name", "shown", "note", "error", "seconds", "whole_seconds", "cpu_seconds", "peak_rss_mib", "samples",
        }  # fmt: skip
        assert set(found["seconds"]) == {"median", "min", "max", "runs"}
    text = page.read_text(encoding="utf-8")
    for said in ("rows 12,345", "| A | 2 | 1 |", "2.5 times", "| yes |", "**no**", "Held: equal answers",
                 "**Did not hold**: other answers", "Machine: "):  # fmt: skip
        assert said in text


def test_machine_names_what_matters_and_nobody() -> None:
    found = machine.describe()
    assert found["python"].endswith(platform.python_version())
    assert found["cores_available"] >= 1
    assert found["libraries"]["numpy"] == np.__version__
    assert found["blas"]["name"]
    text = json.dumps(found)
    assert str(ROOT) not in text
    assert platform.node() not in found.values()
    assert str(Path.home()) not in text
    assert "numpy" in machine.sentence(found)


def test_a_machine_without_linux_files_is_still_described(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", missing)
    found = machine.describe()
    assert found["memory_bytes"] is None
    assert found["caches"] is None
    assert machine.sentence(found)


# --- peers -----------------------------------------------------------------------------------------------------------


def test_every_peer_is_pinned_to_one_version() -> None:
    files = sorted((harness.HERE / "peers").glob("*.txt"))
    assert files
    for file in files:
        lines = [s for s in file.read_text(encoding="utf-8").splitlines() if s and not s.startswith("#")]
        assert lines
        assert all(line.count("==") == 1 for line in lines)


def test_peer_environment_is_made_once_and_again_when_pins_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(harness, "HERE", tmp_path)
    monkeypatch.setattr(harness.subprocess, "run", lambda argv, check: calls.append(argv))
    (tmp_path / "peers").mkdir()
    pins = tmp_path / "peers" / "other.txt"
    pins.write_text("other==1.0\n", encoding="utf-8")
    folder = tmp_path / ".peers"
    assert harness.peer_python("other", folder) == folder / "other" / "bin" / "python"
    assert [argv[1:3] for argv in calls] == [["-m", "venv"], ["-m", "pip"]]
    assert calls[1][0] == str(folder / "other" / "bin" / "python")
    assert (folder / ".gitignore").read_text(encoding="utf-8") == "*\n"
    harness.peer_python("other", folder)
    assert len(calls) == 2
    pins.write_text("other==1.1\n", encoding="utf-8")
    harness.peer_python("other", folder)
    assert len(calls) == 4


def test_a_peer_that_could_not_be_installed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: list[str], check: bool) -> None:
        if "pip" in argv:
            raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(harness, "HERE", tmp_path)
    monkeypatch.setattr(harness.subprocess, "run", refuse)
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "other.txt").write_text("other==1.0\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            harness.peer_python("other", tmp_path / ".peers")


# --- data ------------------------------------------------------------------------------------------------------------


def test_data_are_the_same_on_every_call_and_differ_by_seed() -> None:
    assert data.digest(ROWS, SUBJECTS) == data.digest(ROWS, SUBJECTS)
    assert data.digest(ROWS, SUBJECTS) != data.digest(ROWS, SUBJECTS, seed=2)
    assert data.digest(ROWS, SUBJECTS) != data.digest(ROWS - 1, SUBJECTS)


def test_a_shorter_file_is_the_beginning_of_a_longer_one() -> None:
    short = list(data.chunks(100, SUBJECTS))
    longer = list(data.chunks(data.CHUNK + 50, SUBJECTS))
    assert [len(c["score"]) for c in longer] == [data.CHUNK, 50]
    for name, values in short[0].items():
        assert np.array_equal(values, longer[0][name][:100])
    assert not np.array_equal(longer[0]["score"][:50], longer[1]["score"])


def test_data_are_what_they_are_said_to_be() -> None:
    people = data.population(SUBJECTS)
    part = data.chunk(people, 0, data.CHUNK)
    assert np.array_equal(part["mated"], part["ref"] == part["probe"])
    assert part["score"].dtype == np.float32
    assert np.isfinite(part["score"]).all()
    assert np.bincount(people.group, minlength=8).min() >= 2
    same = people.group[part["ref"]] == people.group[part["probe"]]
    assert abs(part["mated"].mean() - data.MATED_SHARE) < 0.01
    assert same[~part["mated"]].mean() > data.WITHIN_SHARE
    wrong = (part["score"] >= np.float32(data.THRESHOLD))[~part["mated"]].mean()
    assert 1e-4 < wrong < 1e-2


def test_too_few_people_are_refused() -> None:
    with pytest.raises(ValueError, match="sixteen"):
        data.population(15)


def test_score_file_holds_the_chunks_and_is_written_alike_twice(tmp_path: Path) -> None:
    first = data.score_file(tmp_path / "a", ROWS, SUBJECTS)
    second = data.score_file(tmp_path / "b", ROWS, SUBJECTS)
    assert first.read_bytes() == second.read_bytes()
    assert data.score_file(tmp_path / "a", ROWS, SUBJECTS) == first
    assert [p.name for p in (tmp_path / "a").iterdir()] == [first.name]
    table = pq.read_table(first)
    assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == {
        "reference_subject": "string", "probe_subject": "string", "reference_group": "string",
        "probe_group": "string", "mated": "bool", "score": "float",
    }  # fmt: skip
    (part,) = data.chunks(ROWS, SUBJECTS)
    group = data.population(SUBJECTS).group
    assert table["reference_subject"].to_pylist() == [f"S{k:06d}" for k in part["ref"]]
    assert table["probe_group"].to_pylist() == [data.GROUPS[group[k]] for k in part["probe"]]
    assert np.array_equal(table["score"].to_numpy(), part["score"])
    assert table["mated"].to_pylist() == part["mated"].tolist()


def test_arrays_and_file_hold_the_same(tmp_path: Path) -> None:
    folder = data.array_folder(tmp_path, ROWS, SUBJECTS)
    (part,) = data.chunks(ROWS, SUBJECTS)
    for name, values in part.items():
        assert np.array_equal(np.load(folder / f"{name}.npy"), values)
    assert np.array_equal(np.load(folder / "group.npy"), data.population(SUBJECTS).group)
    assert data.array_folder(tmp_path, ROWS, SUBJECTS) == folder


# --- equal answers ---------------------------------------------------------------------------------------------------


def counted_by_hand(rows: int, subjects: int) -> disparity_speed.Rates:
    """Rates by the reference person's group, a row at a time."""
    group = data.population(subjects).group.tolist()
    threshold = np.float32(data.THRESHOLD)
    wrong: Counter[tuple[bool, int]] = Counter()
    total: Counter[tuple[bool, int]] = Counter()
    for part in data.chunks(rows, subjects):
        for ref, mated, score in zip(part["ref"], part["mated"], part["score"], strict=True):
            key = (bool(mated), group[ref])
            total[key] += 1
            wrong[key] += (score < threshold) if mated else (score >= threshold)
    rates: disparity_speed.Rates = {}
    for name, mated in (("fmr", False), ("fnmr", True)):
        values = [wrong[mated, g] / total[mated, g] for g in range(8)]
        rates[name] = {
            "by_group": values,
            "difference": max(values) - min(values),
            "ratio": min(values) / max(values),
        }
    return rates


def test_every_contender_gives_the_rates_counted_by_hand(tmp_path: Path) -> None:
    expected = counted_by_hand(ROWS, SUBJECTS)
    assert max(expected["fmr"]["by_group"]) > 0
    assert max(expected["fnmr"]["by_group"]) > 0
    file = data.score_file(tmp_path, ROWS, SUBJECTS)
    arrays = data.array_folder(tmp_path, ROWS, SUBJECTS)
    for kind, source in (("one", arrays), ("grid", arrays), ("bincount", arrays), ("file", file)):
        told = disparity_speed.worker(kind, source, 2)
        assert disparity_speed.same_rates(told["rates"], expected), kind
        assert told["seconds"] > 0


def test_unequal_rates_are_noticed() -> None:
    a = {name: {"by_group": [0.1, 0.2], "difference": 0.1, "ratio": 0.5} for name in ("fmr", "fnmr")}
    for name, field, value in (
        ("fmr", "by_group", [0.1, 0.2 + 1e-9]),
        ("fnmr", "difference", 0.1 + 1e-9),
        ("fmr", "ratio", float("nan")),
        ("fnmr", "by_group", [0.1]),
    ):
        b = {**a, name: {**a[name], field: value}}
        assert disparity_speed.same_rates(a, a)
        assert not disparity_speed.same_rates(a, b)


def test_toy_run_of_the_rates_benchmark(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "disparity_speed.py", "--toy", "--part", "rates",
         "--data", tmp_path / "data", "--out", tmp_path / "out"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    (file,) = (tmp_path / "out").glob("*.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    assert [r["name"] for r in result["contenders"]] == [
        disparity_speed.OURS, disparity_speed.ALL_THRESHOLDS, disparity_speed.FROM_FILE, disparity_speed.LIMIT,
    ]  # fmt: skip
    assert result["goals"] == []
    assert all(c["held"] for c in result["checks"])
    assert len(result["checks"]) == 3
    assert all(r["peak_rss_mib"]["min"] > 1 for r in result["contenders"])
    text = file.read_text(encoding="utf-8") + file.with_suffix(".md").read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert str(tmp_path) not in text


@settings(max_examples=15, deadline=None)
@given(st.integers(16, 200), st.integers(1, 400), st.integers(1, 4))
def test_sparse_bootstrap_equals_plain_numpy_on_any_threads(subjects: int, errors: int, threads: int) -> None:
    given_errors = bootstrap_speed.sparse(subjects, errors)
    group = np.repeat(np.arange(8), np.diff(given_errors.bounds))
    assert np.array_equal(group[given_errors.i], group[given_errors.j])
    assert (given_errors.i != given_errors.j).all()
    weights = [bootstrap_speed.draw_weights(d, given_errors.bounds) for d in range(3)]
    assert all(np.array_equal(np.bincount(group, w), np.diff(given_errors.bounds)) for w in weights)
    # Small groups can be drawn as one person many times, without a comparison left: leave such draws to the package's tests.
    if np.diff(given_errors.bounds).min() >= 8:
        ours = bootstrap_speed.ours(given_errors, 3, min(threads, 3))
        assert bootstrap_speed.agree(ours, bootstrap_speed.plain(given_errors, 3))


def record_of(counts: dict[str, list[list[int]]], threshold: float) -> dict[str, object]:
    estimates: list[dict[str, object]] = [{"quantity": "fmr", "of": {}, "at": {}, "numerator": 1, "denominator": 2}]
    for name in ("fmr", "fnmr"):
        for label, (errors, comparisons) in zip(data.GROUPS, counts[name], strict=True):
            of, at = {"group": label}, {"threshold": threshold}
            estimates.append({"quantity": name, "of": of, "at": at, "numerator": errors, "denominator": comparisons})
    return {"estimates": estimates}


def test_a_record_is_held_against_a_count_by_hand() -> None:
    group = data.population(SUBJECTS).group.tolist()
    (part,) = data.chunks(ROWS, SUBJECTS)
    rows = list(zip(*(part[name].tolist() for name in ("ref", "probe", "mated", "score")), strict=True))
    impostors = sorted((s for *_, mated, s in rows if not mated), reverse=True)
    threshold = impostors[int(whole_audit.TARGET * len(impostors)) - 1]
    counts = {"fmr": [[0, 0] for _ in range(8)], "fnmr": [[0, 0] for _ in range(8)]}
    for ref, probe, mated, score in rows:
        if mated or group[ref] == group[probe]:
            cell = counts["fnmr" if mated else "fmr"][group[ref]]
            cell[1] += 1
            cell[0] += (score < threshold) if mated else (score >= threshold)
    told = whole_audit.recorded(record_of(counts, threshold))
    assert told == {"threshold": threshold, **counts}
    assert whole_audit.holds(told, ROWS, SUBJECTS)
    # One error too many, a threshold one score too high or too low, a group left out: each is noticed.
    assert not whole_audit.holds({**told, "fnmr": [[n + 1, m] for n, m in told["fnmr"]]}, ROWS, SUBJECTS)
    for place in (-2, 0):
        wrong = impostors[int(whole_audit.TARGET * len(impostors)) + place]
        plain = whole_audit.counted(ROWS, SUBJECTS, wrong)
        other = {"threshold": wrong, "fmr": plain["fmr"], "fnmr": plain["fnmr"]}
        assert not whole_audit.holds(other, ROWS, SUBJECTS)
    record = record_of(counts, threshold)
    record["estimates"] = list(record["estimates"])[:-1]  # type: ignore[call-overload]
    assert whole_audit.recorded(record) is None


def test_goals_are_judged_at_their_own_size_only() -> None:
    options = script.parser("x", rows=disparity_speed.GOAL_ROWS)
    for argv, name in (
        ([], "r"),
        (["--rows", "1_000"], "r_1000_20000"),
        (["--subjects", "50"], "r_10000000_50"),
        (["--toy"], "r_10000000_20000"),
    ):
        arguments = options.parse_args(argv)
        assert script.named("r", arguments, arguments.rows, disparity_speed.GOAL_ROWS) == (name, argv == [])


def test_memory_growth() -> None:
    mib = harness.MIB
    assert memory_flat.growth([100, 100, 100], [1, 10, 100]) == (1, 0)
    times, each = memory_flat.growth([80, 100, 110], [1, 10 * mib, 20 * mib])
    assert (times, each) == (110 / 80, 1.0)
    assert memory_flat.growth([50, 100], [0, 50 * mib]) == (2, 1.0)


def test_readme_lists_every_benchmark() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = [p.name for p in (ROOT / "benchmarks").glob("*.py") if "__main__" in p.read_text(encoding="utf-8")]
    assert {"disparity_speed.py", "memory_flat.py", "bootstrap_speed.py"} <= set(scripts)
    for name in set(scripts) - {"launch.py"}:
        assert f"python benchmarks/{name}" in page
