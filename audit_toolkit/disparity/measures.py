"""What is counted of verification scores: on a grid, by subject, by replicate, by stratum, and the list of false matches.

Each measure is frozen and says in ``parameters`` everything that shapes its counts, so that two states with equal headers
mean the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import cells
from audit_toolkit.core.fold import Batch, State, add, digest_arrays
from audit_toolkit.errors import AuditError

MOST_STATE_BYTES = 1_500_000_000


@dataclass(frozen=True, eq=False)
class Scheme:
    """What all measures of one audit share: the group of each subject, and the codebook it refers to."""

    group: NDArray[np.int32]
    groups: int
    codebook: str

    @property
    def subjects(self) -> int:
        """How many people the codebook holds."""
        return len(self.group)

    def header(self) -> dict[str, Any]:
        """The scheme as it enters every state's header."""
        return {"groups": self.groups, "group": digest_arrays({"group": self.group}), "codebook": self.codebook}


def _check(batch: Batch, edges: NDArray[Any]) -> None:
    if batch["score"].dtype != edges.dtype:
        raise AuditError(
            "Scores and thresholds are of different number types.", mend="Cast the edges to the scores' type."
        )


def _numbers(values: NDArray[Any]) -> list[float]:
    return [float(v) for v in values]


def _zero(**shapes: tuple[int, ...]) -> State:
    size = sum(8 * int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    if size > MOST_STATE_BYTES:
        raise AuditError(
            f"The counts would need {size / 1e9:.1f} GB of memory a thread.",
            mend="Ask for fewer thresholds, or for fewer attributes and intersections in one audit.",
        )
    return {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}


@dataclass(frozen=True, eq=False)
class GridCounts:
    """Comparisons by group pair and score level: ``nonmated`` [G, G, L], ``mated`` [G, L], L = len(edges) + 1."""

    scheme: Scheme
    edges: NDArray[Any]
    name = "verification scores on a grid"
    version = "1"

    def parameters(self) -> dict[str, Any]:
        """Scheme and edges; a long grid stands as its digest."""
        return {**self.scheme.header(), "edges": len(self.edges), "grid": digest_arrays({"edges": self.edges})}

    def zero(self) -> State:
        """No comparisons yet."""
        g, levels = self.scheme.groups, len(self.edges) + 1
        return _zero(nonmated=(g, g, levels), mated=(g, levels))

    def update(self, state: State, batch: Batch) -> None:
        """Count one batch."""
        _check(batch, self.edges)
        cells.count_grid(batch.arrays, self.scheme.group, self.edges, state["nonmated"], state["mated"])

    def merge(self, into: State, other: State) -> State:
        """Add."""
        return add(into, other)


@dataclass(frozen=True, eq=False)
class SubjectCounts:
    """Comparisons by person: ``nonmated`` [S, side, partner's group, level], ``mated`` [S, level]."""

    scheme: Scheme
    edges: NDArray[Any]
    name = "verification errors by subject"
    version = "1"

    def parameters(self) -> dict[str, Any]:
        """Scheme and thresholds."""
        return {**self.scheme.header(), "edges": _numbers(self.edges)}

    def zero(self) -> State:
        """No comparisons yet."""
        s, g, levels = self.scheme.subjects, self.scheme.groups, len(self.edges) + 1
        return _zero(nonmated=(s, 2, g, levels), mated=(s, levels))

    def update(self, state: State, batch: Batch) -> None:
        """Count one batch."""
        _check(batch, self.edges)
        cells.count_by_subject(batch.arrays, self.scheme.group, self.edges, state["nonmated"], state["mated"])

    def merge(self, into: State, other: State) -> State:
        """Add."""
        return add(into, other)


@dataclass(frozen=True, eq=False)
class ReplicateCounts:
    """Comparisons by cell and double-or-nothing replicate: ``replicate`` [(G*G + G) * L, B]."""

    scheme: Scheme
    edges: NDArray[Any]
    bits: NDArray[np.uint64]
    name = "verification errors by replicate"
    version = "1"

    def parameters(self) -> dict[str, Any]:
        """Scheme, thresholds, and the digest of the replicates' bits."""
        return {**self.scheme.header(), "edges": _numbers(self.edges), "bits": digest_arrays({"bits": self.bits})}

    def zero(self) -> State:
        """No comparisons yet."""
        g, levels = self.scheme.groups, len(self.edges) + 1
        return _zero(replicate=((g * g + g) * levels, self.bits.shape[1] * 64))

    def update(self, state: State, batch: Batch) -> None:
        """Count one batch."""
        _check(batch, self.edges)
        out = state["replicate"]
        cells.count_by_replicate(batch.arrays, self.scheme.group, self.scheme.groups, self.edges, self.bits, out)

    def merge(self, into: State, other: State) -> State:
        """Add."""
        return add(into, other)


@dataclass(frozen=True, eq=False)
class StratumCounts:
    """Within-group comparisons by person and covariate class at one threshold, for adjusted disparity.

    ``nonmated``, ``mated`` [S, X, (all, errors)]; ``cells`` [mated, groups, X, (all, errors)]. The scheme's groups are those
    of one axis.
    """

    scheme: Scheme
    covariate: str
    classes: int
    threshold: Any
    name = "verification errors by stratum"
    version = "1"

    def parameters(self) -> dict[str, Any]:
        """Scheme, covariate and threshold."""
        return {**self.scheme.header(), "covariate": self.covariate, "threshold": float(self.threshold)}

    def zero(self) -> State:
        """No comparisons yet."""
        s, g, x = self.scheme.subjects, self.scheme.groups, self.classes
        return _zero(nonmated=(s, x, 2), mated=(s, x, 2), cells=(2, g, x, 2))

    def update(self, state: State, batch: Batch) -> None:
        """Count one batch."""
        x = batch[f"x.{self.covariate}"]
        cells.count_by_stratum(
            batch.arrays, x, self.scheme.group, self.threshold, state["nonmated"], state["mated"], state["cells"]
        )

    def merge(self, into: State, other: State) -> State:
        """Add."""
        return add(into, other)


@dataclass(frozen=True, eq=False)
class FalseMatches:
    """The list of false matches at or above the lowest threshold: a sufficient statistic for resampling people.

    ``ref``, ``probe`` int32, ``level`` int8 (thresholds reached), ``weight`` int64, in a canonical order. Its size is known
    beforehand from the grid; the caller decides whether it may be held.
    """

    scheme: Scheme
    edges: NDArray[Any]
    name = "list of false matches"
    version = "1"

    def parameters(self) -> dict[str, Any]:
        """Scheme and thresholds."""
        return {**self.scheme.header(), "edges": _numbers(self.edges)}

    def zero(self) -> State:
        """An empty list."""
        return _sorted([], _LISTED)

    def update(self, state: State, batch: Batch) -> None:
        """Append one batch's false matches."""
        _check(batch, self.edges)
        found = cells.list_false_matches(batch.arrays, self.edges)
        for key, values in found.items():
            state[key] = np.concatenate([state[key], values])

    def merge(self, into: State, other: State) -> State:
        """Join and bring into the canonical order."""
        return _sorted([into, other], _LISTED)


_LISTED = {"ref": np.int32, "probe": np.int32, "level": np.int8, "weight": np.int64}


@dataclass(frozen=True, eq=False)
class ScoresInRange:
    """The scores inside one bin of the grid, [low, high): what a threshold policy is refined with.

    ``score`` (as ordered integers of the same width, so that the state stays integer), ``ref_group``, ``probe_group`` int16,
    ``mated`` uint8, ``weight`` int64; equal entries are summed into one, so what is held grows with distinct values only.
    """

    scheme: Scheme
    low: Any
    high: Any
    dtype: np.dtype[Any]
    name = "scores within one bin"
    version = "1"

    def parameters(self) -> dict[str, Any]:
        """Scheme and range."""
        return {**self.scheme.header(), "low": float(self.low), "high": float(self.high), "dtype": self.dtype.str}

    @property
    def _layout(self) -> dict[str, Any]:
        bits = np.int32 if self.dtype.itemsize == 4 else np.int64
        return {"score": bits, "ref_group": np.int16, "probe_group": np.int16, "mated": np.uint8, "weight": np.int64}

    def zero(self) -> State:
        """An empty list."""
        return _sorted([], self._layout)

    def update(self, state: State, batch: Batch) -> None:
        """Append one batch's scores in the range."""
        score = batch["score"]
        keep = np.flatnonzero((score >= self.low) & (score < self.high))
        weight = batch.get("weight")
        rows = {
            "score": score[keep].view(self._layout["score"]),
            "ref_group": self.scheme.group[batch["ref"][keep]].astype(np.int16),
            "probe_group": self.scheme.group[batch["probe"][keep]].astype(np.int16),
            "mated": batch["mated"][keep],
            "weight": np.ones(len(keep), np.int64) if weight is None else weight[keep],
        }
        state.update(_summed(_sorted([state, rows], self._layout)))

    def merge(self, into: State, other: State) -> State:
        """Join, in a canonical order, equal entries summed."""
        return _summed(_sorted([into, other], self._layout))


def _sorted(states: Sequence[State], layout: dict[str, Any]) -> State:
    joined = {
        key: np.concatenate([np.empty(0, dtype), *(s[key] for s in states)]).astype(dtype)
        for key, dtype in layout.items()
    }
    # lexsort takes its last key first; the weight, listed last, must come last, so that equal entries stand together.
    order = np.lexsort([joined[key] for key in reversed(layout)])
    return {key: values[order] for key, values in joined.items()}


def _summed(rows: State) -> State:
    """Equal neighbours of a sorted list become one, their weights added."""
    keys = [values for name, values in rows.items() if name != "weight"]
    if not len(keys[0]):
        return rows
    first = np.ones(len(keys[0]), np.bool_)
    first[1:] = np.logical_or.reduce([values[1:] != values[:-1] for values in keys])
    starts = np.flatnonzero(first)
    summed = {name: values[starts] for name, values in rows.items() if name != "weight"}
    return {**summed, "weight": np.add.reduceat(rows["weight"], starts)}
