"""Do the intervals cover, and do the tests keep quiet when nothing is there? A simulation with subject effects.

    python benchmarks/interval_coverage.py --replicates 2000 --out benchmarks/results/coverage.json

Scores: every subject has an effect N(0, sd), every image N(0, 1) on top, a comparison scores the sum of both images' values,
so everybody who is easily confused with one person is easily confused with all. All pairs of images of different subjects
are compared. The true FMR is known in closed form. Every replicate counts; one without errors counts through its own upper
limit, judged with the design effect of the same file at a ten times looser FMR.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.stats.contrast import ratio_interval
from audit_toolkit.stats.dependence import RateSample, from_counts, pooled_deff
from audit_toolkit.stats.equality import equality_of_pairs, equality_of_subjects
from audit_toolkit.stats.intervals import INTERVALS, interval, simultaneous
from audit_toolkit.stats.proportion import normal_quantile
from audit_toolkit.stats.spread import kernel, project
from audit_toolkit.stats.spread_uncertainty import joint_jackknife

IMAGES = 5
LOOSER = 10.0
LEVEL = 0.95


@dataclass(frozen=True)
class Design:
    """One row of the table: so many subjects, so strong subject effects, this true FMR."""

    name: str
    subjects: int
    sd: float
    fmr: float

    @property
    def comparisons(self) -> int:
        """All pairs of images of different subjects."""
        return self.subjects * (self.subjects - 1) // 2 * IMAGES * IMAGES

    @property
    def expected(self) -> float:
        """Expected false matches."""
        return self.comparisons * self.fmr

    def threshold(self, fmr: float) -> float:
        """Where the true FMR is this: a score is normal with variance 2 (sd^2 + 1)."""
        return -normal_quantile(fmr) * math.sqrt(2.0 * (self.sd**2 + 1.0))


DESIGNS = (
    Design("G=50, sd 1", 50, 1.0, 1.32e-3),
    Design("G=100, sd 1", 100, 1.0, 1.35e-3),
    Design("G=100, sd .5", 100, 0.5, 5.0e-4),
    Design("G=200, sd 1", 200, 1.0, 1.35e-3),
    Design("G=100, sd .3", 100, 0.3, 3.4e-3),
    Design("G=100, sd 1, rare", 100, 1.0, 8.8e-5),
)


@dataclass(frozen=True)
class File:
    """The error pairs of one simulated group at one threshold: subjects i < j and errors of the pair."""

    subjects: int
    comparisons: int
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    count: NDArray[np.int64]


def values(rng: np.random.Generator, design: Design) -> NDArray[np.float64]:
    """Image values [subjects * IMAGES], images of one subject together."""
    subject = rng.normal(0.0, design.sd, design.subjects)
    return (subject[:, None] + rng.normal(0.0, 1.0, (design.subjects, IMAGES))).ravel()


def errors_at(images: NDArray[np.float64], design: Design, fmr: float) -> File:
    """All pairs of images of different subjects that score at or above the threshold of that FMR."""
    t = design.threshold(fmr)
    near = np.flatnonzero(images + images.max() >= t)
    a, b = np.nonzero(np.triu(images[near][:, None] + images[near][None, :] >= t, 1))
    who = near // IMAGES
    code = who[a] * design.subjects + who[b]
    pairs, count = np.unique(code[who[a] != who[b]], return_counts=True)
    return File(design.subjects, design.comparisons, pairs // design.subjects, pairs % design.subjects, count)


def sample_of(file: File, replicates: NDArray[np.float64] | None = None, deff: float | None = None) -> RateSample:
    """The file as a rate with its subjects' influences."""
    g, total = file.subjects, int(file.count.sum())
    wrong = np.bincount(file.i, file.count, g) + np.bincount(file.j, file.count, g)
    mean = IMAGES * IMAGES * total / file.comparisons
    square = float(np.square(file.count).sum()) - 2 * mean * total + mean**2 * (g * (g - 1) // 2)
    made = np.full(g, (g - 1) * IMAGES * IMAGES)
    return from_counts(
        total, file.comparisons, wrong.astype(np.int64), made, pair_square=square, replicates=replicates, deff=deff
    )


def double_or_nothing(rng: np.random.Generator, file: File, draws: int) -> NDArray[np.float64]:
    """The rate with each subject counted double or not at all."""
    kept = rng.random((draws, file.subjects)) < 0.5
    chosen = kept.sum(axis=1)
    number = (kept[:, file.i] & kept[:, file.j]) @ file.count
    made = chosen * (chosen - 1) / 2.0 * IMAGES * IMAGES
    return np.where(made > 0, number / np.maximum(made, 1), np.nan)


def one_file(design: Design, seed: int, number: int, draws: int) -> list[tuple[bool, float]]:
    """Covered, and width, for every method on one simulated file; last, whether it had no errors, and how many."""
    rng = np.random.Generator(np.random.PCG64([seed, round(design.fmr * 1e7), design.subjects, number]))
    images = values(rng, design)
    file = errors_at(images, design, design.fmr)
    looser = sample_of(errors_at(images, design, LOOSER * design.fmr))
    sample = sample_of(file, double_or_nothing(rng, file, draws), pooled_deff([looser]))
    found = [interval(sample, LEVEL, name) for name in INTERVALS]
    rows = [
        (i.contains(design.fmr), (1.0 if i.high is None else i.high) - (0.0 if i.low is None else i.low)) for i in found
    ]
    return [*rows, (sample.errors == 0, float(sample.errors))]


def coverage_rows(task: tuple[Design, int, int, int, int]) -> list[list[tuple[bool, float]]]:
    """A run of replicates of one design."""
    design, seed, first, last, draws = task
    return [one_file(design, seed, number, draws) for number in range(first, last)]


ALARMS = (
    "equality test",
    "simultaneous intervals miss a group",
    "projected max/min, max/geomean, max/mean, max-min",
    "gini",
    "gini without calibration",
    "std",
    "ln max/min by the jackknife alone",
    "ratio of two groups",
)
"""What may go off wrongly when all groups are equal; "without calibration" and "alone" are there for contrast."""


def one_family(designs: Sequence[Design], seed: int, number: int, draws: int, lift: float) -> list[bool]:
    """Which of `ALARMS` go off on one simulated file with these groups (the first has ``lift`` times its FMR)."""
    rng = np.random.Generator(np.random.PCG64([seed, round(designs[0].fmr * 1e7), designs[0].subjects, number, 8]))
    true = [d.fmr * (lift if k == 0 else 1.0) for k, d in enumerate(designs)]
    files = [errors_at(values(rng, d), d, fmr) for d, fmr in zip(designs, true, strict=True)]
    start = np.cumsum([0, *(f.subjects for f in files)])
    plain = [sample_of(f) for f in files]
    deff = pooled_deff(plain)
    samples = [replace(s, deff=deff, subject=s.subject + start[k]) for k, s in enumerate(plain)]
    test = equality_of_pairs(
        np.concatenate([f.i + start[k] for k, f in enumerate(files)]),
        np.concatenate([f.j + start[k] for k, f in enumerate(files)]),
        np.concatenate([f.count for f in files]),
        np.repeat(np.arange(len(files)), np.diff(start)),
        np.full(start[-1], float(IMAGES)),
        np.array([f.comparisons for f in files]),
        seed=number,
        draws=draws,
    )
    box = simultaneous(samples, LEVEL)
    apart = project("max/min", [i.low for i in box], [i.high for i in box])[0]
    ends = []
    gini, std, ratio_of_ends = kernel("gini")[0], kernel("std")[0], kernel("max/min")[0]
    for work, released in (
        (gini, test.p_value),
        (gini, 0.0),
        (std, test.p_value),
        (lambda x: np.log(ratio_of_ends(x)), 0.0),
    ):
        found = joint_jackknife(work, samples, LEVEL, ideal=0.0, equal_p=released)
        ends.append(found.low is not None and found.low > 0.0)
    ratio = ratio_interval(samples[0], samples[1], LEVEL)
    return [
        test.rejects(LEVEL),
        not all(i.contains(fmr) for i, fmr in zip(box, true, strict=True)),
        apart is not None and apart > 1.0,
        *ends,
        not ratio.contains(true[0] / true[1]),
    ]


def alarm_rows(task: tuple[Sequence[Design], int, int, int, int, float]) -> list[list[bool]]:
    """A run of files of equal (or, with a lift, unequal) groups."""
    designs, seed, first, last, draws, lift = task
    return [one_family(designs, seed, number, draws, lift) for number in range(first, last)]


def mated_rows(task: tuple[int, int, float, float, int, int, int, int]) -> list[list[bool]]:
    """Whether the equality test of mated errors goes off: groups, people, beta parameters of people's FNMR."""
    groups, people, a, b, seed, first, last, draws = task
    group = np.repeat(np.arange(groups), people)
    out = []
    for number in range(first, last):
        rng = np.random.Generator(np.random.PCG64([seed, number, people]))
        made = rng.integers(5, 30, groups * people)
        wrong = rng.binomial(made, rng.beta(a, b, groups * people))
        out.append([equality_of_subjects(group, wrong, made, seed=number, draws=draws).rejects(LEVEL)])
    return out


STRONG, MILD, SPARSE, SMALL = DESIGNS[1], DESIGNS[4], DESIGNS[5], DESIGNS[0]
TINY, WIDE, EVEN = Design("", 30, 1.0, 1.35e-3), Design("", 150, 1.0, 1.35e-3), Design("", 100, 0.1, 1.35e-3)
FAMILIES: tuple[tuple[str, tuple[Design, ...], float], ...] = (
    ("8 equal groups, G=100, sd 1", (STRONG,) * 8, 1.0),
    ("8 equal groups, G=100, sd .3", (MILD,) * 8, 1.0),
    ("8 equal groups, G=50, sd 1", (SMALL,) * 8, 1.0),
    ("8 equal groups, G=100, sd 1, rare (11 errors)", (SPARSE,) * 8, 1.0),
    ("8 groups of equal FMR, G=30 and 150", (TINY, WIDE) * 4, 1.0),
    ("8 groups of equal FMR, sd 1 and .1", (STRONG, EVEN) * 4, 1.0),
    ("2 equal groups, G=50, sd 1", (SMALL,) * 2, 1.0),
    ("UNEQUAL: one of 8 has 3 x the FMR, G=100, sd .3", (MILD,) * 8, 3.0),
    ("UNEQUAL: one of 8 has 5 x the FMR, G=100, sd 1", (STRONG,) * 8, 5.0),
)
MATED = (
    ("mated: 8 equal groups of 100 people", 8, 100, 0.3, 6.0),
    ("mated: 8 equal groups of 40 people", 8, 40, 0.3, 6.0),
    ("mated: 2 equal groups of 40 people", 2, 40, 0.3, 6.0),
)


Pool = ProcessPoolExecutor | None


def _spread_out(work: Callable[[Any], list[Any]], task: Callable[[int, int], Any], n: int, pool: Pool) -> list[Any]:
    """All replicates 0..n-1 in pieces, in order."""
    pieces = [task(k, min(k + 50, n)) for k in range(0, n, 50)]
    found = map(work, pieces) if pool is None else pool.map(work, pieces)
    return [row for rows in found for row in rows]


def coverage_table(
    designs: Sequence[Design], n: int, *, seed: int, draws: int, pool: Pool = None
) -> list[dict[str, Any]]:
    """Coverage and width (mean and median, in units of the true FMR) of every method, a row a design."""
    table = []
    for design in designs:
        rows = _spread_out(coverage_rows, lambda k, m, d=design: (d, seed, k, m, draws), n, pool)
        covered = np.array([[cell[0] for cell in row] for row in rows])
        width = np.array([[cell[1] for cell in row] for row in rows])
        methods = {
            name: {
                "coverage": float(covered[:, c].mean()),
                "mean width / FMR": float(width[:, c].mean() / design.fmr),
                "median width / FMR": float(np.median(width[:, c]) / design.fmr),
            }
            for c, name in enumerate(INTERVALS)
        }
        table.append(
            {
                "design": design.name,
                "fmr": design.fmr,
                "expected errors": design.expected,
                "mean errors": float(width[:, -1].mean()),
                "share without errors": float(covered[:, -1].mean()),
                "replicates": n,
                "methods": methods,
            }
        )
    return table


def alarm_table(
    families: Sequence[tuple[str, tuple[Design, ...], float]], n: int, *, seed: int, draws: int, pool: Pool = None
) -> list[dict[str, Any]]:
    """How often each of `ALARMS` goes off, a row a family of groups."""
    table = []
    for name, designs, lift in families:
        rows = _spread_out(alarm_rows, lambda k, m, d=designs, f=lift: (d, seed, k, m, draws, f), n, pool)
        rate = np.array(rows).mean(axis=0)
        table.append({"groups": name, "replicates": n, **{a: float(r) for a, r in zip(ALARMS, rate, strict=True)}})
    return table


def mated_table(n: int, *, seed: int, draws: int, pool: Pool = None) -> list[dict[str, Any]]:
    """False alarms of the equality test of mated errors."""
    table = []
    for name, groups, people, a, b in MATED:
        rows = _spread_out(mated_rows, lambda k, m, p=(groups, people, a, b): (*p, seed, k, m, draws), n, pool)
        table.append({"groups": name, "replicates": n, "equality test": float(np.mean(rows))})
    return table


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    lines = [
        f"# Coverage and false alarms at nominal {LEVEL:.0%}",
        "",
        f"Made by `python benchmarks/interval_coverage.py --replicates {result['replicates']}` in {result['seconds']:.0f} s, "
        f"seed {result['seed']}. All replicates count. Cells: coverage (median width / true FMR).",
        "",
        "| design | expected errors | files without errors | " + " | ".join(INTERVALS) + " |",
        "|---" * (3 + len(INTERVALS)) + "|",
    ]
    for row in result["coverage"]:
        cells = [f"{m['coverage']:.3f} ({m['median width / FMR']:.2f})" for m in row["methods"].values()]
        lines.append(
            f"| {row['design']} | {row['expected errors']:.0f} | {row['share without errors']:.3f} | "
            + " | ".join(cells)
            + " |"
        )
    allowed = 0.05 + 2 * math.sqrt(0.05 * 0.95 / result["replicates"])
    lines += [
        "",
        f"How often each goes off (5 % allowed with equal groups; {allowed:.4f} is nominal + 2 standard errors). In rows marked "
        "UNEQUAL going off is right for the tests and the spread intervals; misses of true values are wrong everywhere.",
        "",
        "| groups | " + " | ".join(ALARMS) + " |",
        "|---" * (1 + len(ALARMS)) + "|",
    ]
    lines += [f"| {r['groups']} | " + " | ".join(f"{r[a]:.4f}" for a in ALARMS) + " |" for r in result["alarms"]]
    lines += [f"| {r['groups']} | {r['equality test']:.4f} |" + " |" * (len(ALARMS) - 1) for r in result["mated"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write JSON and, beside it, the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coverage.json"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=199, help="draws of each equality test")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    began = time.perf_counter()
    n, seed, draws = given.replicates, given.seed, given.draws
    result: dict[str, Any] = {"replicates": n, "level": LEVEL, "seed": seed, "draws": draws}
    with ProcessPoolExecutor(given.processes) as pool:
        result["coverage"] = coverage_table(DESIGNS, n, seed=seed, draws=256, pool=pool)
        result["alarms"] = alarm_table(FAMILIES, n, seed=seed, draws=draws, pool=pool)
        result["mated"] = mated_table(n, seed=seed, draws=draws, pool=pool)
    result["seconds"] = time.perf_counter() - began
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(markdown(result))
    sys.stdout.write(markdown(result))


if __name__ == "__main__":
    main()
