"""Templates that are the very same numbers: copied images, or one person under two ids.

Promise: equality is decided by the numbers themselves, never by a hash; 0.0 and -0.0 are the same number. What is not
identical to the last bit is not found: an image saved anew gives another template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.sources.stored_vectors import Mapped, read_rows


def row_hash(block: NDArray[Any]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row's numbers, whatever block it stands in: a sum of words times fixed random odd numbers.

    Source: multiply-add hashing, Dietzfelbinger 1996.
    """
    d = block.shape[1]
    factors = np.random.Generator(np.random.PCG64(0x7E3A)).integers(0, 2**64, d, np.uint64) | np.uint64(1)
    words = _plain(block).view(np.dtype(f"<u{block.dtype.itemsize}"))
    hashes: NDArray[np.uint64] = (words.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _plain(block: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(block + block.dtype.type(0))  # -0.0 becomes 0.0


def identical_rows(
    vectors: NDArray[Any], mapped: Mapped | None, rows: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> Iterator[list[int]]:
    """Groups of two rows or more that are identical, each in the order of the file.

    rows: the rows that are judged; hashes: their hashes, in the same order.
    """
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    stops = np.append(starts[1:], len(ranked))
    for a, b in zip(starts.tolist(), stops.tolist(), strict=True) if len(ranked) else ():
        if b - a < 2:
            continue
        groups: dict[bytes, list[int]] = {}
        for row in rows[order[a:b]].tolist():
            groups.setdefault(_plain(read_rows(vectors, mapped, row, row + 1)).tobytes(), []).append(row)
        yield from (same for same in groups.values() if len(same) > 1)
