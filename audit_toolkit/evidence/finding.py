"""A sentence a court can read, tied to the numbers it rests on."""

from __future__ import annotations

from html import escape

from msgspec import Struct

from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.verdict import Verdict


class Method(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a number was made: name, version, where the formula comes from, and what it takes for granted."""

    name: str
    version: str
    reference: str = ""
    assumptions: tuple[str, ...] = ()


class Finding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One claim, its verdict where something was required, and the estimates behind it.

    ``requirement`` is ``None`` for a finding that only states what was measured; its verdict is then ``None`` too, and it
    takes no part in the verdict strip or the exit code.
    """

    id: str
    claim: str
    verdict: Verdict | None = None
    reason: str = ""
    requirement: Requirement | None = None
    estimates: tuple[Estimate, ...] = ()
    method: Method | None = None
    limits: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """The claim and its verdict as a plain table for notebooks."""
        return f"<table><tr><td>{escape(self.verdict or 'measured')}</td><td>{escape(self.claim)}</td></tr></table>"
