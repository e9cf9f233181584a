"""Data frames as score sources: pandas, Polars, Arrow tables, and whatever else narwhals takes.

Promise: only the columns that play a part are converted, and the frame itself is left as it is. What pandas calls NaN in a
number column is "missing" here, since pandas has no other way to say it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources import columns as parts
from audit_toolkit.sources.coding import is_text, not_numbers
from audit_toolkit.sources.table import ColumnMap, ScoreSource


def open_frame(frame: Any, columns: ColumnMap | None = None, name: str = "frame") -> ScoreSource:
    """A data frame as a score source; ``columns`` says which column plays which part, ``name`` is what messages call it.

    Takes pandas and Polars frames, pyarrow tables and record batches, and eager frames that narwhals knows. Raises
    `UsageError` for anything else (a lazy frame: collect it first) and `InputError` for columns that are missing, mixed or
    of a type that cannot play its part.
    """
    there, pick = _columns_of(frame, name)
    pairs = parts.resolve(columns or ColumnMap(), there, name)
    table = pick(list(dict.fromkeys(column for _, column in pairs)))
    parts.check_types(pairs, table.schema, name)
    mine = dict(pairs)["score"]
    kind = table.schema.field(mine).type
    if not parts.holds_scores(kind):
        array = table.column(mine)
        if pa.types.is_dictionary(kind):
            array = array.cast(kind.value_type)
        if is_text(array.type) or not pa.types.is_dictionary(kind):
            raise not_numbers(array, f"{name}, column {mine}", 1)
        table = table.set_column(table.schema.get_field_index(mine), mine, array)
    return ScoreSource(
        name=name, format="frame", columns=tuple(c for c, _ in pairs), open=partial(_stream, table, pairs)
    )


def frame_to_arrow(frame: Any, name: str) -> pa.Table:
    """The whole frame as an Arrow table; errors as in `open_frame`."""
    there, pick = _columns_of(frame, name)
    return pick(there)


def _columns_of(frame: Any, name: str) -> tuple[list[str], Any]:
    """The frame's column names, and a function from names to an Arrow table of them."""
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if isinstance(frame, pa.Table):
        return list(frame.column_names), frame.select
    import narwhals as nw

    try:
        native = nw.from_native(frame)
    except TypeError:
        raise UsageError(
            f"A {type(frame).__name__} is not a data frame.",
            mend="Give a pandas or Polars frame or an Arrow table.",
        ) from None
    if isinstance(native, nw.LazyFrame):
        raise UsageError(f"The frame {name!r} is lazy.", mend="Collect it first.")
    there = [str(column) for column in native.columns]

    def pick(wanted: list[str]) -> pa.Table:
        pieces = {}
        for column in wanted:
            try:
                pieces[column] = native.select(column).to_arrow().column(column)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                raise InputError(
                    "The column holds values of different kinds.",
                    where=f"{name}, column {column}",
                    mend="Give every value of a column the same type.",
                ) from None
        return pa.table(pieces)

    return there, pick


def _stream(table: pa.Table, pairs: list[tuple[str, str]], rows: int) -> Iterator[pa.RecordBatch]:
    # Arrow tables may hold columns in chunks of their own; to_batches cuts where any of them is cut.
    for batch in table.to_batches(max_chunksize=rows):
        for at in range(0, batch.num_rows, rows):
            yield parts.rename(batch.slice(at, rows), pairs)
