"""Text score files with regular lines, streamed as canonical record batches.

Why it exists: several vendors write one comparison a line, separated by spaces or commas. They are parsed by Arrow in
blocks, so memory does not grow with the file, and when a block cannot be parsed the file is read once more, line by
line, to say where. Promises: a message names the file and the line, never what stands there. It does not judge values:
NaN, special scores and contradictions go on to the survey, which counts them.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from audit_toolkit.errors import AuditError, InputError

Kind = Literal["subject", "sample", "label", "number", "flag"]
OpenBytes = Callable[[], AbstractContextManager[IO[bytes]]]

LINE_LIMIT = 1 << 20
"""Bytes a line may have; a longer one means that this is not a file of lines."""
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)
"""What reading a cut or damaged file or archive raises."""
TRUE, FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")

_BLOCK_BYTES = (1 << 20, 1 << 21)
"""Bytes parsed at a time; Arrow reads about eight blocks ahead, so this decides the memory: 220 MiB at 2 MiB, 430 at 8."""
_CODED = pa.dictionary(pa.int32(), pa.string())
_TYPES: dict[Kind, Any] = {
    "subject": _CODED,
    "sample": pa.string(),
    "label": _CODED,
    "number": pa.float64(),
    "flag": _CODED,
}
NUMBER = re.compile(
    r"(?:[ \t]*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf|infinity)[ \t]*)?", re.IGNORECASE | re.ASCII
)
"""What the parser takes for a score; nothing at all is a missing score."""
_DELIMITERS = {" ": "one space", ",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a file are cut into fields, and which canonical column each field becomes.

    ``names`` are the file's columns in order (all of them); ``fields`` lists (canonical column, file column, kind) in the
    order of the batches. ``header`` is the number of lines before the first comparison. ``quoted``: fields may stand in
    double quotes (CSV); without it a quote is an ordinary character of an identifier.
    """

    names: tuple[str, ...]
    fields: tuple[tuple[str, str, Kind], ...]
    delimiter: str
    header: int = 0
    quoted: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The canonical columns, in the order of the batches."""
        return tuple(column for column, _, _ in self.fields)


def existing_file(path: str | Path) -> Path:
    """The path, once it is known to be a file with something in it; `InputError` otherwise, naming the file."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError("This is a folder.", where=path.name, mend="Name the score file itself.")
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError("There is no such file.", where=path.name, mend="Check the path.") from None
    except OSError as error:
        raise InputError(f"The file cannot be opened ({error.strerror}).", where=path.name) from None
    if size == 0:
        raise InputError("The file is empty.", where=path.name, mend="Ask for the file again.")
    return path


def open_plain(path: Path) -> OpenBytes:
    """How the bytes of a file are opened: as they stand, or decompressed where the name ends in ``.gz``."""
    if path.suffix.lower() == ".gz":
        return lambda: cast(IO[bytes], gzip.open(path, "rb"))
    return lambda: path.open("rb")


def first_line(open_bytes: OpenBytes, where: str, limit: int | None = None) -> str:
    """The first line that is not blank, without its line end; `InputError` where there is none or it is not UTF-8 text."""
    limit = LINE_LIMIT if limit is None else limit
    with guarded(where), open_bytes() as stream:
        number = 0
        while raw := stream.readline(limit + 1):
            number += 1
            if len(raw) > limit:
                raise _too_long(where, number, limit)
            if raw.strip(b"\r\n"):
                return decode(raw, where, number).lstrip("\ufeff")
    raise InputError("The file has no line with anything in it.", where=where, mend="Ask for the file again.")


def decode(raw: bytes, where: str, number: int) -> str:
    """One line as text, without its line end; `InputError` naming the line where it is not UTF-8."""
    try:
        return raw.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(
            "The bytes are not UTF-8 text.", where=f"{where}, line {number}", mend="Save the file as UTF-8."
        ) from None


@contextmanager
def guarded(where: str) -> Iterator[None]:
    """While this is held, a file or archive that turns out damaged ends as an `InputError` that names it."""
    try:
        yield
    except DAMAGED:
        raise InputError(
            "The file is cut short or damaged.",
            where=where,
            mend="Ask for the file again and compare digests.",
        ) from None


def _too_long(where: str, number: int, limit: int) -> InputError:
    return InputError(
        f"The line is longer than {limit:,} bytes.",
        where=f"{where}, line {number}",
        mend="This is not a file with one comparison a line; check the format.",
    )


def split_line(text: str, delimiter: str, quoted: bool) -> list[str]:
    """One line cut into its fields, as the parser of whole blocks cuts it; `ValueError` for a field of over 128 KiB."""
    if not quoted:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter))
    except csv.Error:
        raise ValueError("a field is too long") from None


def read_header(open_bytes: OpenBytes, where: str, needed: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The column names of a CSV file and the delimiter between them: comma, semicolon or tab, whichever gives ``needed``.

    Raises `InputError` that lists the missing columns and those the file has, or says that a name stands twice.
    """
    text = first_line(open_bytes, where)
    try:
        headers = {d: tuple(n.strip() for n in split_line(text, d, True)) for d in (",", ";", "\t")}
    except ValueError:
        raise InputError(
            "The header has a field that is too long for a name.",
            where=f"{where}, line 1",
            mend="Check the format.",
        ) from None
    delimiter = max(headers, key=lambda d: (sum(n in headers[d] for n in needed), len(headers[d])))
    names = headers[delimiter]
    missing = [n for n in needed if n not in names]
    if missing and any(n and NUMBER.fullmatch(n) for n in names):
        # Without a header the first line is somebody's comparison: it is not repeated in a message.
        raise InputError(
            f"The first line holds numbers, so it is no header; expected are {', '.join(needed)}.",
            where=f"{where}, line 1",
            mend="Write the column names in the first line, or name the right format.",
        )
    if missing:
        has = ", ".join(names[:40]) + (" ..." if len(names) > 40 else "")
        raise InputError(
            f"The header lacks {', '.join(missing)}; it has {has[:1000]}.",
            where=f"{where}, line 1",
            mend="Name the right format, or rename the columns.",
        )
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(
            f"The header names a column twice: {', '.join(twice)[:200]}.",
            where=f"{where}, line 1",
            mend="Give each column a name of its own.",
        )
    return names, delimiter


def stream_rows(open_bytes: OpenBytes, where: str, layout: Layout, rows: int) -> Iterator[pa.RecordBatch]:
    """The file's comparisons as record batches of at most ``rows`` rows; `InputError` with the line where one is broken."""
    wanted = {name: _TYPES[kind] for _, name, kind in layout.fields}
    size = min(max(rows * 64, _BLOCK_BYTES[0]), _BLOCK_BYTES[1])
    try:
        with open_bytes() as stream, _native(stream) as native:
            reader = pa.csv.open_csv(
                native,
                read_options=pa.csv.ReadOptions(
                    column_names=list(layout.names), skip_rows=layout.header, block_size=size
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=layout.delimiter, quote_char='"' if layout.quoted else False
                ),
                # Only an empty field is missing: "nan" stays a NaN, and "NA" may be somebody's label.
                convert_options=pa.csv.ConvertOptions(
                    column_types=wanted,
                    include_columns=list(wanted),
                    null_values=[""],
                    strings_can_be_null=False,
                ),
            )
            with closing(reader):
                for batch in reader:
                    yield from slices(_canonical(batch, layout), rows)
    except (pa.ArrowInvalid, *DAMAGED) as error:
        if isinstance(error, pa.ArrowInvalid) and _no_rows(open_bytes, where, layout):
            return
        # The parser's own message quotes the line, which may name a person: it is not passed on.
        raise find_fault(open_bytes, where, layout) from None


def _native(stream: IO[bytes]) -> pa.NativeFile:
    """The stream as Arrow reads it: a file on disk without going through Python."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
        return pa.OSFile(stream.raw.name)
    return pa.PythonFile(stream, mode="r")


def slices(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """A record batch cut into pieces of at most ``rows`` rows, without copying; nothing for an empty one."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _canonical(batch: pa.RecordBatch, layout: Layout) -> pa.RecordBatch:
    arrays = []
    for _, name, kind in layout.fields:
        column = batch.column(name)
        arrays.append(_flags(column) if kind == "flag" else column)
    return pa.RecordBatch.from_arrays(arrays, names=list(layout.columns))


def _flags(column: pa.DictionaryArray) -> pa.Array:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(column.dictionary))
    true, false, empty = (pc.is_in(words, pa.array(w)) for w in (TRUE, FALSE, ("",)))
    known = pc.or_(pc.or_(true, false), empty)
    if not pc.all(known, min_count=0).as_py():
        raise pa.ArrowInvalid("a flag is neither 1 nor 0")
    meaning = pc.if_else(empty, pa.scalar(None, pa.bool_()), true)
    return pc.take(meaning, column.indices)


def _no_rows(open_bytes: OpenBytes, where: str, layout: Layout) -> bool:
    """Whether nothing but blank lines follows the header: an empty table is the survey's to refuse."""
    with guarded(where), open_bytes() as stream:
        for _ in range(layout.header):
            stream.readline(LINE_LIMIT + 1)
        while raw := stream.read(1 << 16):
            if raw.strip(b"\r\n"):
                return False
    return True


def find_fault(open_bytes: OpenBytes, where: str, layout: Layout) -> AuditError:
    """The first line that does not fit the layout, as the error to raise: its number and what is wrong with it."""
    at = {name: k for k, name in enumerate(layout.names)}
    checks = [(at[name], name, kind) for _, name, kind in layout.fields if kind in ("number", "flag")]
    number = 0
    try:
        with guarded(where), open_bytes() as stream:
            while raw := stream.readline(LINE_LIMIT + 1):
                number += 1
                if len(raw) > LINE_LIMIT:
                    return _too_long(where, number, LINE_LIMIT)
                text = decode(raw, where, number)
                if not text or number <= layout.header:
                    continue
                fault = _line_fault(text.lstrip("\ufeff") if number == 1 else text, layout, checks)
                if fault is not None:
                    return InputError(fault[0], where=f"{where}, line {number}", mend=fault[1])
    except AuditError as error:
        return error
    return InputError("The file cannot be parsed as lines of this format.", where=where, mend="Check the format.")


def _line_fault(text: str, layout: Layout, checks: Sequence[tuple[int, str, Kind]]) -> tuple[str, str] | None:
    try:
        fields = split_line(text, layout.delimiter, layout.quoted)
    except ValueError:
        return "A field of this line is too long.", "Write one comparison a line, with paired quotes."
    expected = len(layout.names)
    if len(fields) != expected:
        what = f"The line has {_count(len(fields))} separated by {_DELIMITERS[layout.delimiter]}, expected {expected}."
        for other, word in _DELIMITERS.items():
            if other != layout.delimiter and len(text.split(other)) == expected:
                return (
                    what,
                    f"Separated by {word} it has {expected}: rewrite the file with {_DELIMITERS[layout.delimiter]}.",
                )
        return what, f"Each line holds: {', '.join(layout.names[:20])}{' ...' if expected > 20 else ''}."
    for k, name, kind in checks:
        if kind == "number" and not NUMBER.fullmatch(fields[k]):
            return (
                f"The field {name!r} is not a number.",
                "Mend the line, or name the right column or format.",
            )
        if kind == "flag" and fields[k].strip().lower() not in (*TRUE, *FALSE, ""):
            return (
                f"The field {name!r} is neither 1 nor 0.",
                "Write 1 for a mated comparison, 0 for a non-mated one.",
            )
    return None


def _count(fields: int) -> str:
    return "1 field" if fields == 1 else f"{fields} fields"


def check_first(open_bytes: OpenBytes, where: str, layout: Layout) -> None:
    """Hold the first line of a file without header against the layout, so that a wrong delimiter shows at once."""
    checks = [(layout.names.index(n), n, kind) for _, n, kind in layout.fields if kind in ("number", "flag")]
    fault = _line_fault(first_line(open_bytes, where), layout, checks)
    if fault is not None:
        raise find_fault(open_bytes, where, layout)


def pairs_of(attributes: Mapping[str, tuple[str, str]]) -> tuple[tuple[str, str, Kind], ...]:
    """Layout fields for attributes given as name -> (reference column, probe column)."""
    fields: list[tuple[str, str, Kind]] = []
    for name, (reference, probe) in attributes.items():
        fields += [(f"reference.{name}", reference, "label"), (f"probe.{name}", probe, "label")]
    return tuple(fields)
