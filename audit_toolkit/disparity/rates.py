"""From counts by subject to rates that know who is in them.

Every rate of the audit (within a group, across two groups, over everybody, of enrolment or acquisition) is made by the same
function from the same counts, so that the covariance of any two of them is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.fold import State
from audit_toolkit.disparity.groups import Axis
from audit_toolkit.stats.dependence import RateSample, from_counts, pooled_deff, with_deff

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SubjectTable:
    """Comparisons of each subject along one axis, cumulated so that index t means "score >= threshold t".

    ``nonmated`` [S, side, partner's group, 1 + T]: all comparisons first, then those at or above each threshold.
    ``mated`` [S, 1 + T] likewise. ``group`` [S] int32 = the subject's group on this axis.
    """

    nonmated: Ints
    mated: Ints
    group: NDArray[np.int32]
    groups: int


def reaching(levels: Ints) -> Ints:
    """Counts by level -> counts of "all" and "at or above edge k": the reversed cumulative sum over the last axis."""
    return np.ascontiguousarray(levels[..., ::-1].cumsum(axis=-1)[..., ::-1])


def along(state: State, axis: Axis) -> SubjectTable:
    """Sum the partner groups of a by-subject state into the groups of an axis and cumulate its levels."""
    groups = len(axis.labels)
    nonmated = np.zeros((*state["nonmated"].shape[:2], groups, state["nonmated"].shape[3]), np.int64)
    for finest, k in enumerate(axis.of_finest):
        nonmated[:, :, k, :] += state["nonmated"][:, :, finest, :]
    return SubjectTable(reaching(nonmated), reaching(state["mated"]), axis.of_subject, groups)


def fmr_sample(table: SubjectTable, t: int, cells: Bools, strata: NDArray[np.int64] | None = None) -> RateSample:
    """FMR over the group pairs marked in ``cells`` [reference group, probe group], at threshold number ``t``.

    A subject's comparisons are those where they are the reference, plus those where they are the probe; each comparison
    counts once in the rate. ``strata`` [S] says who was sampled together; default: each group of the axis by itself.
    """
    as_reference = cells[table.group]
    as_probe = cells.T[table.group]

    def both(level: int) -> tuple[Ints, int]:
        left = (table.nonmated[:, 0, :, level] * as_reference).sum(axis=1)
        right = (table.nonmated[:, 1, :, level] * as_probe).sum(axis=1)
        return left + right, int(left.sum())

    made, comparisons = both(0)
    wrong, errors = both(1 + t)
    return from_counts(errors, comparisons, wrong, made, stratum=_strata(table, strata))


def fnmr_sample(table: SubjectTable, t: int, members: Bools, strata: NDArray[np.int64] | None = None) -> RateSample:
    """FNMR of the groups marked in ``members`` [groups], at threshold number ``t``; each mated comparison is one person's.

    Carries no pair noise: a mated comparison belongs to one subject, so its pair square is 0.
    """
    inside = members[table.group]
    made = table.mated[:, 0] * inside
    wrong = (table.mated[:, 0] - table.mated[:, 1 + t]) * inside
    return from_counts(int(wrong.sum()), int(made.sum()), wrong, made, stratum=_strata(table, strata), pair_square=0.0)


def _strata(table: SubjectTable, strata: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return table.group.astype(np.int64) if strata is None else strata


def together(table: SubjectTable) -> NDArray[np.int64]:
    """Strata for figures over everybody: all people were sampled together."""
    return np.zeros(len(table.group), np.int64)


def group_fmr(table: SubjectTable, t: int, scope: str, k: int) -> RateSample:
    """The FMR of group k under a scope; the group's own people are one stratum, everybody else another."""
    return fmr_sample(table, t, scope_cells(scope, table.groups, k), (table.group != k).astype(np.int64))


def attempt_sample(attempts: Ints, group: NDArray[np.int32], members: Bools) -> RateSample:
    """A failure rate from attempts and failures by subject [S, 2], over the groups marked in ``members``."""
    inside = members[group] & (group >= 0)
    made, failed = attempts[:, 0] * inside, attempts[:, 1] * inside
    return from_counts(
        int(failed.sum()), int(made.sum()), failed, made, stratum=group.astype(np.int64), pair_square=0.0
    )


def scope_cells(scope: str, groups: int, k: int) -> Bools:
    """Which (reference group, probe group) cells make "the FMR of group k" under a scope."""
    cells = np.zeros((groups, groups), np.bool_)
    if scope == "within-group":
        cells[k, k] = True
    else:
        cells[:, k] = True
        if scope == "all-impostor":
            cells[k, :] = True
    return cells


def one(groups: int, k: int) -> Bools:
    """The mask of a single group."""
    mask = np.zeros(groups, np.bool_)
    mask[k] = True
    return mask


def pooled(samples: Sequence[RateSample], fallback: float | None = None) -> list[RateSample]:
    """The samples, each carrying a design effect to judge "no errors seen" with, pooled over those that have errors."""
    effect = pooled_deff(samples)
    effect = fallback if effect is None else effect
    return [with_deff(sample, effect) for sample in samples]


def largest_mated_deff(table: SubjectTable) -> float | None:
    """The design effect of mated comparisons if each person's were all alike: sum m^2 / sum m, the largest it can be.

    It lets a file without a single false non-match still give an upper limit. With one mated comparison a person it is 1.
    Source: Kish's cluster design effect at an intra-class correlation of 1.
    """
    m = table.mated[:, 0].astype(np.float64)
    return float((m * m).sum() / m.sum()) if m.any() else None
