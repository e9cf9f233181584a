"""From a file of templates to the same counts that a score file gives: all pairs, compared once.

One pass over all pairs fills the grid and lists the highest non-mated scores; thresholds are refined on that list, and
counts by subject at them come from the list (numerators) and in closed form (denominators), so no second pass is needed.

Promise: float32 products decide nothing at an asked threshold: every pair within their rounding bound of it is scored again
in float64 in a fixed order, so counts there are the same on every machine. Not promised: thresholds at which more pairs match
than the list may hold; they are refused with the figure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import pairs, tiles
from audit_toolkit.core.binning import even_edges
from audit_toolkit.core.certified import MOST_LISTED, choose_path
from audit_toolkit.core.fold import Measure, State, digest, digest_arrays
from audit_toolkit.disparity.certified_counts import count_certified, levels_of, may_be_certified
from audit_toolkit.disparity.counting import AtThreshold, Counted, loose_edge
from audit_toolkit.disparity.groups import Groups, make_groups
from audit_toolkit.disparity.measures import Scheme, ScoresInRange
from audit_toolkit.disparity.plan import MOST_THRESHOLDS, Section
from audit_toolkit.disparity.thresholds import Chosen, choose
from audit_toolkit.engines.context import Context
from audit_toolkit.engines.fold import fold
from audit_toolkit.engines.journal import Journal
from audit_toolkit.engines.local import available_threads
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.record import Run
from audit_toolkit.sources.embeddings import Templates
from audit_toolkit.sources.survey import Rows, Survey

USUAL_SHARE = 0.002
"""Share of the pairs that is listed where no threshold asks for more: listing costs time as it grows."""

MOST_TAIL = 10_000
"""Scores of the tail that extrapolations are fitted to."""

TRIAL = 1500
"""Templates of the trial that tells from which score on pairs are listed."""


def surveyed(templates: Templates, low: float, high: float, mated: int, nonmated: int) -> Survey:
    """What a survey of scores would have found, for a file of templates; its rows are pairs and are never written down."""
    return Survey(
        name=templates.name,
        format=templates.format,
        sha256=templates.sha256,
        rows_read=templates.rows_read,
        rows_used=templates.rows_used,
        exclusions=templates.exclusions,
        warnings=templates.warnings,
        subjects=templates.subjects,
        codebook_digest=templates.codebook_digest,
        identity=templates.identity,
        attributes=templates.attributes,
        labels=templates.labels,
        subject_labels=templates.subject_labels,
        score_dtype=np.dtype(np.float32),
        sign=-1 if templates.metric == "l2" else 1,
        low=low,
        high=high,
        saturated=(0, 0),
        mated=mated,
        nonmated=nonmated,
        covariates=(),
        covariate_labels=(),
        enrol=templates.enrol,
        acquire=np.zeros_like(templates.enrol),
        has_failures=templates.has_failures,
        rows=Rows((), 0),
        transactions=None,
    )


def count_templates(section: Section, templates: Templates, context: Context, journal: Path | None = None) -> Counted:
    """Compare all pairs and count; raises `PlanError` where a threshold lies below what the list can hold."""
    groups = make_groups(section, surveyed(templates, 0.0, 0.0, 0, 0), context.min_people)
    templates.check()
    with tempfile.TemporaryDirectory(prefix="audit_toolkit-") as scratch, tiles.one_blas_thread():
        owner = np.where(templates.used, groups.finest[templates.subject], -1).astype(np.int32)
        prepared = tiles.prepare(
            templates.vectors, templates.subject, templates.image, owner, groups.count, section.metric,
            scratch=Path(scratch),
        )  # fmt: skip
        if may_be_certified(section):
            values = np.unique(np.array([t.value for t in section.thresholds], np.float32))
            path, quantised = choose_path(prepared, values.astype(np.float64), workers=available_threads())
            if quantised is not None:
                found = surveyed(templates, *_range(prepared), 0, 0)
                return count_certified(section, found, context, groups, prepared, quantised, values, path)
        return _count(section, templates, context, groups, prepared, journal)


def _count(
    section: Section,
    templates: Templates,
    context: Context,
    groups: Groups,
    prepared: tiles.Prepared,
    journal: Path | None,
) -> Counted:
    sign = -1.0 if section.metric == "l2" else 1.0
    asked = [sign * t.value for t in section.thresholds if t.value is not None]
    low, high = _range(prepared)
    size = int(np.clip(4_000_000 // groups.count**2, 256, 4096))
    edges = even_edges(low, high, size, np.array(asked, np.float32))
    measure = pairs.PairCounts(
        prepared, edges, listed_from=_list_from(prepared, section, asked), near=tuple(float(np.float32(a)) for a in asked),
        most_listed=MOST_LISTED, most_own=MOST_LISTED,
    )  # fmt: skip
    if not measure.lists_mates and any(t.policy == "eer" for t in section.thresholds):
        raise PlanError(
            f"The equal error rate needs all mated pairs, and more than {MOST_LISTED:,} cannot be held.",
            where="$.disparity.thresholds",
            mend="State the vendor's threshold or a target FMR.",
        )
    kept = None
    if journal is not None:
        kept = Journal(journal, {"templates": prepared.digest, "plan": context.seed.hex()})
    state = fold(
        [measure], tiles.partitions(prepared), context.engine,
        stage="comparing all pairs", rows=prepared.pairs, progress=context.progress, journal=kept,
    )[0]  # fmt: skip
    mated, nonmated = int(state["mated"].sum()), int(state["nonmated"].sum())
    found = surveyed(templates, float(edges[0]), float(edges[-1]), mated, nonmated)
    scheme = Scheme(groups.finest, groups.count, templates.codebook_digest)
    complete = pairs.complete_from(measure, state)
    if nonmated <= MOST_LISTED and not int(state["listed_more"][0]):
        complete = float("-inf")
    grid = {"nonmated": state["nonmated"], "mated": state["mated"]}

    def listed_between(asked_for: Measure) -> State:
        assert isinstance(asked_for, ScoresInRange)  # noqa: S101 - the only measure a threshold is refined with
        _within(asked_for.low, complete, found, len(state["listed_i"]))
        return _scores_in_range(asked_for, state, prepared)

    chosen = choose(section, found, groups, scheme, grid, edges, listed_between)
    chosen = [_settled(c, state, prepared, groups, found) for c in chosen]
    loose = loose_edge(grid, edges, groups.count)
    values = np.unique(np.array([c.value for c in chosen] + [loose], np.float32))
    values = values[values >= max(complete, float(edges[0]))]
    for c in chosen:
        _within(c.value, complete, found, len(state["listed_i"]))
    batches = [values[k : k + MOST_THRESHOLDS] for k in range(0, len(values), MOST_THRESHOLDS)]
    states = [_by_subject(measure, state, batch, templates.subjects) for batch in batches]
    operating = np.unique(np.array([c.value for c in chosen if c.what_if is None], np.float32))
    runs = [_run(measure, state, found), _exact_run(measure, state, operating, found)]

    def find(value: Any) -> AtThreshold:
        k = int(np.searchsorted(values, value))
        return AtThreshold(states[k // MOST_THRESHOLDS], k % MOST_THRESHOLDS)

    return Counted(
        survey=found,
        groups=groups,
        scheme=scheme,
        edges=edges,
        grid=grid,
        chosen=tuple(chosen),
        at=tuple(find(c.value) for c in chosen),
        loose=find(loose) if loose in values else None,
        listed=_listed(measure, state, operating, prepared) if len(operating) else None,
        listed_level=tuple(int(np.searchsorted(operating, c.value)) + 1 for c in chosen),
        not_listed="" if len(operating) else "no operating threshold was asked for",
        replicates=None,
        pairs=None,
        transactions=(),
        runs=tuple(runs),
        top=_top(state, prepared),
        symmetric=True,
    )


def _range(prepared: tiles.Prepared) -> tuple[float, float]:
    """All scores that can occur, with a little room for rounding."""
    top = prepared.largest_norm**2 * 1.0001
    if prepared.metric == "cosine":
        return -1.0, 1.0
    return (-4.0 * top, 0.0) if prepared.metric == "l2" else (-top, top)


def _list_from(prepared: tiles.Prepared, section: Section, asked: Sequence[float]) -> float | None:
    """The score from which pairs are listed, judged on evenly spaced templates.

    Low enough for every threshold that was asked for, with a margin, as far as the list can hold it.
    """
    if prepared.pairs <= MOST_LISTED:
        return _range(prepared)[0] - 1.0
    take = np.unique(np.linspace(0, prepared.n - 1, min(TRIAL, prepared.n)).astype(np.int64))
    rows = prepared.rows[take].astype(np.float64)
    scores = rows @ rows.T
    if prepared.metric == "l2":
        squares = np.square(rows).sum(axis=1)
        scores = 2.0 * scores - squares[:, None] - squares[None, :]
    other = prepared.subject[take][:, None] != prepared.subject[take][None, :]
    drawn = np.sort(scores[np.triu(other, 1)])
    if not len(drawn):
        return None
    shares = [USUAL_SHARE, *(1.25 * t.target for t in section.thresholds if t.target is not None)]
    shares += [1.25 * float((drawn >= value).mean()) for value in asked]
    share = min(max(shares), 0.75 * MOST_LISTED / prepared.pairs)
    return float(np.float32(drawn[max(0, int(len(drawn) * (1.0 - share)) - 1)]))


def _within(value: Any, complete: float, found: Survey, held: int) -> None:
    if not float(value) >= complete:
        raise PlanError(
            f"At threshold {found.sign * float(value):.6g} more pairs match than can be listed ({MOST_LISTED:,}); "
            f"the list reaches down to {found.sign * complete:.6g} with {held:,} pairs.",
            where="$.disparity.thresholds",
            mend="Ask for a stricter threshold or a lower target FMR, or audit fewer templates.",
        )


def _settled(chosen: Chosen, state: State, p: tiles.Prepared, groups: Groups, found: Survey) -> Chosen:
    """A threshold that was set on a listed float32 score, moved to that pair's float64 score where this lies just below.

    Counts at thresholds are by float64 scores, so the pair that the threshold stands on would else miss it by a rounding.
    Moved only if no more pairs of the cells it was set on match than by float32 scores.
    """
    if chosen.set_on is None:
        return chosen
    single = state["listed_score"].view(np.float32)
    close = np.flatnonzero(np.abs(single.astype(np.float64) - float(chosen.value)) <= 2.0 * tiles.fp32_bound(p))
    i, j = state["listed_i"][close], state["listed_j"][close]
    inside = chosen.set_on[p.group[i], p.group[j]]
    exact = tiles.rescore(p, i[inside], j[inside])
    own = exact[single[close][inside] == chosen.value]
    if not len(own):
        return chosen
    lower = np.float32(own.min())
    lower = lower if float(lower) <= float(own.min()) else np.nextafter(lower, np.float32(-np.inf))
    more = int((exact >= float(lower)).sum()) - int((single[close][inside] >= chosen.value).sum())
    if more > 0 or lower == chosen.value:
        return chosen
    return replace(chosen, value=lower, shown=float(found.sign * lower))


def _scores_in_range(asked: ScoresInRange, state: State, p: tiles.Prepared) -> State:
    """The listed scores of a bin, as a score file would have given them."""
    out = asked.zero()
    for name, mated in (("listed", 0), ("own", 1)):
        score = state[f"{name}_score"].view(np.float32)
        keep = np.flatnonzero((score >= asked.low) & (score < asked.high))
        part = {
            "score": state[f"{name}_score"][keep],
            "ref_group": p.group[state[f"{name}_i"][keep]].astype(np.int16),
            "probe_group": p.group[state[f"{name}_j"][keep]].astype(np.int16),
            "mated": np.full(len(keep), mated, np.uint8),
            "weight": np.ones(len(keep), np.int64),
        }
        out = asked.merge(out, part)
    return out


def _by_subject(measure: pairs.PairCounts, state: State, values: NDArray[np.float32], subjects: int) -> State:
    """Counts by subject and level, as `SubjectCounts` holds them, for every subject of the codebook."""
    nonmated, mated = pairs.by_subject(measure, state, values.astype(np.float64))
    return {"nonmated": levels_of(nonmated, subjects), "mated": levels_of(mated, subjects)}


def _top(state: State, p: tiles.Prepared) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The ten thousand highest non-mated scores and one more, by score and pair, with who is in them."""
    score = state["listed_score"].view(np.float32).astype(np.float64)
    order = np.argsort(-score, kind="stable")[: MOST_TAIL + 1]
    people = np.stack([p.subject[state[f"listed_{k}"][order]] for k in "ij"], axis=1)
    return score[order], people.astype(np.int64)


def _listed(measure: pairs.PairCounts, state: State, values: NDArray[np.float32], p: tiles.Prepared) -> State:
    matches = pairs.false_matches(measure, state, values.astype(np.float64))
    return {
        "ref": p.subject[matches["i"]],
        "probe": p.subject[matches["j"]],
        "level": matches["level"],
        "weight": np.ones(len(matches["i"]), np.int64),
    }


def _run(measure: pairs.PairCounts, state: State, found: Survey) -> Run:
    """The pass over all pairs: its digest holds for one BLAS library and processor kind, which are named."""
    blas = tiles.blas_in_use()
    return Run(
        measure=measure.name,
        version=measure.version,
        parameters={**measure.parameters(), "path": "float32", "blas": blas},
        state_digest=digest(measure, state),
        codebook_digest=found.codebook_digest,
    )


def _exact_run(measure: pairs.PairCounts, state: State, values: Sequence[Any] | NDArray[Any], found: Survey) -> Run:
    """The counts at the asked thresholds, pairs near them scored in float64: the same digest on every machine."""
    exact = pairs.recount_at(measure, state, np.asarray(values, np.float64))
    return Run(
        measure="all pairs at the asked thresholds",
        version="1",
        parameters={"thresholds": [float(v) for v in values], "rescored": "float64, fixed order"},
        state_digest=digest_arrays(exact),
        codebook_digest=found.codebook_digest,
    )
