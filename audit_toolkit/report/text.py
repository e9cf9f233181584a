"""How values become words: one spelling of groups, places and requirements for every format.

Promise: ``None`` is never printed as a number, a bound that is missing says which side is open, and no label can carry
control or text-direction characters into a page or a terminal. What a quantity is called and means comes from the
glossary in `audit_toolkit.evidence.quantities`; this module invents no meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from audit_toolkit.evidence.estimate import At, Estimate, describe_group
from audit_toolkit.evidence.quantities import ALL
from audit_toolkit.evidence.quantity import Quantity
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.verdict import Verdict
from audit_toolkit.evidence.words import number

NONE = "–"

VERDICT_WORDS: dict[Verdict, str] = {
    "violated": "Violated",
    "inconclusive": "Inconclusive",
    "not_assessed": "Not assessed",
    "satisfied": "Satisfied",
    "not_applicable": "Not applicable",
}
VERDICT_MEANINGS: dict[Verdict, str] = {
    "violated": "the whole interval lies beyond the limit",
    "inconclusive": "the interval lies on both sides of the limit",
    "not_assessed": "undefined, withheld, or too little support",
    "satisfied": "the whole interval keeps the limit",
    "not_applicable": "the requirement does not concern this system",
}

# Control characters, lone surrogates, the two non-characters XML refuses, and the characters that turn text around.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def clean(text: str) -> str:
    """The text without characters that could steer a terminal or turn a line around; each becomes U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def label(text: str, *, limit: int | None = None) -> str:
    """One line of clean text, shortened with an ellipsis where a drawing has no room for more."""
    line = " ".join(clean(text).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def place(value: At) -> str:
    """A threshold, an alpha or a name, precise enough to tell neighbours apart."""
    if isinstance(value, str):
        return short_name(value) if value in ALL else label(value)
    if isinstance(value, int):
        return f"{value:,}"
    text = repr(value).removesuffix(".0")
    return text if len(text) <= 9 else f"{value:.7g}"


_ORDER = ("threshold", "policy", "rate", "axis", "class", "scope", "groups")
"""Keys of ``at`` that say where a number was taken, in the order people read them; other keys name a variant of it."""


def _reading_order(key: str) -> tuple[int, str]:
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)


def split_place(at: Mapping[str, At]) -> tuple[dict[str, At], dict[str, At]]:
    """What says where a number was taken, and what names a variant of it (alpha, ddof, epsilon); each in reading order."""
    keys = sorted(at, key=_reading_order)
    return {k: at[k] for k in keys if k in _ORDER}, {k: at[k] for k in keys if k not in _ORDER}


def at_text(at: Mapping[str, At], *, without: tuple[str, ...] = ()) -> str:
    """Where an estimate was taken: ``threshold 0.62 (overall FMR at most 1e-4), alpha 0.5``; empty if nowhere."""
    shown = {k: at[k] for k in sorted(at, key=_reading_order) if k not in without}
    policy = shown.pop("policy", None) if "threshold" in shown else None
    parts = [f"{label(k).replace('_', ' ')} {place(v)}" for k, v in shown.items()]
    if policy is not None:
        k = list(shown).index("threshold")
        parts[k] += f" ({place(policy)})"
    return ", ".join(parts)


def axes_text(axes: tuple[str, ...]) -> str:
    """The axes of a grouping in words: ``gender``, ``gender × ethnicity``."""
    return " × ".join(label(axis) for axis in axes)


def group_text(of: Mapping[str, str]) -> str:
    """The group in words, clean: ``female & Asian``, or ``everybody``."""
    return label(describe_group(of))


def percent(level: float) -> str:
    """A confidence level as people write it: ``95 %``, with a space that does not break."""
    return f"{100 * level:.4g}\u00a0%"


def ratio_text(numerator: int | None, denominator: int | None) -> str:
    """Counts behind a rate: ``41 / 3,333``; an en dash where there are none."""
    if numerator is None and denominator is None:
        return NONE
    return f"{number(numerator)} / {number(denominator)}"


def value_text(estimate: Estimate) -> str:
    """An estimate's value; a score is written out, because a threshold must be told from its neighbours."""
    value = estimate.value
    return number(value) if value is None or describe(estimate.quantity).unit != "score" else place(value)


def is_withheld(estimate: Estimate) -> bool:
    """Whether the value was withheld to protect few people; then no count of it may be shown either."""
    return estimate.value is None and (estimate.undefined or "").startswith("withheld")


def counts_text(estimate: Estimate) -> str:
    """The counts behind an estimate, or an en dash where they are unknown or withheld.

    Of a rate its numerator and denominator (``41 / 3,333``), of a ratio the errors of both groups (``41 and 13 errors``).
    """
    if is_withheld(estimate):
        return NONE
    errors, against = (estimate.at.get(k) for k in ("errors", "errors_against"))
    if isinstance(errors, int) and isinstance(against, int):
        return f"{number(errors)} and {number(against)} errors"
    return ratio_text(estimate.numerator, estimate.denominator)


def people_text(estimate: Estimate) -> str:
    """How many different people stand behind an estimate, or an en dash where unknown or withheld."""
    return NONE if estimate.support is None or is_withheld(estimate) else number(estimate.support.subjects)


def requirement_text(requirement: Requirement) -> str:
    """What is required, in one line: ``FMR ratio at most 2, of every gender``."""
    comparator = "at most" if requirement.comparator == "<=" else "at least"
    text = f"{describe(requirement.quantity).name} {comparator} {number(requirement.limit)}"
    groups = [f"every {label(a)}" if g == "*" else f"{label(a)} {label(g)}" for a, g in requirement.of.items()]
    parts = [text, *([f"of {', '.join(groups)}"] if groups else []), at_text(requirement.at)]
    return ", ".join(part for part in parts if part)


def source_text(requirement: Requirement) -> str:
    """Where the requirement comes from, and whether its primary text was read."""
    source = requirement.source
    read = {
        "primary": "primary text read",
        "secondary": "read in a secondary text; check the primary one",
        "declared": "declared by the auditor",
    }
    return ", ".join(part for part in (label(source.title), label(source.clause), read[source.read]) if part)


def describe(quantity: str) -> Quantity:
    """The glossary's entry for a quantity id; an id that the glossary does not know stands for itself."""
    known = ALL.get(quantity)
    if known is not None:
        return known
    return Quantity(id=quantity, name=label(quantity).replace("_", " "), unit="index", definition="")


def short_name(quantity: str) -> str:
    """The field's abbreviation where the glossary prints one (``FMR``), else the full name."""
    name = describe(quantity).name
    found = re.search(r"\(([A-Z]{2,6})\)$", name)
    return found.group(1) if found else name


def measure_text(estimate: Estimate) -> str:
    """A summary measure's name and its variant; of a measure with a weight the short name: ``GARBE, alpha 0.5``."""
    name = describe(estimate.quantity).name
    variant = at_text(split_place(estimate.at)[1])
    if "alpha" in estimate.at:
        brief = short_name(estimate.quantity)
        name = name.partition(" (")[0] if brief == name else brief
    return f"{name}, {variant}" if variant else name


def heading(text: str) -> str:
    """The text with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]
