"""Whether the groups' error rates could all be the same: a test that resamples people, not comparisons.

Why: with eight groups some pair always looks different, and people who are easily confused make whole groups look bad by
chance. The test asks how often so large a largest difference would come up if the rates were equal and only the people had
been drawn again.
Promise: the false-alarm rate with equal groups was measured (``benchmarks/interval_coverage.py``), all-pairs designs with
strong and mild subject effects included; groups without errors take part; the answer depends on the seed only, not on row
order or threads. Not promised: power with a few errors; a rejection does not say why rates differ. The label permutation
(`permutation_of_pairs`) tests another claim, that labels carry no information at all, and never decides anything here.

Method: centred subject bootstrap of the largest studentised pairwise difference on the logit scale, each difference brought
to a common scale through Student's t with Satterthwaite's degrees of freedom, in the file and in every draw. A sample of few
people holds no worse person than the worst it has, so the bootstrap alone is too keen in small files: with two groups of
50 people it rejected 24 % of equal ones. The p-value is therefore never below Welch's for the largest difference times
groups - 1, as if only the comparisons with one group had been made. Bootstrap-t: Efron 1982; max|T|: Westfall and Young 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import resample
from audit_toolkit.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class EqualityTest:
    """What a test of equal rates found.

    ``p_value`` in (0, 1], ``None`` with a reason in ``undefined``. ``pairs`` holds (group, group, adjusted p-value) for every
    two groups tested, smallest first: adjusted for all pairs at once. ``groups`` are the codes that took part.
    """

    p_value: float | None
    pairs: tuple[tuple[int, int, float], ...]
    groups: tuple[int, ...]
    draws: int
    method: str
    undefined: str | None = None

    def rejects(self, level: float) -> bool:
        """Whether equality is rejected at confidence ``level``; never where the test is undefined."""
        return self.p_value is not None and self.p_value <= 1.0 - level


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """Per draw and group: E, M, sum of squared and of fourth-power influences [draws, groups]; row 0 is the file."""

    errors: Floats
    comparisons: Floats
    squares: Floats
    fourths: Floats


def _zeros(draws: int, groups: int) -> _Moments:
    return _Moments(*(np.zeros((draws + 1, groups)) for _ in range(4)))


def _tails(moments: _Moments, sizes: Floats, centre: bool) -> Floats:
    """One-sided t tail of the difference of every two groups [draws + 1, pairs]: small = far apart.

    Rates are logit((E + 1/2) / (M + 1)) with variance max(influences, binomial) plus half a pooled design effect in counts, so
    that a group without errors has a wide but finite place. With ``centre`` draws are held against the file's own values.
    """
    from scipy.special import stdtr

    e, d, v, q = moments.errors, moments.comparisons, moments.squares, moments.fourths
    left = np.maximum(d - e, 0.0)
    guard = 0.5 * max(1.0, float(v[0].sum()) / max(1.0, float(e[0].sum())))
    slope = 1.0 / (e + 0.5) + 1.0 / (left + 0.5)
    place = np.log(e + 0.5) - np.log(left + 0.5)
    binomial = np.divide(e * left, d, out=np.zeros_like(d), where=d > 0.0)
    variance = (np.maximum(v, binomial) + guard) * slope**2
    squares = v * slope**2
    fourths = (q - v * v / sizes) * slope**4
    if centre:
        place[1:] -= place[0]
    a, b = np.triu_indices(e.shape[1], 1)
    out = np.empty((len(e), len(a)))
    step = max(1, _CELLS_AT_ONCE // max(1, len(a)))
    for low in range(0, len(e), step):
        rows = slice(low, low + step)
        t = np.abs(place[rows][:, a] - place[rows][:, b]) / np.sqrt(variance[rows][:, a] + variance[rows][:, b])
        total = np.square(squares[rows][:, a] + squares[rows][:, b])
        spread = fourths[rows][:, a] + fourths[rows][:, b]
        # no influence, or all equally strong: as good as normal
        df = np.divide(2.0 * total, spread, out=np.full_like(total, 1e6), where=spread > 0.0)
        out[rows] = stdtr(np.maximum(df, 2.0), -t)
    # a draw without comparisons in a group says nothing about that group
    empty = (d[:, a] <= 0.0) | (d[:, b] <= 0.0)
    out[empty] = 0.5
    return out


def _judge(tails: Floats, groups: Ints, method: str, family: int) -> EqualityTest:
    """P-values of all pairs from how many draws hold a smaller tail, but not under ``family`` times the pair's own t test."""
    draws = len(tails) - 1
    smallest = np.sort(tails[1:].min(axis=1))
    exceed = np.searchsorted(smallest, tails[0], side="right")
    adjusted = np.maximum((1.0 + exceed) / (1.0 + draws), 2.0 * family * tails[0])
    adjusted = np.minimum(adjusted, 1.0)
    a, b = np.triu_indices(len(groups), 1)
    order = np.argsort(adjusted, kind="stable")
    pairs = tuple((int(groups[a[k]]), int(groups[b[k]]), float(adjusted[k])) for k in order)
    return EqualityTest(pairs[0][2], pairs, tuple(int(g) for g in groups), draws, method)


def _usable(group: Ints, made: Floats, total: Floats) -> Ints:
    """Codes of the groups with comparisons and at least two people in them."""
    labelled = (group >= 0) & (made > 0)
    people = np.bincount(group[labelled], minlength=len(total))
    return np.flatnonzero((people >= 2) & (total > 0)).astype(np.int64)


def _arrange(group: Ints, made: Floats, kept: Ints) -> tuple[Ints, Ints, Ints]:
    """Subjects in the order of their groups, the bounds of the groups, and each subject's new place (-1 = left out)."""
    rank = np.full(int(group.max(initial=0)) + 2, -1, dtype=np.int64)
    rank[kept] = np.arange(len(kept))
    where = np.where((group >= 0) & (made > 0), rank[group], -1)
    order = np.argsort(where, kind="stable")
    order = order[where[order] >= 0]
    bounds = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum(np.bincount(where[order], minlength=len(kept)), out=bounds[1:])
    place = np.full(len(group), -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    return order, bounds, place


def _check(draws: int, *vectors: NDArray[np.generic]) -> None:
    if draws < 1:
        raise UsageError("A resampling test needs at least one draw.", mend="Ask for 999 draws or more.")
    if len({len(v) for v in vectors}) > 1:
        raise UsageError("Vectors that belong together differ in length.", mend="Give one entry a subject, or a pair.")


def _undefined(reason: str, kept: Ints, method: str) -> EqualityTest:
    return EqualityTest(None, (), tuple(int(g) for g in kept), 0, method, reason)


BOOTSTRAP = "centred subject bootstrap of the largest studentised difference"
PERMUTATION = "label permutation over subjects (shown, decides nothing)"


def equality_of_pairs(
    i: Ints,
    j: Ints,
    count: Ints,
    group: Ints,
    size: Floats,
    comparisons: Floats,
    *,
    seed: int,
    draws: int = 999,
) -> EqualityTest:
    """Could the within-group false match rates of all groups be equal? Draws people again, within each group.

    ``i``, ``j``, ``count`` [pairs]: the false matches at the threshold, as pairs of subject codes (each unordered pair once,
    or split over several rows) and how many; pairs across groups are left out. ``group`` [subjects]: group code, -1 = none.
    ``size`` [subjects]: the images each brings, where everybody is compared with everybody (denominators are then exact),
    else their within-group non-mated comparisons. ``comparisons`` [groups]: within-group non-mated comparisons. Undefined
    with fewer than two usable groups or without any false match. Raises `UsageError` on vectors that do not fit.
    """
    _check(draws, i, j, count)
    _check(draws, group, size)
    made = np.asarray(size, dtype=np.float64)
    total = np.asarray(comparisons, dtype=np.float64)
    kept = _usable(group, made, total)
    if len(kept) < 2:
        return _undefined("fewer than two groups with comparisons between two people or more", kept, BOOTSTRAP)
    order, bounds, place = _arrange(group, made, kept)
    at_i, at_j = place[i], place[j]
    inside = (at_i >= 0) & (at_j >= 0)
    inside[inside] = group[i[inside]] == group[j[inside]]
    if not np.asarray(count)[inside].any():
        return _undefined("no false match within any group", kept, BOOTSTRAP)
    rows = resample.adjacency(at_i[inside], at_j[inside], np.asarray(count)[inside].astype(np.int64), len(order))
    out = _zeros(draws, len(kept))
    data = (bounds, made[order], total[kept], *rows)
    state = (out.errors, out.comparisons, out.squares, out.fourths)
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    resample.pair_draws(0, 1, key, *data, False, *state)
    resample.pair_draws(1, draws + 1, key, *data, True, *state)
    return _judge(_tails(out, np.diff(bounds).astype(np.float64), True), kept, BOOTSTRAP, len(kept) - 1)


def equality_of_subjects(group: Ints, wrong: Ints, made: Ints, *, seed: int, draws: int = 999) -> EqualityTest:
    """Could the false non-match rates of all groups be equal? The same test for errors that belong to one person each.

    ``group``, ``wrong``, ``made`` [subjects]: group code (-1 = none), errors, and mated comparisons of each subject.
    """
    _check(draws, group, wrong, made)
    size = np.asarray(made, dtype=np.float64)
    most = int(group.max(initial=0)) + 1
    labelled = group >= 0
    total = np.bincount(group[labelled], weights=size[labelled], minlength=most).astype(np.float64)
    kept = _usable(group, size, total)
    if len(kept) < 2:
        return _undefined("fewer than two groups with comparisons of two people or more", kept, BOOTSTRAP)
    order, bounds, _ = _arrange(group, size, kept)
    errors = np.asarray(wrong, dtype=np.int64)[order]
    if not errors.any():
        return _undefined("no error in any group", kept, BOOTSTRAP)
    out = _zeros(draws, len(kept))
    data = (bounds, size[order], errors)
    state = (out.errors, out.comparisons, out.squares, out.fourths)
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    resample.self_draws(0, 1, key, *data, False, *state)
    resample.self_draws(1, draws + 1, key, *data, True, *state)
    return _judge(_tails(out, np.diff(bounds).astype(np.float64), True), kept, BOOTSTRAP, len(kept) - 1)


def permutation_of_pairs(
    i: Ints,
    j: Ints,
    count: Ints,
    group: Ints,
    size: Floats,
    comparisons: float,
    *,
    seed: int,
    draws: int = 999,
) -> EqualityTest:
    """Would labels dealt out at random over the people differ as much? Shown beside the test of equality, decides nothing.

    Rejects whenever labels carry information, for instance where people score lower across groups, even if the within-group
    rates are equal. ``i``, ``j``, ``count``: ALL false matches among labelled subjects, across groups too;
    ``comparisons``: all non-mated comparisons among them; ``size`` as in `equality_of_pairs`.
    """
    _check(draws, i, j, count)
    _check(draws, group, size)
    made = np.asarray(size, dtype=np.float64)
    labelled = (group >= 0) & (made > 0)
    codes = np.unique(group[labelled]).astype(np.int64)
    if len(codes) < 2:
        return _undefined("fewer than two groups", codes, PERMUTATION)
    place = np.full(len(group), -1, dtype=np.int64)
    place[labelled] = np.arange(int(labelled.sum()))
    at_i, at_j = place[i], place[j]
    inside = (at_i >= 0) & (at_j >= 0)
    if not np.asarray(count)[inside].any():
        return _undefined("no false match among labelled people", codes, PERMUTATION)
    label = np.searchsorted(codes, group[labelled]).astype(np.int64)
    rows = resample.adjacency(at_i[inside], at_j[inside], np.asarray(count)[inside].astype(np.int64), len(label))
    own = made[labelled]
    scale = 2.0 * float(comparisons) / (own.sum() ** 2 - np.square(own).sum())
    out = _zeros(draws, len(codes))
    state = (out.errors, out.comparisons, out.squares, out.fourths)
    key = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    resample.label_draws(0, draws + 1, key, label, len(codes), own, *rows, scale, *state)
    # exact under its own claim, so nothing holds it back
    return _judge(_tails(out, np.bincount(label).astype(np.float64), False), codes, PERMUTATION, 0)
