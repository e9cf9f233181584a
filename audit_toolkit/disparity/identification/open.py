"""From a plan's identification section to searches: which reader, which columns, which table of people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.identification.assess import SearchSource
from audit_toolkit.disparity.identification.plan import Section
from audit_toolkit.disparity.identification.searches import TemplateSearch
from audit_toolkit.disparity.plan import FRAME
from audit_toolkit.errors import InputError, PlanError
from audit_toolkit.sources.alerts import open_alerts
from audit_toolkit.sources.searches import open_candidates, people_labels


def open_section(section: Section, *, folder: Path, frames: dict[str, Any] | None = None) -> SearchSource:
    """The section's input, opened and coded.

    ``frames`` maps a field of the section (``candidates``, ``searches``, ``enrolled``, ``alerts``, ``passers_by``, ``subjects``)
    to a data frame that stands in place of its file. Raises `PlanError` where a plan made for frames is run without them.
    """
    given = dict(frames or {})

    def table(name: str, path: str) -> Any:
        if name in given:
            return given[name]
        if path == FRAME:
            raise PlanError(
                "This plan was made for a data frame, which cannot be read again.",
                where=f"$.identification.{name}",
                mend="Save the frame as Parquet or CSV and name that file here.",
            )
        return folder / path if path else None

    attributes = {name: a.column or name for name, a in section.attributes.items()}
    labels = {name: a.labels for name, a in section.attributes.items() if a.labels}
    subjects = table("subjects", section.subjects.path) if section.subjects is not None else given.get("subjects")
    key = section.subjects.id if section.subjects is not None else "subject"
    if section.candidates:
        columns = {f: getattr(section.columns, f) for f in section.columns.__struct_fields__}
        return open_candidates(
            table("candidates", section.candidates),
            searches=table("searches", section.searches),
            enrolled=table("enrolled", section.enrolled),
            subjects=subjects,
            id_column=key,
            attributes=attributes,
            labels=labels,
            columns=columns,
            higher_is=section.higher_is,
            searches_complete=section.searches_complete,
        )
    if section.alerts:
        columns = {f: getattr(section.alert_columns, f) for f in section.alert_columns.__struct_fields__}
        return open_alerts(
            table("alerts", section.alerts),
            passers_by=table("passers_by", section.passers_by),
            attributes=attributes,
            labels=labels,
            columns=columns,
        )
    return _templates(section, folder, subjects, key, attributes, labels)


def _templates(
    section: Section,
    folder: Path,
    subjects: Any,
    key: str,
    attributes: dict[str, str],
    labels: dict[str, tuple[str, ...]],
) -> TemplateSearch:
    from audit_toolkit.sources.embeddings import open_templates

    beside = attributes if subjects is None else None
    try:
        gallery = open_templates(
            folder / section.gallery, attributes=beside, labels=labels if beside else (), metric=section.metric
        )
    except InputError:
        # A gallery may be without labels; what else is wrong with the file is said by the second reading.
        gallery = open_templates(folder / section.gallery, attributes=None, metric=section.metric)
    if section.gallery == section.probes and beside is None:
        probes = gallery
    else:
        probes = open_templates(
            folder / section.probes, attributes=beside, labels=labels if beside else (), metric=section.metric
        )
    if subjects is None:
        same = section.gallery == section.probes
        return TemplateSearch(probes if same else gallery, probes, section.metric)
    everyone = np.unique(np.concatenate([gallery.identity, probes.identity]))
    (texts, codes, _), read = people_labels(subjects, key, attributes, labels, everyone)

    def labels_of(people: NDArray[np.uint64]) -> NDArray[np.int16]:
        return codes[np.searchsorted(everyone, people)]

    return TemplateSearch(gallery, probes, section.metric, tuple(attributes), texts, labels_of, (read,))
