"""One-number summaries of how far groups differ: FDR, IR, GARBE, WERM, SER, and the spread of each rate.

Every value comes with an interval that does not exclude equality by chance more often than it says, and with what pure
chance would give in a file of this size. Zero-error groups: max/min, IR and SER are undefined; max/geomean replaces a
zero by a printed floor (half an error); GARBE and Gini take 0/0 as 0; WERM adds its epsilon. FDR and differences need no rule.

Formulas: FDR arXiv 2011.02395; IR, GARBE arXiv 2203.05051; WERM score-norm-fairness 2024; SER and STD, RFW practice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.disparity.estimates import place
from audit_toolkit.disparity.plan import Section
from audit_toolkit.disparity.rated import Rated
from audit_toolkit.evidence.estimate import At, Chance, Estimate, Interval, Support
from audit_toolkit.stats.dependence import RateSample, design_effect, from_counts, with_deff
from audit_toolkit.stats.intervals import DEFAULT, simultaneous
from audit_toolkit.stats.spread import KERNELS, PROJECTED, Spread, measure, project
from audit_toolkit.stats.spread_uncertainty import LEAST_DEFINED, chance, joint_jackknife, null_rates

EPSILON = 1e-5
"""What WERM adds to every rate in its geometric mean."""

DRAWS = 2000

Floats = NDArray[np.float64]

_QUANTITIES = {
    "max/min": "max_min_ratio",
    "max/geomean": "max_geomean_ratio",
    "max/mean": "max_mean_ratio",
    "max-min": "max_min_difference",
    "gini": "gini",
    "gini-normalised": "gini_normalised",
    "std": "std",
    "std-sample": "std",
    "mad": "mad",
}
_DDOF = {"std": 0, "std-sample": 1}


def fairness_discrepancy_rate(fmr: Sequence[float], fnmr: Sequence[float], alpha: float) -> Spread:
    """1 - (alpha (max FMR - min FMR) + (1 - alpha)(max FNMR - min FNMR)); 1 where all groups are alike."""
    a, b = measure("max-min", fmr), measure("max-min", fnmr)
    return _combine(a, b, alpha, lambda x, y: 1.0 - (alpha * x + (1.0 - alpha) * y))


def inequity_rate(fmr: Sequence[float], fnmr: Sequence[float], alpha: float) -> Spread:
    """(max FMR / min FMR)^alpha (max FNMR / min FNMR)^(1 - alpha); undefined where a rate that counts has a zero group."""
    return _combine(measure("max/min", fmr), measure("max/min", fnmr), alpha, _powers(alpha))


def garbe(fmr: Sequence[float], fnmr: Sequence[float], alpha: float) -> Spread:
    """Alpha G(FMR) + (1 - alpha) G(FNMR), G the normalised Gini coefficient, 0 where all rates are 0."""
    a, b = measure("gini-normalised", fmr), measure("gini-normalised", fnmr)
    return _combine(a, b, alpha, lambda x, y: alpha * x + (1.0 - alpha) * y)


def werm(fmr: Sequence[float], fnmr: Sequence[float], alpha: float, epsilon: float = EPSILON) -> Spread:
    """(max FMR / geo(FMR + e))^alpha (max FNMR / geo(FNMR + e))^(1 - alpha)."""

    def one(rates: Sequence[float]) -> Spread:
        if len(rates) < 2:
            return Spread(None, "fewer than two groups have a rate")
        return Spread(max(rates) / math.exp(sum(math.log(r + epsilon) for r in rates) / len(rates)))

    return _combine(one(fmr), one(fnmr), alpha, _powers(alpha))


def _powers(alpha: float) -> Any:
    return lambda x, y: (x**alpha if alpha > 0.0 else 1.0) * (y ** (1.0 - alpha) if alpha < 1.0 else 1.0)


def _combine(a: Spread, b: Spread, alpha: float, formula: Any) -> Spread:
    """Join the FMR part and the FNMR part; a part with weight 0 need not be defined."""
    for part, weight, rate in ((a, alpha, "FMR"), (b, 1.0 - alpha, "FNMR")):
        if weight > 0.0 and part.value is None:
            return Spread(None, f"{rate}: {part.undefined}")
    notes = "; ".join(
        f"{rate}: {part.note}"
        for part, weight, rate in ((a, alpha, "FMR"), (b, 1.0 - alpha, "FNMR"))
        if part.note and weight > 0.0
    )
    value = formula(0.0 if a.value is None else a.value, 0.0 if b.value is None else b.value)
    return Spread(float(value), None, notes or None)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """The shown groups of one axis at one threshold that have both rates, with everything a summary needs."""

    rated: Rated
    section: Section
    groups: tuple[int, ...]
    equal_p: dict[str, float | None]
    seed: int

    def samples(self, rate: str) -> list[RateSample]:
        """The samples of a rate, threshold uncertainty in them."""
        return [self.rated.set_on_data(rate)[k] for k in self.groups]

    def rates(self, rate: str) -> list[float]:
        """The rates themselves."""
        return [s.errors / s.comparisons for s in self.samples(rate)]

    def deffs(self, rate: str) -> list[float]:
        """A design effect for each group, the pooled one where a group has none of its own."""
        return [max(1.0, design_effect(s) or s.deff or 1.0) for s in self.samples(rate)]

    def support(self, *rates: str) -> Support:
        """The weakest group decides: the fewest people and the fewest errors in any group stand behind a spread."""
        samples = [self.rated.fixed(rate)[k] for rate in rates for k in self.groups]
        return Support(
            comparisons=sum(s.comparisons for s in samples),
            subjects=min(len(s.delta) for s in samples),
            errors=min(s.errors for s in samples),
        )

    def at(self, **more: At) -> dict[str, At]:
        """Where a summary was taken."""
        return {**place(self.rated.chosen), "axis": self.rated.axis.name, "scope": self.section.scope, **more}


def make_family(rated: Rated, section: Section, equal_p: dict[str, float | None], seed: int) -> Family | None:
    """The family of an axis; ``None`` with fewer than two groups that have both mated and non-mated comparisons."""
    groups = tuple(k for k in rated.axis.shown if rated.fmr[k].comparisons and rated.fnmr[k].comparisons)
    return Family(rated, section, groups, equal_p, seed) if len(groups) > 1 else None


def spread_estimates(family: Family, rate: str) -> list[Estimate]:
    """Every spread measure of one rate over the groups, with interval and with what chance would give."""
    samples, rates, level = family.samples(rate), family.rates(rate), family.section.uncertainty.level
    box = simultaneous(samples, level, DEFAULT)
    floor = 0.5 / max(s.comparisons for s in samples)
    found = []
    for name, quantity in _QUANTITIES.items():
        result = measure(name, rates, floor)
        at = family.at(rate=rate, groups=len(rates))
        if name in _DDOF:
            at["ddof"] = _DDOF[name]
        if result.value is None:
            made = None
        elif name in PROJECTED:
            low, high = project(name, [i.low for i in box], [i.high for i in box])
            made = Interval(low=low, high=high, level=level, method="projected from the groups' simultaneous intervals")
        else:
            made = _smooth(name, samples, level, family.equal_p[rate])
        by_chance = chance(
            name,
            [s.errors for s in samples],
            [s.comparisons for s in samples],
            family.deffs(rate),
            seed=family.seed,
            draws=DRAWS,
            floor=floor,
        )
        found.append(
            Estimate(
                quantity=quantity,
                at=at,
                value=result.value,
                undefined=result.undefined,
                interval=made,
                chance=by_chance,
                support=family.support(rate),
                notes=(result.note,) if result.note else (),
            )
        )
    return found


def _smooth(name: str, samples: Sequence[RateSample], level: float, equal_p: float | None) -> Interval:
    work, ideal = KERNELS[name]
    return _at_most_one(joint_jackknife(work, samples, level, ideal=ideal, equal_p=equal_p))


def _at_most_one(made: Interval) -> Interval:
    """No smooth measure of rates in [0, 1] exceeds 1, so an upper end beyond it says no more than 1."""
    if made.high is None or made.high <= 1.0:
        return made
    return Interval(low=made.low, high=1.0, level=made.level, method=made.method)


def combined_estimates(family: Family) -> list[Estimate]:
    """FDR, IR, GARBE and WERM for every alpha of the plan, and SER."""
    level = family.section.uncertainty.level
    both = family.samples("fmr") + family.samples("fnmr")
    k = len(family.groups)
    box = simultaneous(both, level, DEFAULT)
    parts = {name: (_span(name, box[:k]), _span(name, box[k:])) for name in ("max-min", "max/min", "max/geomean")}
    nulls = [
        null_rates(
            [s.errors for s in family.samples(rate)],
            [s.comparisons for s in family.samples(rate)],
            family.deffs(rate),
            seed=family.seed + number,
            draws=DRAWS,
        )
        for number, rate in enumerate(("fmr", "fnmr"))
    ]
    x, y = family.rates("fmr"), family.rates("fnmr")
    found = []
    for alpha in family.section.alphas:
        for quantity, formula in _FORMULAS.items():
            result = formula(x, y, alpha)
            at = family.at(alpha=alpha, groups=k)
            if quantity == "werm":
                at["epsilon"] = EPSILON
            made = None
            if result.value is not None:
                made = _interval(quantity, alpha, parts, both, k, level, family)
            found.append(
                Estimate(
                    quantity=quantity,
                    at=at,
                    value=result.value,
                    undefined=result.undefined,
                    interval=made,
                    chance=_chance(quantity, alpha, result, nulls),
                    support=family.support("fmr", "fnmr"),
                    notes=(result.note,) if result.note else (),
                )
            )
    found.append(_skewed_error_ratio(family))
    return found


_FORMULAS = {
    "fairness_discrepancy_rate": fairness_discrepancy_rate,
    "inequity_rate": inequity_rate,
    "garbe": garbe,
    "werm": werm,
}
_PART = {"fairness_discrepancy_rate": "max-min", "inequity_rate": "max/min", "garbe": "gini-normalised"}
_IDEAL = {"fairness_discrepancy_rate": 1.0, "inequity_rate": 1.0, "garbe": 0.0, "werm": 1.0}

Span = tuple[float | None, float | None]


def _span(name: str, box: Sequence[Interval]) -> Span:
    return project(name, [i.low for i in box], [i.high for i in box])


def _interval(
    quantity: str,
    alpha: float,
    parts: dict[str, tuple[Span, Span]],
    both: Sequence[RateSample],
    k: int,
    level: float,
    family: Family,
) -> Interval:
    how = "projected from the groups' simultaneous FMR and FNMR intervals"
    if quantity == "garbe":
        gini = KERNELS["gini-normalised"][0]

        def work(z: Floats) -> Floats:
            return np.asarray(alpha * gini(z[..., :k]) + (1.0 - alpha) * gini(z[..., k:]))

        # Both tests together at the level: twice the smaller p-value (Bonferroni); a rate of weight 0 does not count.
        ps = [p for p, w in ((family.equal_p["fmr"], alpha), (family.equal_p["fnmr"], 1.0 - alpha)) if w > 0.0]
        known = [p for p in ps if p is not None]
        joint = min(1.0, len(ps) * min(known)) if known else None
        return _at_most_one(joint_jackknife(work, both, level, ideal=0.0, equal_p=joint))
    name = {"fairness_discrepancy_rate": "max-min", "inequity_rate": "max/min", "werm": "max/geomean"}[quantity]
    (a_low, a_high), (b_low, b_high) = parts[name]
    if quantity == "fairness_discrepancy_rate":
        low = _weighted(a_high, b_high, alpha)
        high = _weighted(a_low, b_low, alpha)
        return Interval(
            low=None if low is None else 1.0 - low, high=None if high is None else 1.0 - high, level=level, method=how
        )
    shrink = 1.0
    if quantity == "werm":
        # max x / geo(x + e) lies between max/geo of (x + e) shrunk by max x / (max x + e) and that of x.
        tops = (max(family.rates("fmr")), max(family.rates("fnmr")))
        shrink = math.prod(
            (top / (top + EPSILON)) ** w if w > 0.0 else 1.0 for top, w in zip(tops, (alpha, 1.0 - alpha), strict=True)
        )
        how += ", epsilon allowed for"
    low, high = _product(a_low, b_low, alpha), _product(a_high, b_high, alpha)
    return Interval(
        low=None if low is None else min(low * shrink, high or math.inf), high=high, level=level, method=how
    )


def _weighted(a: float | None, b: float | None, alpha: float) -> float | None:
    if (a is None and alpha > 0.0) or (b is None and alpha < 1.0):
        return None
    return alpha * (a or 0.0) + (1.0 - alpha) * (b or 0.0)


def _product(a: float | None, b: float | None, alpha: float) -> float | None:
    if (a is None and alpha > 0.0) or (b is None and alpha < 1.0):
        return None
    return float(_powers(alpha)(a or 1.0, b or 1.0))


def _chance(quantity: str, alpha: float, result: Spread, nulls: Sequence[Floats]) -> Chance:
    """The measure over draws in which all groups share one FMR and one FNMR; draws where it is undefined are left out."""
    ideal = _IDEAL[quantity]
    part = KERNELS[_PART[quantity]][0] if quantity in _PART else _werm_part
    a, b = (part(null) for null in nulls)
    if quantity in ("inequity_rate", "werm"):
        values = np.asarray(
            (a**alpha if alpha > 0.0 else np.ones_like(a)) * (b ** (1.0 - alpha) if alpha < 1.0 else 1.0)
        )
    else:
        mixed = np.asarray(
            (alpha * a if alpha > 0.0 else np.zeros_like(a)) + ((1.0 - alpha) * b if alpha < 1.0 else 0.0)
        )
        values = 1.0 - mixed if quantity == "fairness_discrepancy_rate" else mixed
    defined = values[np.isfinite(values)]
    how = f"{len(values)} parametric draws at the pooled rates with the design effect"
    if len(defined) < len(values):
        how += f"; undefined in {1 - len(defined) / len(values):.1%} of draws, which are left out"
    if len(defined) < LEAST_DEFINED * len(values):
        return Chance(expected=None, high=None, corrected=None, method=how)
    worse = quantity == "fairness_discrepancy_rate"  # smaller is further from the ideal
    expected, far = (float(v) for v in np.quantile(defined, [0.5, 0.05 if worse else 0.95]))
    corrected = None
    if result.value is not None:
        moved = result.value - (expected - ideal)
        corrected = min(ideal, moved) if worse else max(ideal, moved)
    return Chance(
        expected=expected,
        high=far,
        corrected=corrected,
        method=how + "; corrected = observed less (median under equality less ideal)",
    )


def _werm_part(rates: Floats) -> Floats:
    return np.asarray(rates.max(axis=-1) / np.exp(np.log(rates + EPSILON).mean(axis=-1)))


def _skewed_error_ratio(family: Family) -> Estimate:
    """SER: largest to smallest share of wrong decisions, mated and non-mated comparisons together."""
    samples = [_wrong_decisions(family.rated, k) for k in family.groups]
    rates = [s.errors / s.comparisons for s in samples]
    result = measure("max/min", rates)
    made = None
    if result.value is not None:
        low, high = _span("max/min", simultaneous(samples, family.section.uncertainty.level, DEFAULT))
        made = Interval(
            low=low,
            high=high,
            level=family.section.uncertainty.level,
            method="projected from the groups' simultaneous intervals",
        )
    deffs = [max(1.0, design_effect(s) or 1.0) for s in samples]
    by_chance = chance(
        "max/min",
        [s.errors for s in samples],
        [s.comparisons for s in samples],
        deffs,
        seed=family.seed,
        draws=DRAWS,
    )
    return Estimate(
        quantity="ser",
        at=family.at(groups=len(samples)),
        value=result.value,
        undefined=result.undefined,
        interval=made,
        chance=by_chance,
        support=family.support("fmr", "fnmr"),
    )


def _wrong_decisions(rated: Rated, k: int) -> RateSample:
    """All comparisons within a group as one rate: false matches and false non-matches over mated and non-mated ones."""
    table, t = rated.table, rated.t
    inside = table.group == k
    left, right = table.nonmated[:, 0, k], table.nonmated[:, 1, k]
    made = (left[:, 0] + right[:, 0] + table.mated[:, 0]) * inside
    wrong = (left[:, 1 + t] + right[:, 1 + t] + table.mated[:, 0] - table.mated[:, 1 + t]) * inside
    errors = int((left[:, 1 + t] * inside).sum() + ((table.mated[:, 0] - table.mated[:, 1 + t]) * inside).sum())
    comparisons = int((left[:, 0] * inside).sum() + (table.mated[:, 0] * inside).sum())
    sample = from_counts(errors, comparisons, wrong, made)
    return with_deff(sample, max(rated.fmr[k].deff or 1.0, rated.fnmr[k].deff or 1.0))
