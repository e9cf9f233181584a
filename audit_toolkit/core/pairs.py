"""All pairs of templates, counted: by group pair and score level, with the list of those that score highest.

Each unordered pair counts once, in the cell (lower group, higher group). A pair of one template with itself and a pair of two
templates of one picture are no comparisons. A tile is one matrix product followed by one pass over its scores while they are
in the cache; states are integers, so they do not depend on workers or on the order of tiles.

Promise: the same digest for any number of workers and any order of blocks on one BLAS library and processor kind (hold BLAS
to one thread with `audit_toolkit.core.tiles.one_blas_thread`). Across tile shapes, libraries and processors the float32
scores differ in their last bits; there `recount_at` and `false_matches` promise equal counts at asked thresholds, because
every pair within `fp32_bound` of a threshold is scored again in float64 in a fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import binning
from audit_toolkit.core.fold import Batch, State, digest_arrays
from audit_toolkit.core.nearest import top_k as top_k
from audit_toolkit.core.tiles import Prepared, fp32_bound, product, rescore, scratch
from audit_toolkit.errors import AuditError, StateError, UsageError

MOST_LISTED = 2_000_000
MOST_STATE_BYTES = 1_500_000_000
_LISTS = ("listed", "own")
_PARTS = ("i", "j", "score")

Thresholds = Sequence[float] | NDArray[Any]


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Counts of all pairs of templates, and two lists of pairs.

    ``nonmated`` [G, G, L] (upper triangle), ``mated`` [G, L], L = len(edges) + 1, level = edges at or below the score;
    ``excluded`` [G, G, (different subjects, same subject)] pairs of one picture. ``listed_i``, ``listed_j`` int32 (places in
    prepared order, i < j) and ``listed_score`` (float32 bits as int32): the non-mated pairs with a score at or above
    ``listed_from``, and those within `fp32_bound` of a threshold in ``near``; of more than ``most_listed`` the highest stay
    and ``listed_more`` counts the others. ``own_*``: the mated pairs, all or (more than ``most_own``) none.
    """

    prepared: Prepared
    edges: NDArray[np.float32]
    listed_from: float | None = None
    near: tuple[float, ...] = ()
    most_listed: int = MOST_LISTED
    most_own: int = MOST_LISTED
    name = "all pairs of templates on a grid"
    version = "1"

    def __post_init__(self) -> None:
        e = self.edges
        if e.dtype != np.float32 or e.ndim != 1 or not len(e) or not np.isfinite(e).all() or (e[1:] <= e[:-1]).any():
            raise UsageError("Edges are not ascending finite float32 numbers.")
        size = 8 * self.prepared.groups**2 * (len(e) + 1)
        if size > MOST_STATE_BYTES:
            raise AuditError(
                f"The counts would need {size / 1e9:.1f} GB of memory a thread.",
                mend="Ask for fewer attributes and intersections in one audit, or a coarser grid.",
            )

    @cached_property
    def _table(self) -> binning.Table:
        return binning.table(self.edges)

    @cached_property
    def _ranges(self) -> NDArray[np.float32]:
        """What is listed: disjoint closed ranges of float32 scores [K, 2], rounded outwards."""
        bound = fp32_bound(self.prepared)
        asked = [] if self.listed_from is None else [(float(self.listed_from), float(np.inf))]
        asked += [(t - bound, t + bound) for t in self.near]
        joined: list[list[np.float32]] = []
        for low, high in sorted(asked):
            a, b = _down(low), -_down(-high)
            if joined and a <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], b)
            else:
                joined.append([a, b])
        return np.array(joined, np.float32).reshape(-1, 2)

    @property
    def lists_mates(self) -> bool:
        """Whether the mated pairs are few enough to be listed."""
        return self.prepared.mated_pairs <= self.most_own

    def parameters(self) -> dict[str, Any]:
        """The templates' digest, tile, edges and what is listed."""
        return {
            "templates": self.prepared.digest,
            "metric": self.prepared.metric,
            "tile": self.prepared.tile,
            "groups": self.prepared.groups,
            "edges": len(self.edges),
            "grid": digest_arrays({"edges": self.edges}),
            "listed_from": None if self.listed_from is None else float(self.listed_from),
            "near": [float(t) for t in self.near],
            "most_listed": self.most_listed,
            "most_own": self.most_own,
        }

    def zero(self) -> State:
        """No pairs yet."""
        g, levels = self.prepared.groups, len(self.edges) + 1
        lists = {f"{name}_{part}": np.empty(0, np.int32) for name in _LISTS for part in _PARTS}
        return {
            "nonmated": np.zeros((g, g, levels), np.int64),
            "mated": np.zeros((g, levels), np.int64),
            "excluded": np.zeros((g, g, 2), np.int64),
            "listed_more": np.zeros(1, np.int64),
            **lists,
        }

    def update(self, state: State, batch: Batch) -> None:
        """Score and count a few tiles."""
        p, table, t = self.prepared, self._table, self.prepared.tile
        todo = np.ascontiguousarray(batch["tile"], np.int32)
        room = 2 * t * t
        found, scores = scratch("pairs", (room, 2), np.int32), scratch("pair scores", (room,), np.float32)
        own, own_scores = scratch("own", (room, 2), np.int32), scratch("own scores", (room,), np.float32)
        done = 0
        while done < len(todo):
            done, n, mates = _count_tiles(
                todo, done, p.rows, p.squares, p.metric == "l2", p.n, scratch("scores", (t, t), np.float32),
                p.group, p.end, p.image, p.chain_of, p.chain_start, p.chain, table.edges, table.base, table.cell,
                table.odd, table.per, table.first, table.last, table.direct, self._ranges,
                scratch("begin", (t,), np.int64), scratch("slot", (t,), np.uint32),
                scratch("hist", (binning.LANES, table.cells), np.int32), scratch("reach", (len(table.odd),), np.int64),
                scratch("flagged", (t,), np.int32), found, scores, own, own_scores, self.lists_mates,
                state["nonmated"], state["mated"], state["excluded"],
            )  # fmt: skip
            _append(state, "listed", found[:n], scores[:n])
            _append(state, "own", own[:mates], own_scores[:mates])
            if len(state["listed_i"]) > 2 * self.most_listed + room:
                _cut(state, self.most_listed)

    def merge(self, into: State, other: State) -> State:
        """Add the counts; join the lists, sorted by pair, the highest ``most_listed`` kept."""
        if into.keys() != other.keys() or into["nonmated"].shape != other["nonmated"].shape:
            raise StateError("Counts of different shapes cannot be added.", mend="Fold both parts with one measure.")
        out = {k: into[k] + other[k] for k in ("nonmated", "mated", "excluded", "listed_more")}
        for name in _LISTS:
            for part in _PARTS:
                key = f"{name}_{part}"
                out[key] = np.concatenate([into[key], other[key]])
        _cut(out, self.most_listed)
        _sort(out, "own")
        return out


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _count_tiles(
    todo: Any, done: int, rows: Any, squares: Any, l2: bool, n: int, scores: Any, group: Any, end: Any, image: Any,
    chain_of: Any, chain_start: Any, chain: Any, edges: Any, base: Any, cell: Any, odd: Any, per: Any, first: int, last: int,
    direct: bool, ranges: Any, begin: Any, slot: Any, hist: Any, reach: Any, flagged: Any, found: Any, found_score: Any,
    own: Any, own_score: Any, list_own: bool, nonmated: Any, mated: Any, excluded: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Tiles ``todo[done:]`` until one of the two lists might not hold another tile; (tiles done, pairs and mates listed).

    Product and counting stand in one compiled loop: an interpreter between them finds its caches emptied by every product.
    """
    t = len(scores)
    listed, mates = 0, 0
    while done < len(todo) and max(listed, mates) + t * t <= len(found):
        i0, j0 = np.int64(todo[done, 0]) * t, np.int64(todo[done, 1]) * t
        product(rows, squares, l2, i0, j0, t, scores)
        listed, mates = binning.count_tile(
            scores, i0, j0, min(t, n - i0), min(t, n - j0), group, end, image, chain_of, chain_start, chain, edges, base,
            cell, odd, per, first, last, direct, ranges, begin, slot, hist, reach, flagged, found, found_score, own,
            own_score, list_own, nonmated, mated, excluded, listed, mates,
        )  # fmt: skip
        done += 1
    return done, listed, mates


def _down(value: float) -> np.float32:
    """The largest float32 at or below a float64."""
    near = np.float32(value)
    return near if float(near) <= value else np.nextafter(near, np.float32(-np.inf))


def _append(state: State, name: str, pairs: NDArray[np.int32], scores: NDArray[np.float32]) -> None:
    """Append to a list; its arrays are the beginnings of larger ones, so that appending costs what is appended."""
    if not len(pairs):
        return
    for part, values in zip(_PARTS, (pairs[:, 0], pairs[:, 1], scores.view(np.int32)), strict=True):
        key = f"{name}_{part}"
        held = state[key]
        n, m = len(held), len(held) + len(values)
        room = held.base
        if not (isinstance(room, np.ndarray) and room.shape[0] >= m and room.ctypes.data == held.ctypes.data):
            room = np.empty(max(1024, m + m // 2), np.int32)
            room[:n] = held
        room[n:m] = values
        state[key] = room[:m]


def _take(state: State, name: str, order: NDArray[Any]) -> None:
    for part in _PARTS:
        state[f"{name}_{part}"] = state[f"{name}_{part}"][order]


def _sort(state: State, name: str) -> None:
    key = state[f"{name}_i"].astype(np.int64) << 32 | state[f"{name}_j"]
    if (key[1:] <= key[:-1]).any():
        _take(state, name, np.argsort(key))


def _cut(state: State, most: int) -> None:
    """Sort the list by pair and keep the ``most`` highest scores, ties by pair: the same whatever was merged when."""
    _sort(state, "listed")
    extra = len(state["listed_i"]) - most
    if extra > 0:
        scores = state["listed_score"].view(np.float32)
        kept = np.sort(np.argsort(-scores, kind="stable")[:most])
        _take(state, "listed", kept)
        state["listed_more"] += extra


def complete_from(measure: PairCounts, state: State) -> float:
    """The lowest threshold at which the list holds every pair that can match; infinity where nothing is listed."""
    if measure.listed_from is None:
        return float("inf")
    low = float(_down(measure.listed_from))
    if int(state["listed_more"][0]):
        kept = state["listed_score"].view(np.float32)
        low = float(np.nextafter(kept.min(), np.float32(np.inf))) if len(kept) else float("inf")
    return low + fp32_bound(measure.prepared)


def false_matches(measure: PairCounts, state: State, thresholds: Thresholds) -> dict[str, NDArray[Any]]:
    """The non-mated pairs that reach the lowest of ascending ``thresholds``: ``i``, ``j`` int32, ``level`` int8.

    Level = thresholds reached, by the float64 score; places in prepared order, sorted. Raises `AuditError` where the list is
    not complete down to the lowest threshold.
    """
    asked = np.asarray(thresholds, np.float64)
    if len(asked) and not asked[0] >= complete_from(measure, state):
        raise AuditError(
            "The list of pairs does not reach down to the lowest threshold.",
            mend="List from a lower score, allow a longer list, or ask for a higher threshold.",
        )
    score = state["listed_score"].view(np.float32).astype(np.float64)
    bound = fp32_bound(measure.prepared)
    score = _settled(measure.prepared, state["listed_i"], state["listed_j"], score, asked, bound)
    level = np.searchsorted(asked, score, side="right").astype(np.int8)
    keep = np.flatnonzero(level)
    return {"i": state["listed_i"][keep], "j": state["listed_j"][keep], "level": level[keep]}


def _settled(
    prepared: Prepared, i: NDArray[Any], j: NDArray[Any], score: NDArray[np.float64], asked: Any, bound: float
) -> NDArray[np.float64]:
    """Scores with every one within ``bound`` of an asked threshold replaced by its float64 value."""
    if not len(asked) or not len(score):
        return score
    k = np.searchsorted(asked, score)
    below = np.abs(score - asked[np.maximum(k - 1, 0)])
    above = np.abs(score - asked[np.minimum(k, len(asked) - 1)])
    close = np.flatnonzero(np.minimum(below, above) <= bound)
    out = score.copy()
    out[close] = rescore(prepared, i[close], j[close])
    return out


def recount_at(measure: PairCounts, state: State, thresholds: Thresholds) -> dict[str, NDArray[np.int64]]:
    """Counts at asked thresholds by float64 scores: ``nonmated`` [G, G, 1 + T], ``mated`` [G, 1 + T].

    Index 0: all comparisons; 1 + t: those at or above threshold t (ascending). A threshold must either be an edge of the
    grid and stand in ``near`` (or above ``listed_from``), or the list must be complete from it. Equal for every tile shape,
    BLAS library and processor. Raises `AuditError` where the list does not hold what is needed.
    """
    p = measure.prepared
    asked = np.asarray(thresholds, np.float64)
    bound = fp32_bound(p)
    i, j = state["listed_i"], state["listed_j"]
    single = state["listed_score"].view(np.float32).astype(np.float64)
    exact = _settled(p, i, j, single, asked, bound)
    cell = p.group[i].astype(np.int64) * p.groups + p.group[j]
    shape = (p.groups, p.groups)
    out = np.zeros((*shape, 1 + len(asked)), np.int64)
    out[:, :, 0] = state["nonmated"].sum(axis=2)
    full = complete_from(measure, state)
    cut = float(single.min()) if int(state["listed_more"][0]) and len(single) else -np.inf
    if int(state["listed_more"][0]) and not len(single):
        cut = np.inf
    for t, value in enumerate(asked):
        if value >= full:
            out[:, :, 1 + t] = np.bincount(cell[exact >= value], minlength=p.groups**2).reshape(shape)
            continue
        k = int(np.searchsorted(measure.edges, np.float32(value)))
        on_grid = k < len(measure.edges) and float(measure.edges[k]) == value
        if not on_grid or not _holds(measure, value - bound, value + bound) or not value - bound > cut:
            raise AuditError(
                "The counts at a threshold cannot be settled: the pairs near it were not all listed.",
                mend="Name the threshold as an edge and among the thresholds whose neighbourhood is listed.",
            )
        change = (exact >= value).astype(np.int64) - (single >= value)
        moved = np.bincount(cell, weights=change, minlength=p.groups**2).reshape(shape)
        out[:, :, 1 + t] = state["nonmated"][:, :, k + 1 :].sum(axis=2) + moved.astype(np.int64)
    by_person = mated_at(p, asked)
    mated = np.zeros((p.groups, 1 + len(asked)), np.int64)
    np.add.at(mated, group_of_subject(p), by_person)
    return {"nonmated": out, "mated": mated}


def _holds(measure: PairCounts, low: float, high: float) -> bool:
    return any(float(a) <= low and high <= float(b) for a, b in measure._ranges)


def group_of_subject(prepared: Prepared) -> NDArray[np.int32]:
    """The group of each subject code; 0 for a code without a template (it has no comparison either)."""
    out = np.zeros(prepared.subjects, np.int32)
    out[prepared.subject] = prepared.group
    return out


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def _mates(end: Any, image: Any, first: int, last: int, i: Any, j: Any) -> int:
    """Write the mated pairs whose first template stands in [first, last); returns how many."""
    at = 0
    for a in range(first, last):
        for b in range(a + 1, end[a]):
            if image[a] < 0 or image[a] != image[b]:
                i[at], j[at] = a, b
                at += 1
    return at


def mated_at(prepared: Prepared, thresholds: Thresholds) -> NDArray[np.int64]:
    """Mated comparisons by subject [S, 1 + T]: all, then those at or above each threshold, by float64 scores."""
    asked = np.asarray(thresholds, np.float64)
    out = np.zeros((prepared.subjects, 1 + len(asked)), np.int64)
    length = prepared.end.astype(np.int64) - np.arange(prepared.n) - 1
    running = np.concatenate([[0], np.cumsum(length)])
    first = 0
    while first < prepared.n:
        # About a million pairs at a time, at least one template.
        last = max(first + 1, int(np.searchsorted(running, running[first] + (1 << 20), side="right")) - 1)
        room = int(running[last] - running[first])
        i, j = np.empty(room, np.int32), np.empty(room, np.int32)
        n = int(_mates(prepared.end, prepared.image, first, last, i, j))
        i, j = i[:n], j[:n]
        score = rescore(prepared, i, j)
        who = prepared.subject[i]
        out[:, 0] += np.bincount(who, minlength=prepared.subjects)
        for t, value in enumerate(asked):
            out[:, 1 + t] += np.bincount(who[score >= value], minlength=prepared.subjects)
        first = last
    return out


def by_subject(
    measure: PairCounts, state: State, thresholds: Thresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Comparisons by person: ``nonmated`` [S, side, partner's group, 1 + T] and ``mated`` [S, 1 + T], cumulated.

    Index 0 holds all comparisons, 1 + t those at or above threshold t (ascending), by float64 scores. Side 0 is the subject
    whose template stands first in prepared order, side 1 the other; so a pair across groups stands at side 0 of the lower
    group's subject. Totals are in closed form less the excluded pairs. Raises `AuditError` where the list is not complete
    down to the lowest threshold.
    """
    return by_subject_of(measure.prepared, false_matches(measure, state, thresholds), thresholds)


def by_subject_of(
    p: Prepared, matches: dict[str, NDArray[Any]], thresholds: Thresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`by_subject` from the false matches themselves (``i``, ``j``, ``level``), whichever way they were found."""
    asked = np.asarray(thresholds, np.float64)
    s, g = p.subjects, p.groups
    if 16 * s * g * (1 + len(asked)) > MOST_STATE_BYTES:
        raise AuditError("The counts by subject would not fit into memory.", mend="Ask for fewer groups or thresholds.")
    nonmated = np.zeros((s, 2, g, 1 + len(asked)), np.int64)
    nonmated[:, :, :, 0] = _totals(p)
    for t in range(len(asked)):
        keep = matches["level"] > t
        i, j = matches["i"][keep], matches["j"][keep]
        for side, (one, other) in enumerate(((i, j), (j, i))):
            cell = p.subject[one].astype(np.int64) * g + p.group[other]
            nonmated[:, side, :, 1 + t] = np.bincount(cell, minlength=s * g).reshape(s, g)
    return nonmated, mated_at(p, asked)


def _totals(p: Prepared) -> NDArray[np.int64]:
    """Non-mated comparisons of each subject by side and partner's group [S, 2, G]."""
    out = np.zeros((p.subjects, 2, p.groups), np.int64)
    size = np.bincount(p.group, minlength=p.groups).astype(np.int64)
    if not p.n:
        return out
    starts = np.flatnonzero(np.append(True, p.subject[1:] != p.subject[:-1]))
    who, home = p.subject[starts], p.group[starts]
    own = np.diff(np.append(starts, p.n))
    offset = np.concatenate([[0], np.cumsum(size)])
    for h in range(p.groups):
        after = np.where(home < h, size[h], np.where(home == h, offset[h + 1] - starts - own, 0))
        before = np.where(home > h, size[h], np.where(home == h, starts - offset[h], 0))
        out[who, 0, h] = own * after
        out[who, 1, h] = own * before
    for a, b in zip(p.chain_start[:-1], p.chain_start[1:], strict=True):  # pictures of several people
        members = p.chain[a:b]
        people, first, n = np.unique(p.subject[members], return_index=True, return_counts=True)
        order = np.argsort(first)  # members stand in prepared order, so people do too
        people, n = people[order], n[order]
        home = p.group[members[first[order]]]
        for k in range(len(people)):
            later, earlier = n * (np.arange(len(n)) > k), n * (np.arange(len(n)) < k)
            out[people[k], 0] -= n[k] * np.bincount(home, later, p.groups).astype(np.int64)
            out[people[k], 1] -= n[k] * np.bincount(home, earlier, p.groups).astype(np.int64)
    return out
