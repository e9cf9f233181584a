from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("pandas")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_CELLS = 25
SECONDS_A_CELL = 300


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def text_of(notebook: Any) -> str:
    """What the cells printed and showed as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


def shown_as(notebook: Any, kind: str) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [o["data"][kind] for o in outputs if kind in o.get("data", {})]


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda p: p.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


RUNNER = """
import sys

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


class ThisInterpreter(KernelSpecManager):
    def get_kernel_spec(self, kernel_name):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


source, target, seconds = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
manager = AsyncKernelManager(kernel_spec_manager=ThisInterpreter())
try:
    NotebookClient(notebook, km=manager, timeout=int(seconds)).execute()
except CellExecutionError as error:
    sys.exit(f"A cell failed: {error}")
nbformat.write(notebook, target)
"""
"""Runs in a process of its own: what jupyter's packages warn of and leave open there is theirs, and ends with the process."""


@pytest.fixture(scope="module")
def executed(path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook after a run in a folder of its own, by the interpreter that runs the tests."""
    folder = tmp_path_factory.mktemp(path.stem)
    target = folder / "executed.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(path), str(target), str(SECONDS_A_CELL)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{path.name}: {done.stderr}", pytrace=False)
    return read(target), folder


def test_there_are_notebooks() -> None:
    assert [p.name for p in NOTEBOOKS] == [
        "01_vendor_face_recognition_disparity.ipynb",
        "02_watchlist.ipynb",
    ]


def test_it_is_stored_without_outputs_and_is_short(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= MOST_CELLS
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_it_names_no_machine(path: Path) -> None:
    assert set(read(path).metadata) <= {"kernelspec", "language_info"}
    assert not re.search(r"(/home/|/Users/|/root/|/work/|/tmp/|[A-Z]:\\\\)", path.read_text(encoding="utf-8"))


def test_the_first_cell_states_question_data_and_limits(path: Path) -> None:
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    for word in ("**Question.**", "**Data.**", "**Limits"):
        assert word in first.source


def test_it_defines_no_class_and_little_code(path: Path) -> None:
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert not re.search(r"^\s*class ", "\n".join(code), re.M)
    assert max(len(cell.splitlines()) for cell in code) <= 20


def test_it_runs_and_the_last_cell_writes_a_record(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    assert last is notebook.cells[-1]
    assert ".save(" in last.source
    found = list(folder.glob("*/record.json"))
    assert len(found) == 1
    from audit_toolkit.evidence.record import read_record

    record = read_record(found[0].read_bytes())
    assert record.status == "complete"
    assert record.estimates
    assert record.findings
    names = sorted(p.name for p in found[0].parent.iterdir())
    assert names == ["plan.json", "record.json", "report.html", "run.json"]
    assert json.loads((found[0].parent / "run.json").read_bytes())["record_sha256"] == record.digest()


def test_cells_leave_nothing_on_stderr(executed: tuple[Any, Path]) -> None:
    notebook, _ = executed
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []


def test_a_result_shows_itself_once(executed: tuple[Any, Path]) -> None:
    notebook, _ = executed
    page = next(
        cell
        for cell in notebook.cells
        if any("<iframe" in o.get("data", {}).get("text/html", "") for o in cell.get("outputs", []))
    )
    assert len(page.outputs) == 1


def only(name: str, path: Path, executed: tuple[Any, Path]) -> Any:
    if not path.stem.startswith(name):
        pytest.skip("about another notebook")
    return executed[0]


def test_the_vendor_notebook_says_what_it_promises(path: Path, executed: tuple[Any, Path]) -> None:
    """The prose names these figures and verdicts; if the toolkit finds others, the prose has to change with them."""
    notebook = only("01_vendor", path, executed)
    text = text_of(notebook)
    assert "37 / 10,302" in text
    assert "distances, declared: 37 false matches of 10,302; warnings: ()" in text
    assert "The scores look inverted" in text
    assert "exit code: 3" in text
    assert "inconclusive: At threshold 0.33" in text
    assert "not_assessed: At threshold 0.363" in text
    naive = next(t for t in shown_as(notebook, "text/plain") if "wilson" in t and "verdict" in t)
    assert re.search(r"wilson .*satisfied", naive)
    assert re.search(r"logit-jackknife .*inconclusive", naive)
    assert len(shown_as(notebook, "image/png")) == 3


def test_the_watchlist_notebook_says_what_it_promises(path: Path, executed: tuple[Any, Path]) -> None:
    notebook = only("02_watchlist", path, executed)
    text = text_of(notebook)
    assert "209 of 2,160,000 comparisons match: FMR 9.7e-05" in text
    assert "167 of 1,800 searches raise an alert: FPIR 0.093" in text
    assert len(re.findall(r"(?:cedar|maple|willow) +198 / 200", text)) == 3
    assert len(re.findall(r"willow +(?:resampled|held fixed) +135 / 600 +0.225", text)) == 2
    assert len(re.findall(r"an alert log holds no searches", text)) == 3
    assert "no lower and no upper limit" in text
    assert len(shown_as(notebook, "image/png")) == 2


def test_no_subject_id_is_shown(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    shown = text_of(notebook) + "".join(shown_as(notebook, "text/html"))
    saved = "".join(p.read_text(encoding="utf-8") for p in folder.glob("*/*"))
    assert not re.search(r"\bP\d{3,4}\b", shown + saved)
