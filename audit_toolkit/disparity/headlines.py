"""The few sentences an audit is read for: what was measured, how sure it is, and what cannot be said.

Every sentence is made from estimates that stand in the record. Where support is thin the sentence says so first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit_toolkit.disparity.equal import EqualityResult
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated
from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.finding import Finding, Method
from audit_toolkit.evidence.quantities import get
from audit_toolkit.evidence.words import bounds, claim, number, threshold_phrase

_NAMES = {"fmr": ("false match rate", "false matches"), "fnmr": ("false non-match rate", "false non-matches")}


def overall_headlines(estimates: Sequence[Estimate], method: Method) -> list[Finding]:
    """FMR and FNMR over everybody at each threshold, and what a file without false non-matches can say about groups."""
    fnmr = [e for e in estimates if e.quantity == "fnmr" and e.value is not None]
    silent = []
    if fnmr and not any(e.numerator for e in fnmr):
        silent.append(
            Finding(
                id="no-false-non-match",
                claim=f"No false non-match was seen at any threshold, in {number(fnmr[0].denominator)} mated comparisons. "
                "Differences between groups in the false non-match rate cannot be assessed from this file; "
                f"the rate over everybody may be up to {number(_high(fnmr))}.",
                estimates=tuple(fnmr),
                method=method,
                limits=(get("fnmr").limits,),
            )
        )
    return [
        Finding(
            id=f"overall-{e.quantity}-{k}",
            claim=claim(e),
            estimates=(e,),
            method=method,
            limits=(get(e.quantity).limits,),
        )
        for k, e in enumerate(e for e in estimates if e.quantity == "fmr" or (e.quantity == "fnmr" and not silent))
    ] + silent


def _high(estimates: Sequence[Estimate]) -> float | None:
    highs = [e.interval.high for e in estimates if e.interval is not None]
    return None if None in highs or not highs else max(h for h in highs if h is not None)


def axis_headlines(
    rated: Rated, estimates: Sequence[Estimate], equal: Mapping[str, EqualityResult], section: Section, method: Method
) -> list[Finding]:
    """One finding per rate: highest and lowest group, the test of equality, and what the file could and could not show."""
    found = []
    for rate in ("fmr", "fnmr"):
        rates = [e for e in estimates if e.quantity == rate and e.value is not None]
        if len(rates) < 2 or (rate == "fnmr" and not any(e.numerator for e in rates)):
            continue
        ratios = [e for e in estimates if e.quantity == f"{rate}_ratio"]
        thin = _thin(rates, section)
        sentences = [*thin, _extremes(rated, rate, rates), *_equality(equal[rate], section, bool(thin))]
        sentences += _detectable(rate, estimates, equal[rate], section)
        kept = tuple(rates) + tuple(ratios)
        found.append(
            Finding(
                id=f"{rate}-{rated.axis.name.replace(' ', '-')}-{rated.chosen.shown:.6g}",
                claim=" ".join(sentences),
                estimates=kept,
                method=method,
                limits=("This does not show why rates differ, nor that other thresholds behave alike.",),
            )
        )
    return found


def _extremes(rated: Rated, rate: str, rates: Sequence[Estimate]) -> str:
    name, errors = _NAMES[rate]
    high = max(rates, key=lambda e: e.value or 0.0)
    low = min(rates, key=lambda e: e.value or 0.0)
    where = f"{threshold_phrase(high)}, by {rated.axis.name}"
    if high.value == low.value:
        return (
            f"{where}: the {name} was {number(high.value)} in all {len(rates)} groups with comparisons "
            f"({number(sum(e.numerator or 0 for e in rates))} {errors})."
        )
    parts = [
        f"{word} in {' & '.join(e.of.values())}, {number(e.value)} ({e.interval.level * 100:.4g} % interval "
        f"{bounds(e.interval)}; {number(e.numerator)} of {number(e.denominator)}, {number(e.support.subjects)} people)"
        for word, e in (("highest", high), ("lowest", low))
        if e.interval is not None and e.support is not None
    ]
    return f"{where}: the {name} was {' and '.join(parts)}."


def _equality(result: EqualityResult, section: Section, thin: bool) -> list[str]:
    p = result.p_value
    if p is None:
        why = result.reason or (result.test.undefined if result.test is not None else None) or "it could not be made"
        return [f"Whether the groups' true rates could be equal was not assessed: {why}."]
    shown = "less than 0.001" if p < 0.001 else number(round(p, 3))
    level = 1.0 - section.uncertainty.level
    if p <= level and thin:
        return [
            f"The test of equal true rates in all groups gave p = {shown} (over people); with so few people in some groups "
            "this is a reason to look closer, not a conclusion."
        ]
    if p <= level:
        return [
            f"Equal true rates in all groups are hard to reconcile with these scores (test over people, p = {shown})."
        ]
    return [f"These scores are consistent with equal true rates in all groups (test over people, p = {shown})."]


def _detectable(rate: str, estimates: Sequence[Estimate], result: EqualityResult, section: Section) -> list[str]:
    p = result.p_value
    if p is not None and p <= 1.0 - section.uncertainty.level:
        return []
    able = [
        e.value
        for e in estimates
        if e.quantity == "minimum_detectable_ratio" and e.at.get("rate") == rate and e.value is not None
    ]
    if not able:
        return ["With so few errors, no difference of any stated size could have been detected reliably."]
    best, worst = min(able), max(able)
    span = f"at least {number(best)}" if len(able) == 1 else f"at least {number(best)} to {number(worst)}, by group"
    return [
        "That is not evidence of equality: with 80 % power this file could only have shown a ratio to the reference "
        f"group of {span}."
    ]


def _thin(rates: Sequence[Estimate], section: Section) -> list[str]:
    rule = section.support
    few = [e for e in rates if e.support is not None and e.support.subjects < rule.min_subjects]
    if not few:
        return []
    names = ", ".join(f"{' & '.join(e.of.values())} ({e.support.subjects})" for e in few if e.support is not None)
    return [f"Insufficient evidence about groups of fewer than {rule.min_subjects} people: {names}."]
