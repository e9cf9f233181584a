"""What a command ended in, and small score files to give it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SECRET = "ZZTOPSECRET"  # noqa: S105 - a subject id that no message may carry
HEADER = ("reference_subject", "probe_subject", "reference_gender", "probe_gender", "score")
FILES = ("plan.json", "record.json", "report.html", "run.json")
Row = list[Any]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "record.json").read_bytes())

    @property
    def input(self) -> dict[str, Any]:
        return self.record["inputs"][0]

    @property
    def excluded(self) -> dict[str, int]:
        """Rows not used by reason; every row that was read is used or excluded."""
        found = {e["reason"]: e["count"] for e in self.input.get("exclusions", ()) if not e.get("used")}
        assert self.input["rows_read"] == self.input["rows_used"] + sum(found.values())
        return found

    @property
    def everything(self) -> str:
        """All that a reader can see: both streams and every file."""
        files = sorted(self.folder.glob("*")) if self.folder.exists() else []
        return self.out + self.err + "".join(p.read_text(encoding="utf-8") for p in files)

    def estimates(self, quantity: str) -> list[dict[str, Any]]:
        return [e for e in self.record["estimates"] if e["quantity"] == quantity]


def comparisons(
    people: int = 80,
    *,
    labels: Sequence[str] = ("f", "m"),
    name: Callable[[int], Any] = lambda i: f"{SECRET}{i:03d}",
    mated: int = 3,
    nonmated: int = 400,
    seed: int = 7,
) -> list[Row]:
    """Rows under ``HEADER``: everybody ``mated`` times with themselves, and pairs of different people."""
    rng = np.random.Generator(np.random.PCG64(seed))
    group = [labels[i % len(labels)] for i in range(people)]
    pairs = [(i, i) for i in range(people) for _ in range(mated)]
    others = rng.integers(0, people, (nonmated, 2))
    pairs += [(int(i), int(j)) for i, j in others if i != j]
    return [
        [name(i), name(j), group[i], group[j], round(float(rng.normal(0.7 if i == j else 0.3, 0.12)), 4)]
        for i, j in pairs
    ]


def write(path: Path, rows: Sequence[Sequence[Any]], header: Sequence[str] = HEADER, sep: str = ",") -> Path:
    path.write_text("\n".join(sep.join(map(str, r)) for r in [header, *rows]) + "\n", encoding="utf-8")
    return path


def start(*arguments: Any, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    words = [sys.executable, "-m", "audit_toolkit.cli.main", *map(str, arguments)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **environment},
    )
