from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.targets import command
from audit_toolkit.targets.command import command_target, run_bounded
from audit_toolkit.targets.contract import Failed, Target, TargetError, Unanswered
from audit_toolkit.targets.drive import drive
from audit_toolkit.targets.work import Pair, Sample

pytestmark = pytest.mark.skipif(os.name != "posix", reason="programs are driven on POSIX systems")

PYTHON = [sys.executable, "-I", "-S"]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    out = []
    for k in range(6):
        path = tmp_path / f"-secret {k} {{probe}} $(touch pwned);'.png"
        path.write_text(str(k))
        out.append(Sample(path, f"person{k // 2}", f"s{k}", {"g": "a" if k < 4 else "b"}))
    return out


@pytest.fixture
def pairs(samples: list[Sample]) -> list[Pair]:
    return [Pair(a, b) for i, a in enumerate(samples) for b in samples[i + 1 :]]


def program(folder: Path, body: str) -> list[str]:
    path = folder / "matcher.py"
    path.write_text("import json, os, sys, time\ndef val(p): return int(open(p).read())\n" + textwrap.dedent(body))
    return [*PYTHON, str(path)]


def compare_target(folder: Path, body: str, **options: object) -> Target:
    return command_target([*program(folder, body), "{reference}", "--probe={probe}"], does="compare", **options)  # type: ignore[arg-type]


def list_target(folder: Path, body: str, does: str = "compare", **options: object) -> Target:
    return command_target([*program(folder, body), "{list}"], does=does, **options)  # type: ignore[arg-type]


def value(pair: Pair) -> int:
    return 10 * int(pair.reference.image.read_text()) + int(pair.probe.image.read_text())


SCORE = """
r, p = sys.argv[1], sys.argv[2].removeprefix("--probe=")
assert r.startswith("/") and p.startswith("/")
"""
EACH = """
rows = [line.split("\\t") for line in open(sys.argv[1]).read().splitlines()]
"""


def alive(pid: int) -> bool:
    """Does it still run? A zombie that waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone(pid_file: Path, within: float = 5.0) -> bool:
    pids = [int(line) for line in pid_file.read_text().split()]
    assert pids
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_one_process_a_pair(pairs: list[Pair], tmp_path: Path) -> None:
    target = compare_target(tmp_path, SCORE + "print(10 * val(r) + val(p))")
    out = drive(target, pairs)
    assert [r["score"] for r in out.rows()] == [value(p) for p in pairs]
    assert not list(tmp_path.rglob("*pwned"))
    assert not Path("pwned").exists()
    assert out.target["name"] == Path(sys.executable).name
    assert str(tmp_path) not in str(out.run())


def test_one_process_a_batch(pairs: list[Pair], samples: list[Sample], tmp_path: Path) -> None:
    body = (
        EACH
        + 'for r, p in rows: print(json.dumps({"score": 10 * val(r) + val(p)}) if val(p) != 5 else \'{"failure": "fta"}\')'
    )
    out = drive(list_target(tmp_path, body), pairs, batch=4)
    assert [a for a in out.answers if a != Failed("fta")] == [value(p) for p in pairs if p.probe.sample != "s5"]
    assert out.overall.fta == 5
    assert out.overall.unstated == 0
    body = EACH + 'for (p,) in rows: print(json.dumps({"template": [val(p), 0.5]}))'
    vectors = drive(list_target(tmp_path, body, "template"), samples, batch=4).vectors()
    assert vectors.tolist() == [[k, 0.5] for k in range(6)]
    target = command_target([*program(tmp_path, "print([val(sys.argv[1])])"), "{image}"], does="template")
    assert drive(target, samples).vectors().tolist() == [[k] for k in range(6)]


def test_lists_cannot_carry_tabs(tmp_path: Path) -> None:
    path = tmp_path / "secret\t1.png"
    path.write_text("1")
    with pytest.raises(TargetError, match="tab or a line break") as caught:
        drive(list_target(tmp_path, "print([1])", "template"), [Sample(path, "x")])
    assert "secret" not in str(caught.value)


def test_one_that_crashes_and_one_that_recovers(pairs: list[Pair], tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    body = (
        EACH
        + f"""
    import pathlib
    for r, p in rows:
        if (val(r), val(p)) == (0, 1):
            sys.exit(3)
        if (val(r), val(p)) == (4, 5) and not os.path.exists({str(tries)!r}):
            open({str(tries)!r}, "w").close()
            os.kill(os.getpid(), 11)
        print(10 * val(r) + val(p))
    """
    )
    body = "\n".join(textwrap.dedent(part) for part in (EACH, body.removeprefix(EACH)))
    out = drive(list_target(tmp_path, body), pairs, batch=4, retries=1, backoff=0.01)
    assert [k for k, a in enumerate(out.answers) if isinstance(a, Failed)] == [0]
    assert out.answers[0] == Failed("fta", "exit")
    assert out.answers[-1] == 45
    assert (out.overall.exit, out.overall.retries) == (3 + 1 + 1, 2)
    assert out.overall.fta == out.overall.unstated == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("print('nan')", "not JSON"),
        ("print(float('inf'))", "not JSON|NaN or Infinity"),
        ("print('NaN')", "NaN or Infinity"),
        ("print('hello'); print(0.5)", "not JSON"),
        ("os.write(1, bytes(range(256)))", "not JSON"),
        ("pass", "0 answers to 1"),
        ("print(0.5); print(0.5)", "2 answers to 1"),
        ("print('[0.1]')", "not a number"),
        ("print('{\"template\": [0.1]}')", "not asked for"),
    ],
)
def test_garbage(pairs: list[Pair], tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(TargetError, match=says) as caught:
        drive(compare_target(tmp_path, body), pairs[:2], backoff=0)
    assert "secret" not in str(caught.value)


def test_too_much_output_ends_the_program(pairs: list[Pair], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    body = f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\nwhile True: os.write(1, b'0.5\\n' * 10000)"
    started = time.monotonic()
    with pytest.raises(TargetError, match="more than 100000 bytes"):
        drive(compare_target(tmp_path, body, most_output=100_000), pairs[:2])
    assert time.monotonic() - started < 10
    assert gone(pids)


def test_standard_error_is_drained_and_kept_only_where_asked(pairs: list[Pair], tmp_path: Path) -> None:
    body = SCORE + "os.write(2, b'secret person ' * 100000); print(0.5)"
    out = drive(compare_target(tmp_path, body), pairs[:2])
    assert out.overall.answered == 2
    kept = tmp_path / "stderr.txt"
    drive(compare_target(tmp_path, body, stderr_file=kept), pairs[:2])
    assert kept.stat().st_size == 2 * command.MOST_STDERR
    with pytest.raises(TargetError) as caught:
        drive(compare_target(tmp_path, "sys.exit('secret person')"), pairs[:1], retries=0)
    assert "secret" not in str(caught.value)


HANG = """
import subprocess
code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code])
open({pids!r}, "a").write(f"{{os.getpid()}}\\n{{child.pid}}\\n")
"""


def test_a_hang_is_ended_with_its_children(pairs: list[Pair], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    body = (
        SCORE
        + "if (val(r), val(p)) == (0, 1):\n"
        + textwrap.indent(HANG.format(pids=str(pids)) + "time.sleep(60)", "    ")
    )
    out = drive(compare_target(tmp_path, body + "\nprint(val(p))"), pairs[:3], timeout=1.0, retries=1, backoff=0)
    assert out.answers[0] == Failed("fta", "timeout")
    assert out.answers[1:] == (2.0, 3.0)
    assert (out.overall.timeout, out.overall.retries) == (2, 1)
    assert len(pids.read_text().split()) == 4
    assert gone(pids)


def test_what_a_program_leaves_running_is_ended(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    argv = program(tmp_path, HANG.format(pids=str(pids)) + "print(0.5, flush=True)")
    started = time.monotonic()
    code, output, _ = run_bounded(argv, 30, most=1000)
    assert (code, output) == (0, b"0.5\n")
    assert time.monotonic() - started < 10  # the child holds the pipe open, and is not waited for
    assert gone(pids)


def test_a_program_that_closes_its_output_and_goes_on(tmp_path: Path) -> None:
    argv = program(tmp_path, "os.close(1); os.close(2); time.sleep(30)")
    with pytest.raises(Unanswered) as caught:
        run_bounded(argv, 0.5, most=1000)
    assert caught.value.cause == "timeout"


def test_standard_input_is_empty(tmp_path: Path) -> None:
    code, output, errors = run_bounded(program(tmp_path, "print(len(sys.stdin.read()))"), 20, most=1000)
    assert (code, output, errors) == (0, b"0\n", b"")


def test_programs_that_cannot_be_started(pairs: list[Pair], tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    for argv0 in (str(tmp_path / "nowhere"), str(plain), str(tmp_path)):
        with pytest.raises(TargetError, match="cannot be started"):
            drive(command_target([argv0, "{reference}", "{probe}"], does="compare"), pairs)
    target = command_target([*PYTHON, "{reference}", "{probe}"], does="compare", folder=tmp_path / "nowhere")
    with pytest.raises(TargetError, match="cannot be started"):
        drive(target, pairs)


@pytest.mark.parametrize(
    ("argv", "does"),
    [
        ("matcher {reference} {probe}", "compare"),
        ([], "compare"),
        ([1, "{image}"], "template"),
        (["m", "{image}\0"], "template"),
        (["m", "{image}"], "compare"),
        (["m", "{reference}"], "compare"),
        (["m", "{list}", "{probe}"], "compare"),
        (["m", "{reference}", "{probe}"], "template"),
        (["m", "{image}", "{home}"], "template"),
        (["m"], "template"),
        (["{image}", "{image}"], "template"),
        (["m", "{image}"], "train"),
    ],
)
def test_commands_that_cannot_be_meant(argv: list[str], does: str) -> None:
    with pytest.raises(UsageError):
        command_target(argv, does=does)  # type: ignore[arg-type]


DRIVER = """
import sys
from pathlib import Path
from audit_toolkit.targets.command import command_target
from audit_toolkit.targets.drive import drive
from audit_toolkit.targets.work import Sample
folder = Path(sys.argv[1])
target = command_target([sys.executable, "-I", "-S", str(folder / "matcher.py"), "{list}"], does="template")
work = [Sample(folder / f"{k}.png", f"p{k}") for k in range(3)]
try:
    drive(target, work, batch=1, timeout=60, results=folder / "results.jsonl")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("signals", "code", "prints"),
    [
        ([signal.SIGINT], 130, "interrupted\n"),
        ([signal.SIGINT, signal.SIGINT], 130, "interrupted\n"),
        ([signal.SIGTERM], 128 + signal.SIGTERM, ""),
        ([signal.SIGHUP], 128 + signal.SIGHUP, ""),
    ],
    ids=["interrupt", "twice", "terminate", "hang up"],
)
def test_an_interrupt_leaves_no_process_and_keeps_what_was_finished(
    tmp_path: Path, signals: list[int], code: int, prints: str
) -> None:
    if any(signal.getsignal(number) == signal.SIG_IGN for number in signals):
        pytest.skip("this session ignores the signal, and so would the process started from it")
    pids, lists = tmp_path / "pids", tmp_path / "lists"
    lists.mkdir()
    for k in range(3):
        (tmp_path / f"{k}.png").write_text(str(k))
    body = "if val(open(sys.argv[1]).read().strip()) == 1:\n" + textwrap.indent(
        HANG.format(pids=str(pids)) + "time.sleep(60)", "    "
    )
    program(tmp_path, body + "\nprint([1.5])")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(lists)},
    )
    try:
        end = time.monotonic() + 20
        while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(pids.read_text().split()) == 2
        assert not gone(pids, within=0.1)
        for number in signals:
            driver.send_signal(number)
        said, errors = driver.communicate(timeout=15)
    finally:
        driver.kill()
        driver.wait()
    assert (driver.returncode, said, errors) == (code, prints, "")
    assert gone(pids)
    assert not list(lists.iterdir())
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2  # the header and the first image
    program(tmp_path, "print([1.5])")
    target = command_target([*PYTHON, str(tmp_path / "matcher.py"), "{list}"], does="template")
    work = [Sample(tmp_path / f"{k}.png", f"p{k}") for k in range(3)]
    out = drive(target, work, batch=1, timeout=60, results=tmp_path / "results.jsonl")
    assert (out.resumed, out.overall.answered) == (1, 3)
