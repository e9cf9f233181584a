"""The one driver of every fold: progress and interruption live here and nowhere else.

Promise: the states do not depend on how many workers there are, how the rows are cut, or in which order they come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from audit_toolkit.core.fold import Measure, Partition, State

Progress = Callable[[str, int, int | None], None]
"""progress(stage, rows done, rows expected)."""


Task = Callable[[Sequence[Partition]], list[State]]
Engine = Callable[[Task, Sequence[Partition]], Iterator[list[State]]]
"""Runs a task over blocks of partitions somewhere and yields what each block gave, in any order."""


def fold(
    measures: Sequence[Measure],
    partitions: Sequence[Partition],
    engine: Engine,
    *,
    stage: str = "counting",
    rows: int | None = None,
    progress: Progress | None = None,
) -> list[State]:
    """Fold every batch of every partition into each measure; returns one state a measure, in their order."""
    stop = threading.Event()
    lock = threading.Lock()
    done = 0

    def task(block: Sequence[Partition]) -> list[State]:
        nonlocal done
        states = [m.zero() for m in measures]
        for partition in block:
            for batch in partition():
                if stop.is_set():
                    return states
                for measure, state in zip(measures, states, strict=True):
                    measure.update(state, batch)
                if progress is not None:
                    with lock:
                        done += batch.n
                        progress(stage, done, rows)
        return states

    total = [m.zero() for m in measures]
    try:
        for states in engine(task, partitions):
            total = [m.merge(a, b) for m, a, b in zip(measures, total, states, strict=True)]
    except BaseException:
        stop.set()
        raise
    return total
