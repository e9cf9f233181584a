"""The rounds of a verification audit: survey, grid, thresholds, then counts by subject at those thresholds.

One pass, bounded memory, any order of rows, variance by subject and a threshold from the same data do not go together;
so the rows are coded once and folded a few times. Every state's digest goes into the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.cells import replicate_bits
from audit_toolkit.core.fold import Measure, State, digest, seed
from audit_toolkit.disparity.groups import Groups, make_groups
from audit_toolkit.disparity.measures import FalseMatches, ReplicateCounts, Scheme, SubjectCounts
from audit_toolkit.disparity.pairs import MOST_PAIRS, PairCounts
from audit_toolkit.disparity.plan import MOST_THRESHOLDS, Section
from audit_toolkit.disparity.rates import reaching
from audit_toolkit.disparity.thresholds import Chosen, choose, count_on_grid, vendor_value
from audit_toolkit.engines.context import Context
from audit_toolkit.engines.fold import fold
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.record import Run
from audit_toolkit.sources.survey import Rows, Survey

MOST_LISTED = 2_000_000
"""False matches that may be held in memory as a list (about 17 bytes each)."""


@dataclass(frozen=True, slots=True, eq=False)
class AtThreshold:
    """Where one threshold's counts stand: the by-subject state, and the threshold's number in it."""

    state: State
    t: int


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Everything that was counted of one score file.

    ``at[n]`` belongs to ``chosen[n]``. ``loose`` is a lower threshold at which most groups have errors: it lends its design
    effect to groups without any. ``listed`` is the list of false matches with ``listed_level[n]`` = entries of level >= that
    reach ``chosen[n]``; ``None`` where it would not fit, with the reason.
    """

    survey: Survey
    groups: Groups
    scheme: Scheme
    edges: NDArray[Any]
    grid: State
    chosen: tuple[Chosen, ...]
    at: tuple[AtThreshold, ...]
    loose: AtThreshold | None
    listed: State | None
    listed_level: tuple[int, ...]
    not_listed: str
    replicates: State | None
    pairs: State | None
    transactions: tuple[AtThreshold, ...]
    runs: tuple[Run, ...]
    top: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None
    """The highest non-mated scores [n] and the two people behind each [n, 2], where they are held."""
    symmetric: bool = False
    """Each unordered pair counts once, in the cell (lower group, higher group): no reference and probe side."""


def count(section: Section, survey: Survey, context: Context) -> Counted:
    """Run every round over the surveyed rows; raises `PlanError` for thresholds or groups that cannot be."""
    groups = make_groups(section, survey, context.min_people)
    scheme = Scheme(groups.finest, groups.count, survey.codebook_digest)
    runs: list[Run] = []

    def over(measures: Sequence[Measure], rows: Rows, stage: str, *, keep: bool = True) -> list[State]:
        states = fold(measures, rows.partitions, context.engine, stage=stage, rows=rows.n, progress=context.progress)
        if keep:
            runs.extend(_run(m, s, survey) for m, s in zip(measures, states, strict=True))
        return states

    asked = [float(vendor_value(survey, t.value)) for t in section.thresholds if t.value is not None]
    on_grid, grid = count_on_grid(
        survey, scheme, asked, lambda m: over([m], survey.rows, "counting on the grid", keep=False)[0]
    )
    runs.append(_run(on_grid, grid, survey))
    edges = on_grid.edges
    chosen = choose(
        section,
        survey,
        groups,
        scheme,
        grid,
        edges,
        lambda m: over([m], survey.rows, "refining a threshold", keep=False)[0],
    )
    operating = [c.value for c in chosen if c.what_if is None]
    loose = loose_edge(grid, edges, groups.count)
    values = np.unique(np.array([c.value for c in chosen] + [loose], survey.score_dtype))
    batches = [values[k : k + MOST_THRESHOLDS] for k in range(0, len(values), MOST_THRESHOLDS)]

    listed_edges = np.unique(np.array(operating, survey.score_dtype)) if operating else values[:0]
    listing, not_listed = _listing(scheme, grid, edges, listed_edges)
    replicating: ReplicateCounts | None = None
    if section.uncertainty.method == "logit-double-or-nothing" and operating:
        bits = replicate_bits(survey.identity, seed(context.seed, "replicates"), section.uncertainty.replicates)
        replicating = ReplicateCounts(scheme, listed_edges, bits)
    pairing: PairCounts | None = None
    if "ustat" in section.uncertainty.method and operating:
        if survey.nonmated > MOST_PAIRS:
            raise PlanError(
                f"The method {section.uncertainty.method!r} holds every pair, and there are more than {MOST_PAIRS:,}.",
                where="$.disparity.uncertainty.method",
                mend="Choose 'logit-jackknife'.",
            )
        pairing = PairCounts(scheme, listed_edges)
    extra: list[Measure] = [m for m in (listing, replicating, pairing) if m is not None]
    first, *others = batches
    states = over([SubjectCounts(scheme, first), *extra], survey.rows, "counting by subject")
    by_batch = [states[0]] + [over([SubjectCounts(scheme, b)], survey.rows, "counting by subject")[0] for b in others]
    results = dict(zip([type(m) for m in extra], states[1:], strict=True))
    in_transactions = []
    if survey.transactions is not None:
        in_transactions = [
            over([SubjectCounts(scheme, b)], survey.transactions, "counting transactions")[0] for b in batches
        ]

    def find(value: Any, found: Sequence[State]) -> AtThreshold:
        k = int(np.searchsorted(values, value))
        return AtThreshold(found[k // MOST_THRESHOLDS], k % MOST_THRESHOLDS)

    return Counted(
        survey=survey,
        groups=groups,
        scheme=scheme,
        edges=edges,
        grid=grid,
        chosen=tuple(chosen),
        at=tuple(find(c.value, by_batch) for c in chosen),
        loose=find(loose, by_batch),
        listed=results.get(FalseMatches),
        listed_level=tuple(int(np.searchsorted(listed_edges, c.value)) + 1 for c in chosen),
        not_listed=not_listed,
        replicates=results.get(ReplicateCounts),
        pairs=results.get(PairCounts),
        transactions=tuple(find(c.value, in_transactions) for c in chosen) if in_transactions else (),
        runs=tuple(runs),
    )


def _run(measure: Measure, state: State, survey: Survey) -> Run:
    return Run(
        measure=measure.name,
        version=measure.version,
        parameters=measure.parameters(),
        state_digest=digest(measure, state),
        codebook_digest=survey.codebook_digest,
    )


def loose_edge(grid: State, edges: NDArray[Any], groups: int) -> Any:
    """The highest grid edge that about 20 false matches a group reach, at most one non-mated comparison in ten."""
    counts = grid["nonmated"].sum(axis=(0, 1))
    above = reaching(counts)[1:]
    total = int(counts.sum())
    wanted = min(20 * groups, total // 10)
    enough = np.flatnonzero(above >= max(1, wanted))
    return edges[enough[-1]] if len(enough) else edges[0]


def _listing(scheme: Scheme, grid: State, edges: NDArray[Any], asked: NDArray[Any]) -> tuple[FalseMatches | None, str]:
    if not len(asked):
        return None, "no operating threshold was asked for"
    # An edge at or below the lowest threshold bounds the length of the list from above.
    k = max(0, int(np.searchsorted(edges, asked[0], side="right")) - 1)
    length = int(reaching(grid["nonmated"].sum(axis=(0, 1)))[1 + k])
    if length > MOST_LISTED:
        return None, f"more than {MOST_LISTED:,} false matches at the lowest threshold: too many to list"
    return FalseMatches(scheme, asked), ""
