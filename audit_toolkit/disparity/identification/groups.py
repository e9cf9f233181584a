"""Who is in which group of searches: the probe's person decides, and the people enrolled are shown beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.groups import Axis, make_groups
from audit_toolkit.disparity.identification.plan import Section
from audit_toolkit.disparity.identification.searches import Searches
from audit_toolkit.errors import InputError


@dataclass(frozen=True, slots=True)
class _People:
    """The part of a survey that groups are made of."""

    attributes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    subject_labels: NDArray[np.int16]


def group_people(
    section: Section,
    attributes: tuple[str, ...],
    labels: tuple[tuple[str, ...], ...],
    codes: NDArray[np.int16],
    min_people: int,
) -> tuple[Axis, ...]:
    """The axes of a plan over people (or alerts) with label codes [people, attributes], small groups withheld."""
    missing = [a for a in section.attributes if a not in attributes]
    if missing:
        raise InputError(
            f"There are no labels for {', '.join(missing)}.", mend="Name their column, or a table of people."
        )
    if not (codes >= 0).all(axis=1).any():
        raise InputError("Nobody has a label on every attribute.", mend="Check the label columns and the people's ids.")
    people = _People(attributes, labels, codes)
    return make_groups(cast(Any, section), cast(Any, people), min_people).axes


def search_axes(section: Section, searches: Searches, min_people: int) -> tuple[Axis, ...]:
    """The axes over everybody who was searched for; enrolled people who never were do not make a group larger."""
    codes = searches.subject_labels.copy()
    searched = np.zeros(len(codes), np.bool_)
    searched[searches.subject] = True
    codes[~searched] = -1
    return group_people(section, searches.attributes, searches.labels, codes, min_people)


def members(axis: Axis, searches: Searches, k: int) -> NDArray[np.bool_]:
    """[searches] whose probe's person is in group k."""
    return np.asarray(axis.of_subject[searches.subject] == k, np.bool_)


def enrolled_group(axis: Axis, searches: Searches) -> NDArray[np.int64]:
    """[enrolled] number of each enrolled person's group on this axis; -1 for no label or a group nobody was searched in."""
    columns = [searches.attributes.index(a) for a in axis.attributes]
    codes = searches.subject_labels[searches.enrolled][:, columns]
    out = np.full(len(codes), -1, np.int64)
    for k, group in enumerate(axis.labels):
        wanted = [searches.labels[c].index(label) for c, label in zip(columns, group, strict=True)]
        out[(codes == np.array(wanted)).all(axis=1)] = k
    return out


def names(axis: Axis, groups: Sequence[int]) -> tuple[str, ...]:
    """Printed names of groups."""
    return tuple(axis.label(k) for k in groups)
