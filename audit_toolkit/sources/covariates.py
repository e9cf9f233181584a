"""What else is known of a comparison: camera, quality, age, days between captures; as classes that can be compared.

Why: a gap between groups may be a gap between cameras, so covariates become strata. Text becomes its sorted labels; a
number with few values becomes those values; a number with many values is cut into classes of about equal count. Promise:
the classes follow from the values alone, not from their order: the cuts are exact up to 262,144 rows, and from a sample
chosen by a hash of the values beyond that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.core.codes import mix_into
from audit_toolkit.sources.coding import code, is_number

SAMPLE = 262_144
MISSING = "(missing)"


@dataclass(slots=True)
class Covariate:
    """One covariate as it is being met: text by its book, numbers by their distinct values and a bounded sample."""

    name: str
    numeric: bool
    bins: int
    book: dict[str, int] = field(default_factory=dict)
    distinct: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """The distinct values while they are few; more than ``bins`` of them once they are many."""
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    sample: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    missing: bool = False
    """Whether any used row lacks a value: only then there is a class for it."""

    def read(self, array: pa.Array) -> NDArray[Any]:
        """The column as it waits for its classes: int32 codes of text, or float64 numbers with NaN for missing."""
        where = f"column covariate.{self.name}"
        if not self.numeric:
            return code(array.cast(pa.string()) if pa.types.is_boolean(array.type) else array, self.book, where)
        if array.null_count or not pa.types.is_floating(array.type):
            array = array.cast(pa.float64(), safe=False)
        values: NDArray[np.float64] = array.to_numpy(zero_copy_only=False).astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        return values + 0.0

    def learn(self, values: NDArray[Any], score: NDArray[Any]) -> None:
        """Take the used rows' values into account: what values there are, and which rows are in the sample."""
        if not self.numeric:
            self.missing = self.missing or bool((values < 0).any())
            return
        there = ~np.isnan(values)
        self.missing = self.missing or not bool(there.all())
        values, score = values[there], score[there]
        if len(self.distinct) <= self.bins:
            self.distinct = np.union1d(self.distinct, values)[: self.bins + 1]
        hashes = np.zeros(len(values), np.uint64)
        mix_into(hashes, values.view(np.int64))
        mix_into(hashes, score.astype(np.float64).view(np.int64))
        self.hashes = np.concatenate([self.hashes, hashes])
        self.sample = np.concatenate([self.sample, values])
        if len(self.hashes) > 2 * SAMPLE:
            self._thin()

    def _thin(self) -> None:
        if len(self.hashes) > SAMPLE:
            order = np.argpartition(self.hashes, SAMPLE)[:SAMPLE]
            self.hashes, self.sample = self.hashes[order], self.sample[order]

    def classes(self) -> tuple[NDArray[np.float64], list[str]]:
        """Inner cuts (a value belongs to the class whose lower cut it has reached) and the classes' names."""
        if len(self.distinct) <= self.bins:
            return self.distinct[1:], [_short(v) for v in self.distinct]
        self._thin()
        ordered = np.sort(self.sample)
        ranks = (np.arange(1, self.bins) * len(ordered)) // self.bins
        cuts = np.unique(ordered[ranks])
        cuts = cuts[cuts > ordered[0]]
        edges = [float(ordered[0]), *map(float, cuts), float(ordered[-1])]
        digits = next((d for d in (4, 6, 9, 12) if len({f"{e:.{d}g}" for e in edges[:-1]}) == len(edges) - 1), 17)
        names = [f"{_short(a, digits)} to {_short(b, digits)}" for a, b in pairwise(edges)]
        return cuts, names


def finish(covariate: Covariate) -> tuple[tuple[str, ...], Any]:
    """The covariate's labels in order, and a function from waiting values to int32 codes into them."""
    if covariate.numeric:
        cuts, names = covariate.classes()
        missing = len(names)
        names += [MISSING] * covariate.missing

        def to_class(values: NDArray[Any]) -> NDArray[np.int32]:
            out = np.searchsorted(cuts, values, side="right").astype(np.int32)
            out[np.isnan(values)] = missing
            return out

        return tuple(names), to_class
    labels = sorted(covariate.book)
    rank = np.empty(len(labels) + 1, np.int32)
    for new, label in enumerate(labels):
        rank[covariate.book[label]] = new
    rank[-1] = len(labels)
    return (*labels, *[MISSING] * covariate.missing), lambda values: rank[values]


def numeric(kind: pa.DataType) -> bool:
    """Whether a covariate of this Arrow type is cut into classes."""
    return is_number(kind)


def _short(value: float, digits: int = 12) -> str:
    return f"{value:.{digits}g}"
