"""One measured number with everything a reader needs to doubt it properly.

Promise: a rate never travels without numerator, denominator and interval, and what could not be computed is ``None``
with a reason; never 0, 1 or NaN in its place. An interval bound of ``None`` is unbounded on that side, so a one-sided
estimate can violate a limit but never satisfy the other side of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from msgspec import Struct, field

from audit_toolkit.errors import AuditError

At = float | int | str
"""A value that says where an estimate was taken: a threshold, an alpha, the name of a policy."""


class Interval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A range with its level and the method that made it; ``None`` on a side means unbounded there.

    ``level`` is the nominal coverage in (0, 1). For simultaneous intervals it is the level of the whole family.
    """

    low: float | None
    high: float | None
    level: float
    method: str

    def __post_init__(self) -> None:
        if any(bound is not None and not math.isfinite(bound) for bound in (self.low, self.high)):
            raise AuditError("An interval bound is not finite.", mend="Use None for an unbounded side.")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise AuditError("An interval has its lower bound above its upper bound.")
        if not 0.0 < self.level < 1.0:
            raise AuditError("An interval's level lies outside (0, 1).")

    def contains(self, value: float) -> bool:
        """Whether the value lies inside, ends included."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


class Support(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much stands behind a number: comparisons made, different people in them, errors seen among them."""

    comparisons: int
    subjects: int
    errors: int | None = None


class Chance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a spread measure would show if all true rates were equal: the part of it that pure chance gives.

    ``expected`` is the median and ``high`` the 95th percentile of the measure under equality with this file's counts and
    design effect; ``corrected`` is the observed value less what chance adds. ``None`` where it is undefined.
    """

    expected: float | None
    high: float | None
    corrected: float | None
    method: str


class Estimate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured quantity of one group at one place, with interval and support.

    ``quantity`` names an entry of the glossary (`audit_toolkit.evidence.quantities`); ``of`` maps axis to group (empty
    for everybody; a cross-group cell uses the axes ``reference:NAME`` and ``probe:NAME``); ``at`` says where it was taken
    (threshold, policy, alpha, rate, axis). ``interval`` stands alone; ``simultaneous`` holds for the whole family at once
    and is what verdicts read when it is there.
    """

    quantity: str
    of: dict[str, str] = field(default_factory=dict)
    at: dict[str, At] = field(default_factory=dict)
    value: float | None = None
    interval: Interval | None = None
    simultaneous: Interval | None = None
    numerator: int | None = None
    denominator: int | None = None
    support: Support | None = None
    chance: Chance | None = None
    notes: tuple[str, ...] = ()
    undefined: str | None = None

    def __post_init__(self) -> None:
        if self.value is None and not self.undefined:
            raise AuditError(f"An estimate of {self.quantity!r} has neither a value nor a reason for having none.")
        if self.value is not None and self.undefined:
            raise AuditError(f"An estimate of {self.quantity!r} has a value and a reason for having none.")
        if self.value is not None and not math.isfinite(self.value):
            raise AuditError(f"An estimate of {self.quantity!r} is not a finite number.", mend="Give a reason instead.")

    @property
    def decisive(self) -> Interval | None:
        """The interval that a verdict reads: the simultaneous one where a family was tested, else its own."""
        return self.simultaneous or self.interval

    def matches(self, quantity: str, of: Mapping[str, str], at: Mapping[str, At]) -> bool:
        """Whether this is the quantity asked for, of exactly the axes asked for (``"*"`` = any group; none = everybody)."""
        return (
            self.quantity == quantity
            and self.of.keys() == of.keys()
            and all(v in ("*", self.of[k]) for k, v in of.items())
            and all(self.at.get(k) == v for k, v in at.items())
        )

    def _repr_html_(self) -> str:
        """A plain table row for notebooks; the rich display belongs to the audit."""
        cells = [self.quantity, describe_group(self.of), "–" if self.value is None else f"{self.value:.6g}"]
        bounds = self.interval
        cells.append("" if bounds is None else f"{_bound(bounds.low)} – {_bound(bounds.high)} ({bounds.level:.0%})")
        cells.append(self.undefined or "")
        return "<table><tr>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr></table>"


def _bound(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.6g}"


def describe_group(of: Mapping[str, str]) -> str:
    """The group in words: ``everybody``, ``female``, ``female, black``, or ``reference female, probe male``."""
    if not of:
        return "everybody"
    sides: dict[str, list[str]] = {}
    for axis, label in of.items():
        side = axis.split(":", 1)[0] if ":" in axis else ""
        sides.setdefault(side, []).append(label)
    return ", ".join(f"{side} {' & '.join(labels)}".strip() for side, labels in sides.items())
