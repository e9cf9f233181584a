from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.evidence.estimate import Estimate, Interval
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.series import Series
from audit_toolkit.report import figures, style, svg

LIMIT = Requirement(id="r", title="t", quantity="fmr_ratio", comparator="<=", limit=2.0)


def estimate(value: float | None, low: float | None, high: float | None, name: str = "a", **more: object) -> Estimate:
    if value is None:
        return Estimate(quantity="fmr", of={"g": name}, undefined="withheld: fewer than 5 people in this group")
    bounds = Interval(low=low, high=high, level=0.95, method="m")
    return Estimate(quantity="fmr", of={"g": name}, value=value, interval=bounds, **more)  # type: ignore[arg-type]


def drawn(figure: object, prefix: str = "p") -> ElementTree.Element:
    text = svg.inline(figure, prefix=prefix, title="title", description="words")  # type: ignore[arg-type]
    return ElementTree.fromstring(text)  # noqa: S314 - our own drawing


def words(root: ElementTree.Element) -> list[str]:
    return ["".join(t.itertext()) for t in root.iter("text")]


def ladder() -> Series:
    return Series(kind="ladder", quantity="x", x=("one", "two", "three"), y=(0.1, None, 1e-5), y_name="risk")


KINDS: dict[str, Callable[[ModuleType], object]] = {
    "interval": lambda m: figures.interval_plot([e for e in m.make_record().estimates if e.quantity == "fmr"][:8]),
    "limit": lambda m: figures.interval_plot(
        [e for e in m.make_record().estimates if e.quantity == "fmr_ratio"], requirement=LIMIT, ideal=1.0
    ),
    "curve": lambda m: figures.curve([s for s in m.make_record().series if s.kind == "curve"][:8]),
    "matrix": lambda m: figures.matrix(next(s for s in m.make_record().series if s.kind == "matrix")),
    "histogram": lambda m: figures.histogram([s for s in m.make_record().series if s.kind == "histogram"]),
    "ladder": lambda _: figures.ladder(ladder()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_same_values_same_bytes(synthetic: ModuleType, kind: str) -> None:
    first, second = (svg.inline(KINDS[kind](synthetic), prefix="p", title="t", description="d") for _ in range(2))
    assert first == second
    assert "DejaVu" not in first
    assert "nan" not in first.lower()


@pytest.mark.parametrize("kind", KINDS)
def test_letters_stay_legible_on_a_telephone(synthetic: ModuleType, kind: str) -> None:
    root = drawn(KINDS[kind](synthetic))
    width = float(root.attrib["viewBox"].split()[2])
    # The narrowest place a drawing stands in: a finding's card on a page 390 px wide. Wider ones scroll at 95 %.
    shown = 334.0 if width <= 400 else 0.95 * width
    sizes = [float(m[1]) for t in root.iter("text") if (m := re.search(r"([\d.]+)px", t.attrib["style"]))]
    assert len(sizes) == len(words(root)) > 2
    assert min(sizes) * shown / width >= 9.0


@pytest.mark.parametrize("kind", KINDS)
def test_ids_belong_to_one_drawing(synthetic: ModuleType, kind: str) -> None:
    root = drawn(KINDS[kind](synthetic), "mine")
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    assert all(i.startswith("mine-") for i in ids)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', ElementTree.tostring(root, encoding="unicode")))
    assert used <= set(ids)
    assert root.attrib["aria-labelledby"].split() == ["mine-t", "mine-d"]
    assert [root[0].tag, root[0].text, root[1].tag, root[1].text] == ["title", "title", "desc", "words"]


def test_user_settings_do_not_leak_either_way() -> None:
    plain = svg.draw(figures.interval_plot([estimate(0.1, 0.05, 0.2)]))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "svg.hashsalt": "x"}):
        before = dict(matplotlib.rcParams)
        assert svg.draw(figures.interval_plot([estimate(0.1, 0.05, 0.2)])) == plain
        assert dict(matplotlib.rcParams) == before


def test_values_are_written_with_counts_and_reasons() -> None:
    root = drawn(
        figures.interval_plot(
            [estimate(0.0123, 0.01, 0.015, numerator=41, denominator=3333), estimate(None, None, None)]
        )
    )
    said = words(root)
    assert "0.0123  (41 / 3,333)" in said
    assert "withheld: fewer than 5 people in this group" in said
    assert "0" not in said


@pytest.mark.parametrize(
    "name", ["$\\frac{1}{", "a<b>&c", "-->", "\x1b[31mred", "]]>", "東", "x" * 500, "", "\u202eevil"]
)
def test_hostile_labels(name: str) -> None:
    root = drawn(figures.interval_plot([estimate(0.1, 0.05, 0.2, name)]))
    said = " ".join(words(root))
    assert not set("\x1b\u202e") & set(said)
    assert name[:4] in said or any(c in name for c in "\x1b\u202e")
    assert max(map(len, words(root))) < 60


def test_limit_and_ideal_are_labelled() -> None:
    assert "limit: at most 2" in words(drawn(figures.interval_plot([estimate(1.0, 0.5, 3.0)], requirement=LIMIT)))
    assert "no difference: 1" in words(drawn(figures.interval_plot([estimate(1.0, 0.5, 3.0)], ideal=1.0)))


def test_axis_says_when_it_is_logarithmic() -> None:
    near, far = [estimate(0.1, 0.09, 0.12)], [estimate(0.1, 0.09, 0.12), estimate(1e-4, 1e-5, 1e-3)]
    assert "FMR" in words(drawn(figures.interval_plot(near)))
    assert "FMR (logarithmic axis)" in words(drawn(figures.interval_plot(far)))
    # a zero cannot stand on a logarithmic axis: it stays written, and its row stays drawn
    assert "0" in words(drawn(figures.interval_plot([*far, estimate(0.0, None, 0.003)])))


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        figures.interval_plot([])


def test_close_values_keep_different_ticks() -> None:
    said = words(drawn(figures.interval_plot([estimate(0.94325, 0.9431, 0.9434)])))
    ticks = [w for w in said if w.startswith("0.943")][:-1]
    assert len(ticks) == len(set(ticks)) >= 3


@pytest.mark.parametrize("value", [None, 0.0, 1.0, -0.5])
def test_lonely_and_open_estimates(value: float | None) -> None:
    drawn(figures.interval_plot([estimate(value, None, None)]))
    drawn(figures.interval_plot([estimate(value, None, None)], requirement=LIMIT, ideal=0.0))


@pytest.mark.parametrize(
    "series",
    [
        Series(kind="curve", quantity="det", x=(), y=()),
        Series(kind="curve", quantity="det", x=(0.1, 0.2), y=(None, None)),
        Series(kind="curve", quantity="det", x=(0.0, 1e-4, 1.0), y=(1.0, 0.0, 0.0), x_name="FMR"),
    ],
)
def test_curves_without_much_to_show(series: Series) -> None:
    drawn(figures.curve(series))


def test_matrix_says_none_zero_and_counts() -> None:
    series = Series(
        kind="matrix",
        quantity="fmr",
        x=("p", "q"),
        rows=("r",),
        y=(None, 0.0),
        numerators=(None, 0),
        denominators=(None, 15_234),
        x_name="probe",
    )
    said = words(drawn(figures.matrix(series)))
    assert said.count("–") == 1
    assert "0/15.2k" in said
    assert {"p", "q", "r"} <= set(said)
    assert figures._brief(9_999) == "9999"
    assert figures._brief(2_500_000) == "2.5M"


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-9, 1e6), st.floats(1.0001, 1e6), st.booleans())
def test_ticks_are_round_and_inside(low: float, factor: float, log: bool) -> None:
    high = low * factor
    marks = style.ticks(low, high, log=log)
    assert marks == sorted(set(marks))
    assert len(marks) <= 8
    assert all(low * 0.999 - 1e-9 <= m <= high * 1.001 + 1e-9 for m in marks)
