"""Drawing subjects again: what the counts would have been with another draw of the same people.

Why: at a fixed threshold the list of false matches is all that resampling needs. Numerators come exactly from that list,
denominators from per-subject sizes in closed form, so a thousand draws over 200,000 false matches take about a second at
any number of comparisons.
Promise: a draw depends on the seed and its own number only (a counter-based generator), so any split of the draws over
threads or runs gives the same numbers; numerators are integers. Not promised: exact denominators for designs in which not
everybody meets everybody: there they follow the product of the subjects' comparison counts.

The generator is SplitMix64 (Steele, Lea and Flood 2014, OOPSLA) over (seed, draw, counter).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@njit(nogil=True, cache=True, inline="always")
def _mix(x: Any) -> Any:
    """One output of SplitMix64 for a 64-bit state."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def adjacency(i: Ints, j: Ints, count: Ints, subjects: int) -> tuple[Ints, NDArray[np.int32], NDArray[np.int32]]:
    """Error pairs as rows: for each subject the partners and how many errors with each.

    ``i``, ``j``, ``count`` [pairs] subject codes in 0..subjects-1 and errors; a pair may occur more than once. Returns start
    [subjects + 1], partner and errors [2 pairs], each pair standing in both subjects' rows.
    """
    left = np.concatenate([i, j])
    order = np.argsort(left, kind="stable")
    start = np.zeros(subjects + 1, dtype=np.int64)
    np.cumsum(np.bincount(left, minlength=subjects), out=start[1:])
    partner = np.concatenate([j, i])[order].astype(np.int32)
    return start, partner, np.concatenate([count, count])[order].astype(np.int32)


@njit(nogil=True, cache=True)
def pair_draws(
    first: int,
    last: int,
    seed: Any,
    bounds: Ints,
    size: Floats,
    comparisons: Floats,
    start: Ints,
    partner: NDArray[np.int32],
    count: NDArray[np.int32],
    drawn: bool,
    errors: Floats,
    denominators: Floats,
    squares: Floats,
    fourths: Floats,
) -> None:
    """Draw subjects with replacement within each group and count within-group pair errors anew, in place.

    Subjects of group k are ``bounds[k]``..``bounds[k + 1]`` - 1; ``size`` [subjects] is the images a subject brings (everybody
    meets everybody) or their comparisons (otherwise); ``comparisons`` [groups] M_k. Error pairs as `adjacency` rows. Rows
    ``first``..``last`` - 1 of ``errors``, ``denominators``, ``squares``, ``fourths`` [draws, groups] receive E*, M* and the sums
    over drawn subjects of (r_i - p* m_i)^2 and ^4. With ``drawn`` False every subject counts once: the file as it is.
    """
    groups = len(bounds) - 1
    subjects = bounds[groups]
    weight = np.ones(subjects, dtype=np.int32)
    row = np.zeros(subjects, dtype=np.int64)
    base = np.zeros(groups)
    for k in range(groups):
        total = 0.0
        own = 0.0
        for i in range(bounds[k], bounds[k + 1]):
            total += size[i]
            own += size[i] * size[i]
        base[k] = total * total - own
    for draw in range(first, last):
        if drawn:
            stream = _mix(seed ^ _mix(np.uint64(draw)))
            counter = np.uint64(0)
            for i in range(subjects):
                weight[i] = 0
            for k in range(groups):
                n = bounds[k + 1] - bounds[k]
                for _ in range(n):
                    counter += np.uint64(1)
                    # the upper 32 bits times n, shifted down: uniform to 2^-32 n, far under the Monte Carlo error
                    high = _mix(stream + counter * np.uint64(0xD1342543DE82EF95)) >> np.uint64(32)
                    weight[bounds[k] + np.int64((high * np.uint64(n)) >> np.uint64(32))] += 1
        for k in range(groups):
            twice = np.int64(0)
            total = 0.0
            own = 0.0
            for i in range(bounds[k], bounds[k + 1]):
                w = weight[i]
                row[i] = 0
                if w == 0:
                    continue
                found = np.int64(0)
                for e in range(start[i], start[i + 1]):
                    found += np.int64(weight[partner[e]]) * count[e]
                row[i] = found
                twice += w * found
                total += w * size[i]
                own += w * w * size[i] * size[i]
            made = 0.0 if base[k] <= 0.0 else comparisons[k] * (total * total - own) / base[k]
            number = twice * 0.5
            square = 0.0
            fourth = 0.0
            if made > 0.0:
                rate = number / made
                per_unit = 2.0 * comparisons[k] / base[k]
                for i in range(bounds[k], bounds[k + 1]):
                    w = weight[i]
                    if w > 0:
                        pull = row[i] - rate * per_unit * size[i] * (total - w * size[i])
                        pull *= pull
                        square += w * pull
                        fourth += w * pull * pull
            errors[draw, k] = number
            denominators[draw, k] = made
            squares[draw, k] = square
            fourths[draw, k] = fourth


@njit(nogil=True, cache=True)
def self_draws(
    first: int,
    last: int,
    seed: Any,
    bounds: Ints,
    size: Floats,
    wrong: Ints,
    drawn: bool,
    errors: Floats,
    denominators: Floats,
    squares: Floats,
    fourths: Floats,
) -> None:
    """The same for errors that belong to one subject each (mated comparisons): numerators and denominators are sums.

    ``size`` and ``wrong`` [subjects]: comparisons and errors of each subject. Otherwise as `pair_draws`.
    """
    groups = len(bounds) - 1
    subjects = bounds[groups]
    weight = np.ones(subjects, dtype=np.int32)
    for draw in range(first, last):
        if drawn:
            stream = _mix(seed ^ _mix(np.uint64(draw)))
            counter = np.uint64(0)
            for i in range(subjects):
                weight[i] = 0
            for k in range(groups):
                n = bounds[k + 1] - bounds[k]
                for _ in range(n):
                    counter += np.uint64(1)
                    high = _mix(stream + counter * np.uint64(0xD1342543DE82EF95)) >> np.uint64(32)
                    weight[bounds[k] + np.int64((high * np.uint64(n)) >> np.uint64(32))] += 1
        for k in range(groups):
            number = np.int64(0)
            made = 0.0
            for i in range(bounds[k], bounds[k + 1]):
                number += np.int64(weight[i]) * wrong[i]
                made += weight[i] * size[i]
            square = 0.0
            fourth = 0.0
            if made > 0.0:
                rate = number / made
                for i in range(bounds[k], bounds[k + 1]):
                    pull = wrong[i] - rate * size[i]
                    pull *= pull
                    square += weight[i] * pull
                    fourth += weight[i] * pull * pull
            errors[draw, k] = number
            denominators[draw, k] = made
            squares[draw, k] = square
            fourths[draw, k] = fourth


@njit(nogil=True, cache=True)
def label_draws(
    first: int,
    last: int,
    seed: Any,
    group: Ints,
    groups: int,
    size: Floats,
    start: Ints,
    partner: NDArray[np.int32],
    count: NDArray[np.int32],
    scale: float,
    errors: Floats,
    denominators: Floats,
    squares: Floats,
    fourths: Floats,
) -> None:
    """Deal the group labels out again over the subjects and count within-group pair errors anew, in place.

    ``group`` [subjects] labels in 0..groups-1, the error pairs of the whole file (across groups too) as `adjacency` rows;
    ``scale`` turns the product of two sizes into comparisons. Draw 0 is the file as it is; other rows as `pair_draws`.
    """
    subjects = len(group)
    label = group.copy()
    row = np.zeros(subjects, dtype=np.int64)
    total = np.zeros(groups)
    own = np.zeros(groups)
    number = np.zeros(groups)
    for draw in range(first, last):
        for i in range(subjects):
            label[i] = group[i]
        if draw > 0:
            stream = _mix(seed ^ _mix(np.uint64(draw)))
            for i in range(subjects - 1, 0, -1):
                high = _mix(stream + np.uint64(i) * np.uint64(0xD1342543DE82EF95)) >> np.uint64(32)
                other = np.int64((high * np.uint64(i + 1)) >> np.uint64(32))
                kept = label[i]
                label[i] = label[other]
                label[other] = kept
        for k in range(groups):
            total[k] = 0.0
            own[k] = 0.0
            number[k] = 0.0
            squares[draw, k] = 0.0
            fourths[draw, k] = 0.0
        for i in range(subjects):
            k = label[i]
            found = np.int64(0)
            for e in range(start[i], start[i + 1]):
                if label[partner[e]] == k:
                    found += count[e]
            row[i] = found
            total[k] += size[i]
            own[k] += size[i] * size[i]
            number[k] += 0.5 * found
        for k in range(groups):
            errors[draw, k] = number[k]
            denominators[draw, k] = 0.5 * scale * (total[k] * total[k] - own[k])
        for i in range(subjects):
            k = label[i]
            if denominators[draw, k] > 0.0:
                rate = number[k] / denominators[draw, k]
                pull = row[i] - rate * scale * size[i] * (total[k] - size[i])
                pull *= pull
                squares[draw, k] += pull
                fourths[draw, k] += pull * pull
