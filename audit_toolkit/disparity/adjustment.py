"""The gap between groups at equal covariates: camera, quality, age, time lapse, wherever the file has such a column.

Shown beside the raw gap, never in its place: a covariate that itself follows from group membership can hide a difference.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from audit_toolkit.core.fold import State
from audit_toolkit.disparity.counting import Counted
from audit_toolkit.disparity.estimates import place
from audit_toolkit.disparity.measures import Scheme, StratumCounts
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated
from audit_toolkit.engines.context import Context
from audit_toolkit.engines.fold import fold
from audit_toolkit.evidence.estimate import At, Estimate, Support
from audit_toolkit.stats.adjusted import Adjusted, mantel_haenszel, odds_ratios


def adjusted_estimates(
    counted: Counted, rated: Rated, rate: str, section: Section, context: Context, cache: dict[str, State] | None = None
) -> list[Estimate]:
    """Mantel-Haenszel ratio and adjusted odds ratio of every shown group to the reference, for each covariate.

    Within-group comparisons only. ``cache`` keeps the counts of a covariate between the two rates.
    """
    axis, survey = rated.axis, counted.survey
    if axis.reference is None or section.scope != "within-group":
        return []
    found = []
    for name, labels in zip(survey.covariates, survey.covariate_labels, strict=True):
        state = _counts(counted, rated, name, len(labels), context, cache)
        cells = state["cells"][0 if rate == "fmr" else 1]
        people = state["nonmated" if rate == "fmr" else "mated"]
        shown = np.full(len(axis.labels), -1, np.int64)
        shown[list(axis.shown)] = np.arange(len(axis.shown))
        group = np.where(axis.of_subject >= 0, shown[axis.of_subject], -1)
        cells = cells[list(axis.shown)]
        reference = axis.shown.index(axis.reference)
        level = section.uncertainty.level
        at: dict[str, At] = {
            **place(rated.chosen),
            "rate": rate,
            "against": axis.label(axis.reference),
            "covariate": name,
        }
        by_regression = odds_ratios(cells, people, group, reference, level)
        for position, k in enumerate(axis.shown):
            if k == axis.reference:
                continue
            ratio = mantel_haenszel(cells, people, group, position, reference, level)
            held = Support(
                comparisons=int(cells[[position, reference], :, 0].sum()),
                subjects=int(min(axis.people[k], axis.people[axis.reference])),
                errors=int(cells[[position, reference], :, 1].sum(axis=1).min()),
            )
            found.append(_estimate("mantel_haenszel_ratio", ratio, axis.of(k), at, held))
            found.append(_estimate("logistic_odds_ratio", by_regression[position], axis.of(k), at, held))
    return found


def _estimate(quantity: str, result: Adjusted, of: dict[str, str], at: dict[str, At], held: Support) -> Estimate:
    return Estimate(
        quantity=quantity,
        of=of,
        at={**at, "classes": result.classes},
        value=result.value,
        interval=result.interval,
        support=held,
        undefined=None if result.value is not None else result.undefined or "undefined",
    )


def _counts(
    counted: Counted, rated: Rated, name: str, classes: int, context: Context, cache: dict[str, State] | None
) -> State:
    if cache is not None and name in cache:
        return cache[name]
    scheme = replace(counted.scheme, group=rated.axis.of_subject, groups=len(rated.axis.labels))
    scheme = Scheme(scheme.group, scheme.groups, scheme.codebook)
    measure = StratumCounts(scheme, name, classes, rated.chosen.value)
    rows = counted.survey.rows
    stage = f"comparing within {name}"
    state = fold([measure], rows.partitions, context.engine, stage=stage, rows=rows.n, progress=context.progress)[0]
    if cache is not None:
        cache[name] = state
    return state
