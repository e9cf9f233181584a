"""The first stage of a survey: read every row once, code it, and judge it by itself.

What a row shows by itself is decided here, in a fixed order, each row under one reason: ids that are missing, failures,
scores that are none, declared special values, weights, labels, flags that contradict the ids, self comparisons. What only
the whole file shows (a subject with two labels, duplicates, transactions) is decided in the second stage.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.core import codes
from audit_toolkit.errors import InputError
from audit_toolkit.sources import coding
from audit_toolkit.sources.covariates import Covariate, numeric
from audit_toolkit.sources.options import Progress, SurveyOptions
from audit_toolkit.sources.spill import Arrays, Spill, join
from audit_toolkit.sources.table import ScoreSource

Ints = NDArray[np.int32]
READ_ROWS = 262_144
"""Rows asked of a source at a time."""

_NONE32 = np.zeros(0, np.int32)


@dataclass(slots=True)
class Attempts:
    """Distinct samples seen and which of them failed: an open hash set of (subject, sample) keys."""

    table: NDArray[np.int64] = field(default_factory=lambda: np.full(1024, -1, np.int64))
    failed: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1024, np.uint8))
    size: int = 0

    def note(self, subject: Ints, sample: Ints, failed: NDArray[np.bool_]) -> None:
        """Add attempts; rows whose subject is missing are passed over."""
        key = (subject.astype(np.int64) << 32) | (sample.astype(np.int64) + 1)
        key[subject < 0] = -1
        while 2 * (self.size + len(key)) > len(self.table):
            old, old_failed = self.table, self.failed
            self.table = np.full(2 * len(old), -1, np.int64)
            self.failed = np.zeros(2 * len(old), np.uint8)
            codes.note_attempts(old, old_failed, self.table, self.failed)
        self.size += codes.note_attempts(key, failed, self.table, self.failed)

    def by_subject(self, subjects: int) -> NDArray[np.int64]:
        """[subjects, 2] attempts and failures, by provisional subject code."""
        there = self.table >= 0
        subject = self.table[there] >> 32
        out = np.zeros((subjects, 2), np.int64)
        out[:, 0] = np.bincount(subject, minlength=subjects)
        out[:, 1] = np.bincount(subject, weights=self.failed[there], minlength=subjects)
        return out


@dataclass(slots=True)
class Intake:
    """What the first stage has learnt; subjects, samples and labels under provisional codes, in order of appearance."""

    attributes: tuple[str, ...]
    dtype: np.dtype[Any]
    sign: int
    has_samples: bool
    has_weights: bool
    has_failures: bool
    has_transactions: bool
    covariates: list[Covariate]
    read: int = 0
    kept: int = 0
    ids: dict[str, int] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    transactions: dict[str, int] = field(default_factory=dict)
    label_books: list[dict[str, int]] = field(default_factory=list)
    labels: list[Ints] = field(default_factory=list)
    """Per attribute the provisional label of each subject: -1 none, -2 two different ones."""
    reasons: Counter[int] = field(default_factory=Counter)
    no_sample: int = 0
    no_transaction: int = 0
    low: float = np.inf
    high: float = -np.inf
    enrol: Attempts = field(default_factory=Attempts)
    acquire: Attempts = field(default_factory=Attempts)
    acquired_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    memo: coding.Memo = field(default_factory=dict)
    waiting: list[Arrays] = field(default_factory=list)
    """Coded rows that are not a chunk yet."""
    chunks: list[int] = field(default_factory=list)
    failed_chunks: list[int] = field(default_factory=list)
    """Failed acquisitions that belong to transactions."""


def ahead(batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
    """The same batches in the same order, the next one decoded while this one is coded."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def start(source: ScoreSource, options: SurveyOptions, schema: pa.Schema) -> Intake:
    """An empty intake for this source, once its first batch shows the types."""
    names = set(schema.names)
    missing = [c for c in ("reference_subject", "probe_subject", "score") if c not in names]
    if missing:
        raise InputError(f"The source has no column {' and no column '.join(missing)}.", where=source.name)
    score = schema.field("score").type
    return Intake(
        attributes=source.attributes,
        dtype=np.dtype(np.float32) if score == pa.float32() else np.dtype(np.float64),
        sign=-1 if options.higher_is == "different" else 1,
        has_samples={"reference_sample", "probe_sample"} <= names,
        has_weights="weight" in names,
        has_failures="failure" in names,
        has_transactions="transaction" in names,
        covariates=[
            Covariate(name, numeric(schema.field(f"covariate.{name}").type), options.covariate_bins)
            for name in source.covariates
        ],
        label_books=[{} for _ in source.attributes],
        labels=[_NONE32 for _ in source.attributes],
    )


def special_code(k: int) -> int:
    """The reason code of the k-th declared failure score."""
    return codes.FIRST_FREE + k


def label_codes(attribute: int, options: SurveyOptions) -> tuple[int, int]:
    """The reason codes of "no label" and "label not declared" on an attribute."""
    first = codes.FIRST_FREE + len(options.failure_scores) + 2 * attribute
    return first, first + 1


def take_in(source: ScoreSource, options: SurveyOptions, spill: Spill, progress: Progress | None) -> Intake:
    """Read the source once; the rows that pass by themselves wait in ``spill`` under provisional codes."""
    # Rows are read in smaller batches than they are kept in: decoding holds several copies of a batch.
    size = min(options.chunk_rows, READ_ROWS)
    stream = ahead(iter(source.open(size)))
    intake: Intake | None = None
    try:
        for batch in stream:
            if intake is None:
                intake = start(source, options, batch.schema)
            for at in range(0, batch.num_rows, 4 * size):
                _take_batch(intake, batch.slice(at, 4 * size), source.name, options, spill)
                if sum(len(rows["ref"]) for rows in intake.waiting) >= options.chunk_rows:
                    _shelve(intake, spill)
            if progress is not None:
                progress("reading", intake.read, None)
    finally:
        stream.close()
    if intake is not None and intake.waiting:
        _shelve(intake, spill)
    if intake is None or intake.read == 0:
        raise InputError("There are no rows.", where=source.name, mend="Check that the right file was given.")
    return intake


def _take_batch(intake: Intake, batch: pa.RecordBatch, name: str, options: SurveyOptions, spill: Spill) -> None:
    n, row, memo = batch.num_rows, intake.read + 1, intake.memo
    intake.read += n

    def column(which: str) -> pa.Array:
        return batch.column(batch.schema.get_field_index(which))

    def where(which: str) -> str:
        return f"{name}, column {which}"

    ref = coding.code(column("reference_subject"), intake.ids, where("reference_subject"), memo=memo)
    probe = coding.code(column("probe_subject"), intake.ids, where("probe_subject"), memo=memo)
    score, absent = coding.scores(column("score"), intake.dtype, where("score"), row)
    failure = np.zeros(0, np.uint8)
    if intake.has_failures:
        failure = coding.failures(column("failure"), where("failure"), row)
    weight = np.zeros(0, np.int64)
    if intake.has_weights:
        weight = coding.weights(column("weight"), where("weight"), row)
    ref_sample = probe_sample = transaction = _NONE32
    if intake.has_samples:
        ref_sample = coding.code(column("reference_sample"), intake.samples, where("reference_sample"), memo=memo)
        probe_sample = coding.code(column("probe_sample"), intake.samples, where("probe_sample"), memo=memo)
    if intake.has_transactions:
        transaction = coding.transactions(column("transaction"), intake.transactions, where("transaction"))
    flag = np.zeros(0, np.int8)
    if "mated" in batch.schema.names:
        flag = coding.flags(column("mated"), where("mated"), row)

    reason = np.zeros(n, np.int16)
    mated = np.zeros(n, np.uint8)
    special = np.asarray(options.failure_scores, np.float64).astype(intake.dtype)
    codes.judge_scores(ref, probe, failure, score, absent, special, codes.FIRST_FREE, weight, reason)
    sides = _labels(intake, batch, name, options)
    _judge_labels(intake, sides, ref, probe, reason, options)
    codes.judge_pairs(ref, probe, flag, ref_sample, probe_sample, mated, reason)
    intake.reasons.update({k: int(c) for k, c in enumerate(np.bincount(reason)) if k and c})
    if intake.has_failures:
        _count_attempts(intake, ref, probe, ref_sample, probe_sample, failure, weight)

    score = score * intake.sign + intake.dtype.type(0)  # -0.0 becomes 0.0: equal scores have equal bits
    rows: dict[str, NDArray[Any]] = {"ref": ref, "probe": probe, "mated": mated, "score": score}
    if intake.has_samples:
        rows |= {"ref_sample": ref_sample, "probe_sample": probe_sample}
    if intake.has_weights:
        rows["weight"] = weight
    if intake.has_transactions:
        rows["transaction"] = transaction
        if intake.has_failures:
            lost = np.flatnonzero((reason == codes.FTA) & (ref >= 0) & (transaction >= 0))
            _keep_failed(intake, {k: v[lost] for k, v in rows.items()}, sides, flag, lost, options, spill)
    for covariate in intake.covariates:
        rows[f"x.{covariate.name}"] = covariate.read(column(f"covariate.{covariate.name}"))
    kept = np.flatnonzero(reason == codes.OK)
    if len(kept) == 0:
        return
    if len(kept) < n:
        rows = {k: v[kept] for k, v in rows.items()}
    for covariate in intake.covariates:
        covariate.learn(rows[f"x.{covariate.name}"], rows["score"])
    intake.low = min(intake.low, float(rows["score"].min()))
    intake.high = max(intake.high, float(rows["score"].max()))
    if intake.has_samples:
        intake.no_sample += int(((rows["ref_sample"] < 0) | (rows["probe_sample"] < 0)).sum())
    if intake.has_transactions:
        intake.no_transaction += int((rows["transaction"] < 0).sum())
    intake.kept += len(kept)
    intake.waiting.append(rows)


def _shelve(intake: Intake, spill: Spill) -> None:
    rows = intake.waiting
    intake.chunks.append(spill.add({name: join([part[name] for part in rows]) for name in rows[0]}))
    intake.waiting = []


def _labels(intake: Intake, batch: pa.RecordBatch, name: str, options: SurveyOptions) -> list[tuple[Ints, Ints]]:
    unlabelled = {word.strip().lower() for word in options.unlabelled}
    sides = []
    for k, attribute in enumerate(intake.attributes):
        # a declared label is a label, even where its word usually means that there is none
        declared = set(dict(options.labels).get(attribute, ()))
        clean = functools.partial(_clean, unlabelled=unlabelled, declared=declared)
        pair = []
        for side in ("reference", "probe"):
            which = f"{side}.{attribute}"
            array = batch.column(batch.schema.get_field_index(which))
            pair.append(coding.code(array, intake.label_books[k], f"{name}, column {which}", clean, intake.memo))
        sides.append((pair[0], pair[1]))
    return sides


def _clean(text: str, *, unlabelled: set[str], declared: set[str]) -> str | None:
    text = text.strip()
    return None if text.lower() in unlabelled and text not in declared else text


def _judge_labels(
    intake: Intake,
    sides: list[tuple[Ints, Ints]],
    ref: Ints,
    probe: Ints,
    reason: NDArray[np.int16],
    options: SurveyOptions,
) -> None:
    allowed = dict(options.labels)
    for k, attribute in enumerate(intake.attributes):
        book = intake.label_books[k]
        if len(intake.labels[k]) < len(intake.ids):
            grown = np.full(max(1024, 2 * len(intake.ids)), -1, np.int32)
            grown[: len(intake.labels[k])] = intake.labels[k]
            intake.labels[k] = grown
        declared = np.ones(len(book), np.uint8)
        if attribute in allowed:
            declared[:] = [label in allowed[attribute] for label in book]
        codes.judge_labels(ref, probe, *sides[k], declared, intake.labels[k], *label_codes(k, options), reason)


def _count_attempts(
    intake: Intake,
    ref: Ints,
    probe: Ints,
    ref_sample: Ints,
    probe_sample: Ints,
    failure: NDArray[np.uint8],
    weight: NDArray[np.int64],
) -> None:
    """Enrolments by distinct reference sample (or subject), acquisitions by distinct probe sample (or by row)."""
    intake.enrol.note(ref, ref_sample if intake.has_samples else np.zeros(len(ref), np.int32), failure == 1)
    asked = failure != 1  # where enrolment failed, no probe was needed: the row says nothing about acquisition
    if intake.has_samples:
        intake.acquire.note(np.where(asked, probe, np.int32(-1)), probe_sample, failure == 2)
        return
    if len(intake.acquired_rows) < len(intake.ids):
        grown = np.zeros((max(1024, 2 * len(intake.ids)), 2), np.int64)
        grown[: len(intake.acquired_rows)] = intake.acquired_rows
        intake.acquired_rows = grown
    each = np.maximum(weight, 1) if len(weight) else np.ones(len(probe), np.int64)
    for k, rows in enumerate((asked & (probe >= 0), (failure == 2) & (probe >= 0))):
        np.add.at(intake.acquired_rows[:, k], probe[rows], each[rows])


def _keep_failed(
    intake: Intake,
    rows: dict[str, NDArray[Any]],
    sides: list[tuple[Ints, Ints]],
    flag: NDArray[np.int8],
    lost: NDArray[np.int64],
    options: SurveyOptions,
    spill: Spill,
) -> None:
    """Failed acquisitions wait for their transactions, judged as any row is, at the lowest finite score."""
    if len(lost) == 0:
        return
    reason = np.zeros(len(lost), np.int16)
    _judge_labels(intake, [(a[lost], b[lost]) for a, b in sides], rows["ref"], rows["probe"], reason, options)
    codes.judge_pairs(
        rows["ref"], rows["probe"], flag[lost] if len(flag) else flag, _NONE32, _NONE32, rows["mated"], reason
    )
    good = reason == codes.OK
    rows = {k: rows[k][good] for k in ("ref", "probe", "mated", "score", "transaction")}
    rows["score"] = np.full(len(rows["ref"]), np.finfo(intake.dtype).min, intake.dtype)
    if len(rows["ref"]):
        intake.failed_chunks.append(spill.add(rows))
