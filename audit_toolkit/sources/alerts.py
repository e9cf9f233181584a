"""Alert logs: what a live system in use said, and what people made of it.

Promise: every alert is used or counted under one reason; what was not adjudicated stays so. Not promised: anything about
people whom the system missed, or who passed by without an alert; they leave no row in a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audit_toolkit.errors import InputError
from audit_toolkit.evidence.record import Exclusion, Input
from audit_toolkit.sources.coding import code, encode
from audit_toolkit.sources.whole import column, drop, need, numbers, read_whole, score_column

ALERT_COLUMNS = {
    "time": "time",
    "camera": "camera",
    "entry": "entry",
    "score": "score",
    "adjudication": "adjudication",
    "count": "count",
}
_TRUE = frozenset({"true", "true positive", "correct", "confirmed", "match", "yes", "1", "1.0", "tp"})
_FALSE = frozenset({"false", "false positive", "incorrect", "wrong", "no match", "no", "0", "0.0", "fp"})
_OPEN = frozenset({"", "none", "unknown", "not adjudicated", "pending", "unverified"})


@dataclass(frozen=True, slots=True, eq=False)
class AlertLog:
    """Alerts as they were raised: ``entry`` [alerts] int64 = the matched watchlist entry; ``score`` float64; ``verdict`` int8
    (1 the right person, 0 a wrong one, -1 not adjudicated); ``occasion`` int64 = day and camera; ``labels_of`` [alerts,
    attributes] int16 = group of the person who passed by. ``passers`` [rows, attributes] int16 with ``counts`` int64: people
    who passed by, where they were counted (no rows: they were not).
    """

    name: str
    inputs: tuple[Input, ...]
    warnings: tuple[str, ...]
    entry: NDArray[np.int64]
    score: NDArray[np.float64]
    verdict: NDArray[np.int8]
    occasion: NDArray[np.int64]
    attributes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    labels_of: NDArray[np.int16]
    passers: NDArray[np.int16]
    counts: NDArray[np.int64]


def open_alerts(
    table: Path | str | Any,
    *,
    passers_by: Path | str | Any | None = None,
    attributes: Mapping[str, str],
    labels: Mapping[str, tuple[str, ...]] | None = None,
    columns: Mapping[str, str] | None = None,
) -> AlertLog:
    """The alert log of a system in use, from Parquet, CSV or a frame, coded and judged.

    table: one row an alert with its matched entry and, where there are such, time (its first ten characters are the day),
    camera, score, adjudication ("true", "false", or empty for not adjudicated) and the group columns of ``attributes``.
    passers_by: how many people of each group passed by, one row a combination of groups and (optionally) occasion, with a
    column ``count``. ``columns`` renames `ALERT_COLUMNS`. Alerts without an entry are left out and counted. Raises
    `InputError` for missing columns, words of adjudication that are not known, and negative counts.
    """
    names = {**ALERT_COLUMNS, **(columns or {})}
    log, where, sha = read_whole(table, "alert log")
    need(log, [names["entry"], *attributes.values()], where)
    if log.num_rows == 0:
        raise InputError("There are no alerts.", where=where, mend="Check that the right file was given.")
    n, lost = log.num_rows, dict[str, int]()
    entry = code(column(log, names["entry"]), {}, f"{where}, column {names['entry']}")
    use = drop(entry >= 0, np.ones(n, np.bool_), lost, "no matched entry is named")
    there = set(log.column_names)
    score = score_column(log, names["score"], where, "same") if names["score"] in there else np.full(n, np.nan)
    verdict = (
        _verdicts(log, names["adjudication"], where) if names["adjudication"] in there else np.full(n, -1, np.int8)
    )
    occasion = np.zeros(n, np.int64)
    told = []
    for part in ("time", "camera"):
        if names[part] not in there:
            told.append(f"The log names no {part}.")
            continue
        array = column(log, names[part])
        if part == "time":
            array = pc.utf8_slice_codeunits(array.cast(pa.string()), 0, 10)
        own = code(array, {}, f"{where}, column {names[part]}").astype(np.int64) + 1
        occasion = np.unique(occasion * (int(own.max(initial=0)) + 1) + own, return_inverse=True)[1].astype(np.int64)
    words: list[tuple[str, ...]] = []
    of_alert = np.full((n, len(attributes)), -1, np.int16)
    counted = None if passers_by is None else read_whole(passers_by, "table of people who passed by")
    passers = np.full((0, len(attributes)), -1, np.int16)
    counts = np.zeros(0, np.int64)
    if counted is not None:
        need(counted[0], [names["count"], *attributes.values()], counted[1])
        passers = np.full((counted[0].num_rows, len(attributes)), -1, np.int16)
        counts = _counts(counted[0], names["count"], counted[1])
    for a, (attribute, named) in enumerate(attributes.items()):
        tables = [(log, where, of_alert)] + ([(counted[0], counted[1], passers)] if counted is not None else [])
        pieces = [encode(column(t, named), f"{w}, column {named}") for t, w, _ in tables]
        found = {(x or "").strip() for _, texts in pieces for x in texts} - {""}
        words.append(tuple(sorted((labels or {}).get(attribute) or found)))
        place = {w: k for k, w in enumerate(words[-1])}
        for (index, texts), (_, _, out) in zip(pieces, tables, strict=True):
            out[:, a] = np.array([place.get((x or "").strip(), -1) for x in texts] + [-1], np.int16)[index]
    unlabelled = int((use & (of_alert < 0).any(axis=1)).sum())
    remarks = [Exclusion(reason=k, count=v) for k, v in lost.items() if v]
    if unlabelled:
        remarks.append(Exclusion(reason="alerts on people without a label (in no group)", count=unlabelled, used=True))
    inputs = [
        Input(
            name=where, sha256=sha, format="table", rows_read=n, rows_used=int(use.sum()), exclusions=tuple(remarks),
            warnings=tuple(told),
        )
    ]  # fmt: skip
    if counted is not None:
        rows = counted[0].num_rows
        inputs.append(Input(name=counted[1], sha256=counted[2], format="table", rows_read=rows, rows_used=rows))
    return AlertLog(
        name=where, inputs=tuple(inputs), warnings=tuple(told), entry=entry[use].astype(np.int64), score=score[use],
        verdict=verdict[use], occasion=occasion[use], attributes=tuple(attributes), labels=tuple(words),
        labels_of=of_alert[use], passers=passers, counts=counts,
    )  # fmt: skip


def _verdicts(log: pa.Table, name: str, where: str) -> NDArray[np.int8]:
    array = column(log, name)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    index, texts = encode(array, f"{where}, column {name}")
    words = [(t or "").strip().lower() for t in texts]
    known = [1 if w in _TRUE else 0 if w in _FALSE else -1 if w in _OPEN else -2 for w in words]
    codes = np.array([*known, -1], np.int8)
    unknown = [k for k, t in enumerate(texts) if t is not None and known[k] == -2]
    if unknown:
        row = int(np.flatnonzero(np.isin(index, unknown))[0]) + 1
        raise InputError(
            f"Row {row} has an adjudication that is neither true nor false.",
            where=f"{where}, column {name}",
            mend='Use "true" (the right person), "false" (a wrong one), or leave it empty (not adjudicated).',
        )
    return codes[index]


def _counts(table: pa.Table, name: str, where: str) -> NDArray[np.int64]:
    values = numbers(table, name, where)
    bad = ~((values >= 0) & (values == np.floor(values)) & (values < 2**53))
    if bad.any():
        raise InputError(
            f"Row {int(np.flatnonzero(bad)[0]) + 1} has a count of people that is not a whole number from 0.",
            where=f"{where}, column {name}",
            mend="Count the people who passed by.",
        )
    return values.astype(np.int64)
