"""Which group the person of each template is in: from columns beside the templates, or from a table of subjects.

Promise: a subject whose rows name two labels on one attribute has none, and is reported; a label that a row names counts as
the subject's even where the row is not used; words that mean "no label" are no label unless they are declared to be one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources import coding
from audit_toolkit.sources.frames import frame_to_arrow
from audit_toolkit.sources.intake import _clean
from audit_toolkit.sources.subjects import _lookup, _read


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Which labels count: per attribute the declared ones (none declared: all), and the words for "no label"."""

    declared: Mapping[str, tuple[str, ...]]
    unlabelled: frozenset[str]

    def clean(self, attribute: str) -> functools.partial[str | None]:
        """What makes a label of a cell's text, ``None`` where it says that there is none."""
        declared = set(self.declared.get(attribute, ()))
        return functools.partial(_clean, unlabelled=set(self.unlabelled), declared=declared)

    def check(self, attributes: Sequence[str], where: str) -> None:
        """Refuse declarations for attributes that are not there; raises `UsageError`."""
        for attribute, declared in self.declared.items():
            if attribute not in attributes:
                raise UsageError(
                    f"Labels are declared for an attribute {attribute!r} that the templates do not have.",
                    where=where,
                    mend=f"Attributes they have: {', '.join(attributes) or 'none'}.",
                )
            if not declared:
                raise UsageError(
                    f"No label is declared for attribute {attribute!r}.", mend="List the labels, or leave it out."
                )


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One attribute: its sorted labels, each subject's code (-1 for none or two), and what is wanting in which row."""

    attribute: str
    labels: tuple[str, ...]
    of_subject: NDArray[np.int16]
    torn: NDArray[np.bool_]
    """[subjects] whose rows name two labels."""
    missing: NDArray[np.bool_]
    """[N] rows without a label."""
    undeclared: NDArray[np.bool_]
    """[N] rows with a label that is not among the declared ones."""


def from_columns(
    table: Mapping[str, pa.Array], subject: NDArray[np.int32], subjects: int, rule: Rule, where: str
) -> list[Labelled]:
    """Labels that stand beside the vectors, one a row, in the parts ``group.NAME``."""
    names = [part.removeprefix("group.") for part in table if part.startswith("group.")]
    rule.check(names, where)
    out = []
    for name in names:
        book: dict[str, int] = {}
        row = coding.code(table[f"group.{name}"], book, f"{where}, {name}", rule.clean(name))
        # the least and the greatest label of each subject: two where they differ
        least = np.full(subjects, len(book), np.int64)
        most = np.full(subjects, -1, np.int64)
        there = (row >= 0) & (subject >= 0)
        np.minimum.at(least, subject[there], row[there])
        np.maximum.at(most, subject[there], row[there])
        torn = (most >= 0) & (least != most)
        out.append(_settle(name, book, row, np.where(torn, -1, most), torn, rule, where))
    return out


def from_subjects(
    subjects: Path | str | Any,
    id_column: str,
    attributes: Mapping[str, str],
    ids: Sequence[str],
    subject: NDArray[np.int32],
    rule: Rule,
) -> list[Labelled]:
    """Labels from a table of one row a subject (file or frame); ids: the codebook; subject: each row's code in it.

    Raises `InputError` where the table lacks columns, lists a subject with different labels, or is no table.
    """
    where = Path(subjects).name if isinstance(subjects, str | Path) else "subject table"
    rule.check(list(attributes), where)
    table = read_table(subjects, where)
    wanted = dict.fromkeys([id_column, *attributes.values()])
    missing = [c for c in wanted if c not in table.column_names]
    if missing:
        raise InputError(
            f"Missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing)}.",
            where=where,
            mend=f"Columns it has: {', '.join(table.column_names)}.",
        )
    if table.num_rows == 0:
        raise InputError("There are no rows.", where=where, mend="Check that the right subject table was given.")
    listed, words = _lookup(table, id_column, attributes, where)
    at = np.array([listed.get(text, -1) for text in ids], np.int64)
    out = []
    for name, (codes, texts) in words.items():
        book: dict[str, int] = {}
        here = np.zeros(len(texts) + 1, np.bool_)  # a label of people without templates is no label of this file
        here[codes[at]] = True
        texts = pa.array([t if h else None for t, h in zip(texts.to_pylist(), here, strict=False)], pa.string())
        of_word = np.append(coding.code(texts, book, where, rule.clean(name)), np.int32(-1))
        mine = of_word[codes[at]].astype(np.int64)  # a subject that is not listed has the spare last cell: no label
        row = np.append(mine, -1)[subject].astype(np.int32)
        out.append(_settle(name, book, row, mine, np.zeros(len(ids), np.bool_), rule, where))
    return out


def read_table(table: Path | str | Any, where: str) -> pa.Table:
    """A table from a CSV or Parquet file or a frame; raises `InputError` where a column name stands twice."""
    read = _read(Path(table)) if isinstance(table, str | Path) else frame_to_arrow(table, where)
    twice = sorted({name for name in read.column_names if read.column_names.count(name) > 1})
    if twice:
        raise InputError(
            f"The column name {twice[0]!r} occurs more than once.", where=where, mend="Rename one of them."
        )
    return read


def _settle(
    name: str,
    book: Mapping[str, int],
    row: NDArray[np.int32],
    of_subject: NDArray[np.int64],
    torn: NDArray[np.bool_],
    rule: Rule,
    where: str,
) -> Labelled:
    """Codes of the labels sorted; ``row`` and ``of_subject`` are codes in ``book``, -1 for none."""
    labels = tuple(sorted(set(rule.declared.get(name, book))))
    if len(labels) > np.iinfo(np.int16).max:
        raise InputError(
            f"Attribute {name!r} has {len(labels)} different labels.", where=where, mend="Cut it into groups first."
        )
    code = {label: c for c, label in enumerate(labels)}
    final = np.array([*(code.get(label, -1) for label in book), -1], np.int16)
    return Labelled(name, labels, final[of_subject], torn, row < 0, (row >= 0) & (final[row] < 0))
