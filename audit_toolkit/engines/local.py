"""Run a fold's partitions on this machine's threads.

The kernels release the interpreter lock, so threads share memory and no state is copied. An interrupt (Ctrl-C) reaches the
workers between two batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from audit_toolkit.core.fold import Partition, State

Task = Callable[[Sequence[Partition]], list[State]]


def available_threads() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local(workers: int) -> Callable[[Task, Sequence[Partition]], Iterator[list[State]]]:
    """An engine: give each worker every ``workers``-th item, yield one result a worker as they finish."""

    def run(task: Task, items: Sequence[Partition]) -> Iterator[list[State]]:
        blocks = [items[k::workers] for k in range(workers) if items[k::workers]]
        if len(blocks) <= 1:
            yield from (task(block) for block in blocks)
            return
        pool = ThreadPoolExecutor(len(blocks))
        try:
            yield from pool.map(task, blocks)
        finally:
            # Not waiting: an interrupt must reach the driver first, which then stops the workers between two batches.
            pool.shutdown(wait=False, cancel_futures=True)

    return run
