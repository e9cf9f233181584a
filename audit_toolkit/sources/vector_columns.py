"""Templates in Parquet: one list of numbers a row, ids and labels in columns beside it.

Promise: the file is streamed; memory holds one batch beside the array itself, and past the bound the array lies in a
temporary file. A row without a list, and a missing number in a list, become a template that is not a number and is counted
as a failure; lists of different lengths are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit_toolkit.errors import InputError
from audit_toolkit.sources.coding import is_text
from audit_toolkit.sources.stored_vectors import Pick, Stored, check_shape, kept_type, room, rounded

_ROWS = 16_384


def read_parquet(path: Path, pick: Pick, memory_bytes: int) -> Stored:
    """A column of lists of floats, fixed or not in size, and the columns beside it; errors as `InputError`."""
    where = path.name
    try:
        with pq.ParquetFile(path) as file:
            schema, n = file.schema_arrow, file.metadata.num_rows
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise InputError(
                f"The column name {twice[0]!r} occurs more than once.", where=where, mend="Rename one of them."
            )
        name, names = pick(schema.names)
        place = f"{where}, column {name}"
        dtype = _numbers(schema.field(name).type, place)
        kept = kept_type(dtype, place)
        vectors: NDArray[Any] | None = None
        at = 0
        if n == 0:
            check_shape((0, 0), where)
        for column in _batches(path, name):
            block = _rows(column, at, None if vectors is None else vectors.shape[1], place)
            if block is None:  # nothing but empty rows so far: their number is known, their length not yet
                at += len(column)
                continue
            if vectors is None:
                vectors = room(n, check_shape(block.shape, place)[1], kept, memory_bytes)
                vectors[:at] = np.nan
            with np.errstate(over="ignore"):
                vectors[at : at + len(block)] = block
            at += len(block)
        if vectors is None:
            raise InputError("Every template is missing.", where=place, mend="Check that the right file was given.")
        wanted = list(dict.fromkeys(names.values()))
        text = [c for c in wanted if is_text(schema.field(c).type)]
        table = pq.read_table(path, columns=wanted, read_dictionary=text)
    except InputError:
        raise
    except (pa.ArrowException, OSError):
        raise InputError(
            "This is not a readable Parquet file: it is damaged or cut short.", where=where, mend="Ask for it again."
        ) from None
    columns = {part: table.column(c).combine_chunks() for part, c in names.items()}
    return Stored("Parquet lists", vectors, columns, None, rounded(dtype, kept))


def _numbers(kind: pa.DataType, where: str) -> np.dtype[Any]:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not listed or not pa.types.is_floating(kind.value_type):
        raise InputError(
            f"The column is of type {kind}, expected are lists of float32 or float16.",
            where=where,
            mend="Store each template as one list of floating-point numbers.",
        )
    dtype: np.dtype[Any] = np.dtype(kind.value_type.to_pandas_dtype())
    return dtype


def _batches(path: Path, name: str) -> Iterator[pa.Array]:
    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[name]):
                yield batch.column(0)


def _rows(column: pa.Array, at: int, d: int | None, where: str) -> NDArray[Any] | None:
    """The lists as rows [n, d]; ``None`` where no row has a list and the length is not known yet."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    if d is None:
        if not there.any():
            return None
        d = int(lengths[there][0])
    wrong = np.flatnonzero(there & (lengths != d))
    if len(wrong):
        raise InputError(
            f"Row {at + int(wrong[0]) + 1} has {int(lengths[wrong[0]])} numbers where others have {d}.",
            where=where,
            mend="All templates of a file must come from one model: store lists of one length.",
        )
    numbers = column.drop_null().flatten()
    if numbers.null_count:
        # missing numbers: the template is counted as a failure
        hole = numbers.is_null().to_numpy(zero_copy_only=False)
        flat = np.where(hole, np.nan, numbers.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False))
    else:
        flat = numbers.to_numpy(zero_copy_only=False)
    if there.all():
        return flat.reshape(len(column), d)
    rows = np.full((len(column), d), np.nan, flat.dtype)
    rows[there] = flat.reshape(int(there.sum()), d)
    return rows
