"""Choosing thresholds: the vendor's value, a target FMR, the equal error rate, and the per-group what-if.

Promise: a threshold set by FMR is the lowest observed non-mated score at which the FMR does not exceed the target, never
the nearest; where the target is below what the file can resolve, or a tie stands in the way, it lies just above the score
in question and says so. A comparison matches when its score is at or above the threshold, in the score's own number type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.fold import Measure, State
from audit_toolkit.disparity.groups import Groups
from audit_toolkit.disparity.measures import GridCounts, Scheme, ScoresInRange
from audit_toolkit.disparity.plan import Section, Threshold, axis_name, check_axis
from audit_toolkit.disparity.rates import reaching
from audit_toolkit.errors import PlanError
from audit_toolkit.sources.survey import Survey

Fold = Callable[[Measure], State]
"""Folds one measure over the audit's rows."""

HEAVY = 0.02
"""A bin that holds more than this share of the rows is cut into a finer grid, so that an outlying score costs no precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """One threshold: ``value`` as the scores are folded (larger = more alike), ``shown`` as the file writes it.

    ``policy`` in words. ``set_on`` [G, G] marks the non-mated cells it was set on in this very data, ``None`` where it came
    from outside. ``of`` names the group of a per-group what-if.
    """

    value: Any
    shown: float
    policy: str
    notes: tuple[str, ...] = ()
    set_on: NDArray[np.bool_] | None = None
    eer: bool = False
    what_if: tuple[str, int] | None = None


def grid_edges(survey: Survey, asked: list[float], groups: int) -> NDArray[Any]:
    """An even grid over the score range with every asked threshold as an edge, in the scores' own type.

    4,096 edges, fewer where many groups would make the counts large. The lowest edge is the lowest score, so that level 0
    stays empty and the first edge catches everything.
    """
    size = int(np.clip(4_000_000 // max(1, groups * groups), 256, 4096))
    even = np.linspace(survey.low, survey.high, size).astype(survey.score_dtype)
    even[0], even[-1] = survey.low, survey.high
    return np.unique(np.concatenate([even, np.array(asked, survey.score_dtype)]))


def count_on_grid(survey: Survey, scheme: Scheme, asked: list[float], fold: Fold) -> tuple[GridCounts, State]:
    """Count on an even grid, then on finer ones inside bins that hold too much of the file (at most four rounds).

    A single score far from all others would stretch an even grid until every other score fell into one bin.
    """
    edges = grid_edges(survey, asked, scheme.groups)
    for _ in range(4):
        measure = GridCounts(scheme, edges)
        state = fold(measure)
        by_level = state["nonmated"].sum(axis=(0, 1)) + state["mated"].sum(axis=0)
        heavy = np.flatnonzero(by_level[1:-1] > HEAVY * by_level.sum())
        pieces = [np.linspace(edges[b], edges[b + 1], 258)[1:-1].astype(edges.dtype) for b in heavy]
        finer = np.unique(np.concatenate([edges, *pieces]))
        if len(finer) <= len(edges) * 1.001:
            break
        edges = finer
    return measure, state


def vendor_value(survey: Survey, value: float) -> Any:
    """A stated threshold in the scores' own type and orientation."""
    return survey.score_dtype.type(survey.sign * value)


def choose(
    section: Section, survey: Survey, groups: Groups, scheme: Scheme, grid: State, edges: NDArray[Any], fold: Fold
) -> list[Chosen]:
    """Every threshold the plan asks for, per-group what-ifs behind the others; duplicates of a value are kept apart."""
    chosen: list[Chosen] = []
    what_if: list[Chosen] = []
    for number, asked in enumerate(section.thresholds):
        where = f"$.disparity.thresholds[{number}]"
        if asked.policy == "vendor":
            assert asked.value is not None  # noqa: S101 - the plan's own check
            chosen.append(
                Chosen(vendor_value(survey, asked.value), float(asked.value), "stated by the vendor or the plan")
            )
        elif asked.policy == "eer":
            chosen.append(_equal_error(survey, scheme, grid, edges, fold, where))
        elif asked.policy == "fmr":
            chosen.append(_at_fmr(asked, survey, groups, scheme, grid, edges, fold, where, section))
        else:
            what_if.extend(_per_group(asked, survey, groups, scheme, grid, edges, fold, where, section))
    return chosen + what_if


def _at_fmr(
    asked: Threshold, survey: Survey, groups: Groups, scheme: Scheme, grid: State, edges: NDArray[Any], fold: Fold,
    where: str, section: Section,
) -> Chosen:  # fmt: skip
    cells = np.ones((groups.count, groups.count), np.bool_)
    over = "over everybody"
    if asked.of:
        name = axis_name(tuple(n for n in section.attributes if n in asked.of))
        if set(asked.of) - set(section.attributes):
            raise PlanError("The threshold's group names an attribute the plan has not.", where=f"{where}.of")
        check_axis(section, name)
        axis = next(a for a in groups.axes if a.name == name)
        wanted = tuple(asked.of[a] for a in axis.attributes)
        if wanted not in axis.labels:
            raise PlanError(
                "The threshold's group has no people in the file.",
                where=f"{where}.of",
                mend="Give a label as the file spells it.",
            )
        k = axis.labels.index(wanted)
        if axis.withheld[k] is not None:
            raise PlanError(
                "The threshold's group has too few people to be shown.",
                where=f"{where}.of",
                mend="Set the threshold over everybody, or within a larger group.",
            )
        inside = axis.of_finest == k
        cells = np.outer(inside, inside)
        over = f"within {axis.label(k)}"
    assert asked.target is not None  # noqa: S101
    value, notes = lowest_at_fmr(survey, scheme, grid, edges, fold, cells, asked.target, where)
    return Chosen(value, _shown(survey, value), f"lowest with FMR at most {asked.target:g} {over}", notes, cells)


def _per_group(
    asked: Threshold, survey: Survey, groups: Groups, scheme: Scheme, grid: State, edges: NDArray[Any], fold: Fold,
    where: str, section: Section,
) -> list[Chosen]:  # fmt: skip
    name = asked.axis or next(iter(section.attributes))
    check_axis(section, name)
    axis = next(a for a in groups.axes if a.name == name)
    found = []
    assert asked.target is not None  # noqa: S101
    for k in axis.shown:
        inside = axis.of_finest == k
        cells = np.outer(inside, inside)
        if not grid["nonmated"][cells].sum():
            continue
        value, notes = lowest_at_fmr(survey, scheme, grid, edges, fold, cells, asked.target, where)
        policy = f"what if {axis.label(k)} had its own threshold at FMR at most {asked.target:g}"
        found.append(Chosen(value, _shown(survey, value), policy, notes, cells, what_if=(axis.name, k)))
    return found


def _shown(survey: Survey, value: Any) -> float:
    return float(survey.sign * value)


def lowest_at_fmr(
    survey: Survey, scheme: Scheme, grid: State, edges: NDArray[Any], fold: Fold, cells: NDArray[np.bool_],
    target: float, where: str,
) -> tuple[Any, tuple[str, ...]]:  # fmt: skip
    """The lowest observed non-mated score with FMR <= target over the marked cells, refined within its bin.

    Returns the threshold and notes. Raises `PlanError` where the cells hold no non-mated comparison.
    """
    counts = grid["nonmated"][cells].sum(axis=0)
    total = int(counts.sum())
    if total == 0:
        raise PlanError(
            "A threshold by FMR needs non-mated comparisons, and there are none.",
            where=where,
            mend="State the vendor's threshold instead.",
        )
    allowed = int(Fraction(str(target)) * total)
    above = reaching(counts)[1:]  # above[b] = scores >= edges[b]
    b = int(np.flatnonzero(above > allowed)[-1])  # edge b lets too many through, edge b + 1 does not
    notes: list[str] = []
    if allowed == 0:
        notes.append(f"the target lies below 1 in {total} comparisons: no false match is allowed")
    if b + 1 == len(edges):
        return _just_above(edges[b]), (*notes, "no observed score satisfies the target; just above the highest score")
    beyond = int(above[b + 1])
    low, high = edges[b], edges[b + 1]
    held = _scores_between(survey, scheme, fold, low, high)
    keep = (held["mated"] == 0) & cells[held["ref_group"], held["probe_group"]]
    values, weights = held["score"][keep], held["weight"][keep]
    order = np.argsort(values, kind="stable")[::-1]
    values, reach = values[order], beyond + np.cumsum(weights[order])
    last_of_tie = np.append(values[1:] != values[:-1], True)
    fits = last_of_tie & (reach <= allowed)
    if fits.any():
        return values[np.flatnonzero(fits)[-1]], tuple(notes)
    return _just_above(values[0]), (*notes, "a tie of equal scores stands at the target; just above it")


def _just_above(value: Any) -> Any:
    return np.nextafter(value, value.dtype.type(np.inf))


def _scores_between(survey: Survey, scheme: Scheme, fold: Fold, low: Any, high: Any) -> dict[str, NDArray[Any]]:
    """The distinct scores in [low, high) with their cells and how often each occurs."""
    state = fold(ScoresInRange(scheme, low, high, survey.score_dtype))
    return {**state, "score": state["score"].view(survey.score_dtype)}


def _equal_error(survey: Survey, scheme: Scheme, grid: State, edges: NDArray[Any], fold: Fold, where: str) -> Chosen:
    nonmated, mated = grid["nonmated"].sum(axis=(0, 1)), grid["mated"].sum(axis=0)
    n, m = int(nonmated.sum()), int(mated.sum())
    if n == 0 or m == 0:
        raise PlanError(
            "The equal error rate needs mated and non-mated comparisons.",
            where=where,
            mend="State the vendor's threshold instead.",
        )
    fm, fnm = reaching(nonmated)[1:], m - reaching(mated)[1:]
    crossed = np.flatnonzero(fm * m <= fnm * n)  # FMR <= FNMR from here on
    b = int(crossed[0]) if len(crossed) else len(edges) - 1
    candidates = [(edges[b], int(fm[b]), int(fnm[b]))]
    if b > 0:
        held = _scores_between(survey, scheme, fold, edges[b - 1], edges[b])
        values = np.unique(held["score"])
        for value in values:
            at_or_above = held["score"] >= value
            more = int(held["weight"][at_or_above & (held["mated"] == 0)].sum())
            fewer = int(held["weight"][at_or_above & (held["mated"] == 1)].sum())
            candidates.append((value, int(fm[b]) + more, int(fnm[b]) - fewer))
    value, _, _ = min(candidates, key=lambda c: (abs(Fraction(c[1], n) - Fraction(c[2], m)), float(c[0])))
    everything = np.ones(grid["nonmated"].shape[:2], np.bool_)
    note = "the equal error rate describes a curve; no system is operated there for its own sake"
    return Chosen(value, _shown(survey, value), "equal error rate (EER)", (note,), everything, eer=True)


def local_density(counts: NDArray[np.int64], edges: NDArray[Any], value: Any, least: int = 50) -> float:
    """Share of scores per unit of score around a threshold, from the grid: a window widened until it holds enough scores.

    ``counts`` [L] by level. The window grows evenly on both sides until it holds ``least`` scores (or everything); returns 0
    without scores.
    """
    total = int(counts.sum())
    if total == 0:
        return 0.0
    inner = counts[1:-1]
    k = int(np.searchsorted(edges, value))
    running = np.concatenate([[0], np.cumsum(inner)])
    width = 1
    while True:
        a, b = max(0, k - width), min(len(inner), k + width)
        held = int(running[b] - running[a])
        if held >= least or (a == 0 and b == len(inner)):
            span = float(edges[b]) - float(edges[a])
            return held / total / span if span > 0 else 0.0
        width *= 2
