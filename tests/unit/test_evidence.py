"""Values, verdicts and withholding: small rules that everything rests on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit.errors import AuditError, InputError
from audit_toolkit.evidence.disclosure import withhold
from audit_toolkit.evidence.estimate import Estimate, Interval, Support
from audit_toolkit.evidence.quantities import ALL, get
from audit_toolkit.evidence.record import Record, read_record
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.series import Series
from audit_toolkit.evidence.verdict import exit_code, judge
from audit_toolkit.evidence.words import claim, number


def estimate(value: float | None, low: float | None, high: float | None, **more: object) -> Estimate:
    bounds = Interval(low=low, high=high, level=0.95, method="test")
    reason = None if value is not None else "undefined for the test"
    return Estimate(quantity="fmr", value=value, interval=bounds, undefined=reason, **more)  # type: ignore[arg-type]


def limit(comparator: str, value: float) -> Requirement:
    return Requirement(id="r", title="t", quantity="fmr", comparator=comparator, limit=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "comparator", "verdict"),
    [
        (0.1, 0.2, "<=", "satisfied"),
        (0.1, 0.3, "<=", "inconclusive"),
        (0.25, 0.3, "<=", "violated"),
        (0.1, None, "<=", "inconclusive"),
        (0.25, None, "<=", "violated"),
        (None, 0.2, "<=", "satisfied"),
        (None, None, "<=", "inconclusive"),
        (0.2, 0.3, ">=", "satisfied"),
        (0.1, 0.3, ">=", "inconclusive"),
        (0.1, 0.15, ">=", "violated"),
        (0.2, None, ">=", "satisfied"),
        (None, 0.15, ">=", "violated"),
    ],
)
def test_verdicts_come_from_intervals(low: float | None, high: float | None, comparator: str, verdict: str) -> None:
    found, reason = judge(estimate(0.2, low, high), limit(comparator, 0.2), min_subjects=0, min_errors=0)
    assert found == verdict
    assert reason


def test_the_simultaneous_interval_decides_where_there_is_one() -> None:
    wide = Interval(low=0.05, high=0.3, level=0.95, method="all at once")
    narrow = estimate(0.1, 0.08, 0.15, simultaneous=wide)
    assert judge(narrow, limit("<=", 0.2), min_subjects=0, min_errors=0)[0] == "inconclusive"


@pytest.mark.parametrize(("subjects", "errors"), [(29, 50), (50, 9)])
def test_thin_support_is_not_assessed_and_says_so(subjects: int, errors: int) -> None:
    thin = estimate(0.1, 0.08, 0.15, support=Support(comparisons=900, subjects=subjects, errors=errors))
    verdict, reason = judge(thin, limit("<=", 0.2), min_subjects=30, min_errors=10)
    assert verdict == "not_assessed"
    assert "insufficient evidence" in reason


def test_undefined_and_intervalless_are_not_assessed() -> None:
    assert judge(estimate(None, None, None), limit("<=", 1), min_subjects=0, min_errors=0)[0] == "not_assessed"
    bare = Estimate(quantity="fmr", value=0.1)
    assert judge(bare, limit("<=", 1), min_subjects=0, min_errors=0) == ("not_assessed", "no interval could be made")


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        (["satisfied", "not_applicable"], 0),
        (["satisfied", "inconclusive"], 3),
        (["not_assessed"], 3),
        (["inconclusive", "violated"], 1),
    ],
)
def test_exit_codes(verdicts: list[str], code: int) -> None:
    assert exit_code(verdicts) == code  # type: ignore[arg-type]


def test_a_number_is_a_number_or_has_a_reason() -> None:
    with pytest.raises(AuditError, match="neither a value nor a reason"):
        Estimate(quantity="fmr")
    with pytest.raises(AuditError, match="not a finite number"):
        Estimate(quantity="fmr", value=math.nan)
    with pytest.raises(AuditError, match="not finite"):
        Interval(low=0.0, high=math.inf, level=0.95, method="m")
    with pytest.raises(AuditError, match="lower bound above"):
        Interval(low=0.2, high=0.1, level=0.95, method="m")
    with pytest.raises(AuditError, match="expected 4"):
        Series(kind="matrix", quantity="fmr", x=("a", "b"), rows=("a", "b"), y=(0.1,))


def test_a_record_reads_back_as_it_was() -> None:
    record = Record(
        toolkit_version="0", title="t", plan={"b": 1, "a": 2}, plan_digest="d", estimates=(estimate(0.1, 0.0, None),)
    )
    assert read_record(record.to_bytes()) == record
    assert read_record(record.to_bytes()).digest() == record.digest()
    with pytest.raises(InputError, match="not a record"):
        read_record(record.to_bytes().replace(b'"title"', b'"titel"'))


def test_every_glossary_entry_explains_itself() -> None:
    for entry in ALL.values():
        assert get(entry.id) is entry
        assert entry.definition.endswith(".")
        assert entry.source
        assert entry.limits
    with pytest.raises(AuditError, match="no quantity"):
        get("fairness")


def test_claims_print_no_none_and_no_naked_zero() -> None:
    unknown = claim(estimate(None, None, None))
    assert "undefined" in unknown
    open_ended = claim(estimate(0.0, 0.0, None, numerator=0, denominator=50))
    assert "no upper limit" in open_ended
    assert "None" not in unknown + open_ended
    assert number(None) == "–"
    assert number(12345) == "12,345"
    assert number(0.00012) == "1.2e-4"


SHAPE = st.dictionaries(st.tuples(st.sampled_from("abcdef")), st.integers(0, 30), min_size=1)


@given(counts=SHAPE, minimum=st.integers(1, 12))
def test_no_withheld_group_can_be_worked_out(counts: dict[tuple[str], int], minimum: int) -> None:
    found = withhold(counts, minimum, [list(counts)])
    present = [c for c, n in counts.items() if n > 0]
    assert all(c in found for c in present if counts[c] < minimum)
    hidden = [c for c in present if c in found]
    assert len(hidden) != 1 or len(present) == 1
    if not any(0 < n < minimum for n in counts.values()):
        assert not found


def test_intersections_are_protected_along_both_margins() -> None:
    counts = {
        ("sex=f",): 60, ("sex=m",): 62, ("hue=a",): 43, ("hue=b",): 79,
        ("hue=a", "sex=f"): 3, ("hue=b", "sex=f"): 57, ("hue=a", "sex=m"): 40, ("hue=b", "sex=m"): 22,
    }  # fmt: skip
    cells = [c for c in counts if len(c) == 2]
    sums = [[c for c in counts if c[0].startswith(p) and len(c) == 1] for p in ("sex", "hue")]
    sums += [cells, *([c for c in cells if part in c] for part in ("sex=f", "sex=m", "hue=a", "hue=b"))]
    found = withhold(counts, 5, sums)
    # one small cell of a 2 x 2 table can be worked out from its row and from its column: all four go
    assert set(found) == set(cells)
