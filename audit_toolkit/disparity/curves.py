"""What does not hang on one threshold: DET curves, score distributions and their shift, the area under the FDR."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.counting import Counted
from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rates import reaching, scope_cells
from audit_toolkit.evidence.estimate import At, Estimate, Support
from audit_toolkit.evidence.series import Series
from audit_toolkit.stats.distribution import d_prime, kolmogorov_smirnov
from audit_toolkit.stats.spread import measure

DET_POINTS = 160
BARS = 60

Ints = NDArray[np.int64]


def group_levels(counted: Counted, axis: Axis, scope: str, k: int) -> tuple[Ints, Ints]:
    """Counts by level of group k: non-mated in the plan's scope, and mated."""
    cells = scope_cells(scope, len(axis.labels), k)[np.ix_(axis.of_finest, axis.of_finest)]
    return counted.grid["nonmated"][cells].sum(axis=0), counted.grid["mated"][axis.of_finest == k].sum(axis=0)


def _rates(nonmated: Ints, mated: Ints) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FMR and FNMR at every edge."""
    return reaching(nonmated)[1:] / nonmated.sum(), 1.0 - reaching(mated)[1:] / mated.sum()


def det_curves(counted: Counted, axis: Axis, section: Section) -> list[Series]:
    """FNMR against FMR for every shown group, at grid edges spread evenly over the logarithm of the FMR."""
    found = []
    for k in axis.shown:
        nonmated, mated = group_levels(counted, axis, section.scope, k)
        if not nonmated.any() or not mated.any():
            continue
        fmr, fnmr = _rates(nonmated, mated)
        steps = np.flatnonzero((np.diff(fmr, prepend=2.0) != 0) | (np.diff(fnmr, prepend=-1.0) != 0))
        keep = steps[fmr[steps] > 0]
        if len(keep) > DET_POINTS:
            even = np.linspace(np.log10(fmr[keep[0]]), np.log10(fmr[keep[-1]]), DET_POINTS)
            place = np.searchsorted(-np.log10(fmr[keep]), -even)
            keep = keep[np.unique(np.clip(place, 0, len(keep) - 1))]
        found.append(
            Series(
                kind="curve",
                quantity="det",
                of=axis.of(k),
                at={"axis": axis.name, "scope": section.scope},
                x=tuple(float(v) for v in fmr[keep]),
                y=tuple(float(v) for v in fnmr[keep]),
                x_name="FMR",
                y_name="FNMR",
            )
        )
    return found


def score_histograms(counted: Counted) -> list[Series]:
    """Mated and non-mated scores of everybody in even bins, as counts."""
    low, high = counted.survey.low, counted.survey.high
    bounds = np.linspace(low, high, BARS + 1)
    places = centres(counted.edges)
    found = []
    for name, counts in (
        ("non-mated", counted.grid["nonmated"].sum(axis=(0, 1))),
        ("mated", counted.grid["mated"].sum(axis=0)),
    ):
        if not counts.any():
            continue
        bars = np.histogram(places, bounds, weights=counts)[0]
        middle = counted.survey.sign * (bounds[1:] + bounds[:-1]) / 2
        order = np.argsort(middle)
        found.append(
            Series(
                kind="histogram",
                quantity="score_distribution",
                at={"class": name},
                x=tuple(float(v) for v in middle[order]),
                y=tuple(float(v) for v in bars[order]),
                x_name="score",
                y_name="comparisons",
            )
        )
    return found


def centres(edges: NDArray[Any]) -> NDArray[np.float64]:
    """A score for every level: the middle of its bin, the end of the grid for the outer ones."""
    wide = edges.astype(np.float64)
    return np.concatenate([wide[:1], (wide[1:] + wide[:-1]) / 2, wide[-1:]])


def score_shift(counted: Counted, axis: Axis, section: Section) -> list[Estimate]:
    """How far each shown group's scores lie from those of all other shown groups: KS distance and d', by class."""
    found = []
    levels = {k: group_levels(counted, axis, section.scope, k) for k in axis.shown}
    places = counted.survey.sign * centres(counted.edges)
    for k in axis.shown:
        for number, name in ((0, "non-mated"), (1, "mated")):
            own = levels[k][number]
            rest = sum((levels[j][number] for j in axis.shown if j != k), np.zeros_like(own))
            at: dict[str, At] = {"class": name, "against": "all other groups", "scope": section.scope}
            held = Support(comparisons=int(own.sum()), subjects=int(axis.people[k]))
            for quantity, (value, reason) in (
                ("ks_distance", kolmogorov_smirnov(own, rest)),
                ("d_prime", d_prime(own, rest, places)),
            ):
                note = () if reason else ("measured on the score grid; no interval is made for it",)
                found.append(
                    Estimate(
                        quantity=quantity, of=axis.of(k), at=at, value=value, undefined=reason, support=held, notes=note
                    )
                )
    return found


def area_under_fdr(counted: Counted, axis: Axis, section: Section) -> list[Estimate]:
    """Mean FDR over thresholds at overall FMR values evenly spaced on a logarithmic axis, as far as the file resolves.

    The range runs from one decade above 1 / (non-mated comparisons), at least 1e-6, to 1e-1.
    """
    groups = [k for k in axis.shown if all(c.any() for c in group_levels(counted, axis, section.scope, k))]
    overall = counted.grid["nonmated"].sum(axis=(0, 1))
    total = int(overall.sum())
    at_base: dict[str, At] = {"axis": axis.name, "scope": section.scope, "groups": len(groups)}
    lowest = max(1e-6, 10.0 / total) if total else 1.0
    if len(groups) < 2 or lowest >= 1e-1:
        reason = "fewer than two groups with both rates" if len(groups) < 2 else "too few non-mated comparisons"
        return [Estimate(quantity="area_under_fdr", at=at_base, undefined=reason)]
    fmr = reaching(overall)[1:] / total
    targets = np.logspace(np.log10(lowest), -1.0, 41)
    edges = np.array([int(np.argmax(fmr <= t)) for t in targets])
    rates = [_rates(*group_levels(counted, axis, section.scope, k)) for k in groups]
    gaps = [
        (measure("max-min", [r[0][e] for r in rates]).value, measure("max-min", [r[1][e] for r in rates]).value)
        for e in edges
    ]
    found = []
    for alpha in section.alphas:
        values = [1.0 - (alpha * (a or 0.0) + (1.0 - alpha) * (b or 0.0)) for a, b in gaps]
        found.append(
            Estimate(
                quantity="area_under_fdr",
                at={**at_base, "alpha": alpha, "lowest_fmr": float(lowest), "highest_fmr": 0.1},
                value=float(np.mean(values)),
                notes=(
                    "thresholds on the score grid; no interval is made for it: read the intervals of the FDR itself",
                ),
            )
        )
    return found
