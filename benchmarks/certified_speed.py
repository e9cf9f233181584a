"""How long all pairs of 20,000 templates take with certified 8-bit products, beside the same 32-bit products uncounted.

``python benchmarks/certified_speed.py [--rows 20_000] [--dimensions 512] [--basis mixed|own] [--runs 5] [--toy]``

The templates are made up the way faces' are: a person's effect, a picture's effect, a common part for each of eight groups;
unit length, non-mated cosines with a standard deviation of about 0.07, four pictures a person. ``--basis mixed`` (default)
spreads the variance evenly over the coordinates, as the batch normalisation at the end of face networks does; ``own`` leaves
it in few coordinates, which 8 bits fit worse.

The limit is one float32 matrix product a tile and nothing else: no counting, no threshold, no list. The 8-bit way is timed
from the prepared float32 rows to the finished counts: quantising, products, the test of every pair, exact scores where
needed, mated comparisons, the sorted list of false matches. Goal: at most half the limit's time with the lowest threshold at
FMR 1e-3, 1e-4 and 1e-6. The counts must equal those of the float32 path with exact scores near the thresholds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness, script

ROWS, DIMENSIONS, GROUPS, PICTURES, SEED = 20_000, 512, 8, 4, 11
RATES = (1e-3, 1e-4, 1e-6)
LIMIT = "32-bit products alone"
COUNTED = "float32 path: all pairs on a grid of 4,096 edges, recounted at the thresholds"


def eight_bit(rate: float) -> str:
    """The name of the 8-bit contender."""
    return f"8-bit products, counted at FMR {rate:g}"


def faces(rows: int, d: int, basis: str) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Made-up templates (unit rows), their people and groups."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    people = -(-rows // PICTURES)
    subject = (np.arange(rows) // PICTURES).astype(np.int32)
    group = (subject.astype(np.int64) * GROUPS // people).astype(np.int32)
    # About 200 of 512 dimensions carry the variance: cosines of strangers then have a standard deviation of about 0.07.
    spread = np.exp(-2.5 * np.arange(d) / d).astype(np.float32)
    common = 0.25 * rng.standard_normal((GROUPS, d), dtype=np.float32)
    person = rng.standard_normal((people, d), dtype=np.float32)
    vectors = common[group] + person[subject] + 0.7 * rng.standard_normal((rows, d), dtype=np.float32)
    vectors *= spread
    if basis == "mixed":
        vectors = vectors @ np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1)[:, None]), subject, group


def thresholds_of(p: Any, rates: Sequence[float]) -> list[float]:
    """Where the float32 scores of all non-mated pairs have these false match rates."""
    from audit_toolkit.core.certified import nonmated_totals
    from audit_toolkit.core.tiles import score_tile, tiles

    total = int(nonmated_totals(p)[0].sum())
    wanted = int(max(rates) * total) + 1
    high: list[NDArray[np.float32]] = []
    floor = np.float32(-2)
    for i, j in tiles(p):
        scores = score_tile(p, int(i), int(j))
        a, b = np.nonzero(scores >= floor)
        a, b, values = a + i * p.tile, b + j * p.tile, scores[a, b]
        keep = (a < p.n) & (b < p.n)
        keep[keep] &= b[keep] >= p.end[a[keep]]
        high.append(values[keep])
        held = np.concatenate(high)
        if len(held) > 2 * wanted + 10_000:
            held = np.partition(held, len(held) - wanted)[-wanted:]
            floor = held.min()
        high = [held]
    every = np.sort(np.concatenate(high))[::-1]
    return [float(every[max(0, int(rate * total) - 1)]) for rate in rates]


def data_file(folder: Path, rows: int, d: int, basis: str) -> Path:
    """The templates and the thresholds, made once."""
    from audit_toolkit.core.tiles import one_blas_thread, prepare

    file = folder / f"faces_{rows}_{d}_{basis}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        vectors, subject, group = faces(rows, d, basis)
        with one_blas_thread():
            thresholds = thresholds_of(prepare(vectors, subject, None, group, GROUPS), RATES)
        half = file.with_suffix(".part.npz")
        np.savez(half, vectors=vectors, subject=subject, group=group, thresholds=thresholds)
        half.rename(file)
    return file


def products_alone(p: Any, workers: int) -> None:
    """One float32 product for each tile of the upper triangle, BLAS on one thread a worker."""
    from audit_toolkit.core.tiles import one_blas_thread, tiles

    left, lock = iter(tiles(p)), threading.Lock()

    def work() -> None:
        out = np.empty((p.tile, p.tile), np.float32)
        while True:
            with lock:
                tile = next(left, None)
            if tile is None:
                return
            i, j = (int(k) * p.tile for k in tile)
            np.matmul(p.rows[i : i + p.tile], p.rows[j : j + p.tile].T, out=out)

    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work) for _ in range(workers)]:
            future.result()


def counted(p: Any, thresholds: list[float], workers: int) -> dict[str, Any]:
    """The float32 path at these thresholds."""
    from audit_toolkit.core.pairs import PairCounts, recount_at
    from audit_toolkit.core.tiles import one_blas_thread, partitions
    from audit_toolkit.engines.fold import fold
    from audit_toolkit.engines.local import local

    edges = np.linspace(-1, 1, 4096, dtype=np.float32)
    measure = PairCounts(p, edges, listed_from=thresholds[0] - 1e-3)
    with one_blas_thread():
        (state,) = fold([measure], partitions(p), local(workers))
        return recount_at(measure, state, thresholds)


def worker(kind: str, file: Path, workers: int) -> dict[str, Any]:
    """One contender's process: load, warm up, time one answer. Called by ``--worker``."""
    from audit_toolkit.core.certified import choose_path, count_above
    from audit_toolkit.core.fold import digest_arrays
    from audit_toolkit.core.int8 import quantise
    from audit_toolkit.core.tiles import prepare

    with np.load(file) as held:
        vectors, subject, group = (held[name] for name in ("vectors", "subject", "group"))
        thresholds = held["thresholds"].tolist()
    p = prepare(vectors, subject, None, group, GROUPS)
    small = prepare(vectors[:1100], subject[:1100], None, group[:1100], GROUPS)
    told: dict[str, Any] = {}
    if kind == "products":
        products_alone(small, workers)
        start, cpu = time.perf_counter(), time.process_time()
        products_alone(p, workers)
        return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    if kind == "float32":
        counted(small, [0.5], workers)
        start, cpu = time.perf_counter(), time.process_time()
        counts = counted(p, thresholds, workers)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    else:
        asked = thresholds[int(kind) :]
        count_above(quantise(small), asked)
        told["path"] = choose_path(p, asked)[0].reason
        start, cpu = time.perf_counter(), time.process_time()
        found = count_above(quantise(p, workers=workers), asked, workers=workers)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        counts = found.counts()
        told |= {"rescored": found.rescored, "listed": len(found.i)}
    for k, threshold in enumerate(thresholds[-(counts["nonmated"].shape[-1] - 1) :]):
        told[f"at {threshold:.6f}"] = digest_arrays({name: values[..., [0, 1 + k]] for name, values in counts.items()})
    return {"seconds": seconds, "cpu": cpu, "comparisons": int(counts["nonmated"][..., 0].sum()), **told}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All contenders, interleaved in one run."""
    file = data_file(arguments.data, arguments.rows, arguments.dimensions, arguments.basis)
    own: list[str | Path] = [sys.executable, Path(__file__).resolve(), "--cores", str(arguments.cores), "--worker"]

    def contender(name: str, kind: str, note: str, runs: int | None = None) -> harness.Contender:
        run = harness.command([*own, kind, file], inside=True, cores=arguments.cores)
        return harness.Contender(name, run, note=note, runs=runs)

    note = "quantising, integer products, test, exact scores where needed, mated comparisons and the list."
    contenders = [
        contender(
            LIMIT, "products", "numpy's matmul over the same tiles, one BLAS thread a worker; nothing is counted."
        ),
        *(contender(eight_bit(rate), str(k), note) for k, rate in enumerate(RATES)),
        contender(COUNTED, "float32", "for its counts; its own speed is `pairs_speed.py`'s subject.", runs=1),
    ]
    size = (arguments.rows, arguments.dimensions, arguments.basis)
    at_goal = size == (ROWS, DIMENSIONS, "mixed") and not arguments.toy
    name = (
        "certified_speed" if at_goal else f"certified_speed_{arguments.rows}_{arguments.dimensions}_{arguments.basis}"
    )
    result = harness.measure(
        name, "All pairs by certified 8-bit products", contenders,
        runs=arguments.runs, warmups=script.warmups(arguments),
        settings={"rows": arguments.rows, "dimensions": arguments.dimensions, "basis": arguments.basis,
                  "groups": GROUPS, "pictures a person": PICTURES, "cores": arguments.cores},
        tell=script.tell,
    )  # fmt: skip
    answers = {r["name"]: [s["result"] for s in r["samples"] if s["error"] is None] for r in result["contenders"]}
    truth = next(iter(answers[COUNTED]), {})
    for rate in RATES:
        told = answers[eight_bit(rate)]
        held = (
            bool(told)
            and bool(truth)
            and all(truth.get(k) == v for t in told for k, v in t.items() if k.startswith("at ") or k == "comparisons")
        )
        result["checks"].append(
            harness.check(
                f"digests of '{eight_bit(rate)}' equal the float32 path's at each threshold, in every run", held
            )
        )
        if told:
            share = told[0]["rescored"] / max(1, told[0]["comparisons"])
            row = harness.row(result, eight_bit(rate))
            row["note"] += f" Scored exactly: {share:.2e} of the pairs; false matches listed: {told[0]['listed']:,}."
            row["note"] += f" The trial said: {told[-1]['path']}"
            alone = statistics.median(t["cpu"] for t in answers[LIMIT]) if answers[LIMIT] else float("nan")
            spent = statistics.median(t["cpu"] for t in told)
            row["note"] += f" Processor time of the work itself over the limit's: {spent / alone:.2f}."
        below = harness.ratio(result, eight_bit(rate), LIMIT)
        result["ratios"].append(below)
        if not arguments.toy:
            text = f"time of 8-bit products at FMR {rate:g} over that of 32-bit products alone"
            result["goals"].append(harness.goal(text, below["median"], 0.5, "times", at_most=True, judged=at_goal))
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 when nothing failed and all counts agree."""
    options = script.parser(__doc__.splitlines()[0], rows=ROWS)
    options.add_argument("--dimensions", type=int, default=DIMENSIONS)
    options.add_argument("--basis", choices=("mixed", "own"), default="mixed", help="where the variance stands")
    options.add_argument("--worker", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    if arguments.worker is not None:
        from audit_toolkit.engines.local import available_threads

        kind, source = arguments.worker
        sys.stdout.write(json.dumps(worker(kind, Path(source), arguments.cores or available_threads())) + "\n")
        return 0
    if arguments.toy:
        arguments.rows, arguments.dimensions, arguments.runs = 3_000, 64, 1
    return 0 if script.finish(measure(arguments), arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
