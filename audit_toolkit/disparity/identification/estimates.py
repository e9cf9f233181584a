"""Rates of searches and their ratios as estimates: counts, intervals with the gallery fixed and resampled, reasons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.identification.groups import members
from audit_toolkit.disparity.identification.plan import Section
from audit_toolkit.disparity.identification.rates import (
    Bools,
    fnir_sample,
    fpir_sample,
    hit_sample,
    lowest_threshold,
    mean_interval,
    predictive_value,
    set_on_data,
    with_pooled,
)
from audit_toolkit.disparity.identification.searches import Searches
from audit_toolkit.evidence.estimate import At, Estimate, Interval, Support
from audit_toolkit.stats.contrast import ratio_interval
from audit_toolkit.stats.dependence import RateSample
from audit_toolkit.stats.intervals import bonferroni, interval, simultaneous

RESAMPLED, FIXED, INDIFFERENT = "resampled", "held fixed", "without effect"
"""What ``at["gallery"]`` says: people enrolled drawn anew too; this very gallery; the rate does not depend on it."""

_EMPTY = {"fpir": "no non-mated searches in this group", "fnir": "no mated searches in this group"}


@dataclass(frozen=True, slots=True)
class Operating:
    """One operating threshold: its value, how it came about, and whether it was set on these very searches."""

    value: float
    policy: str
    set_here: bool = False
    sign: int = 1
    """-1 where the file's scores are distances; ``value`` is always larger = more alike."""

    @property
    def at(self) -> dict[str, At]:
        """Where an estimate at this threshold was taken."""
        return {"threshold": self.sign * self.value, "policy": self.policy}


INVESTIGATION: dict[str, At] = {"policy": "investigation: no threshold"}
Make = Callable[[Bools, bool], RateSample]
"""(members, gallery resampled) -> sample."""


def everybody(searches: Searches) -> Bools:
    """[searches] all of them."""
    return np.ones(searches.n, np.bool_)


def makers(searches: Searches, operating: Operating | None, rank: int | None, rate: str) -> Make:
    """How samples of this rate are made for any set of searches."""
    if rate == "fnir":
        threshold = None if operating is None else operating.value

        def make(among: Bools, resampled: bool) -> RateSample:
            return fnir_sample(searches, among, rank, threshold, resampled=resampled)

    else:
        assert operating is not None  # noqa: S101 - FPIR without a threshold is 1 and is never asked for

        def make(among: Bools, resampled: bool) -> RateSample:
            return fpir_sample(searches, among, operating.value, resampled=resampled)

    if operating is None or not operating.set_here:
        return make

    def moving(among: Bools, resampled: bool) -> RateSample:
        base = fpir_sample(searches, everybody(searches), operating.value, resampled=resampled)
        return set_on_data(searches, among, make(among, resampled), operating.value, base, rate)

    return moving


def unknown(searches: Searches, operating: Operating | None, rank: int | None, rate: str) -> str | None:
    """Why a rate cannot be known from these searches at all, or ``None``."""
    if rank is not None and searches.longest is not None and rank > searches.longest:
        return f"the longest list holds {searches.longest} candidates"
    if operating is None:
        return None
    return searches.fpir_unknown(operating.value) if rate == "fpir" else None


def rates(
    searches: Searches, axis: Axis | None, rate: str, rank: int | None, operating: Operating | None, section: Section
) -> list[Estimate]:
    """FPIR or FNIR of every group of an axis (of everybody without one), and the ratios to the reference group.

    Each comes twice where the gallery matters: with the people enrolled resampled, and with this gallery held fixed.
    """
    make = makers(searches, operating, rank, rate)
    at: dict[str, At] = dict(INVESTIGATION) if operating is None else operating.at
    if rate == "fnir":
        at["rank"] = "any" if rank is None else rank
    why = unknown(searches, operating, rank, rate)
    groups = [everybody(searches)] if axis is None else [members(axis, searches, k) for k in range(len(axis.labels))]
    versions = ((RESAMPLED, True), (FIXED, False)) if rate == "fpir" or rank is not None else ((INDIFFERENT, False),)
    found: list[Estimate] = []
    conditional = [
        (fpir_sample(searches, g, operating.value, resampled=False) if operating is not None and rate == "fpir"
         else fnir_sample(searches, g, rank, None if operating is None else operating.value, resampled=False))
        for g in groups
    ]  # fmt: skip
    for name, resampled in versions:
        samples = with_pooled([make(g, resampled) for g in groups], lambda: _loose(searches, groups, rate))
        here: dict[str, At] = {**at, "gallery": name}
        found += _rates(rate, samples, conditional, axis, here, section, why)
        if axis is not None and why is None:
            found += _ratios(rate, samples, conditional, axis, here, section)
    return found


def _loose(searches: Searches, groups: Sequence[Bools], rate: str) -> list[RateSample]:
    """Samples that have errors where the asked ones have none: about 20 a group, at most one search in ten."""
    if rate == "fpir":
        best = searches.best[~searches.mated, 0]
        if not len(best):
            return []
        t = lowest_threshold(best, min(0.1, 20.0 * len(groups) / len(best)))
        return [fpir_sample(searches, g, t, resampled=False) for g in groups]
    scores = np.sort(searches.mate_score[searches.mated])
    if not len(scores):
        return []
    t = float(scores[min(len(scores) - 1, max(1, min(len(scores) // 10, 20 * len(groups))))])
    return [fnir_sample(searches, g, None, t, resampled=False) for g in groups]


def _rates(
    rate: str, samples: Sequence[RateSample], counted: Sequence[RateSample], axis: Axis | None, at: dict[str, At],
    section: Section, why: str | None,
) -> list[Estimate]:  # fmt: skip
    level, method = section.uncertainty.level, section.uncertainty.method
    shown = [k for k in (range(1) if axis is None else axis.shown) if samples[k].comparisons]
    family = simultaneous([samples[k] for k in shown], level, method) if len(shown) > 1 else []
    together = dict(zip(shown, family, strict=False))
    found = []
    for k, (sample, plain) in enumerate(zip(samples, counted, strict=True)):
        of = {} if axis is None else axis.of(k)
        reason = (None if axis is None else axis.withheld[k]) or why
        if reason is None and not plain.comparisons:
            reason = _EMPTY[rate]
        if reason is not None:
            found.append(Estimate(quantity=rate, of=of, at=at, undefined=reason))
            continue
        notes = _few(plain, section)
        found.append(
            Estimate(
                quantity=rate,
                of=of,
                at=at,
                value=plain.errors / plain.comparisons,
                interval=interval(sample, level, method),
                simultaneous=together.get(k),
                numerator=plain.errors,
                denominator=plain.comparisons,
                support=held_by(plain),
                notes=notes,
            )
        )
    return found


def held_by(sample: RateSample) -> Support:
    """Searches, people searched for, and errors; from a sample with the gallery held fixed."""
    return Support(comparisons=sample.comparisons, subjects=len(sample.delta), errors=sample.errors)


def _few(sample: RateSample, section: Section) -> tuple[str, ...]:
    if len(sample.delta) >= section.support.min_subjects:
        return ()
    return (f"insufficient evidence: fewer than {section.support.min_subjects} people",)


def hit_rates(missed: Sequence[Estimate]) -> list[Estimate]:
    """TPIR = 1 - FNIR of the same searches, with intervals turned round; undefined where FNIR is."""

    def turned(made: Interval | None) -> Interval | None:
        if made is None:
            return None
        low, high = (None if end is None else 1.0 - end for end in (made.high, made.low))
        return Interval(low=low, high=high, level=made.level, method=made.method)

    return [
        Estimate(
            quantity="tpir",
            of=e.of,
            at=e.at,
            value=None if e.value is None else 1.0 - e.value,
            interval=turned(e.interval),
            simultaneous=turned(e.simultaneous),
            numerator=None if e.numerator is None or e.denominator is None else e.denominator - e.numerator,
            denominator=e.denominator,
            support=e.support,
            notes=e.notes,
            undefined=e.undefined,
        )
        for e in missed
        if e.quantity == "fnir"
    ]


def _ratios(
    rate: str, samples: Sequence[RateSample], counted: Sequence[RateSample], axis: Axis, at: dict[str, At], section: Section
) -> list[Estimate]:  # fmt: skip
    base, level, rule = axis.reference, section.uncertainty.level, section.support
    others = [k for k in axis.shown if k != base]
    if base is None or not others:
        return []
    each = bonferroni(level, len(others))
    found = []
    for k in others:
        a, b = samples[k], samples[base]
        reason = None
        if not a.comparisons or not b.comparisons:
            reason = "no searches in one of the two groups"
        elif not b.errors:
            reason = "no errors in the group it is held against"
        pair = held_by(counted[k]), held_by(counted[base])
        held = Support(
            comparisons=a.comparisons + b.comparisons,
            subjects=min(s.subjects for s in pair),
            errors=min(a.errors, b.errors),
        )
        notes = []
        if held.subjects < rule.min_subjects:
            notes.append(f"insufficient evidence: fewer than {rule.min_subjects} people in one of the two groups")
        if (held.errors or 0) < rule.min_errors:
            notes.append(f"insufficient evidence: fewer than {rule.min_errors} errors in one of the two groups")
        there = bool(a.comparisons and b.comparisons)
        found.append(
            Estimate(
                quantity=f"{rate}_ratio",
                of=axis.of(k),
                at={**at, "against": axis.label(base), "errors": a.errors, "errors_against": b.errors},
                value=None if reason else (a.errors / a.comparisons) / (b.errors / b.comparisons),
                interval=ratio_interval(a, b, level) if there else None,
                simultaneous=_at_once(ratio_interval(a, b, each), level) if there else None,
                support=held,
                notes=tuple(notes),
                undefined=reason,
            )
        )
    return found


def _at_once(made: Interval, level: float) -> Interval:
    return Interval(low=made.low, high=made.high, level=level, method=f"{made.method}; all ratios at once (Bonferroni)")


def selectivity(searches: Searches, axis: Axis | None, operating: Operating, section: Section) -> list[Estimate]:
    """Mean number of wrong people returned per non-mated search, by group; the gallery held fixed."""
    why = unknown(searches, operating, None, "fpir") or searches.count_unknown(operating.value)
    counts = None if why else searches.above([operating.value])[:, 0]
    found = []
    for k in range(1 if axis is None else len(axis.labels)):
        of = {} if axis is None else axis.of(k)
        at: dict[str, At] = {**operating.at, "gallery": FIXED}
        among = (everybody(searches) if axis is None else members(axis, searches, k)) & ~searches.mated
        reason = (None if axis is None else axis.withheld[k]) or why or (None if among.any() else _EMPTY["fpir"])
        if reason is not None or counts is None:
            found.append(Estimate(quantity="selectivity", of=of, at=at, undefined=reason))
            continue
        people = len(searches.subject_labels)
        totals = np.bincount(searches.subject[among], weights=counts[among], minlength=people).astype(np.int64)
        made = np.bincount(searches.subject[among], minlength=people)
        value, around, subjects = mean_interval(totals, made, section.uncertainty.level)
        found.append(
            Estimate(
                quantity="selectivity",
                of=of,
                at=at,
                value=value,
                interval=around,
                numerator=int(totals.sum()),
                denominator=int(among.sum()),
                support=Support(comparisons=int(among.sum()), subjects=subjects, errors=int(totals.sum())),
            )
        )
    return found


def alerts(searches: Searches, axis: Axis, operating: Operating, section: Section) -> list[Estimate]:
    """What a watchlist would do to each group: share of false alerts, of people searched, burden and predictive value."""
    level = section.uncertainty.level
    why = unknown(searches, operating, None, "fpir")
    found: list[Estimate] = []
    fpir, fnir = makers(searches, operating, None, "fpir"), makers(searches, operating, None, "fnir")
    all_non = everybody(searches) & ~searches.mated
    total = fpir(all_non, True)
    wrong = fpir_sample(searches, all_non, operating.value, resampled=False)
    groups = [members(axis, searches, k) for k in range(len(axis.labels))]
    false_positive = with_pooled([fpir(g, True) for g in groups], lambda: _loose(searches, groups, "fpir"))
    hits = with_pooled([fnir(g, True) for g in groups], lambda: _loose(searches, groups, "fnir"))
    for k, group in enumerate(groups):
        of, at = axis.of(k), {**operating.at, "gallery": RESAMPLED}
        a = false_positive[k]
        among = group & ~searches.mated
        reason = axis.withheld[k] or why or (None if among.any() else _EMPTY["fpir"])
        plain = held_by(fpir_sample(searches, group, operating.value, resampled=False))
        share = int(among.sum()) / max(1, int(all_non.sum()))
        if reason is not None:
            names = ("alert_share", "passerby_share", *(("ppv", "alert_burden") if section.prevalences else ()))
            found += [Estimate(quantity=q, of=of, at=at, undefined=reason) for q in names]
            continue
        found.append(
            Estimate(
                quantity="passerby_share",
                of=of,
                at=at,
                value=share,
                numerator=int(among.sum()),
                denominator=int(all_non.sum()),
                notes=("share of the non-mated searches in this sample, not of people in a street",),
            )
        )
        found.append(
            Estimate(
                quantity="alert_share",
                of=of,
                at=at,
                value=a.errors / wrong.errors if wrong.errors else None,
                interval=_scaled(ratio_interval(a, total, level), share, 1.0) if wrong.errors else None,
                numerator=a.errors,
                denominator=wrong.errors,
                support=plain,
                undefined=None if wrong.errors else "no false alert was seen",
            )
        )
        for prevalence in section.prevalences:
            here: dict[str, At] = {**at, "prevalence": prevalence}
            found.append(_ppv(hit_sample(hits[k]), a, of, here, level, plain))
            per = 1000.0 * (1.0 - prevalence)
            found.append(
                Estimate(
                    quantity="alert_burden",
                    of=of,
                    at=here,
                    value=per * a.errors / a.comparisons,
                    interval=_scaled(interval(a, level, section.uncertainty.method), per, None),
                    support=plain,
                )
            )
    return found


def _scaled(made: Interval, by: float, most: float | None) -> Interval:
    def one(end: float | None) -> float | None:
        return None if end is None else end * by if most is None else min(most, end * by)

    return Interval(low=one(made.low), high=one(made.high), level=made.level, method=made.method)


def _ppv(
    hits: RateSample, false: RateSample, of: dict[str, str], at: dict[str, At], level: float, support: Support
) -> Estimate:
    prevalence = float(at["prevalence"])
    if not hits.comparisons:
        return Estimate(quantity="ppv", of=of, at=at, undefined=_EMPTY["fnir"])
    made = ratio_interval(hits, false, level)
    low, high = (None if end is None else predictive_value(end, prevalence) for end in (made.low, made.high))
    bounds = Interval(
        low=0.0 if low is None else low,
        high=1.0 if high is None else high,
        level=level,
        method=f"{made.method}, as odds",
    )
    if not false.errors:
        why = "no false positive was seen, so the value would be 1 by chance alone"
        return Estimate(quantity="ppv", of=of, at=at, interval=bounds, undefined=why, support=support)
    ratio = (hits.errors / hits.comparisons) / (false.errors / false.comparisons)
    return Estimate(
        quantity="ppv", of=of, at=at, value=predictive_value(ratio, prevalence), interval=bounds, support=support
    )
