"""What one section of an audit hands back: numbers, runs and inputs, before any policy has judged them."""

from __future__ import annotations

from msgspec import Struct

from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.finding import Finding, Method
from audit_toolkit.evidence.record import Input, Run, Statement
from audit_toolkit.evidence.series import Series


class Assessment(Struct, frozen=True, kw_only=True):
    """Estimates, series, runs and inputs of one section, with what it takes for granted and what it cannot show.

    ``headlines`` are findings without a verdict: what the section states in plain sentences even where nothing was required.
    """

    estimates: tuple[Estimate, ...] = ()
    headlines: tuple[Finding, ...] = ()
    series: tuple[Series, ...] = ()
    runs: tuple[Run, ...] = ()
    inputs: tuple[Input, ...] = ()
    statements: tuple[Statement, ...] = ()
    method: Method | None = None
    limits: tuple[str, ...] = ()
