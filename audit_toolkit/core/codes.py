"""Kernels over coded rows: judge them, find which are the same, bring together what belongs together.

Why: a score file of ten million rows has to be judged row by row, and numpy would need a temporary array for every
question. Promise: every result is a set, a count, a minimum or a maximum, so none depends on the order of the rows; the
kernels hold no lock of the interpreter (``nogil``), so parts run side by side. They know no text, no file and no policy:
what a reason means is said where rows are surveyed.

Codes are int32 with -1 for "missing". Optional columns come as arrays of length 0.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

OK, NO_SUBJECT, FTE, FTA, NO_SCORE, NAN, INFINITE, NO_WEIGHT, FLAG_MATED, FLAG_NONMATED, SELF, TWO_LABELS = range(12)
"""Why a row is not used; codes from ``FIRST_FREE`` on are given by the caller (failure values, labels)."""
FIRST_FREE = 12

_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_G = np.uint64(0x9E3779B97F4A7C15)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)

_jit = nb.njit(nogil=True, cache=True)


@_jit
def mix(x: Any) -> Any:
    """Spread a 64-bit integer over all its bits (the finaliser of SplitMix64; Steele, Lea, Flood 2014)."""
    z = np.uint64(x) + _G
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@_jit
def mix_into(seeds: Array, bits: Array) -> None:
    """Fold one more column (as int64) into a running 64-bit hash of each row, in place."""
    for r in range(len(seeds)):
        seeds[r] = mix(seeds[r] ^ mix(bits[r]))


@_jit
def judge_scores(
    ref: Array,
    probe: Array,
    failure: Array,
    score: Array,
    absent: Array,
    special: Array,
    first_special: int,
    weight: Array,
    reason: Array,
) -> None:
    """Write why a row cannot be used by itself: ids, failures, scores, special values, weights; 0 = usable so far.

    ref, probe: int32; failure: uint8 (1 = fte, 2 = fta) or empty; score: float32/64; absent: bool or empty, where the
    score is null; special: values of the score's dtype; weight: int64 (-1 = missing) or empty; reason: int16, written.
    An FTE row needs its reference subject only and an FTA row its probe subject only.
    """
    for r in range(len(ref)):
        failed = failure[r] if len(failure) else 0
        if failed == 1:
            reason[r] = FTE if ref[r] >= 0 else NO_SUBJECT
        elif failed == 2:
            reason[r] = FTA if probe[r] >= 0 else NO_SUBJECT
        elif ref[r] < 0 or probe[r] < 0:
            reason[r] = NO_SUBJECT
        elif len(absent) and absent[r]:
            reason[r] = NO_SCORE
        elif np.isnan(score[r]):
            reason[r] = NAN
        elif np.isinf(score[r]):
            reason[r] = INFINITE
        else:
            why = OK
            for v in range(len(special)):
                if score[r] == special[v]:
                    why = first_special + v
                    break
            if why == OK and len(weight) and weight[r] < 0:
                why = NO_WEIGHT
            reason[r] = why


@_jit
def judge_labels(
    ref: Array,
    probe: Array,
    ref_label: Array,
    probe_label: Array,
    declared: Array,
    subject: Array,
    missing_code: int,
    undeclared_code: int,
    reason: Array,
) -> None:
    """Learn each subject's label from every row that names one, and refuse rows without a label that counts.

    ref_label, probe_label: int32 label codes, -1 = no label. declared: uint8 a label, 1 = may be used.
    subject: int32 [subjects], -1 = no label seen, -2 = two different labels seen; updated in place.
    """
    for r in range(len(ref)):
        i, j, a, b = ref[r], probe[r], ref_label[r], probe_label[r]
        if i >= 0 and a >= 0 and subject[i] != a:
            subject[i] = a if subject[i] == -1 else -2
        if j >= 0 and b >= 0 and subject[j] != b:
            subject[j] = b if subject[j] == -1 else -2
        if reason[r] == OK:
            if a < 0 or b < 0:
                reason[r] = missing_code
            elif not declared[a] or not declared[b]:
                reason[r] = undeclared_code


@_jit
def judge_pairs(
    ref: Array, probe: Array, flag: Array, ref_sample: Array, probe_sample: Array, mated: Array, reason: Array
) -> None:
    """Decide mated by the ids, refuse flags that contradict them, and refuse a sample compared with itself.

    flag: int8 (-1 = not given) or empty; samples: int32 codes or empty; mated: uint8, written for every row.
    """
    for r in range(len(ref)):
        same = ref[r] == probe[r]
        mated[r] = same
        if reason[r] != OK:
            continue
        if len(flag) and flag[r] == 1 and not same:
            reason[r] = FLAG_MATED
        elif len(flag) and flag[r] == 0 and same:
            reason[r] = FLAG_NONMATED
        elif same and len(ref_sample) and ref_sample[r] >= 0 and ref_sample[r] == probe_sample[r]:
            reason[r] = SELF


@_jit
def note_attempts(keys: Array, failed: Array, table: Array, flags: Array) -> int:
    """Put keys (int64 >= 0) into an open hash set and mark those that failed; the number of new keys.

    table: int64, size a power of two, -1 = empty, with room for all keys; flags: uint8 of the same size.
    """
    mask = np.uint64(len(table) - 1)
    new = 0
    for r in range(len(keys)):
        if keys[r] < 0:
            continue
        slot = mix(keys[r]) & mask
        while table[slot] != -1 and table[slot] != keys[r]:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] == -1:
            table[slot] = keys[r]
            new += 1
        if failed[r]:
            flags[slot] = 1
    return new


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


@_jit
def tally_scores(
    score: Array, mated: Array, weight: Array, low: float, high: float, histogram: Array
) -> tuple[float, int, float, int]:
    """Add scores to a coarse histogram [2, bins] over low..high by mated; (min, how many there, max, how many there).

    Counts are weighted by ``weight`` (int64, or empty for 1 each).
    """
    bins = histogram.shape[1]
    scale = (bins - 1) / (high - low) if high > low else 0.0
    least, most = np.inf, -np.inf
    at_least = at_most = 0
    for r in range(len(score)):
        s = np.float64(score[r])
        w = weight[r] if len(weight) else 1
        # A range near the end of the floats can overflow to infinity: the clip keeps the row in its last class.
        k = int(min(max((s - low) * scale, 0.0), bins - 1.0))
        histogram[mated[r], k] += w
        if s < least:
            least, at_least = s, 0
        if s > most:
            most, at_most = s, 0
        if s == least:
            at_least += w
        if s == most:
            at_most += w
    return least, at_least, most, at_most
