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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.stats.dependence import RateSample, from_counts, pooled_deff
from audit_toolkit.stats.intervals import INTERVALS, interval
from audit_toolkit.stats.proportion import normal_quantile

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
        return self.subjects * (self.subjects - 1) // 2 * IMAGES * IMAGES

    @property
    def expected(self) -> float:
        return self.comparisons * self.fmr

    def threshold(self, fmr: float) -> float:
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
    """Covered, and width, for every method on one simulated file."""
    rng = np.random.Generator(np.random.PCG64([seed, DESIGNS.index(design), number]))
    images = values(rng, design)
    file = errors_at(images, design, design.fmr)
    looser = sample_of(errors_at(images, design, LOOSER * design.fmr))
    sample = sample_of(file, double_or_nothing(rng, file, draws), pooled_deff([looser]))
    found = [interval(sample, LEVEL, name) for name in INTERVALS]
    return [
        (i.contains(design.fmr), (1.0 if i.high is None else i.high) - (0.0 if i.low is None else i.low)) for i in found
    ] + [(sample.errors == 0, float(sample.errors))]
