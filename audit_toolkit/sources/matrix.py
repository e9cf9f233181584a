"""Score matrices in CSV: ids in the first row and in the first column, a score in every other cell.

Why it exists: all-pairs evaluations (multimodal score sets among them) are handed over this way. The file is streamed row
by row; memory holds one line, one batch and the ids, never the matrix. Special values such as -1 stay in: whether they
mean "no comparison" is declared to the survey, which counts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit_toolkit.errors import AuditError, InputError
from audit_toolkit.sources.lines import (
    NUMBER,
    OpenBytes,
    decode,
    existing_file,
    guarded,
    open_plain,
    read_header,
    split_line,
    stream_rows,
)
from audit_toolkit.sources.lines import Layout as LineLayout
from audit_toolkit.sources.table import ScoreSource

ROW_LIMIT = 1 << 24
"""Bytes a row may have, header included: about a million columns of scores."""
_FIRST_FIELD = {d: re.compile(rf'(?:"((?:[^"]|"")*)"|([^{d}"]*))(?:{d}|$)') for d in (",", ";", "\t")}

SubjectOf = Mapping[str, str] | Callable[[str], str | None] | str | Path


@dataclass(frozen=True, slots=True)
class _Head:
    columns: tuple[str, ...]
    delimiter: str


def read_matrix(
    path: str | Path,
    *,
    subject_of: SubjectOf | None = None,
    rows_are: Literal["reference", "probe"] = "reference",
) -> ScoreSource:
    """Every cell of a CSV matrix as one comparison; rows are references and columns probes unless ``rows_are`` says "probe".

    ``subject_of`` tells whose sample an id is: a mapping or a function from id to subject, or a CSV file with the columns
    ``sample`` and ``subject``; ids it does not know have no subject and the survey counts them. Without it the ids are the
    subjects themselves, a comparison is mated where row and column id are equal, and the source names no samples.
    An empty cell is a missing score. Raises `InputError` with the line for short rows, cells that are no numbers, and ids
    that stand twice in the header or in the first column.
    """
    path = existing_file(path)
    opener = open_plain(path)
    head = _read_head(opener, path.name)
    _refuse_twice(head.columns, f"{path.name}, line 1", "column")
    subject = _subject_function(subject_of)
    row_side, column_side = ("reference", "probe") if rows_are == "reference" else ("probe", "reference")
    columns = ["reference_subject", "probe_subject", "score"]
    if subject is not None:
        columns += ["reference_sample", "probe_sample"]
    column_ids = pa.array(head.columns, pa.string())
    column_subjects = None if subject is None else pa.array([subject(c) for c in head.columns], pa.string())

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        width = len(head.columns)
        for ids, scores in _blocks(opener, path.name, head, max(1, rows // width)):
            row_of = np.repeat(np.arange(len(ids), dtype=np.int32), width)
            column_of = np.tile(np.arange(width, dtype=np.int32), len(ids))
            row_ids = pa.array(ids, pa.string())
            arrays = {"score": scores}
            for side, codes, samples, subjects in (
                (
                    row_side,
                    row_of,
                    row_ids,
                    None if subject is None else pa.array([subject(i) for i in ids], pa.string()),
                ),
                (column_side, column_of, column_ids, column_subjects),
            ):
                taken = pa.array(codes)
                if subjects is None:
                    arrays[f"{side}_subject"] = pa.DictionaryArray.from_arrays(taken, samples)
                else:
                    arrays[f"{side}_subject"] = _coded(subjects, codes)
                    arrays[f"{side}_sample"] = pa.DictionaryArray.from_arrays(taken, samples)
            batch = pa.RecordBatch.from_arrays([arrays[c] for c in columns], names=columns)
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)

    files = (path, Path(subject_of)) if isinstance(subject_of, (str, Path)) else (path,)
    return ScoreSource(path.name, f"CSV matrix, rows are {row_side}s", tuple(columns), batches, files)


def _coded(values: pa.Array, codes: np.ndarray[tuple[int], np.dtype[np.int32]]) -> pa.DictionaryArray:
    """Values picked by code, as a dictionary column; a value that is null stays null."""
    unique = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(pc.take(unique.indices, pa.array(codes)), unique.dictionary)


def looks_like_matrix(path: Path) -> bool:
    """Whether the second line is an id followed by numbers only, as many as the first line has ids."""
    try:
        opener = open_plain(path)
        head = _read_head(opener, path.name)
        next(_blocks(opener, path.name, head, 1), None)
    except AuditError:
        return False
    return len(head.columns) > 1


def _lines(opener: OpenBytes, where: str) -> Generator[tuple[int, str], None, None]:
    with guarded(where), opener() as stream:
        number = 0
        while raw := stream.readline(ROW_LIMIT + 1):
            number += 1
            if len(raw) > ROW_LIMIT:
                raise InputError(
                    f"The row is longer than {ROW_LIMIT:,} bytes.",
                    where=f"{where}, line {number}",
                    mend="This is not such a matrix, or it is to be cut into several.",
                )
            text = decode(raw, where, number)
            if text.strip():
                yield number, text.lstrip("\ufeff") if number == 1 else text


def _read_head(opener: OpenBytes, where: str) -> _Head:
    lines = _lines(opener, where)
    _, first = next(lines, (0, ""))
    _, second = next(lines, (0, ""))
    lines.close()
    if not first or not second:
        raise InputError("The matrix has no row below its header.", where=where, mend="Ask for the file again.")
    delimiter = max(_FIRST_FIELD, key=second.count)
    try:
        ids = split_line(first, delimiter, True)
    except ValueError:
        raise InputError(
            "The header has a field that is too long for an id.",
            where=f"{where}, line 1",
            mend="Check the format.",
        ) from None
    cells = second.count(delimiter) + 1 - (_first_field(second, delimiter)[0].count(delimiter))
    if second.count(delimiter) == 0 or len(ids) not in (cells, cells - 1):
        raise InputError(
            f"The header has {len(ids)} fields and the first row {cells}.",
            where=f"{where}, line 2",
            mend="A matrix has ids in its first row and first column, separated by commas, semicolons or tabs.",
        )
    # Some writers leave the corner cell out, so that the header is one field shorter than the rows.
    columns = tuple(i.strip() for i in (ids[1:] if len(ids) == cells else ids))
    return _Head(columns, delimiter)


def _first_field(text: str, delimiter: str) -> tuple[str, int]:
    """A row's id and where its scores start."""
    found = _FIRST_FIELD[delimiter].match(text)
    if found is None:
        return text.partition(delimiter)[0], text.find(delimiter) + 1
    quoted = found[1]
    return (found[2] if quoted is None else quoted.replace('""', '"')).strip(), found.end()


def _blocks(opener: OpenBytes, where: str, head: _Head, rows: int) -> Iterator[tuple[list[str], pa.Array]]:
    """Matrix rows in blocks: their ids and all their scores, float64, row by row."""
    seen: set[str] = set()
    ids: list[str] = []
    texts: list[str] = []
    numbers: list[int] = []
    lines = _lines(opener, where)
    next(lines)
    for number, text in lines:
        name, start = _first_field(text, head.delimiter)
        if name in seen:
            raise InputError(
                "The id of this row stands in an earlier row too.",
                where=f"{where}, line {number}",
                mend="Give every sample an id of its own, and name the subjects apart.",
            )
        seen.add(name)
        ids.append(name)
        texts.append(text[start:])
        numbers.append(number)
        if len(ids) == rows:
            yield ids, _scores(texts, numbers, where, head)
            ids, texts, numbers = [], [], []
    if ids:
        yield ids, _scores(texts, numbers, where, head)


def _scores(texts: list[str], numbers: list[int], where: str, head: _Head) -> pa.Array:
    """The scores of whole rows, split and converted by Arrow; a fault is looked for only where that fails."""
    split = pc.split_pattern(pa.array(texts, pa.string()), head.delimiter)
    lengths = np.asarray(pc.list_value_length(split))
    wrong = np.flatnonzero(lengths != len(head.columns))
    if len(wrong):
        raise InputError(
            f"The row has {lengths[wrong[0]]} scores and the header {len(head.columns)} columns.",
            where=f"{where}, line {numbers[wrong[0]]}",
            mend="Give a score for every column; leave a cell empty where there is none.",
        )
    cells = pc.utf8_trim_whitespace(split.flatten())
    cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
    try:
        return pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        for number, text in zip(numbers, texts, strict=True):
            for column, cell in enumerate(text.split(head.delimiter), start=2):
                if not NUMBER.fullmatch(cell.strip()):
                    raise InputError(
                        "The cell is not a number.",
                        where=f"{where}, line {number}, column {column}",
                        mend="Mend the cell, or leave it empty where there is no score.",
                    ) from None
        raise InputError("The scores cannot be read as numbers.", where=where) from None


def _refuse_twice(ids: tuple[str, ...], where: str, what: str) -> None:
    first: dict[str, int] = {}
    for k, name in enumerate(ids, start=1):
        if name in first:
            raise InputError(
                f"The ids of {what}s {first[name]} and {k} are the same.",
                where=where,
                mend="Give every sample an id of its own, and name the subjects apart.",
            )
        first[name] = k


def _subject_function(subject_of: SubjectOf | None) -> Callable[[str], str | None] | None:
    if subject_of is None or callable(subject_of):
        return subject_of
    if isinstance(subject_of, Mapping):
        return subject_of.get
    path = existing_file(subject_of)
    opener = open_plain(path)
    names, delimiter = read_header(opener, path.name, ("sample", "subject"))
    layout = LineLayout(
        names,
        (("sample", "sample", "sample"), ("subject", "subject", "sample")),
        delimiter,
        header=1,
        quoted=True,
    )
    table: dict[str, str] = {}
    for batch in stream_rows(opener, path.name, layout, 1 << 16):
        for sample, subject in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            if table.setdefault(sample, subject) != subject:
                raise InputError(
                    "A sample is listed with two subjects.", where=path.name, mend="List every sample once."
                )
    return table.get
