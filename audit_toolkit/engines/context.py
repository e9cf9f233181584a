"""Where and how an audit runs; nothing in here may change a figure except the seed and the level."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from audit_toolkit.engines.fold import Engine, Progress
from audit_toolkit.engines.local import available_threads, local


@dataclass(frozen=True, slots=True)
class Context:
    """Engine, root seed (from the plan's digest), the smallest group that may be shown, and a progress callable.

    ``chunk_rows`` and ``memory_rows`` bound what is held of the rows; they never change a result.
    """

    seed: bytes
    min_people: int = 5
    engine: Engine = field(default_factory=lambda: local(available_threads()))
    chunk_rows: int = 1_048_576
    memory_rows: int = 1_048_576
    progress: Progress | None = None
    journal: Path | None = None
    """Where a long pass over all pairs writes down how far it came, to go on from there after an interruption."""
