"""From a tile of scores to integer counts while the tile is still in the cache; exact at every edge, without fast maths.

A score's *level* is the number of edges at or below it, as in `audit_toolkit.core.cells`. A thousand million scores leave no
time for a search each, so the range is cut into even cells whose width is a power of two: ``cell = floor(s * 2^m)``. Scaling by
a power of two is exact, so the borders of cells are exact too, and an edge that is a multiple of 2^-m (`even_edges` makes
such) needs no comparison at all. The few other edges (asked thresholds) are counted one by one, "how many scores are at or
above it", by comparing in float32. Nothing is rounded that decides a count. Grids with more than 16 such edges, and
rectangles of few scores, are counted by bisection: slower, equally exact.

Promise: serial kernels that release the interpreter lock, integer additions only. What it does not: NaN is not a score; rows
that could give one never become templates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

LANES = 4
"""Sub-histograms of one tile: neighbours never add to the same counter, so no addition waits for the one before."""
MOST_ODD = 16
_DIRECT = 1 << 15  # a rectangle of fewer scores than this is counted straight into its levels
_STEP = 128  # scores looked at together when pairs are listed
_FINE = 16  # and then, where there is one
_MOST_CELLS = 8192

_jit = nb.njit(nogil=True, cache=True)
_inline = nb.njit(nogil=True, cache=True, inline="always")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Edges prepared for counting.

    ``per`` = 2^m; cell numbers run from ``first`` (everything below the edges) to ``last``. ``base`` [cells + 1]: edges at or
    below a cell's lower border (all of them at the end). ``cell`` [edges]: the cell that begins at the edge, -1 - q for the
    q-th odd edge; ``odd``: those that are no border. ``direct``: too many odd ones, every score is searched.
    """

    edges: NDArray[np.float32]
    per: np.float32
    first: int
    last: int
    base: NDArray[np.int32]
    cell: NDArray[np.int32]
    odd: NDArray[np.float32]
    direct: bool

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return self.last - self.first + 1


def _power(low: float, high: float, size: int) -> int:
    """The largest m with at most ``size`` cells of width 2^-m from low to high, and cell numbers exact in float32."""
    span = max(high - low, 1e-30)
    m = math.floor(math.log2(size / span)) if size > 1 else 0
    largest = max(abs(low), abs(high), 1e-30)
    return max(-100, min(m, 100, 21 - math.ceil(math.log2(largest))))


def table(edges: NDArray[np.float32]) -> Table:
    """Prepare ascending finite float32 edges (at least one)."""
    low, high = float(edges[0]), float(edges[-1])
    m = _power(low, high, _MOST_CELLS)
    scaled = edges.astype(np.float64) * 2.0**m
    border = np.floor(scaled) == scaled
    first, last = math.floor(scaled[0]) - 1, math.floor(scaled[-1])
    base = np.searchsorted(scaled, np.arange(first, last + 2), side="right").astype(np.int32)
    base[0], base[-1] = 0, len(edges)
    cell = np.where(border, np.floor(scaled) - first, 0).astype(np.int32)
    cell[~border] = -1 - np.arange(int((~border).sum()))
    odd = np.ascontiguousarray(edges[~border])
    return Table(edges, np.float32(2.0**m), first, last, base, cell, odd, len(odd) > MOST_ODD)


def even_edges(low: float, high: float, size: int = 4096, asked: Any = ()) -> NDArray[np.float32]:
    """An even float32 grid over [low, high], at most about ``size`` edges, with every asked threshold as an edge.

    The grid's step is a power of two, which makes it the quickest to count; its ends lie at or beyond ``low`` and ``high``.
    """
    m = _power(low, high, size)
    a, b = math.floor(low * 2.0**m), math.ceil(high * 2.0**m)
    grid = (np.arange(a, b + 1) * 2.0**-m).astype(np.float32)
    return np.unique(np.concatenate([grid, np.asarray(list(asked), np.float32)]))


@_inline
def _level(score: Any, edges: Any, base: Any, per: Any, first: Any, last: Any) -> Any:
    """The level of one score: its cell, then bisection among the edges inside."""
    t = score * per
    t = t if t > nb.float32(first) else nb.float32(first)
    t = t if t < nb.float32(last) else nb.float32(last)
    k = np.int64(t)
    k -= np.int64(t < nb.float32(k)) + np.int64(first)
    low, high = np.int64(base[k]), np.int64(base[k + 1])
    while low < high:
        middle = (low + high) >> 1
        if score >= edges[middle]:
            low = middle + 1
        else:
            high = middle
    return low


@_jit
def _rectangle(
    scores: Any, r0: int, r1: int, c0: int, c1: int, begin: Any, edges: Any, base: Any, cell: Any, odd: Any, per: Any,
    first: int, last: int, direct: bool, lowest: Any, slot: Any, hist: Any, reach: Any, flagged: Any, out: Any,
) -> None:  # fmt: skip
    """Add the scores of rows r0..r1, columns max(c0, begin[row])..c1, all of one group cell, to ``out`` [L] by level.

    Marks the rows that hold a score at or above ``lowest``.
    """
    one = nb.int32(1)
    if direct or (r1 - r0) * (c1 - c0) < _DIRECT:
        for r in range(r0, r1):
            for c in range(max(c0, begin[r]), c1):
                out[_level(scores[r, c], edges, base, per, first, last)] += 1
            flagged[r] = one
        return
    cells = last - first + 1
    hist[:] = 0
    reach[:] = 0
    bottom, top, offset = nb.float32(first), nb.float32(last), nb.int32(first)
    total = np.int64(0)
    for r in range(r0, r1):
        a = max(c0, begin[r])
        n = c1 - a
        if n <= 0:
            continue
        total += n
        row = scores[r, a:c1]
        # Passes of their own, because the compiler makes vector instructions of all but the additions to the histogram.
        for c in range(n):
            t = row[c] * per
            t = t if t > bottom else bottom
            t = t if t < top else top
            k = nb.int32(t)
            slot[c] = nb.uint32(k - nb.int32(t < nb.float32(k)) - offset)
        hits = nb.int32(0)
        for c in range(n):
            hits += nb.int32(row[c] >= lowest)
        if hits > 0:
            flagged[r] = one
        for q in range(len(odd)):
            edge = odd[q]
            hits = nb.int32(0)
            for c in range(n):
                hits += nb.int32(row[c] >= edge)
            reach[q] += hits
        full = n - n % 4
        for c in range(0, full, 4):
            hist[0, slot[c]] += one
            hist[1, slot[c + 1]] += one
            hist[2, slot[c + 2]] += one
            hist[3, slot[c + 3]] += one
        for c in range(full, n):
            hist[0, slot[c]] += one
    # From the top down: how many scores lie in this cell or above it, hence how many reach each edge.
    above = np.int64(0)
    k = cells - 1
    before = np.int64(0)  # scores at or above the edge after this one
    for e in range(len(edges) - 1, -1, -1):
        if cell[e] >= 0:
            while k >= cell[e]:
                above += np.int64(hist[0, k]) + hist[1, k] + hist[2, k] + hist[3, k]
                k -= 1
            here = above
        else:
            here = reach[-1 - cell[e]]
        if here != before:  # most levels hold nothing, and a state of many groups does not fit into the cache
            out[e + 1] += here - before
            before = here
    out[0] += total - before


@_jit
def to_distance_order(products: Any, rows: Any, columns: Any, a: Any, b: Any) -> None:
    """Turn products a.b into 2 a.b - |a|^2 - |b|^2 in place, in float32; ``a``, ``b``: squared norms."""
    two = nb.float32(2)
    for r in range(rows):
        row, own = products[r], a[r]
        for c in range(columns):
            row[c] = two * row[c] - (own + b[c])


@_jit
def _list_row(
    row: Any, i: int, j0: int, first: int, last: int, ranges: Any, image: Any, found: Any, score: Any, at: int
) -> int:
    """Append the pairs of one row whose score lies in a range; returns the new length."""
    for c0 in range(first, last, _STEP):
        c1 = min(c0 + _STEP, last)
        for q in range(len(ranges)):
            lo, hi = ranges[q, 0], ranges[q, 1]
            part = row[c0:c1]
            hits = nb.int32(0)
            for c in range(c1 - c0):
                hits += nb.int32(part[c] >= lo) & nb.int32(part[c] <= hi)
            if hits == 0:
                continue
            for b0 in range(c0, c1, _FINE):
                b1 = min(b0 + _FINE, c1)
                hits = nb.int32(0)
                for c in range(b0, b1):
                    hits += nb.int32(row[c] >= lo) & nb.int32(row[c] <= hi)
                if hits == 0:
                    continue
                for c in range(b0, b1):
                    s = row[c]
                    if s >= lo and s <= hi and not (image[i] >= 0 and image[i] == image[j0 + c]):
                        found[at, 0] = i
                        found[at, 1] = j0 + c
                        score[at] = s
                        at += 1
    return at


@_jit
def count_tile(
    scores: Any, i0: Any, j0: Any, rows: Any, columns: Any, group: Any, end: Any, image: Any, chain_of: Any,
    chain_start: Any, chain: Any, edges: Any, base: Any, cell: Any, odd: Any, per: Any, first: int, last: int, direct: bool,
    ranges: Any, begin: Any, slot: Any, hist: Any, reach: Any, flagged: Any, found: Any, found_score: Any, own: Any,
    own_score: Any, list_own: bool, nonmated: Any, mated: Any, excluded: Any, listed: int, listed_own: int,
) -> tuple[int, int]:  # fmt: skip
    """Count one tile of scores [T, T] between templates i0.. and j0.. (i < j), in place; the new lengths of the two lists.

    Templates stand sorted by group, then subject, so a row's mates are the columns before ``end[i]`` and everything from
    there on is non-mated; a tile falls into few rectangles of one group cell each.
    """
    lowest = ranges[0, 0] if len(ranges) else nb.float32(np.inf)
    flagged[:] = 0
    for r in range(rows):
        i = i0 + r
        begin[r] = max(np.int64(0), np.int64(end[i]) - j0)
        for c in range(max(np.int64(0), np.int64(i) + 1 - j0), min(np.int64(end[i]) - j0, np.int64(columns))):
            g = group[i]
            if image[i] >= 0 and image[i] == image[j0 + c]:
                excluded[g, g, 1] += 1
                continue
            s = scores[r, c]
            mated[g, _level(s, edges, base, per, first, last)] += 1
            if list_own:
                own[listed_own, 0] = i
                own[listed_own, 1] = j0 + c
                own_score[listed_own] = s
                listed_own += 1
    r0 = 0
    while r0 < rows:
        g = group[i0 + r0]
        r1 = r0 + 1
        while r1 < rows and group[i0 + r1] == g:
            r1 += 1
        c0 = 0
        while c0 < columns:
            h = group[j0 + c0]
            c1 = c0 + 1
            while c1 < columns and group[j0 + c1] == h:
                c1 += 1
            # Columns of a lower group stand before every row here: on the diagonal tile only, where begin skips them.
            if h >= g:
                _rectangle(scores, r0, r1, c0, c1, begin, edges, base, cell, odd, per, first, last, direct, lowest, slot,
                           hist, reach, flagged, nonmated[g, h])  # fmt: skip
            c0 = c1
        r0 = r1
    for r in range(rows):
        i = i0 + r
        if chain_of[i] >= 0:  # pictures that show other people too: their pairs were counted above and are taken back
            at, stop = chain_start[chain_of[i]], chain_start[chain_of[i] + 1]
            while at < stop:
                middle = (at + stop) >> 1
                if chain[middle] < j0 + begin[r]:
                    at = middle + 1
                else:
                    stop = middle
            while at < chain_start[chain_of[i] + 1] and chain[at] < j0 + columns:
                c = chain[at] - j0
                level = _level(scores[r, c], edges, base, per, first, last)
                nonmated[group[i], group[j0 + c], level] -= 1
                excluded[group[i], group[j0 + c], 0] += 1
                at += 1
        if flagged[r] and len(ranges):
            listed = _list_row(scores[r], i, j0, begin[r], columns, ranges, image, found, found_score, listed)
    return listed, listed_own
