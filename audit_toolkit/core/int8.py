"""Templates in 8 bits with a bound on what they lost, and exact integer products of them.

A template a is written a = s q + r: a scale s, integers q from -127 to 127, and what is left over, r. Only the sizes of the
parts are kept beside q, each rounded upwards, so that whoever reads them can bound what the integer product missed.

Promises: the sizes hold for every finite float32 row, however badly it fits 8 bits; the products are checked, at their
extremes, against exact ones before the first use. Does not promise speed on a processor without 8-bit dot products.

The products come from onnxruntime, an optional package, through a model of one node that is built here byte by byte.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.tiles import Prepared
from audit_toolkit.errors import AuditError, InputError, MissingExtraError, UsageError

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 64  # columns that are tested together; divides every tile's width
MOST_DIMENSIONS = 60_000  # 255 x 127 x 60,000 is below 2**31
SLACK = 2.0**-19
_ZERO_POINT = 128

_jit = nb.njit(nogil=True, cache=True)


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """Templates beside their 8-bit form and what that form leaves out.

    ``codes`` uint8, of the shape of ``prepared.rows``: q + 128. ``scale`` s, ``size`` >= |s q|, ``residual`` >= |r| (1 + slack)
    + |a| slack, ``norm`` >= |a|: float32, one a row. Rows that fill up the last tile are zero in all of them.

    The slack, 2**-19, is 32 units in the last place of float32. For two rows it widens the bound by at least
    2**-19 times (|s_a q_a| |s_b q_b| + bound): four times what the at most eight float32 roundings of the test can amount to,
    and more than what float64 can lose in the exact score.
    """

    prepared: Prepared
    codes: Bytes
    scale: Floats
    size: Floats
    residual: Floats
    norm: Floats


@_jit
def _quantise_rows(vectors: Any, first: int, last: int, slack: float, codes: Any, parts: Any) -> int:
    """Codes and float64 [scale, |s q|, |r| with slack, |a|] of some rows; returns the first row not finite, or -1."""
    d = vectors.shape[1]
    for r in range(first, last):
        top = np.float32(0.0)
        finite = True
        for k in range(d):
            v = abs(vectors[r, k])
            finite &= np.isfinite(v)
            top = max(top, v)
        if not finite:
            return r
        s = np.float32(top / np.float32(127.0))
        inverse = 1.0 / np.float64(s) if s > 0 else 0.0
        near_sum = left_sum = whole_sum = 0.0
        for k in range(d):
            a = np.float64(vectors[r, k])
            q = min(max(np.rint(a * inverse), -127.0), 127.0)
            codes[r, k] = np.uint8(np.int32(q) + 128)
            near = q * np.float64(s)
            left = a - near
            near_sum += near * near
            left_sum += left * left
            whole_sum += a * a
        # Sums of at most 60,000 squares in float64 are within 1e-11 of the truth.
        norm = np.sqrt(whole_sum) * (1.0 + 1e-11)
        parts[r, 0] = s
        parts[r, 1] = np.sqrt(near_sum) * (1.0 + 1e-11)
        parts[r, 2] = np.sqrt(left_sum) * (1.0 + 1e-11) * (1.0 + slack) + norm * slack
        parts[r, 3] = norm
    return -1


def quantise(prepared: Prepared, *, workers: int = 2) -> Quantised:
    """Templates in 8 bits, with a bound on what each row lost.

    Raises `UsageError` where the score is a distance, where a tile is no multiple of 64 rows, and for more than 60,000
    dimensions; `InputError` for a row that is not finite (`prepare` leaves those out).
    """
    refusal = why_not(prepared)
    if refusal is not None:
        raise UsageError(refusal, mend="Use the float32 path.")
    rows = prepared.rows
    codes = np.full(rows.shape, _ZERO_POINT, np.uint8)
    parts = np.zeros((len(rows), 4))
    step = max(1, min(8192, -(-prepared.n // max(1, workers))))

    def part(first: int) -> int:
        return int(_quantise_rows(rows, first, min(first + step, prepared.n), SLACK, codes, parts))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        bad = [row for row in pool.map(part, range(0, prepared.n, step)) if row >= 0]
    if bad:
        raise InputError("A template holds a value that is not a finite number.", where=f"prepared row {bad[0]}")
    scale = parts[:, 0].astype(np.float32)  # exact: it was a float32
    size, residual, norm = (_upward(parts[:, k]) for k in (1, 2, 3))
    return Quantised(prepared, codes, scale, size, residual, norm)


def why_not(prepared: Prepared) -> str | None:
    """Why these templates cannot be scored by 8-bit products, in a sentence; ``None`` where they can."""
    if prepared.metric == "l2":
        return "The 8-bit path scores inner products and cosines, not distances."
    if prepared.rows.shape[1] > MOST_DIMENSIONS:
        return f"Templates of more than {MOST_DIMENSIONS:,} dimensions are too long for 32-bit sums of 8-bit products."
    if prepared.tile % BLOCK:
        return f"Tiles of {prepared.tile} rows cannot be cut into blocks of {BLOCK}."
    return None


def _upward(values: NDArray[np.float64]) -> Floats:
    """Float32 at or above each value (infinite where there is none); zero stays zero."""
    with np.errstate(over="ignore", under="ignore"):
        near: Floats = values.astype(np.float32)
        raised: Floats = np.where(near < values, np.nextafter(near, np.float32(np.inf)), near)
    return raised


class Multiplier:
    """One worker's tile of integer products, in a buffer of its own; the session behind it is shared by all workers."""

    def __init__(self, session: Any, tile: int) -> None:
        self._session, self._binding = session, session.io_binding()
        self.products: NDArray[np.int32] = np.zeros((tile, tile), np.int32)
        self._binding.bind_output("y", "cpu", 0, np.int32, (tile, tile), self.products.ctypes.data)
        self._turned = np.empty(0, np.int8)

    def columns(self, codes: Bytes) -> None:
        """Set the tile's second side, uint8 [tile, d] as in `Quantised`; it stays until the next call."""
        turned = np.ascontiguousarray(codes.T)
        np.bitwise_xor(turned, np.uint8(_ZERO_POINT), out=turned)  # q + 128 as unsigned -> q as signed
        self._turned = turned.view(np.int8)
        self._binding.bind_input("b", "cpu", 0, np.int8, self._turned.shape, self._turned.ctypes.data)

    def rows(self, codes: Bytes) -> NDArray[np.int32]:
        """The integer products of these rows, uint8 [tile, d], with the columns: int32 [tile, tile], overwritten next time."""
        self._binding.bind_input("a", "cpu", 0, np.uint8, codes.shape, codes.ctypes.data)
        self._session.run_with_iobinding(self._binding)
        return self.products


@lru_cache(maxsize=4)
def open_session(tile: int, d: int) -> Any:
    """A session that multiplies tiles on one thread, checked to be exact; many workers may use it at once.

    Raises `MissingExtraError` without onnxruntime, and `AuditError` where the products are not exact: without 8-bit dot
    product instructions some processors add pairs of products in 16 bits, which saturate.
    """
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtraError(
            "The certified 8-bit path needs onnxruntime.",
            mend="Install it with: pip install 'audit_toolkit[fast]'. Or use the float32 path.",
        ) from error
    runtime.disable_telemetry_events()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(_model(tile, d, tile), options, providers=["CPUExecutionProvider"])
    if not products_are_exact(Multiplier(session, tile), tile, d):
        raise AuditError("8-bit products are not exact on this processor.", mend="Use the float32 path.")
    return session


def products_are_exact(multiplier: Multiplier, tile: int, d: int) -> bool:
    """Whether a tile of largest, smallest and mixed codes gives exactly what float64 gives (exact below 2**53)."""
    rng = np.random.Generator(np.random.PCG64(5))
    a, b = (rng.integers(1, 256, (tile, d), dtype=np.uint8) for _ in range(2))
    half = tile // 2
    for codes in (a, b):
        codes[:half] = np.where(rng.random((half, 1)) < 0.5, 255, 1)
    multiplier.columns(b)
    return bool(np.array_equal(multiplier.rows(a), (a - 128.0) @ (b - 128.0).T))


def _number(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _field(tag: int, body: bytes | str | int) -> bytes:
    """One field of a protocol buffer: a number, or bytes with their length."""
    if isinstance(body, int):
        return _number(tag << 3) + _number(body)
    raw = body.encode() if isinstance(body, str) else body
    return _number(tag << 3 | 2) + _number(len(raw)) + raw


def _model(rows: int, d: int, columns: int) -> bytes:
    """An ONNX model of one node, y = MatMulInteger(a - 128, b), as bytes (onnx.proto, IR version 8, operator set 13).

    Unsigned by signed is the pairing that 8-bit dot product instructions take, hence the zero point: with signed by signed
    the same library was twelve times slower.
    """
    unsigned, signed, int32 = 2, 3, 6  # TensorProto.DataType

    def value(name: str, kind: int, shape: Sequence[int]) -> bytes:
        dims = b"".join(_field(1, _field(1, n)) for n in shape)
        return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims)))

    node = _field(1, "a") + _field(1, "b") + _field(1, "zero") + _field(2, "y") + _field(4, "MatMulInteger")
    zero = _field(2, unsigned) + _field(8, "zero") + _field(9, bytes([_ZERO_POINT]))
    graph = _field(1, node) + _field(2, "products") + _field(5, zero)
    graph += _field(11, value("a", unsigned, (rows, d))) + _field(11, value("b", signed, (d, columns)))
    graph += _field(12, value("y", int32, (rows, columns)))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))
