"""One probe against a whole gallery: where the mate ranks, what it scores, and which other people come close.

Why: live face recognition and investigations search one face among many, and what matters there is counted per search. This
keeps, of every search, the few numbers that all identification measures are made of, while the scores themselves are made
tile by tile and forgotten.
Promise: every kept number is exact. Scores are ``float32`` matrix products only where that cannot matter: whenever a score
lies within a rigorous rounding bound of what it is compared with, it is scored again in ``float64`` in one fixed order. So
nothing depends on tile shape, threads, BLAS or processor, and equal templates tie exactly. Ties count against the system. A
person enrolled several times is one candidate, with the best of the scores. Memory does not grow with probes x gallery.
Not promised: anything about rows that are not finite (or zero under cosine); `prepare` says which, and the caller counts them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba as nb
import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import InputError, UsageError

Metric = Literal["cosine", "inner", "l2"]
Floats = NDArray[np.float64]

_jit = nb.njit(nogil=True, cache=True)

ROWS, COLUMNS = 256, 512
"""One tile: probes x gallery templates. Its scores (.5 MiB) stay in a core's cache between the product and the scan."""

MOST_LEVELS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """Templates ready to be compared: ``vectors`` [n, d] float32 C-contiguous (unit length under cosine), ``subject`` [n]
    int64, ``image`` [n] int64 (the same code = the same image, on both sides alike; -1 = unknown).
    """

    vectors: NDArray[np.float32]
    subject: NDArray[np.int64]
    image: NDArray[np.int64]
    metric: Metric


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What is kept of every search, in the order of the probes.

    ``mate_score`` [probes]: best score of the probe's own person among the enrolled; NaN where that person is not enrolled
    (or only with the very same image: ``same_image`` true). ``ahead`` [probes]: how many other people score at least as high
    as the mate, so the mate's rank is ``ahead + 1``; -1 without a mate. ``competitors`` [probes, kept] int64: who they are
    where there are at most ``kept`` of them, else -1. ``best`` [probes, levels]: highest score of another person whose
    gallery level is at least the column's number (-inf: nobody there); ``best_subject`` whose it is over everybody (-1:
    nobody), ``second`` the highest of anybody else. ``above`` [probes, thresholds]: other people at or above each threshold.
    """

    mate_score: Floats
    same_image: NDArray[np.bool_]
    ahead: NDArray[np.int64]
    competitors: NDArray[np.int64]
    best: Floats
    best_subject: NDArray[np.int64]
    second: Floats
    above: NDArray[np.int64]


def prepare(
    vectors: NDArray[Any], subject: NDArray[Any], image: NDArray[Any] | None, metric: Metric, *, by_subject: bool
) -> tuple[Templates, NDArray[np.bool_]]:
    """Templates ready to be compared, and which rows of the input are among them.

    ``vectors`` [n, d] floats (a memory map is read in blocks). Under cosine rows are divided by their length in ``float64``
    and rounded once. ``by_subject`` sorts them by subject, as `search` needs a gallery to be; otherwise they keep their
    order. Rows that are not finite, or zero under cosine, are left out. Raises `UsageError` for an unknown metric and
    `InputError` for arrays that do not fit together.
    """
    if metric not in ("cosine", "inner", "l2"):
        raise UsageError("This metric is not known.", mend="Choose cosine, inner or l2.")
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or vectors.shape[1] == 0:
        raise InputError(
            "Templates are not rows of floating-point numbers.", mend="Give an array [templates, dimensions]."
        )
    n, d = vectors.shape
    if len(subject) != n or (image is not None and len(image) != n):
        raise InputError("Templates and their subjects differ in number.", mend="Give one subject a template.")
    usable = np.empty(n, np.bool_)
    length = np.empty(n)
    step = max(1, (1 << 22) // d)
    for at in range(0, n, step):
        _lengths(np.ascontiguousarray(vectors[at : at + step], np.float64), length[at : at + step])
    usable = np.isfinite(length) & (length < 1e15)
    if metric == "cosine":
        usable &= length > 1e-15
    kept = np.flatnonzero(usable)
    codes = np.asarray(subject, np.int64)[kept]
    order = kept[np.argsort(codes, kind="stable")] if by_subject else kept
    rows = np.empty((len(order), d), np.float32)
    for at in range(0, len(order), step):
        block = np.asarray(vectors[order[at : at + step]], np.float64)
        if metric == "cosine":
            block /= length[order[at : at + step], None]
        rows[at : at + step] = block
    pictures = np.full(len(order), -1, np.int64) if image is None else np.asarray(image, np.int64)[order]
    return Templates(rows, np.asarray(subject, np.int64)[order], pictures, metric), usable


# ---- kernels -------------------------------------------------------------------------------------------------------------


@_jit
def _lengths(rows: Any, out: Any) -> None:
    """Euclidean lengths, summed in the order of the coordinates: the same on every processor."""
    for i in range(len(rows)):
        total = 0.0
        for k in range(rows.shape[1]):
            total += rows[i, k] * rows[i, k]
        out[i] = np.sqrt(total)


@_jit
def _exact(a: Any, b: Any, squared: bool) -> float:
    """The inner product, or minus the squared distance, in float64 and in the order of the coordinates."""
    total = 0.0
    if squared:
        for k in range(len(a)):
            gap = np.float64(a[k]) - np.float64(b[k])
            total -= gap * gap
    else:
        for k in range(len(a)):
            total += np.float64(a[k]) * np.float64(b[k])
    return total


@_jit
def _mates(
    probes: Any, subject: Any, image: Any, gallery: Any, enrolled: Any, pictures: Any, first: Any, last: Any,
    squared: bool, mate: Any, same: Any,
) -> None:  # fmt: skip
    for i in range(len(subject)):
        best = -np.inf
        for j in range(first[i], last[i]):
            if image[i] >= 0 and image[i] == pictures[j]:
                same[i] = True
                continue
            best = max(best, _exact(probes[i], gallery[j], squared))
        if best > -np.inf:
            mate[i] = best
            same[i] = False


@_jit
def _commit(i: int, person: Any, passed: Any, beats: Any, ahead: Any, competitors: Any, above: Any) -> None:
    """Count the person whose templates have just all been seen."""
    if person[i] < 0:
        return
    for t in range(passed[i]):
        above[i, t] += 1
    if beats[i]:
        if ahead[i] < competitors.shape[1]:
            competitors[i, ahead[i]] = person[i]
        ahead[i] += 1


@_jit
def _scan(
    scores: Any, probes: Any, subject: Any, image: Any, gallery: Any, enrolled: Any, pictures: Any, level: Any,
    scale: float, offset: Any, bound: Any, squared: bool, thresholds: Any, mate: Any,
    person: Any, passed: Any, beats: Any, ahead: Any, competitors: Any, best: Any, best_subject: Any, second: Any, above: Any,
) -> None:  # fmt: skip
    """Take one tile of float32 products into the rows' states; scores that could change anything are made again exactly."""
    width = scores.shape[1]
    deepest = best.shape[1] - 1
    lowest = thresholds[0] if len(thresholds) else np.inf
    for i in range(scores.shape[0]):
        row = scores[i]
        floor = min(min(mate[i], lowest), min(second[i], best[i, deepest]))
        gate = np.float32((floor - bound[i] + offset[i]) / scale)
        gate -= np.abs(gate) * np.float32(3e-7)  # the gate's own rounding, downwards
        for start in range(0, width, 64):
            stop = min(start + 64, width)
            hits = np.int32(0)
            for j in range(start, stop):
                hits += np.int32(row[j] >= gate)
            if hits == 0:
                continue
            for j in range(start, stop):
                if not row[j] >= gate or enrolled[j] == subject[i]:
                    continue
                if image[i] >= 0 and image[i] == pictures[j]:
                    continue
                s = scale * np.float64(row[j]) - offset[i]
                near = s >= second[i] - bound[i] or s >= best[i, level[j]] - bound[i] or abs(s - mate[i]) <= bound[i]
                k = 0
                while not near and k < len(thresholds):
                    near = abs(s - thresholds[k]) <= bound[i]
                    k += 1
                who = enrolled[j]
                if near:
                    s = _exact(probes[i], gallery[j], squared)
                    if who == best_subject[i]:
                        best[i, 0] = max(best[i, 0], s)
                    elif s > best[i, 0]:
                        second[i] = best[i, 0]
                        best[i, 0] = s
                        best_subject[i] = who
                    elif s > second[i]:
                        second[i] = s
                    for deep in range(1, level[j] + 1):
                        best[i, deep] = max(best[i, deep], s)
                    floor = min(min(mate[i], lowest), min(second[i], best[i, deepest]))
                    gate = np.float32((floor - bound[i] + offset[i]) / scale)
                    gate -= np.abs(gate) * np.float32(3e-7)
                if who != person[i]:
                    _commit(i, person, passed, beats, ahead, competitors, above)
                    person[i] = who
                    passed[i] = 0
                    beats[i] = False
                k = passed[i]
                while k < len(thresholds) and s >= thresholds[k]:
                    k += 1
                passed[i] = k
                if s >= mate[i]:
                    beats[i] = True


@_jit
def _last(person: Any, passed: Any, beats: Any, ahead: Any, competitors: Any, above: Any) -> None:
    for i in range(len(person)):
        _commit(i, person, passed, beats, ahead, competitors, above)


# ---- the search ----------------------------------------------------------------------------------------------------------

Blocks = Callable[[Callable[[Sequence[int]], list[Any]], Sequence[int]], Iterator[list[Any]]]
"""Runs a task over lists of block numbers somewhere and yields what each gave, in any order."""


def one_after_another(task: Callable[[Sequence[int]], list[Any]], blocks: Sequence[int]) -> Iterator[list[Any]]:
    """All blocks in the calling thread."""
    yield task(blocks)


def search(
    probes: Templates,
    gallery: Templates,
    thresholds: Sequence[float] | Floats = (),
    *,
    kept: int = 50,
    level: NDArray[np.integer[Any]] | None = None,
    levels: int = 1,
    run: Blocks = one_after_another,
    progress: Callable[[int], None] | None = None,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> Found:
    """Every probe against every enrolled template, exactly.

    ``gallery`` comes from `prepare` with ``by_subject``. ``thresholds`` in score units, ascending, each once (under l2 a score
    is minus the distance). ``kept``: how many competitors ahead of a mate are named. ``level`` [gallery templates]: sub-gallery
    level of each template's subject, below ``levels`` (`subgallery_levels`). ``run`` spreads blocks of probes over workers,
    ``progress`` is told the comparisons done since it was last called. Each worker needs one tile (rows x columns x 4 bytes).
    Raises `UsageError` for thresholds out of order and `InputError` for templates of different kinds or an empty gallery.
    """
    if len(gallery.vectors) == 0:
        raise InputError("The gallery holds no usable template.", mend="Check the gallery file.")
    if probes.metric != gallery.metric or probes.vectors.shape[1] != gallery.vectors.shape[1]:
        raise InputError(
            f"Probes have {probes.vectors.shape[1]} dimensions and the gallery {gallery.vectors.shape[1]}.",
            mend="Use templates of one system on both sides.",
        )
    if (np.diff(gallery.subject) < 0).any():
        raise UsageError("The gallery is not sorted by subject.", mend="Prepare it with by_subject=True.")
    asked = np.asarray(thresholds, np.float64)
    if len(asked) and (not np.isfinite(asked).all() or (np.diff(asked) <= 0).any()):
        raise UsageError("Thresholds must be finite and ascending, each once.")
    depth = np.zeros(len(gallery.vectors), np.int64) if level is None else np.asarray(level, np.int64)
    if not 1 <= levels <= MOST_LEVELS or len(depth) != len(gallery.vectors) or depth.min() < 0 or depth.max() >= levels:
        raise UsageError(
            "Gallery levels do not fit the gallery.", mend="Give one level a template, 0 <= level < levels."
        )
    from threadpoolctl import threadpool_limits

    squared = probes.metric == "l2"
    n = len(probes.vectors)
    first = np.searchsorted(gallery.subject, probes.subject, "left")
    last = np.searchsorted(gallery.subject, probes.subject, "right")
    mate, same = np.full(n, np.inf), np.zeros(n, np.bool_)
    left, right, reach, offset, scale = _arithmetic(probes, gallery)
    if squared:
        # the order of negative distances is the order of negative squared ones
        asked = np.where(asked > 0.0, np.inf, -np.square(asked))
    stop = threading.Event()

    def task(blocks: Sequence[int]) -> list[Any]:
        scratch = np.empty((rows, columns), np.float32)
        done = []
        for at in blocks:
            if stop.is_set():
                break
            part = slice(at, min(at + rows, n))
            done.append((part, _block(part, scratch)))
            if progress is not None:
                progress((part.stop - part.start) * len(gallery.vectors))
        return done

    def _block(part: slice, scratch: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        size = part.stop - part.start
        who, picture, vectors = probes.subject[part], probes.image[part], probes.vectors[part]
        _mates(
            vectors, who, picture, gallery.vectors, gallery.subject, gallery.image, first[part], last[part], squared,
            mate[part], same[part],
        )  # fmt: skip
        person, passed = np.full(size, -1, np.int64), np.zeros(size, np.int64)
        beats, ahead = np.zeros(size, np.bool_), np.zeros(size, np.int64)
        competitors = np.full((size, kept), -1, np.int64)
        best, second = np.full((size, levels), -np.inf), np.full(size, -np.inf)
        best_subject, above = np.full(size, -1, np.int64), np.zeros((size, len(asked)), np.int64)
        for start in range(0, len(gallery.vectors), columns):
            end = min(start + columns, len(gallery.vectors))
            tile = scratch[:size, : end - start]
            np.matmul(left[part], right[start:end].T, out=tile)
            _scan(
                tile, vectors, who, picture, gallery.vectors[start:end], gallery.subject[start:end],
                gallery.image[start:end], depth[start:end], scale, offset[part], reach[part], squared, asked, mate[part],
                person, passed, beats, ahead, competitors, best, best_subject, second, above,
            )  # fmt: skip
        _last(person, passed, beats, ahead, competitors, above)
        return {
            "ahead": ahead, "competitors": competitors, "best": best, "best_subject": best_subject, "second": second,
            "above": above,
        }  # fmt: skip

    found = {
        "ahead": np.zeros(n, np.int64), "competitors": np.full((n, kept), -1, np.int64),
        "best": np.full((n, levels), -np.inf), "best_subject": np.full(n, -1, np.int64), "second": np.full(n, -np.inf),
        "above": np.zeros((n, len(asked)), np.int64),
    }  # fmt: skip
    try:
        with threadpool_limits(1, user_api="blas"):
            for pieces in run(task, range(0, n, rows)):
                for part, piece in pieces:
                    for name, values in piece.items():
                        found[name][part] = values
    except BaseException:
        stop.set()
        raise
    without = ~np.isfinite(mate)
    mate[without] = np.nan
    found["ahead"][without] = -1
    found["competitors"][without | (found["ahead"] > kept)] = -1
    return Found(
        mate_score=_as_score(mate, squared), same_image=same, ahead=found["ahead"], competitors=found["competitors"],
        best=_as_score(found["best"], squared), best_subject=found["best_subject"],
        second=_as_score(found["second"], squared), above=found["above"],
    )  # fmt: skip


def _as_score(values: Floats, squared: bool) -> Floats:
    """Minus the distance, where the kernels keep minus its square; -inf stays -inf."""
    return -np.sqrt(-values) if squared else values


def _arithmetic(probes: Templates, gallery: Templates) -> tuple[Any, Any, Floats, Floats, float]:
    """The two matrices whose product holds the scores, each row's rounding bound, its offset, and the common scale.

    score = scale x product - offset. The product of two float32 vectors of d coordinates, summed in any order, is off by at
    most gamma_d |a| |b| with gamma_d = d u / (1 - d u), u = 2^-24 (Higham 2002, Accuracy and Stability, section 3.1). Under l2
    a coordinate 1 joins the probe and -|b|^2 / 2 the enrolled template, so that the product is a.b - |b|^2 / 2.
    """
    a, b = probes.vectors, gallery.vectors
    squares_a, squares_b = _squares(a), _squares(b)
    largest_b = float(squares_b.max())
    d = a.shape[1]
    unit = 2.0**-24
    lost = d * 2.0**-124  # products that underflow
    if probes.metric != "l2":
        gamma = (d + 2) * unit / (1.0 - (d + 2) * unit)
        return a, b, gamma * np.sqrt(squares_a * largest_b) + lost, np.zeros(len(a)), 1.0
    gamma = (d + 3) * unit / (1.0 - (d + 3) * unit)
    left = np.concatenate([a, np.ones((len(a), 1), np.float32)], axis=1)
    right = np.concatenate([b, (-0.5 * squares_b)[:, None].astype(np.float32)], axis=1)
    reach = gamma * np.sqrt((squares_a + 1.0) * (largest_b + 0.25 * largest_b**2)) + unit * largest_b
    # the two ways to a squared distance also differ by float64 rounding of the squares
    slack = 2.0**-40 * (squares_a + largest_b)
    return left, right, 2.0 * reach + slack + 4.0 * lost, squares_a, 2.0


def _squares(rows: NDArray[np.float32]) -> Floats:
    out = np.empty(len(rows))
    step = max(1, (1 << 22) // rows.shape[1])
    for at in range(0, len(rows), step):
        block = rows[at : at + step].astype(np.float64)
        out[at : at + step] = np.einsum("ij,ij->i", block, block)
    return out


def subgallery_levels(identity: NDArray[np.uint64], most: int) -> NDArray[np.int64]:
    """In how many halvings each person stays: level k with probability 2^-(k+1), at most ``most``.

    The sub-gallery k is everybody of level k or more: nested, about half as large each time, and decided by the hash of the
    person's id alone (``identity`` [subjects] uint64), so that it is the same whatever else is in the file.
    """
    mixed = identity.astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    level = np.zeros(len(mixed), np.int64)
    alive = np.ones(len(mixed), np.bool_)
    for k in range(most):
        alive &= (mixed >> np.uint64(k)) & np.uint64(1) == 0
        level[alive] += 1
    return level
