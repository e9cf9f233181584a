"""What the benchmark scripts share: their options, progress, and what becomes of a result."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import data, harness

SUBJECTS = 20_000


def named(name: str, arguments: argparse.Namespace, size: object, goal: object) -> tuple[str, bool]:
    """The result's name, and whether goals are judged: at the goals' own size only.

    Another size stands in the name, so that it never replaces the result of the goal's size.
    """
    if size == goal and arguments.subjects == SUBJECTS and not arguments.toy:
        return name, True
    return f"{name}_{size}_{arguments.subjects}", False


def warmups(arguments: argparse.Namespace) -> int:
    """One uncounted run of each contender (files in the system's cache, kernels compiled); none where no time is judged."""
    return 0 if arguments.toy else 1


def tell(line: str) -> None:
    """Progress, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def parser(description: str, rows: int | None = None, runs: int = 5) -> argparse.ArgumentParser:
    """The options all scripts share."""
    options = argparse.ArgumentParser(description=description)
    if rows is not None:
        options.add_argument("--rows", type=int, default=rows)
    options.add_argument("--subjects", type=int, default=SUBJECTS)
    options.add_argument("--runs", type=int, default=runs, help="counted runs of each contender")
    options.add_argument("--cores", type=int, default=2, help="processors a contender may use (0: all)")
    options.add_argument("--data", type=Path, default=data.default_folder(), help="where data sets are kept")
    options.add_argument("--out", type=Path, default=None, help="where results go (default: benchmarks/results)")
    options.add_argument("--toy", action="store_true", help="tiny sizes, answers checked, no times judged, no peers")
    return options


def finish(result: dict[str, Any], arguments: argparse.Namespace) -> bool:
    """Print the table, write the result (a toy run only where ``--out`` asks for it); whether all checks held."""
    sys.stdout.write(harness.markdown(result) + "\n")
    if arguments.out is not None or not arguments.toy:
        harness.write(result, arguments.out or harness.RESULTS)
    return all(c["held"] for c in result["checks"]) and all(r["error"] is None for r in result["contenders"])
