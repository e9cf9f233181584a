"""The identification audit from end to end: search (or read what was returned), count, estimate, and say what was found.

`assess` is what a plan's identification section means, for templates, candidate lists and alert logs alike. Investigation (no
threshold) is always measured; everything about alerts needs a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.identification.alerts import BIASED, NO_MISSES, alert_axes, log_estimates, log_run
from audit_toolkit.disparity.identification.curves import (
    cmc_curves,
    composition,
    growth_curves,
    mistaken_for,
    trade_off,
)
from audit_toolkit.disparity.identification.estimates import (
    INDIFFERENT,
    RESAMPLED,
    Operating,
    alerts,
    hit_rates,
    rates,
    selectivity,
)
from audit_toolkit.disparity.identification.groups import search_axes
from audit_toolkit.disparity.identification.lists import search_lists
from audit_toolkit.disparity.identification.plan import Section
from audit_toolkit.disparity.identification.searches import Searches, TemplateSearch, search_templates
from audit_toolkit.disparity.identification.what_if import common, equalised
from audit_toolkit.disparity.plan import axis_name
from audit_toolkit.engines.context import Context
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.assessment import Assessment
from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.finding import Finding, Method
from audit_toolkit.evidence.quantities import get
from audit_toolkit.evidence.series import Series
from audit_toolkit.evidence.words import bounds, claim, number, threshold_phrase
from audit_toolkit.sources.alerts import AlertLog
from audit_toolkit.sources.searches import CandidateLists

SearchSource = TemplateSearch | CandidateLists | AlertLog

METHOD = Method(
    name="identification error rates by group",
    version="1",
    reference="ISO/IEC 19795-1:2021 and the NIST FRVT 1:N reports; intervals: delete-one jackknife over the people searched for "
    "and, beside it, over the people enrolled, variances added, on the logit scale with Satterthwaite's degrees of freedom",
    assumptions=(
        "people searched for were sampled independently of each other within their group",
        "where the gallery is resampled: people enrolled were sampled independently of each other, and those who resemble "
        "many others are not so rare that this gallery happens to hold none of them",
        "searches that share neither the person searched for nor a candidate are independent",
    ),
)


@dataclass(slots=True)
class _Found:
    estimates: list[Estimate] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    headlines: list[Finding] = field(default_factory=list)


def assess(section: Section, source: SearchSource, context: Context) -> Assessment:
    """Carry out the identification section on templates, candidate lists or an alert log.

    Raises `InputError` for data that cannot be read as searches, and `PlanError` for thresholds that cannot be.
    """
    if isinstance(source, AlertLog):
        return _assess_log(section, source, context)
    vendor = sorted({section.sign * t.value for t in section.thresholds if t.value is not None})
    kept = max(section.ranks)
    if isinstance(source, TemplateSearch):
        searches = search_templates(source, vendor, kept, context, growth=section.growth)
    else:
        searches = search_lists(source, kept, growth=section.growth)
    if searches.thresholds_known is not None and section.thresholds:
        raise PlanError(
            f"Thresholds cannot be applied: {searches.thresholds_known}.",
            where="$.identification.thresholds",
            mend="Leave them out, or give lists with scores.",
        )
    axes = search_axes(section, searches, context.min_people)
    thresholds, needs = _operating(section, searches)
    if thresholds and isinstance(source, TemplateSearch):
        searches.above([o.value for o in thresholds])  # one pass for all of them
    found = _Found()
    for operating in thresholds:
        _overall(found, searches, operating, section)
    for axis in axes:
        _axis(found, searches, axis, thresholds, section)
        for asked in section.thresholds:
            if (
                asked.policy == "fpir_per_group"
                and asked.axis == axis_name(axis.attributes)
                and asked.target is not None
            ):
                found.estimates += equalised(searches, axis, asked.target, section)
    return Assessment(
        estimates=tuple(found.estimates),
        headlines=tuple(found.headlines),
        series=tuple(found.series),
        runs=searches.runs,
        inputs=searches.inputs,
        method=METHOD,
        limits=(*needs, *_limits(section, searches)),
    )


def _operating(section: Section, searches: Searches) -> tuple[list[Operating], list[str]]:
    found, limits = [], []
    for asked in section.thresholds:
        if asked.policy == "vendor" and asked.value is not None:
            found.append(Operating(section.sign * float(asked.value), "vendor's value", sign=section.sign))
        elif asked.policy == "fpir" and asked.target is not None:
            made = common(searches, asked.target)
            why = "there are no non-mated searches" if made is None else searches.fpir_unknown(made.value)
            if made is not None and abs(made.value) >= 1e300:
                why = "any threshold keeps it"
            if made is None or why is not None:
                limits.append(f"No threshold was set for an FPIR of at most {asked.target:g}: {why}.")
            else:
                found.append(replace(made, sign=section.sign))
    return found, limits


def _overall(found: _Found, searches: Searches, operating: Operating, section: Section) -> None:
    new = rates(searches, None, "fpir", None, operating, section)
    new += rates(searches, None, "fnir", None, operating, section)
    new += selectivity(searches, None, operating, section)
    found.estimates += new
    found.headlines += [
        Finding(
            id=f"overall-{e.quantity}-{operating.value:.6g}",
            claim=claim(e),
            estimates=(e,),
            method=METHOD,
            limits=(get(e.quantity).limits,),
        )
        for e in new
        if e.quantity in ("fpir", "fnir") and e.at.get("gallery") in (RESAMPLED, INDIFFERENT)
    ]


def _axis(found: _Found, searches: Searches, axis: Axis, thresholds: list[Operating], section: Section) -> None:
    for rank in section.ranks:
        found.estimates += rates(searches, axis, "fnir", rank, None, section)
    found.series += composition(searches, axis)
    found.series += cmc_curves(searches, axis, section)
    for operating in thresholds:
        new = rates(searches, axis, "fpir", None, operating, section)
        new += rates(searches, axis, "fnir", None, operating, section)
        new += hit_rates(new)
        found.headlines += _extremes(axis, new, operating)
        for rank in section.ranks:
            new += rates(searches, axis, "fnir", rank, operating, section)
        new += selectivity(searches, axis, operating, section)
        new += alerts(searches, axis, operating, section)
        found.estimates += new
        found.series += mistaken_for(searches, axis, operating)
        if section.growth:
            found.series += growth_curves(searches, axis, operating, section)
    found.series += trade_off(searches, axis, section)


def _extremes(axis: Axis, new: list[Estimate], operating: Operating) -> list[Finding]:
    """Highest and lowest group, with the interval for all groups at once, for the two rates."""
    found = []
    for rate, what in (("fpir", "false positive"), ("fnir", "false negative")):
        about = [e for e in new if e.quantity == rate and e.at.get("gallery") in (RESAMPLED, INDIFFERENT)]
        known = [e for e in about if e.value is not None]
        if len(known) < 2:
            continue
        high, low = max(known, key=lambda e: e.value or 0.0), min(known, key=lambda e: e.value or 0.0)
        parts = [
            f"{word} in {' & '.join(e.of.values())}, {number(e.value)} (interval for all groups at once"
            f"{', gallery resampled,' if e.at['gallery'] == RESAMPLED else ''} "
            f"{bounds(e.decisive)}; {number(e.numerator)} of {number(e.denominator)} searches, "
            f"{number(e.support.subjects)} people)"
            for word, e in (("highest", high), ("lowest", low))
            if e.support is not None
        ]
        thin = [e for e in known if e.notes]
        first = "Insufficient evidence about some groups: too few people. " if thin else ""
        claimed = f"{first}{threshold_phrase(high)}, by {axis.name}: the {what} identification rate was {' and '.join(parts)}."
        if high.value == low.value:
            claimed = (
                f"{first}{threshold_phrase(high)}, by {axis.name}: the {what} identification rate was {number(high.value)} in "
                f"all {len(known)} groups with such searches."
            )
        found.append(
            Finding(
                id=f"{rate}-{axis.name.replace(' ', '-')}-{operating.value:.6g}",
                claim=claimed,
                estimates=(
                    *known,
                    *(e for e in new if e.quantity == f"{rate}_ratio" and e.at["gallery"] != "held fixed"),
                ),
                method=METHOD,
                limits=("This does not show why rates differ, nor that other thresholds or galleries behave alike.",),
            )
        )
    return found


def _limits(section: Section, searches: Searches) -> list[str]:
    limits = [
        *searches.warnings,
        f"{int(searches.mated.sum()):,} mated and {int((~searches.mated).sum()):,} non-mated searches of "
        f"{len(set(searches.subject.tolist())):,} people against {len(searches.enrolled):,} people enrolled"
        + ("." if searches.gallery_known else " as far as they were ever listed."),
    ]
    unlabelled = int((searches.subject_labels[searches.subject] < 0).any(axis=1).sum())
    if unlabelled:
        limits.append(f"{unlabelled:,} searches for people without a label stand only in figures over everybody.")
    if not searches.mated.any():
        limits.append("The gallery holds nobody who was searched for: FNIR and CMC are undefined.")
    if searches.mated.all():
        limits.append("Everybody searched for is enrolled: FPIR is undefined.")
    if section.gallery_selection == "not provided":
        limits.append("How the gallery was chosen is not provided; FPIR depends on who is enrolled.")
    if section.days_between_mated_captures.startswith("not provided"):
        limits.append("The time between enrolment and mated probes is not provided; FNIR depends on it.")
    return limits


def _assess_log(section: Section, log: AlertLog, context: Context) -> Assessment:
    axes = alert_axes(log, section, context)
    estimates = [e for axis in axes for e in log_estimates(log, axis, section)]
    judged = int((log.verdict >= 0).sum())
    wrong = int((log.verdict == 0).sum())
    text = f"The log holds {len(log.entry):,} alerts, of which {judged:,} were adjudicated and {wrong:,} of these as wrong."
    limits = [f"{NO_MISSES[0].upper()}{NO_MISSES[1:]}; FNIR is not assessed."]
    if judged < len(log.entry):
        limits.append(f"Rates over adjudicated alerts are {BIASED}.")
    return Assessment(
        estimates=tuple(estimates),
        headlines=(Finding(id="alerts", claim=text, method=METHOD, limits=tuple(limits)),),
        runs=(log_run(log),),
        inputs=log.inputs,
        method=METHOD,
        limits=tuple(limits),
    )
