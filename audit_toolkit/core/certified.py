"""Count all pairs of templates with 8-bit products, and score exactly every pair that these cannot decide.

Why: nearly every pair of two people's templates lies far below every threshold that anybody asks for, and 8-bit integer
products, where the processor has instructions for them, run several times as fast as 32-bit floating point ones.

How: with a = s q + r (see `int8`), a.b = s_a s_b (q_a.q_b) + (s_a q_a).r_b + r_a.b, so by the Cauchy-Schwarz inequality the
integer product is within |s_a q_a| |r_b| + |r_a| |b| of the truth. A pair whose interval ends below the lowest threshold is
below it. Every other pair is scored in float64, in one fixed order of operations, and only that score decides.

Promises: at the asked thresholds the counts are those of scoring every pair exactly, whatever the threads, the tile's
shape or the processor. Rows that fit 8 bits badly cost time, never a count.

Does not promise: counts on a grid of thresholds, or any score below the lowest one (such pairs are never scored); distances
(L2); speed where the lowest threshold lets many pairs through. `choose_path` measures that, and says which way it went.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.fold import State
from audit_toolkit.core.int8 import BLOCK, Multiplier, Quantised, open_session, quantise, why_not
from audit_toolkit.core.pairs import Thresholds, group_of_subject, mated_at
from audit_toolkit.core.tiles import Prepared, one_blas_thread, rescore
from audit_toolkit.errors import AuditError, UsageError

Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""progress(pairs done, pairs in all); called from the worker threads, one at a time."""

CERTIFIED, FLOAT32 = "certified-int8", "float32"
MOST_THRESHOLDS = 16
MOST_LISTED = 8_000_000

_jit = nb.njit(nogil=True, cache=True)


@dataclass(frozen=True, slots=True, eq=False)
class Above:
    """Counts at the asked thresholds (ascending), and the non-mated pairs that reach the lowest one.

    ``nonmated`` int64 [G, G, 1 + T] (first group <= second) and ``mated`` [G, 1 + T], as `pairs.recount_at` gives them: index 0
    all comparisons, 1 + t those at or above threshold t; ``mated_by_subject`` [S, 1 + T] as `pairs.mated_at`. ``excluded``
    [G, G, (different subjects, same subject)]: pairs of one picture. ``i`` < ``j`` int32 (places in prepared order) and
    ``score`` float64: the pairs, sorted. ``overflow``: how many pairs a list longer than allowed would have held; the list is
    then empty, and the counts are whole all the same. ``rescored``: non-mated pairs that the 8-bit interval left undecided.
    """

    thresholds: NDArray[np.float64]
    nonmated: Ints
    mated: Ints
    mated_by_subject: Ints
    excluded: Ints
    i: NDArray[np.int32]
    j: NDArray[np.int32]
    score: NDArray[np.float64]
    overflow: int
    rescored: int

    def counts(self) -> State:
        """The counts at the asked thresholds as named integer arrays, equal to those of `pairs.recount_at`."""
        return {"nonmated": self.nonmated, "mated": self.mated}

    def matches(self) -> dict[str, NDArray[Any]]:
        """The listed pairs as `pairs.false_matches` gives them. Raises `AuditError` where the list was too long."""
        if self.overflow:
            raise AuditError(
                f"{self.overflow:,} pairs reach the lowest threshold, more than the list may hold.",
                mend="Ask for a higher threshold, or allow a longer list.",
            )
        level = np.searchsorted(self.thresholds, self.score, side="right").astype(np.int8)
        return {"i": self.i, "j": self.j, "level": level}


@dataclass(frozen=True, slots=True)
class ScoringPath:
    """Which way the pairs are scored, and why; ``trial``: nanoseconds a pair on one thread, by way."""

    name: str
    reason: str
    trial: dict[str, float] = field(default_factory=dict)


@_jit
def _undecided(products: Any, scale_a: Any, size: Any, residual: Any, scale_b: Any, residual_b: Any, norm_b: Any,
               floor: Any, out: Any) -> None:  # fmt: skip
    """How many pairs of each row and each 64 columns may reach the floor: int32 [rows, columns / 64].

    Kept apart from what follows, and this plain, so that the compiler makes vector instructions of it.
    """
    height, width = products.shape
    for r in range(height):
        s, s_size, s_residual = scale_a[r], size[r], residual[r]
        for block in range(width >> 6):
            hits = np.int32(0)
            for k in range(64):
                c = (block << 6) + k
                high = np.float32(products[r, c]) * scale_b[c] * s + (s_size * residual_b[c] + s_residual * norm_b[c])
                # Not "high >= floor": a sum that is not a number, from an overflow, has decided nothing.
                hits += np.int32(not (high < floor))
            out[r, block] = hits


@_jit
def _collect(
    products: Any, undecided: Any, first_i: int, first_j: int, rows: int, scale: Any, size: Any, residual: Any, norm: Any,
    floor: Any, end: Any, image: Any, at: int, out_i: Any, out_j: Any,
) -> int:  # fmt: skip
    """Write down a tile's undecided non-mated pairs i < j of different pictures, from place ``at`` on; the place after them."""
    height, width = products.shape
    for r in range(min(height, rows - first_i)):
        i = first_i + r
        for block in range(width >> 6):
            if undecided[r, block] == 0:
                continue
            for k in range(64):
                c = (block << 6) + k
                j = first_j + c
                # Sorted by subject: mates stand between i and end[i].
                if j < end[i] or j >= rows:
                    continue
                high = np.float32(products[r, c]) * scale[j] * scale[i] + (
                    size[i] * residual[j] + residual[i] * norm[j]
                )
                if high < floor or (image[i] >= 0 and image[i] == image[j]):
                    continue
                out_i[at], out_j[at] = i, j
                at += 1
    return at


@_jit
def _count(i: Any, j: Any, score: Any, thresholds: Any, group: Any, nonmated: Any) -> int:
    """Count scored pairs by group cell, and move those that reach the lowest threshold to the front; how many do."""
    listed = 0
    for p in range(len(score)):
        level = 0
        while level < len(thresholds) and score[p] >= thresholds[level]:
            level += 1
            nonmated[group[i[p]], group[j[p]], level] += 1
        if level:
            i[listed], j[listed], score[listed] = i[p], j[p], score[p]
            listed += 1
    return listed


class _Worker:
    """What one thread holds: its buffers, and the counts at and above the asked thresholds."""

    def __init__(self, q: Quantised, thresholds: NDArray[np.float64]) -> None:
        p = q.prepared
        self._q, self._thresholds = q, thresholds
        self._floor = floor_of(float(thresholds[0]))
        self._multiplier = Multiplier(open_session(p.tile, p.rows.shape[1]), p.tile)
        self._undecided = np.empty((p.tile, p.tile // BLOCK), np.int32)
        self._waiting = 0
        self._i, self._j = (np.empty(4 * p.tile * p.tile, np.int32) for _ in range(2))
        self.nonmated: Ints = np.zeros((p.groups, p.groups, 1 + len(thresholds)), np.int64)
        self.rescored = 0

    def columns(self, first_j: int) -> None:
        """Make the tile that starts at this template the second side."""
        self._first_j = first_j
        self._multiplier.columns(self._q.codes[first_j : first_j + self._q.prepared.tile])

    def rows(self, first_i: int) -> bool:
        """Test the tile of these rows with the columns; whether the undecided pairs fill the room and must be settled."""
        q, p, first_j = self._q, self._q.prepared, self._first_j
        a, b = slice(first_i, first_i + p.tile), slice(first_j, first_j + p.tile)
        products = self._multiplier.rows(q.codes[a])
        _undecided(products, q.scale[a], q.size[a], q.residual[a], q.scale[b], q.residual[b], q.norm[b], self._floor,
                   self._undecided)  # fmt: skip
        self._waiting = _collect(
            products, self._undecided, first_i, first_j, p.n, q.scale, q.size, q.residual, q.norm, self._floor,
            p.end, p.image, self._waiting, self._i, self._j,
        )  # fmt: skip
        return self._waiting + p.tile * p.tile > len(self._i)

    def settle(self) -> tuple[NDArray[Any], ...]:
        """Score the undecided pairs so far; i, j and score of those that reach the lowest threshold, until the next call.

        Done for a whole stripe at once: its columns then stay in the cache and its rows come in order.
        """
        p, i, j = self._q.prepared, self._i[: self._waiting], self._j[: self._waiting]
        score = rescore(p, i, j)
        listed = _count(i, j, score, self._thresholds, p.group, self.nonmated)
        self.rescored += self._waiting
        self._waiting = 0
        return i[:listed], j[:listed], score[:listed]


def floor_of(threshold: float) -> np.float32:
    """A float32 a little below a threshold: by more than float32's underflow can hide."""
    with np.errstate(under="ignore", over="ignore"):
        lower: np.float32 = np.nextafter(np.float32(threshold - 2.0**-100), np.float32(-np.inf))
    return lower


def count_above(
    q: Quantised,
    thresholds: Thresholds,
    *,
    workers: int = 2,
    most_listed: int = MOST_LISTED,
    progress: Progress | None = None,
) -> Above:
    """Every comparison of two templates, counted exactly at each threshold, and the false matches listed.

    ``thresholds``: one to sixteen in the score's units (match iff the float64 score >= threshold), ascending.

    Raises `UsageError` for thresholds that cannot be meant, `MissingExtraError` without onnxruntime, and `AuditError` where
    this processor's 8-bit products are not exact.
    """
    p = q.prepared
    asked = _asked(thresholds)
    open_session(p.tile, p.rows.shape[1])
    lock, stop = threading.Lock(), threading.Event()
    kept: list[tuple[NDArray[Any], ...]] = []
    done = listed = 0
    stripes = iter(reversed(range(p.blocks)))  # the longest first
    every = p.pairs

    def keep(found: tuple[NDArray[Any], ...]) -> None:
        nonlocal listed
        with lock:
            listed += len(found[0])
            if listed > most_listed:
                kept.clear()
            elif len(found[0]):
                kept.append(tuple(part.copy() for part in found))

    def stripe(worker: _Worker, first_j: int) -> None:
        """All tiles above one tile of the diagonal, and that tile."""
        nonlocal done
        worker.columns(first_j)
        for first_i in range(0, first_j + 1, p.tile):
            if stop.is_set():
                return
            if worker.rows(first_i):
                keep(worker.settle())
        keep(worker.settle())
        if progress is not None:
            here = min(p.tile, p.n - first_j)
            with lock:
                done += here * first_j + here * (here - 1) // 2
                progress(done, every)

    def work() -> _Worker:
        worker = _Worker(q, asked)
        try:
            while not stop.is_set():
                with lock:
                    k = next(stripes, None)
                if k is None:
                    break
                stripe(worker, k * p.tile)
        except BaseException:
            stop.set()
            raise
        return worker

    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = [pool.submit(work) for _ in range(max(1, workers))]
        try:
            finished = [future.result() for future in futures]
        except BaseException:
            stop.set()
            raise
    nonmated = np.add.reduce([w.nonmated for w in finished])
    nonmated[:, :, 0], excluded = nonmated_totals(p)
    by_subject = mated_at(p, asked)
    mated = np.zeros((p.groups, 1 + len(asked)), np.int64)
    np.add.at(mated, group_of_subject(p), by_subject)
    overflow = listed if listed > most_listed else 0
    rescored = sum(w.rescored for w in finished)
    return Above(asked, nonmated, mated, by_subject, excluded, *_in_order(kept), overflow, rescored)


def nonmated_totals(prepared: Prepared) -> tuple[Ints, Ints]:
    """How many non-mated comparisons there are by group cell, without making them, and how many pairs are left out.

    ``totals`` [G, G] (first group <= second), ``excluded`` [G, G, (different subjects, same subject)]: pairs of one picture.
    """
    p = prepared
    size = np.bincount(p.group, minlength=p.groups).astype(np.int64)
    mates = np.zeros(p.groups, np.int64)
    np.add.at(mates, p.group, p.end - np.arange(p.n) - 1)
    excluded = np.zeros((p.groups, p.groups, 2), np.int64)
    _, which, times = np.unique(p.image, return_inverse=True, return_counts=True)
    again = (p.image >= 0) & (times[which] > 1)
    if again.any():
        subject, group = p.subject[again], p.group[again]
        _, which = np.unique(which[again], return_inverse=True)
        by_image = np.zeros((int(which.max()) + 1, p.groups), np.int64)
        np.add.at(by_image, (which, group), 1)
        # One person cut out twice of one picture.
        _, first, times = np.unique(np.stack([which, subject], 1), axis=0, return_index=True, return_counts=True)
        twice = np.zeros(p.groups, np.int64)
        np.add.at(twice, group[first], times * (times - 1) // 2)
        excluded[:, :, 1] = np.diag(twice)
        excluded[:, :, 0] = _unordered(by_image.T @ by_image, by_image.sum(0)) - excluded[:, :, 1]
    return _unordered(np.outer(size, size), size) - np.diag(mates) - excluded[:, :, 0], excluded


def _unordered(ordered: Ints, itself: Ints) -> Ints:
    """Unordered pairs by cell (first <= second) from ordered ones that hold each template with itself."""
    out: Ints = np.triu(ordered)
    diagonal = np.arange(len(out))
    out[diagonal, diagonal] = (out[diagonal, diagonal] - itself) // 2
    return out


def _asked(thresholds: Thresholds) -> NDArray[np.float64]:
    asked = np.asarray(thresholds, np.float64)
    if asked.ndim != 1 or not 1 <= len(asked) <= MOST_THRESHOLDS or not np.isfinite(asked).all():
        raise UsageError(f"The 8-bit path counts at one to {MOST_THRESHOLDS} finite thresholds.")
    if (asked[1:] <= asked[:-1]).any():
        raise UsageError("The thresholds are not ascending.", mend="Sort them, each once.")
    return asked


def _in_order(kept: list[tuple[NDArray[Any], ...]]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    if not kept:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float64)
    i, j, score = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    order = np.lexsort((j, i))
    return i[order], j[order], score[order]


def choose_path(
    prepared: Prepared, thresholds: Thresholds, *, seconds: float = 0.05, must_gain: float = 1.2, workers: int = 2
) -> tuple[ScoringPath, Quantised | None]:
    """Try both ways on a few tiles of these very templates; the way to take, and for the 8-bit one what it needs.

    Tiles are spread over the matrix and taken in turns, on one thread: 32-bit products alone (nothing counted, in their
    favour) against 8-bit products with their test and exact scoring at these thresholds. The 8-bit way is taken where it is at
    least ``must_gain`` times as fast. Another machine or day may choose otherwise; the counts at the asked thresholds are the
    same either way. ``seconds``: about how long the trial lasts, apart from quantising, opening a session and first calls.
    """
    p, asked = prepared, _asked(thresholds)
    whole = p.n // p.tile
    if whole < 2:
        return ScoringPath(FLOAT32, f"Fewer than {2 * p.tile:,} templates are too few to gain."), None
    refusal = why_not(p)
    if refusal is not None:
        return ScoringPath(FLOAT32, refusal), None
    try:
        open_session(p.tile, p.rows.shape[1])
    except AuditError as error:
        return ScoringPath(FLOAT32, error.what), None
    q = quantise(p, workers=workers)
    worker = _Worker(q, asked)
    scores = np.empty((p.tile, p.tile), np.float32)

    # The thread's own processor time, where the system counts it finely: others' work does not decide then.
    fine = time.get_clock_info("thread_time").resolution < 1e-5
    clock = time.thread_time if fine else time.perf_counter

    def turn(k: int) -> tuple[float, float]:
        """Seconds of one tile, by 32-bit and by 8-bit products."""
        # Weyl sequences of two irrational steps: any number of first terms is spread evenly over the tiles.
        i, j = sorted(int(k * step % 1 * whole) * p.tile for step in (0.7548776662466927, 0.5698402909980532))
        start = clock()
        np.matmul(p.rows[i : i + p.tile], p.rows[j : j + p.tile].T, out=scores)
        middle = clock()
        worker.columns(j)
        turned = clock()
        worker.rows(i)
        worker.settle()
        # The columns serve a whole stripe of tiles, of which there are this many on average.
        share = (turned - middle) * 2 / (p.blocks + 1)
        return middle - start, clock() - turned + share

    with one_blas_thread():
        turn(0)
        turns: list[tuple[float, float]] = []
        end = time.perf_counter() + seconds
        while len(turns) < 3 or time.perf_counter() < end:
            turns.append(turn(1 + len(turns)))
    pairs = p.tile * p.tile * len(turns)
    trial = {name: max(1e-9, sum(t[k] for t in turns)) / pairs * 1e9 for k, name in enumerate((FLOAT32, CERTIFIED))}
    gain = trial[FLOAT32] / trial[CERTIFIED]
    told = f"8-bit products with exact scores where needed ran {gain:.2g} times as fast as 32-bit ones in a trial here."
    return (ScoringPath(CERTIFIED, told, trial), q) if gain >= must_gain else (ScoringPath(FLOAT32, told, trial), None)
