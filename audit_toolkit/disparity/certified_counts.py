"""All pairs of templates at asked thresholds only, by 8-bit products that are certified to count what exact ones would.

Used where a plan wants no curves, states its thresholds, and a short trial on the machine says that it is faster; the record
names the way that was taken. Counts at the thresholds are the same either way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import certified, pairs
from audit_toolkit.core.fold import digest_arrays
from audit_toolkit.core.int8 import Quantised
from audit_toolkit.core.tiles import Prepared
from audit_toolkit.disparity.counting import AtThreshold, Counted
from audit_toolkit.disparity.groups import Groups
from audit_toolkit.disparity.measures import Scheme
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.thresholds import Chosen
from audit_toolkit.engines.context import Context
from audit_toolkit.engines.local import available_threads
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.record import Run
from audit_toolkit.sources.survey import Survey


def may_be_certified(section: Section) -> bool:
    """Whether the plan asks for nothing but counts at stated thresholds of a metric that 8-bit products can bound."""
    return (
        not section.curves
        and section.metric in ("cosine", "inner")
        and all(t.policy == "vendor" for t in section.thresholds)
    )


def levels_of(reaching: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    """Counts of "all" and "at or above threshold t" -> counts by level, filled up to ``first`` entries on the first axis."""
    levels = reaching.copy()
    levels[..., :-1] -= reaching[..., 1:]
    missing = first - len(levels)
    return np.pad(levels, [(0, missing), *[(0, 0)] * (levels.ndim - 1)]) if missing else levels


def count_certified(
    section: Section,
    found: Survey,
    context: Context,
    groups: Groups,
    prepared: Prepared,
    quantised: Quantised,
    values: NDArray[np.float32],
    path: certified.ScoringPath,
) -> Counted:
    """Count at ``values`` (ascending); raises `PlanError` where more pairs match than can be listed."""
    asked = values.astype(np.float64)
    above = certified.count_above(quantised, asked, workers=available_threads(), most_listed=certified.MOST_LISTED)
    if above.overflow:
        raise PlanError(
            f"At the lowest threshold {above.overflow:,} pairs match, more than can be listed ({certified.MOST_LISTED:,}).",
            where="$.disparity.thresholds",
            mend="Ask for a stricter threshold, or audit fewer templates.",
        )
    matches = above.matches()
    nonmated, mated = pairs.by_subject_of(prepared, matches, asked)
    state = {"nonmated": levels_of(nonmated, found.subjects), "mated": levels_of(mated, found.subjects)}
    grid = {"nonmated": levels_of(above.nonmated, groups.count), "mated": levels_of(above.mated, groups.count)}
    chosen = tuple(
        Chosen(np.float32(t.value), float(t.value or 0.0), "stated by the vendor or the plan")
        for t in section.thresholds
    )

    def at(value: Any) -> int:
        return int(np.searchsorted(values, value))

    run = Run(
        measure="all pairs at the asked thresholds",
        version="1",
        parameters={
            "thresholds": [float(v) for v in values],
            "rescored": "float64, fixed order",
            "path": path.name,
            "why": path.reason,
        },
        state_digest=digest_arrays(above.counts()),
        codebook_digest=found.codebook_digest,
    )
    return Counted(
        survey=found,
        groups=groups,
        scheme=Scheme(groups.finest, groups.count, found.codebook_digest),
        edges=values,
        grid=grid,
        chosen=chosen,
        at=tuple(AtThreshold(state, at(c.value)) for c in chosen),
        loose=None,
        listed={
            "ref": prepared.subject[matches["i"]],
            "probe": prepared.subject[matches["j"]],
            "level": matches["level"],
            "weight": np.ones(len(matches["i"]), np.int64),
        },
        listed_level=tuple(at(c.value) + 1 for c in chosen),
        not_listed="",
        replicates=None,
        pairs=None,
        transactions=(),
        runs=(run,),
        symmetric=True,
    )
