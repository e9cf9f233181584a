"""The verification audit from end to end: survey, count, estimate, test, and say what was found.

`assess` is what a plan's disparity section means. It divides nothing that it has not counted, and it states nothing that it
has not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from audit_toolkit.core.fold import seed
from audit_toolkit.disparity.adjustment import adjusted_estimates
from audit_toolkit.disparity.chain import chain_estimates, overall_estimates
from audit_toolkit.disparity.counting import Counted, count
from audit_toolkit.disparity.curves import area_under_fdr, det_curves, score_histograms, score_shift
from audit_toolkit.disparity.equal import EqualityResult, equality_estimates, test_equality
from audit_toolkit.disparity.estimates import rate_estimates, ratio_estimates
from audit_toolkit.disparity.headlines import axis_headlines, overall_headlines
from audit_toolkit.disparity.matrix import cross_matrix
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated, rate_axis
from audit_toolkit.disparity.summary import combined_estimates, make_family, spread_estimates
from audit_toolkit.disparity.templates import count_templates
from audit_toolkit.engines.context import Context
from audit_toolkit.errors import InputError
from audit_toolkit.evidence.assessment import Assessment
from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.finding import Finding, Method
from audit_toolkit.evidence.record import Input
from audit_toolkit.evidence.series import Series
from audit_toolkit.sources.embeddings import Templates
from audit_toolkit.sources.options import SurveyOptions
from audit_toolkit.sources.survey import Survey, survey
from audit_toolkit.sources.table import ScoreSource

LARGEST_SCORE = 1e30
"""No score lies beyond this: squares of much larger ones are no numbers any more."""

METHOD = Method(
    name="verification error rates by group",
    version="1",
    reference="ISO/IEC 19795-1:2021 and ISO/IEC 19795-10:2024 in scope; intervals: delete-one-subject jackknife on the logit "
    "scale with Satterthwaite's degrees of freedom",
    assumptions=(
        "people were sampled independently of each other within their group",
        "comparisons that share no person are independent",
    ),
)


@dataclass(slots=True)
class _Found:
    estimates: list[Estimate] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    headlines: list[Finding] = field(default_factory=list)


def assess(section: Section, source: ScoreSource | Templates, context: Context) -> Assessment:
    """Carry out the disparity section on a source of comparisons, or on templates, all pairs of which are compared.

    Raises `InputError` for data that cannot be read as comparisons, `PlanError` for thresholds or groups that cannot be.
    """
    if isinstance(source, Templates):
        return _report(section, count_templates(section, source, context, context.journal), context)
    options = SurveyOptions(
        higher_is=section.higher_is,
        failure_scores=section.failure_scores,
        labels=tuple((name, a.labels) for name, a in section.attributes.items() if a.labels),
        chunk_rows=context.chunk_rows,
        memory_rows=context.memory_rows,
    )
    surveyed = survey(source, options, context.progress)
    if max(abs(surveyed.low), abs(surveyed.high)) > LARGEST_SCORE:
        raise InputError(
            f"Scores reach beyond {LARGEST_SCORE:g}, where no grid can be laid.",
            where=surveyed.name,
            mend="If such a score means that no comparison was possible, declare it in failure_scores.",
        )
    counted = count(section, surveyed, context)
    return _report(section, counted, context)


def _report(section: Section, counted: Counted, context: Context) -> Assessment:
    surveyed = counted.survey
    found = _Found()
    found.estimates += overall_estimates(counted, section)
    if section.curves:
        found.series += score_histograms(counted)
    found.headlines += overall_headlines(found.estimates, METHOD)
    for axis in counted.groups.axes:
        for n, chosen in enumerate(counted.chosen):
            if chosen.what_if is not None and chosen.what_if[0] != axis.name:
                continue
            rated = rate_axis(counted, axis, n, section.scope)
            if chosen.what_if is None:
                _operating(found, counted, rated, n, section, context)
            else:
                _what_if(found, rated, chosen.what_if[1], section)
        if section.curves:
            found.series += det_curves(counted, axis, section)
            found.estimates += score_shift(counted, axis, section)
            found.estimates += area_under_fdr(counted, axis, section)
    return Assessment(
        estimates=tuple(found.estimates),
        headlines=tuple(found.headlines),
        series=tuple(found.series),
        runs=counted.runs,
        inputs=(_input(surveyed),),
        method=METHOD,
        limits=_limits(section, surveyed),
    )


def _operating(found: _Found, counted: Counted, rated: Rated, n: int, section: Section, context: Context) -> None:
    """Everything about one axis at one operating threshold."""
    axis = rated.axis
    equal: dict[str, EqualityResult] = {}
    new: list[Estimate] = []
    for rate in ("fmr", "fnmr"):
        new += rate_estimates(rated, rate, section)
        root = seed(context.seed, "equality", axis.name, n, rate)
        equal[rate] = test_equality(counted, rated, n, rate, section, root)
        new += equality_estimates(rated, rate, equal[rate], section)
        new += ratio_estimates(rated, rate, section)
        new += adjusted_estimates(counted, rated, rate, section, context)
    new += chain_estimates(counted, rated, n, section)
    root = seed(context.seed, "chance", axis.name, n)
    family = make_family(rated, section, {rate: e.p_value for rate, e in equal.items()}, root)
    if family is not None:
        for rate in ("fmr", "fnmr"):
            new += spread_estimates(family, rate)
        new += combined_estimates(family)
    found.estimates += new
    found.series += [m for m in (cross_matrix(rated, section, symmetric=counted.symmetric),) if m is not None]
    found.headlines += axis_headlines(rated, new, equal, section, METHOD)


def _what_if(found: _Found, rated: Rated, k: int, section: Section) -> None:
    """One group at its own threshold: its two rates, under a name that says it is a what-if."""
    for rate in ("fmr", "fnmr"):
        found.estimates.append(rate_estimates(rated, rate, section)[k])


def _input(surveyed: Survey) -> Input:
    return Input(
        name=surveyed.name,
        sha256=surveyed.sha256,
        format=surveyed.format,
        rows_read=surveyed.rows_read,
        rows_used=surveyed.rows_used,
        exclusions=surveyed.exclusions,
        warnings=surveyed.warnings,
    )


def _limits(section: Section, surveyed: Survey) -> tuple[str, ...]:
    limits = []
    if not surveyed.has_failures:
        limits.append(
            "The file states no failures to enrol or to acquire; if they were removed before scoring, they cannot be seen."
        )
    if section.impostor_selection == "not provided":
        limits.append("How the non-mated pairs were chosen is not provided; the false match rate depends on it.")
    if section.days_between_mated_captures.startswith("not provided"):
        limits.append("The time between mated captures is not provided; the false non-match rate depends on it.")
    people = np.count_nonzero((surveyed.subject_labels >= 0).all(axis=1))
    limits.append(f"{people:,} people with labels stand behind all figures together.")
    return tuple(limits)
