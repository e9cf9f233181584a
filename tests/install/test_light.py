"""Importing the package and asking for help load nothing heavy, and nothing ever opens a socket."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numba", "scipy", "pyarrow", "pandas", "matplotlib", "jinja2", "polars")


def loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nsys.stderr.write(' '.join(sorted(m.split('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import audit_toolkit; audit_toolkit.__version__",
        "from audit_toolkit.cli.main import cli\ntry:\n    cli(['--help'])\nexcept SystemExit:\n    pass",
    ],
)
def test_light(code: str) -> None:
    assert not loaded(code) & {*HEAVY, "numpy"}


def test_evidence_needs_no_numpy() -> None:
    assert "numpy" not in loaded("import audit_toolkit.evidence.record, audit_toolkit.evidence.words")


def test_explain_needs_no_arrays() -> None:
    code = "from audit_toolkit.cli.main import cli\ntry:\n    cli(['explain', 'fmr'])\nexcept SystemExit:\n    pass"
    assert not loaded(code) & set(HEAVY)


def test_an_audit_opens_no_socket() -> None:
    code = (
        "import socket\n"
        "def refuse(*a, **k):\n    raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\nsocket.create_connection = refuse\n"
        "from audit_toolkit import api\napi.demo().html()"
    )
    assert "audit_toolkit" in loaded(code)
