"""Templates in numpy's own files: one array (.npy, memory-mapped) or named arrays (.npz).

Promise: nothing is ever unpickled; a .npy of float32 or float16 rows is mapped and not copied; an archive's vectors are
streamed out of it in blocks, so that memory holds one block beside the array itself.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from audit_toolkit.errors import InputError
from audit_toolkit.sources.lines import DAMAGED
from audit_toolkit.sources.stored_vectors import (
    Mapped,
    Pick,
    Stored,
    check_shape,
    copy_rows,
    kept_type,
    room,
    rounded,
    text_column,
)

_BROKEN = (*DAMAGED, zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError)


def read_npy(path: Path, pick: Pick, memory_bytes: int) -> Stored:
    """One array [N, d]; who its rows show stands in a table beside it. Raises `InputError` for anything else."""
    where = path.name
    try:
        with path.open("rb") as stream:
            shape, fortran, dtype = _head(stream)
            offset = stream.tell()
    except _BROKEN:
        raise InputError(
            "The file is no .npy array, or it is damaged.", where=where, mend="Save it with numpy.save."
        ) from None
    kept = kept_type(dtype, where)
    n, d = check_shape(shape, where)
    if path.stat().st_size - offset != n * d * dtype.itemsize:
        raise InputError(
            f"The header announces {n} x {d} numbers and the file holds"
            f" {(path.stat().st_size - offset) / dtype.itemsize:,.0f}.",
            where=where,
            mend="The file is cut short or not of this shape: ask for it again.",
        )
    mapped = Mapped.of(path, offset)
    vectors: NDArray[Any] = np.memmap(path, dtype, "r", offset, (n, d), "F" if fortran else "C")
    if fortran or dtype != kept:
        made = room(n, d, kept, memory_bytes)
        copy_rows(lambda start, stop: vectors[start:stop], made)
        return Stored("NPY array", made, {}, None, rounded(dtype, kept))
    return Stored("NPY array", vectors, {}, mapped)


def read_npz(path: Path, pick: Pick, memory_bytes: int) -> Stored:
    """Named arrays: the vectors and one-dimensional columns beside them. Raises `InputError` for damaged archives."""
    where = path.name
    try:
        with zipfile.ZipFile(path) as archive:
            members = {n.removesuffix(".npy"): n for n in archive.namelist() if n.endswith(".npy")}
            vectors_name, names = pick(sorted(members))
            vectors, notes = _vectors(archive, members[vectors_name], f"{where}, array {vectors_name}", memory_bytes)
            columns = {part: _column(archive, members[name], f"{where}, array {name}") for part, name in names.items()}
    except InputError:
        raise
    except _BROKEN:
        raise InputError(
            "The file is no .npz archive, or it is damaged.", where=where, mend="Save it with numpy.savez."
        ) from None
    return Stored("NPZ arrays", vectors, columns, None, notes)


def _head(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy_format.read_array_header_2_0(stream)
    raise ValueError("unknown version")


def _vectors(
    archive: zipfile.ZipFile, member: str, where: str, memory_bytes: int
) -> tuple[NDArray[Any], tuple[str, ...]]:
    with archive.open(member) as stream:
        shape, fortran, dtype = _head(stream)
        kept = kept_type(dtype, where)
        n, d = check_shape(shape, where)
        # what the archive says it holds decides before room is made for what the header claims
        if archive.getinfo(member).file_size < n * d * dtype.itemsize:
            raise InputError("The array is cut short.", where=where, mend="Save the file again.")
        made = room(n, d, kept, memory_bytes)
        step = max(1, (1 << 24) // (dtype.itemsize * (n if fortran else d)))
        for start in range(0, d if fortran else n, step):
            count = min(step, (d if fortran else n) - start)
            raw = stream.read(count * (n if fortran else d) * dtype.itemsize)
            if len(raw) != count * (n if fortran else d) * dtype.itemsize:
                raise InputError("The array is cut short.", where=where, mend="Save the file again.")
            block = np.frombuffer(raw, dtype).reshape(count, -1)
            with np.errstate(over="ignore"):
                if fortran:
                    made[:, start : start + count] = block.T
                else:
                    made[start : start + count] = block
        stream.read(1)  # the archive's checksum is held against the data at the end of the stream only
    return made, rounded(dtype, kept)


def _column(archive: zipfile.ZipFile, member: str, where: str) -> pa.Array:
    with archive.open(member) as stream:
        shape, _, dtype = _head(stream)
        if dtype.hasobject:
            raise InputError(
                "The array holds Python objects, which are not read.",
                where=where,
                mend="Save it as fixed-width text (astype(str)) or as numbers.",
            )
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        raw = stream.read(size) if archive.getinfo(member).file_size >= size else b""
        if len(raw) != size:
            raise InputError("The array is cut short.", where=where, mend="Save the file again.")
        stream.read(1)
    return text_column(np.frombuffer(raw, dtype).reshape(shape), where)
