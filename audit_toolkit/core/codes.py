"""Kernels that judge coded rows one by one, and tally what was judged.

Why: a score file of ten million rows has to be judged row by row, and numpy would need a temporary array for every
question. Promise: every result is a set, a count, a minimum or a maximum, so none depends on the order of the rows; the
kernels hold no lock of the interpreter (``nogil``), so parts run side by side. They know no text, no file and no policy:
what a reason means is said where rows are surveyed. What needs several rows at once stands in `audit_toolkit.core.same`.

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
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)

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
def tally_scores(
    score: Array, mated: Array, weight: Array, low: float, high: float, histogram: Array
) -> tuple[float, int, float, int]:
    """Add scores to a coarse histogram [2, bins] over low..high by mated; (min, how many there, max, how many there).

    Counts are weighted by ``weight`` (int64, or empty for 1 each).
    """
    bins = histogram.shape[1]
    half = 0.5 * high - 0.5 * low  # halves, since a range over most of the floats has no finite width
    least, most = np.inf, -np.inf
    at_least = at_most = 0
    for r in range(len(score)):
        s = np.float64(score[r])
        w = weight[r] if len(weight) else 1
        share = (0.5 * s - 0.5 * low) / half if half > 0.0 else 0.0
        k = int(min(max(share, 0.0), 1.0) * (bins - 1))
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
