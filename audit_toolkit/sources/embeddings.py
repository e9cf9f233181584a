"""Templates as an audit's input: who each row shows, which group they are in, and which rows can be compared at all.

Why: the honest question about a matcher is asked of every pair of templates, and everything that it says rests on which
templates were used. Promise: each row that was read is either used or counted under one reason, so ``rows_read ==
rows_used + sum of exclusions that are not used``; subjects are coded against a codebook sorted by id, exactly as a score
file's are; a template that cannot be compared (flagged, missing, not a number, of length zero under cosine) is a failure
to enrol and is counted as one, by subject. It does not promise that the labels are right or that different ids are
different people.

A row stands under the first reason that fits, in this order: missing subject id, flagged failure, not a number, infinite,
length zero, no label, label not declared; then, from the whole file: subject with two labels, exact duplicate.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.core.fold import digest_arrays
from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.evidence.record import Exclusion
from audit_toolkit.sources import template_rows
from audit_toolkit.sources.hdf5 import read_hdf5
from audit_toolkit.sources.npy import read_npy, read_npz
from audit_toolkit.sources.options import SurveyOptions
from audit_toolkit.sources.stored_vectors import Mapped, Pick, Picked, Stored, read_rows
from audit_toolkit.sources.survey import _codebook, _hash_files
from audit_toolkit.sources.template_labels import Labelled, Rule, from_columns, from_subjects, read_table
from audit_toolkit.sources.template_rows import Judged, Metric
from audit_toolkit.sources.vector_columns import read_parquet

MEMORY_BYTES = 1 << 30
"""Vectors past this many bytes wait in a temporary file unless the file itself can be mapped."""
VECTOR_NAMES = ("embedding", "embeddings", "vectors", "features", "templates")
PARTS = ("vectors", "subject", "sample", "failure")

READERS: dict[str, Callable[[Path, Pick, int], Stored]] = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".hdf": read_hdf5,
}
"""How each ending is read."""


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """Templates with who they show, coded; every per-row array has one entry for each of the file's N rows.

    ``vectors`` are as stored, so unused rows stay in it: ``used`` says which count. Call ``check()`` before a use of
    memory-mapped vectors, or read them with ``read``, which notices a file that became shorter.
    """

    name: str
    format: str
    sha256: str
    vectors: NDArray[Any]
    """[N, d] float32 or float16, as stored; perhaps memory-mapped, never to be written to."""
    subject: NDArray[np.int32]
    """[N] code into the sorted codebook; -1 where the row is not used."""
    image: NDArray[np.int32]
    """[N] code of the (subject, sample) the row was made from; -1 where no sample id is known or the row is not used."""
    used: NDArray[np.bool_]
    """[N] whether the row is compared."""
    subjects: int
    codebook_digest: str
    identity: NDArray[np.uint64]
    """[subjects] a 64-bit hash of each subject's id: where replicate weights come from, whatever the row order."""
    attributes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    """Per attribute its labels, sorted."""
    subject_labels: NDArray[np.int16]
    """[subjects, attributes] code of each subject's label; -1 for none or two."""
    enrol: NDArray[np.int64]
    """[subjects, 2] templates and how many of them failed (flagged, missing, not numbers, of length zero)."""
    has_failures: bool
    """Whether the file states failures, or any were found."""
    metric: Metric
    rows_read: int
    rows_used: int
    exclusions: tuple[Exclusion, ...]
    warnings: tuple[str, ...]
    mapped: Mapped | None = None
    """The file behind ``vectors``, where they are memory-mapped."""

    @property
    def dimensions(self) -> int:
        """Numbers a template."""
        return int(self.vectors.shape[1])

    @property
    def acquire(self) -> NDArray[np.int64]:
        """[subjects, 2] zeros: a file of templates says nothing of probes that were not acquired."""
        return np.zeros((self.subjects, 2), np.int64)

    def check(self) -> None:
        """Refuse a mapped file that was cut short, changed or removed since it was opened; raises `InputError`."""
        if self.mapped is not None:
            self.mapped.check()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start..stop as stored; raises `InputError` where the file became shorter."""
        return read_rows(self.vectors, self.mapped, start, stop)


def open_templates(
    path: Path | str,
    *,
    subjects: Path | str | Any | None = None,
    id_column: str = "subject",
    attributes: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    rows: Path | str | Any | None = None,
    labels: Mapping[str, Sequence[str]] | Sequence[tuple[str, Sequence[str]]] = (),
    failure: str | None = None,
    unlabelled: Sequence[str] = SurveyOptions().unlabelled,
    metric: Metric = "cosine",
    memory_bytes: int = MEMORY_BYTES,
) -> Templates:
    """Read a file of templates (.npz, .npy, .parquet, .h5), code it and judge every row.

    ``columns`` maps parts (vectors, subject, sample, failure) to the file's names; by default the vectors are called one of
    ``embedding, embeddings, vectors, features, templates`` and the others as the parts. ``rows`` is a table (CSV, Parquet
    or frame) with one row a template in the same order, which then has the subject, sample, failure and label columns: a
    .npy needs one. Labels come from ``subjects``, a table of one row a subject (``id_column``; ``attributes``: name -> its
    column), or else from columns beside the vectors: those that ``attributes`` names, by default every ``group.NAME``.
    ``labels`` declares per attribute which labels are allowed; ``failure`` is the name of the failure column.

    Raises `InputError` for files that cannot be read as this, where tables do not fit, and where no template is left;
    `UsageError` for options that cannot be meant; `MissingExtraError` for HDF5 without its package.
    """
    path = Path(path)
    if metric not in ("cosine", "inner", "l2"):
        raise UsageError(f"There is no metric {metric!r}.", mend="Use cosine, inner or l2.")
    parts = dict(columns or {})
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise UsageError(f"There is no part {unknown[0]!r}.", mend=f"Parts are: {', '.join(PARTS)}.")
    if failure is not None:
        parts["failure"] = failure
    if subjects is not None and not attributes:
        raise UsageError("No attribute is to be joined.", mend="Name the subject table's columns.")
    read = _reader(path)
    if read is read_npy and rows is None:
        raise UsageError(
            "A .npy file does not say whom its rows show.",
            where=path.name,
            mend="Give a table with one row a template in the same order (rows=).",
        )
    beside = None if subjects is not None else dict(attributes) if attributes else {}
    tables = [table for table in (rows, subjects) if table is not None]
    files = [path, *(Path(t) for t in tables if isinstance(t, str | Path))]
    with ThreadPoolExecutor(1) as hasher:
        digest = hasher.submit(_hash_files, tuple(f for f in files if f.is_file()))
        if rows is None:
            stored = read(path, functools.partial(_pick, parts, beside, path.name, True), memory_bytes)
            table, where = dict(stored.columns), path.name
        else:
            stored = read(path, lambda names: (_vectors_name(parts, names, path.name), {}), memory_bytes)
            table, where = _row_table(rows, parts, beside, len(stored.vectors))
        sha256 = digest.result()
    _check_lengths(table, len(stored.vectors), where)
    judged = template_rows.judge(stored, table, where, metric)
    rule = Rule({k: tuple(v) for k, v in dict(labels).items()}, frozenset(w.strip().lower() for w in unlabelled))
    if subjects is None:
        labelled = from_columns(table, judged.subject, len(judged.ids), rule, where)
    else:
        labelled = from_subjects(subjects, id_column, attributes or {}, judged.ids, judged.subject, rule)
    template_rows.judge_labels(judged, labelled)
    template_rows.judge_duplicates(judged, stored)
    return _templates(path.name, stored, judged, labelled, metric, sha256, len(files) == 1 + len(tables))


def _templates(
    name: str,
    stored: Stored,
    judged: Judged,
    labelled: Sequence[Labelled],
    metric: Metric,
    sha256: str,
    all_files: bool,
) -> Templates:
    used = judged.reason == template_rows.OK
    excluded = template_rows.exclusions(judged)
    if not used.any():
        why = "; ".join(f"{e.count}: {e.reason}" for e in excluded)
        raise InputError(
            f"None of the {len(used)} templates can be used ({why}).",
            where=name,
            mend="Check that the parts were named rightly, and declared labels spelt as in the file.",
        )
    identity, codebook_digest = _codebook(judged.ids)
    notes, warnings = template_rows.remarks(judged, metric)
    subject, image = (np.where(used, codes, np.int32(-1)) for codes in (judged.subject, judged.image))
    enrol = template_rows.enrolment(judged)
    table = np.zeros((len(judged.ids), len(labelled)), np.int16)
    for k, attribute in enumerate(labelled):
        table[:, k] = attribute.of_subject
    labels = tuple(attribute.labels for attribute in labelled)
    if not all_files:  # a frame has no file: what was learnt from it is what it is known by
        learnt = digest_arrays({"subject": subject, "image": image, "labels": table, "enrol": enrol})
        sha256 = hashlib.sha256(f"{sha256}\n{codebook_digest}\n{labels!r}\n{learnt}".encode()).hexdigest()
    return Templates(
        name=name,
        format=stored.format,
        sha256=sha256,
        vectors=stored.vectors,
        subject=subject,
        image=image,
        used=used,
        subjects=len(judged.ids),
        codebook_digest=codebook_digest,
        identity=identity,
        attributes=tuple(attribute.attribute for attribute in labelled),
        labels=labels,
        subject_labels=table,
        enrol=enrol,
        has_failures=judged.has_failures or bool(enrol[:, 1].any()),
        metric=metric,
        rows_read=len(used),
        rows_used=int(used.sum()),
        exclusions=(*excluded, *notes),
        warnings=(*stored.notes, *warnings),
        mapped=stored.mapped,
    )


def _reader(path: Path) -> Callable[[Path, Pick, int], Stored]:
    if path.is_dir():
        raise InputError("This is a folder.", where=path.name, mend="Name the file of templates itself.")
    if not path.is_file():
        raise InputError("There is no such file.", where=path.name, mend="Check the path.")
    if path.stat().st_size == 0:
        raise InputError("The file is empty (0 bytes).", where=path.name, mend="Ask for the file again.")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"The ending {path.suffix or '(none)'} is not one of a file of templates.",
            where=path.name,
            mend=f"Known endings: {', '.join(READERS)}.",
        )
    return read


def _vectors_name(parts: Mapping[str, str], there: Sequence[str], where: str) -> str:
    wanted = (parts["vectors"],) if "vectors" in parts else VECTOR_NAMES
    for name in wanted:
        if name in there:
            return name
    if not there:  # a .npy holds one array without a name
        return ""
    raise InputError(
        f"There are no vectors called {' or '.join(wanted)}; the file has {', '.join(there)[:500]}.",
        where=where,
        mend="Say which of them holds the templates (vectors).",
    )


def _pick(
    parts: Mapping[str, str],
    attributes: Mapping[str, str] | None,
    where: str,
    with_vectors: bool,
    there: Sequence[str],
) -> Picked:
    """Which names play which part. ``attributes`` ``None``: labels come from elsewhere; empty: every ``group.NAME``."""
    vectors = _vectors_name(parts, there, where) if with_vectors else ""
    names: dict[str, str] = {}
    missing = []
    for part in PARTS[1:]:
        name = parts.get(part, part)
        if name in there:
            names[part] = name
        elif part == "subject" or part in parts:
            missing.append(name)
    if attributes is not None:
        found = attributes or {n.removeprefix("group."): n for n in there if n.startswith("group.") and n != "group."}
        for attribute, name in found.items():
            if name in there:
                names[f"group.{attribute}"] = name
            else:
                missing.append(name)
    if missing:
        raise InputError(
            f"Missing: {', '.join(dict.fromkeys(missing))}; there is {', '.join(there)[:500] or 'nothing'}.",
            where=where,
            mend="Say under which name each part stands, or give a table with one row a template (rows=).",
        )
    return vectors, names


def _row_table(
    rows: Path | str | Any, parts: Mapping[str, str], attributes: Mapping[str, str] | None, n: int
) -> tuple[dict[str, pa.Array], str]:
    where = Path(rows).name if isinstance(rows, str | Path) else "table of rows"
    table = read_table(rows, where)
    _, names = _pick({k: v for k, v in parts.items() if k != "vectors"}, attributes, where, False, table.column_names)
    if table.num_rows != n:
        raise InputError(
            f"The table has {table.num_rows} rows and the file {n} templates.",
            where=where,
            mend="Give one row a template, in the same order.",
        )
    return {part: table.column(name).combine_chunks() for part, name in names.items()}, where


def _check_lengths(table: Mapping[str, pa.Array], n: int, where: str) -> None:
    for part, values in table.items():
        if len(values) != n:
            raise InputError(
                f"There are {n} templates and {len(values)} entries of {part}.",
                where=where,
                mend="Save one entry a template.",
            )
