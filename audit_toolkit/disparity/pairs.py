"""How often each pair of people was compared: needed only by the U-statistic alternatives.

Bounded: the list is held in memory up to a stated number of rows, and refused beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.fold import Batch, State
from audit_toolkit.disparity.measures import Scheme

MOST_PAIRS = 20_000_000


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Non-mated comparisons by ordered pair and level.

    ``pair`` uint64 (reference * 2^32 + probe), ``level`` int8 (thresholds reached), ``n`` int64.
    """

    scheme: Scheme
    edges: NDArray[Any]
    name = "comparisons by pair of subjects"
    version = "1"

    def parameters(self) -> dict[str, Any]:
        """Scheme and thresholds."""
        return {**self.scheme.header(), "edges": [float(e) for e in self.edges]}

    def zero(self) -> State:
        """No pairs yet."""
        return {"pair": np.empty(0, np.uint64), "level": np.empty(0, np.int8), "n": np.empty(0, np.int64)}

    def update(self, state: State, batch: Batch) -> None:
        """Add one batch's pairs."""
        keep = np.flatnonzero(batch["mated"] == 0)
        weight = batch.get("weight")
        rows = {
            "pair": batch["ref"][keep].astype(np.uint64) << np.uint64(32) | batch["probe"][keep].astype(np.uint64),
            "level": np.searchsorted(self.edges, batch["score"][keep], side="right").astype(np.int8),
            "n": np.ones(len(keep), np.int64) if weight is None else weight[keep],
        }
        state.update(_joined([state, rows]))

    def merge(self, into: State, other: State) -> State:
        """Join, equal entries summed."""
        return _joined([into, other])


def _joined(states: list[State]) -> State:
    pair, level, n = (np.concatenate([s[k] for s in states]) for k in ("pair", "level", "n"))
    order = np.lexsort([level, pair])
    pair, level, n = pair[order], level[order], n[order]
    if not len(pair):
        return {"pair": pair, "level": level, "n": n}
    starts = np.flatnonzero(np.append(True, (pair[1:] != pair[:-1]) | (level[1:] != level[:-1])))
    return {"pair": pair[starts], "level": level[starts], "n": np.add.reduceat(n, starts)}


def pair_square(pairs: State, group: NDArray[np.int32], cells: NDArray[np.bool_], level: int, rate: float) -> float:
    """Sum over unordered pairs of (errors - rate * comparisons)^2 within the marked group cells."""
    ref = (pairs["pair"] >> np.uint64(32)).astype(np.int64)
    probe = (pairs["pair"] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    keep = cells[group[ref], group[probe]]
    ref, probe, n = ref[keep], probe[keep], pairs["n"][keep]
    wrong = n * (pairs["level"][keep] >= level)
    key = np.minimum(ref, probe) << 32 | np.maximum(ref, probe)
    _, where = np.unique(key, return_inverse=True)
    d = np.bincount(where, weights=wrong - rate * n)
    return float(d @ d)
