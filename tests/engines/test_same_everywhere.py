"""Threads, chunk sizes, row order and spilling change no byte of the record."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from audit_toolkit import api


def scores(n: int = 4000) -> pa.Table:
    rng = np.random.default_rng(11)
    people = 60
    sex = np.where(np.arange(people) % 2 == 0, "f", "m")
    effect = rng.normal(0, 0.5, people)
    ref = rng.integers(0, people, n)
    mated = rng.random(n) < 0.25
    probe = np.where(mated, ref, (ref + rng.integers(1, people, n)) % people)
    score = (effect[ref] + effect[probe] + rng.normal(0, 1, n) + 4.0 * mated).astype(np.float32)
    return pa.table(
        {
            "reference_subject": [f"person {i}" for i in ref],
            "probe_subject": [f"person {i}" for i in probe],
            "reference_sex": sex[ref],
            "probe_sex": sex[probe],
            "mated": mated,
            "score": score,
            "camera": np.where(rng.random(n) < 0.5, "north", "south"),
            "weight": rng.integers(1, 3, n),
        }
    )


def plan(**execution: Any) -> api.Plan:
    made = api.disparity_plan(
        "frame",
        groups=["sex"],
        thresholds=[
            {"policy": "vendor", "value": 2.0},
            {"policy": "fmr", "target": 0.01},
            {"policy": "eer"},
            {"policy": "fmr_per_group", "target": 0.02, "axis": "sex"},
        ],
        uncertainty={"method": "logit-double-or-nothing", "replicates": 128},
        covariates={"camera": "camera"},
    )
    return msgspec.structs.replace(made, execution=msgspec.structs.replace(made.execution, **execution))


@pytest.fixture(scope="module")
def reference() -> tuple[pa.Table, api.Audit]:
    table = scores()
    return table, api._finish(plan(threads=1), api.Path.cwd(), table, None, None)


@pytest.mark.parametrize(
    "execution",
    [
        {"threads": 2},
        {"threads": 5, "chunk_rows": 137},
        {"threads": 2, "chunk_rows": 1},
        {"threads": 3, "chunk_rows": 333, "memory_rows": 500},
    ],
    ids=["two threads", "five threads and odd chunks", "a row a chunk", "spilled to disk"],
)
def test_execution_changes_nothing(execution: dict[str, int], reference: tuple[pa.Table, api.Audit]) -> None:
    table, first = reference
    cut = table.slice(0, 500) if execution.get("chunk_rows") == 1 else table
    base = api._finish(plan(threads=1), api.Path.cwd(), cut, None, None) if cut is not table else first
    found = api._finish(plan(**execution), api.Path.cwd(), cut, None, None)
    assert [r.state_digest for r in found.record.runs] == [r.state_digest for r in base.record.runs]
    assert found.record.to_bytes() == base.record.to_bytes()


def test_row_order_changes_no_figure(reference: tuple[pa.Table, api.Audit]) -> None:
    table, first = reference
    shuffled = table.take(np.random.default_rng(2).permutation(len(table)))
    found = api._finish(plan(threads=2), api.Path.cwd(), shuffled, None, None)
    assert [r.state_digest for r in found.record.runs] == [r.state_digest for r in first.record.runs]
    assert found.record.estimates == first.record.estimates
    assert found.record.findings == first.record.findings


def test_the_plans_digest_leaves_out_where_and_how() -> None:
    a = plan(threads=1)
    b = msgspec.structs.replace(
        plan(threads=7), disparity=msgspec.structs.replace(a.disparity, scores="elsewhere/other.parquet")
    )
    assert a.digest() == b.digest()
    stricter = msgspec.structs.replace(
        a,
        disparity=msgspec.structs.replace(
            a.disparity, uncertainty=msgspec.structs.replace(a.disparity.uncertainty, level=0.9)
        ),
    )
    assert stricter.digest() != a.digest()
