"""Where the numbers of templates lie, and how rows of them are read without surprises.

Why: a file of embeddings may be larger than memory, and a memory-mapped file that somebody cuts short while an audit reads
it ends the process without a word. Promise: rows come back as stored, read through ordinary file reads that notice a short
file; what does not fit the bound waits in a temporary file that has no name any more, so nothing of it stays behind. Not
promised: that a file changed in place, with its time of change put back, is noticed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.errors import AuditError, InputError

KINDS = (np.dtype("<f4"), np.dtype("<f2"))
"""Number types that are kept as stored; wider ones are rounded to float32 once."""
BLOCK_BYTES = 1 << 24

Picked = tuple[str, Mapping[str, str]]
"""The name of the vectors in the file, and canonical part -> the file's name for the columns beside them."""
Pick = Callable[[Sequence[str]], Picked]


@dataclass(frozen=True, slots=True)
class Mapped:
    """The file behind memory-mapped rows, as it was when it was opened."""

    path: Path
    offset: int
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path, offset: int) -> Mapped:
        """Note the file's size and time of change now."""
        found = path.stat()
        return cls(path, offset, found.st_size, found.st_mtime_ns)

    def check(self) -> None:
        """Refuse a file that was cut short, changed or removed since it was opened; raises `InputError`."""
        try:
            found = self.path.stat()
        except OSError:
            raise InputError(
                "The file went away while it was being read.", where=self.path.name, mend="Put it back and run again."
            ) from None
        if found.st_size < self.size:
            raise self.shrunk()
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed):
            raise InputError(
                "The file was changed while it was being read.",
                where=self.path.name,
                mend="Run again when nothing writes to it.",
            )

    def shrunk(self) -> InputError:
        """The error for a file that ends before its rows do."""
        return InputError(
            "The file became shorter while it was being read.",
            where=self.path.name,
            mend="Run again when nothing writes to it.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Vectors [N, d] as stored, the columns beside them by canonical name, and what was noticed on the way."""

    format: str
    vectors: NDArray[Any]
    columns: Mapping[str, pa.Array]
    mapped: Mapped | None = None
    notes: tuple[str, ...] = field(default=())


def read_rows(vectors: NDArray[Any], mapped: Mapped | None, start: int, stop: int) -> NDArray[Any]:
    """Rows start..stop in private memory where they are mapped (else a view); raises `InputError` for a short file."""
    if mapped is None:
        return vectors[start:stop]
    mapped.check()
    d, size = vectors.shape[1], vectors.dtype.itemsize
    try:
        rows = np.fromfile(mapped.path, vectors.dtype, (stop - start) * d, offset=mapped.offset + start * d * size)
    except OSError:
        raise mapped.shrunk() from None
    if rows.size != (stop - start) * d:
        raise mapped.shrunk()
    return rows.reshape(stop - start, d)


def block_rows(d: int) -> int:
    """How many rows are looked at together."""
    return max(1, BLOCK_BYTES // (8 * d))


def room(n: int, d: int, dtype: np.dtype[Any], memory_bytes: int) -> NDArray[Any]:
    """An array [n, d] in memory, or past the bound in a temporary file without a name; raises `AuditError` without room."""
    need = n * d * dtype.itemsize
    if need <= memory_bytes:
        return np.empty((n, d), dtype)
    try:
        with tempfile.TemporaryFile(prefix="audit_toolkit-") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, need)  # a full disk shows here, not as a crash at a later write
            return np.memmap(file, dtype, "w+", shape=(n, d))
    except OSError as error:
        raise AuditError(
            f"The templates need {need / 1e9:.1f} GB in the temporary folder ({error.strerror or 'write failed'}).",
            mend="Free disk space there, or name another folder in the environment variable TMPDIR.",
        ) from error


def kept_type(dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """The type vectors of this type are kept in: float16 and float32 as stored, wider floats as float32."""
    if dtype.hasobject:
        raise InputError(
            "The vectors are stored as Python objects, which are not read.",
            where=where,
            mend="Rows of different lengths end like this: save one two-dimensional array of float32.",
        )
    if dtype.kind != "f":
        raise InputError(
            f"The vectors are of type {dtype}, expected are float32 or float16.",
            where=where,
            mend="Save the templates as floating-point numbers.",
        )
    little = dtype.newbyteorder("<")
    return little if little in KINDS else KINDS[0]


def check_shape(shape: tuple[int, ...], where: str) -> tuple[int, int]:
    """Refuse what is no table of vectors: anything but [N, d] with N and d at least 1."""
    if len(shape) != 2:
        raise InputError(
            f"The vectors have shape {shape}, expected is [templates, dimensions].",
            where=where,
            mend="Save one two-dimensional array, one row a template.",
        )
    if 0 in shape:
        raise InputError(
            f"There are no templates (shape {shape}).", where=where, mend="Check that the right file was given."
        )
    return shape[0], shape[1]


def copy_rows(source: Callable[[int, int], NDArray[Any]], into: NDArray[Any]) -> None:
    """Fill ``into`` block by block; numbers beyond float32 become infinite and are counted as such later."""
    step = block_rows(into.shape[1])
    with np.errstate(over="ignore"):
        for start in range(0, len(into), step):
            stop = min(start + step, len(into))
            into[start:stop] = source(start, stop)


def rounded(stored: np.dtype[Any], kept: np.dtype[Any]) -> tuple[str, ...]:
    """What to say where vectors were rounded."""
    if stored.itemsize <= kept.itemsize:
        return ()
    return (f"Templates are stored as float{8 * stored.itemsize} and were rounded to float32 once.",)


def text_column(values: NDArray[Any], where: str) -> pa.Array:
    """A one-dimensional numpy array as an Arrow column of text, integers, booleans or floats; `InputError` otherwise."""
    if values.ndim != 1 or values.dtype.kind not in "SUiubf":
        raise InputError(
            f"The array has shape {values.shape} and type {values.dtype.str}.",
            where=where,
            mend="Save a one-dimensional array of text or whole numbers, one entry a template.",
        )
    try:
        if values.dtype.kind == "S":
            return pa.array(values).cast(pa.string())
        return pa.array(
            values if values.dtype.kind in "Ub" else values.astype(values.dtype.newbyteorder("="), copy=False)
        )
    except (pa.ArrowException, ValueError, UnicodeError):
        raise InputError("The array holds text that is not UTF-8.", where=where, mend="Save it as UTF-8.") from None
