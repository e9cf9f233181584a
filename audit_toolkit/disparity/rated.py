"""The rates of every group of one axis at one threshold, ready for intervals, ratios and summaries."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.counting import AtThreshold, Counted
from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.pairs import pair_square
from audit_toolkit.disparity.rates import (
    SubjectTable,
    along,
    fmr_sample,
    fnmr_sample,
    group_fmr,
    largest_mated_deff,
    one,
    pooled,
    reaching,
    scope_cells,
    together,
)
from audit_toolkit.disparity.thresholds import Chosen, local_density
from audit_toolkit.stats.dependence import RateSample, adjust_for_threshold, pooled_deff


@dataclass(frozen=True, slots=True, eq=False)
class Rated:
    """One axis at one threshold: a sample per group, in the axis's order.

    ``fmr`` and ``fnmr`` carry the influences at this threshold held fixed; ``fmr_set`` and ``fnmr_set`` those of a threshold
    that was set on the same data (equal to the former where it was not). ``table`` counts by subject.
    """

    axis: Axis
    chosen: Chosen
    table: SubjectTable
    t: int
    fmr: tuple[RateSample, ...]
    fnmr: tuple[RateSample, ...]
    fmr_set: tuple[RateSample, ...]
    fnmr_set: tuple[RateSample, ...]

    def fixed(self, rate: str) -> tuple[RateSample, ...]:
        """The samples of a rate with the threshold held fixed."""
        return self.fmr if rate == "fmr" else self.fnmr

    def set_on_data(self, rate: str) -> tuple[RateSample, ...]:
        """The samples of a rate with the threshold's own uncertainty in them."""
        return self.fmr_set if rate == "fmr" else self.fnmr_set


def rate_axis(counted: Counted, axis: Axis, n: int, scope: str) -> Rated:
    """All groups of one axis at ``counted.chosen[n]``."""
    chosen, at = counted.chosen[n], counted.at[n]
    groups = range(len(axis.labels))
    table = along(at.state, axis)
    fmr = [group_fmr(table, at.t, scope, k) for k in groups]
    fnmr = [fnmr_sample(table, at.t, one(len(axis.labels), k)) for k in groups]
    fmr = pooled(fmr, _loose_deff(counted, axis, scope))
    fnmr = pooled(fnmr, largest_mated_deff(table))
    fmr = [with_alternatives(counted, n, f, cells=_finest_cells(axis, scope, k)) for k, f in enumerate(fmr)]
    fnmr = [with_alternatives(counted, n, f, members=axis.of_finest == k) for k, f in enumerate(fnmr)]
    fmr_set, fnmr_set = list(fmr), list(fnmr)
    if chosen.set_on is not None:
        base = _set_on(counted, at, chosen)
        f_base = local_density(counted.grid["nonmated"][chosen.set_on].sum(axis=0), counted.edges, chosen.value)
        if f_base > 0.0 and base.errors:
            for k in groups:
                cells = _finest_cells(axis, scope, k)
                f = local_density(counted.grid["nonmated"][cells].sum(axis=0), counted.edges, chosen.value)
                h = local_density(counted.grid["mated"][axis.of_finest == k].sum(axis=0), counted.edges, chosen.value)
                # Over the very cells the threshold was set on, the FMR would be the target by construction: hold it fixed.
                if not fmr[k].degenerate and not np.array_equal(cells, chosen.set_on):
                    fmr_set[k] = adjust_for_threshold(fmr[k], f, base, f_base, -1)
                if not fnmr[k].degenerate:
                    fnmr_set[k] = adjust_for_threshold(fnmr[k], h, base, f_base, +1)
    return Rated(axis, chosen, table, at.t, tuple(fmr), tuple(fnmr), tuple(fmr_set), tuple(fnmr_set))


def _finest_cells(axis: Axis, scope: str, k: int) -> NDArray[np.bool_]:
    return scope_cells(scope, len(axis.labels), k)[np.ix_(axis.of_finest, axis.of_finest)]


def _set_on(counted: Counted, at: AtThreshold, chosen: Chosen) -> RateSample:
    """The FMR over the cells the threshold was set on, over the finest groups."""
    assert chosen.set_on is not None  # noqa: S101 - the caller's condition
    table = finest_table(counted, at)
    return fmr_sample(table, at.t, chosen.set_on, together(table))


def finest_table(counted: Counted, at: AtThreshold) -> SubjectTable:
    """Counts by subject along the finest groups."""
    return SubjectTable(
        reaching(at.state["nonmated"]), reaching(at.state["mated"]), counted.groups.finest, counted.groups.count
    )


def _loose_deff(counted: Counted, axis: Axis, scope: str) -> float | None:
    """A design effect from a lower threshold, where groups have errors; it errs on the wide side."""
    if counted.loose is None:
        return None
    table = along(counted.loose.state, axis)
    samples = [group_fmr(table, counted.loose.t, scope, k) for k in range(len(axis.labels))]
    return pooled_deff(samples)


def with_alternatives(
    counted: Counted,
    n: int,
    sample: RateSample,
    *,
    cells: NDArray[np.bool_] | None = None,
    members: NDArray[np.bool_] | None = None,
) -> RateSample:
    """The sample with what the alternative interval methods need, where it was counted at this threshold.

    ``cells`` [finest, finest] marks the non-mated comparisons of an FMR, ``members`` [finest] the mated ones of an FNMR.
    """
    if counted.chosen[n].what_if is not None:
        return sample
    level = counted.listed_level[n]
    if counted.replicates is not None:
        g = counted.groups.count
        by_cell = counted.replicates["replicate"]
        levels = by_cell.shape[0] // (g * g + g)
        if cells is not None:
            inside = by_cell[: g * g * levels].reshape(g, g, levels, -1)[cells]
            wrong = inside[:, level:].sum(axis=(0, 1))
        else:
            inside = by_cell[g * g * levels :].reshape(g, levels, -1)[members]
            wrong = inside[:, :level].sum(axis=(0, 1))
        sample = replace(sample, replicates=_ratio(wrong, inside.sum(axis=(0, 1))))
    if counted.pairs is not None and cells is not None:
        square = pair_square(counted.pairs, counted.groups.finest, cells, level, sample.rate or 0.0)
        sample = replace(sample, pair_square=square)
    return sample


def _ratio(errors: NDArray[np.int64], all_of_them: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.full(len(errors), np.nan)
    np.divide(errors, all_of_them, out=out, where=all_of_them > 0)
    return out
