from __future__ import annotations

from types import ModuleType

from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit.evidence.estimate import Estimate, Interval
from audit_toolkit.evidence.finding import Finding
from audit_toolkit.evidence.verdict import WORST_FIRST
from audit_toolkit.report import rows

ALONE = Interval(low=0.1, high=0.2, level=0.95, method="m")
estimates = st.lists(
    st.builds(
        lambda q, of, at, defined: Estimate(
            quantity=q,
            of=of,
            at=at,
            value=0.15 if defined else None,
            undefined=None if defined else "reason",
            interval=ALONE if defined else None,
        ),
        st.sampled_from(["fmr", "fnmr", "gini", "unknown"]),
        st.dictionaries(st.sampled_from(["gender", "age"]), st.sampled_from(["a", "b"])),
        st.dictionaries(st.sampled_from(["threshold", "alpha", "against", "errors"]), st.sampled_from([1, 2])),
        st.booleans(),
    ),
    max_size=30,
)


@given(estimates)
def test_every_estimate_stands_in_exactly_one_table(listed: list[Estimate]) -> None:
    shown = [e for table in rows.tables(listed) for block in table.blocks for e in block.estimates]
    assert sorted(map(id, shown)) == sorted(map(id, listed))
    assert sum(table.rows for table in rows.tables(listed)) == len(listed)
    assert sum(table.undefined for table in rows.tables(listed)) == sum(e.value is None for e in listed)


@given(estimates)
def test_panels_hold_one_quantity_and_place(listed: list[Estimate]) -> None:
    for quantity, blocks in rows.panels(listed).items():
        for block in blocks:
            assert block.axes
            assert {e.quantity for e in block.estimates} == {quantity}
            assert {tuple(e.of) for e in block.estimates} <= {block.axes, ()}
            assert len({(e.at.get("threshold"), e.at.get("alpha")) for e in block.estimates}) == 1


@given(st.lists(st.sampled_from([*WORST_FIRST, None])))
def test_findings_come_worst_first_and_none_is_lost(verdicts: list) -> None:
    findings = [Finding(id=str(k), claim="c", verdict=v) for k, v in enumerate(verdicts)]
    ordered = rows.worst_first(findings)
    order = [*WORST_FIRST, None]
    assert sorted(f.id for f in ordered) == sorted(f.id for f in findings)
    assert [order.index(f.verdict) for f in ordered] == sorted(order.index(v) for v in verdicts)
    counts = rows.verdict_counts(findings)
    assert list(counts) == list(WORST_FIRST)
    assert sum(counts.values()) == sum(v is not None for v in verdicts)


def test_a_ratio_to_one_other_group_is_drawn() -> None:
    ratio = Estimate(quantity="fmr_ratio", of={"g": "f"}, at={"against": "m"}, value=0.15, interval=ALONE)
    rate = Estimate(quantity="fmr", of={"g": "f"}, value=0.15, interval=ALONE)
    assert list(rows.panels([ratio, rate])) == ["fmr_ratio"]


def test_levels_are_named_once_where_they_agree() -> None:
    other = Interval(low=0.1, high=0.2, level=0.9, method="m")
    make = [Estimate(quantity="fmr", of={"g": k}, value=0.15, interval=i) for k, i in (("a", ALONE), ("b", other))]
    assert rows.tables(make[:1])[0].level("interval") == 0.95
    assert rows.tables(make)[0].level("interval") is None


def test_a_panel_is_not_drawn_twice() -> None:
    def rate(quantity: str, value: float) -> list[Estimate]:
        return [Estimate(quantity=quantity, of={"g": g}, value=value, interval=ALONE) for g in "ab"]

    panels = rows.panels([*rate("fmr", 0.1), *rate("gfar", 0.1 + 1e-17), *rate("fnmr", 0.2)])
    assert list(panels) == ["fmr", "gfar", "fnmr"]
    assert list(rows.without_repeats(panels)) == ["fmr", "fnmr"]


def test_summary_measures_stand_together_by_axis_and_place() -> None:
    def measure(quantity: str, axis: str, **at: float) -> Estimate:
        return Estimate(quantity=quantity, at={"axis": axis, "rate": "fmr", **at}, value=0.1)

    listed = [
        measure("std", "g", ddof=0),
        measure("gini", "g"),
        measure("std", "g", ddof=1),
        measure("std", "h", ddof=0),
    ]
    first, second = rows.tables(listed)
    assert (first.name, second.name) == ("summary measures and tests, g", "summary measures and tests, h")
    assert [e.at.get("ddof") for e in first.blocks[0].estimates] == [0, 1, None]


def test_glossary_lists_what_occurs(synthetic: ModuleType) -> None:
    record = synthetic.make_record()
    found = [q.id for q in rows.glossary(record)]
    assert len(found) == len(set(found))
    assert {"fmr", "fnmr", "fmr_ratio", "garbe"} <= set(found)
    assert "gfar" not in found


def test_histograms_of_both_classes_stand_together(synthetic: ModuleType) -> None:
    series = synthetic.make_record().series
    assert [len(s) for s in rows.together(series, "histogram", apart=("class",))] == [4]
    assert [len(s) for s in rows.together(series, "histogram")] == [2, 2]
