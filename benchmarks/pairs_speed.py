"""What counting costs when every pair of templates is scored.

``python benchmarks/pairs_speed.py [--part tiles|peer|large|all] [--templates 20_000] [--runs 5] [--toy]``

- ``tiles``: all pairs of 20,000 x 512: ours (scores on a grid of 4,096 edges for each of 8 x 8 group pairs, mated apart, list of
  false matches) against the same matrix products through the same driver without counting, and against what is usually
  written: products of row blocks on the BLAS library's own threads, a ``uint16`` level each, ``numpy.bincount`` (one histogram
  of all scores alike, the upper triangle only). Goals: at most 1.15 times the one, 1.5 times as fast as the other. A fourth
  row puts that bincount into our tiles and threads.
- ``peer``: all pairs of 6,000, from vectors to counts, against evalify. Goals: at least 20 times as fast, under a tenth of its
  memory.
- ``large``: all pairs of 100,000 x 512, from the memory-mapped file to counts by group and by person at asked thresholds.
  Goals: at most 3 minutes and 1.5 GiB.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import data, harness, script

TEMPLATES, PEER_TEMPLATES, LARGE_TEMPLATES, LENGTH = 20_000, 6_000, 100_000, 512
PER_SUBJECT = 4
THRESHOLDS = (0.1875, 0.25)
OURS, BARE, TILED = "products and counts", "products alone", "the same tiles and bincount"
PLAIN, PEER, LARGE = "row blocks and bincount", "evalify", "whole count"
WHOLE = "from vectors to counts"


def array_folder(folder: Path, templates: int, length: int) -> Path:
    """``vectors`` [N, length] float32, ``subject``, ``group`` int32 as NPY files, made once, in bounded memory.

    People with a direction of their own, groups with a common one, pictures with noise: non-mated cosines have a standard
    deviation of about 1 / sqrt(length) and are higher within a group. No measurement of any system.
    """
    home = folder / f"templates_{templates}_{length}"
    if (home / "complete").exists():
        return home
    home.mkdir(parents=True, exist_ok=True)
    subjects = max(16, templates // PER_SUBJECT)
    group = data.population(subjects).group
    rng = np.random.Generator(np.random.Philox(11))
    centre = 0.25 * rng.standard_normal((len(data.GROUPS), length), np.float32)
    subject = rng.integers(0, subjects, templates).astype(np.int32)
    vectors = np.lib.format.open_memmap(home / "vectors.npy", "w+", np.float32, (templates, length))
    own = rng.standard_normal((subjects, length), np.float32) + centre[group]
    for a in range(0, templates, 8192):
        who = subject[a : a + 8192]
        vectors[a : a + 8192] = own[who] + 0.8 * rng.standard_normal((len(who), length), np.float32)
    vectors.flush()
    np.save(home / "subject.npy", subject)
    np.save(home / "group.npy", group[subject])
    (home / "complete").touch()
    return home


class Products:
    """A measure that makes every tile's product and counts nothing: the cost of scoring alone, through the same driver."""

    name, version = "products", "1"

    def __init__(self, prepared: Any, counted: bool = False) -> None:
        self.prepared, self.counted = prepared, counted

    def parameters(self) -> dict[str, Any]:
        """Nothing shapes it."""
        return {}

    def zero(self) -> dict[str, Any]:
        """No scores yet."""
        return {"levels": np.zeros(4097, np.int64)}

    def update(self, state: Any, batch: Any) -> None:
        """Make the products; where asked, what is usually written: a level of each score as uint16, numpy's bincount."""
        from audit_toolkit.core import tiles

        p = self.prepared
        if not self.counted:
            products()(batch["tile"], p.rows, p.squares, tiles.scratch("scores", (p.tile, p.tile), np.float32))
            return
        for i, j in batch["tile"]:
            scores = tiles.score_tile(p, int(i), int(j))
            levels = ((scores + np.float32(1)) * np.float32(2048)).astype(np.uint16)
            state["levels"] += np.bincount(levels.ravel(), minlength=4097)

    def merge(self, into: Any, other: Any) -> Any:
        """Add."""
        into["levels"] += other["levels"]
        return into


@functools.cache
def products() -> Callable[..., None]:
    """The products of several tiles in one compiled loop, as ours makes them."""
    import numba

    from audit_toolkit.core.tiles import product

    @numba.njit(nogil=True)
    def every(todo: Any, rows: Any, squares: Any, out: Any) -> None:
        t = len(out)
        for k in range(len(todo)):
            product(rows, squares, False, np.int64(todo[k, 0]) * t, np.int64(todo[k, 1]) * t, t, out)

    return every


def row_blocks(rows: Any) -> tuple[float, int]:
    """Blocks of rows against all that come after, on BLAS's own threads, then levels and one bincount."""
    counts = np.zeros(4097, np.int64)
    rows[:512] @ rows[:512].T
    start = time.perf_counter()
    for a in range(0, len(rows), 512):
        scores = rows[a : a + 512] @ rows[a:].T
        levels = ((scores + np.float32(1)) * np.float32(2048)).astype(np.uint16)
        counts += np.bincount(levels.ravel(), minlength=4097)
    return time.perf_counter() - start, int(counts.sum())


def worker(kind: str, folder: Path, threads: int) -> dict[str, Any]:
    """One contender's process: load, warm up on one tile, time the rest."""
    from audit_toolkit.core import binning, pairs, tiles
    from audit_toolkit.engines.fold import fold
    from audit_toolkit.engines.local import local

    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    subject, group = np.load(folder / "subject.npy"), np.load(folder / "group.npy")
    edges = binning.even_edges(-1, 1, 4096, THRESHOLDS)

    def ready(n: int) -> Any:
        return tiles.prepare(vectors[:n], subject[:n], None, group[:n], len(data.GROUPS))

    def counting(prepared: Any) -> Any:
        return pairs.PairCounts(prepared, edges, listed_from=THRESHOLDS[0] - 0.001, near=THRESHOLDS)

    def run(measure: Any) -> Any:
        with tiles.one_blas_thread():
            return fold([measure], tiles.partitions(measure.prepared), local(threads))[0]

    def told(measure: Any, state: Any) -> dict[str, Any]:
        found = pairs.recount_at(measure, state, THRESHOLDS)
        nonmated, by_person = pairs.by_subject(measure, state, THRESHOLDS)
        return {
            "nonmated": int(found["nonmated"][..., 0].sum()),
            "mated": int(found["mated"][:, 0].sum()),
            "false_matches": int(found["nonmated"][..., 1].sum()),
            "by_subject_agrees": bool(
                np.array_equal(nonmated[:, 0].sum(axis=(0, 1)), found["nonmated"].sum(axis=(0, 1)))
                and np.array_equal(by_person.sum(axis=0), found["mated"].sum(axis=0))
            ),
        }

    small = counting(ready(min(len(vectors), 1024)))
    told(small, run(small))
    if kind in ("whole", "large"):
        start = time.perf_counter()
        measure = counting(ready(len(vectors)))
        counts = told(measure, run(measure))
        return {"seconds": time.perf_counter() - start, "counts": counts, "blas": tiles.blas_in_use()}
    prepared = ready(len(vectors))
    if kind == "plain":
        seconds, scores = row_blocks(prepared.rows[: prepared.n])
        return {"seconds": seconds, "scores": scores}
    measure = {
        "ours": lambda: counting(prepared),
        "bare": lambda: Products(prepared),
        "bincount": lambda: Products(prepared, counted=True),
    }[kind]()
    if kind == "bare":
        run(Products(small.prepared))
    start = time.perf_counter()
    state = run(measure)
    seconds = time.perf_counter() - start
    if kind == "ours":
        return {"seconds": seconds, "counts": told(measure, state), "blas": tiles.blas_in_use()}
    return {"seconds": seconds, "scores": int(state["levels"].sum())}


def contender(
    arguments: argparse.Namespace, name: str, kind: str, source: Path, note: str, **more: Any
) -> harness.Contender:
    argv: list[str | Path] = [
        sys.executable,
        Path(__file__).resolve(),
        "--cores",
        str(arguments.cores),
        "--worker",
        kind,
    ]
    run = harness.command([*argv, source], inside=True, cores=arguments.cores)
    return harness.Contender(name, run, note=note, **more)


def measured(arguments: argparse.Namespace, name: str, title: str, contenders: Any, templates: int, goal: int) -> Any:
    label = name if templates == goal and not arguments.toy else f"{name}_{templates}"
    settings = {
        "templates": templates,
        "length": arguments.length,
        "groups": len(data.GROUPS),
        "cores": arguments.cores,
    }
    return harness.measure(
        label,
        title,
        contenders,
        runs=arguments.runs,
        warmups=script.warmups(arguments),
        settings=settings,
        tell=script.tell,
    )


def counts_of(result: dict[str, Any], name: str) -> list[Any]:
    return [s["result"].get("counts") for s in harness.row(result, name)["samples"] if s["error"] is None]


def complete(result: dict[str, Any], name: str, templates: int) -> None:
    """Every pair was counted once, and the counts by person add up to those by group, in every run alike."""
    found = counts_of(result, name)
    held = bool(found) and all(c == found[0] for c in found) and found[0]["by_subject_agrees"]
    held = held and found[0]["nonmated"] + found[0]["mated"] == templates * (templates - 1) // 2
    result["checks"].append(harness.check("every pair counted once; counts by person add up to those by group", held))


def measure_tiles(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ours, the products alone, and bincount in two forms."""
    n = arguments.templates
    source = array_folder(arguments.data, n, arguments.length)
    listing = f"grid, 8 x 8 group pairs, mated apart, list from {THRESHOLDS[0]} on; {arguments.cores} threads."
    contenders = [
        contender(arguments, OURS, "ours", source, listing),
        contender(arguments, BARE, "bare", source, "the same tiles through the same driver; nothing is counted."),
        contender(
            arguments, PLAIN, "plain", source, "512 rows against all later ones; one histogram of all scores alike."
        ),
        contender(arguments, TILED, "bincount", source, "our tiles and threads, levels and bincount of each tile."),
    ]
    result = measured(arguments, "pairs_tiles", "All pairs of templates: what counting costs", contenders, n, TEMPLATES)
    complete(result, OURS, n)
    result["ratios"] += [harness.ratio(result, OURS, BARE), harness.ratio(result, PLAIN, OURS)]
    result["ratios"].append(harness.ratio(result, TILED, OURS))
    if not arguments.toy:
        judged = n == TEMPLATES
        least, plain, _ = (r["median"] for r in result["ratios"])
        text = "counting against the same products without it"
        result["goals"] += [
            harness.goal(text, least, 1.15, "times", at_most=True, judged=judged),
            harness.goal("row blocks and bincount against ours", plain, 1.5, "times", at_most=False, judged=judged),
        ]
    return result


def measure_peer(arguments: argparse.Namespace) -> dict[str, Any]:
    """From vectors to counts, ours and evalify."""
    n = arguments.peer_templates
    source = array_folder(arguments.data, n, arguments.length)
    contenders = [
        contender(arguments, WHOLE, "whole", source, "normalised, sorted, scored, counted by group and by person.")
    ]
    if arguments.peers:
        peer = harness.HERE / "peers" / "evalify_pairs.py"
        argv: list[str | Path] = [harness.peer_python("evalify"), peer, source, str(THRESHOLDS[0])]
        run = harness.command(argv, inside=True, cores=arguments.cores)
        note = "version pinned in peers/evalify.txt; a table of all pairs and their similarity, in batches; counting not timed."
        contenders.append(harness.Contender(PEER, run, note=note, runs=1, warmups=0))
    result = measured(arguments, "pairs_peer", "All pairs of templates against a peer", contenders, n, PEER_TEMPLATES)
    complete(result, WHOLE, n)
    if arguments.peers:
        own, other = counts_of(result, WHOLE), counts_of(result, PEER)
        held = bool(own and other) and all(own[0][k] == other[0][k] for k in ("nonmated", "mated"))
        # The peer's float32 sums differ from ours in the last bits, so a pair at the threshold may fall either way.
        held = (
            held and abs(own[0]["false_matches"] - other[0]["false_matches"]) <= 1 + own[0]["false_matches"] // 10_000
        )
        result["checks"].append(harness.check("the peer counted the same pairs and false matches (1 in 10,000)", held))
        result["ratios"] += [harness.ratio(result, PEER, WHOLE), harness.ratio(result, PEER, WHOLE, "peak_rss_mib")]
        judged = n == PEER_TEMPLATES
        times, memory = (r["median"] for r in result["ratios"])
        result["goals"] += [
            harness.goal("evalify against ours", times, 20, "times", at_most=False, judged=judged),
            harness.goal("evalify's memory against ours", memory, 10, "times", at_most=False, judged=judged),
        ]
    return result


def measure_large(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole count of 100,000 templates, its time and memory."""
    n = arguments.large_templates
    source = array_folder(arguments.data, n, arguments.length)
    note = "from the memory-mapped file: normalised, sorted, scored, counted by group and by person."
    contenders = [contender(arguments, LARGE, "large", source, note, runs=arguments.large_runs, warmups=0)]
    title = "All pairs of many templates: time and memory"
    result = measured(arguments, "pairs_large", title, contenders, n, LARGE_TEMPLATES)
    complete(result, LARGE, n)
    row = harness.row(result, LARGE)
    if not arguments.toy and row["error"] is None:
        judged = n == LARGE_TEMPLATES
        size = f"{LARGE_TEMPLATES:,} x {LENGTH}"
        seconds, memory = row["seconds"]["median"], row["peak_rss_mib"]["max"]
        result["goals"] += [
            harness.goal(f"all pairs of {size}", seconds, 180, "s", at_most=True, judged=judged),
            harness.goal("peak memory of it", memory, 1536, "MiB", at_most=True, judged=judged),
        ]
    return result


PARTS = {"tiles": measure_tiles, "peer": measure_peer, "large": measure_large}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts asked for; 0 when nothing failed and all answers agree."""
    options = script.parser(__doc__.splitlines()[0])
    options.add_argument("--part", choices=(*PARTS, "all"), default="all")
    options.add_argument("--templates", type=int, default=TEMPLATES)
    options.add_argument("--peer-templates", type=int, default=PEER_TEMPLATES)
    options.add_argument("--large-templates", type=int, default=LARGE_TEMPLATES)
    options.add_argument("--large-runs", type=int, default=1)
    options.add_argument("--length", type=int, default=LENGTH, help="numbers a template holds")
    options.add_argument("--no-peers", dest="peers", action="store_false")
    options.add_argument("--worker", nargs=2, metavar=("KIND", "SOURCE"), help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    if arguments.worker is not None:
        from audit_toolkit.engines.local import available_threads

        kind, source = arguments.worker
        sys.stdout.write(json.dumps(worker(kind, Path(source), arguments.cores or available_threads())) + "\n")
        return 0
    if arguments.toy:
        arguments.templates = arguments.peer_templates = arguments.large_templates = 1_500
        arguments.length, arguments.runs, arguments.peers = 32, 1, False
    held = True
    for part in PARTS if arguments.part == "all" else (arguments.part,):
        held &= script.finish(PARTS[part](arguments), arguments)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
