"""From a plan's section to a source of comparisons: which reader, which columns, which table of people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit_toolkit.disparity.plan import FILE_OPTIONS, FRAME, TEMPLATE_PARTS, Section
from audit_toolkit.errors import PlanError
from audit_toolkit.sources.compose import keep_attributes
from audit_toolkit.sources.embeddings import Templates
from audit_toolkit.sources.table import ColumnMap, ScoreSource


def open_section(section: Section, *, folder: Path, frame: Any = None, subjects: Any = None) -> ScoreSource | Templates:
    """The section's comparisons with labels on both sides, or its templates with labels.

    ``frame`` stands in place of the score file and ``subjects`` in place of the subject table. Raises `PlanError` where an
    attribute has neither its own two columns nor a subject table to be joined from.
    """
    if section.metric:
        return _open_templates(section, folder, subjects)
    joined = {name: a.column or name for name, a in section.attributes.items() if not a.reference_column}
    own = {name: (a.reference_column, a.probe_column) for name, a in section.attributes.items() if a.reference_column}
    _check_parts(section)
    columns = ColumnMap(
        **{f: getattr(section.columns, f) for f in section.columns.__struct_fields__},
        attributes=own,
        covariates=section.covariates,
    )
    if frame is not None:
        from audit_toolkit.sources.frames import open_frame

        source = open_frame(frame, columns)
    elif section.scores == FRAME:
        raise _no_frame("$.disparity.scores")
    else:
        from audit_toolkit.sources.formats import open_scores

        options = {k: folder / str(v) if k in FILE_OPTIONS else v for k, v in section.format_options.items()}
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
            if table is None and section.subjects.path == FRAME:
                raise _no_frame("$.disparity.subjects.path")
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


def _open_templates(section: Section, folder: Path, subjects: Any) -> Templates:
    """The section's file of templates; labels from the subject table, or from columns beside the vectors."""
    from audit_toolkit.sources.embeddings import open_templates

    if section.scores == FRAME:
        raise _no_frame("$.disparity.scores")
    table, key = subjects, "subject"
    if section.subjects is not None:
        key = section.subjects.id
        table = folder / section.subjects.path if table is None else table
    options = {k: str(v) for k, v in section.format_options.items()}
    return open_templates(
        folder / section.scores,
        subjects=table,
        id_column=key,
        attributes={name: a.column or name for name, a in section.attributes.items()},
        columns={part: options[part] for part in TEMPLATE_PARTS if part in options},
        rows=folder / options["rows"] if "rows" in options else None,
        labels={name: a.labels for name, a in section.attributes.items() if a.labels},
        metric=section.metric or "cosine",
    )


def _no_frame(where: str) -> PlanError:
    return PlanError(
        "This plan was made for a data frame, which cannot be read again.",
        where=where,
        mend="Save the frame as Parquet or CSV and name that file here, or call `disparity` with the frame.",
    )


def _check_parts(section: Section) -> None:
    """Refuse columns in two parts at once: ids as labels would be printed, and equal sides would make every row mated."""
    columns = section.columns
    ids = {columns.reference_subject, columns.probe_subject, columns.reference_sample, columns.probe_sample}
    if section.subjects is not None:
        ids.add(section.subjects.id)
    if columns.reference_subject == columns.probe_subject or columns.reference_sample == columns.probe_sample:
        raise PlanError(
            "One column is named for the reference and for the probe.",
            where="$.disparity.columns",
            mend="Name the column of each side.",
        )
    for name, attribute in section.attributes.items():
        joined = "" if attribute.reference_column else attribute.column or name
        if {attribute.reference_column, attribute.probe_column, joined} & ids:
            raise PlanError(
                "An attribute is made of the column that names people or samples; they are no groups.",
                where=f"$.disparity.attributes.{name}",
                mend="Name the columns that hold the groups.",
            )
    for name, column in section.covariates.items():
        if column in ids:
            raise PlanError(
                "A covariate is made of the column that names people or samples; they are no classes.",
                where=f"$.disparity.covariates.{name}",
                mend="Name a column such as camera or quality.",
            )
