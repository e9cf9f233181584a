"""An interrupted fold goes on where it was and ends in the digest of an uninterrupted one."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit_toolkit.core.fold import Batch, Measure, Partition, digest
from audit_toolkit.disparity.measures import FalseMatches, GridCounts, Scheme
from audit_toolkit.engines.fold import fold
from audit_toolkit.engines.journal import Journal
from audit_toolkit.engines.local import local
from audit_toolkit.errors import AuditError, StateError

PEOPLE, PARTS = 40, 60


def batch(k: int) -> Batch:
    rng = np.random.Generator(np.random.PCG64(k))
    ref = rng.integers(0, PEOPLE, 500, np.int32)
    mated = rng.random(500) < 0.2
    probe = np.where(mated, ref, (ref + 1) % PEOPLE).astype(np.int32)
    score = (rng.normal(size=500) + 2 * mated).astype(np.float32)
    arrays = {"ref": ref, "probe": probe, "mated": mated.astype(np.uint8), "score": score}
    return Batch(arrays, 500)


def measures() -> list[Measure]:
    scheme = Scheme((np.arange(PEOPLE) % 3).astype(np.int32), 3, "codebook")
    edges = np.linspace(-3, 5, 50).astype(np.float32)
    return [GridCounts(scheme, edges), FalseMatches(scheme, np.array([2.5], np.float32))]


class Counted:
    """Partitions that note how often each was opened, and stop the run at the n-th opening."""

    def __init__(self, stop_at: int | None = None, error: BaseException | None = None, n: int = PARTS) -> None:
        self.opened = [0] * n
        self.stop_at, self.error = stop_at, error

    def open(self, k: int) -> Iterator[Batch]:
        self.opened[k] += 1
        if self.stop_at is not None and sum(self.opened) > self.stop_at:
            assert self.error is not None
            raise self.error
        yield batch(k)

    @property
    def partitions(self) -> list[Partition]:
        return [functools.partial(self.open, k) for k in range(len(self.opened))]


def digests(states: list[Any]) -> list[str]:
    return [digest(m, s) for m, s in zip(measures(), states, strict=True)]


@pytest.fixture(scope="module")
def whole() -> list[str]:
    return digests(fold(measures(), Counted().partitions, local(1)))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "grid.journal", {"input": "abc"}, every=0.0)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_journal_changes_no_count(journal: Journal, whole: list[str], workers: int) -> None:
    counted = Counted()
    assert digests(fold(measures(), counted.partitions, local(workers), journal=journal)) == whole
    assert counted.opened == [1] * PARTS


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("stop_at", [0, 3, 17, 41, 59])
def test_interrupted_and_resumed(journal: Journal, whole: list[str], stop_at: int, error: BaseException) -> None:
    first = Counted(stop_at, error)
    with pytest.raises(type(error)):
        fold(measures(), first.partitions, local(1), journal=journal)
    kept = journal.load(measures(), PARTS)
    held = 0 if kept is None else int(kept.done.sum())
    assert held <= stop_at
    assert held >= min(4, stop_at) // 4 * 4
    second = Counted()
    seen: list[int] = []
    found = fold(
        measures(),
        second.partitions,
        local(2),
        journal=journal,
        rows=500 * PARTS,
        progress=lambda stage, done, rows: seen.append(done),
    )
    assert digests(found) == whole
    assert sum(second.opened) == PARTS - held
    assert (seen[0], seen[-1]) == (500 * (held + 1), 500 * PARTS)


def test_interrupted_again_and_again(journal: Journal, whole: list[str]) -> None:
    opened = np.zeros(PARTS, int)
    for _ in range(100):
        counted = Counted(7, RuntimeError("broken"))
        try:
            found = fold(measures(), counted.partitions, local(1), journal=journal)
            break
        except RuntimeError:
            opened += counted.opened
    else:
        pytest.fail("no progress is kept")
    assert digests(found) == whole


def test_throttled_blocks_are_written_when_the_run_is_stopped(tmp_path: Path, whole: list[str]) -> None:
    journal = Journal(tmp_path / "journal", every=3600.0)
    with pytest.raises(KeyboardInterrupt):
        fold(measures(), Counted(30, KeyboardInterrupt()).partitions, local(1), journal=journal)
    kept = journal.load(measures(), PARTS)
    assert kept is not None
    assert kept.done.sum() == 20  # blocks of 4 and 16; the third was not finished
    assert digests(fold(measures(), Counted().partitions, local(1), journal=journal)) == whole


def test_a_finished_run_is_not_counted_again(journal: Journal, whole: list[str]) -> None:
    fold(measures(), Counted().partitions, local(1), journal=journal)
    again = Counted()
    assert digests(fold(measures(), again.partitions, local(1), journal=journal)) == whole
    assert again.opened == [0] * PARTS
    journal.remove()
    assert list(journal.path.parent.iterdir()) == []


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_resume import PARTS, batch, measures
from audit_toolkit.engines.fold import fold
from audit_toolkit.engines.journal import Journal
from audit_toolkit.engines.local import local
from pathlib import Path

def part(k):
    def open():
        time.sleep(0.03 if k < 40 else 1.0)  # the last third is still open when the signal comes
        yield batch(k)
    return open

fold(measures(), [part(k) for k in range(PARTS)], local(2), journal=Journal(Path(sys.argv[1]), {"input": "abc"}, 0.0))
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_and_resumed(journal: Journal, whole: list[str], tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(textwrap.dedent(SLOW))
    process = subprocess.Popen([sys.executable, str(script), str(journal.path), str(Path(__file__).parent)])
    try:
        until = time.monotonic() + 60
        while not journal.previous.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait(60)
    assert process.returncode == -signal.SIGKILL
    kept = journal.load(measures(), PARTS)
    assert kept is not None
    assert 0 < kept.done.sum() < PARTS
    second = Counted()
    assert digests(fold(measures(), second.partitions, local(2), journal=journal)) == whole
    assert sum(second.opened) == PARTS - int(kept.done.sum())


def stopped(journal: Journal) -> None:
    with pytest.raises(RuntimeError):
        fold(measures(), Counted(45, RuntimeError("broken")).partitions, local(1), journal=journal)


@pytest.mark.parametrize("damage", ["cut", "flipped head", "flipped body", "empty", "other file"])
def test_a_damaged_journal_is_refused_and_the_one_before_it_serves(
    journal: Journal, whole: list[str], damage: str
) -> None:
    stopped(journal)
    data = bytearray(journal.path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "empty":
        data.clear()
    elif damage == "other file":
        data[:] = b"something else"
    else:
        data[200 if damage == "flipped head" else -3] ^= 1
    journal.path.write_bytes(data)
    counted = Counted()
    with pytest.raises(StateError, match=r"grid\.journal: The journal is damaged\. Put grid\.journal\.previous"):
        fold(measures(), counted.partitions, local(1), journal=journal)
    assert counted.opened == [0] * PARTS
    assert journal.path.read_bytes() == data  # nothing is touched
    journal.previous.replace(journal.path)  # what the message says
    assert digests(fold(measures(), counted.partitions, local(1), journal=journal)) == whole
    assert sum(counted.opened) < PARTS


def test_a_stop_between_the_renames_of_a_write_loses_nothing(journal: Journal, whole: list[str]) -> None:
    stopped(journal)
    journal.path.replace(journal.previous)
    counted = Counted()
    assert digests(fold(measures(), counted.partitions, local(1), journal=journal)) == whole
    assert sum(counted.opened) < PARTS


@pytest.mark.parametrize("other", ["input", "partitions", "measures"])
def test_a_journal_of_another_run_is_refused(journal: Journal, other: str) -> None:
    stopped(journal)
    before = journal.path.read_bytes()
    mine, n, given = measures(), PARTS, journal
    said = {"input": "input or options", "partitions": "number of partitions", "measures": "measures"}[other]
    if other == "input":
        given = Journal(journal.path, {"input": "abd"})
    elif other == "partitions":
        n = PARTS - 1
    else:
        mine = mine[:1]
    counted = Counted(n=n)
    with pytest.raises(StateError, match=rf"belongs to another run: not the same {said}\."):
        fold(mine, counted.partitions, local(1), journal=given)
    assert counted.opened == [0] * n
    assert journal.path.read_bytes() == before


def test_a_full_disk_leaves_the_journal_before_it(
    journal: Journal, whole: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(journal)
    before = journal.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(AuditError, match="No space left"):
            fold(measures(), Counted().partitions, local(1), journal=journal)
    assert journal.path.read_bytes() == before
    assert digests(fold(measures(), Counted().partitions, local(1), journal=journal)) == whole


def test_a_journal_is_its_owners_only_and_holds_no_path(journal: Journal) -> None:
    stopped(journal)
    assert journal.path.stat().st_mode & 0o077 == 0
    head = json.loads(journal.path.read_bytes().split(b"\n", 3)[2])
    assert sorted(head) == ["done", "rows", "run", "states"]
    assert str(journal.path.parent) not in json.dumps(head)


def test_no_partitions(journal: Journal) -> None:
    assert digests(fold(measures(), [], local(2), journal=journal)) == digests(fold(measures(), [], local(2)))
