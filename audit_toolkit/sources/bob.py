"""Score files of bob: four columns, five columns, and CSV.

Why it exists: it is what most biometric laboratories write. In the plain files a line is
``claimed_id [model_label] real_id test_label score``, separated by one space; the claimed identity is the reference side,
the real identity the probe side, and a comparison is mated where the two are equal. They may stand in a tar archive with
one regular file, which is read as a stream and never unpacked.

Not promised: the four columns do not say which of a person's templates was used, so such a source names probe samples
only. Demographics are in the CSV kind only; for the others join a subject table.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa
import pyarrow.compute as pc

from audit_toolkit.errors import InputError
from audit_toolkit.sources.lines import (
    Kind,
    Layout,
    OpenBytes,
    check_first,
    existing_file,
    first_line,
    guarded,
    open_plain,
    pairs_of,
    read_header,
    stream_rows,
)
from audit_toolkit.sources.table import ScoreSource

Failure = Literal["fte", "fta"]

_FOUR = Layout(
    names=("claimed_id", "real_id", "test_label", "score"),
    fields=(
        ("reference_subject", "claimed_id", "subject"),
        ("probe_subject", "real_id", "subject"),
        ("score", "score", "number"),
        ("probe_sample", "test_label", "sample"),
    ),
    delimiter=" ",
)
_FIVE = Layout(
    names=("claimed_id", "model_label", "real_id", "test_label", "score"),
    fields=(
        ("reference_subject", "claimed_id", "subject"),
        ("probe_subject", "real_id", "subject"),
        ("score", "score", "number"),
        ("reference_sample", "model_label", "sample"),
        ("probe_sample", "test_label", "sample"),
    ),
    delimiter=" ",
)
_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_SAMPLE_NAMES = ("template_id", "reference_id", "key")
"""Second halves of the CSV columns that name a sample, newest writer first."""
_NOT_ATTRIBUTES = {"subject_id", "path", *_SAMPLE_NAMES}


def read_bob4(path: str | Path, *, nan_is_failure: Failure | None = None) -> ScoreSource:
    """Comparisons from bob's four-column file: ``claimed_id real_id test_label score``, plain, ``.gz`` or in a tar archive.

    ``nan_is_failure``: where the vendor documents that ``nan`` means a failed sample, "fte" or "fta" turns those rows into
    failures; otherwise a NaN stays a NaN and the survey counts it. Raises `InputError` for another delimiter, a short line
    or a score that is no number, with the line.
    """
    return _read_plain(path, "bob 4-column", _FOUR, nan_is_failure)


def read_bob5(path: str | Path, *, nan_is_failure: Failure | None = None) -> ScoreSource:
    """Comparisons from bob's five-column file: ``claimed_id model_label real_id test_label score``; else as `read_bob4`."""
    return _read_plain(path, "bob 5-column", _FIVE, nan_is_failure)


def _read_plain(path: str | Path, kind: str, layout: Layout, failure: Failure | None) -> ScoreSource:
    path = existing_file(path)
    opener = open_scores_text(path)
    check_first(opener, path.name, layout)
    return _source(path, opener, kind, layout, failure)


def read_bob_csv(
    path: str | Path,
    *,
    attributes: Sequence[str] | Mapping[str, tuple[str, str]] | None = None,
    covariates: Mapping[str, str] | None = None,
    nan_is_failure: Failure | None = None,
) -> ScoreSource:
    """Comparisons from bob's CSV: ``probe_subject_id``, ``bio_ref_subject_id``, ``score`` and metadata columns.

    ``attributes``: names X for which ``probe_X`` and ``bio_ref_X`` are demographic labels (default: every X that has both),
    or a mapping from name to (reference column, probe column). ``covariates``: name -> column; it is read as numbers where
    its first value is one. Samples come from ``*_template_id``, ``*_reference_id`` or ``*_key``.
    """
    path = existing_file(path)
    opener = open_plain(path)
    names, delimiter = read_header(opener, path.name, ("bio_ref_subject_id", "probe_subject_id", "score"))
    fields: list[tuple[str, str, Kind]] = [
        ("reference_subject", "bio_ref_subject_id", "subject"),
        ("probe_subject", "probe_subject_id", "subject"),
        ("score", "score", "number"),
    ]
    for column, side in (("reference_sample", "bio_ref_"), ("probe_sample", "probe_")):
        found = next((side + n for n in _SAMPLE_NAMES if side + n in names), None)
        if found is not None:
            fields.append((column, found, "sample"))
    mapped = _csv_attributes(names, attributes)
    covariates = covariates or {}
    needed = [c for pair in mapped.values() for c in pair] + list(covariates.values())
    read_header(opener, path.name, tuple(needed))
    fields += pairs_of(mapped)
    layout = Layout(names, tuple(fields), delimiter, header=1, quoted=True)
    fields += [(f"covariate.{n}", c, _covariate_kind(opener, path.name, layout, c)) for n, c in covariates.items()]
    layout = Layout(names, tuple(fields), delimiter, header=1, quoted=True)
    return _source(path, opener, "bob CSV", layout, nan_is_failure)


def _csv_attributes(
    names: tuple[str, ...], asked: Sequence[str] | Mapping[str, tuple[str, str]] | None
) -> dict[str, tuple[str, str]]:
    if isinstance(asked, Mapping):
        return dict(asked)
    if asked is None:
        both = [n.removeprefix("bio_ref_") for n in names if n.startswith("bio_ref_")]
        asked = [n for n in both if f"probe_{n}" in names and n not in _NOT_ATTRIBUTES]
    return {n: (f"bio_ref_{n}", f"probe_{n}") for n in asked}


def _covariate_kind(opener: OpenBytes, where: str, layout: Layout, column: str) -> Kind:
    """Numbers where the column's first value is one; labels otherwise (also for an empty table)."""
    probe = Layout(layout.names, (("x", column, "sample"),), layout.delimiter, layout.header, layout.quoted)
    first = next(stream_rows(opener, where, probe, 1), None)
    try:
        float(first.column("x")[0].as_py() if first is not None else "")
    except ValueError:
        return "label"
    return "number"


def _source(path: Path, opener: OpenBytes, kind: str, layout: Layout, failure: Failure | None) -> ScoreSource:
    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        for batch in stream_rows(opener, path.name, layout, rows):
            yield batch if failure is None else _with_failures(batch, failure)

    columns = layout.columns if failure is None else (*layout.columns, "failure")
    return ScoreSource(path.name, kind, columns, batches, (path,))


def _with_failures(batch: pa.RecordBatch, failure: Failure) -> pa.RecordBatch:
    at = batch.schema.get_field_index("score")
    failed = pc.fill_null(pc.is_nan(batch.column(at)), False)
    arrays = list(batch.columns)
    arrays[at] = pc.if_else(failed, pa.scalar(None, pa.float64()), batch.column(at))
    arrays.append(pc.if_else(failed, failure, ""))
    return pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, "failure"])


def open_scores_text(path: Path) -> OpenBytes:
    """How the bytes of a score file are opened: plain, ``.gz``, or the one regular file of a tar archive (checked here)."""
    if not path.name.lower().endswith(_ARCHIVES):
        return open_plain(path)
    member = _only_member(path)

    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with tarfile.open(path, "r|*") as archive:
            for entry in archive:
                if entry.name == member:
                    stream = archive.extractfile(entry)
                    if stream is not None:
                        with stream:
                            yield stream
                    return

    return opened


def _only_member(path: Path) -> str:
    """The name of the archive's one regular file; links, devices and a second file are refused."""
    files: list[str] = []
    with guarded(path.name), tarfile.open(path, "r|*") as archive:
        for entry in archive:
            if entry.isdir():
                continue
            if not entry.isreg():
                raise InputError(
                    "The archive holds a link or a device.",
                    where=path.name,
                    mend="Pack the score file itself.",
                )
            files.append(entry.name)
    if len(files) != 1:
        raise InputError(
            f"The archive holds {len(files)} files, expected one.",
            where=path.name,
            mend="Give each score file by itself.",
        )
    return files[0]


def sniff_bob(path: Path) -> str | None:
    """Which plain bob format the first line looks like: "bob4", "bob5" or neither."""
    words = first_line(open_scores_text(path), path.name).split(" ")
    try:
        float(words[-1])
    except ValueError:
        return None
    return {4: "bob4", 5: "bob5"}.get(len(words))
