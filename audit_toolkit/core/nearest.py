"""The k best gallery templates of every probe, exactly, without holding the scores of more than one tile.

Promise: every gallery template is compared; equal scores stand by lower gallery place; memory is that of the result and one
tile a worker. What it does not: scores are float32 products of one fixed tile shape, so two that differ by less than the
rounding of float32 may change places on another BLAS library or processor.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.tiles import TILE, one_blas_thread, scratch
from audit_toolkit.errors import UsageError

_STEP = 128

_jit = nb.njit(nogil=True, cache=True)


@_jit
def _keep_best(scores: Any, rows: int, columns: int, j0: int, best: Any, place: Any) -> None:
    """Merge a tile's scores [rows, columns] into each row's k best, in descending order, in place."""
    k = best.shape[1]
    for r in range(rows):
        row = scores[r]
        for c0 in range(0, columns, _STEP):
            c1 = min(c0 + _STEP, columns)
            worst = best[r, k - 1]
            part = row[c0:c1]
            hits = nb.int32(0)
            for c in range(c1 - c0):
                hits += nb.int32(part[c] > worst)
            if hits == 0:
                continue
            for c in range(c0, c1):
                s = row[c]
                # Strictly better only: among equal scores the earlier place stays ahead.
                if s > best[r, k - 1]:
                    at = k - 1
                    while at > 0 and s > best[r, at - 1]:
                        best[r, at] = best[r, at - 1]
                        place[r, at] = place[r, at - 1]
                        at -= 1
                    best[r, at] = s
                    place[r, at] = j0 + c


def _block(rows: Any, a: int, tile: int, name: str) -> NDArray[np.float32]:
    """Rows a..a+tile as float32; a rest is filled up with zeros, so that every product has one shape."""
    part = np.asarray(rows[a : a + tile])
    if len(part) == tile and part.dtype == np.float32 and part.flags.c_contiguous:
        return part
    out = scratch(name, (tile, rows.shape[1]), np.float32)
    out[: len(part)] = part
    out[len(part) :] = 0
    return out


def top_k(
    probes: Any, gallery: Any, k: int, *, tile: int = TILE, workers: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Gallery places int32 [P, k] and scores float32 [P, k] of each probe's k largest inner products, best first.

    ``probes`` [P, d], ``gallery`` [N, d]: finite floating-point rows (may be memory-mapped); divide by the norms beforehand
    for cosine. Where the gallery holds fewer than k, the place is -1 and the score minus infinity.
    """
    if k < 1:
        raise UsageError("The number of candidates asked for is below 1.")
    if getattr(probes, "ndim", 0) != 2 or getattr(gallery, "ndim", 0) != 2 or probes.shape[1] != gallery.shape[1]:
        raise UsageError("Probes and gallery are not tables of vectors of one length.")
    place = np.full((len(probes), k), -1, np.int32)
    best = np.full((len(probes), k), -np.inf, np.float32)

    def work(a: int) -> None:
        own = _block(probes, a, tile, "probes")
        rows = min(tile, len(probes) - a)
        for j in range(0, len(gallery), tile):
            out = scratch("scores", (tile, tile), np.float32)
            np.matmul(own, _block(gallery, j, tile, "gallery").T, out=out)
            _keep_best(out, rows, min(tile, len(gallery) - j), j, best[a : a + rows], place[a : a + rows])

    with one_blas_thread():
        if workers <= 1:
            for a in range(0, len(probes), tile):
                work(a)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(work, range(0, len(probes), tile)))
    return place, best
