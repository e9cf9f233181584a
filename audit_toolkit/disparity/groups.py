"""Who is in which group: single attributes, intersections, and which groups must stay out of every table.

Every row is counted once, by the finest combination of all attributes; the groups of each axis are sums of those cells,
so that margins and intersections always agree with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.plan import Section, axis_name
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.disclosure import Cell, withhold
from audit_toolkit.sources.survey import Survey

MOST_GROUPS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One way to divide the people into groups.

    ``labels[k]`` = the label of group k on each of ``attributes``; ``of_subject`` [subjects] int32 = group of each
    subject, -1 for people without a label (they stand in no used row); ``of_finest`` [finest groups] int32; ``people``
    [groups] = subjects in each; ``withheld[k]`` = the reason why group k stays out of every table, or ``None``;
    ``reference`` = the group that ratios are taken against, or ``None``.
    """

    attributes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    of_subject: NDArray[np.int32]
    of_finest: NDArray[np.int32]
    people: NDArray[np.int64]
    withheld: tuple[str | None, ...]
    reference: int | None

    @property
    def name(self) -> str:
        """The printed name."""
        return axis_name(self.attributes)

    def of(self, k: int, side: str = "") -> dict[str, str]:
        """Group k as an estimate names it: attribute -> label, with the side in front where one is given."""
        prefix = f"{side}:" if side else ""
        return {prefix + a: label for a, label in zip(self.attributes, self.labels[k], strict=True)}

    def label(self, k: int) -> str:
        """Group k in one word or two."""
        return " & ".join(self.labels[k])

    @property
    def shown(self) -> tuple[int, ...]:
        """The groups that are not withheld."""
        return tuple(k for k, reason in enumerate(self.withheld) if reason is None)


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The finest groups [subjects] int32, how many there are, and the axes made of them."""

    finest: NDArray[np.int32]
    count: int
    axes: tuple[Axis, ...]


def make_groups(section: Section, survey: Survey, min_people: int) -> Groups:
    """Divide the surveyed people along every attribute and every intersection the plan asks for."""
    columns = [survey.attributes.index(name) for name in section.attributes]
    labels = survey.subject_labels[:, columns].astype(np.int64)
    # People without a label stand in no used row; they keep the code -1 and are in no group.
    labelled = (labels >= 0).all(axis=1)
    present, inverse = np.unique(labels[labelled], axis=0, return_inverse=True)
    if len(present) > MOST_GROUPS:
        raise PlanError(
            f"The attributes together make {len(present)} groups, more than {MOST_GROUPS}.",
            where="$.disparity.attributes",
            mend="Name fewer attributes in one audit, or use coarser labels.",
        )
    finest = np.full(len(labels), -1, np.int32)
    finest[labelled] = inverse.reshape(-1)
    names = list(section.attributes)
    wanted = [(name,) for name in names] + [tuple(i) for i in section.intersections]
    axes = []
    for attributes in wanted:
        positions = [names.index(a) for a in attributes]
        axes.append(_axis(section, survey, attributes, positions, present, finest))
    return Groups(finest, len(present), withhold_groups(axes, min_people))


def _axis(
    section: Section,
    survey: Survey,
    attributes: tuple[str, ...],
    positions: Sequence[int],
    present: NDArray[np.int64],
    finest: NDArray[np.int32],
) -> Axis:
    cells, inverse = np.unique(present[:, positions], axis=0, return_inverse=True)
    of_finest: NDArray[np.int32] = inverse.reshape(-1).astype(np.int32)
    of_subject: NDArray[np.int32] = np.where(finest >= 0, of_finest[finest], -1).astype(np.int32)
    people = np.bincount(of_subject[of_subject >= 0], minlength=len(cells)).astype(np.int64)
    texts = [survey.labels[survey.attributes.index(a)] for a in attributes]
    labels = tuple(tuple(texts[a][code] for a, code in enumerate(cell)) for cell in cells)
    asked = tuple(section.attributes[a].reference for a in attributes)
    for name, label in zip(attributes, asked, strict=True):
        known = survey.labels[survey.attributes.index(name)]
        if label and label not in known:
            raise PlanError(
                "The reference group stands in no used row.",
                where=f"$.disparity.attributes.{name}.reference",
                mend="Give a label of this attribute as the file spells it, or leave `reference` out.",
            )
    reference: int | None = labels.index(asked) if all(asked) and asked in labels else int(np.argmax(people))
    return Axis(attributes, labels, of_subject, of_finest, people, (None,) * len(labels), reference)


def withhold_groups(axes: Sequence[Axis], minimum: int) -> tuple[Axis, ...]:
    """Decide once, over all axes, which groups are withheld; margins and intersections are sums of one another."""
    counts: dict[Cell, int] = {}
    sums: list[list[Cell]] = []

    def cell(axis: Axis, k: int) -> Cell:
        return tuple(f"{a}={label}" for a, label in sorted(zip(axis.attributes, axis.labels[k], strict=True)))

    for axis in axes:
        cells = [cell(axis, k) for k in range(len(axis.labels))]
        counts.update({c: int(n) for c, n in zip(cells, axis.people, strict=True)})
        sums.append(cells)
        if len(axis.attributes) > 1:
            for part in {p for c in cells for p in c}:
                sums.append([c for c in cells if part in c])
    reasons = withhold(counts, minimum, sums)
    done = []
    for axis in axes:
        withheld = tuple(reasons.get(cell(axis, k)) for k in range(len(axis.labels)))
        reference = axis.reference
        if reference is not None and withheld[reference] is not None:
            open_groups = [k for k, reason in enumerate(withheld) if reason is None]
            reference = max(open_groups, key=lambda k: (int(axis.people[k]), -k)) if open_groups else None
        done.append(
            Axis(axis.attributes, axis.labels, axis.of_subject, axis.of_finest, axis.people, withheld, reference)
        )
    return tuple(done)
