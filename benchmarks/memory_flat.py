"""How much memory a whole audit needs as the score file grows from 1 to 100 million comparisons.

``python benchmarks/memory_flat.py [--sizes 1_000_000,10_000_000,100_000_000] [--runs 1] [--toy]``

The audit streams, so its peak may depend on people, groups and thresholds but not on rows. Goal, with 20,000 people: the
largest of the three peaks is at most 1.25 times the smallest, and from the second size to the last each further comparison
costs at most one byte (a coded comparison needs about 13, so nothing that is kept a row passes this).

What it does not say: how much temporary disk the audit needs; that grows with rows. Pages of mapped temporary files count
as memory here while they are mapped, as the system counts them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import data, harness, script, whole_audit

SIZES = (1_000_000, 10_000_000, 100_000_000)
TOLERANCE = 1.25
BYTES_A_ROW = 1.0


def growth(peaks: Sequence[float], sizes: Sequence[int]) -> tuple[float, float]:
    """Largest peak over smallest, and bytes for each further row from the second size (or the first of two) to the last."""
    first = max(0, len(sizes) - 2)
    return max(peaks) / min(peaks), (peaks[-1] - peaks[first]) * harness.MIB / (sizes[-1] - sizes[first])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One audit a size, interleaved; peaks and how they grow."""
    sizes = arguments.sizes
    contenders = []
    for rows in sizes:
        file = data.score_file(arguments.data, rows, arguments.subjects)
        warmups = script.warmups(arguments) if rows == sizes[0] else 0
        contenders.append(whole_audit.contender(f"{rows:,} rows", file, arguments.cores, warmups=warmups))
    chosen = {"subjects": arguments.subjects, "groups": len(data.GROUPS), "cores": arguments.cores}
    name, judged = script.named("memory_flat", arguments, "-".join(map(str, sizes)), "-".join(map(str, SIZES)))
    result = harness.measure(
        name, "Peak memory of a whole audit as the file grows", contenders,
        runs=arguments.runs, warmups=script.warmups(arguments), settings=chosen, tell=script.tell,
    )  # fmt: skip
    for r, rows in zip(result["contenders"], sizes, strict=True):
        if r["error"] is None:
            told = r["samples"][0]["result"]["rates"]
            held = told is not None and whole_audit.holds(told, rows, arguments.subjects)
            result["checks"].append(
                harness.check(f"{r['name']}: recorded counts and threshold equal a plain count", held)
            )
    peaks = [r["peak_rss_mib"] and r["peak_rss_mib"]["max"] for r in result["contenders"]]
    if all(peaks) and len(sizes) > 1 and not arguments.toy:
        times, each = growth(peaks, sizes)
        result["goals"] += [
            harness.goal("largest peak over smallest", times, TOLERANCE, "times", at_most=True, judged=judged),
            harness.goal(
                f"memory for each further row, {sizes[-2]:,} to {sizes[-1]:,}", each, BYTES_A_ROW, "bytes",
                at_most=True, judged=judged,
            ),
        ]  # fmt: skip
    return result


def _sizes(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when every audit ran to its end."""
    options = script.parser(__doc__.splitlines()[0], runs=1)
    options.add_argument("--sizes", type=_sizes, default=list(SIZES), help="numbers of rows, separated by commas")
    arguments = options.parse_args(argv)
    if arguments.toy:
        arguments.sizes, arguments.subjects, arguments.runs = [2_000, 5_000, 10_000], 200, 1
    return 0 if script.finish(measure(arguments), arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
