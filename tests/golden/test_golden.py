"""The report and its record, byte for byte. Rewrite on purpose: pytest tests/golden --update-golden."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import matplotlib
import pytest

from audit_toolkit.evidence.record import read_record
from audit_toolkit.report.formats import FORMATS

HERE = Path(__file__).parent
DRAWING = re.compile(rb'<svg viewBox="[^"]*" class="drawing".*?</svg>', re.S)


@pytest.fixture(scope="module")
def rendered(synthetic: ModuleType, request: pytest.FixtureRequest) -> dict[str, bytes]:
    record = synthetic.make_record()
    out = {name: render(record) for name, render in FORMATS.items()}
    if request.config.getoption("--update-golden"):
        for name, data in out.items():
            (HERE / name).write_bytes(data)
        (HERE / "versions.json").write_text(json.dumps({"matplotlib": matplotlib.__version__}) + "\n")
    return out


@pytest.mark.parametrize("name", ["record.json", "summary.txt"])
def test_bytes(rendered: dict[str, bytes], name: str) -> None:
    assert rendered[name] == (HERE / name).read_bytes()


def test_page_without_drawings(rendered: dict[str, bytes]) -> None:
    golden = (HERE / "report.html").read_bytes()
    assert DRAWING.sub(b"", rendered["report.html"]) == DRAWING.sub(b"", golden)
    assert len(DRAWING.findall(rendered["report.html"])) == len(DRAWING.findall(golden)) > 20


def test_page_with_drawings(rendered: dict[str, bytes]) -> None:
    drawn_with = json.loads((HERE / "versions.json").read_text())["matplotlib"]
    if drawn_with != matplotlib.__version__:
        pytest.skip(f"the drawings are matplotlib {drawn_with}'s; another version may place them differently")
    assert rendered["report.html"] == (HERE / "report.html").read_bytes()


def test_record_reads_back(rendered: dict[str, bytes], synthetic: ModuleType) -> None:
    assert read_record(rendered["record.json"]) == synthetic.make_record()
