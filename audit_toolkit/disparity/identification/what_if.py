"""What if every group had its own threshold with the same FPIR: a named what-if, and what it would cost each group.

Not a recommendation. A system runs one threshold unless it knows whom it looks at, and a threshold by group is a policy, not a
property of the system.
"""

from __future__ import annotations

from audit_toolkit.disparity.groups import Axis
from audit_toolkit.disparity.identification.estimates import FIXED, Operating, everybody, held_by
from audit_toolkit.disparity.identification.groups import members
from audit_toolkit.disparity.identification.plan import Section
from audit_toolkit.disparity.identification.rates import change_interval, fnir_sample, fpir_sample, lowest_threshold
from audit_toolkit.disparity.identification.searches import Searches
from audit_toolkit.evidence.estimate import At, Estimate
from audit_toolkit.stats.dependence import pooled_deff, with_deff
from audit_toolkit.stats.intervals import interval


def common(searches: Searches, target: float) -> Operating | None:
    """The lowest threshold at which at most ``target`` of all non-mated searches raise an alert; ``None`` without searches."""
    best = searches.best[~searches.mated, 0]
    if not len(best):
        return None
    return Operating(lowest_threshold(best, target), f"lowest with FPIR at most {target:g} over everybody", True)


def equalised(searches: Searches, axis: Axis, target: float, section: Section) -> list[Estimate]:
    """Each group's own lowest threshold with FPIR at most ``target``: the threshold, both rates there, and the change of FNIR.

    ``fnir_change`` is the group's FNIR at its own threshold less its FNIR at the common one, on the same searches. Intervals
    hold thresholds and gallery fixed.
    """
    level, method = section.uncertainty.level, section.uncertainty.method
    everyone = common(searches, target)
    found = []
    for k in range(len(axis.labels)):
        policy = f"what if each group had its own threshold with FPIR at most {target:g}"
        at: dict[str, At] = {"policy": policy, "axis": axis.name, "gallery": FIXED}
        of, group = axis.of(k), members(axis, searches, k)
        best = searches.best[group & ~searches.mated, 0]
        reason = axis.withheld[k]
        if reason is None and (everyone is None or not len(best)):
            reason = "no non-mated searches in this group"
        own = lowest_threshold(best, target) if reason is None else 0.0
        if reason is None:
            lower = min(own, everyone.value if everyone is not None else own)
            reason = searches.thresholds_known or searches.fpir_unknown(lower)
            if reason is None and abs(own) >= 1e300:
                reason = "any threshold keeps this target: too few searches of the group return anybody"
        if reason is not None or everyone is None:
            quantities = ("threshold", "fpir", "fnir", "fnir_change")
            found += [Estimate(quantity=q, of=of, at=at, undefined=reason) for q in quantities]
            continue
        few = () if target * len(best) >= 1.0 else (
            f"fewer than {1.0 / target:,.0f} non-mated searches: set just above the highest score seen",
        )  # fmt: skip
        found.append(Estimate(quantity="threshold", of=of, at=at, value=section.sign * own, notes=few))
        here: dict[str, At] = {**at, "threshold": section.sign * own}
        overall = fpir_sample(searches, everybody(searches), everyone.value, resampled=False)
        false = fpir_sample(searches, group, own, resampled=False)
        after = fnir_sample(searches, group, None, own, resampled=False)
        before = fnir_sample(searches, group, None, everyone.value, resampled=False)
        for quantity, sample in (("fpir", false), ("fnir", after)):
            if not sample.comparisons:
                found.append(Estimate(quantity=quantity, of=of, at=here, undefined="no mated searches in this group"))
                continue
            judged = with_deff(sample, pooled_deff([overall]))
            found.append(
                Estimate(
                    quantity=quantity,
                    of=of,
                    at={**here, "rank": "any"} if quantity == "fnir" else here,
                    value=sample.errors / sample.comparisons,
                    interval=interval(judged, level, method),
                    numerator=sample.errors,
                    denominator=sample.comparisons,
                    support=held_by(sample),
                )
            )
        if after.comparisons:
            found.append(
                Estimate(
                    quantity="fnir_change",
                    of=of,
                    at={**here, "from_threshold": section.sign * everyone.value},
                    value=after.errors / after.comparisons - before.errors / before.comparisons,
                    interval=change_interval(after, before, level),
                    support=held_by(after),
                )
            )
        else:
            found.append(Estimate(quantity="fnir_change", of=of, at=here, undefined="no mated searches in this group"))
    return found
