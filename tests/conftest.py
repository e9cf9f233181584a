"""What several test rooms share: the flag that rewrites golden files, and the synthetic record."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from the present output")


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes the synthetic record and names its hostile labels."""
    spec = importlib.util.spec_from_file_location("make_record", GOLDEN / "make_record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("make_record", module)
    spec.loader.exec_module(module)
    return module
