from __future__ import annotations

from types import ModuleType

import msgspec
import pytest
from rich.cells import cell_len

from audit_toolkit.evidence.estimate import Estimate, Interval
from audit_toolkit.evidence.record import Record
from audit_toolkit.report.formats import FORMATS, render_json
from audit_toolkit.report.terminal import render_text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_nothing_is_wider_than_asked(synthetic: ModuleType, width: int) -> None:
    lines = render_text(synthetic.make_record(), width=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


def test_it_is_understood_without_colour(synthetic: ModuleType) -> None:
    record = synthetic.make_record()
    text = render_text(record, width=200)
    assert "\x1b" not in text
    assert "1 violated · 1 inconclusive · 1 not assessed · 1 satisfied · 0 not applicable" in text
    order = [text.index(f"[{word}]") for word in ("VIOLATED", "INCONCLUSIVE", "NOT ASSESSED", "SATISFIED", "MEASURED")]
    assert order == sorted(order)
    for finding in record.findings:
        assert finding.claim in text
    for said in (
        "17 left out: score is not a number",
        "12 kept",
        "Warning: 0.4 %",
        "not provided",
        "0 / 7,120",
    ):
        assert said in text
    assert "withheld: fewer than 5 people" in text


def test_colour_is_asked_for(synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" in render_text(synthetic.make_record(), color=True)
    plain = render_text(synthetic.make_record())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "33")
    assert render_text(synthetic.make_record()) == plain


def test_nothing_required(synthetic: ModuleType) -> None:
    assert "Nothing was required in the plan" in render_text(synthetic.make_record(required=False))


def test_labels_cannot_steer_the_terminal() -> None:
    bounds = Interval(low=0.1, high=0.3, level=0.95, method="m")
    hostile = ("\x1b[2J", "[bold red]x[/]", ":smile:", "a\rb\nc")
    estimates = tuple(Estimate(quantity="fmr", of={"g": name}, value=0.2, interval=bounds) for name in hostile)
    record = Record(toolkit_version="1", title="\x1b]0;t\x07", plan={}, plan_digest="0", estimates=estimates)
    text = render_text(record, width=100)
    assert not set("\x1b\x07\r") & set(text)
    assert "[bold red]x[/]" in text
    assert ":smile:" in text


def test_formats_are_bytes_of_the_record(synthetic: ModuleType) -> None:
    record = msgspec.structs.replace(synthetic.make_record(), series=(), findings=())
    assert render_json(record) == record.to_bytes()
    assert set(FORMATS) == {"record.json", "report.html", "summary.txt"}
    assert all(isinstance(render(record), bytes) for render in FORMATS.values())
