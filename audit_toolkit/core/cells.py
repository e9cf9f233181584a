"""From coded rows to integer counts: plain, by subject, by replicate; exact at every edge.

A row's *level* is the number of edges at or below its score, so "score >= edges[k]" is "level > k", with the comparison made
in the score's own type. The kernels release the interpreter lock, run serially, add integers only and write in place:
threads stand outside, each with a state of its own.

``weight`` is the number of identical comparisons a row stands for; an empty array means one each.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_jit = nb.njit(nogil=True, cache=True)


@_jit
def _level(score: Any, edges: NDArray[Any], low: float, per: float) -> int:
    """Number of edges <= score: a linear guess, exact correction, and bisection where the grid is uneven."""
    top = len(edges)
    guess = (float(score) - low) * per
    k = 0
    if guess > 0.0:
        k = top if guess >= top else int(guess)
    steps = 0
    while steps < 4 and k < top and score >= edges[k]:
        k += 1
        steps += 1
    while steps < 4 and k > 0 and score < edges[k - 1]:
        k -= 1
        steps += 1
    if steps == 4:
        first, last = 0, top
        while first < last:
            middle = (first + last) >> 1
            if score >= edges[middle]:
                first = middle + 1
            else:
                last = middle
        k = first
    return k


@_jit
def _grid(
    ref: Any, probe: Any, mated: Any, score: Any, weight: Any, group: Any, edges: Any, low: float, per: float,
    nonmated_out: Any, mated_out: Any,
) -> None:  # fmt: skip
    weighted = len(weight) > 0
    for r in range(len(score)):
        w = weight[r] if weighted else 1
        k = _level(score[r], edges, low, per)
        if mated[r]:
            mated_out[group[ref[r]], k] += w
        else:
            nonmated_out[group[ref[r]], group[probe[r]], k] += w


@_jit
def _by_subject(
    ref: Any, probe: Any, mated: Any, score: Any, weight: Any, group: Any, edges: Any, nonmated_out: Any, mated_out: Any
) -> None:
    weighted = len(weight) > 0
    top = len(edges)
    for r in range(len(score)):
        w = weight[r] if weighted else 1
        s = score[r]
        k = 0
        while k < top and s >= edges[k]:
            k += 1
        i, j = ref[r], probe[r]
        if mated[r]:
            mated_out[i, k] += w
        else:
            nonmated_out[i, 0, group[j], k] += w
            nonmated_out[j, 1, group[i], k] += w


@_jit
def _stratum(
    ref: Any, probe: Any, mated: Any, score: Any, weight: Any, x: Any, group: Any, threshold: Any,
    nonmated_out: Any, mated_out: Any, cells_out: Any,
) -> None:  # fmt: skip
    weighted = len(weight) > 0
    for r in range(len(score)):
        i, j = ref[r], probe[r]
        g = group[i]
        if g < 0 or group[j] != g:
            continue
        w = weight[r] if weighted else 1
        match = score[r] >= threshold
        c = x[r]
        if mated[r]:
            error = 0 if match else w
            mated_out[i, c, 0] += w
            mated_out[i, c, 1] += error
            cells_out[1, g, c, 0] += w
            cells_out[1, g, c, 1] += error
        else:
            error = w if match else 0
            nonmated_out[i, c, 0] += w
            nonmated_out[i, c, 1] += error
            nonmated_out[j, c, 0] += w
            nonmated_out[j, c, 1] += error
            cells_out[0, g, c, 0] += w
            cells_out[0, g, c, 1] += error


@_jit
def _codes(ref: Any, probe: Any, mated: Any, score: Any, group: Any, groups: int, edges: Any, out: Any) -> None:
    """Cell = (group of reference, group of probe, level), mated cells behind the non-mated ones."""
    top = len(edges)
    levels = top + 1
    for r in range(len(score)):
        k = 0
        while k < top and score[r] >= edges[k]:
            k += 1
        g = group[ref[r]]
        out[r] = (groups * groups + g) * levels + k if mated[r] else (g * groups + group[probe[r]]) * levels + k


_PLANES = 31  # 2**31 rows of one cell in one batch: more than a batch can hold


@_jit
def _by_replicate(code: Any, ref: Any, probe: Any, bits: Any, out: Any) -> None:
    """out[cell, b] += 1 where both people carry bit b: rows by cell, then bit-sliced adders over eight rows at a time."""
    n, words, cells = len(code), bits.shape[1], len(out)
    start = np.zeros(cells + 1, np.int64)
    for r in range(n):
        start[code[r] + 1] += 1
    for c in range(cells):
        start[c + 1] += start[c]
    fill = start[:-1].copy()
    order = np.empty(n, np.int32)
    for r in range(n):
        order[fill[code[r]]] = r
        fill[code[r]] += 1
    plane = np.zeros((_PLANES, words), np.uint64)
    x = np.zeros((8, words), np.uint64)
    for c in range(cells):
        first, last = start[c], start[c + 1]
        if first == last:
            continue
        plane[:] = 0
        used = 4
        while (1 << used) <= last - first:
            used += 1
        for p in range(first, last, 8):
            for q in range(8):
                if p + q < last:
                    i, j = ref[order[p + q]], probe[order[p + q]]
                    for w in range(words):
                        x[q, w] = bits[i, w] & bits[j, w]
                else:
                    x[q, :] = 0
            for w in range(words):
                # Carry-save addition (Harley-Seal) of eight one-bit numbers into ones, twos, fours; the eights ripple on.
                ones, twos, fours = plane[0, w], plane[1, w], plane[2, w]
                u = ones ^ x[0, w]
                ta = (ones & x[0, w]) | (u & x[1, w])
                ones = u ^ x[1, w]
                u = ones ^ x[2, w]
                tb = (ones & x[2, w]) | (u & x[3, w])
                ones = u ^ x[3, w]
                u = twos ^ ta
                fa = (twos & ta) | (u & tb)
                twos = u ^ tb
                u = ones ^ x[4, w]
                ta = (ones & x[4, w]) | (u & x[5, w])
                ones = u ^ x[5, w]
                u = ones ^ x[6, w]
                tb = (ones & x[6, w]) | (u & x[7, w])
                ones = u ^ x[7, w]
                u = twos ^ ta
                fb = (twos & ta) | (u & tb)
                twos = u ^ tb
                u = fours ^ fa
                eights = (fours & fa) | (u & fb)
                fours = u ^ fb
                plane[0, w], plane[1, w], plane[2, w], x[0, w] = ones, twos, fours, eights
            for k in range(3, used):
                for w in range(words):
                    u = plane[k, w]
                    plane[k, w] = u ^ x[0, w]
                    x[0, w] &= u
        for w in range(words):
            for b in range(64):
                total = np.int64(0)
                for k in range(used):
                    total |= np.int64((plane[k, w] >> np.uint64(b)) & np.uint64(1)) << k
                out[c, w * 64 + b] += total


@_jit
def _by_replicate_weighted(code: Any, ref: Any, probe: Any, weight: Any, bits: Any, out: Any) -> None:
    words = bits.shape[1]
    for r in range(len(code)):
        i, j = ref[r], probe[r]
        for w in range(words):
            both = bits[i, w] & bits[j, w]
            for b in range(64):
                if (both >> np.uint64(b)) & np.uint64(1):
                    out[code[r], w * 64 + b] += weight[r]


@_jit
def _false_matches(
    ref: Any, probe: Any, mated: Any, score: Any, weight: Any, edges: Any, low: int, high: int, level: Any
) -> int:
    """Mark the non-mated rows at or above the lowest edge with their level; returns how many there are."""
    top = len(edges)
    found = 0
    for r in range(low, high):
        k = 0
        if not mated[r]:
            while k < top and score[r] >= edges[k]:
                k += 1
        level[r] = k
        found += 1 if k > 0 else 0
    return found


_NO_WEIGHT = np.empty(0, np.int64)


def _slope(edges: NDArray[Any]) -> tuple[float, float]:
    low = float(edges[0])
    return low, len(edges) / max(float(edges[-1]) - low, 1e-300)


def count_grid(
    arrays: Any, group: NDArray[np.int32], edges: NDArray[Any], nonmated: Ints, mated: Ints
) -> None:  # fmt: skip
    """Add one batch to ``nonmated`` [groups, groups, len(edges)+1] and ``mated`` [groups, len(edges)+1], in place."""
    low, per = _slope(edges)
    weight = arrays.get("weight")
    _grid(arrays["ref"], arrays["probe"], arrays["mated"], arrays["score"], _NO_WEIGHT if weight is None else weight,
          group, edges, low, per, nonmated, mated)  # fmt: skip


def count_by_subject(
    arrays: Any, group: NDArray[np.int32], edges: NDArray[Any], nonmated: Ints, mated: Ints
) -> None:  # fmt: skip
    """Add one batch to ``nonmated`` [subjects, side, partner's group, level] and ``mated`` [subjects, level], in place.

    Side 0: the subject was the reference; side 1: the probe. A non-mated comparison is counted once for each of its two
    people. ``edges`` are few (at most 16), so they are walked.
    """
    weight = arrays.get("weight")
    _by_subject(arrays["ref"], arrays["probe"], arrays["mated"], arrays["score"],
                _NO_WEIGHT if weight is None else weight, group, edges, nonmated, mated)  # fmt: skip


def count_by_stratum(
    arrays: Any,
    x: NDArray[np.int32],
    group: NDArray[np.int32],
    threshold: Any,
    nonmated: Ints,
    mated: Ints,
    cells: Ints,
) -> None:
    """Add within-group comparisons to ``nonmated``/``mated`` [subjects, stratum, (all, errors)] and to
    ``cells`` [mated, groups, stratum, (all, errors)], in place; subjects with a negative group are left out.
    """
    weight = arrays.get("weight")
    _stratum(arrays["ref"], arrays["probe"], arrays["mated"], arrays["score"],
             _NO_WEIGHT if weight is None else weight, x, group, threshold, nonmated, mated, cells)  # fmt: skip


def count_by_replicate(
    arrays: Any, group: NDArray[np.int32], groups: int, edges: NDArray[Any], bits: NDArray[np.uint64], out: Ints
) -> None:
    """Add one batch to ``out`` [(groups*groups + groups) * levels, replicates], in place.

    In replicate b a comparison counts where both of its people carry bit b (each bit is on with probability one half), which
    is the double-or-nothing bootstrap up to a constant factor that cancels in rates.
    """
    code = np.empty(len(arrays["score"]), np.int32)
    _codes(arrays["ref"], arrays["probe"], arrays["mated"], arrays["score"], group, groups, edges, code)
    weight = arrays.get("weight")
    if weight is None:
        _by_replicate(code, arrays["ref"], arrays["probe"], bits, out)
    else:
        _by_replicate_weighted(code, arrays["ref"], arrays["probe"], weight, bits, out)


def list_false_matches(arrays: Any, edges: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The non-mated rows that reach the lowest edge: ``ref``, ``probe`` int32, ``level`` int8 (edges reached), ``weight``."""
    n = len(arrays["score"])
    level = np.empty(n, np.int8)
    weight = arrays.get("weight")
    _false_matches(arrays["ref"], arrays["probe"], arrays["mated"], arrays["score"], _NO_WEIGHT, edges, 0, n, level)
    keep = np.flatnonzero(level)
    return {
        "ref": arrays["ref"][keep],
        "probe": arrays["probe"][keep],
        "level": level[keep],
        "weight": np.ones(len(keep), np.int64) if weight is None else weight[keep],
    }


def replicate_bits(identity: NDArray[np.uint64], seed: int, replicates: int) -> NDArray[np.uint64]:
    """[subjects, replicates/64] independent fair bits per subject, a function of the subject's id hash and the seed only.

    splitmix64 over (identity + seed + word counter); ``replicates`` must be a multiple of 64.
    """
    words = np.arange(1, replicates // 64 + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = identity[:, None] ^ np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        z = _mix(z) + words[None, :] * np.uint64(0x9E3779B97F4A7C15)
        return np.ascontiguousarray(_mix(_mix(z)))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
