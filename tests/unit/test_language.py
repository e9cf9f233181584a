from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from types import ModuleType

import pytest

from audit_toolkit.evidence import quantities
from audit_toolkit.report import formats, text
from audit_toolkit.report.html import _MATRIX_NOTE

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
TEMPLATES = sorted((ROOT / "audit_toolkit" / "report" / "templates").glob("*.html"))


def banned_words() -> list[str]:
    table = DOC.split("## Words that are not used", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    return rows[1:]


BANNED = re.compile(rf"\b({'|'.join(map(re.escape, banned_words()))})\b", re.I)
PROPER_NAME = re.compile(r"Fairness Discrepancy Rate|fairness_discrepancy_rate|score-norm-fairness")


def offences(words: str) -> list[str]:
    return [m[0] for m in BANNED.finditer(PROPER_NAME.sub("", words))]


def visible(page: str) -> str:
    page = re.sub(r"<style>.*?</style>", " ", page, flags=re.S)
    return unescape(re.sub(r"<[^>]+>", " ", page))


def test_table_is_read() -> None:
    assert {"unbiased", "fair", "fairness", "safe", "anonymous", "compliant", "proves", "guarantee"} <= set(
        banned_words()
    )


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("This system is fair.", ["fair"]),
        ("It is Unbiased and SAFE", ["Unbiased", "SAFE"]),
        ("the Fairness Discrepancy Rate was 0.94", []),
        ("fairness was measured", ["fairness"]),
        ("fairly large; a fairground; unsafe", []),
        ("this proves it", ["proves"]),
    ],
)
def test_the_lint_itself(words: str, found: list[str]) -> None:
    assert offences(words) == found


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_templates(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("quantity", quantities.ALL.values(), ids=lambda q: q.id)
def test_glossary(quantity: quantities.Quantity) -> None:
    for field in ("name", "definition", "numerator", "denominator", "source", "limits", "sentence"):
        assert offences(getattr(quantity, field)) == [], field


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("name", sorted(formats.FORMATS))
def test_every_format(synthetic: ModuleType, name: str, required: bool) -> None:
    data = formats.FORMATS[name](synthetic.make_record(required=required)).decode()
    assert offences(visible(data) if name.endswith(".html") else data) == []


def test_fixed_words() -> None:
    fixed = [*text.VERDICT_WORDS.values(), *text.VERDICT_MEANINGS.values(), _MATRIX_NOTE]
    assert [offence for words in fixed for offence in offences(words)] == []
