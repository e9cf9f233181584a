"""The first round of an audit: read the source once, code it, judge every row, and keep the coded rows.

Why: an audit folds its rows several times, and everything it says rests on which rows were used. Promise: each row that
was read is either used or counted under one reason, so ``rows_read == rows_used + sum of exclusions that are not used``;
subjects are coded against a codebook sorted by id; nothing found depends on the order of the rows, on the size of the
chunks, or on whether rows were spilled to disk. It does not promise that the labels are right or that different ids are
different people.

A row stands under the first reason that fits, in this order: failure (FTE, FTA), missing subject id, missing score, NaN,
infinite, declared failure score, missing weight, no label, label not declared, mated flag against the ids, self
comparison; then, from the whole file: subject with two labels, exact duplicate, mirrored duplicate.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.fold import Batch, Partition, digest_arrays
from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.evidence.record import Exclusion
from audit_toolkit.sources import covariates, remarks
from audit_toolkit.sources.intake import Intake, take_in
from audit_toolkit.sources.options import Progress, SurveyOptions
from audit_toolkit.sources.settle import Settled, settle
from audit_toolkit.sources.spill import Spill
from audit_toolkit.sources.table import ScoreSource


@dataclass(frozen=True, slots=True)
class Rows:
    """Clean coded comparisons, ready to fold any number of times.

    Batches carry: ``ref``, ``probe`` int32 (codes into the sorted codebook); ``mated`` uint8; ``score`` float32 or float64
    (larger = more alike, already negated for distances); ``weight`` int64 only where the source has weights;
    ``x.NAME`` int32 per covariate (code into its sorted labels).
    """

    partitions: tuple[Partition, ...]
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What the first round found: codebook, labels, ranges, exclusions, and the coded rows for the later rounds."""

    name: str
    format: str
    sha256: str
    rows_read: int
    rows_used: int
    exclusions: tuple[Exclusion, ...]
    warnings: tuple[str, ...]
    subjects: int
    codebook_digest: str
    identity: NDArray[np.uint64]
    """[subjects] a 64-bit hash of each subject's id: where replicate weights come from, whatever the row order."""
    attributes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    """Per attribute its labels, sorted."""
    subject_labels: NDArray[np.int16]
    """[subjects, attributes] code of each subject's label; -1 where no used row names one."""
    score_dtype: np.dtype[Any]
    sign: int
    """+1, or -1 where scores were negated because higher means more different."""
    low: float
    high: float
    """Range of the used scores, after the sign."""
    saturated: tuple[int, int]
    """Used rows (multiplicities counted) at the lowest and at the highest score."""
    mated: int
    nonmated: int
    """Comparisons, multiplicities counted."""
    covariates: tuple[str, ...]
    covariate_labels: tuple[tuple[str, ...], ...]
    enrol: NDArray[np.int64]
    """[subjects, 2] enrolment attempts and failures (FTE) by reference subject; all zero without a failures column."""
    acquire: NDArray[np.int64]
    """[subjects, 2] acquisition attempts and failures (FTA) by probe subject."""
    has_failures: bool
    rows: Rows
    transactions: Rows | None
    """One row a transaction: the best score of its attempts, the lowest finite float where every attempt failed.

    ``None`` where the source has no transactions. Batches carry ``ref``, ``probe``, ``mated`` and ``score`` only."""


def survey(source: ScoreSource, options: SurveyOptions, progress: Progress | None = None) -> Survey:
    """Read the source once, code it, judge it, and keep the coded rows.

    Labels are compared without surrounding spaces. A label that a row names counts as the subject's even where the row is
    excluded; a subject with two different labels on an attribute loses all rows. With sample ids duplicates are judged
    exactly: of equal rows the one with the smallest hash of weight and covariates stays, of mirrored ones the row with
    the smaller sample as reference. Without sample ids identical rows are counted and stay.

    Enrolment attempts are distinct reference samples (reference subjects where there are no sample ids); acquisition
    attempts are distinct probe samples (rows where there are none) outside of rows whose enrolment failed. Rows excluded
    for other reasons count as attempts too: the sample was there. Subjects are every id that any row names.

    Raises `InputError` where nothing is left to audit, where a column cannot be read as what it is said to be, and where
    the same two samples carry different scores; `UsageError` where options name what the source does not have.
    """
    _check(source, options)
    spill = Spill(options.memory_rows)
    try:
        return _survey(source, options, spill, progress)
    except BaseException:
        spill.close()
        raise


def _check(source: ScoreSource, options: SurveyOptions) -> None:
    for attribute, allowed in options.labels:
        if attribute not in source.attributes:
            raise UsageError(
                f"Labels are declared for an attribute {attribute!r} that the source does not have.",
                where=source.name,
                mend=f"Attributes it has: {', '.join(source.attributes) or 'none'}.",
            )
        if not allowed:
            raise UsageError(
                f"No label is declared for attribute {attribute!r}.", mend="List the labels, or leave it out."
            )
    if options.chunk_rows < 1 or options.memory_rows < 0 or options.duplicate_rows < 1 or options.covariate_bins < 1:
        raise UsageError("Rows and classes in the survey's options must be positive.")


def _survey(source: ScoreSource, options: SurveyOptions, spill: Spill, progress: Progress | None) -> Survey:
    with ThreadPoolExecutor(1) as hasher:
        digest = hasher.submit(_hash_files, source.files)
        intake = take_in(source, options, spill, progress)
        sha256 = digest.result()
    ids = sorted(intake.ids)
    provisional = np.fromiter((intake.ids[text] for text in ids), np.int64, len(ids))
    rank = np.empty(len(ids), np.int32)
    rank[provisional] = np.arange(len(ids), dtype=np.int32)
    identity, codebook_digest = _codebook(ids)
    labels, subject_labels = _labels(intake, options, provisional)
    torn = np.zeros(len(ids), np.bool_)
    for learnt in intake.labels:
        torn |= learnt[: len(ids)] == -2
    finished = [(c.name, *covariates.finish(c)) for c in intake.covariates]
    settled = settle(
        intake,
        spill,
        rank,
        torn,
        {f"x.{name}": to_class for name, _, to_class in finished},
        block_rows=min(options.chunk_rows, options.duplicate_rows),
        fingerprint=not source.files,
        progress=progress,
    )
    if settled.found["conflicting"]:
        raise InputError(
            f"{settled.found['conflicting']} pairs of samples occur more than once with different scores.",
            where=source.name,
            mend="Keep one score for each pair of samples, or give a transaction column if these are attempts.",
        )
    skipped = remarks.skipped(source)
    excluded, notes = remarks.exclusions(intake, settled, source, options)
    excluded = skipped + excluded
    rows_read = intake.read + sum(e.count for e in skipped)
    if settled.used == 0:
        why = "; ".join(f"{e.count}: {e.reason}" for e in excluded)
        raise InputError(
            f"None of the {rows_read} rows can be used ({why}).",
            where=source.name,
            mend="Check that the columns were named rightly, and declared labels spelt as in the file.",
        )
    enrol, acquire = _attempts(intake, provisional)
    counts = settled.histogram.sum(axis=1)
    if not source.files:
        sha256 = _hash_rows((subject_labels, enrol, acquire), codebook_digest, labels, finished, settled, excluded)
    return Survey(
        name=source.name,
        format=source.format,
        sha256=sha256,
        rows_read=rows_read,
        rows_used=settled.used,
        exclusions=(*excluded, *notes),
        warnings=remarks.warnings(intake, settled, source, options),
        subjects=len(ids),
        codebook_digest=codebook_digest,
        identity=identity,
        attributes=intake.attributes,
        labels=labels,
        subject_labels=subject_labels,
        score_dtype=intake.dtype,
        sign=intake.sign,
        low=settled.low,
        high=settled.high,
        saturated=(settled.at_low, settled.at_high),
        mated=int(counts[1]),
        nonmated=int(counts[0]),
        covariates=tuple(name for name, _, _ in finished),
        covariate_labels=tuple(names for _, names, _ in finished),
        enrol=enrol,
        acquire=acquire,
        has_failures=intake.has_failures,
        rows=_rows(spill, settled.chunks, settled.used),
        transactions=_rows(spill, settled.transaction_chunks, settled.transactions)
        if intake.has_transactions
        else None,
    )


def _rows(spill: Spill, chunks: list[int], n: int) -> Rows:
    return Rows(tuple(functools.partial(_open, spill, number) for number in chunks), n)


def _open(spill: Spill, number: int) -> Iterator[Batch]:
    """One chunk as one batch; holding this function keeps the temporary folder alive."""
    arrays = spill.load(number)
    yield Batch(arrays, len(arrays["ref"]))


def _hash_files(files: tuple[Path, ...]) -> str:
    """SHA-256 of the file; of several files, SHA-256 over their digests in the order given."""
    digests = []
    for path in files:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _hash_rows(
    tables: tuple[NDArray[Any], ...],
    codebook_digest: str,
    labels: tuple[tuple[str, ...], ...],
    finished: list[tuple[str, tuple[str, ...], Any]],
    settled: Settled,
    excluded: list[Exclusion],
) -> str:
    """What a frame is known by, having no file: SHA-256 of codebook, labels, used rows in any order, exclusions."""
    parts = [codebook_digest, repr(labels), repr([(name, names) for name, names, _ in finished])]
    parts += [f"{settled.used} {settled.fingerprint:016x}", repr([(e.reason, e.count) for e in excluded])]
    parts.append(digest_arrays({str(k): table for k, table in enumerate(tables)}))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _codebook(ids: list[str]) -> tuple[NDArray[np.uint64], str]:
    """A 64-bit hash of each id, and the digest of all of them in order, each with its length before it."""
    whole = hashlib.sha256()
    identity = np.empty(len(ids), np.uint64)
    for k, text in enumerate(ids):
        raw = text.encode()
        whole.update(len(raw).to_bytes(8, "little") + raw)
        identity[k] = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")
    return identity, whole.hexdigest()


def _labels(
    intake: Intake, options: SurveyOptions, provisional: NDArray[np.int64]
) -> tuple[tuple[tuple[str, ...], ...], NDArray[np.int16]]:
    """Per attribute its labels (declared, or seen), sorted, and each subject's code; -1 for none or two."""
    allowed = dict(options.labels)
    names, columns = [], []
    for k, attribute in enumerate(intake.attributes):
        book = intake.label_books[k]
        labels = tuple(sorted(set(allowed.get(attribute, book))))
        if len(labels) > np.iinfo(np.int16).max:
            raise InputError(
                f"Attribute {attribute!r} has {len(labels)} different labels.",
                mend="Cut it into groups first.",
            )
        code = {label: c for c, label in enumerate(labels)}
        final = np.full(len(book) + 2, -1, np.int16)
        for label, c in book.items():
            final[c] = code.get(label, -1)
        columns.append(final[intake.labels[k][: len(provisional)][provisional]])  # -1 and -2 end in the two spare cells
        names.append(labels)
    table = np.column_stack(columns) if columns else np.zeros((len(provisional), 0), np.int16)
    return tuple(names), np.ascontiguousarray(table, np.int16)


def _attempts(intake: Intake, provisional: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = len(provisional)
    if not intake.has_failures:
        return np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
    enrol = intake.enrol.by_subject(n)
    acquire = intake.acquire.by_subject(n) if intake.has_samples else intake.acquired_rows[:n]
    return enrol[provisional], acquire[provisional]
