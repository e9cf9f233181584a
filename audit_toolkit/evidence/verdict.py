"""How an interval and a limit become a verdict, and how verdicts become an exit code.

The rule, for ``x <= limit``: satisfied if the whole interval lies at or under the limit, violated if it lies wholly above,
else inconclusive. A value without an interval, an undefined value, or one with too little support is not assessed.
What was not run has not passed: the default is ``not_assessed``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.requirement import Requirement

Verdict = Literal["satisfied", "violated", "inconclusive", "not_assessed", "not_applicable"]
WORST_FIRST: tuple[Verdict, ...] = ("violated", "inconclusive", "not_assessed", "satisfied", "not_applicable")


def judge(estimate: Estimate, requirement: Requirement, *, min_subjects: int, min_errors: int) -> tuple[Verdict, str]:
    """Hold one estimate against one requirement; returns the verdict and the reason for it in plain words.

    ``min_subjects`` and ``min_errors`` are the plan's support rule, used where the requirement names none of its own.
    """
    if estimate.value is None:
        return "not_assessed", estimate.undefined or "undefined"
    need_subjects = min_subjects if requirement.min_subjects is None else requirement.min_subjects
    need_errors = min_errors if requirement.min_errors is None else requirement.min_errors
    support = estimate.support
    if support is not None and support.subjects < need_subjects:
        return "not_assessed", f"insufficient evidence: {support.subjects} subjects, the rule asks for {need_subjects}"
    if support is not None and support.errors is not None and support.errors < need_errors:
        return "not_assessed", f"insufficient evidence: {support.errors} errors, the rule asks for {need_errors}"
    bounds = estimate.decisive
    if bounds is None:
        return "not_assessed", "no interval could be made"
    low, high, limit = bounds.low, bounds.high, requirement.limit
    if requirement.comparator == "<=":
        satisfied = high is not None and high <= limit
        violated = low is not None and low > limit
    else:
        satisfied = low is not None and low >= limit
        violated = high is not None and high < limit
    if satisfied:
        return "satisfied", "the whole interval keeps the limit"
    if violated:
        return "violated", "the whole interval lies beyond the limit"
    return "inconclusive", "the interval straddles the limit"


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 all satisfied or nothing required; 1 something violated; 3 something inconclusive or not assessed."""
    seen = set(verdicts)
    if "violated" in seen:
        return 1
    return 3 if seen & {"inconclusive", "not_assessed"} else 0
