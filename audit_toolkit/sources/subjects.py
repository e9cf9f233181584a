"""Demographics from a subject table: one row a subject, joined to both sides of every comparison.

Promise: a subject that the table does not list has no label (the survey excludes and counts such rows); a subject that it
lists twice must carry the same labels both times, else the join is refused, since nobody but the table's owner knows which
label is right. Ids are compared as text, so 7 in one file and "7" in the other are the same subject.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.coding import encode, through
from audit_toolkit.sources.columns import no_header
from audit_toolkit.sources.frames import frame_to_arrow
from audit_toolkit.sources.table import ScoreSource
from audit_toolkit.sources.tabular import DELIMITERS, lacks_header, split_header


def join_subjects(
    source: ScoreSource, table: Path | str | Any, id_column: str, attributes: Mapping[str, str]
) -> ScoreSource:
    """The same comparisons with ``reference.NAME`` and ``probe.NAME`` for every attribute of the subject table.

    table: a CSV or Parquet file, or a frame; id_column: its column of subject ids; attributes: attribute name -> its
    column. Raises `InputError` where columns are missing, ids are missing, or one subject is listed with different labels,
    and `UsageError` where the source has an attribute of that name already.
    """
    taken = [name for name in attributes if {f"reference.{name}", f"probe.{name}"} & set(source.columns)]
    if taken:
        raise UsageError(
            f"The source has an attribute {taken[0]!r} already.",
            where=source.name,
            mend="Join it under another name.",
        )
    if not attributes:
        raise UsageError("No attribute is to be joined.", mend="Name the subject table's columns.")
    files: tuple[Path, ...] = ()
    if isinstance(table, str | Path):
        files = (Path(table),)
        where = files[0].name
        arrow = _read(files[0])
    else:
        where = "subject table"
        arrow = frame_to_arrow(table, where)
    missing = [c for c in (id_column, *attributes.values()) if c not in arrow.column_names]
    if missing:
        if files and files[0].suffix.lower() in (".csv", ".tsv"):
            _refuse_other_csv(files[0], [id_column, *attributes.values()])
        raise InputError(
            f"Missing column{'s' if len(missing) > 1 else ''}: {', '.join(dict.fromkeys(missing))}.",
            where=where,
            mend=f"Columns it has: {', '.join(arrow.column_names)}.",
        )
    twice = sorted(c for c in {id_column, *attributes.values()} if arrow.column_names.count(c) > 1)
    if twice:
        raise InputError(
            f"The column name {twice[0]!r} occurs more than once.", where=where, mend="Rename one of them."
        )
    if arrow.num_rows == 0:
        raise InputError("There are no rows.", where=where, mend="Check that the right subject table was given.")
    rows, labels = _lookup(arrow, id_column, attributes, where)

    def stream(count: int) -> Iterator[pa.RecordBatch]:
        for batch in source.open(count):
            arrays, names = list(batch.columns), list(batch.schema.names)
            for side in ("reference", "probe"):
                column = f"{side}_subject"
                index, texts = encode(batch.column(names.index(column)), f"{source.name}, column {column}")
                row = through(index, [rows.get(text, -1) if text else -1 for text in texts])
                for name, (codes, words) in labels.items():
                    code = codes[row]  # row -1 is the spare last cell: no label
                    arrays.append(pa.DictionaryArray.from_arrays(pa.array(code, mask=code < 0), words))
                    names.append(f"{side}.{name}")
            yield pa.RecordBatch.from_arrays(arrays, names=names)

    joined = [f"{side}.{name}" for side in ("reference", "probe") for name in attributes]
    # A frame's labels stand in the content that the survey hashes; a file is hashed as a file. A mixture counts as files.
    return dataclasses.replace(
        source,
        columns=(*source.columns, *joined),
        open=stream,
        files=(*source.files, *files) if source.files else (),
    )


def _refuse_other_csv(path: Path, wanted: list[str]) -> None:
    """Raise the error that fits where the columns are not found for a delimiter or a header that is not the expected."""
    with path.open("rb") as raw:
        header = raw.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")
    for delimiter, word in DELIMITERS.items():
        if delimiter not in (",", "\t") and set(wanted) <= set(split_header(header, delimiter)):
            raise InputError(
                f"The columns are separated by {word}s, not by commas.", where=path.name, mend="Save it with commas."
            )
    if lacks_header(path):
        raise no_header(path.name, wanted)


def _read(path: Path) -> pa.Table:
    if path.is_dir():
        raise InputError("This is a folder.", where=path.name, mend="Name the subject table itself.")
    if not path.is_file():
        raise InputError("There is no such file.", where=path.name, mend="Check the path to the subject table.")
    if path.stat().st_size == 0:
        raise InputError("The file is empty (0 bytes).", where=path.name, mend="Ask for the file again.")
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return pq.read_table(path)
        if suffix in (".csv", ".tsv"):
            with path.open("rb") as raw:
                header = raw.readline(1 << 20)
            delimiter = "\t" if suffix == ".tsv" else ","
            names = [n.strip().strip('"') for n in header.decode("utf-8-sig").strip().split(delimiter)]
            return pacsv.read_csv(
                path,
                parse_options=pacsv.ParseOptions(delimiter=delimiter),
                # ids and labels are text: "007" must not become 7
                convert_options=pacsv.ConvertOptions(column_types={name: pa.string() for name in names}),
            )
    except UnicodeDecodeError:
        raise InputError("The file is not UTF-8 text.", where=path.name, mend="Save the file as UTF-8.") from None
    except (pa.ArrowException, OSError) as error:
        if "UTF8" in str(error):
            raise InputError("The file is not UTF-8 text.", where=path.name, mend="Save the file as UTF-8.") from None
        raise InputError(
            "This is not a readable subject table: it is damaged, or its rows differ in length.",
            where=path.name,
            mend="Save it as CSV (UTF-8, comma) or Parquet, one row a subject.",
        ) from None
    raise InputError(
        f"The ending {suffix or '(none)'} is not one of a subject table.",
        where=path.name,
        mend="Use .csv or .parquet.",
    )


def _lookup(
    table: pa.Table, id_column: str, attributes: Mapping[str, str], where: str
) -> tuple[dict[str, int], dict[str, tuple[NDArray[np.int32], pa.Array]]]:
    """Row of each subject, and per attribute the label code of each row (one spare -1 at the end) with the labels."""
    index, texts = encode(table.column(id_column).combine_chunks(), f"{where}, column {id_column}")
    subject = through(index, [k if text else -1 for k, text in enumerate(texts)])
    if (subject < 0).any():
        raise InputError(
            f"Row {int(np.flatnonzero(subject < 0)[0]) + 1} has no subject id.",
            where=f"{where}, column {id_column}",
            mend="Fill it in or remove the row.",
        )
    last = np.zeros(len(texts), np.int64)
    last[subject] = np.arange(len(subject))
    labels = {}
    for name, column in attributes.items():
        code, words = encode(table.column(column).combine_chunks(), f"{where}, column {column}")
        differs = np.flatnonzero(code != code[last[subject]])
        if len(differs):
            raise InputError(
                f"Row {int(differs[0]) + 1} lists a subject that another row gives a different {name}.",
                where=f"{where}, column {column}",
                mend="List each subject once, or with the same labels.",
            )
        labels[name] = (np.append(code, np.int32(-1)), pa.array(words, pa.string()))
    return {text: int(last[k]) for k, text in enumerate(texts) if text}, labels
