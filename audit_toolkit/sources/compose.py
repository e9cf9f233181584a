"""Putting sources together: fixed group labels for a whole file, chosen labels only, and several files as one.

Why it exists: some formats say nothing of groups because each group has a file of its own (one pair list a group, one
genuine and one impostor file a group). Labelling each and chaining them gives the table that an audit reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit_toolkit.errors import UsageError
from audit_toolkit.sources.table import ScoreSource


def with_labels(source: ScoreSource, reference: Mapping[str, str], probe: Mapping[str, str]) -> ScoreSource:
    """The same comparisons with one fixed label per attribute: ``reference`` for every reference subject, ``probe`` likewise.

    Both map attribute to label. Raises `UsageError` where the source already has such a column.
    """
    labels = {f"reference.{n}": v for n, v in reference.items()} | {f"probe.{n}": v for n, v in probe.items()}
    if not labels:
        return source
    twice = [n for n in labels if n in source.columns]
    if twice:
        raise UsageError(f"{source.name} already has {', '.join(twice)}.", mend="Leave the fixed label out.")
    columns = (*source.columns, *labels)

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        for batch in source.open(rows):
            codes = pa.array(np.zeros(batch.num_rows, np.int32))
            fixed = [pa.DictionaryArray.from_arrays(codes, pa.array([v], pa.string())) for v in labels.values()]
            yield pa.RecordBatch.from_arrays([*batch.columns, *fixed], names=list(columns))

    return replace(source, columns=columns, open=batches)


def keep_attributes(source: ScoreSource, names: Sequence[str]) -> ScoreSource:
    """The same comparisons with only these attributes, so that nobody is left out for a label that no one asked for.

    Some formats offer every label they hold; the survey takes a row out where any offered label is missing or contradicts
    itself. Raises `UsageError`, listing what there is, for an attribute the source has not.
    """
    missing = [n for n in names if n not in source.attributes]
    if missing:
        raise UsageError(
            f"{source.name} has no attribute {', '.join(missing)}.",
            mend=f"Attributes it has: {', '.join(source.attributes) or 'none'}.",
        )
    wanted = {f"{side}.{n}" for n in names for side in ("reference", "probe")}
    columns = tuple(c for c in source.columns if c in wanted or not c.startswith(("reference.", "probe.")))

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        for batch in source.open(rows):
            yield batch.select(list(columns))

    return replace(source, columns=columns, open=batches)


def chain(sources: Sequence[ScoreSource], name: str | None = None) -> ScoreSource:
    """Several sources read one after the other as one; all must offer the same columns.

    Subjects with the same id in two sources are taken for the same person. Raises `UsageError` where the columns or what
    the formats say of their scores (similarity, distance) differ.
    """
    if not sources:
        raise UsageError("There is no source to chain.", mend="Name at least one.")
    columns = sources[0].columns
    for source in sources[1:]:
        differing = sorted(set(columns) ^ set(source.columns))
        if differing:
            raise UsageError(
                f"{sources[0].name} and {source.name} differ in {', '.join(differing)}.",
                mend="Give both the same columns and labels.",
            )
        if source.higher_is_hint != sources[0].higher_is_hint:
            raise UsageError(f"{sources[0].name} and {source.name} do not hold the same kind of score.")
    skipped: dict[str, int] = {}
    for source in sources:
        for reason, count in source.skipped:
            skipped[reason] = skipped.get(reason, 0) + count

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        wide = _differing_scores(sources)
        for source in sources:
            for batch in source.open(rows):
                batch = batch.select(list(columns))
                if wide:
                    at = columns.index("score")
                    batch = batch.set_column(at, "score", pc.cast(batch.column(at), pa.float64()))
                yield batch

    return ScoreSource(
        name or ", ".join(dict.fromkeys(s.name for s in sources)),
        ", ".join(dict.fromkeys(s.format for s in sources)),
        columns,
        batches,
        tuple(f for s in sources for f in s.files),
        tuple(skipped.items()),
        sources[0].higher_is_hint,
    )


def _differing_scores(sources: Sequence[ScoreSource]) -> bool:
    """Whether scores are stored in different types, so that only float64 holds all; text against numbers is refused."""
    types: dict[str, set[pa.DataType]] = {}
    for source in sources:
        first = next(iter(source.open(1)), None)
        for field in () if first is None else first.schema:
            types.setdefault(field.name, set()).add(field.type)
    for name, found in types.items():
        numbers = {pa.types.is_integer(t) or pa.types.is_floating(t) for t in found}
        if len(numbers) > 1 and name.startswith(("covariate.", "score")):
            raise UsageError(f"{name} is a number in one source and text in another.", mend="Make them alike.")
    return len(types.get("score", ())) > 1
