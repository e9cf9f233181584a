"""How long a thousand draws of the error-sparse subject bootstrap take when there are 200,000 false matches.

``python benchmarks/bootstrap_speed.py [--draws 1000] [--errors 200_000] [--runs 5] [--toy]``

At a fixed threshold the false matches and each person's size are all that a subject bootstrap needs, so its cost does not
depend on how many comparisons were made (here 20,000 people in eight groups of which everybody met everybody: some 28
million within-group pairs). Goal: B = 1,000 with 200,000 false matches in under 5 s.

Beside it stands the same computation written in plain numpy, on the very same draws: its error counts must be equal, its
sums of squares equal to rounding. That is the only comparison offered: no peer has this bootstrap.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from numpy.typing import NDArray

from benchmarks import data, harness, script

DRAWS, ERRORS = 1000, 200_000
SEED = 7
TEST = "whole equality test"
ONE, MORE, PLAIN = "draws, one thread", "draws, all threads asked for", "plain numpy, the same draws"
Outcome = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """False matches within groups: pairs (i, j), group bounds over subjects sorted by group, comparisons by group."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    bounds: NDArray[np.int64]
    comparisons: NDArray[np.float64]

    @property
    def subjects(self) -> int:
        """How many people there are."""
        return int(self.bounds[-1])


def sparse(subjects: int, errors: int) -> Sparse:
    """Eight groups in which everybody met everybody once; some people are in many false matches, most in few."""
    people = data.population(subjects)
    rng = np.random.Generator(np.random.Philox(SEED))
    sizes = np.diff(people.start)
    i = np.empty(0, np.int64)
    j = np.empty(0, np.int64)
    for low, n, share in zip(people.start, sizes, sizes / subjects, strict=False):
        weight = np.exp(2.0 * people.effect[people.order[low : low + n]].astype(np.float64))
        wanted = round(errors * share)
        a, b = rng.choice(n, (2, 2 * wanted + 10), p=weight / weight.sum())
        keep = np.flatnonzero(a != b)[:wanted]
        i, j = np.concatenate([i, low + a[keep]]), np.concatenate([j, low + b[keep]])
    return Sparse(i, j, people.start, sizes * (sizes - 1) / 2.0)


def ours(given: Sparse, draws: int, threads: int) -> Outcome:
    """The package's kernel: errors, denominators and sums of squares, [draws, groups]."""
    from audit_toolkit.core.resample import adjacency, pair_draws

    groups = len(given.comparisons)
    start, partner, count = adjacency(given.i, given.j, np.ones(len(given.i), np.int64), given.subjects)
    size = np.ones(given.subjects)
    errors, denominators, squares, fourths = (np.zeros((draws, groups)) for _ in range(4))

    def part(first: int, last: int) -> None:
        pair_draws(
            first, last, np.uint64(SEED), given.bounds, size, given.comparisons, start, partner, count, True,
            errors, denominators, squares, fourths,
        )  # fmt: skip

    cuts = np.linspace(0, draws, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, cuts[:-1].tolist(), cuts[1:].tolist()))
    return errors, denominators, squares


def _mix(z: Any) -> Any:
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def draw_weights(draw: int, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each subject is drawn in one draw, as the package's counter-based generator says."""
    with np.errstate(over="ignore"):
        stream = _mix(np.uint64(SEED) ^ _mix(np.uint64(draw)))
        counter = np.arange(1, bounds[-1] + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
        high = _mix(stream + counter) >> np.uint64(32)
    n = np.repeat(np.diff(bounds), np.diff(bounds)).astype(np.uint64)
    low = np.repeat(bounds[:-1], np.diff(bounds))
    return np.bincount(low + ((high * n) >> np.uint64(32)).astype(np.int64), minlength=bounds[-1])


def plain(given: Sparse, draws: int) -> Outcome:
    """The same in numpy, a draw at a time: weights, weighted errors of each subject, sums by group."""
    first = given.bounds[:-1]
    groups = len(first)
    errors, made, squares = (np.zeros((draws, groups)) for _ in range(3))
    group = np.repeat(np.arange(groups), np.diff(given.bounds))
    for draw in range(draws):
        w = draw_weights(draw, given.bounds)
        row = np.bincount(given.i, w[given.j], given.subjects) + np.bincount(given.j, w[given.i], given.subjects)
        row[w == 0] = 0
        total = np.add.reduceat(w, first).astype(float)
        errors[draw] = np.add.reduceat(w * row, first) / 2
        made[draw] = (total**2 - np.add.reduceat(w * w, first)) / 2
        rate = errors[draw] / made[draw]
        squares[draw] = np.add.reduceat(w * (row - rate[group] * (total[group] - w)) ** 2, first)
    return errors, made, squares


def agree(a: Outcome, b: Outcome) -> bool:
    """Equal error counts; denominators and squares equal to rounding."""
    return np.array_equal(a[0], b[0]) and all(np.allclose(x, y, rtol=1e-9, atol=0) for x, y in zip(a, b, strict=True))


def worker(kind: str, subjects: int, errors: int, draws: int, threads: int) -> dict[str, Any]:
    """One contender's process: make the input, warm up on one draw, time all of them."""
    given = sparse(subjects, errors)
    if kind == "test":
        return whole_test(given, draws)
    threads = 1 if kind == "one" else threads

    def run(n: int) -> Outcome:
        return plain(given, n) if kind == "plain" else ours(given, n, min(threads, n))

    run(1)
    start = time.perf_counter()
    outcome = run(draws)
    seconds = time.perf_counter() - start
    deviation = float(np.std(np.log(outcome[0] / outcome[1]), axis=0).mean()) if draws > 1 else 0.0
    return {
        "seconds": seconds,
        "false_matches": len(given.i),
        "errors_sum": float(outcome[0].sum()),
        "sd_log_rate": deviation,
    }


def whole_test(given: Sparse, draws: int) -> dict[str, Any]:
    """The public test of equal rates on the same list: draws, studentised maxima, p-value."""
    from audit_toolkit.stats.equality import equality_of_pairs

    group = np.repeat(np.arange(len(given.comparisons)), np.diff(given.bounds))
    one = np.ones(len(given.i), np.int64)
    size = np.ones(given.subjects)

    def run(n: int) -> Any:
        return equality_of_pairs(given.i, given.j, one, group, size, given.comparisons, seed=SEED, draws=n)

    run(19)
    start = time.perf_counter()
    found = run(draws)
    return {"seconds": time.perf_counter() - start, "false_matches": len(given.i), "p_value": found.p_value}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole test, its kernel on one thread and on all, and the numpy twin, interleaved."""
    base = [sys.executable, Path(__file__).resolve(), "--subjects", arguments.subjects, "--errors", arguments.errors]
    base += ["--draws", arguments.draws, "--cores", arguments.cores, "--worker"]

    def contender(name: str, kind: str, note: str, runs: int | None = None) -> harness.Contender:
        return harness.Contender(
            name, harness.command([*base, kind], inside=True, cores=arguments.cores), "", note, runs
        )

    contenders = [
        contender(TEST, "test", "from the list of false matches in memory to the p-value of equal rates."),
        contender(ONE, "one", "its kernel alone: every draw's counts and standard errors."),
        contender(MORE, "more", f"the draws split over {arguments.cores} threads; the same numbers."),
        contender(PLAIN, "plain", "bincount and gather, a draw at a time, one thread.", runs=min(2, arguments.runs)),
    ]
    name, judged = script.named(
        "bootstrap_speed", arguments, f"{arguments.draws}-{arguments.errors}", f"{DRAWS}-{ERRORS}"
    )
    chosen = {"draws": arguments.draws, "false matches": arguments.errors, "subjects": arguments.subjects}
    result = harness.measure(
        name,
        "Error-sparse subject bootstrap", contenders, runs=arguments.runs, warmups=script.warmups(arguments),
        settings=chosen | {"groups": len(data.GROUPS), "cores": arguments.cores}, tell=script.tell,
    )  # fmt: skip
    sums = {s["result"].get("errors_sum") for r in result["contenders"] for s in r["samples"]} - {None}
    result["checks"].append(harness.check("all contenders counted the same errors over all draws", len(sums) == 1))
    few, small = min(arguments.draws, 5), sparse(arguments.subjects, arguments.errors)
    held = agree(ours(small, few, 1), plain(small, few)) and agree(ours(small, few, 2), ours(small, few, 1))
    text = f"errors, denominators and squares of {few} draws equal numpy's, and do not depend on threads"
    result["checks"].append(harness.check(text, held))
    result["ratios"] += [harness.ratio(result, PLAIN, ONE), harness.ratio(result, ONE, MORE)]
    if not arguments.toy:
        seconds = harness.row(result, TEST)["seconds"]
        text = "equality test with B = 1,000 and 200,000 false matches"
        value = seconds and seconds["median"]
        result["goals"].append(harness.goal(text, value, 5, "s", at_most=True, judged=judged))
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when nothing failed and all answers agree."""
    options = script.parser(__doc__.splitlines()[0])
    options.add_argument("--draws", type=int, default=DRAWS)
    options.add_argument("--errors", type=int, default=ERRORS, help="false matches")
    options.add_argument("--worker", choices=("test", "one", "more", "plain"), help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
    if arguments.worker is not None:
        from audit_toolkit.engines.local import available_threads

        given = (arguments.subjects, arguments.errors, arguments.draws, arguments.cores or available_threads())
        sys.stdout.write(json.dumps(worker(arguments.worker, *given)) + "\n")
        return 0
    if arguments.toy:
        arguments.draws, arguments.errors, arguments.subjects, arguments.runs = 20, 2_000, 400, 1
    return 0 if script.finish(measure(arguments), arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
