"""The one driver of every fold: progress and interruption live here and nowhere else.

Promise: the states do not depend on how many workers there are, how the rows are cut, in which order they come, or on how
often a run with a journal was interrupted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np

from audit_toolkit.core.fold import Measure, Partition, State
from audit_toolkit.engines.journal import Journal, Progressed
from audit_toolkit.errors import AuditError

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
    journal: Journal | None = None,
) -> list[State]:
    """Fold every batch of every partition into each measure; returns one state a measure, in their order.

    With a journal, partitions go through the engine in blocks, finished blocks are written down from time to time, and
    those that a journal of the same run holds are not counted again. Raises `StateError` for a journal of another run.
    """
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
                if progress is not None or journal is not None:
                    with lock:
                        done += batch.n
                        if progress is not None:
                            progress(stage, done, rows)
        return states

    if journal is not None:
        found = journal.load(measures, len(partitions))
        if found is None:
            found = Progressed([m.zero() for m in measures], np.zeros(len(partitions), np.bool_), 0)
        done = found.rows
        try:
            return _in_blocks(measures, partitions, journal, found, lambda block: (list(engine(task, block)), done))
        except BaseException:
            stop.set()
            raise

    total = [m.zero() for m in measures]
    try:
        for states in engine(task, partitions):
            total = [m.merge(a, b) for m, a, b in zip(measures, total, states, strict=True)]
    except BaseException:
        stop.set()
        raise
    return total


FEWEST = 32
"""Partitions a block holds at least once its speed is known: workers wait for each other at a block's end only."""


def _in_blocks(
    measures: Sequence[Measure],
    partitions: Sequence[Partition],
    journal: Journal,
    found: Progressed,
    run: Callable[[Sequence[Partition]], tuple[list[list[State]], int]],
) -> list[State]:
    """Fold what is not done yet, block by block; ``run`` gives each worker's states and the rows folded so far.

    A block is merged only when all of it is there: what an interrupt leaves unfinished is counted anew.
    """
    left = np.flatnonzero(~found.done).tolist()
    total, done, rows = found.states, found.done.copy(), found.rows
    size, unsaved, slow = 4, False, 0.0
    saved_at = time.monotonic()
    while left:
        block, left = left[:size], left[size:]
        begun = time.monotonic()
        try:
            results, rows_now = run([partitions[k] for k in block])
        except BaseException:
            if unsaved:
                with suppress(AuditError):  # what stopped the run is what the user must hear of
                    journal.save(measures, Progressed(total, done, rows))
            raise
        took = time.monotonic() - begun
        for states in results:
            total = [m.merge(a, b) for m, a, b in zip(measures, total, states, strict=True)]
        done[block], rows, unsaved = True, rows_now, True
        merged = time.monotonic()
        if not left or merged - saved_at >= max(journal.every, 50.0 * slow):
            journal.save(measures, Progressed(total, done, rows))
            saved_at, unsaved = time.monotonic(), False
            slow = saved_at - merged
        # long enough that merging and starting the workers do not count, short enough to lose little
        wanted = max(2.0 * journal.every, 50.0 * (merged - begun - took))
        size = int(min(max(size * wanted / max(took, 1e-6), FEWEST), 4 * size))
    return total
