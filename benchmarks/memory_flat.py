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

from benchmarks import data, disparity_speed, harness

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
        warmups = disparity_speed.warmups(arguments) if rows == sizes[0] else 0
        contenders.append(disparity_speed.audit(f"{rows:,} rows", file, arguments.cores, warmups=warmups))
    chosen = {"subjects": arguments.subjects, "groups": len(data.GROUPS), "cores": arguments.cores}
    name = "memory_flat" if tuple(sizes) == SIZES else "memory_flat_" + "_".join(map(str, sizes))
    result = harness.measure(
        name, "Peak memory of a whole audit as the file grows", contenders,
        runs=arguments.runs, warmups=disparity_speed.warmups(arguments), settings=chosen, tell=disparity_speed.tell,
    )  # fmt: skip
    peaks = [r["peak_rss_mib"] and r["peak_rss_mib"]["max"] for r in result["contenders"]]
    if all(peaks) and len(sizes) > 1 and not arguments.toy:
        times, each = growth(peaks, sizes)
        judged = tuple(sizes) == SIZES
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
    options = disparity_speed.parser(__doc__.splitlines()[0], rows=None, runs=1)
    options.add_argument("--sizes", type=_sizes, default=list(SIZES), help="numbers of rows, separated by commas")
    arguments = options.parse_args(argv)
    if arguments.toy:
        arguments.sizes, arguments.subjects, arguments.runs = [2_000, 5_000, 10_000], 200, 1
    return 0 if disparity_speed.finish(measure(arguments), arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
