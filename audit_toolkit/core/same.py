"""Kernels that bring coded rows together: parts by hash, duplicates, transactions.

Why: rows that could be the same must meet before anybody can say whether they are, and a file has more rows than memory.
Promise: rows of one key fall into one part whatever their order; within a part equality is decided by the keys themselves,
never by a hash; counts do not depend on the order of the rows. A part is held in memory whole.

Codes are int32 with -1 for "missing". Optional columns come as arrays of length 0.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.codes import mix

Array = NDArray[Any]

_S32 = np.uint64(32)

_jit = nb.njit(nogil=True, cache=True)


@_jit
def parts_of_samples(
    ref: Array,
    probe: Array,
    ref_sample: Array,
    probe_sample: Array,
    transaction: Array,
    parts: int,
    out: Array,
) -> None:
    """The part (int32, 0 <= part < parts) of each row, by its two samples in either order and its transaction."""
    for r in range(len(ref)):
        a = mix(np.uint64(ref[r]) << _S32 | np.uint64(ref_sample[r] + 1))
        b = mix(np.uint64(probe[r]) << _S32 | np.uint64(probe_sample[r] + 1))
        h = mix(a + b)
        if len(transaction):
            h = mix(h ^ np.uint64(transaction[r] + 1))
        out[r] = ((h >> _S32) * np.uint64(parts)) >> _S32


@_jit
def parts_of_rows(ref: Array, probe: Array, bits: Array, parts: int, out: Array) -> None:
    """The part of each row, by its two subjects in either order and its score's bits (unsigned)."""
    for r in range(len(ref)):
        h = mix(mix(np.uint64(ref[r])) + mix(np.uint64(probe[r]))) ^ mix(np.uint64(bits[r]))
        out[r] = ((mix(h) >> _S32) * np.uint64(parts)) >> _S32


@_jit
def parts_of_keys(keys: Array, parts: int, out: Array) -> None:
    """The part of each row, by one integer key >= 0."""
    for r in range(len(keys)):
        out[r] = ((mix(keys[r]) >> _S32) * np.uint64(parts)) >> _S32


@_jit
def order_by_part(part: Array, parts: int) -> tuple[Array, Array]:
    """The stable order that brings rows of one part together (int64), and where each part starts ([parts + 1])."""
    start = np.zeros(parts + 1, np.int64)
    for r in range(len(part)):
        start[part[r] + 1] += 1
    for p in range(parts):
        start[p + 1] += start[p]
    fill = start[:-1].copy()
    order = np.empty(len(part), np.int64)
    for r in range(len(part)):
        order[fill[part[r]]] = r
        fill[part[r]] += 1
    return order, start


@_jit
def _table_size(n: int) -> int:
    size = 16
    while size < 2 * n:
        size *= 2
    return size


@_jit
def find_duplicates(
    ref: Array,
    probe: Array,
    ref_sample: Array,
    probe_sample: Array,
    transaction: Array,
    score: Array,
    tie: Array,
    keep: Array,
) -> tuple[int, int, int, int]:
    """Judge comparisons of the same two samples exactly; (exact, mirrored, mirrored with other scores, conflicting).

    Samples are equal when subject and sample code are. ``exact`` rows repeat an ordered pair with the same score: all but
    the one with the smallest ``tie`` (uint64, or empty) get ``keep = 0``. ``mirrored`` rows repeat a pair the other way
    round with the same score: the row with the smaller (subject, sample) as reference stays. ``conflicting`` counts ordered
    pairs that carry more than one score. Rows without a sample code are kept unjudged. keep: uint8, written.
    """
    n = len(ref)
    size = _table_size(n)
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int32)
    low, high = np.empty(n, np.int64), np.empty(n, np.int64)
    trans = np.empty(n, np.int64)
    forward, backward = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    clash = np.zeros(2 * n, np.uint8)
    groups = exact = mirrored = differing = conflicting = 0
    for r in range(n):
        keep[r] = 1
        if ref_sample[r] < 0 or probe_sample[r] < 0:
            continue
        a = np.int64(ref[r]) << 32 | np.int64(ref_sample[r])
        b = np.int64(probe[r]) << 32 | np.int64(probe_sample[r])
        t = np.int64(transaction[r]) if len(transaction) else np.int64(0)
        ahead = a <= b
        lo, hi = (a, b) if ahead else (b, a)
        slot = mix(mix(lo) ^ np.uint64(hi) ^ (np.uint64(t) << _S32)) & mask
        g = table[slot]
        while g >= 0 and (low[g] != lo or high[g] != hi or trans[g] != t):
            slot = (slot + np.uint64(1)) & mask
            g = table[slot]
        if g < 0:
            g = groups
            table[slot] = g
            low[g], high[g], trans[g] = lo, hi, t
            groups += 1
        first = forward[g] if ahead else backward[g]
        winner = r
        if first >= 0:
            if score[first] != score[r]:
                side = 2 * g if ahead else 2 * g + 1
                conflicting += 1 - clash[side]
                clash[side] = 1
            else:
                exact += 1
                if len(tie) and tie[r] < tie[first]:
                    keep[first] = 0
                else:
                    keep[r] = 0
                    winner = first
        if ahead:
            forward[g] = winner
        else:
            backward[g] = winner
    for g in range(groups):
        if forward[g] >= 0 and backward[g] >= 0:
            if score[forward[g]] == score[backward[g]]:
                keep[backward[g]] = 0
                mirrored += 1
            else:
                differing += 1
    return exact, mirrored, differing, conflicting


@_jit
def count_identical(ref: Array, probe: Array, bits: Array) -> tuple[int, int]:
    """Rows that repeat subjects and score of another, in the same order and in the mirrored order; counted exactly.

    bits: the scores' bits (unsigned). The mated flag follows from the subjects, so rows that agree here agree in it too.
    """
    n = len(ref)
    size = _table_size(n)
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int32)
    head = np.empty(n, np.int32)
    ahead, behind = np.zeros(n, np.int64), np.zeros(n, np.int64)
    groups = identical = mirrored = 0
    for r in range(n):
        lo, hi = min(ref[r], probe[r]), max(ref[r], probe[r])
        slot = mix(mix(np.uint64(lo) << _S32 | np.uint64(hi)) + mix(np.uint64(bits[r]))) & mask
        g = table[slot]
        while g >= 0:
            h = head[g]
            if bits[h] == bits[r] and min(ref[h], probe[h]) == lo and max(ref[h], probe[h]) == hi:
                break
            slot = (slot + np.uint64(1)) & mask
            g = table[slot]
        if g < 0:
            g = groups
            table[slot] = g
            head[g] = r
            groups += 1
        if ref[r] <= probe[r]:
            ahead[g] += 1
        else:
            behind[g] += 1
    for g in range(groups):
        identical += max(ahead[g] - 1, 0) + max(behind[g] - 1, 0)
        mirrored += min(ahead[g], behind[g])
    return identical, mirrored


@_jit
def best_of_transactions(transaction: Array, ref: Array, probe: Array, score: Array) -> tuple[Array, int, int]:
    """For each transaction the row with its best score, written into ``score``; (rows to keep, mixed, rows of mixed).

    A transaction whose attempts name different subjects on one side is mixed and left out. Returns int64 row numbers, one
    a transaction, whose ``score`` now holds the largest score of all its attempts.
    """
    n = len(transaction)
    size = _table_size(n)
    mask = np.uint64(size - 1)
    table = np.full(size, -1, np.int32)
    head = np.empty(n, np.int64)
    mixed = np.zeros(n, np.uint8)
    attempts = np.zeros(n, np.int64)
    groups = 0
    for r in range(n):
        slot = mix(transaction[r]) & mask
        g = table[slot]
        while g >= 0 and transaction[head[g]] != transaction[r]:
            slot = (slot + np.uint64(1)) & mask
            g = table[slot]
        if g < 0:
            g = groups
            table[slot] = g
            head[g] = r
            groups += 1
        h = head[g]
        attempts[g] += 1
        if ref[h] != ref[r] or probe[h] != probe[r]:
            mixed[g] = 1
        score[h] = max(score[h], score[r])
    count = rows = at = 0
    for g in range(groups):
        count += mixed[g]
        rows += attempts[g] * mixed[g]
    keep = np.empty(groups - count, np.int64)
    for g in range(groups):
        if not mixed[g]:
            keep[at] = head[g]
            at += 1
    return keep, count, rows
