"""Templates made ready to be compared all with all: sorted, normalised once, cut into tiles of one fixed shape.

Why: a matrix product of fixed shape on one thread gives the same bits every time, whatever the number of workers and the
order of tiles; narrow rests do not. So the last tile is filled up with zero rows, which are never counted. Templates are
sorted by group and subject, so that mates stand side by side and a tile falls into few rectangles of one group cell each.

Promise: at most one float32 copy of the vectors (on disk past a bound), and memory that does not depend on the number of
pairs. What it does not: which bits a product has depends on the BLAS library and the processor; `fp32_bound` says by how
much it can be off, and `rescore` gives the number that does not depend on either.

Scores: larger is more alike. ``cosine`` and ``inner`` are the products; ``l2`` is the negative *squared* Euclidean distance.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.binning import to_distance_order
from audit_toolkit.core.fold import Batch, Partition, digest_arrays
from audit_toolkit.errors import AuditError, UsageError

METRICS = ("cosine", "inner", "l2")
TILE = 512
UNUSABLE = ("", "no subject or group", "not a finite number", "a zero vector under cosine", "values too large")
"""Why a template is not compared, by the code in `Prepared.unusable`; code 0 is "used"."""
_LARGEST_NORM = 1e18  # products of such rows stay finite in float32
_ROWS = 8192  # rows read together
_TOGETHER = 16  # tiles of one batch: about 50 ms between two looks at progress and interruption

_jit = nb.njit(nogil=True, cache=True)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Templates in the order in which they are compared; all positions below are in this order.

    ``rows`` [n filled up to whole tiles, d] float32; ``order`` int64[n] the template's place in what was given; ``subject``,
    ``group``, ``image`` int32[n]; ``end`` int32[n] one past the subject's last template; ``squares`` float32 [rows] squared
    norms (l2). ``unusable`` int8[N] in the order given, see `UNUSABLE`. ``chain*``: templates of pictures that show several
    subjects. ``subjects`` counts codes, ``groups`` groups.
    """

    rows: NDArray[np.float32]
    order: NDArray[np.int64]
    subject: NDArray[np.int32]
    group: NDArray[np.int32]
    image: NDArray[np.int32]
    end: NDArray[np.int32]
    squares: NDArray[np.float32]
    unusable: NDArray[np.int8]
    chain_of: NDArray[np.int32]
    chain_start: NDArray[np.int64]
    chain: NDArray[np.int32]
    subjects: int
    groups: int
    metric: str
    tile: int
    largest_norm: float
    digest: str

    @property
    def n(self) -> int:
        """How many templates are compared."""
        return len(self.order)

    @property
    def blocks(self) -> int:
        """How many blocks of rows there are."""
        return len(self.rows) // self.tile

    @property
    def pairs(self) -> int:
        """How many unordered pairs of templates there are, excluded ones included."""
        return self.n * (self.n - 1) // 2

    @property
    def mated_pairs(self) -> int:
        """How many pairs are of one subject, those of one image included."""
        return int((self.end.astype(np.int64) - np.arange(self.n) - 1).sum())


def prepare(
    vectors: Any,
    subject: NDArray[np.int32],
    image: NDArray[np.int32] | None,
    group: NDArray[np.int32],
    groups: int,
    metric: str = "cosine",
    *,
    tile: int = TILE,
    most_bytes: int = 4 << 30,
    scratch: Path | None = None,
) -> Prepared:
    """Sort, normalise and pad ``vectors`` [N, d] (float16/32/64, may be memory-mapped); each row keeps its place's codes.

    ``image``: the same code = the same picture, -1 or ``None`` = unknown; pairs of one picture are not comparisons. Rows
    without subject or group (-1), with NaN or infinity, of zero length under cosine or beyond 1e18 in length are left out and
    counted in ``unusable``. Cosine: each row is divided by its norm in float64 and cast once. A float32 copy larger than
    ``most_bytes`` is written to a file in ``scratch`` (required then) and mapped.

    Raises `UsageError` for shapes or a metric that cannot be meant, `AuditError` for a subject in two groups.
    """
    if metric not in METRICS:
        raise UsageError(f"Unknown metric {metric!r}.", mend=f"Choose one of {', '.join(METRICS)}.")
    if getattr(vectors, "ndim", 0) != 2 or vectors.dtype.kind != "f" or vectors.shape[1] == 0:
        raise UsageError("Embeddings are not a table of floating-point numbers, one row a template.")
    n, d = vectors.shape
    image = np.full(n, -1, np.int32) if image is None else image
    if not (len(subject) == len(image) == len(group) == n):
        raise UsageError("Embeddings and their codes are not equally many.", mend="Give one code for each row.")
    if n and int(np.max(group)) >= groups:
        raise UsageError("A group code lies beyond the number of groups.")
    norm, unusable = _judge(vectors, subject, group, metric)
    keep = np.flatnonzero(unusable == 0)
    _one_group_each(subject[keep], group[keep])
    order = keep[np.lexsort((keep, subject[keep], group[keep]))]
    if len(order) >= 2**31 - tile:
        raise UsageError("More than two thousand million templates.")
    rows = _space(-(-len(order) // tile) * tile, d, most_bytes, scratch)
    squares = np.zeros(len(rows), np.float32)
    largest = 0.0
    for a in range(0, len(order), _ROWS):
        part = order[a : a + _ROWS]
        values = _read(vectors, part).astype(np.float64)
        if metric == "cosine":
            values /= norm[part, None]
        rows[a : a + len(part)] = values
        own = np.square(rows[a : a + len(part)].astype(np.float64)).sum(axis=1)
        squares[a : a + len(part)] = own
        largest = max(largest, float(np.sqrt(own.max())))
    held = np.ascontiguousarray(subject[order], np.int32)
    change = np.append(np.flatnonzero(held[1:] != held[:-1]) + 1, len(held))
    end = np.repeat(change, np.diff(np.concatenate([[0], change]))) if len(held) else np.empty(0)
    pictures = np.ascontiguousarray(image[order], np.int32)
    codes: dict[str, Any] = {
        "subject": held,
        "group": np.ascontiguousarray(group[order], np.int32),
        "image": pictures,
        "end": end.astype(np.int32),
    }
    digest = digest_arrays({**codes, "rows": rows[: len(order)], "metric": np.frombuffer(metric.encode(), np.uint8)})
    return Prepared(
        rows, order, **codes, squares=squares, unusable=unusable, **_chains(pictures, held),
        subjects=int(subject.max()) + 1 if n else 0, groups=groups, metric=metric, tile=tile,
        largest_norm=largest, digest=digest,
    )  # fmt: skip


def _read(vectors: Any, places: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(vectors[places])


def _judge(vectors: Any, subject: Any, group: Any, metric: str) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """The norm (float64) of each row and why it cannot be used."""
    n = len(vectors)
    norm = np.zeros(n, np.float64)
    unusable = np.zeros(n, np.int8)
    for a in range(0, n, _ROWS):
        values = np.asarray(vectors[a : a + _ROWS], np.float64)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
        with np.errstate(over="ignore"):
            norm[a : a + _ROWS] = np.sqrt(np.square(np.where(finite[:, None], values, 0.0)).sum(axis=1))
        unusable[a : a + _ROWS][np.logical_not(finite)] = 2
    if metric == "cosine":
        unusable[(unusable == 0) & (norm == 0.0)] = 3
    unusable[(unusable == 0) & (norm > (np.finfo(np.float64).max if metric == "cosine" else _LARGEST_NORM))] = 4
    unusable[(subject < 0) | (group < 0)] = 1
    return norm, unusable


def _one_group_each(subject: NDArray[np.int32], group: NDArray[np.int32]) -> None:
    order = np.argsort(subject, kind="stable")
    s, g = subject[order], group[order]
    if bool(((s[1:] == s[:-1]) & (g[1:] != g[:-1])).any()):
        raise AuditError(
            "A subject stands in two groups, and a comparison belongs to one cell.",
            mend="Leave such subjects out, or mend their labels.",
        )


def _space(n: int, d: int, most_bytes: int, scratch: Path | None) -> NDArray[np.float32]:
    if n * d * 4 <= most_bytes:
        return np.zeros((n, d), np.float32)
    if scratch is None:
        raise UsageError(
            f"The templates need {n * d * 4 / 1e9:.1f} GB in float32.",
            mend="Give a folder for a copy on disk, or allow more memory.",
        )
    # A new file is all zeros, as the padding has to be.
    return np.lib.format.open_memmap(scratch / "templates.npy", "w+", np.float32, (n, d))


def _chains(image: NDArray[np.int32], subject: NDArray[np.int32]) -> dict[str, Any]:
    """Templates of each picture that shows two subjects or more, in order; ``chain_of`` -1 for all others."""
    order = np.argsort(image, kind="stable")
    order = order[image[order] >= 0]
    code = image[order]
    starts = np.flatnonzero(np.append(True, code[1:] != code[:-1])) if len(code) else np.empty(0, np.int64)
    sizes = np.diff(np.append(starts, len(code)))
    # Sorted by place, hence by subject within a group: several subjects if any neighbours differ.
    differs = np.zeros(len(code), np.int64)
    differs[1:] = (subject[order][1:] != subject[order][:-1]) & (code[1:] == code[:-1])
    several = np.add.reduceat(differs, starts) > 0 if len(code) else np.empty(0, np.bool_)
    chain = order[np.repeat(several, sizes)].astype(np.int32)
    chain_start = np.concatenate([[0], np.cumsum(sizes[several])]).astype(np.int64)
    chain_of = np.full(len(image), -1, np.int32)
    chain_of[chain] = np.repeat(np.arange(int(several.sum()), dtype=np.int32), sizes[several])
    return {"chain_of": chain_of, "chain_start": chain_start, "chain": chain}


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every BLAS library to one thread a caller: workers stand side by side, and products keep their bits."""
    import scipy.linalg.cython_blas  # noqa: F401 - the compiled kernels' BLAS has to be there before it can be held
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def blas_in_use() -> list[dict[str, str]]:
    """Which BLAS libraries and processor kernels are loaded: name, version, kernel. They go into the run's record.

    The compiled kernels take their products from SciPy's.
    """
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import threadpool_info

    found = [i for i in threadpool_info() if i.get("user_api") == "blas"]
    told = [
        {"name": str(i["internal_api"]), "version": str(i["version"]), "kernel": str(i.get("architecture"))}
        for i in found
    ]
    return sorted((dict(t) for t in {tuple(t.items()) for t in told}), key=lambda t: t["name"])


def tiles(prepared: Prepared) -> NDArray[np.int32]:
    """All tiles of the upper triangle [tiles, 2]: row block, column block; a row of tiles after the other."""
    i, j = np.triu_indices(prepared.blocks)
    return np.stack([i, j], axis=1).astype(np.int32)


def partitions(prepared: Prepared, per: int | None = None) -> list[Partition]:
    """Blocks of tiles to be folded (about 200, at least one tile each; ``per`` tiles where given).

    A batch is a few tiles: ``tile`` int32 [m, 2], ``n`` = the pairs in them. The cut depends on the templates alone.
    """
    every = tiles(prepared)
    per = per or max(1, len(every) // 200)
    return [_partition(prepared, every[a : a + per]) for a in range(0, len(every), per)]


def _partition(prepared: Prepared, block: NDArray[np.int32]) -> Partition:
    def batches() -> Iterator[Batch]:
        for a in range(0, len(block), _TOGETHER):
            part = block[a : a + _TOGETHER]
            yield Batch({"tile": part}, sum(_pairs_in(prepared, int(i), int(j)) for i, j in part))

    return batches


def _pairs_in(prepared: Prepared, i: int, j: int) -> int:
    rows = min(prepared.tile, prepared.n - i * prepared.tile)
    columns = min(prepared.tile, prepared.n - j * prepared.tile)
    return rows * (rows - 1) // 2 if i == j else rows * columns


_LOCAL = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A buffer of this thread, by name; what it held is lost at the next call."""
    held: dict[tuple[Any, ...], NDArray[Any]] = _LOCAL.__dict__.setdefault("held", {})
    key = (name, shape, np.dtype(dtype).str)
    if key not in held:
        for old in [k for k in held if k[0] == name]:
            del held[old]
        held[key] = np.empty(shape, dtype)
    return held[key]


@_jit
def product(rows: Any, squares: Any, l2: bool, i0: Any, j0: Any, t: Any, out: Any) -> None:
    """Scores of templates i0..i0+t against j0..j0+t into ``out`` [t, t]: one BLAS product of the fixed shape."""
    np.dot(rows[i0 : i0 + t], rows[j0 : j0 + t].T, out)
    if l2:
        to_distance_order(out, t, t, squares[i0 : i0 + t], squares[j0 : j0 + t])


def score_tile(prepared: Prepared, i: int, j: int) -> NDArray[np.float32]:
    """Scores [T, T] between row blocks i and j, in this thread's buffer (overwritten by the next call)."""
    t = prepared.tile
    out = scratch("scores", (t, t), np.float32)
    product(prepared.rows, prepared.squares, prepared.metric == "l2", i * t, j * t, t, out)
    return out


@_jit
def _exact(rows: Any, i: Any, j: Any, squared: bool, out: Any) -> None:
    d = rows.shape[1]
    full = d - d % 8
    for p in range(len(i)):
        a, b = rows[i[p]], rows[j[p]]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        if squared:
            for k in range(0, full, 8):
                x0, x1 = np.float64(a[k]) - np.float64(b[k]), np.float64(a[k + 1]) - np.float64(b[k + 1])
                x2, x3 = np.float64(a[k + 2]) - np.float64(b[k + 2]), np.float64(a[k + 3]) - np.float64(b[k + 3])
                x4, x5 = np.float64(a[k + 4]) - np.float64(b[k + 4]), np.float64(a[k + 5]) - np.float64(b[k + 5])
                x6, x7 = np.float64(a[k + 6]) - np.float64(b[k + 6]), np.float64(a[k + 7]) - np.float64(b[k + 7])
                s0 -= x0 * x0
                s1 -= x1 * x1
                s2 -= x2 * x2
                s3 -= x3 * x3
                s4 -= x4 * x4
                s5 -= x5 * x5
                s6 -= x6 * x6
                s7 -= x7 * x7
            for k in range(full, d):
                x0 = np.float64(a[k]) - np.float64(b[k])
                s0 -= x0 * x0
        else:
            for k in range(0, full, 8):
                s0 += np.float64(a[k]) * np.float64(b[k])
                s1 += np.float64(a[k + 1]) * np.float64(b[k + 1])
                s2 += np.float64(a[k + 2]) * np.float64(b[k + 2])
                s3 += np.float64(a[k + 3]) * np.float64(b[k + 3])
                s4 += np.float64(a[k + 4]) * np.float64(b[k + 4])
                s5 += np.float64(a[k + 5]) * np.float64(b[k + 5])
                s6 += np.float64(a[k + 6]) * np.float64(b[k + 6])
                s7 += np.float64(a[k + 7]) * np.float64(b[k + 7])
            for k in range(full, d):
                s0 += np.float64(a[k]) * np.float64(b[k])
        out[p] = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


def rescore(
    prepared: Prepared, i: Sequence[int] | NDArray[Any], j: Sequence[int] | NDArray[Any]
) -> NDArray[np.float64]:
    """The scores of given pairs in float64, eight partial sums added in one fixed order: the same on every machine.

    A product of two float32 values is exact in float64, so only the additions round.
    """
    left, right = np.asarray(i, np.int64), np.asarray(j, np.int64)
    out = np.empty(len(left), np.float64)
    _exact(prepared.rows, left, right, prepared.metric == "l2", out)
    return out


def fp32_bound(prepared: Prepared) -> float:
    """How far a tile's float32 score and `rescore` can be apart, whatever the order of summation.

    |fl(a.b) - a.b| <= gamma_d |a|.|b| with gamma_d = d u / (1 - d u), u = 2^-24 (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., 3.1), by Cauchy-Schwarz at most gamma_d times the product of the norms; an underflow adds at most
    2^-126 each. For l2 the product counts twice and the three float32 operations after it at most 12 u times the largest
    squared norm. The float64 sum's own error is added. Holds for any BLAS that multiplies and adds in float32 or better.
    """
    d = int(prepared.rows.shape[1])
    norm2 = prepared.largest_norm**2 * (1 + 2.0**-20)

    def gamma(u: float) -> float:
        return (d + 2) * u / (1 - (d + 2) * u)

    one = (gamma(2.0**-24) + gamma(2.0**-53)) * norm2 + d * 2.0**-126
    if prepared.metric == "l2":
        one = 2 * gamma(2.0**-24) * norm2 + 12 * 2.0**-24 * norm2 + 4 * gamma(2.0**-53) * norm2 + 2 * d * 2.0**-126
    return float(one)
