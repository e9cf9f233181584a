"""The pair table of Balanced Faces in the Wild, with one score column a model.

Why it exists: it is the table most published demographic comparisons start from. Columns:
``fold, p1, p2, label, id1, id2, att1, att2, <one score column a model>, a1, a2, g1, g2, e1, e2``. The first image is read
as the reference and the second as the probe; ``label`` 1 is mated. Not promised: the image pairs known to be mislabelled
are not removed here; two names for one person show up as false matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from audit_toolkit.errors import InputError
from audit_toolkit.sources.lines import Kind, Layout, existing_file, open_plain, read_header, stream_rows
from audit_toolkit.sources.table import ScoreSource

KNOWN_COLUMNS = (
    *("", "Unnamed: 0", "fold", "p1", "p2", "label", "id1", "id2", "att1", "att2"),
    *("a1", "a2", "g1", "g2", "e1", "e2"),
)
"""Columns that are no model's scores; the first two are row numbers that data frames leave behind."""
_NEEDED = ("p1", "p2", "label", "id1", "id2")
_ATTRIBUTES = {"attribute": ("att1", "att2"), "gender": ("g1", "g2"), "ethnicity": ("e1", "e2")}


def read_bfw(path: str | Path, *, score: str | None = None) -> ScoreSource:
    """Comparisons of one model from a BFW pair table in CSV; ``score`` names that model's column.

    Attributes: ``attribute`` (att1, att2), ``gender`` (g1, g2), ``ethnicity`` (e1, e2), those that are there. ``score`` may
    be left out where the table has a single model. Raises `InputError` listing the candidates otherwise.
    """
    path = existing_file(path)
    opener = open_plain(path)
    names, delimiter = read_header(opener, path.name, _NEEDED)
    candidates = [n for n in names if n not in KNOWN_COLUMNS]
    if score is None and len(candidates) == 1:
        score = candidates[0]
    if score not in candidates:
        what = "Which model's scores are meant is not said" if score is None else "There is no such score column"
        raise InputError(
            f"{what}; the table has {', '.join(candidates)[:500] or 'none'}.",
            where=f"{path.name}, line 1",
            mend="Name one of them as score.",
        )
    fields: list[tuple[str, str, Kind]] = [
        ("reference_subject", "id1", "subject"),
        ("probe_subject", "id2", "subject"),
        ("mated", "label", "flag"),
        ("score", score, "number"),
        ("reference_sample", "p1", "sample"),
        ("probe_sample", "p2", "sample"),
    ]
    for name, (reference, probe) in _ATTRIBUTES.items():
        if reference in names and probe in names:
            fields += [(f"reference.{name}", reference, "label"), (f"probe.{name}", probe, "label")]
    layout = Layout(names, tuple(fields), delimiter, header=1, quoted=True)

    def batches(rows: int) -> Iterator[pa.RecordBatch]:
        return stream_rows(opener, path.name, layout, rows)

    return ScoreSource(path.name, f"BFW table, scores of {score}", layout.columns, batches, (path,))
