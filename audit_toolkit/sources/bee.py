"""BEE similarity matrices (.mtx) with their mask (.mask) and two signature sets.

Why it exists: government face evaluations, and open tools after them, exchange all comparisons of two image sets in this
form. Layout: a line ``S2`` (similarity) or ``D2`` (distance); the target set's name; the query set's name; then ``MF rows
cols TAG`` (``MB`` for a mask) where TAG is the number 0x12345678 in the writer's byte order, a newline, and the cells row
by row: 32-bit floats, or one byte a cell of a mask. Rows are queries (probes), columns targets (references). Mask: 0xff
mated, 0x7f non-mated, 0x00 not to be used.

Promises: the tag is read by position and honoured; a file shorter or longer than its header says is refused; cells that the
mask takes out are counted in ``ScoreSource.skipped``. A mask that contradicts the names is the survey's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.lines import existing_file
from audit_toolkit.sources.sigset import Presentation, read_sigset
from audit_toolkit.sources.table import ScoreSource

MATED, NON_MATED, NOT_USED = 0xFF, 0x7F, 0x00
_HEAD_LIMIT = 1 << 14
_SIZE = re.compile(rb"M([FB]) ([0-9]{1,12}) ([0-9]{1,12}) ")
_ORDERS: dict[bytes, Literal["<", ">"]] = {b"\x78\x56\x34\x12": "<", b"\x12\x34\x56\x78": ">"}
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Matrix:
    """What the header of a .mtx or .mask says: shape, where the cells start, and how they are written."""

    path: Path
    distance: bool
    target: str
    query: str
    rows: int
    columns: int
    offset: int
    dtype: np.dtype[Any]

    @property
    def cells(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The cells row by row in blocks of at most ``size``, each with the number of its first cell."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            for start in range(0, self.cells, size):
                wanted = min(size, self.cells - start)
                block = np.fromfile(stream, self.dtype, wanted)
                if len(block) != wanted:
                    raise InputError("The matrix is cut short.", where=self.path.name, mend="Ask for the file again.")
                yield start, block


def read_bee(
    path: str | Path,
    *,
    mask: str | Path | None = None,
    target: str | Path | None = None,
    query: str | Path | None = None,
    attributes: Sequence[str] | None = None,
) -> ScoreSource:
    """Comparisons from a BEE matrix; targets are the references, queries the probes.

    ``mask`` defaults to the file of the same name ending in ``.mask`` where there is one (without a mask, a comparison is
    mated where the names are equal); ``target`` and ``query`` default to the sets the header names, beside the matrix.
    ``attributes``: presentation attributes that are demographic labels (default: all that both sets have, technical ones
    left out). Scores are float32. Raises `InputError` for truncated files, other shapes, sets of another length, mask
    bytes outside the three.
    """
    matrix = read_matrix_header(existing_file(path), "F")
    where = matrix.path.name
    targets = read_sigset(target or _beside(matrix.path, matrix.target, "target"))
    queries = read_sigset(query or _beside(matrix.path, matrix.query, "query"))
    for name, entries, expected, side in (
        ("target", targets, matrix.columns, "columns"),
        ("query", queries, matrix.rows, "rows"),
    ):
        if len(entries) != expected:
            raise InputError(
                f"The {name} set lists {len(entries)} presentations and the matrix has {expected} {side}.",
                where=where,
                mend="Give the signature sets this matrix was made from.",
            )
    if mask is None and matrix.path.with_suffix(".mask").is_file():
        mask = matrix.path.with_suffix(".mask")
    cells = None if mask is None else read_matrix_header(existing_file(mask), "B")
    skipped = () if cells is None else _check_mask(cells, matrix)
    both = {k for p in targets for k in p.labels} & {k for p in queries for k in p.labels}
    unknown = sorted(set(attributes or ()) - both)
    if unknown:
        raise UsageError(
            f"The signature sets do not both have the attribute {', '.join(unknown)}; both have: "
            f"{', '.join(sorted(both)) or 'none'}.",
            where=where,
        )
    names = tuple(sorted(both) if attributes is None else attributes)
    sides = (_side("reference", targets, names), _side("probe", queries, names))
    labels = tuple(f"{side}.{n}" for n in names for side in ("reference", "probe"))
    columns = (
        *("reference_subject", "probe_subject", *(() if cells is None else ("mated",)), "score"),
        *("reference_sample", "probe_sample", *labels),
    )

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        stream = matrix.blocks(rows)
        masks = None if cells is None else cells.blocks(rows)
        for start, scores in stream:
            at = np.arange(start, start + len(scores))
            flags = None if masks is None else next(masks)[1]
            if flags is not None:
                used = flags != NOT_USED
                at, scores, flags = at[used], scores[used], flags[used]
            if len(at) == 0:
                continue
            arrays = {"score": pa.array(scores.astype(np.float32, copy=False))}
            if flags is not None:
                arrays["mated"] = pa.array(flags == MATED)
            for codes, side in zip((at % matrix.columns, at // matrix.columns), sides, strict=True):
                for column, (index, values) in side.items():
                    arrays[column] = pa.DictionaryArray.from_arrays(_indices(index, codes), values)
            yield pa.RecordBatch.from_arrays([arrays[c] for c in columns], names=list(columns))

    kind = f"BEE {'distance' if matrix.distance else 'similarity'} matrix, " + (
        "mated where names are equal" if cells is None else f"mask {cells.path.name}"
    )
    files = tuple(
        dict.fromkeys(
            Path(f)
            for f in (
                matrix.path,
                *(() if cells is None else (cells.path,)),
                target or _beside(matrix.path, matrix.target, "target"),
                query or _beside(matrix.path, matrix.query, "query"),
            )
        )
    )
    hint: Literal["same", "different"] = "different" if matrix.distance else "same"
    return ScoreSource(where, kind, columns, batches, files, skipped, hint)


def _indices(index: NDArray[np.int32], codes: NDArray[np.int64]) -> pa.Array:
    taken = index[codes]
    return pa.array(taken, mask=taken < 0)


def _side(
    side: str, entries: Sequence[Presentation], attributes: Sequence[str]
) -> dict[str, tuple[NDArray[np.int32], pa.Array]]:
    """Per canonical column of one side: code of each presentation (-1 = none) and the values the codes stand for."""
    values: dict[str, list[str | None]] = {f"{side}.{n}": [p.labels.get(n) for p in entries] for n in attributes}
    values[f"{side}_subject"] = [p.subject for p in entries]
    values[f"{side}_sample"] = [p.sample for p in entries]
    coded = {}
    for column, given in values.items():
        codes = {v: k for k, v in enumerate(dict.fromkeys(v for v in given if v is not None))}
        index = np.array([-1 if v is None else codes[v] for v in given], np.int32)
        coded[column] = (index, pa.array(list(codes), pa.string()))
    return coded


def _beside(matrix: Path, name: str, side: str) -> Path:
    """The signature set a header names, looked for beside the matrix by its file name only."""
    found = matrix.parent / re.split(r"[/\\]", name)[-1]
    if not name or not found.is_file():
        raise InputError(
            f"The {side} signature set that the header names is not beside the matrix.",
            where=matrix.name,
            mend=f"Put it there, or name it ({side}=...).",
        )
    return found


def read_matrix_header(path: Path, kind: Literal["F", "B"]) -> Matrix:
    """The header of a BEE file of 32-bit scores ("F") or mask bytes ("B"), held against the file's size."""
    with path.open("rb") as stream:
        lines = [stream.readline(_HEAD_LIMIT) for _ in range(3)]
        start = stream.tell()
        head = stream.read(64)
    what, target, query = (line.strip(b"\r\n") for line in lines)
    size = _SIZE.match(head)
    if what not in (b"S2", b"D2") or size is None:
        raise InputError(
            "This is not a BEE matrix.",
            where=path.name,
            mend="Its first line is S2 or D2, its fourth MF or MB.",
        )
    letter = size[1].decode()
    if letter != kind:
        raise InputError(
            f"The file is of kind M{letter}, expected M{kind}.",
            where=path.name,
            mend="Give the .mtx as the matrix and the .mask as its mask.",
        )
    # The tag's four bytes may contain any character: they are taken by position, not by splitting the line.
    tag, end = head[size.end() : size.end() + 4], head[size.end() + 4 : size.end() + 5]
    if tag not in _ORDERS or end != b"\n":
        raise InputError(
            "The byte order mark after the size is not 0x12345678.", where=path.name, mend="Write it again."
        )
    rows, columns = int(size[2]), int(size[3])
    dtype = np.dtype(_ORDERS[tag] + "f4") if kind == "F" else np.dtype(np.uint8)
    offset = start + size.end() + 5
    expected, found = rows * columns * dtype.itemsize, path.stat().st_size - offset
    if expected != found:
        raise InputError(
            f"The header announces {rows} x {columns} cells ({expected:,} bytes) and {found:,} bytes follow.",
            where=path.name,
            mend="The file is cut short or not of this size: ask for it again.",
        )
    try:
        return Matrix(path, what == b"D2", target.decode(), query.decode(), rows, columns, offset, dtype)
    except UnicodeDecodeError:
        raise InputError("The names of the signature sets are not UTF-8 text.", where=path.name) from None


def _check_mask(mask: Matrix, matrix: Matrix) -> tuple[tuple[str, int], ...]:
    """Hold the mask against the matrix and count what it takes out."""
    if (mask.rows, mask.columns) != (matrix.rows, matrix.columns):
        raise InputError(
            f"The mask has {mask.rows} x {mask.columns} cells and the matrix {matrix.rows} x {matrix.columns}.",
            where=mask.path.name,
            mend="Give the mask of this matrix.",
        )
    counts = np.zeros(256, np.int64)
    for start, block in mask.blocks(_BLOCK):
        seen = np.bincount(block, minlength=256)
        counts += seen
        if seen[[MATED, NON_MATED, NOT_USED]].sum() != len(block):
            at = start + int(np.flatnonzero(~np.isin(block, (MATED, NON_MATED, NOT_USED)))[0])
            raise InputError(
                "A mask byte is none of 0xff, 0x7f and 0x00.",
                where=f"{mask.path.name}, row {at // mask.columns + 1}, column {at % mask.columns + 1}",
                mend="Write the mask again.",
            )
    out = int(counts[NOT_USED])
    return (("marked not to be used in the mask", out),) if out else ()
