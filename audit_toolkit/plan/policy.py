"""From estimates to findings: hold every requirement against what it is about, and state the rest in plain sentences.

A verdict is made from an interval, never from a value. A requirement that meets no estimate is not assessed: what was not
run has not passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from audit_toolkit.evidence.assessment import Assessment
from audit_toolkit.evidence.finding import Finding
from audit_toolkit.evidence.quantities import get
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.verdict import WORST_FIRST, Verdict, judge
from audit_toolkit.evidence.words import claim, number

_WORDS: dict[Verdict, str] = {
    "satisfied": "Satisfied",
    "violated": "Violated",
    "inconclusive": "Inconclusive",
    "not_assessed": "Not assessed",
    "not_applicable": "Not applicable",
}


def findings(
    assessment: Assessment, requirements: Sequence[Requirement], *, min_subjects: int, min_errors: int
) -> tuple[Finding, ...]:
    """One finding for every estimate that a requirement is about, worst first, then what was measured without a limit."""
    judged: list[Finding] = []
    for requirement in requirements:
        judged += _held_against(requirement, assessment, min_subjects, min_errors)
    judged.sort(key=lambda f: WORST_FIRST.index(f.verdict or "not_applicable"))
    return (*judged, *assessment.headlines)


def _held_against(
    requirement: Requirement, assessment: Assessment, min_subjects: int, min_errors: int
) -> list[Finding]:
    about = [
        e
        for e in assessment.estimates
        if e.matches(requirement.quantity, requirement.of, requirement.at)
        # nobody operates a what-if: it is judged only where the requirement names it
        and ("what_if" not in e.at or requirement.at.keys() & {"what_if", "policy"})
    ]
    limit = f"The requirement is {requirement.comparator.replace('<=', '≤').replace('>=', '≥')} {number(requirement.limit)}."
    if not about:
        name = get(requirement.quantity).name
        return [
            Finding(
                id=requirement.id,
                claim=f"No {name} was measured that this requirement is about. {limit} Not assessed.",
                verdict="not_assessed",
                reason="nothing was measured that matches the requirement's `of` and `at`",
                requirement=requirement,
            )
        ]
    # A ratio is only as good as its errors; a plain rate may rest on a zero-error limit.
    ratio = get(requirement.quantity).unit in ("rate ratio", "odds ratio", "ratio")
    found = []
    for k, estimate in enumerate(about):
        verdict, reason = judge(estimate, requirement, min_subjects=min_subjects, min_errors=min_errors if ratio else 0)
        found.append(
            Finding(
                id=requirement.id if len(about) == 1 else f"{requirement.id}-{k + 1}",
                claim=f"{claim(estimate)} {limit} {_WORDS[verdict]}.",
                verdict=verdict,
                reason=reason,
                requirement=requirement,
                estimates=(estimate,),
                method=assessment.method,
                limits=(get(requirement.quantity).limits,),
            )
        )
    return found
