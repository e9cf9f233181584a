"""Named arrays in one .npz file, read without ever unpickling.

Why it exists: it is what a numpy user has at hand. Every array is one column under its canonical name (or the name a
column map gives), one-dimensional and of the same length. The arrays are streamed out of the archive in step, so memory
holds one batch, compressed file or not. Object arrays are refused: reading them would run code from the file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray

from audit_toolkit.errors import InputError
from audit_toolkit.sources.lines import DAMAGED, existing_file
from audit_toolkit.sources.table import PLAIN_COLUMNS, ColumnMap, ScoreSource

_DAMAGED = (*DAMAGED, zipfile.BadZipFile, ValueError, NotImplementedError)
_ITEM_LIMIT = 1 << 14
_BATCH_BYTES = 1 << 26
_REQUIRED = ("reference_subject", "probe_subject", "score")
_KINDS = {"mated": "biu", "score": "fiu", "weight": "iu", "covariate": "USfiub"}
"""numpy kinds a column may have; every other column is a name: text or whole numbers."""


@dataclass(frozen=True, slots=True)
class _Column:
    column: str
    member: str
    dtype: np.dtype[Any]
    length: int


def read_npz(path: str | Path, columns: ColumnMap | None = None) -> ScoreSource:
    """Comparisons from the arrays of a .npz file: ids as fixed-width text or whole numbers, scores as numbers.

    ``reference.NAME``, ``probe.NAME`` and ``covariate.NAME`` are read where they are there. ``mated`` may be boolean or
    0/1. Raises `InputError` for missing arrays, object arrays, other shapes, unequal lengths and damaged archives.
    """
    path = existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {n.removesuffix(".npy"): n for n in archive.namelist() if n.endswith(".npy")}
            chosen = _choose(members, columns or ColumnMap(), path.name)
            found = [_inspect(archive, path.name, column, members[name]) for column, name in chosen.items()]
    except _DAMAGED:
        raise _broken(path.name) from None
    lengths = {c.length for c in found}
    if len(lengths) > 1:
        listed = ", ".join(f"{c.column} {c.length}" for c in found)
        raise InputError(
            f"The arrays differ in length ({listed}).", where=path.name, mend="Save one entry a comparison."
        )
    total = lengths.pop()

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        step = max(1, min(rows, _BATCH_BYTES // sum(c.dtype.itemsize for c in found)))
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(path))
                streams = [stack.enter_context(archive.open(c.member)) for c in found]
                for stream in streams:
                    _read_head(stream)
            except _DAMAGED:
                raise _broken(path.name) from None
            for start in range(0, total, step):
                n = min(step, total - start)
                arrays = [
                    _to_arrow(c, _read(s, c, n, path.name), path.name, start)
                    for c, s in zip(found, streams, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=[c.column for c in found])

    return ScoreSource(path.name, "NPZ arrays", tuple(c.column for c in found), batches, (path,))


def _broken(where: str) -> InputError:
    return InputError("The file is no .npz archive, or it is damaged.", where=where, mend="Save it with numpy.savez.")


def _choose(members: dict[str, str], columns: ColumnMap, where: str) -> dict[str, str]:
    """Canonical column -> array name, for the columns the file has."""
    wanted = {c: getattr(columns, c) for c in PLAIN_COLUMNS}
    chosen = {c: n for c, n in wanted.items() if n is not None and n in members}
    missing = [wanted[c] for c in _REQUIRED if c not in chosen]
    for name, sides in columns.attributes.items():
        chosen |= {f"reference.{name}": sides[0], f"probe.{name}": sides[1]}
    chosen |= {f"covariate.{name}": given for name, given in columns.covariates.items()}
    missing += [n for n in chosen.values() if n not in members]
    if missing:
        raise InputError(
            f"The arrays {', '.join(map(str, missing))} are missing; the file has {', '.join(sorted(members))[:1000] or 'none'}.",
            where=where,
            mend="Save them under these names, or map the names.",
        )
    prefixes = ("reference.", "probe.", "covariate.")
    return chosen | {n: n for n in sorted(members) if n.startswith(prefixes) and n not in chosen}


def _read_head(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(stream)
    else:
        raise ValueError("unknown version")
    return shape, dtype


def _inspect(archive: zipfile.ZipFile, where: str, column: str, member: str) -> _Column:
    with archive.open(member) as stream:
        shape, dtype = _read_head(stream)
    kind = _KINDS.get("covariate" if column.startswith("covariate.") else column, "USiu")
    if dtype.hasobject:
        raise InputError(
            f"The array {column} holds Python objects, which are not read.",
            where=where,
            mend="Save it as fixed-width text (astype(str)) or as numbers.",
        )
    if len(shape) != 1 or dtype.kind not in kind or dtype.itemsize > _ITEM_LIMIT:
        raise InputError(
            f"The array {column} has shape {shape} and type {dtype.str}.",
            where=where,
            mend="Save one-dimensional arrays: names as text or whole numbers, scores as numbers.",
        )
    return _Column(column, member, dtype, shape[0])


def _read(stream: IO[bytes], column: _Column, n: int, where: str) -> NDArray[Any]:
    try:
        data = stream.read(n * column.dtype.itemsize)
    except _DAMAGED:
        raise _broken(where) from None
    if len(data) != n * column.dtype.itemsize:
        raise InputError(f"The array {column.column} is cut short.", where=where, mend="Save the file again.")
    return np.frombuffer(data, column.dtype)


def _to_arrow(column: _Column, values: NDArray[Any], where: str, start: int) -> pa.Array:
    kind = values.dtype.kind
    if kind == "S":
        try:
            return pa.array(values).cast(pa.string())
        except pa.ArrowInvalid:
            raise InputError(f"The array {column.column} holds bytes that are not UTF-8 text.", where=where) from None
    if kind == "U":
        try:
            return pa.array(values, pa.string())
        except (ValueError, UnicodeError):
            raise InputError(f"The array {column.column} holds text that is not Unicode.", where=where) from None
    if column.column == "mated" and kind != "b":
        wrong = np.flatnonzero((values != 0) & (values != 1))
        if len(wrong):
            raise InputError("An entry of mated is neither 1 nor 0.", where=f"{where}, row {start + int(wrong[0]) + 1}")
        return pa.array(values.astype(np.bool_))
    if kind == "f":
        return pa.array(values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64))
    return pa.array(values.astype(values.dtype.newbyteorder("=")))
