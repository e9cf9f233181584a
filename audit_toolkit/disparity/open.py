"""From a plan's section to a source of comparisons: which reader, which columns, which table of people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit_toolkit.disparity.plan import Section
from audit_toolkit.errors import PlanError
from audit_toolkit.sources.compose import keep_attributes
from audit_toolkit.sources.table import ColumnMap, ScoreSource

_FILES = ("impostor", "scores", "mask", "target", "query", "subject_of")
"""Format options that name a file, relative to the plan's folder like every other path."""


def open_section(section: Section, *, folder: Path, frame: Any = None, subjects: Any = None) -> ScoreSource:
    """The section's comparisons with labels on both sides.

    ``frame`` stands in place of the score file and ``subjects`` in place of the subject table. Raises `PlanError` where an
    attribute has neither its own two columns nor a subject table to be joined from.
    """
    joined = {name: a.column or name for name, a in section.attributes.items() if not a.reference_column}
    own = {name: (a.reference_column, a.probe_column) for name, a in section.attributes.items() if a.reference_column}
    for name, attribute in section.attributes.items():
        if bool(attribute.reference_column) != bool(attribute.probe_column):
            raise PlanError(
                "An attribute names a column for one side only.",
                where=f"$.disparity.attributes.{name}",
                mend="Give both reference_column and probe_column, or join the attribute from a subject table.",
            )
    columns = ColumnMap(
        **{f: getattr(section.columns, f) for f in section.columns.__struct_fields__},
        attributes=own,
        covariates=section.covariates,
    )
    if frame is not None:
        from audit_toolkit.sources.frames import open_frame

        source = open_frame(frame, columns)
    else:
        from audit_toolkit.sources.formats import open_scores

        options = {k: folder / str(v) if k in _FILES else v for k, v in section.format_options.items()}
        source = open_scores(folder / section.scores, section.format, columns, **options)
    if source.higher_is_hint is not None and source.higher_is_hint != section.higher_is:
        raise PlanError(
            f"The file says that a higher score means more {'alike' if source.higher_is_hint == 'same' else 'different'}, "
            "and the plan says the opposite.",
            where="$.disparity.higher_is",
            mend=f"Set higher_is = {source.higher_is_hint!r}, if the file is right.",
        )
    missing = [name for name in joined if name not in source.attributes]
    if missing:
        table = subjects
        key = "subject"
        if section.subjects is not None:
            key = section.subjects.id
            table = folder / section.subjects.path if table is None else table
        if table is None:
            raise PlanError(
                f"The attributes {', '.join(missing)} stand neither in the score file nor in a subject table.",
                where="$.disparity.attributes",
                mend="Name their reference_column and probe_column, or give a subject table under `subjects`.",
            )
        from audit_toolkit.sources.subjects import join_subjects

        source = join_subjects(source, table, key, {name: joined[name] for name in missing})
    # A row is excluded where a label is missing, so labels that nobody asked for must not cost rows.
    return keep_attributes(source, list(section.attributes))
