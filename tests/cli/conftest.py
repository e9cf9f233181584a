"""The command line in this process, and a sound score file."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from score_files import Ended, Row, comparisons, write

from audit_toolkit.cli.main import main


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Any]:
    """``cli("disparity", file, ...)`` in this process; ``--out`` is added where the command takes it."""
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: Any, out: Path | None = None) -> Ended:
        folder = out or tmp_path / "out"
        words = [str(a) for a in arguments]
        if words and words[0] in ("run", "demo", "disparity") and "--out" not in words:
            words += ["--out", str(folder)]
        monkeypatch.setattr(sys, "argv", ["audit-toolkit", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Ended(stop.value.code, captured.out, captured.err, folder)

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def audit(cli: Any) -> Any:
    """``audit(file, ...)``: the command ``disparity`` by gender, at threshold 0.5 where no other is asked for."""

    def call(scores: Path, *more: Any, out: Path | None = None) -> Ended:
        asked = {"--threshold", "--fmr", "--eer"} & {str(m) for m in more}
        words = [*more, *([] if asked else ["--threshold", "0.5"])]
        return cli("disparity", scores, "--group", "reference_gender,probe_gender", *words, "--quiet", out=out)

    return call


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    return comparisons()


@pytest.fixture(scope="session")
def scores(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> Path:
    """A sound score file."""
    return write(tmp_path_factory.mktemp("scores") / "scores.csv", rows)
