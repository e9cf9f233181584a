"""Curves and tables of searches: rank by rank, threshold by threshold, gallery by gallery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.identification.estimates import FIXED, INVESTIGATION, Operating, everybody
from audit_toolkit.disparity.identification.groups import enrolled_group, members, names
from audit_toolkit.disparity.identification.plan import Section
from audit_toolkit.disparity.identification.rates import (
    Bools,
    alerted,
    fnir_sample,
    fpir_sample,
    hit_sample,
    lowest_threshold,
    scaled_fpir,
    with_pooled,
)
from audit_toolkit.disparity.identification.searches import Searches
from audit_toolkit.evidence.estimate import At
from audit_toolkit.evidence.series import Series
from audit_toolkit.stats.dependence import RateSample
from audit_toolkit.stats.intervals import interval

TRADE_OFF = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4)
"""Overall FPIRs whose thresholds the trade-off table lists, as far as the searches resolve them."""


def groups_of(searches: Searches, axis: Axis) -> list[tuple[dict[str, str], Bools]]:
    """Everybody, then every shown group: its name and its searches."""
    return [({}, everybody(searches))] + [(axis.of(k), members(axis, searches, k)) for k in axis.shown]


def _series(
    kind: str, quantity: str, of: dict[str, str], at: dict[str, At], x: Sequence[float], samples: Sequence[RateSample],
    section: Section, x_name: str, y_name: str, notes: tuple[str, ...],
) -> Series:  # fmt: skip
    made = [
        interval(s, section.uncertainty.level, section.uncertainty.method) if s.comparisons else None for s in samples
    ]
    return Series(
        kind="curve" if kind == "curve" else "table",
        quantity=quantity,
        of=of,
        at=at,
        x=tuple(float(v) for v in x),
        y=tuple(s.rate for s in samples),
        low=tuple(None if i is None else i.low for i in made),
        high=tuple(None if i is None else i.high for i in made),
        numerators=tuple(s.errors for s in samples),
        denominators=tuple(s.comparisons for s in samples),
        x_name=x_name,
        y_name=y_name,
        notes=notes,
    )


def cmc_curves(searches: Searches, axis: Axis, section: Section) -> list[Series]:
    """Share of mated searches whose mate is among the first R people, for every R: CMC(R) = 1 - FNIR(N, R, no threshold)."""
    last = max(section.ranks)
    if searches.longest is not None:
        last = min(last, searches.longest)
    last = min(last, len(searches.enrolled)) if searches.gallery_known else last
    found = []
    for of, among in groups_of(searches, axis):
        if last < 1 or not (among & searches.mated).any():
            continue
        samples = [
            hit_sample(s)
            for s in with_pooled([fnir_sample(searches, among, r, None, resampled=False) for r in range(1, last + 1)])
        ]
        found.append(
            _series(
                "curve", "cmc", of, {**INVESTIGATION, "axis": axis.name, "gallery": FIXED}, range(1, last + 1), samples,
                section, "rank", "share of mated searches with the mate at this rank or better",
                ("intervals with this gallery held fixed, each rank by itself",),
            )
        )  # fmt: skip
    return found


def trade_off(searches: Searches, axis: Axis, section: Section) -> list[Series]:
    """What each threshold gives and costs, by group: FPIR and FNIR at thresholds set for falling overall FPIR.

    This is the table that decisions are made from: the same threshold for everybody in each column.
    """
    non = ~searches.mated
    n = int(non.sum())
    if not n or searches.thresholds_known is not None:
        return []
    best = searches.best[non, 0]
    listed = [lowest_threshold(best, a) for a in TRADE_OFF if a * n >= 1.0]
    asked = [section.sign * t.value for t in section.thresholds if t.value is not None]
    values = sorted({t for t in [*listed, *asked] if abs(t) < 1e300 and searches.fpir_unknown(t) is None})
    if not values:
        return []
    at: dict[str, At] = {"axis": axis.name, "gallery": FIXED, "table": "trade-off"}
    shown = [section.sign * v for v in values]
    found = []
    for of, among in groups_of(searches, axis):
        for quantity, samples in (
            ("fpir", [fpir_sample(searches, among, t, resampled=False) for t in values]),
            ("fnir", [fnir_sample(searches, among, None, t, resampled=False) for t in values]),
        ):
            if samples[0].comparisons:
                found.append(
                    _series(
                        "table", quantity, of, at, shown, with_pooled(samples), section, "threshold", quantity.upper(),
                        ("one threshold for everybody; intervals with this gallery held fixed",),
                    )
                )  # fmt: skip
    return found


def growth_curves(searches: Searches, axis: Axis, operating: Operating, section: Section) -> list[Series]:
    """FPIR measured in nested halves of the gallery, beside what independent comparisons would give.

    The halves are chosen by the hash of each enrolled person's id. The false match rate per person enrolled comes from the
    whole gallery's counts; 1 - (1 - FMR)^N is what it would make of N people if the comparisons of a search were independent.
    """
    t = operating.value
    if not searches.gallery_known or searches.fpir_unknown(t) is not None or len(searches.sizes) < 2:
        return []
    counted = None if searches.count_unknown(t) else searches.above([t])[:, 0]
    sizes = [int(v) for v in searches.sizes]
    order = [k for k in range(len(sizes)) if sizes[k] > 0][::-1]
    at: dict[str, At] = {**operating.at, "axis": axis.name, "gallery": FIXED}
    found = []
    for of, among in groups_of(searches, axis):
        non = among & ~searches.mated
        if not non.any():
            continue
        samples = with_pooled([fpir_sample(searches, among, t, resampled=False, level=k) for k in order])
        found.append(
            _series(
                "curve", "fpir", of, at, [float(sizes[k]) for k in order], samples, section, "people enrolled", "FPIR",
                ("sub-galleries are nested random halves of this gallery; each point by itself",),
            )
        )  # fmt: skip
        if counted is None:
            continue
        fmr = min(1.0, float(counted[non].sum()) / (float(non.sum()) * sizes[0]))
        found.append(
            Series(
                kind="curve",
                quantity="fpir_predicted",
                of=of,
                at={**at, "fmr": fmr},
                x=tuple(float(sizes[k]) for k in order),
                y=tuple(scaled_fpir(fmr, sizes[k]) for k in order),
                x_name="people enrolled",
                y_name="1 - (1 - FMR)^N",
                notes=("FMR per enrolled person, from all non-mated searches of the group against the whole gallery",),
            )
        )
    return found


def composition(searches: Searches, axis: Axis) -> list[Series]:
    """How many of the people enrolled belong to each group; "others" have no label or a group that is not shown."""
    group = enrolled_group(axis, searches)
    if not (group >= 0).any():
        return []
    total = len(group)
    counts = [int((group == k).sum()) for k in axis.shown]
    rest = total - sum(counts)
    hidden = any(reason is not None for reason in axis.withheld)
    labels = [*names(axis, axis.shown), "others"]
    notes: tuple[str, ...] = (
        ("people enrolled, each once",) if searches.gallery_known else ("people who were ever listed, each once",)
    )
    if hidden:
        notes += ("groups too small to show are among the others",)
    return [
        Series(
            kind="table",
            quantity="gallery_share",
            at={"axis": axis.name},
            x=tuple(labels),
            y=tuple(c / total for c in [*counts, rest]),
            numerators=(*counts, rest),
            denominators=(total,) * len(labels),
            x_name=axis.name,
            y_name="share of the gallery",
            notes=notes,
        )
    ]


def mistaken_for(searches: Searches, axis: Axis, operating: Operating) -> list[Series]:
    """Whom non-mated searches are taken for: rate of false positives by the group of the best candidate."""
    group = enrolled_group(axis, searches)
    shown = [k for k in axis.shown if (group == k).any()]
    if len(shown) < 2 or searches.fpir_unknown(operating.value) is not None:
        return []
    wrong = alerted(searches, operating.value) & ~searches.mated
    at_best: NDArray[np.int64] = np.full(searches.n, -1, np.int64)
    at_best[wrong] = group[np.searchsorted(searches.enrolled, searches.best_subject[wrong])]
    rows = [k for k in axis.shown if (members(axis, searches, k) & ~searches.mated).any()]
    if not rows:
        return []
    made = [int((members(axis, searches, k) & ~searches.mated).sum()) for k in rows]
    cells = [[int((members(axis, searches, k) & (at_best == j)).sum()) for j in shown] for k in rows]
    return [
        Series(
            kind="matrix",
            quantity="fpir",
            of={"axis": axis.name},
            at={**operating.at, "cells": "group of the best candidate"},
            x=names(axis, shown),
            rows=names(axis, rows),
            y=tuple(c / m for line, m in zip(cells, made, strict=True) for c in line),
            numerators=tuple(c for line in cells for c in line),
            denominators=tuple(m for line, m in zip(cells, made, strict=True) for _ in line),
            x_name="enrolled",
            y_name="probe",
            notes=(
                "non-mated searches whose best candidate reaches the threshold, over all non-mated searches of the row",
            ),
        )
    ]
