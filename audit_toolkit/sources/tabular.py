"""Parquet, CSV and Arrow files as score sources, streamed in bounded memory.

Promise: only the columns that play a part are read; a damaged, empty or mistaken file ends in one sentence that says what,
where and how to mend it, never in a row's content. CSV rows are counted from 1 after the header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from audit_toolkit.errors import AuditError, InputError, UsageError
from audit_toolkit.sources import columns as parts
from audit_toolkit.sources.coding import is_text, not_numbers
from audit_toolkit.sources.table import ColumnMap, ScoreSource

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar", " ": "space"}
NULLS = ["", "NA", "N/A", "n/a", "null", "NULL", "None", "<NA>"]
"""What an empty number looks like in a CSV file; "NaN" is a number that is none, and is counted as such."""

Pairs = list[tuple[str, str]]


def open_table(path: Path | str, columns: ColumnMap | None = None, *, delimiter: str | None = None) -> ScoreSource:
    """A Parquet (``.parquet``, ``.pq``), CSV (``.csv``, ``.tsv``, also ``.gz``) or Arrow (``.arrow``, ``.feather``,
    ``.ipc``) file as a score source.

    ``columns`` says which column plays which part; ``delimiter`` belongs to CSV (default: comma, for ``.tsv`` tab).
    Raises `InputError` for a file that is missing, empty, damaged, of another kind, or lacks columns.
    """
    path = Path(path)
    suffixes = [s.lower() for s in path.suffixes]
    if path.is_dir():
        raise InputError("This is a directory, not a file.", where=path.name, mend="Name the score file in it.")
    if not path.exists():
        raise InputError("There is no such file.", where=path.name, mend="Check the path.")
    last = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    kind = KINDS.get(last[0] if last else "")
    if kind is None:
        raise InputError(
            f"The ending {''.join(last) or '(none)'} is not one of a table.",
            where=path.name,
            mend=f"Known endings: {', '.join(KINDS)}; other formats have readers of their own.",
        )
    if path.stat().st_size == 0:
        raise InputError("The file is empty (0 bytes).", where=path.name, mend="Ask for the file again.")
    return kind(path, columns or ColumnMap(), delimiter or ("\t" if last[0] == ".tsv" else ","))


def _source(path: Path, kind: str, pairs: Pairs, stream: Callable[[int], Iterator[pa.RecordBatch]]) -> ScoreSource:
    return ScoreSource(name=path.name, format=kind, columns=tuple(c for c, _ in pairs), open=stream, files=(path,))


def _damaged(path: Path, kind: str) -> InputError:
    return InputError(
        f"This is not a readable {kind} file: it is damaged or cut short.",
        where=path.name,
        mend="Ask for it again.",
    )


# ---- Parquet -------------------------------------------------------------------------------------------------------------


def _open_parquet(path: Path, columns: ColumnMap, delimiter: str) -> ScoreSource:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
    except (pa.ArrowException, OSError):
        raise _damaged(path, "Parquet") from None
    pairs = parts.resolve(columns, schema.names, path.name)
    parts.check_types(pairs, schema, path.name)
    text = [name for _, name in pairs if is_text(schema.field(name).type)]
    source = _source(path, "parquet", pairs, partial(_stream_parquet, path, pairs, text))
    _check_scores(source, dict(pairs)["score"], schema.field(dict(pairs)["score"]).type)
    return source


def _stream_parquet(path: Path, pairs: Pairs, text: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    names = list(dict.fromkeys(name for _, name in pairs))
    try:
        # Ids as dictionaries: a quarter of the time, since a row group's distinct ids are decoded once.
        with pq.ParquetFile(path, read_dictionary=text, buffer_size=1 << 20) as file:
            for groups in _row_groups(file, rows):
                for batch in file.iter_batches(batch_size=rows, row_groups=groups, columns=names):
                    yield parts.rename(batch, pairs)
    except (pa.ArrowException, OSError):
        raise _damaged(path, "Parquet") from None


def _row_groups(file: pq.ParquetFile, rows: int) -> Iterator[list[int]]:
    """Consecutive row groups of about ``rows`` rows: one reader over all of them would keep every one in memory."""
    groups: list[int] = []
    held = 0
    for group in range(file.num_row_groups):
        groups.append(group)
        held += file.metadata.row_group(group).num_rows
        if held >= rows:
            yield groups
            groups, held = [], 0
    if groups:
        yield groups


def _check_scores(source: ScoreSource, name: str, kind: pa.DataType) -> None:
    """Refuse text in the score column at once, with the first row that is no number."""
    if parts.holds_scores(kind):
        return
    row = 1
    for batch in source.open(65_536):
        array = batch.column(batch.schema.get_field_index("score"))
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        error = not_numbers(array, f"{source.name}, column {name}", row)
        if "row " in error.what or not is_text(array.type):
            raise error
        row += batch.num_rows
    raise InputError(
        "The column holds numbers written as text.",
        where=f"{source.name}, column {name}",
        mend="Store it as numbers.",
    )


# ---- Arrow ---------------------------------------------------------------------------------------------------------------


def _open_arrow(path: Path, columns: ColumnMap, delimiter: str) -> ScoreSource:
    try:
        with pa.OSFile(str(path)) as raw:
            schema = _reader(raw).schema
    except (pa.ArrowException, OSError):
        raise _damaged(path, "Arrow") from None
    pairs = parts.resolve(columns, schema.names, path.name)
    parts.check_types(pairs, schema, path.name)
    source = _source(path, "arrow", pairs, partial(_stream_arrow, path, pairs))
    _check_scores(source, dict(pairs)["score"], schema.field(dict(pairs)["score"]).type)
    return source


def _reader(raw: pa.NativeFile) -> pa.RecordBatchReader | pa.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(raw)
    except pa.ArrowInvalid:
        raw.seek(0)
        return pa.ipc.open_stream(raw)


def _stream_arrow(path: Path, pairs: Pairs, rows: int) -> Iterator[pa.RecordBatch]:
    try:
        with pa.OSFile(str(path)) as raw:
            reader = _reader(raw)
            if isinstance(reader, pa.RecordBatchFileReader):
                batches = (reader.get_batch(k) for k in range(reader.num_record_batches))
            else:
                batches = iter(reader)
            for batch in batches:
                for at in range(0, batch.num_rows, rows):
                    yield parts.rename(batch.slice(at, rows), pairs)
    except (pa.ArrowException, OSError):
        raise _damaged(path, "Arrow") from None


# ---- CSV -----------------------------------------------------------------------------------------------------------------


def _open_csv(path: Path, columns: ColumnMap, delimiter: str) -> ScoreSource:
    if len(delimiter) != 1 or not delimiter.isascii():
        raise UsageError("The delimiter is not one character.", mend="For example delimiter=';'.")
    header = _header(path)
    there = split_header(header, delimiter)
    try:
        pairs = parts.resolve(columns, there, path.name)
    except InputError as error:
        for other, word in DELIMITERS.items():
            if other == delimiter or other not in header:
                continue
            try:
                parts.resolve(columns, split_header(header, other), path.name)
            except AuditError:
                continue
            raise InputError(
                f"The columns are separated by {word}s, not by {DELIMITERS.get(delimiter, repr(delimiter))}s.",
                where=path.name,
                mend=f"Give delimiter={other!r} (a format option).",
            ) from None
        if lacks_header(path, (delimiter, ",", ";", "\t", "|")):
            raise parts.no_header(
                path.name, [columns.reference_subject, columns.probe_subject, columns.score]
            ) from None
        raise error from None
    return _source(path, "csv", pairs, partial(_stream_csv, path, pairs, delimiter))


def _header(path: Path) -> str:
    try:
        with pa.input_stream(str(path)) as raw:
            start = raw.read(1 << 20)
    except (pa.ArrowException, OSError):
        raise _damaged(path, "compressed CSV") from None
    line: bytes = start.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r")
    if len(line) >= 1 << 20:
        raise InputError("The first line is longer than 1 MiB: this is no table.", where=path.name)
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise InputError("The header is not UTF-8 text.", where=path.name, mend="Save the file as UTF-8.") from None


def lacks_header(path: Path, delimiters: Sequence[str] = (",", ";", "\t", "|")) -> bool:
    """Whether the first line of a CSV file, cut at any of the delimiters, is a row like those below it."""
    header = _header(path)
    with pa.input_stream(str(path)) as raw:
        lines = raw.read(1 << 16).decode(errors="replace").splitlines()[1:]
    for delimiter in delimiters:
        below = [split_header(line, delimiter) for line in lines]
        names = split_header(header, delimiter)
        if delimiter in header and parts.is_row(
            names, [[r[k] for r in below if k < len(r)] for k in range(len(names))]
        ):
            return True
    return False


def split_header(header: str, delimiter: str) -> list[str]:
    """The column names of a header line."""
    return [name.strip().strip('"').strip() for name in header.split(delimiter)]


def _stream_csv(path: Path, pairs: Pairs, delimiter: str, rows: int) -> Iterator[pa.RecordBatch]:
    kinds = {}
    for canonical, name in pairs:
        if canonical in ("score", "weight"):
            kinds[name] = pa.float64()
        elif not canonical.startswith("covariate."):
            kinds[name] = pa.dictionary(pa.int32(), pa.string())
    names = list(dict.fromkeys(name for _, name in pairs))
    try:
        reader = _csv_reader(path, delimiter, names, kinds, block=min(max(rows * 64, 1 << 20), 1 << 26))
        with reader:
            for batch in reader:
                for at in range(0, batch.num_rows, rows):
                    yield parts.rename(batch.slice(at, rows), pairs)
    except (pa.ArrowException, OSError) as error:
        raise _csv_error(path, pairs, delimiter, str(error)) from None


def _csv_reader(
    path: Path, delimiter: str, names: list[str], kinds: dict[str, pa.DataType], block: int
) -> pacsv.CSVStreamingReader:
    header = split_header(_header(path), delimiter)
    return pacsv.open_csv(
        path,
        # names are given, so that a header with spaces or quotes reads as it was resolved
        read_options=pacsv.ReadOptions(block_size=block, column_names=header, skip_rows=1, use_threads=False),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=False),
        convert_options=pacsv.ConvertOptions(
            column_types=kinds, include_columns=names, null_values=NULLS, strings_can_be_null=False
        ),
    )


def _csv_error(path: Path, pairs: Pairs, delimiter: str, text: str) -> InputError:
    """Say what arrow found without the row's content, which its message carries."""
    ragged = re.search(r"Expected (\d+) columns, got (\d+)", text)
    at = re.search(r"Row #(\d+)", text)
    if ragged:
        where = path.name if at is None else f"{path.name}, line {at[1]}"
        return InputError(
            f"A row has {ragged[2]} fields, the header has {ragged[1]}.",
            where=where,
            mend="Mend or remove that line.",
        )
    if "UTF8" in text or "UTF-8" in text:
        return InputError("The file holds text that is not UTF-8.", where=path.name, mend="Save the file as UTF-8.")
    if "straddl" in text:
        return InputError(
            "A line is too long to be a row of a table.", where=path.name, mend="Check the file's format."
        )
    if "conversion error" in text or "cannot be converted" in text:
        return _not_a_number(path, pairs, delimiter)
    if "Empty CSV" in text or "too short" in text:  # a header without a line end is too short to be skipped
        return InputError("There are no rows.", where=path.name, mend="Check that the right file was given.")
    return _damaged(path, "CSV")


def _not_a_number(path: Path, pairs: Pairs, delimiter: str) -> InputError:
    """Find the first row of a numeric column that is no number, reading the columns as text."""
    names = [(c, name) for c, name in pairs if c in ("score", "weight") or c.startswith("covariate.")]
    kinds = {name: pa.string() for _, name in names}
    found: tuple[int, InputError] | None = None
    row = 1
    with _csv_reader(path, delimiter, [name for _, name in names], kinds, block=1 << 22) as reader:
        for batch in reader:
            for _, name in names:
                values = batch.column(batch.schema.get_field_index(name)).to_pylist()
                array = pa.array([None if v in NULLS else v for v in values], pa.string())
                error = not_numbers(array, f"{path.name}, column {name}", row)
                match = re.search(r"row (\d+)", error.what)
                if match and not (name in dict(names[2:]).values() and found):
                    here = int(match[1])
                    if found is None or here < found[0]:
                        found = (here, error)
            if found:
                return found[1]
            row += batch.num_rows
    return InputError("A column holds values of different kinds.", where=path.name, mend="Check the numeric columns.")


KINDS: dict[str, Callable[[Path, ColumnMap, str], ScoreSource]] = {
    ".parquet": _open_parquet,
    ".pq": _open_parquet,
    ".csv": _open_csv,
    ".tsv": _open_csv,
    ".arrow": _open_arrow,
    ".feather": _open_arrow,
    ".ipc": _open_arrow,
}
"""How each ending is read."""
