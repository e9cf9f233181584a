"""What is required, written as data, with the law or standard it comes from.

A requirement is not code: it names a glossary quantity, whom it is about, a comparator and a limit, so that the reader
of a report and the author of a plan see the same thing.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from audit_toolkit.evidence.estimate import At


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a requirement comes from: the law or standard, the clause, and whether the primary text was read."""

    title: str
    clause: str = ""
    read: Literal["primary", "secondary", "declared"] = "declared"


class Requirement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit on one quantity.

    ``of`` and ``at`` choose the estimates it is about (``"*"`` in ``of`` = every group of that axis). ``min_subjects`` and
    ``min_errors`` are the support below which nothing is assessed; ``None`` takes the plan's rule.
    """

    id: str
    title: str
    quantity: str
    comparator: Literal["<=", ">="]
    limit: float
    of: dict[str, str] = field(default_factory=dict)
    at: dict[str, At] = field(default_factory=dict)
    source: Source = Source(title="the auditor's plan")
    min_subjects: int | None = None
    min_errors: int | None = None
    rationale: str = ""

    def __post_init__(self) -> None:
        if min(self.min_subjects or 0, self.min_errors or 0) < 0:
            raise ValueError("`min_subjects` and `min_errors` cannot be negative")
