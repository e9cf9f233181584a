"""How an estimate becomes a sentence, from the glossary's template where it has one.

Promise: one spelling of numbers, intervals and groups in every claim; ``None`` is never printed as a number. A sentence
says what was measured, where, on how much; it never says why.
"""

from __future__ import annotations

from audit_toolkit.evidence.estimate import Estimate, Interval, describe_group
from audit_toolkit.evidence.quantities import get

_WHAT = {
    "fmr": "non-mated comparisons",
    "fnmr": "mated comparisons",
    "fte": "enrolment attempts",
    "fta": "acquisition attempts",
    "far": "impostor transactions",
    "frr": "genuine transactions",
    "fmr_ratio": "false matches",
    "fnmr_ratio": "false non-matches",
    "fpir": "non-mated searches",
    "fnir": "mated searches",
    "tpir": "mated searches",
    "fpir_ratio": "false positive searches",
    "fnir_ratio": "missed mated searches",
    "alert_share": "alerts",
    "passerby_share": "people",
    "false_alert_share": "adjudicated alerts",
}


def number(value: float | int | None) -> str:
    """A number as a person reads it: ``12,345``, ``0.0123``, ``1.2e-4``; an en dash for ``None``.

    Three significant digits for fractions, whole numbers in full up to 15 digits. Zero is ``0`` only if it was measured.
    """
    if value is None:
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1e-3:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def bounds(interval: Interval | None) -> str:
    """An interval's two ends in words; an open side is said to be open."""
    if interval is None:
        return "no interval"
    low, high = interval.low, interval.high
    if low is None and high is None:
        return "no lower and no upper limit"
    if low is None:
        return f"up to {number(high)}, no lower limit"
    if high is None:
        return f"{number(low)} or more, no upper limit"
    return f"{number(low)} to {number(high)}"


def threshold_phrase(estimate: Estimate) -> str:
    """Where an estimate was taken: ``At threshold 0.62 (lowest with FMR at most 0.0001 over everybody)``."""
    value = estimate.at.get("threshold")
    if value is None:
        return "In this sample"
    policy = estimate.at.get("policy")
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"At threshold {shown}" + (f" ({policy})" if policy else "")


def claim(estimate: Estimate) -> str:
    """The plain sentence of one estimate, complete with interval and counts."""
    quantity = get(estimate.quantity)
    group = describe_group(estimate.of)
    where = threshold_phrase(estimate)
    if estimate.value is None:
        return f"{where}, {quantity.name} for {group} is undefined: {estimate.undefined}."
    shown = estimate.decisive
    level = "" if shown is None else f"{shown.level * 100:.4g} % interval "
    if shown is not None and estimate.simultaneous is not None:
        level = f"{shown.level * 100:.4g} % interval, all groups at once, "
    interval = f"{level}{bounds(shown)}"
    value, what = number(estimate.value), _WHAT.get(estimate.quantity, "comparisons")
    support = estimate.support
    people = number(support.subjects) if support is not None else "an unknown number of"
    errors, errors_against = estimate.at.get("errors"), estimate.at.get("errors_against")
    counted = (estimate.numerator is not None and estimate.denominator is not None) or (
        errors is not None and errors_against is not None
    )
    if quantity.sentence and counted:
        return quantity.sentence.format(
            threshold=where,
            name=quantity.name,
            group=group,
            against=estimate.at.get("against"),
            value=value,
            interval=interval,
            numerator=number(estimate.numerator),
            denominator=number(estimate.denominator),
            errors=number(errors) if isinstance(errors, int) else errors,
            errors_against=number(errors_against) if isinstance(errors_against, int) else errors_against,
            what=what,
            subjects=people,
        )
    if quantity.unit == "rate":
        return f"{where}, the {quantity.name} for {group} was {value} ({interval}; {people} people)."
    if "against" in estimate.at:
        return f"{where}, the {quantity.name} of {group} to {estimate.at['against']} was {value} ({interval})."
    extra = ", ".join(
        f"{k.replace('_', ' ')} {v:g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
        for k, v in estimate.at.items()
        if k not in ("threshold", "policy")
    )
    by_chance = ""
    if estimate.chance is not None and estimate.chance.expected is not None:
        by_chance = f"; equal groups of this size would show about {number(estimate.chance.expected)}"
        if estimate.chance.high is not None:
            by_chance += f", in 1 of 20 files more than {number(estimate.chance.high)}"
    about = f" ({extra})" if extra else ""
    return f"{where}, the {quantity.name}{about} was {value} ({interval}{by_chance})."
