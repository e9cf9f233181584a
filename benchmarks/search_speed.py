"""How long a whole 1:N audit takes: 10,000 probes searched in a gallery of 100,000, every measure and interval.

``python benchmarks/search_speed.py [--probes 10_000] [--gallery 100_000] [--runs 3] [--toy]``

Goal: at most 60 s and 2 GiB on two cores, from two files of templates to all estimates and curves of eight groups at a
vendor's threshold and at one set by FPIR. Beside it, in the same run: the search
alone, once, and the bare matrix products of the same pairs, which is the limit of any exact search without an index.

The answers are compared first: ranks and counts of some probes against a plain float64 computation.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness, script

PROBES, GALLERY, DIMENSIONS = 10_000, 100_000, 512
SEED = 11
AUDIT, SEARCH, PRODUCTS = "whole audit, from files", "search alone", "matrix products alone"
THRESHOLD, TARGET = 0.22, 0.01


def files(folder: Path, probes: int, gallery: int) -> tuple[Path, Path, Path]:
    """Templates of a gallery and of probes (half of them of enrolled people) and a table of people, made once."""
    home = folder / f"search-{probes}-{gallery}-{DIMENSIONS}"
    made = home / "gallery.npz", home / "probes.npz", home / "people.csv"
    if all(path.exists() for path in made):
        return made
    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(SEED))
    group = rng.integers(0, 8, 2 * gallery)
    centre = rng.standard_normal((8, DIMENSIONS), np.float32) * np.linspace(0.15, 0.4, 8, dtype=np.float32)[:, None]
    enrolled = rng.standard_normal((gallery, DIMENSIONS), np.float32) + centre[group[:gallery]]
    who = np.where(
        rng.random(probes) < 0.5, rng.integers(0, gallery, probes), gallery + rng.integers(0, probes // 3, probes)
    )
    strangers = (
        rng.standard_normal((probes // 3, DIMENSIONS), np.float32) + centre[group[gallery : gallery + probes // 3]]
    )
    vectors = np.where((who < gallery)[:, None], enrolled[who % gallery], strangers[np.maximum(who - gallery, 0)])
    vectors = vectors + 1.6 * rng.standard_normal((probes, DIMENSIONS), np.float32)
    np.savez(made[0], embedding=enrolled, subject=np.arange(gallery))
    np.savez(made[1], embedding=vectors.astype(np.float32), subject=who)
    lines = ["subject,group", *(f"{k},g{group[k]}" for k in range(gallery + probes // 3))]
    made[2].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def section(gallery: Path, probes: Path, people: Path) -> Any:
    """The plan of the audit."""
    from audit_toolkit.disparity.identification.plan import SearchThreshold, Section
    from audit_toolkit.disparity.plan import Attribute, Subjects

    return Section(
        evaluation_type="technology", label_source="made", gallery_selection="made", days_between_mated_captures="0",
        attributes={"group": Attribute()}, gallery=str(gallery), probes=str(probes), subjects=Subjects(path=str(people)),
        thresholds=(
            SearchThreshold(policy="vendor", value=THRESHOLD),
            SearchThreshold(policy="fpir", target=TARGET),
            SearchThreshold(policy="fpir_per_group", target=TARGET, axis="group"),
        ),
    )  # fmt: skip


def worker(kind: str, paths: tuple[Path, Path, Path]) -> dict[str, Any]:
    """One contender's process."""
    from audit_toolkit.disparity.identification.assess import assess
    from audit_toolkit.disparity.identification.open import open_section
    from audit_toolkit.disparity.identification.searches import search_templates
    from audit_toolkit.engines.context import Context

    context = Context(seed=b"benchmark")
    if kind == "audit":
        start = time.perf_counter()
        plan = section(*paths)
        found = assess(plan, open_section(plan, folder=Path()), context)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "estimates": len(found.estimates), "series": len(found.series)}
    source: Any = open_section(section(*paths), folder=Path())
    if kind == "products":
        return products(source, context)
    start = time.perf_counter()
    searches = search_templates(source, [THRESHOLD], 50, context)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "agree": agree(source, searches)}


def products(source: Any, context: Any) -> dict[str, Any]:
    """The same tiles by the same workers, multiplied and thrown away."""
    from threadpoolctl import threadpool_limits

    from audit_toolkit.core import search as core

    a, b = np.array(source.probes.vectors, np.float32), np.array(source.gallery.vectors, np.float32)

    def task(blocks: Sequence[int]) -> list[Any]:
        scratch = np.empty((core.ROWS, core.COLUMNS), np.float32)
        for at in blocks:
            part = a[at : at + core.ROWS]
            for start in range(0, len(b), core.COLUMNS):
                tile = b[start : start + core.COLUMNS]
                np.matmul(part, tile.T, out=scratch[: len(part), : len(tile)])
        return []

    start = time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        list(context.engine(task, range(0, len(a), core.ROWS)))
    return {"seconds": time.perf_counter() - start}


def agree(source: Any, searches: Any, some: int = 40) -> bool:
    """Ranks, best candidates and counts of some probes, against float64 products."""
    gallery: NDArray[np.float64] = np.array(source.gallery.vectors, np.float64)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    rows = np.linspace(0, len(source.probes.vectors) - 1, some).astype(int)
    probes = np.array(source.probes.vectors[rows], np.float64)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    own = (
        source.probes.identity[source.probes.subject[rows]][:, None] == source.gallery.identity[source.gallery.subject]
    )
    scores = probes @ gallery.T
    mate = np.where(own, scores, -np.inf).max(axis=1)
    other = np.where(own, -np.inf, scores)
    ahead = np.where(np.isfinite(mate), (other >= mate[:, None]).sum(axis=1), -1)
    held = np.array_equal(ahead, searches.ahead[rows]) and np.allclose(
        other.max(axis=1), searches.best[rows, 0], atol=1e-6
    )
    return bool(held and np.array_equal((other >= THRESHOLD).sum(axis=1), searches.above([THRESHOLD])[rows, 0]))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The audit, the search and the products, interleaved."""
    files(arguments.data, arguments.probes, arguments.gallery)
    base: list[Any] = [sys.executable, Path(__file__).resolve(), "--probes", arguments.probes]
    base += ["--gallery", arguments.gallery, "--data", arguments.data, "--cores", arguments.cores, "--worker"]

    def contender(name: str, kind: str, note: str) -> harness.Contender:
        return harness.Contender(
            name, harness.command([*base, kind], inside=True, cores=arguments.cores), "", note, warmups=0
        )

    contenders = [
        contender(
            AUDIT, "audit", "one pass over all pairs, every estimate and curve of eight groups; kernels in cache."
        ),
        contender(SEARCH, "search", "one pass, templates in memory, label join included."),
        contender(PRODUCTS, "products", "the same tiles and workers, nothing kept of the scores."),
    ]
    judged = (arguments.probes, arguments.gallery) == (PROBES, GALLERY) and not arguments.toy
    name = "search_speed" if judged else f"search_speed_{arguments.probes}_{arguments.gallery}"
    result = harness.measure(
        name, "1:N audit from templates", contenders, runs=arguments.runs, warmups=0,
        settings={"probes": arguments.probes, "gallery": arguments.gallery, "dimensions": DIMENSIONS,
                  "groups": 8, "cores": arguments.cores},
        tell=script.tell,
    )  # fmt: skip
    told = [s["result"].get("agree") for s in harness.row(result, SEARCH)["samples"]]
    text = "ranks, best candidates and counts of 40 probes equal a plain float64 computation"
    result["checks"].append(harness.check(text, bool(told) and all(told)))
    result["ratios"] += [harness.ratio(result, SEARCH, PRODUCTS), harness.ratio(result, AUDIT, PRODUCTS)]
    row = harness.row(result, AUDIT)
    seconds, rss = row["whole_seconds"], row["peak_rss_mib"]
    for text, found, limit, unit in (
        ("all metrics and intervals, whole process", seconds, 60, "s"),
        ("peak memory of the audit", rss, 2048, "MiB"),
    ):
        value = found and found["median"]
        result["goals"].append(harness.goal(text, value, limit, unit, at_most=True, judged=judged))
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when nothing failed and all answers agree."""
    options = script.parser(__doc__.splitlines()[0], runs=3)
    options.add_argument("--probes", type=int, default=PROBES)
    options.add_argument("--gallery", type=int, default=GALLERY)
    options.add_argument("--worker", choices=("audit", "search", "products"), help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    if arguments.worker is not None:
        paths = files(arguments.data, arguments.probes, arguments.gallery)
        sys.stdout.write(json.dumps(worker(arguments.worker, paths)) + "\n")
        return 0
    if arguments.toy:
        arguments.probes, arguments.gallery, arguments.runs = 300, 500, 1
    return 0 if script.finish(measure(arguments), arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
