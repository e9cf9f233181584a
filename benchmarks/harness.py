"""Every benchmark's one way of measuring: contenders side by side in one run, medians with ranges, memory, machine.

Why it exists: two figures can be compared only if they were taken on the same machine, under the same load, from the same
input. So contenders run interleaved (A B A B; one with fewer runs stands in the middle of the others'), after warm-ups, and
what is reported is the median with its range, the peak memory and the machine.

What it promises: every counted run stands in the JSON file, slow ones included; a run that fails is a row that says so; the
load and the processor time beside each wall time show what a busy machine did to it. What it does not: it steadies no
machine, and a time from one machine is not a time on another; ratios travel better.

Standard library only, so that the measuring process stays small.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine

SCHEMA = "audit_toolkit/benchmark/1"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: what it took and what it gave back.

    ``seconds`` is the measured time; ``whole_seconds`` the whole process's where they differ (a worker that times its own
    work, inputs already in memory). ``peak_rss_bytes`` is always the whole process's, inputs included.
    """

    seconds: float
    whole_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int | None
    rss_scope: str
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing the work; ``shown`` is its command as the table prints it, without machine paths.

    ``runs`` and ``warmups``: as many as asked of the benchmark, unless given here (a slow peer).
    """

    name: str
    run: Callable[[], Sample]
    shown: str = ""
    note: str = ""
    runs: int | None = None
    warmups: int | None = None


def command(
    argv: Sequence[str | Path],
    *,
    inside: bool = False,
    cores: int = 0,
    accept: Sequence[int] = (0,),
    leaves: Sequence[Path] = (),
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> Callable[[], Sample]:
    """A run that starts a process and waits for it; peak memory is that of the largest process of its tree.

    ``inside``: the last line the command prints is a JSON object whose ``seconds`` is the time to count. ``accept`` are the
    exit codes of a finished run and ``leaves`` the files it must have written (an interpreter that dies of an exception ends
    with 1, like a finished audit that found a violation). ``cores`` pins it to that many processors (0: all). ``timeout`` in
    seconds; ``env`` adds to the environment.
    """

    def run() -> Sample:
        with tempfile.TemporaryDirectory() as folder:
            report, out, err = (Path(folder) / name for name in ("report", "out", "err"))
            launcher = [sys.executable, "-S", str(HERE / "launch.py"), str(report), str(cores), "--", *map(str, argv)]
            with out.open("wb") as stdout, err.open("wb") as stderr:
                child = subprocess.Popen(
                    launcher, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=ROOT,
                    env={**os.environ, **(env or {})}, start_new_session=True,
                )  # fmt: skip
                try:
                    child.wait(timeout)
                except BaseException as interrupted:
                    os.killpg(child.pid, 9)  # the session this call started, nothing else
                    child.wait()
                    if not isinstance(interrupted, subprocess.TimeoutExpired):
                        raise
                    return _failed(f"stopped after {timeout:g} s")
            if not report.exists():
                return _failed(f"did not start: {_tail(err)}")
            told = json.loads(report.read_text(encoding="utf-8"))
            result: dict[str, Any] = {"exit_code": told["exit_code"]}
            error = None
            if told["exit_code"] not in accept:
                error = f"exit code {told['exit_code']}: {_tail(err)}"
            elif not all(file.exists() for file in leaves):
                error = f"exit code {told['exit_code']} without its files: {_tail(err)}"
            elif inside:
                try:
                    line = json.loads(out.read_text(encoding="utf-8").strip().splitlines()[-1])
                    told["inside"] = float(line.pop("seconds"))
                    result |= line
                except (ValueError, IndexError, KeyError, TypeError, AttributeError):
                    error = "its last line is not a JSON object with seconds"
            return Sample(
                seconds=told.get("inside", told["seconds"]),
                whole_seconds=told["seconds"],
                cpu_seconds=told["cpu_seconds"],
                peak_rss_bytes=told["peak_rss_bytes"],
                rss_scope="largest process of the command",
                result=result,
                error=error,
            )

    return run


def in_process(function: Callable[[], Mapping[str, Any] | None]) -> Callable[[], Sample]:
    """A run that calls a function in this very process; its memory is this process's, with all that was there before.

    On Linux the peak is reset before each call, so it says what this process held during the call; elsewhere it is the peak
    of the process's whole life, and ``rss_scope`` says which.
    """

    def run() -> Sample:
        reset = _reset_peak()
        cpu = time.process_time()
        start = time.perf_counter()
        given = function()
        seconds = time.perf_counter() - start
        return Sample(
            seconds=seconds,
            whole_seconds=seconds,
            cpu_seconds=time.process_time() - cpu,
            peak_rss_bytes=_own_peak(reset),
            rss_scope="this process during the call" if reset else "this process since it started",
            result=dict(given or {}),
        )

    return run


def schedule(runs: Sequence[int]) -> list[int]:
    """In which order contenders run: [2, 2] -> A B A B; [4, 1] -> A A B A A. Each one's runs are spread evenly."""
    places = [((k + 0.5) / n, index) for index, n in enumerate(runs) for k in range(n)]
    return [index for _, index in sorted(places)]


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median, smallest, largest and how many; ``None`` of nothing."""
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}


def measure(
    name: str,
    title: str,
    contenders: Sequence[Contender],
    *,
    runs: int,
    warmups: int = 1,
    settings: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run every contender, interleaved, and return the result as JSON values (see README.md for the fields).

    A contender that fails is not run again; its row keeps the error.
    """
    if len({c.name for c in contenders}) != len(contenders):
        raise ValueError("Two contenders have the same name.")
    warm = [index for index, c in enumerate(contenders) for _ in range(warmups if c.warmups is None else c.warmups)]
    counted = schedule([runs if c.runs is None else c.runs for c in contenders])
    samples: list[list[dict[str, Any]]] = [[] for _ in contenders]
    broken: set[int] = set()
    for place, (index, warming) in enumerate([(i, True) for i in warm] + [(i, False) for i in counted]):
        if index in broken:
            continue
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        sample = contenders[index].run()
        samples[index].append({"place": place, "warmup": warming, "load_before": load, **asdict(sample)})
        tell(f"{contenders[index].name}{' (warm-up)' if warming else ''}: {sample.error or f'{sample.seconds:.3f} s'}")
        if sample.error is not None:
            broken.add(index)
    return {
        "schema": SCHEMA,
        "name": name,
        "title": title,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.describe(),
        "settings": dict(settings or {}),
        "contenders": [_row(c, own) for c, own in zip(contenders, samples, strict=True)],
        "ratios": [],
        "goals": [],
        "checks": [],
    }


def row(result: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One contender's row of a result."""
    return next(r for r in result["contenders"] if r["name"] == name)


def ratio(result: Mapping[str, Any], slower: str, faster: str, of: str = "seconds") -> dict[str, Any]:
    """How many times more ``slower`` takes than ``faster``: ratio of medians, with the least and most any two runs give."""
    a, b = row(result, slower)[of], row(result, faster)[of]
    if a is None or b is None or not b["min"] > 0:
        return {"of": of, "above": slower, "below": faster, "median": None, "low": None, "high": None}
    return {
        "of": of, "above": slower, "below": faster,
        "median": a["median"] / b["median"], "low": a["min"] / b["max"], "high": a["max"] / b["min"],
    }  # fmt: skip


def goal(
    text: str, value: float | None, limit: float, unit: str, *, at_most: bool, judged: bool = True
) -> dict[str, Any]:
    """A goal beside what was measured; ``met`` is ``None`` where nothing was measured or the size is not the goal's."""
    met = None if value is None or not judged else (value <= limit if at_most else value >= limit)
    return {"text": text, "value": value, "limit": limit, "unit": unit, "at_most": at_most, "met": met}


def check(text: str, held: bool) -> dict[str, Any]:
    """Something that must hold of the answers themselves, whatever the times."""
    return {"text": text, "held": bool(held)}


def markdown(result: Mapping[str, Any]) -> str:
    """A result as a Markdown page: times, ratios, goals, checks, notes, machine."""
    settings = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in result["settings"].items())
    lines = [f"# {result['title']}", "", f"Measured {result['date']}. {settings}", ""]
    lines += [
        "| work | median s [range] | runs | whole process: CPU s | peak memory, MiB [range] |",
        "|---|---|---|---|---|",
    ]
    for r in result["contenders"]:
        if r["error"] is not None:
            lines.append(f"| {r['name']} | failed: {r['error'].replace('|', '/')} | | | |")
            continue
        seconds, cpu, rss = r["seconds"], r["cpu_seconds"], r["peak_rss_mib"]
        lines.append(
            f"| {r['name']} | {_range(seconds, '.3g')} | {seconds['runs']} | {cpu['median']:.3g} | {_range(rss, ',.0f')} |"
            if seconds
            else f"| {r['name']} | not run | 0 | | |"
        )
    for found in result["ratios"]:
        if found["median"] is not None:
            lines += [
                "",
                f"**{found['above']}** / **{found['below']}**, {found['of'].replace('_', ' ')}: {found['median']:,.3g} times "
                f"(any two runs: {found['low']:,.3g} to {found['high']:,.3g}).",
            ]
    if result["goals"]:
        lines += ["", "| goal | limit | measured | met |", "|---|---|---|---|"]
        word = {True: "yes", False: "**no**", None: "not judged"}
        for g in result["goals"]:
            value = "-" if g["value"] is None else f"{g['value']:,.4g} {g['unit']}"
            limit = f"{'<=' if g['at_most'] else '>='} {g['limit']:,g} {g['unit']}"
            lines.append(f"| {g['text']} | {limit} | {value} | {word[g['met']]} |")
    if result["checks"]:
        lines += ["", *(f"- {'Held' if c['held'] else '**Did not hold**'}: {c['text']}" for c in result["checks"])]
    told = [r for r in result["contenders"] if r["shown"] or r["note"]]
    lines += ["", *(f"- {r['name']}: {' '.join(filter(None, [_code(r['shown']), r['note']]))}" for r in told)]
    lines += ["", f"Machine: {machine.sentence(result['machine'])}.", ""]
    return "\n".join(lines)


def write(result: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Leave NAME.json and NAME.md in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / f"{result['name']}.json", folder / f"{result['name']}.md"
    data.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    page.write_text(markdown(result), encoding="utf-8")
    return data, page


def peer_python(name: str, folder: Path = HERE / ".peers") -> Path:
    """The interpreter of a peer's own virtual environment, made once from the pinned ``peers/NAME.txt`` (needs pip's index)."""
    requirements = HERE / "peers" / f"{name}.txt"
    stamp = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    home = folder / name
    python = home / "bin" / "python"
    if (home / "complete").exists() and (home / "complete").read_text(encoding="utf-8") == stamp:
        return python
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    # The environments ignore themselves, wherever they are put.
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)], check=True)
    (home / "complete").write_text(stamp, encoding="utf-8")
    return python


def _row(contender: Contender, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    counted = [s for s in samples if not s["warmup"] and s["error"] is None]
    rss = [s["peak_rss_bytes"] / MIB for s in counted if s["peak_rss_bytes"] is not None]
    return {
        "name": contender.name,
        "shown": contender.shown,
        "note": contender.note,
        "error": next((s["error"] for s in samples if s["error"] is not None), None),
        "seconds": spread([s["seconds"] for s in counted]),
        "whole_seconds": spread([s["whole_seconds"] for s in counted]),
        "cpu_seconds": spread([s["cpu_seconds"] for s in counted]),
        "peak_rss_mib": spread(rss),
        "samples": list(samples),
    }


def _range(found: Mapping[str, float] | None, form: str) -> str:
    if found is None:
        return "unknown"
    middle = format(found["median"], form)
    return middle if found["runs"] == 1 else f"{middle} [{found['min']:{form}}, {found['max']:{form}}]"


def _code(shown: str) -> str:
    return f"`{shown}`" if shown else ""


def _failed(why: str) -> Sample:
    return Sample(0.0, 0.0, 0.0, None, "nothing", error=why)


def _tail(file: Path) -> str:
    """The last line a command complained with, without the paths of this machine."""
    lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].replace(str(ROOT), ".").replace(tempfile.gettempdir(), "TMP")[:300] if lines else "it said nothing"


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def _own_peak(was_reset: bool) -> int | None:
    if was_reset:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        line = next((s for s in status.splitlines() if s.startswith("VmHWM:")), None)
        return int(line.split()[1]) * 1024 if line else None
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
