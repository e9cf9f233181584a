"""What a glossary entry is."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Unit = Literal["rate", "ratio", "difference", "index", "p-value", "score", "rate ratio", "odds ratio"]


ISO = "ISO/IEC 19795-1:2021"

RATE = "{threshold}, the {name} for {group} was {value} ({interval}; {numerator} of {denominator} {what}; {subjects} people)."
RATIO = (
    "{threshold}, the {name} of {group} to {against} was {value} ({interval}; {errors} and {errors_against} {what})."
)
"""The sentences of a rate and of a ratio, filled by `audit_toolkit.evidence.words.claim`."""


class Quantity(Struct, frozen=True, kw_only=True):
    """One glossary entry. ``ideal`` is the value that no difference between groups would give, where there is one."""

    id: str
    name: str
    unit: Unit
    definition: str
    numerator: str = ""
    denominator: str = ""
    source: str = ""
    limits: str = ""
    sentence: str = ""
    ideal: float | None = None
