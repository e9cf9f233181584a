"""The benchmark of all pairs runs at toy size and its answers agree; no time is asserted here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from benchmarks import pairs_speed  # noqa: E402


def test_toy_run_checks_its_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pairs_speed.main(["--toy", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "Did not hold" not in told
    found = {p.stem.split("_1500")[0]: json.loads(p.read_text()) for p in (tmp_path / "out").glob("*.json")}
    assert set(found) == {"pairs_tiles", "pairs_peer", "pairs_large"}
    rows = {c["name"]: c["samples"][0]["result"] for c in found["pairs_tiles"]["contenders"]}
    counts = rows[pairs_speed.OURS]["counts"]
    assert counts["nonmated"] + counts["mated"] == 1500 * 1499 // 2
    assert counts["false_matches"] > 0
    # The upper triangle in row blocks holds each block's own square in full.
    assert rows[pairs_speed.PLAIN]["scores"] >= 1500 * 1499 // 2
    assert not found["pairs_tiles"]["goals"]
