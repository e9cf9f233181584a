"""The canonical comparison table, and what a reader hands over.

A reader is a function from a path (or a frame) to a `ScoreSource`: it renames columns to the canonical ones, casts
nothing that need not be cast, and streams record batches. Everything that judges rows (missing values, flags that
contradict ids, duplicates) happens once, in the survey, so that every format gets the same treatment.

Canonical columns of every record batch a source yields:

========================  ==================  =========================================================================
column                    Arrow type          meaning
========================  ==================  =========================================================================
``reference_subject``     string, int, dict   who the enrolled sample shows; required
``probe_subject``         string, int, dict   who the probe shows; required
``mated``                 bool or null        same person? absent: mated where the two ids are equal
``score``                 any number          comparison score; null where ``failure`` says so
``reference.NAME``        string, dict        the reference subject's label on attribute NAME
``probe.NAME``            string, dict        the probe subject's label on attribute NAME
``reference_sample``      string, int, dict   optional: which image or template; duplicates are judged on it
``probe_sample``          string, int, dict   optional
``failure``               string, dict        optional: null or "" = compared, "fte" (reference), "fta" (probe)
``weight``                integer             optional: how many identical comparisons the row stands for, >= 1
``transaction``           string, int, dict   optional: attempts with the same value belong to one transaction
``covariate.NAME``        string or number    optional: camera, quality, age, time lapse ... of the comparison
========================  ==================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

PLAIN_COLUMNS = (
    "reference_subject",
    "probe_subject",
    "mated",
    "score",
    "reference_sample",
    "probe_sample",
    "failure",
    "weight",
    "transaction",
)


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Which column of the file plays which canonical part; ``None`` = the file has none.

    ``attributes`` maps an attribute's name to its (reference column, probe column); ``covariates`` maps a covariate's
    name to its column. Names that are left at their defaults are used where the file has them.
    """

    reference_subject: str = "reference_subject"
    probe_subject: str = "probe_subject"
    mated: str | None = "mated"
    score: str = "score"
    reference_sample: str | None = "reference_sample"
    probe_sample: str | None = "probe_sample"
    failure: str | None = "failure"
    weight: str | None = "weight"
    transaction: str | None = "transaction"
    attributes: dict[str, tuple[str, str]] = field(default_factory=dict)
    covariates: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoreSource:
    """A file, several files or a frame, ready to be streamed as canonical record batches.

    ``open(rows)`` starts a fresh stream of record batches of about ``rows`` rows; it may be called again. ``name`` is what
    messages and records call it (a file name without its path). ``files`` are hashed by the survey. ``skipped`` are
    comparisons the format itself takes out and that are therefore in no batch, as (reason, count): the survey reports them
    as exclusions, and they count as rows read. ``higher_is_hint`` is what the format says of its scores (a BEE "D2" matrix
    holds distances); the auditor still declares it.
    """

    name: str
    format: str
    columns: tuple[str, ...]
    open: Callable[[int], Iterator[pa.RecordBatch]]
    files: tuple[Path, ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    higher_is_hint: Literal["same", "different"] | None = None

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes labelled on both sides, in the file's order."""
        names = [c.removeprefix("reference.") for c in self.columns if c.startswith("reference.")]
        return tuple(n for n in names if f"probe.{n}" in self.columns)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Covariates of the comparison, in the file's order."""
        return tuple(c.removeprefix("covariate.") for c in self.columns if c.startswith("covariate."))
