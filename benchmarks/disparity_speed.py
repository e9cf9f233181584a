"""How long the audit of a score file takes, whole and in its smallest part, beside fairlearn and the physical limit.

``python benchmarks/disparity_speed.py [--rows 10_000_000] [--runs 5] [--part rates|audit|all] [--toy]``

Two questions, each its own result:

- ``disparity_audit``: from the Parquet file to the report, by the command a user types: all rates, summary measures,
  intervals and tests. Goal at 10 million comparisons, 8 groups, 20,000 people: at most 10 s and 1 GiB on two cores.
- ``disparity_rates``: FMR and FNMR by the reference person's group at one threshold, with the largest difference and the
  smallest ratio between groups, which is what fairlearn's MetricFrame gives. Goal: at least 200 times as fast.

How the second is made comparable: every contender is a process of its own that has its inputs in memory before its clock
starts (whole-process memory is reported all the same), has been called once on a few rows, and answers the same question;
all answers are compared. The peer's inputs are more digested than ours (decisions and row groups ready made).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    # As a script: find the checkout, and do not let this folder's files stand in for modules of the same name.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import data, harness, script, whole_audit

GOAL_ROWS = 10_000_000
GRID = 4096
PEER = "fairlearn MetricFrame"
OURS = "ours, one threshold"
ALL_THRESHOLDS = f"ours, {GRID:,} thresholds"
FROM_FILE = "ours, from the Parquet file"
LIMIT = "numpy bincount of ready cells"
AUDIT = "whole audit"

Rates = dict[str, dict[str, Any]]


def rates_of(nonmated: Any, mated: Any) -> Rates:
    """Rates by group from counts [groups, (below, at or above the threshold)], as every contender reports them."""
    fmr = nonmated[:, 1] / nonmated.sum(axis=1)
    fnmr = mated[:, 0] / mated.sum(axis=1)
    return {
        name: {
            "by_group": [float(v) for v in values],
            "difference": float(values.max() - values.min()),
            "ratio": float(values.min() / values.max()),
        }
        for name, values in (("fmr", fmr), ("fnmr", fnmr))
    }


def fold_rates(group: Any, edges: Any, threshold: Any, partitions: Sequence[Any], workers: int) -> Rates:
    """The package's own path: the grid measure through the fold engine on threads, then rates by reference group."""
    import numpy as np

    from audit_toolkit.disparity.measures import GridCounts, Scheme
    from audit_toolkit.engines.fold import fold
    from audit_toolkit.engines.local import local

    measure = GridCounts(Scheme(group, len(data.GROUPS), "benchmark"), edges)
    (state,) = fold([measure], partitions, local(workers))
    # Levels at or below the threshold's own edge lie below it.
    level = int(np.searchsorted(edges, threshold, side="right"))
    nonmated = state["nonmated"].sum(axis=1)
    return rates_of(*(np.stack([c[:, :level].sum(1), c[:, level:].sum(1)], axis=1) for c in (nonmated, state["mated"])))


def array_partitions(folder: Path, rows: int | None = None) -> tuple[Any, list[Callable[[], Iterator[Any]]]]:
    """Group by subject, and the arrays as partitions of about a million rows (views, no copies)."""
    import numpy as np

    from audit_toolkit.core.fold import Batch

    arrays = {name: np.load(folder / f"{name}.npy") for name in ("ref", "probe", "mated", "score")}
    arrays["mated"] = arrays["mated"].view(np.uint8)
    total = len(arrays["score"]) if rows is None else min(rows, len(arrays["score"]))

    def part(low: int) -> Callable[[], Iterator[Batch]]:
        cut = slice(low, min(low + data.CHUNK, total))
        return lambda: iter([Batch({k: v[cut] for k, v in arrays.items()}, cut.stop - cut.start)])

    return np.load(folder / "group.npy"), [part(low) for low in range(0, total, data.CHUNK)]


def file_partitions(file: Path) -> tuple[Any, list[Callable[[], Iterator[Any]]]]:
    """The file's group, mated and score columns, a partition a row group; the "subject" of a row is its group."""
    import numpy as np
    import pyarrow.parquet as pq

    from audit_toolkit.core.fold import Batch

    columns = ["reference_group", "probe_group"]

    def code(column: Any) -> Any:
        place = {label: k for k, label in enumerate(data.GROUPS)}
        table = np.array([place[label] for label in column.dictionary.to_pylist()], np.int32)
        return table[column.indices.to_numpy()]

    def part(row_group: int) -> Callable[[], Iterator[Batch]]:
        def read() -> Iterator[Batch]:
            with pq.ParquetFile(file, read_dictionary=columns) as opened:
                table = opened.read_row_group(row_group, columns=[*columns, "mated", "score"], use_threads=False)
            for batch in table.combine_chunks().to_batches():
                ref, probe = (code(batch[name]) for name in columns)
                mated = batch["mated"].to_numpy(zero_copy_only=False).view(np.uint8)
                arrays = {"ref": ref, "probe": probe, "mated": mated, "score": batch["score"].to_numpy()}
                yield Batch(arrays, batch.num_rows)

        return read

    return np.arange(len(data.GROUPS), dtype=np.int32), [part(k) for k in range(pq.read_metadata(file).num_row_groups)]


def worker(kind: str, source: Path, workers: int) -> dict[str, Any]:
    """One contender's process: load, warm up, time one answer. Called by ``--worker``."""
    import numpy as np

    threshold = np.float32(data.THRESHOLD)
    edges = np.array([threshold])
    if kind == "grid":
        span = np.linspace(-1, 2, GRID - 1, dtype=np.float32)
        edges = np.unique(np.append(span, threshold))
    if kind == "bincount":
        group = np.load(source / "group.npy")[np.load(source / "ref.npy")].astype(np.int8)
        mated = np.load(source / "mated.npy").view(np.int8)
        match = (np.load(source / "score.npy") >= threshold).view(np.int8)

        def answer() -> Rates:
            cells = np.bincount(group * np.int8(4) + mated * np.int8(2) + match, minlength=4 * len(data.GROUPS))
            counts = cells.reshape(-1, 2, 2)
            return rates_of(counts[:, 0], counts[:, 1])

    elif kind == "file":
        group, partitions = file_partitions(source)

        def answer() -> Rates:
            return fold_rates(group, edges, threshold, partitions, workers)

        fold_rates(group, edges, threshold, partitions[:1], 1)
    else:
        group, partitions = array_partitions(source)

        def answer() -> Rates:
            return fold_rates(group, edges, threshold, partitions, workers)

        with np.errstate(invalid="ignore"):
            fold_rates(group, edges, threshold, array_partitions(source, 10_000)[1], workers)
    start = time.perf_counter()
    rates = answer()
    return {"seconds": time.perf_counter() - start, "rates": rates}


def same_rates(a: Rates, b: Rates, within: float = 1e-12) -> bool:
    """Whether two answers agree in every rate, difference and ratio (to ``within``: one divides counts, one averages)."""
    for name in ("fmr", "fnmr"):
        x, y = ([*r[name]["by_group"], r[name]["difference"], r[name]["ratio"]] for r in (a, b))
        if len(x) != len(y) or any(not abs(p - q) <= within for p, q in zip(x, y, strict=True)):
            return False
    return True


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What shaped the run, for the result."""
    chosen = {"rows": arguments.rows, "subjects": arguments.subjects, "groups": len(data.GROUPS)}
    return chosen | {"threshold": data.THRESHOLD, "cores": arguments.cores}


def measure_rates(arguments: argparse.Namespace) -> dict[str, Any]:
    """The per-group part: ours in three forms, the peer and the limit, interleaved in one run."""
    file = data.score_file(arguments.data, arguments.rows, arguments.subjects)
    arrays = data.array_folder(arguments.data, arguments.rows, arguments.subjects)
    own: list[str | Path] = [sys.executable, Path(__file__).resolve(), "--cores", str(arguments.cores), "--worker"]

    def ours(name: str, kind: str, source: Path, note: str) -> harness.Contender:
        run = harness.command([*own, kind, source], inside=True, cores=arguments.cores)
        return harness.Contender(name, run, note=note)

    cores = f"on {arguments.cores} threads" if arguments.cores else "on all threads"
    contenders = [
        ours(
            OURS,
            "one",
            arrays,
            f"coded arrays in memory -> fold of GridCounts {cores} -> rates; counts all 8 x 8 group pairs.",
        ),
        ours(
            ALL_THRESHOLDS, "grid", arrays, "the same at every edge of a grid: the whole DET curve of every group pair."
        ),
        ours(FROM_FILE, "file", file, "reading, decoding and counting the group, mated and score columns."),
        ours(LIMIT, "bincount", arrays, "one numpy pass over ready-made decisions and row groups, one thread."),
    ]
    if arguments.peers:
        peer_script = harness.HERE / "peers" / "fairlearn_rates.py"
        argv: list[str | Path] = [harness.peer_python("fairlearn"), peer_script, arrays, str(data.THRESHOLD)]
        run = harness.command(argv, inside=True, cores=arguments.cores)
        note = "version pinned in peers/fairlearn.txt; decisions and integer row groups ready in memory."
        peer = harness.Contender(PEER, run, note=note, runs=arguments.peer_runs, warmups=0)
        contenders.append(peer)
    name, judged = script.named("disparity_rates", arguments, arguments.rows, GOAL_ROWS)
    result = harness.measure(
        name, "FMR and FNMR by group at one threshold", contenders,
        runs=arguments.runs, warmups=script.warmups(arguments),
        settings=settings(arguments), tell=script.tell,
    )  # fmt: skip
    answers = {
        r["name"]: s["result"]["rates"] for r in result["contenders"] for s in r["samples"] if s["error"] is None
    }
    for other in [c.name for c in contenders if c.name != OURS]:
        held = OURS in answers and other in answers and same_rates(answers[OURS], answers[other])
        result["checks"].append(
            harness.check(f"rates, difference and ratio of '{other}' equal ours within 1e-12", held)
        )
    if arguments.peers:
        result["ratios"] += [harness.ratio(result, PEER, own_name) for own_name in (OURS, ALL_THRESHOLDS, FROM_FILE)]
        result["ratios"].append(harness.ratio(result, PEER, OURS, "peak_rss_mib"))
    result["ratios"].append(harness.ratio(result, OURS, LIMIT))
    if not arguments.toy:
        times = result["ratios"][0]["median"] if arguments.peers else None
        text = "per-group FMR and FNMR against fairlearn's MetricFrame"
        result["goals"].append(harness.goal(text, times, 200, "times", at_most=False, judged=judged))
    return result


def measure_audit(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole audit from the file to the report."""
    file = data.score_file(arguments.data, arguments.rows, arguments.subjects)
    name, judged = script.named("disparity_audit", arguments, arguments.rows, GOAL_ROWS)
    result = harness.measure(
        name, "A whole audit, from the score file to the report",
        [whole_audit.contender(AUDIT, file, arguments.cores)], runs=arguments.runs, warmups=script.warmups(arguments),
        settings=settings(arguments), tell=script.tell,
    )  # fmt: skip
    found = harness.row(result, AUDIT)
    if found["error"] is None:
        told = [s["result"]["rates"] for s in found["samples"]]
        held = told[0] is not None and whole_audit.holds(told[0], arguments.rows, arguments.subjects)
        text = "the record's false matches and false non-matches of every group, and its threshold, equal a plain count"
        result["checks"] += [
            harness.check(text, held),
            harness.check("every run recorded the same", all(t == told[0] for t in told)),
        ]
    if not arguments.toy:
        seconds, rss = found["seconds"], found["peak_rss_mib"]
        size = f"{GOAL_ROWS:,} comparisons, 8 groups, {script.SUBJECTS:,} people"
        result["goals"] += [
            harness.goal(f"whole audit, {size}", seconds and seconds["median"], 10, "s", at_most=True, judged=judged),
            harness.goal("peak memory of it", rss and rss["max"], 1024, "MiB", at_most=True, judged=judged),
        ]
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts asked for; 0 when nothing failed and all answers agree."""
    options = script.parser(__doc__.splitlines()[0], rows=GOAL_ROWS)
    options.add_argument("--part", choices=("rates", "audit", "all"), default="all")
    options.add_argument(
        "--peer-runs", type=int, default=1, help="counted runs of the slow peer, in the middle of ours"
    )
    options.add_argument("--no-peers", dest="peers", action="store_false")
    options.add_argument("--worker", nargs=2, metavar=("KIND", "SOURCE"), help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    if arguments.worker is not None:
        from audit_toolkit.engines.local import available_threads

        kind, source = arguments.worker
        sys.stdout.write(json.dumps(worker(kind, Path(source), arguments.cores or available_threads())) + "\n")
        return 0
    if arguments.toy:
        arguments.rows, arguments.subjects, arguments.runs, arguments.peers = 20_000, 200, 1, False
    held = True
    if arguments.part in ("rates", "all"):
        held &= script.finish(measure_rates(arguments), arguments)
    if arguments.part in ("audit", "all"):
        held &= script.finish(measure_audit(arguments), arguments)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
