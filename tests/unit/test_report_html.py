from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

import audit_toolkit.report
from audit_toolkit.errors import UsageError
from audit_toolkit.evidence.estimate import Estimate, Support
from audit_toolkit.evidence.record import Input, Record
from audit_toolkit.report.html import render_html

VOID = {"meta", "link", "br", "hr", "img", "input"}
CSS = (Path(audit_toolkit.report.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Checks nesting while it reads; keeps ids, links, headings and the visible text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.headings: list[int] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.stack.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            if name == "href" and (value or "").startswith("#"):
                self.references.append((value or "")[1:])
            if name in ("aria-labelledby", "aria-describedby"):
                self.references += (value or "").split()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def small(**more: object) -> Record:
    return Record(toolkit_version="1", title="t", plan={}, plan_digest="00", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def page(synthetic: ModuleType) -> bytes:
    return render_html(synthetic.make_record())


@pytest.fixture(scope="module")
def parsed(page: bytes) -> Page:
    return Page(page)


def test_nothing_is_fetched_or_run(page: bytes, parsed: Page) -> None:
    text = page.decode()
    assert "<script" not in text
    assert not re.search(r"@import|@font-face", text)
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert not [a for a in parsed.attributes if a[1] in ("src", "srcset", "action", "data") or a[1].startswith("on")]
    links = {v for tag, name, v in parsed.attributes if name == "href" and not v.startswith("#")}
    assert links == {"data:,"}
    assert "default-src 'none'" in text


def test_hostile_labels_are_shown_as_text(parsed: Page, synthetic: ModuleType) -> None:
    assert synthetic.SCRIPT in parsed.text
    assert synthetic.LONG in parsed.text
    assert synthetic.VIETNAMESE in parsed.text


def test_page_is_sound(parsed: Page) -> None:
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.references) <= set(parsed.ids)
    assert parsed.headings.count(1) == 1
    assert parsed.headings[0] == 1
    assert all(b <= a + 1 for a, b in zip(parsed.headings, parsed.headings[1:], strict=False))
    assert ("html", "lang", "en") in parsed.attributes
    assert ("a", "class", "skip") in parsed.attributes


def test_every_reason_verdict_and_exclusion_is_said(parsed: Page, synthetic: ModuleType) -> None:
    record = synthetic.make_record()
    for e in record.estimates:
        assert e.undefined is None or e.undefined in parsed.text
    for word in ("Violated", "Inconclusive", "Not assessed", "Satisfied", "Not applicable", "not provided"):
        assert word in parsed.text
    for x in record.inputs[0].exclusions:
        assert x.reason in parsed.text
    for finding in record.findings:
        assert " ".join(finding.claim.split()) in parsed.text
    assert record.digest() in parsed.text
    assert record.runs[0].state_digest in parsed.text
    assert "Less chance" in parsed.text
    assert "no lower limit" in parsed.text
    assert "no upper limit" in parsed.text


def test_none_is_never_printed(parsed: Page) -> None:
    assert not re.search(r"\b(None|NaN|nan|inf)\b", parsed.text)


def test_same_record_same_bytes(page: bytes, synthetic: ModuleType) -> None:
    assert render_html(synthetic.make_record()) == page


def test_rules_of_the_plan_are_found_in_its_sections(parsed: Page) -> None:
    for words in ("Fewest people for a verdict 30", "for a verdict on a ratio 10", "to be shown at all 5"):
        assert words in parsed.text


def test_repeats_are_named_not_drawn(synthetic: ModuleType) -> None:
    record = synthetic.make_record()
    rates = tuple(e for e in record.estimates if e.quantity == "fmr")
    again = tuple(msgspec.structs.replace(e, quantity="gfar") for e in rates)
    page = Page(render_html(msgspec.structs.replace(record, estimates=rates + again, series=(), findings=())))
    assert "Not drawn again" in page.text
    assert page.ids.count("figure-6") == 1
    assert "figure-7" not in page.ids


def test_nothing_required(synthetic: ModuleType) -> None:
    text = Page(render_html(synthetic.make_record(required=False))).text
    assert "Nothing was required of this system in the plan" in text
    assert "Violated" not in text


def test_withheld_counts_stay_out() -> None:
    e = Estimate(
        quantity="fmr",
        of={"g": "a"},
        undefined="withheld: fewer than 5 people in this group",
        numerator=8_765,
        denominator=76_543,
        support=Support(comparisons=76_543, subjects=4_321, errors=8_765),
    )
    text = Page(render_html(small(estimates=(e,)))).text
    assert "withheld" in text
    assert not re.search(r"8,?765|76,?543|4,?321", text)


def test_empty_and_partial_records() -> None:
    text = Page(render_html(small(status="partial"))).text
    assert "This record is partial" in text
    assert "The record holds no findings" in text
    source = Input(name="a\x1b[2J<b>.csv", sha256="0", format="csv", rows_read=1, rows_used=1)
    assert "No row was left out" in Page(render_html(small(inputs=(source,)))).text
    assert b"\x1b" not in render_html(small(inputs=(source,)))


def test_many_findings_fold(synthetic: ModuleType) -> None:
    record = synthetic.make_record()
    many = msgspec.structs.replace(record, findings=record.findings[2:3] * 9, estimates=(), series=())
    assert Page(render_html(many)).text.count("Requirement and method") == 9


def test_unknown_language(synthetic: ModuleType) -> None:
    with pytest.raises(UsageError, match="Known: en"):
        render_html(synthetic.make_record(), language="xx")


def test_drawing_is_imported_late() -> None:
    code = (
        "import sys; import audit_toolkit.report.html, audit_toolkit.report.terminal, audit_toolkit.report.figures;"
        "sys.exit(int(bool({'matplotlib', 'rich.console', 'pandas', 'scipy'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def tones(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{3,6})\b", block))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast(scheme: int) -> None:
    blocks = [tones(b) for b in re.findall(r":root \{(.*?)\}", CSS, re.S)]
    assert len(blocks) == 3
    colours = blocks[0] | blocks[scheme]
    for ground in ("paper", "sheet", "wash"):
        for ink in ("ink", "muted", "accent", "bad", "good", "warn", "none"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for k in range(1, 9):
            assert contrast(colours[f"s{k}"], colours[ground]) >= 3.0, (k, ground)


def test_contrast_itself() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
