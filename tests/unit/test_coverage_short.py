from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["interval_coverage"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_default_interval_covers_in_every_design(simulation: ModuleType) -> None:
    table = simulation.coverage_table(simulation.DESIGNS, 200, seed=11, draws=64)
    assert sum(row["expected errors"] >= 40 for row in table) == 5
    for row in table:
        methods = row["methods"]
        assert methods["logit-jackknife"]["coverage"] >= 0.90, row["design"]
        # what ignoring shared people does
        assert methods["wilson"]["coverage"] < 0.45, row["design"]
        assert row["mean errors"] == pytest.approx(row["expected errors"], rel=0.6)


def test_false_alarms_with_equal_groups(simulation: ModuleType) -> None:
    files = 100
    families = [f for f in simulation.FAMILIES if f[0].endswith(("sd 1", "sd .3")) and "UNEQUAL" not in f[0]]
    families = [families[0], families[1], families[-1]]
    assert [len(designs) for _, designs, _ in families] == [8, 8, 2]
    table = simulation.alarm_table(families, files, seed=12, draws=99)
    allowed = 0.05 + 2 * (0.05 * 0.95 / files) ** 0.5
    for row in table:
        for alarm in ("equality test", "projected max/min, max/geomean, max/mean, max-min", "gini", "std"):
            assert row[alarm] <= allowed, (row["groups"], alarm)
        # what noise alone does to an interval that is not held back
        assert row["gini without calibration"] > 0.1
