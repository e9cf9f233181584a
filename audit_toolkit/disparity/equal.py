"""Could all groups of an axis have the same rate? The test that decides, and the permutation that is only shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.counting import Counted
from audit_toolkit.disparity.estimates import place
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated
from audit_toolkit.evidence.estimate import At, Estimate, Support
from audit_toolkit.stats.equality import EqualityTest, equality_of_pairs, equality_of_subjects, permutation_of_pairs

DRAWS = 999


@dataclass(frozen=True, slots=True)
class EqualityResult:
    """The test of equal rates over the shown groups, the permutation beside it, and why either is missing."""

    test: EqualityTest | None
    permutation: EqualityTest | None
    reason: str = ""

    @property
    def p_value(self) -> float | None:
        """The p-value that decides; ``None`` where there is none."""
        return None if self.test is None else self.test.p_value


def test_equality(counted: Counted, rated: Rated, n: int, rate: str, section: Section, root: int) -> EqualityResult:
    """Run the test for one rate over the shown groups of an axis.

    FMR: only within-group rates can be tested so; other scopes share people between groups, and their ratios carry the
    covariance instead.
    """
    axis, table, t = rated.axis, rated.table, rated.t
    shown = np.full(len(axis.labels), -1, np.int64)
    shown[list(axis.shown)] = axis.shown
    group = np.where(table.group >= 0, shown[table.group], -1)
    if rate == "fnmr":
        wrong = table.mated[:, 0] - table.mated[:, 1 + t]
        return EqualityResult(equality_of_subjects(group, wrong, table.mated[:, 0], seed=root, draws=DRAWS), None)
    if section.scope != "within-group":
        return EqualityResult(None, None, "the test is made for within-group rates only")
    if counted.listed is None:
        return EqualityResult(None, None, counted.not_listed)
    listed = counted.listed
    keep = listed["level"] >= counted.listed_level[n]
    i, j = listed["ref"][keep].astype(np.int64), listed["probe"][keep].astype(np.int64)
    weight = listed["weight"][keep]
    own = np.arange(len(table.group)), slice(None), table.group
    size = table.nonmated[own[0], :, own[2], 0].sum(axis=1).astype(np.float64)
    comparisons = np.array([s.comparisons for s in rated.fmr], np.float64)
    test = equality_of_pairs(i, j, weight, group, size, comparisons, seed=root, draws=DRAWS)
    return EqualityResult(test, _permutation(i, j, weight, group, rated, root))


def _permutation(
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    weight: NDArray[np.int64],
    group: NDArray[np.int64],
    rated: Rated,
    root: int,
) -> EqualityTest:
    every = rated.table.nonmated[:, :, :, 0].sum(axis=(1, 2)).astype(np.float64)
    return permutation_of_pairs(i, j, weight, group, every, float(every.sum()) / 2.0, seed=root, draws=DRAWS)


def equality_estimates(rated: Rated, rate: str, result: EqualityResult, section: Section) -> list[Estimate]:
    """The p-values as estimates, undefined with their reason where the test could not be made."""
    at: dict[str, At] = {
        **place(rated.chosen),
        "axis": rated.axis.name,
        "rate": rate,
        "scope": section.scope,
        "groups": len(rated.axis.shown),
    }
    found = [_p("equality_p", result.test, result.reason, at, rated, rate)]
    if result.permutation is not None:
        found.append(_p("permutation_p", result.permutation, "", at, rated, rate))
    return found


def _p(quantity: str, test: EqualityTest | None, reason: str, at: dict[str, At], rated: Rated, rate: str) -> Estimate:
    samples = [rated.fixed(rate)[k] for k in rated.axis.shown]
    held = Support(
        comparisons=sum(s.comparisons for s in samples),
        subjects=min((len(s.delta) for s in samples), default=0),
        errors=sum(s.errors for s in samples),
    )
    value = None if test is None else test.p_value
    why = None
    if value is None:
        why = reason or (test.undefined if test is not None else None) or "the test could not be made"
    notes = (
        () if test is None or value is None else (f"{test.method}; {test.draws} draws over {len(test.groups)} groups",)
    )
    return Estimate(quantity=quantity, at=at, value=value, undefined=why, support=held, notes=notes)
