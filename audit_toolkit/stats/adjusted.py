"""What remains of a gap between groups once cameras, quality or time lapse are held equal.

Why: a group that was photographed with the worse camera has the higher error rate whoever stands in front of it. Beside a
raw ratio stands the ratio within classes of the covariate, put together.
Promise: people, not comparisons, carry the uncertainty (leaving a person out, or summing scores over a person); a comparison
of two people counts for both. Not promised: causes; a covariate that is itself an effect of the group is not "held equal".

Counts come as ``cells`` [groups, classes, (all, errors)] and ``people`` [subjects, classes, (all, errors)], within-group
comparisons only, each subject in one group. Sources: Mantel and Haenszel 1959, J. Natl. Cancer Inst. 22, ratio form of
Nurminen 1981; sandwich over members of a pair, Aronow, Samii and Assenova 2015, Polit. Anal. 23.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError
from audit_toolkit.evidence.estimate import Interval
from audit_toolkit.stats.dependence import RateSample, centred, satterthwaite
from audit_toolkit.stats.proportion import check_level, t_quantile

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Adjusted:
    """An adjusted ratio of one group to the reference, with interval, or why there is none.

    ``classes`` are the covariate classes that took part (both groups compared in them; for the regression: with errors).
    """

    group: int
    value: float | None
    interval: Interval | None
    classes: int
    undefined: str | None = None


def _check(cells: Counts, people: Counts, group: NDArray[np.integer]) -> None:
    if cells.ndim != 3 or people.ndim != 3 or cells.shape[1:] != people.shape[1:] or cells.shape[2] != 2:
        raise UsageError(
            "Counts for an adjusted ratio do not fit together.",
            mend="Give [groups, classes, 2] and [subjects, classes, 2].",
        )
    if len(group) != len(people):
        raise UsageError(
            "Group codes and per-person counts differ in length.", mend="Give one entry a subject in each."
        )


def _exp_interval(centre: float, influence: Floats, strata: int, level: float, method: str) -> Interval:
    error = math.sqrt(float(np.square(influence).sum()))
    half = t_quantile((1.0 + level) / 2.0, satterthwaite(influence, strata)) * error
    high = math.exp(centre + half) if centre + half < 700.0 else None
    return Interval(low=math.exp(max(-700.0, centre - half)), high=high, level=level, method=method)


def _log_mantel_haenszel(e_a: Floats, n_a: Floats, e_b: Floats, n_b: Floats) -> Floats:
    """The ln of sum e_a n_b / N over sum e_b n_a / N, over the last axis; NaN or infinite where a side has no errors."""
    total = n_a + n_b
    share = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log((e_a * n_b * share).sum(axis=-1)) - np.log((e_b * n_a * share).sum(axis=-1)))


def mantel_haenszel(
    cells: Counts, people: Counts, group: NDArray[np.integer], a: int, b: int, level: float
) -> Adjusted:
    """How many times the error rate of group b the rate of group a is, compared within classes of a covariate only.

    sum_x e_ax n_bx / N_x over sum_x e_bx n_ax / N_x; interval on the log scale by leaving each person out of both sums, with
    Satterthwaite's t quantile. ``group`` [subjects] codes. Undefined where no class has comparisons of both groups, or a group
    has no errors in those. Raises `UsageError` on counts that do not fit together.
    """
    _check(cells, people, group)
    check_level(level)
    shared = (cells[a, :, 0] > 0) & (cells[b, :, 0] > 0)
    used = int(shared.sum())
    if used == 0:
        return Adjusted(a, None, None, 0, "no class of the covariate has comparisons of both groups")
    n_a, e_a = cells[a, shared, 0].astype(np.float64), cells[a, shared, 1].astype(np.float64)
    n_b, e_b = cells[b, shared, 0].astype(np.float64), cells[b, shared, 1].astype(np.float64)
    if e_a.sum() == 0 or e_b.sum() == 0:
        return Adjusted(a, None, None, used, "a group has no errors in the classes both groups share")
    centre = float(_log_mantel_haenszel(e_a, n_a, e_b, n_b))
    method = "Mantel-Haenszel ratio, joint subject jackknife"
    changes, sides = [], []
    for side, code in enumerate((a, b)):
        mine = people[(group == code) & (people[:, shared, 0].sum(axis=1) > 0)][:, shared].astype(np.float64)
        if len(mine) < 2:
            return Adjusted(a, math.exp(centre), None, used)
        if side == 0:
            left = _log_mantel_haenszel(e_a - mine[:, :, 1], n_a - mine[:, :, 0], e_b[None], n_b[None])
        else:
            left = _log_mantel_haenszel(e_a[None], n_a[None], e_b - mine[:, :, 1], n_b - mine[:, :, 0])
        changes.append(left - centre)
        sides.append(np.full(len(mine), side, dtype=np.int64))
    delta = np.concatenate(changes)
    if not np.isfinite(delta).all():
        open_ended = Interval(
            low=None, high=None, level=level, method=f"{method}: none, one person makes all errors of a group"
        )
        return Adjusted(a, math.exp(centre), open_ended, used)
    stratum = np.concatenate(sides)
    influence = centred(RateSample(0, 1, delta, np.arange(len(delta)), stratum))
    return Adjusted(a, math.exp(centre), _exp_interval(centre, influence, 2, level, method), used)


def fit_logistic(errors: Floats, totals: Floats, design: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Maximum-likelihood logistic regression on grouped counts by Newton's method, with step halving.

    ``errors``, ``totals`` [cells], ``design`` [cells, terms] of full rank. Returns coefficients [terms], fitted rates [cells] and
    the inverse of the information [terms, terms]; ``None`` where it does not converge (a term that separates errors from
    non-errors has no finite coefficient).
    """

    def likelihood(beta: Floats) -> float:
        eta = design @ beta
        return float(errors @ eta - totals @ np.logaddexp(0.0, eta))

    beta = np.zeros(design.shape[1])
    current = likelihood(beta)
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -700.0, 700.0)))
        information = (design * (totals * p * (1.0 - p))[:, None]).T @ design
        gradient = design.T @ (errors - totals * p)
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            return None
        if not np.isfinite(step).all():
            return None
        if float(np.abs(step).max()) < 1e-10:
            return (
                (beta, p, np.asarray(np.linalg.inv(information), dtype=np.float64))
                if float(np.abs(beta).max()) < 50.0
                else None
            )
        scale = 1.0
        while scale > 1e-8:
            tried = likelihood(beta + scale * step)
            # rounding of a sum of this size is not a step downhill
            if tried >= current - 1e-12 * abs(current):
                break
            scale /= 2.0
        beta, current = beta + scale * step, likelihood(beta + scale * step)
    return None


def odds_ratios(
    cells: Counts, people: Counts, group: NDArray[np.integer], reference: int, level: float
) -> list[Adjusted]:
    """Each group's odds of an error against the reference group's, at equal covariate class: one regression for all.

    logit(rate) = intercept + group + class; intervals by the sandwich over people (scores summed over all comparisons a person
    stands in), Satterthwaite's t quantile on each coefficient. Classes without errors, or with nothing but errors, say nothing
    about groups and are left out; so are groups without errors in the rest (undefined, with the reason). One `Adjusted` a
    group, the reference (value 1, no interval) included.
    """
    _check(cells, people, group)
    check_level(level)
    groups = cells.shape[0]
    informative = (cells[:, :, 1].sum(axis=0) > 0) & (cells[:, :, 1].sum(axis=0) < cells[:, :, 0].sum(axis=0))
    total = cells[:, informative, 0].sum(axis=1)
    wrong = cells[:, informative, 1].sum(axis=1)
    used = (wrong > 0) & (wrong < total)
    count = int(informative.sum())
    if not used[reference]:
        reason = "the reference group has no errors, or nothing but errors, in classes that have both"
        return [Adjusted(g, None, None, count, reason) for g in range(groups)]
    codes = [reference, *(g for g in range(groups) if used[g] and g != reference)]
    rows = [(k, x) for k, g in enumerate(codes) for x in np.flatnonzero(informative) if cells[g, x, 0] > 0]
    design = np.zeros((len(rows), len(codes) + count))
    column = {int(x): len(codes) + n for n, x in enumerate(np.flatnonzero(informative))}
    for r, (k, x) in enumerate(rows):
        design[r, 0] = 1.0
        design[r, k] = 1.0
        design[r, column[int(x)]] = 1.0
    design = np.delete(design, len(codes), axis=1)  # the first class is the baseline
    errors = np.array([cells[codes[k], x, 1] for k, x in rows], dtype=np.float64)
    totals = np.array([cells[codes[k], x, 0] for k, x in rows], dtype=np.float64)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return [
            Adjusted(g, None, None, count, "groups and covariate classes cannot be told apart") for g in range(groups)
        ]
    fit = fit_logistic(errors, totals, design)
    if fit is None:
        return [Adjusted(g, None, None, count, "the regression has no finite answer") for g in range(groups)]
    beta, rate, inverse = fit
    influences = []
    for k, g in enumerate(codes):
        mine = people[group == g].astype(np.float64)
        scores = np.zeros((len(mine), design.shape[1]))
        for r, (owner, x) in enumerate(rows):
            if owner == k:
                scores += (mine[:, x, 1] - rate[r] * mine[:, x, 0])[:, None] * design[r]
        seen = mine[:, informative, 0].sum(axis=1) > 0
        influences.append(scores[seen] @ inverse)
    influence = np.concatenate(influences)
    spread = math.sqrt(len(influence) / max(1, len(influence) - 1))
    out = [Adjusted(reference, 1.0, None, count)]
    method = "logistic regression, sandwich over people"
    for k, g in enumerate(codes[1:], start=1):
        bounds = _exp_interval(float(beta[k]), influence[:, k] * spread, len(codes), level, method)
        out.append(Adjusted(g, math.exp(float(beta[k])), bounds, count))
    reason = "no errors, or nothing but errors, in classes that have both"
    out += [Adjusted(g, None, None, count, reason) for g in range(groups) if not used[g]]
    return sorted(out, key=lambda adjusted: adjusted.group)
