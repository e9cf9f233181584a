"""Small tables read whole: Parquet, CSV and frames, with the checks that lists and logs share.

Promise: text columns of a CSV file stay text ("007" is an id), numbers become numbers only where a part asks for them, and a
damaged or mistaken table ends in one sentence. Not for comparison files, which are streamed (`audit_toolkit.sources.tabular`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.coding import is_text, not_numbers, scores
from audit_toolkit.sources.frames import frame_to_arrow
from audit_toolkit.sources.tabular import lacks_header


def drop(keep: Any, use: NDArray[np.bool_], lost: dict[str, int], reason: str) -> NDArray[np.bool_]:
    """What stays in use, with what is dropped here counted under its reason."""
    lost[reason] = int((use & ~keep).sum())
    return np.asarray(use & keep, np.bool_)


def column(table: pa.Table, name: str) -> pa.Array:
    """One column as one array."""
    array = table.column(name).combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def score_column(table: pa.Table, name: str, where: str, higher_is: str) -> NDArray[np.float64]:
    """Scores as float64, larger = more alike; NaN where a score is missing or not finite."""
    out = numbers(table, name, where)
    out[~np.isfinite(out)] = np.nan
    if higher_is not in ("same", "different"):
        raise UsageError("Scores mean either 'same' or 'different' when they are higher.")
    return -out if higher_is == "different" else out


def need(table: pa.Table, wanted: Sequence[str], where: str) -> None:
    """Refuse a table that lacks columns, or has one of them twice."""
    missing = [c for c in dict.fromkeys(wanted) if c not in table.column_names]
    if missing:
        raise InputError(
            f"Missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}.",
            where=where,
            mend=f"Columns it has: {', '.join(table.column_names) or 'none'}. Say which of them play a part.",
        )
    twice = [c for c in wanted if table.column_names.count(c) > 1]
    if twice:
        raise InputError(
            f"The column name {twice[0]!r} occurs more than once.", where=where, mend="Rename one of them."
        )


def identity_of(book: Mapping[str, int]) -> NDArray[np.uint64]:
    """[ids] uint64: a hash of each id at its code, the same in every table."""
    out = np.empty(len(book), np.uint64)
    for text, k in book.items():
        out[k] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return out


def read_whole(table: Path | str | Any, what: str) -> tuple[pa.Table, str, str]:
    """A table, what messages call it, and its digest."""
    if not isinstance(table, str | Path):
        arrow = frame_to_arrow(table, what)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, arrow.schema) as writer:
            writer.write_table(arrow.combine_chunks())
        return arrow, what, hashlib.sha256(sink.getbuffer()).hexdigest()
    path = Path(table)
    if path.is_dir():
        raise InputError("This is a directory, not a file.", where=path.name, mend="Name the file in it.")
    if not path.exists():
        raise InputError("There is no such file.", where=path.name, mend="Check the path.")
    if path.stat().st_size == 0:
        raise InputError("The file is empty (0 bytes).", where=path.name, mend="Ask for the file again.")
    with path.open("rb") as raw:
        sha = hashlib.file_digest(raw, "sha256").hexdigest()
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return pq.read_table(path), path.name, sha
        if suffix in (".csv", ".tsv"):
            return _csv(path, "\t" if suffix == ".tsv" else ","), path.name, sha
    except UnicodeDecodeError:
        raise InputError("The file is not UTF-8 text.", where=path.name, mend="Save the file as UTF-8.") from None
    except (pa.ArrowException, OSError) as error:
        if "UTF8" in str(error):
            raise InputError("The file is not UTF-8 text.", where=path.name, mend="Save the file as UTF-8.") from None
        raise InputError(
            "This is not a readable table: it is damaged, or its rows differ in length.",
            where=path.name,
            mend="Save it as CSV (UTF-8, comma) or Parquet.",
        ) from None
    raise InputError(
        f"The ending {suffix or '(none)'} is not one of a table.", where=path.name, mend="Use .csv or .parquet."
    )


def _csv(path: Path, delimiter: str) -> pa.Table:
    """A CSV file with every column as text."""
    with path.open("rb") as raw:
        header = raw.readline(1 << 20).decode("utf-8-sig").strip().split(delimiter)
    names = [n.strip().strip('"') for n in header]
    if lacks_header(path, (delimiter,)):
        raise InputError(
            "The first line looks like a row, not like a header.",
            where=path.name,
            mend="Write the column names in the first line.",
        )
    return pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(delimiter=delimiter),
        # ids are text: "007" must not become 7; numbers are turned into numbers where a part asks for them
        convert_options=pacsv.ConvertOptions(
            column_types={n: pa.string() for n in names},
            strings_can_be_null=True,
            null_values=["", "NA", "null", "None"],
        ),
    )


def numbers(table: pa.Table, name: str, where: str) -> NDArray[np.float64]:
    """A column as float64, NaN where it is empty; raises `InputError` with the first row that is no number."""
    place, array = f"{where}, column {name}", column(table, name)
    if is_text(array.type):
        try:
            plain = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
            array = pc.cast(pc.utf8_trim_whitespace(plain), pa.float64())
        except pa.ArrowException:
            raise not_numbers(plain, place, 1) from None
    values, absent = scores(array, np.dtype(np.float64), place, 1)
    out = np.array(values, np.float64)
    if len(absent):
        out[absent] = np.nan
    return out
