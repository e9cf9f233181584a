"""Pair lists in the layout of Labeled Faces in the Wild, with a file of scores in the same order.

Why it exists: many verification benchmarks publish their pairs in this layout and their scores apart. A line is
``name n1 n2`` (mated: two images of one person) or ``name1 n1 name2 n2`` (non-mated), separated by tabs or blanks. A first
line of one or two numbers says how many pairs follow, as folds x pairs of each kind; some lists (one a group) have none.
Promises: a list and a score file of different lengths are refused, as is a list that ends before its header says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from audit_toolkit.errors import InputError
from audit_toolkit.sources.compose import with_labels
from audit_toolkit.sources.lines import (
    LINE_LIMIT,
    Layout,
    check_first,
    decode,
    existing_file,
    first_line,
    guarded,
    open_plain,
    stream_rows,
)
from audit_toolkit.sources.table import ScoreSource

_COLUMNS = ("reference_subject", "probe_subject", "mated", "score", "reference_sample", "probe_sample")
_SCORES = Layout(("score",), (("score", "score", "number"),), " ")

_BLOCK = 1 << 16
"""Pairs held as Python values at a time, whatever the batch size asked for."""


class _Pair(NamedTuple):
    reference: str
    probe: str
    mated: bool
    reference_sample: str
    probe_sample: str


def read_lfw(
    pairs: str | Path,
    scores: str | Path,
    *,
    reference_label: Mapping[str, str] | None = None,
    probe_label: Mapping[str, str] | None = None,
) -> ScoreSource:
    """Comparisons from a pair list and the scores of its pairs, one a line or a one-dimensional ``.npy``, in the same order.

    The first name of a pair is read as the reference. Samples are ``name/number``. ``reference_label`` and ``probe_label``
    map attribute to the label of everybody in this list (one list a group). Raises `InputError` for lines of another
    shape and where pairs and scores differ in number.
    """
    pairs, scores = existing_file(pairs), existing_file(scores)
    header = lfw_header(first_line(open_plain(pairs), pairs.name))
    next(_read_pairs(pairs, header), None)  # a wrong layout shows here, before anything is streamed
    if scores.suffix == ".npy":
        _open_npy(scores)
    else:
        check_first(open_plain(scores), scores.name, _SCORES)

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        stream = _read_pairs(pairs, header)
        n_pairs = n_scores = 0
        for values in _read_scores(scores, min(rows, _BLOCK)):
            block = list(islice(stream, len(values)))
            n_pairs += len(block)
            n_scores += len(values)
            if len(block) < len(values):
                break
            columns = list(zip(*block, strict=True))
            arrays = [
                pa.array(columns[0], pa.string()),
                pa.array(columns[1], pa.string()),
                pa.array(columns[2], pa.bool_()),
                values,
                pa.array(columns[3], pa.string()),
                pa.array(columns[4], pa.string()),
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=list(_COLUMNS))
        more = next(stream, None) is not None
        if more or n_pairs != n_scores:
            raise InputError(
                f"There are {'more' if more else 'fewer'} pairs than scores ({min(n_pairs, n_scores)} go together).",
                where=f"{pairs.name}, {scores.name}",
                mend="Give the scores of exactly this list, in its order.",
            )

    source = ScoreSource(f"{pairs.name}, {scores.name}", "LFW pairs and scores", _COLUMNS, batches, (pairs, scores))
    return with_labels(source, reference_label or {}, probe_label or {})


def lfw_header(text: str) -> int | None:
    """How many pairs a first line announces: ``folds pairs`` or ``pairs`` of each kind; ``None`` where it is a pair."""
    words = text.split()
    if len(words) not in (1, 2) or not all(w.isascii() and w.isdigit() and len(w) < 10 for w in words):
        return None
    return 2 * int(words[0]) * (int(words[1]) if len(words) == 2 else 1)


def _read_pairs(path: Path, announced: int | None) -> Iterator[_Pair]:
    """The list's pairs, one at a time: lines differ in length, so no block parser fits."""
    found = number = 0
    waiting_for_header = announced is not None
    with guarded(path.name), open_plain(path)() as stream:
        while raw := stream.readline(LINE_LIMIT):
            number += 1
            text = decode(raw, path.name, number)
            text = text.lstrip("\ufeff") if number == 1 else text
            if not text.strip():
                continue
            if waiting_for_header:
                waiting_for_header = False
                continue
            pair = _parse(text)
            if pair is None:
                raise InputError(
                    "The line is no pair.",
                    where=f"{path.name}, line {number}",
                    mend="A line is name n1 n2, or name1 n1 name2 n2, separated by tabs; n1 and n2 are whole numbers.",
                )
            found += 1
            yield pair
    if announced is not None and found != announced:
        raise InputError(
            f"The first line announces {announced} pairs and {found} follow.",
            where=path.name,
            mend="Ask for the whole list.",
        )


def _parse(text: str) -> _Pair | None:
    words = text.split("\t") if "\t" in text else text.split()
    numbers = words[1:] if len(words) == 3 else words[1::2]
    if len(words) not in (3, 4) or not all(n.isascii() and n.strip().isdigit() for n in numbers):
        return None
    reference, probe = words[0], words[0] if len(words) == 3 else words[2]
    first, second = (n.strip() for n in numbers)
    return _Pair(reference, probe, len(words) == 3, f"{reference}/{first}", f"{probe}/{second}")


def _read_scores(path: Path, rows: int) -> Iterator[pa.Array]:
    if path.suffix != ".npy":
        for batch in stream_rows(open_plain(path), path.name, _SCORES, rows):
            yield batch.column("score")
        return
    values = _open_npy(path)
    kind = np.float32 if values.dtype == np.float32 else np.float64
    for start in range(0, len(values), rows):
        yield pa.array(np.array(values[start : start + rows], kind))


def _open_npy(path: Path) -> np.ndarray[tuple[int], np.dtype[np.floating]]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise InputError(
            "The file is not a plain array of numbers, or it is cut short.",
            where=path.name,
            mend="Save it with numpy.save from a float array.",
        ) from None
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "fiu":
        raise InputError(
            "The array is not one-dimensional or does not hold numbers.",
            where=path.name,
            mend="Save one score a pair.",
        )
    return values
