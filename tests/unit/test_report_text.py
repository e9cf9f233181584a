from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit.evidence.estimate import Estimate, Support
from audit_toolkit.evidence.requirement import Requirement, Source
from audit_toolkit.report import text

HELD = Support(comparisons=7, subjects=4, errors=2)


@given(st.text())
def test_clean_leaves_nothing_that_steers(raw: str) -> None:
    done = text.clean(raw)
    assert len(done) == len(raw)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\t\n" for c in done)
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(done)
    assert text.clean(done) == done
    done.encode()


@given(st.text(), st.integers(2, 40))
def test_label_is_one_short_line(raw: str, limit: int) -> None:
    short = text.label(raw, limit=limit)
    assert "\n" not in short
    assert len(short) <= limit
    assert short == text.label(raw) or short.endswith("…")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.62, "0.62"),
        (1.0, "1"),
        (0.0, "0"),
        (3, "3"),
        (0.36251234567, "0.3625123"),
        ("fmr", "FMR"),
        ("x", "x"),
    ],
)
def test_place(value: float | int | str, shown: str) -> None:
    assert text.place(value) == shown


def test_at_text_puts_the_policy_in_brackets() -> None:
    at = {"threshold": 0.62, "policy": "vendor's value", "alpha": 0.5, "against": "male"}
    assert text.at_text(at, without=("against",)) == "threshold 0.62 (vendor's value), alpha 0.5"
    assert text.at_text({"policy": "EER"}) == "policy EER"
    assert text.at_text({}) == ""


def test_withheld_estimates_show_no_count() -> None:
    reason = "withheld: fewer than 5 people in this group"
    e = Estimate(quantity="fmr", undefined=reason, numerator=2, denominator=7, support=HELD)
    assert (text.counts_text(e), text.people_text(e)) == (text.NONE, text.NONE)
    open_ = Estimate(quantity="fmr", undefined="no mated comparisons", numerator=0, denominator=0, support=HELD)
    assert (text.counts_text(open_), text.people_text(open_)) == ("0 / 0", "4")


def test_counts_of_a_ratio_are_the_errors_of_both_groups() -> None:
    e = Estimate(quantity="fmr_ratio", at={"errors": 41, "errors_against": 1300}, value=2.0)
    assert text.counts_text(e) == "41 and 1,300 errors"


def test_names() -> None:
    assert text.short_name("fmr") == "FMR"
    assert text.short_name("fmr_ratio") == "ratio of false match rates"
    assert text.describe("no_such_thing").name == "no such thing"
    assert text.measure_text(Estimate(quantity="garbe", at={"alpha": 0.5}, value=0.1)) == "GARBE, alpha 0.5"
    shown = text.measure_text(Estimate(quantity="fairness_discrepancy_rate", at={"alpha": 1.0}, value=0.1))
    assert shown == "Fairness Discrepancy Rate, alpha 1"


def test_requirement_in_words() -> None:
    requirement = Requirement(
        id="r",
        title="t",
        quantity="fmr",
        comparator=">=",
        limit=0.001,
        of={"gender": "*", "age": "old"},
        at={"threshold": 0.5},
        source=Source(title="Law", clause="§ 4", read="secondary"),
    )
    assert text.requirement_text(requirement) == (
        "false match rate (FMR) at least 0.001, of every gender, age old, threshold 0.5"
    )
    assert text.source_text(requirement) == "Law, § 4, read in a secondary text; check the primary one"


def test_a_threshold_is_written_out() -> None:
    assert text.value_text(Estimate(quantity="threshold", value=0.33271417)) == "0.3327142"
    assert text.value_text(Estimate(quantity="fmr", value=0.33271417)) == "0.333"
    assert text.value_text(Estimate(quantity="threshold", undefined="none")) == "–"


def test_percent_does_not_break() -> None:
    assert text.percent(0.95) == "95\u00a0%"
    assert text.percent(0.99375) == "99.38\u00a0%"
