"""The 1:N benchmark measures what it says, at toy size; no time is asserted here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Behind everything else: an installed audit_toolkit stays the one under test.
sys.path.append(str(ROOT))

from benchmarks import search_speed  # noqa: E402


def test_toy_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--toy", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert search_speed.main(given) == 0
    printed = capsys.readouterr().out
    assert "Held: ranks, best candidates and counts of 40 probes" in printed
    assert "not judged" in printed
    assert (tmp_path / "out" / "search_speed_300_500.json").exists()
