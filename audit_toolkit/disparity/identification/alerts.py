"""What the alert log of a live system can say by group, and what it cannot.

A log holds alerts and nothing else: nobody whom the system missed left a row, so FNIR is not assessed. Somebody looked at
some of the alerts and judged them; rates over those are rates over what was worth looking at, and are named so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.fold import digest_arrays
from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.groups import withhold_groups as withhold_groups
from audit_toolkit.disparity.identification.groups import group_people
from audit_toolkit.disparity.identification.plan import Section
from audit_toolkit.engines.context import Context
from audit_toolkit.evidence.estimate import At, Estimate, Interval, Support
from audit_toolkit.evidence.record import Run
from audit_toolkit.sources.alerts import AlertLog
from audit_toolkit.stats.dependence import RateSample, from_counts, pooled_deff, satterthwaite, with_deff
from audit_toolkit.stats.intervals import interval, open_interval
from audit_toolkit.stats.proportion import t_quantile

BIASED = "verification-biased: over adjudicated alerts only, and people decide which alerts they look at"
NO_MISSES = "an alert log holds no searches: people whom the system missed left no alert"
Bools = NDArray[np.bool_]


def alert_axes(log: AlertLog, section: Section, context: Context) -> tuple[Axis, ...]:
    """The axes of a plan over alerts, then over the rows of the table of people who passed by.

    A group is withheld where fewer people than allowed stand behind it: people counted, where they were; else alerts, each of
    which stands for one person who passed by (who it was, the log does not say).
    """
    axes = group_people(section, log.attributes, log.labels, np.concatenate([log.labels_of, log.passers]), 1)
    weights = np.concatenate([np.full(len(log.labels_of), 0 if len(log.passers) else 1), log.counts])
    weighed = []
    for axis in axes:
        inside = axis.of_subject >= 0
        people = np.bincount(axis.of_subject[inside], weights=weights[inside], minlength=len(axis.labels))
        weighed.append(replace(axis, people=np.maximum(people.astype(np.int64), 1)))
    return withhold_groups(weighed, context.min_people)


def clustered(log: AlertLog, among: Bools, wrong: Bools) -> RateSample:
    """A share of alerts; alerts of one day and camera are left out together, and so are those of one watchlist entry.

    Two strata, like probes and gallery of a search; the variance is the sum of both.
    """
    errors, made = int((wrong & among).sum()), int(among.sum())
    parts = []
    for codes in (log.occasion, log.entry):
        n = int(codes.max(initial=0)) + 1
        parts.append(
            from_counts(
                errors, made, np.bincount(codes[among & wrong], minlength=n), np.bincount(codes[among], minlength=n)
            )
        )
    a, b = parts
    if len(a.delta) < 2 or not np.isfinite(a.delta).all():
        return b
    if len(b.delta) < 2 or not np.isfinite(b.delta).all():
        return a
    shift = int(log.occasion.max(initial=0)) + 1
    return replace(
        a,
        delta=np.concatenate([a.delta, b.delta]),
        subject=np.concatenate([a.subject, shift + b.subject]),
        stratum=np.concatenate([a.stratum, np.ones(len(b.delta), np.int64)]),
    )


def log_estimates(log: AlertLog, axis: Axis, section: Section) -> list[Estimate]:
    """Alerts, shares, false alerts among those adjudicated and per person passing by, for every group of an axis."""
    level, method = section.uncertainty.level, section.uncertainty.method
    n = len(log.entry)
    of_alert = axis.of_subject[:n]
    of_passer = axis.of_subject[n:]
    passed = np.bincount(of_passer[of_passer >= 0], weights=log.counts[of_passer >= 0], minlength=len(axis.labels))
    everybody = int(passed.sum())
    labelled = of_alert >= 0
    judged, false = log.verdict >= 0, log.verdict == 0
    groups = range(len(axis.labels))
    shares = [clustered(log, labelled, of_alert == k) for k in groups]
    wrong = [clustered(log, (of_alert == k) & judged, false) for k in groups]
    pooled = pooled_deff(wrong), pooled_deff(shares)
    at: dict[str, At] = {"axis": axis.name}
    found: list[Estimate] = []

    for k in groups:
        of, own = axis.of(k), of_alert == k
        alerts, people, known_false = int(own.sum()), int(passed[k]), int((false & own).sum())
        share, false_share = with_deff(shares[k], pooled[1]), with_deff(wrong[k], pooled[0])
        uncounted = None if everybody else "the people who passed by were not counted"
        without = uncounted or (None if people else "nobody of this group was counted")
        too_many = None if known_false <= people else "more false alerts than people counted"
        around = count_interval(log, false & own, level)
        rows: tuple[tuple[str, str | None, Callable[[], Estimate] | None], ...] = (
            ("fnir", NO_MISSES, None),
            ("fpir", "an alert log holds no searches without an alert" if not people else _not_all(judged[own]), None),
            (
                "alert_share",
                None if share.comparisons else "no alert is on a person with a label",
                partial(_share, of, at, share, level, method),
            ),
            (
                "false_alert_share",
                None if false_share.comparisons else "no alert of this group was adjudicated",
                partial(_biased, of, at, false_share, level, method),
            ),
            ("passerby_share", uncounted, partial(_passers, of, at, people, everybody)),
            ("alert_share_ratio", without, partial(_against, of, at, share, people, everybody, level, method)),
            (
                "alert_burden",
                without or too_many,
                partial(_burden, of, at, around, known_false, alerts, people, int((own & ~judged).sum())),
            ),
        )
        for quantity, reason, make in rows:
            why = axis.withheld[k] or reason
            if why is not None or make is None:
                found.append(Estimate(quantity=quantity, of=of, at=at, undefined=why))
            else:
                found.append(make())
    return found


def _not_all(judged: Bools) -> str:
    if not judged.all():
        return f"{int((~judged).sum())} of {len(judged)} alerts were not adjudicated; see the burden, which is a lower bound"
    return "people were counted, not searches: one person may have been searched many times; see the burden"


def _share(of: dict[str, str], at: dict[str, At], sample: RateSample, level: float, method: str) -> Estimate:
    return Estimate(
        quantity="alert_share",
        of=of,
        at=at,
        value=sample.errors / sample.comparisons,
        interval=interval(sample, level, method),
        numerator=sample.errors,
        denominator=sample.comparisons,
        notes=("alerts of one day and camera, and alerts on one watchlist entry, count as dependent",),
    )


def _biased(of: dict[str, str], at: dict[str, At], sample: RateSample, level: float, method: str) -> Estimate:
    return Estimate(
        quantity="false_alert_share",
        of=of,
        at=at,
        value=sample.errors / sample.comparisons,
        interval=interval(sample, level, method),
        numerator=sample.errors,
        denominator=sample.comparisons,
        notes=(BIASED,),
    )


def _passers(of: dict[str, str], at: dict[str, At], people: int, everybody: int) -> Estimate:
    return Estimate(
        quantity="passerby_share",
        of=of,
        at=at,
        value=people / everybody,
        numerator=people,
        denominator=everybody,
        notes=("as counted; the count's own error is not in any interval",),
    )


def _against(
    of: dict[str, str], at: dict[str, At], sample: RateSample, people: int, everybody: int, level: float, method: str
) -> Estimate:
    share = people / everybody
    made = interval(sample, level, method)
    ends = [None if end is None else end / share for end in (made.low, made.high)]
    return Estimate(
        quantity="alert_share_ratio",
        of=of,
        at=at,
        value=sample.errors / sample.comparisons / share,
        interval=Interval(low=ends[0], high=ends[1], level=level, method=f"{made.method}; passers-by as counted"),
        support=Support(comparisons=sample.comparisons, subjects=len(sample.delta), errors=sample.errors),
    )


def _burden(
    of: dict[str, str], at: dict[str, At], around: Interval, false: int, alerts: int, people: int, open_alerts: int
) -> Estimate:
    notes = [BIASED] if open_alerts else []
    if open_alerts:
        notes.append(f"{open_alerts} of {alerts} alerts were not adjudicated: at least this many, at most "
                     f"{1000.0 * (false + open_alerts) / people:.3g} per 1,000")  # fmt: skip
    return Estimate(
        quantity="alert_burden",
        of=of,
        at=at,
        value=1000.0 * false / people,
        interval=Interval(
            low=None if around.low is None else 1000.0 * around.low / people,
            high=None if around.high is None else 1000.0 * around.high / people,
            level=around.level,
            method=f"{around.method}; passers-by as counted",
        ),
        numerator=false,
        denominator=people,
        notes=tuple(notes),
    )


def count_interval(log: AlertLog, wrong: Bools, level: float) -> Interval:
    """How far a number of alerts could lie from what other days, cameras and watchlist entries would have given.

    Log scale; the variance is the sum of that over occasions and that over entries, n / (n - 1) sum (c - mean)^2 each, at
    least the count itself (Poisson). Occasions without any alert leave no row and are not among them. Open without alerts.
    """
    name = "log-count, occasions and entries resampled"
    total = int(wrong.sum())
    if total == 0:
        return open_interval(level, f"{name}: none, no such alert")
    variance, df = 0.0, float("inf")
    for codes in (log.occasion, log.entry):
        _, where = np.unique(codes, return_inverse=True)
        counts = np.bincount(where[wrong], minlength=int(where.max()) + 1).astype(np.float64)
        n = len(counts)
        if n < 2:
            continue
        pull = (counts - counts.mean()) * math.sqrt(n / (n - 1))
        variance += float(np.square(pull).sum())
        df = min(df, satterthwaite(pull))
    half = t_quantile((1.0 + level) / 2.0, min(df, 1e6)) * math.sqrt(max(variance, float(total))) / total
    high = total * math.exp(half) if half < 600.0 else None
    return Interval(low=total * math.exp(-min(half, 700.0)), high=high, level=level, method=name)


def log_run(log: AlertLog) -> Run:
    """What the log was coded to, as evidence."""
    arrays: dict[str, NDArray[Any]] = {
        "entry": log.entry,
        "verdict": log.verdict,
        "occasion": log.occasion,
        "labels": log.labels_of,
    }
    parameters = {"alerts": len(log.entry), "attributes": list(log.attributes)}
    return Run(measure="alert log", version="1", parameters=parameters, state_digest=digest_arrays(arrays))
