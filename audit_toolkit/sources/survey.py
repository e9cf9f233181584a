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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import codes
from audit_toolkit.core.fold import Batch, Partition, digest_arrays
from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.evidence.record import Exclusion
from audit_toolkit.sources import covariates
from audit_toolkit.sources.intake import Intake, label_codes, special_code, take_in
from audit_toolkit.sources.settle import Settled, settle
from audit_toolkit.sources.spill import Spill
from audit_toolkit.sources.table import ScoreSource

Progress = Callable[[str, int, int | None], None]
"""progress(stage, done, total): rows done of rows expected (``None`` where unknown)."""


@dataclass(frozen=True, slots=True)
class SurveyOptions:
    """How rows are judged; each choice is printed in the record."""

    higher_is: Literal["same", "different"] = "same"
    failure_scores: tuple[float, ...] = ()
    """Score values that mean "no comparison was possible" (for example -1): counted as exclusions, by value."""
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Per attribute the labels that are allowed; others are excluded and counted. Empty: all labels."""
    unlabelled: tuple[str, ...] = ("", "unknown", "na", "n/a", "none", "nan", "null", "?")
    """Labels (compared in lower case, stripped) that mean "no label"."""
    chunk_rows: int = 1_048_576
    memory_rows: int = 4_194_304
    """Coded rows held in memory; past that they go to a temporary folder."""
    duplicate_rows: int = 2_097_152
    """Rows a duplicate partition may hold in memory."""
    covariate_bins: int = 5
    """A numeric covariate with more distinct values than this is cut into that many classes of equal count."""


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
    """One row a transaction: the best score of its attempts, the lowest finite float where every attempt failed."""


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
    skipped = _skipped(source)
    excluded, remarks = _exclusions(intake, settled, source, options)
    excluded = skipped + excluded
    rows_read = intake.read + sum(e.count for e in skipped)
    if settled.used == 0:
        why = "; ".join(f"{e.count}: {e.reason}" for e in excluded)
        raise InputError(
            f"None of the {rows_read} rows can be used ({why}).",
            where=source.name,
            mend="Check that the columns were named rightly.",
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
        exclusions=(*excluded, *remarks),
        warnings=_warnings(intake, settled, source, options),
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


def _skipped(source: ScoreSource) -> list[Exclusion]:
    """Rows that the reader itself left out, where a format marks them so."""
    return [Exclusion(reason=reason, count=count) for reason, count in getattr(source, "skipped", ()) if count]


def _exclusions(
    intake: Intake, settled: Settled, source: ScoreSource, options: SurveyOptions
) -> tuple[list[Exclusion], list[Exclusion]]:
    """Rows not used, by reason; and remarks on rows that stay."""
    texts = {
        codes.FTE: "enrolment failure (FTE), counted in FTE",
        codes.FTA: "acquisition failure (FTA), counted in FTA",
        codes.NO_SUBJECT: "missing subject id (reference_subject or probe_subject)",
        codes.NO_SCORE: "missing score without a failure",
        codes.NAN: "score is not a number (NaN)",
        codes.INFINITE: "score is infinite",
        codes.NO_WEIGHT: "missing weight",
        codes.FLAG_MATED: "mated flag is true, subject ids differ",
        codes.FLAG_NONMATED: "mated flag is false, subject ids are equal",
        codes.SELF: "self comparison: reference_sample and probe_sample are the same",
    }
    for k, value in enumerate(options.failure_scores):
        texts[special_code(k)] = f"score equals {value:g}, declared as no comparison"
    for k, attribute in enumerate(intake.attributes):
        missing, undeclared = label_codes(k, options)
        sides = f"reference.{attribute} or probe.{attribute}"
        texts[missing] = f"subject without a label ({sides})"
        texts[undeclared] = f"label is not among the declared ones ({sides})"
    out = [Exclusion(reason=text, count=intake.reasons[c]) for c, text in texts.items() if intake.reasons[c]]
    whole = {
        "two labels": "subject with two different labels on one attribute (all rows of such subjects)",
        "exact": "duplicate: same two samples with the same score, first kept",
        "mirrored": "mirrored duplicate: same two samples the other way round with the same score, one kept",
    }
    found = settled.found
    out += [Exclusion(reason=text, count=found[key]) for key, text in whole.items() if found[key]]
    remarks = {
        "identical rows (same subjects, score and mated flag); no sample ids, so counted and not dropped": found[
            "identical"
        ],
        "rows equal to another with its two subjects swapped; no sample ids, so counted and not dropped": found[
            "mirrored unjudged"
        ],
        "pairs of samples compared both ways with different scores; both kept": found["mirrored differing"],
        "rows without reference_sample or probe_sample; not judged for duplicates": intake.no_sample,
        "rows without a transaction; left out of transaction-level rates": intake.no_transaction,
        "transactions that mix subjects; left out of transaction-level rates": found["mixed transactions"],
    }
    return out, [Exclusion(reason=text, count=count, used=True) for text, count in remarks.items() if count]


def _warnings(intake: Intake, settled: Settled, source: ScoreSource, options: SurveyOptions) -> tuple[str, ...]:
    out = []
    nonmated, mated = settled.histogram
    total = int(nonmated.sum() + mated.sum())
    if not mated.any():
        out.append("There are no mated comparisons: false non-match rates are undefined.")
    if not nonmated.any():
        out.append("There are no non-mated comparisons: false match rates are undefined.")
    if mated.any() and nonmated.any() and _median(mated) < _median(nonmated):
        other = "same" if options.higher_is == "different" else "different"
        out.append(
            "The scores look inverted: the median of mated comparisons lies below that of non-mated ones. Nothing was"
            f' turned round; if the scores say so, declare higher_is = "{other}".'
        )
    ends = (("lowest", settled.low, settled.at_low), ("highest", settled.high, settled.at_high))
    for which, value, count in ends:
        if settled.low < settled.high and count >= 5 and count > 0.01 * total:
            out.append(
                f"Scores look saturated: {count} of {total} comparisons ({count / total:.1%}) share the {which} score,"
                f" {value * intake.sign:g}; no threshold can tell them apart."
            )
    if settled.low == settled.high:
        out.append("All used scores are equal: no threshold tells comparisons apart.")
    if not intake.has_samples:
        out.append(
            "The source has no sample ids (reference_sample, probe_sample): self comparisons and duplicates cannot be"
            " told from different images; identical rows are counted and not dropped."
        )
    if settled.found["mirrored differing"]:
        out.append("Some pairs of samples were compared both ways with different scores; both comparisons are kept.")
    if intake.has_transactions and intake.has_weights:
        out.append("Weights do not act on transaction-level rates: each transaction counts once.")
    for name in _one_sided(source):
        out.append(f"Column {name} has no counterpart on the other side and was not used.")
    return tuple(out)


def _median(histogram: NDArray[np.int64]) -> int:
    """The class that holds the lower median."""
    total = np.cumsum(histogram)
    return int(np.searchsorted(total, (total[-1] + 1) // 2))


def _one_sided(source: ScoreSource) -> list[str]:
    sides = {"reference": "probe", "probe": "reference"}
    return [
        column
        for column in source.columns
        for side, other in sides.items()
        if column.startswith(f"{side}.") and f"{other}.{column.removeprefix(side + '.')}" not in source.columns
    ]
