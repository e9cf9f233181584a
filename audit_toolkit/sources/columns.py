"""Which column of a file plays which part, decided once for files and frames alike.

Promise: every column that a map names is there and can be read as what it is said to be, or an error lists what is missing
and what the file has; only the columns that play a part are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields

import pyarrow as pa

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.coding import is_number
from audit_toolkit.sources.table import PLAIN_COLUMNS, ColumnMap

REQUIRED = ("reference_subject", "probe_subject", "score")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_DEFAULTS = {f.name: f.default for f in fields(ColumnMap) if f.name in PLAIN_COLUMNS}


def resolve(columns: ColumnMap, there: list[str], where: str) -> list[tuple[str, str]]:
    """Pairs of (canonical name, the file's name), in canonical order.

    Optional columns left at their default names are used where the file has them. Without declared attributes the pairs
    ``reference.NAME`` / ``probe.NAME`` and ``reference_group`` / ``probe_group`` (also ``reference_group_NAME``) are
    attributes; without declared covariates every ``covariate.NAME`` is one. Raises `InputError` listing what is missing.
    """
    pairs, missing = [], []
    for canonical in PLAIN_COLUMNS:
        name = getattr(columns, canonical)
        if name is None:
            if canonical in REQUIRED:
                raise UsageError(f"The column for {canonical} must be named.")
            continue
        if name in there:
            pairs.append((canonical, name))
        elif canonical in REQUIRED or name != _DEFAULTS[canonical]:
            missing.append(name)
    attributes = columns.attributes or _found_attributes(there)
    covariates = columns.covariates or {
        c.removeprefix("covariate."): c for c in there if c.startswith("covariate.") and c != "covariate."
    }
    for attribute, (reference, probe) in attributes.items():
        for side, name in (("reference", reference), ("probe", probe)):
            if name in there:
                pairs.append((f"{side}.{attribute}", name))
            else:
                missing.append(name)
    for covariate, name in covariates.items():
        if name in there:
            pairs.append((f"covariate.{covariate}", name))
        else:
            missing.append(name)
    if missing:
        raise InputError(
            f"Missing column{'s' if len(missing) > 1 else ''}: {', '.join(dict.fromkeys(missing))}.",
            where=where,
            mend=f"Columns it has: {', '.join(there) or 'none'}. Say which of them play a part.",
        )
    twice = sorted({name for _, name in pairs if there.count(name) > 1})
    if twice:
        raise InputError(
            f"The column name {twice[0]!r} occurs more than once.", where=where, mend="Rename one of them."
        )
    return pairs


def _found_attributes(there: list[str]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name in there:
        if name.startswith("reference.") and name != "reference.":
            attribute, probe = name.removeprefix("reference."), "probe." + name.removeprefix("reference.")
        elif name == "reference_group" or (name.startswith("reference_group_") and name != "reference_group_"):
            attribute = name.removeprefix("reference_group").removeprefix("_") or "group"
            probe = "probe" + name.removeprefix("reference")
        else:
            continue
        if probe in there:
            found.setdefault(attribute, (name, probe))
    return found


def no_header(where: str, wanted: Sequence[str]) -> InputError:
    """The error for a table whose first line is somebody's row: it is not repeated in a message."""
    return InputError(
        f"The first line looks like a row, not like a header; expected are {', '.join(dict.fromkeys(wanted))}.",
        where=where,
        mend="Write the column names in the first line.",
    )


def is_row(names: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether what should be column names is a row: one is a number, or stands again below itself (``below``: columns)."""
    if any(_NUMBER.fullmatch(name.strip()) for name in names):
        return True
    return any(name and name in column for name, column in zip(names, below, strict=False))


def check_types(pairs: list[tuple[str, str]], schema: pa.Schema, where: str) -> None:
    """Refuse columns whose type cannot play their part (ids that are lists, weights that are dates)."""
    for canonical, name in pairs:
        kind = schema.field(schema.get_field_index(name)).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(plain) or (canonical.endswith(("_subject", "_sample")) and pa.types.is_boolean(plain)):
            raise InputError(
                f"A column of type {kind} cannot serve as {canonical}.",
                where=f"{where}, column {name}",
                mend="Name another column, or store it as text or numbers.",
            )


def holds_scores(kind: pa.DataType) -> bool:
    """Whether a column of this type can be scores."""
    return is_number(kind) or bool(pa.types.is_null(kind))


def rename(batch: pa.RecordBatch, pairs: list[tuple[str, str]]) -> pa.RecordBatch:
    """The batch with its canonical columns only, under their canonical names."""
    return pa.RecordBatch.from_arrays(
        [batch.column(batch.schema.get_field_index(name)) for _, name in pairs], names=[c for c, _ in pairs]
    )
