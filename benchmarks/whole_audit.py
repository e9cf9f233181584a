"""The whole audit as a contender, and whether what it recorded is right.

A time is worth something only if the answer is: the record's counts of every group and its threshold are compared with a
plain numpy count over the same synthetic rows.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, harness

TARGET = 1e-3
SHOWN = f"audit-toolkit disparity SCORES --group reference_group,probe_group --fmr {TARGET:g} --out DIR"
FINISHED = (0, 1, 3)
"""Exit codes of an audit that ran to its end: all satisfied or nothing required, violated, inconclusive."""


def command(file: Path, out: Path) -> list[str | Path]:
    """What a user types for a whole audit, with this interpreter."""
    options: list[str | Path] = ["--group", "reference_group,probe_group", "--fmr", f"{TARGET:g}", "--out", out]
    return [sys.executable, "-m", "audit_toolkit.cli.main", "disparity", file, *options]


def contender(
    name: str, file: Path, cores: int, runs: int | None = None, warmups: int | None = None
) -> harness.Contender:
    """A whole audit; each run writes into a fresh folder that is removed again. Its result: sizes written and ``rates``."""

    def run() -> harness.Sample:
        out = Path(tempfile.mkdtemp(prefix="audit_toolkit_report_"))
        try:
            leaves = [out / "report" / name for name in ("record.json", "report.html")]
            sample = harness.command(command(file, out / "report"), accept=FINISHED, leaves=leaves, cores=cores)()
            if sample.error is None:
                record = json.loads(leaves[0].read_text(encoding="utf-8"))
                sample.result["rates"] = recorded(record)
                sample.result["bytes_written"] = {
                    f.name: f.stat().st_size for f in sorted(leaves[0].parent.glob("*.*"))
                }
            return sample
        finally:
            shutil.rmtree(out, ignore_errors=True)

    return harness.Contender(name, run, shown=SHOWN, runs=runs, warmups=warmups)


def recorded(record: dict[str, Any]) -> dict[str, Any] | None:
    """Threshold, and [errors, comparisons] of every group for FMR (within the group) and FNMR; ``None`` if not all are there."""
    found: dict[str, Any] = {"fmr": {}, "fnmr": {}}
    for e in record["estimates"]:
        group = list(e["of"].values())
        if e["quantity"] in ("fmr", "fnmr") and len(group) == 1 and group[0] in data.GROUPS:
            found["threshold"] = e["at"].get("threshold")
            found[e["quantity"]][group[0]] = [e["numerator"], e["denominator"]]
    if any(len(found[name]) != len(data.GROUPS) for name in ("fmr", "fnmr")) or found.get("threshold") is None:
        return None
    return {
        "threshold": found["threshold"],
        **{name: [found[name][g] for g in data.GROUPS] for name in ("fmr", "fnmr")},
    }


def counted(rows: int, subjects: int, threshold: float) -> dict[str, Any]:
    """The same by plain numpy, and how many non-mated comparisons reach the threshold and the next lower non-mated score."""
    group = data.population(subjects).group
    at = np.float32(threshold)
    total = np.zeros((2, len(data.GROUPS)), np.int64)
    wrong = np.zeros_like(total)
    nonmated = reached = below_count = 0
    below = np.float32(-np.inf)
    for part in data.chunks(rows, subjects):
        ref, probe, mated, score = (part[name] for name in ("ref", "probe", "mated", "score"))
        for k, mask in enumerate((~mated & (group[ref] == group[probe]), mated)):
            error = mask & ((score >= at) != mated)
            total[k] += np.bincount(group[ref][mask], minlength=len(data.GROUPS))
            wrong[k] += np.bincount(group[ref][error], minlength=len(data.GROUPS))
        others = score[~mated]
        nonmated += len(others)
        reached += int((others >= at).sum())
        lower = others[others < at]
        top = lower.max(initial=np.float32(-np.inf))
        if top > below:
            below, below_count = top, 0
        below_count += int((lower == below).sum())
    pairs = np.stack([wrong, total], axis=2)
    return {
        "fmr": pairs[0].tolist(), "fnmr": pairs[1].tolist(), "nonmated": nonmated,
        "reached": reached, "next": reached + below_count,
    }  # fmt: skip


def holds(told: dict[str, Any], rows: int, subjects: int) -> bool:
    """Equal counts of every group, and a threshold that keeps overall FMR <= the target where the next lower does not."""
    plain = counted(rows, subjects, told["threshold"])
    lowest = plain["reached"] <= TARGET * plain["nonmated"] < plain["next"]
    return bool(lowest and told["fmr"] == plain["fmr"] and told["fnmr"] == plain["fnmr"])
