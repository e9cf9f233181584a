"""Everything that was done and found, as one immutable and deterministic value.

The same data and the same plan give the same bytes: no clock, no host name, no speed and no path stands in a record
(those stand in ``run.json`` beside it). Numbers that are not finite cannot enter: JSON would turn them into null and
null means "undefined, with a reason" here.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec
from msgspec import Struct

from audit_toolkit.errors import InputError
from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.finding import Finding
from audit_toolkit.evidence.series import Series


class Exclusion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that were read and not used, or used with a remark: how many and why. ``used`` rows stay in the figures."""

    reason: str
    count: int
    used: bool = False


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input: its name without a path, its digest, what was read of it and what was not used, each with its reason."""

    name: str
    sha256: str
    format: str
    rows_read: int
    rows_used: int
    exclusions: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()


class Run(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pass over the data: the measure, its parameters, and the digest of the integer counts it ended in."""

    measure: str
    version: str
    parameters: dict[str, Any]
    state_digest: str
    codebook_digest: str = ""


class Statement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something the auditor declared rather than measured: evaluation type, label source, impostor selection ..."""

    name: str
    text: str


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The audit's whole result. ``plan`` is the canonical plan; its digest leaves out execution, paths and budget."""

    schema: Literal["audit_toolkit/record/1"] = "audit_toolkit/record/1"
    toolkit_version: str
    status: Literal["complete", "partial"] = "complete"
    title: str
    plan: dict[str, Any]
    plan_digest: str
    statements: tuple[Statement, ...] = ()
    inputs: tuple[Input, ...] = ()
    runs: tuple[Run, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    series: tuple[Series, ...] = ()
    findings: tuple[Finding, ...] = ()
    limits: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The record as JSON: UTF-8, two-space indent, keys in field order, ending in a newline."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def digest(self) -> str:
        """SHA-256 of the record's bytes, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def read_record(data: bytes, *, where: str = "record.json") -> Record:
    """Read a record back from its bytes; raises `InputError` naming the place that does not fit the schema."""
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.DecodeError as error:
        raise InputError(f"This is not a record of this schema ({error}).", where=where) from error
