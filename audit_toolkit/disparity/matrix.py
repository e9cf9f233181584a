"""The false match rate of every reference group against every probe group, as one matrix."""

from __future__ import annotations

import numpy as np

from audit_toolkit.disparity.estimates import place
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated
from audit_toolkit.disparity.rates import fmr_sample
from audit_toolkit.evidence.series import Series
from audit_toolkit.stats.dependence import RateSample, pooled_deff, with_deff
from audit_toolkit.stats.intervals import interval

MOST_CELLS = 40 * 40


def cross_matrix(rated: Rated, section: Section, *, symmetric: bool = False) -> Series | None:
    """FMR by (reference group, probe group) over the shown groups, with interval and counts in every cell.

    Cells across two groups are resampled on both sides. ``symmetric``: pairs have no sides, a cell equals its mirror.
    ``None`` with fewer than two shown groups, or too many to draw.
    """
    shown = rated.axis.shown
    if len(shown) < 2 or len(shown) ** 2 > MOST_CELLS:
        return None
    size = len(rated.axis.labels)
    samples: list[RateSample] = []
    for a in shown:
        for b in shown:
            cells = np.zeros((size, size), np.bool_)
            cells[a, b] = True
            if symmetric:
                cells[b, a] = True
            samples.append(fmr_sample(rated.table, rated.t, cells))
    deff = pooled_deff(samples)
    samples = [with_deff(s, deff) for s in samples]
    level, method = section.uncertainty.level, "logit-jackknife"
    bounds = [interval(s, level, method) if s.comparisons else None for s in samples]
    labels = tuple(rated.axis.label(k) for k in shown)
    return Series(
        kind="matrix",
        quantity="fmr",
        of={"axis": rated.axis.name},
        at=place(rated.chosen),
        x=labels,
        rows=labels,
        y=tuple(s.rate for s in samples),
        low=tuple(None if b is None else b.low for b in bounds),
        high=tuple(None if b is None else b.high for b in bounds),
        numerators=tuple(s.errors for s in samples),
        denominators=tuple(s.comparisons for s in samples),
        x_name="group" if symmetric else "probe group",
        y_name="group" if symmetric else "reference group",
        notes=(f"{level * 100:.4g} % intervals, {method}, each cell by itself",),
    )
