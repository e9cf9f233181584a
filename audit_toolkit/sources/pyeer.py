"""Pairs of plain score files: one with mated scores, one with non-mated scores.

Why it exists: many laboratories keep nothing but a score a line. Such a file does not say who was compared, and without
that no interval can be made: comparisons that share a person are not independent. So lines of the form ``id1 id2 score``
are read with their subjects, and lines without ids are refused unless the auditor states that every line has people of
its own. Histogram files are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.sources.compose import with_labels
from audit_toolkit.sources.lines import (
    Layout,
    check_first,
    existing_file,
    first_line,
    open_plain,
    stream_rows,
)
from audit_toolkit.sources.table import ScoreSource

_COLUMNS = ("reference_subject", "probe_subject", "mated", "score")
_PLAIN = Layout(("score",), (("score", "score", "number"),), " ")
_WITH_IDS = Layout(
    ("id1", "id2", "score"),
    (
        ("reference_subject", "id1", "subject"),
        ("probe_subject", "id2", "subject"),
        ("score", "score", "number"),
    ),
    " ",
)


def read_pyeer(
    genuine: str | Path,
    impostor: str | Path,
    *,
    independent: bool = False,
    reference_label: Mapping[str, str] | None = None,
    probe_label: Mapping[str, str] | None = None,
) -> ScoreSource:
    """Comparisons from two plain files, mated and non-mated: ``id1 id2 score`` a line (id1 = reference), or a score alone.

    ``independent`` states, for files without ids, that no person stands in two lines: each mated line gets a subject of its
    own, each non-mated line two. The assumption is printed in the source's format. ``reference_label`` and ``probe_label``
    map attribute to the label of everybody in these files. Raises `InputError` for lines without ids where
    ``independent`` was not stated, and for broken lines.
    """
    paths = (existing_file(genuine), existing_file(impostor))
    layouts = [_layout(path) for path in paths]
    if layouts[0] is not layouts[1]:
        raise InputError(
            "One file has subject ids and the other has none.",
            where=f"{paths[0].name}, {paths[1].name}",
            mend="Write id1 id2 score in both.",
        )
    with_ids = layouts[0] is _WITH_IDS
    if with_ids and independent:
        raise UsageError("These files name their subjects, so their lines are not independent.", mend="Leave it out.")
    if not with_ids and not independent:
        raise InputError(
            "The lines hold scores without subjects, and without subjects no interval can be made.",
            where=paths[0].name,
            mend="Write id1 id2 score a line, or state independent=True if no person stands in two lines.",
        )
    labels = "|".join(f"{k}={v}" for m in (reference_label, probe_label) for k, v in sorted((m or {}).items()))

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        for path, mated in zip(paths, (True, False), strict=True):
            done = 0
            for batch in stream_rows(open_plain(path), path.name, layouts[0], rows):
                n = batch.num_rows
                if with_ids:
                    sides = [batch.column("reference_subject"), batch.column("probe_subject")]
                else:
                    sides = _own_subjects(f"{path.name}|{labels}|{'mated' if mated else 'non-mated'}", done, n, mated)
                done += n
                flags = pa.array(np.full(n, mated))
                yield pa.RecordBatch.from_arrays([*sides, flags, batch.column("score")], names=list(_COLUMNS))

    kind = "pyeer pair of files" + ("" if with_ids else ", assumed: every line is of people who stand in no other line")
    name = f"{paths[0].name}, {paths[1].name}"
    source = ScoreSource(name, kind, _COLUMNS, batches, paths)
    return with_labels(source, reference_label or {}, probe_label or {})


def _layout(path: Path) -> Layout:
    opener = open_plain(path)
    # Any separator means ids, so that a tab or a comma is named as the wrong one and not read as a bad score.
    layout = _WITH_IDS if re.search(r"[ \t,;]", first_line(opener, path.name).strip(" ")) else _PLAIN
    check_first(opener, path.name, layout)
    return layout


def _own_subjects(prefix: str, done: int, n: int, mated: bool) -> list[pa.Array]:
    """Made-up ids for lines ``done`` to ``done + n``: one subject a mated line, two a non-mated line."""
    lines = pc.cast(pa.array(np.arange(done, done + n)), pa.string())
    first = pc.binary_join_element_wise(prefix, lines, "|")
    return [first, first if mated else pc.binary_join_element_wise(prefix, lines, "b", "|")]
