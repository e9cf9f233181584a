"""Rates and ratios as estimates: value, counts, intervals alone and at once, support, and a reason where undefined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audit_toolkit.disparity.counting import Counted
from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated
from audit_toolkit.disparity.rates import Bools, attempt_sample, one
from audit_toolkit.disparity.thresholds import Chosen
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.estimate import At, Estimate, Interval, Support
from audit_toolkit.stats.contrast import log_ratio, ratio_interval
from audit_toolkit.stats.dependence import RateSample, design_effect
from audit_toolkit.stats.equivalence import tost_ratio
from audit_toolkit.stats.intervals import DEFAULT, INTERVALS, bonferroni, interval, simultaneous
from audit_toolkit.stats.multiplicity import benjamini_hochberg, holm
from audit_toolkit.stats.power import minimum_detectable_ratio

_EMPTY = {
    "fmr": "no non-mated comparisons in this group",
    "fnmr": "no mated comparisons in this group",
    "fte": "no enrolment attempts in this group",
    "fta": "no acquisition attempts in this group",
    "far": "no impostor transactions in this group",
    "frr": "no genuine transactions in this group",
}


def place(chosen: Chosen) -> dict[str, At]:
    """Where an estimate at this threshold was taken."""
    where: dict[str, At] = {"threshold": chosen.shown, "policy": chosen.policy}
    return where if chosen.what_if is None else {**where, "what_if": "a threshold of its own for each group"}


def support(sample: RateSample) -> Support:
    """What stands behind a sample."""
    return Support(comparisons=sample.comparisons, subjects=len(sample.delta), errors=sample.errors)


def rate_estimates(rated: Rated, rate: str, section: Section) -> list[Estimate]:
    """The rate of every group of the axis: interval alone, and at once over the groups that are shown."""
    axis, level = rated.axis, section.uncertainty.level
    samples = _for_intervals(rated, rate, section)
    shown = [k for k in axis.shown if samples[k].comparisons]
    methods = {method_for(samples[k], section) for k in shown}
    method = methods.pop() if len(methods) == 1 else DEFAULT
    family = simultaneous([samples[k] for k in shown], level, method) if len(shown) > 1 else []
    together = dict(zip(shown, family, strict=False))
    return [
        _rate(
            rate,
            rated.fixed(rate)[k],
            samples[k],
            axis.of(k),
            place(rated.chosen),
            section,
            together.get(k),
            axis.withheld[k],
        )
        for k in range(len(axis.labels))
    ]


def _for_intervals(rated: Rated, rate: str, section: Section) -> Sequence[RateSample]:
    """With the threshold's own uncertainty where the method can carry it; the replicate and pair methods hold it fixed."""
    return rated.set_on_data(rate) if section.uncertainty.method == "logit-jackknife" else rated.fixed(rate)


def method_for(sample: RateSample, section: Section) -> str:
    """The plan's interval method, or the default where this sample does not hold what that method needs.

    Replicates and pairs are counted for comparisons at operating thresholds only; the interval names its method.
    """
    asked = section.uncertainty.method
    if asked not in INTERVALS:
        known = ", ".join(INTERVALS)
        raise PlanError(
            "This interval method is not known.", where="$.disparity.uncertainty.method", mend=f"Known: {known}."
        )
    lacking = (asked == "logit-double-or-nothing" and sample.replicates is None) or (
        "ustat" in asked and sample.pair_square is None
    )
    return DEFAULT if lacking else asked


def _rate(
    rate: str,
    fixed: RateSample,
    sample: RateSample,
    of: dict[str, str],
    at: dict[str, At],
    section: Section,
    together: Interval | None = None,
    withheld: str | None = None,
) -> Estimate:
    if withheld is not None:
        return Estimate(quantity=rate, of=of, at=at, undefined=withheld)
    if not fixed.comparisons:
        return Estimate(quantity=rate, of=of, at=at, undefined=_EMPTY[rate], support=support(fixed))
    notes = []
    if support(fixed).subjects < section.support.min_subjects:
        notes.append(f"insufficient evidence: fewer than {section.support.min_subjects} people")
    return Estimate(
        quantity=rate,
        of=of,
        at=at,
        value=fixed.errors / fixed.comparisons,
        interval=interval(sample, section.uncertainty.level, method_for(sample, section)),
        simultaneous=together,
        numerator=fixed.errors,
        denominator=fixed.comparisons,
        support=support(fixed),
        notes=tuple(notes),
    )


def single(
    rate: str, sample: RateSample, at: dict[str, At], section: Section, of: dict[str, str] | None = None
) -> Estimate:
    """One rate by itself, for everybody or one group."""
    return _rate(rate, sample, sample, of or {}, at, section)


def ratio_estimates(rated: Rated, rate: str, section: Section) -> list[Estimate]:
    """Every shown group against the reference group: ratio, adjusted p-values, smallest ratio excluded, detectable ratio."""
    axis, level = rated.axis, section.uncertainty.level
    base = axis.reference
    others = [k for k in axis.shown if k != base]
    if base is None or not others:
        return []
    samples = _for_intervals(rated, rate, section)
    each = bonferroni(level, len(others))
    found: list[Estimate] = []
    tests: list[tuple[int, float]] = []
    for k in others:
        a, b = samples[k], samples[base]
        at = {
            **place(rated.chosen),
            "against": axis.label(base),
            "errors": a.errors,
            "errors_against": b.errors,
        }
        of = axis.of(k)
        held = Support(
            comparisons=a.comparisons + b.comparisons,
            subjects=min(support(rated.fixed(rate)[k]).subjects, support(rated.fixed(rate)[base]).subjects),
            errors=min(a.errors, b.errors),
        )
        reason = _ratio_undefined(a, b, axis.label(base))
        found.append(
            Estimate(
                quantity=f"{rate}_ratio",
                of=of,
                at=at,
                value=None if reason else (a.errors / a.comparisons) / (b.errors / b.comparisons),
                interval=ratio_interval(a, b, level) if a.comparisons and b.comparisons else None,
                simultaneous=_ratio_at(a, b, each, level) if a.comparisons and b.comparisons else None,
                support=held,
                notes=_thin(held, section),
                undefined=reason,
            )
        )
        fit = log_ratio(a, b)
        if fit is not None:
            tests.append((k, _two_sided(*fit)))
        found += _beside(rate, a, b, of, at, level, held)
    found += _p_values(rated, rate, axis, base, tests)
    return found


def _ratio_at(a: RateSample, b: RateSample, each: float, level: float) -> Interval:
    made = ratio_interval(a, b, each)
    return Interval(low=made.low, high=made.high, level=level, method=f"{made.method}; all ratios at once (Bonferroni)")


def _ratio_undefined(a: RateSample, b: RateSample, base: str) -> str | None:
    if not a.comparisons or not b.comparisons:
        return "no comparisons in one of the two groups"
    if not b.errors:
        return "no errors in the group it is held against"
    return None


def _thin(held: Support, section: Section) -> tuple[str, ...]:
    rule = section.support
    notes = []
    if held.subjects < rule.min_subjects:
        notes.append(f"insufficient evidence: fewer than {rule.min_subjects} people in one of the two groups")
    if (held.errors or 0) < rule.min_errors:
        notes.append(f"insufficient evidence: fewer than {rule.min_errors} errors in one of the two groups")
    return tuple(notes)


def _two_sided(centre: float, error: float, df: float) -> float:
    from scipy.special import stdtr

    if error <= 0.0:
        return 1.0 if centre == 0.0 else 0.0
    return float(2.0 * stdtr(df, -abs(centre) / error))


def _beside(
    rate: str, a: RateSample, b: RateSample, of: dict[str, str], at: dict[str, At], level: float, held: Support
) -> list[Estimate]:
    """What "no difference found" may mean: the smallest ratio excluded, and the smallest that would have been seen."""
    where: dict[str, At] = {k: v for k, v in at.items() if not k.startswith("errors")}
    where["rate"] = rate
    excluded = tost_ratio(a, b, level)
    deff_a, deff_b = design_effect(a) or a.deff, design_effect(b) or b.deff
    detectable = None
    if a.errors and b.errors and deff_a is not None and deff_b is not None:
        detectable = minimum_detectable_ratio(a.errors, deff_a, b.errors, deff_b, level)
    return [
        Estimate(
            quantity="equivalence_ratio",
            of=of,
            at=where,
            value=excluded,
            support=held,
            undefined=None if excluded is not None else "no finite ratio can be excluded with these errors",
        ),
        Estimate(
            quantity="minimum_detectable_ratio",
            of=of,
            at=where,
            value=detectable,
            support=held,
            undefined=None if detectable is not None else "no errors in one of the two groups",
        ),
    ]


def _p_values(rated: Rated, rate: str, axis: Axis, base: int, tests: Sequence[tuple[int, float]]) -> list[Estimate]:
    if not tests:
        return []
    raw = [p for _, p in tests]
    found = []
    for name, values in (("none", raw), ("Holm", holm(raw)), ("Benjamini-Hochberg", benjamini_hochberg(raw))):
        for (k, _), p in zip(tests, values, strict=True):
            at = {**place(rated.chosen), "rate": rate, "against": axis.label(base), "adjustment": name}
            found.append(Estimate(quantity="ratio_p", of=axis.of(k), at=at, value=float(p)))
    return found


def failure_estimates(counted: Counted, axis: Axis | None, section: Section) -> dict[str, list[RateSample]]:
    """FTE of the reference side and FTA of the probe side by group (one entry for everybody without an axis)."""
    survey = counted.survey
    group = np.zeros(survey.subjects, np.int32) if axis is None else axis.of_subject
    masks: list[Bools] = [one(1, 0)] if axis is None else [one(len(axis.labels), k) for k in range(len(axis.labels))]
    return {
        "fte": [attempt_sample(survey.enrol, group, m) for m in masks],
        "fta": [attempt_sample(survey.acquire, group, m) for m in masks],
    }
