"""The rates around a comparison: failures to enrol and to acquire, generalised rates, and whole transactions.

FAR and FRR of transactions are counted where attempts are given; GFAR and GFRR are combined from rates measured on the
same people, with an interval that leaves each person out of all of them at once.
Formulas: ISO/IEC 19795-1, as in `audit_toolkit.evidence.quantities`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.counting import Counted
from audit_toolkit.disparity.estimates import failure_estimates, place, single, support
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated, finest_table, with_alternatives
from audit_toolkit.disparity.rates import (
    along,
    fmr_sample,
    fnmr_sample,
    group_fmr,
    largest_mated_deff,
    one,
    pooled,
    together,
)
from audit_toolkit.evidence.estimate import At, Estimate, Interval
from audit_toolkit.evidence.words import number
from audit_toolkit.stats.dependence import RateSample
from audit_toolkit.stats.spread_uncertainty import joint_jackknife
from audit_toolkit.stats.tails import fit_tail, rate_at, stability

Floats = NDArray[np.float64]

FEW = 10
"""With fewer false matches than this over everybody, the tail is extrapolated beside the counted rate."""

_NO_FAILURES = "the file has no column of failures"


def gfar(parts: Floats) -> Floats:
    """(1 - FTE)(1 - FTA) FMR; ``parts`` [..., (FTE, FTA, FMR)]."""
    fte, fta, fmr = np.moveaxis(parts, -1, 0)
    return np.asarray((1.0 - fte) * (1.0 - fta) * fmr)


def gfrr(parts: Floats) -> Floats:
    """FTE + (1 - FTE) FTA + (1 - FTE)(1 - FTA) FNMR; ``parts`` [..., (FTE, FTA, FNMR)]."""
    fte, fta, fnmr = np.moveaxis(parts, -1, 0)
    return np.asarray(fte + (1.0 - fte) * fta + (1.0 - fte) * (1.0 - fta) * fnmr)


def overall_estimates(counted: Counted, section: Section) -> list[Estimate]:
    """Threshold, FMR, FNMR over everybody at every operating threshold, the EER, and failures over everybody."""
    found = []
    for n, chosen in enumerate(counted.chosen):
        if chosen.what_if is not None:
            continue
        at = place(chosen)
        found.append(
            Estimate(
                quantity="threshold",
                at={"policy": chosen.policy},
                value=chosen.shown,
                notes=(*chosen.notes, *(("set on this file's own scores",) if chosen.set_on is not None else ())),
            )
        )
        table = finest_table(counted, counted.at[n])
        everything = np.ones((counted.groups.count, counted.groups.count), np.bool_)
        everybody = np.ones(counted.groups.count, np.bool_)
        fmr = fmr_sample(table, counted.at[n].t, everything, together(table))
        fnmr = fnmr_sample(table, counted.at[n].t, everybody, together(table))
        loose = None
        if counted.loose is not None:
            loose = fmr_sample(finest_table(counted, counted.loose), counted.loose.t, everything, together(table))
        fmr = pooled([fmr, *([loose] if loose is not None else [])])[0]
        fnmr = pooled([fnmr], largest_mated_deff(table))[0]
        fmr = with_alternatives(counted, n, fmr, cells=everything)
        fnmr = with_alternatives(counted, n, fnmr, members=everybody)
        found += [single("fmr", fmr, at, section), single("fnmr", fnmr, at, section)]
        found += _extrapolated(counted, fmr, table.nonmated[:, :, :, 0].sum(axis=(1, 2)), chosen.value, at, section)
        if chosen.eer and fmr.comparisons and fnmr.comparisons:
            rates = fmr.errors / fmr.comparisons, fnmr.errors / fnmr.comparisons
            note = (
                f"FMR {rates[0]:.6g} and FNMR {rates[1]:.6g} there; their mean is given, without an interval of its own"
            )
            found.append(Estimate(quantity="eer", at=at, value=sum(rates) / 2, notes=(note,), support=support(fmr)))
        if counted.transactions:
            found += _transactions(counted, n, None, section)
    for rate, samples in failure_estimates(counted, None, section).items():
        if counted.survey.has_failures:
            found.append(single(rate, pooled(samples, 1.0)[0], {}, section))
        else:
            found.append(Estimate(quantity=rate, undefined=_NO_FAILURES))
    return found


def _extrapolated(
    counted: Counted,
    counted_fmr: RateSample,
    made: NDArray[np.int64],
    threshold: Any,
    at: dict[str, At],
    section: Section,
) -> list[Estimate]:
    """FMR read off a fitted tail, where too few false matches were counted to give a rate; never in its place."""
    if counted.top is None or counted_fmr.errors >= FEW or not counted_fmr.comparisons:
        return []
    scores, people = counted.top
    tail = fit_tail(scores, counted_fmr.comparisons, subjects=people, subject_comparisons=made)
    got = rate_at(tail, float(threshold), section.uncertainty.level)
    bounds = None
    if got.low is not None or got.high is not None:
        bounds = Interval(low=got.low, high=got.high, level=got.level, method=got.method)
    # The glossary asks to read it beside what fewer of the top scores give, so that stands beside it.
    share = got.exceedances / counted_fmr.comparisons
    steps = stability(scores, counted_fmr.comparisons, float(threshold), (share / 2, share / 5)) if share else ()
    notes = [*got.notes, *(f"from the {s.exceedances:,} highest alone: {number(s.value)}" for s in steps)]
    return [
        Estimate(
            quantity="fmr_extrapolated",
            at=at,
            value=got.value,
            undefined=got.undefined,
            interval=bounds,
            notes=tuple(notes),
        )
    ]


def chain_estimates(counted: Counted, rated: Rated, n: int, section: Section) -> list[Estimate]:
    """FTE, FTA, GFAR, GFRR and transaction rates of every group; nothing where the file gives neither."""
    axis = rated.axis
    found: list[Estimate] = []
    if counted.transactions:
        found += _transactions(counted, n, rated, section)
    if not counted.survey.has_failures:
        return found
    failures = failure_estimates(counted, axis, section)
    fte, fta = (pooled(failures[rate], 1.0) for rate in ("fte", "fta"))
    at = place(rated.chosen)
    for k in range(len(axis.labels)):
        of, reason = axis.of(k), axis.withheld[k]
        if reason is not None:
            found += [Estimate(quantity=q, of=of, at=at, undefined=reason) for q in ("gfar", "gfrr")]
            found += [Estimate(quantity=q, of=of, undefined=reason) for q in ("fte", "fta") if n == 0]
            continue
        if n == 0:  # failures know no threshold
            found += [single("fte", fte[k], {}, section, of), single("fta", fta[k], {}, section, of)]
        found.append(_generalised("gfar", gfar, [fte[k], fta[k], rated.fmr[k]], of, at, section))
        found.append(_generalised("gfrr", gfrr, [fte[k], fta[k], rated.fnmr[k]], of, at, section))
    return found


def _generalised(
    quantity: str,
    formula: Callable[[Floats], Floats],
    parts: Sequence[RateSample],
    of: dict[str, str],
    at: dict[str, At],
    section: Section,
) -> Estimate:
    if not all(p.comparisons for p in parts):
        return Estimate(quantity=quantity, of=of, at=at, undefined="one of the rates it is made of has no attempts")
    value = float(formula(np.array([p.errors / p.comparisons for p in parts])))
    # `equal_p=0` releases the lower end: this is a rate, not a spread.
    bounds = joint_jackknife(formula, parts, section.uncertainty.level, ideal=0.0, equal_p=0.0)
    return Estimate(quantity=quantity, of=of, at=at, value=value, interval=bounds, support=support(parts[-1]))


def _transactions(counted: Counted, n: int, rated: Rated | None, section: Section) -> list[Estimate]:
    """FAR and FRR over whole transactions, for everybody or for each group of an axis."""
    at_threshold, at = counted.transactions[n], place(counted.chosen[n])
    if rated is None:
        table = finest_table(counted, at_threshold)
        g = counted.groups.count
        far = pooled([fmr_sample(table, at_threshold.t, np.ones((g, g), np.bool_), together(table))])
        frr = pooled(
            [fnmr_sample(table, at_threshold.t, np.ones(g, np.bool_), together(table))], largest_mated_deff(table)
        )
        return [single("far", far[0], at, section), single("frr", frr[0], at, section)]
    axis = rated.axis
    table = along(at_threshold.state, axis)
    groups = len(axis.labels)
    far = pooled([group_fmr(table, at_threshold.t, section.scope, k) for k in range(groups)])
    frr = pooled([fnmr_sample(table, at_threshold.t, one(groups, k)) for k in range(groups)], largest_mated_deff(table))
    found = []
    for k in range(groups):
        reason = axis.withheld[k]
        for rate, samples in (("far", far), ("frr", frr)):
            if reason is not None:
                found.append(Estimate(quantity=rate, of=axis.of(k), at=at, undefined=reason))
            else:
                found.append(single(rate, samples[k], at, section, axis.of(k)))
    return found
