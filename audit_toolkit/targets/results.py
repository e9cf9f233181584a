"""What a driven system has answered so far, on disk, so that an interrupted drive can go on where it stopped.

Promises: one JSON line a finished batch, written whole before the next batch is asked; every line carries a
check over itself and the header, so that a damaged line, or one of another drive, is noticed when the file is read again. A
last line that was cut short is dropped and its batch asked again. The file holds numbers of items, never names.
What it does not do: protect against somebody who means to forge answers; the check is no signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audit_toolkit.errors import StateError
from audit_toolkit.targets.contract import COUNTED, Answer, Cause, Does, Failed, TargetError, Unanswered, read_answers

SCHEMA = "audit_toolkit/driven/1"
SYNC_SECONDS = 1.0
"""How often the file is forced onto the disk; a crash of the audit alone loses nothing that was written."""

_CAUSES: dict[str, Cause] = {cause: cause for cause in ("stated", *COUNTED)}
_START_AGAIN = "Delete the file to start anew, or give another one."


@dataclass(frozen=True, slots=True)
class Line:
    """One finished batch: which items, what was answered, and how it went.

    ``seconds`` is how long the answered call took; ``None`` where it says nothing of the speed (the first call of a drive, a
    batch that was not answered at once). ``events`` counts the calls without an answer by cause, and "retries".
    """

    items: tuple[int, ...]
    answers: tuple[Answer, ...]
    seconds: float | None = None
    events: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def open_results(
    path: Path | None, header: Mapping[str, Any], does: Does, n: int
) -> Iterator[tuple[list[Line], Callable[[Line], None]]]:
    """The lines that are there already, and a function that appends one; without a path, none and nowhere.

    ``header`` says what is driven over what, under which rules; ``n`` is the number of items. Raises `StateError` for a
    file of another drive, a damaged line, an item that stands twice, and a file that another drive is writing.
    """
    if path is None:
        yield [], lambda line: None
        return
    first = _sealed({"schema": SCHEMA, **header}, "")
    root = hashlib.sha256(first).hexdigest()
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise StateError(f"The file of results cannot be opened ({error.strerror}).", where=path.name) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise StateError("The results cannot be kept there: it is no plain file.", where=path.name)
    with os.fdopen(number, "r+b", buffering=0) as file:
        _lock(file.fileno(), path)
        data = file.read()
        kept = data[: data.rfind(b"\n") + 1]
        if kept:
            lines = _read(kept, first, root, does, n, path.name)
        elif first.startswith(data):
            kept, lines = first, []
            file.seek(0)
            _write(file, first, path.name)
        else:
            raise StateError("This is not a file of results.", where=path.name, mend=_START_AGAIN)
        file.truncate(len(kept))
        file.seek(len(kept))
        synced = time.monotonic()

        def append(line: Line) -> None:
            nonlocal synced
            _write(file, _sealed(_show(line), root), path.name)
            if time.monotonic() - synced > SYNC_SECONDS:
                os.fsync(file.fileno())
                synced = time.monotonic()

        try:
            yield lines, append
        finally:
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())


def _write(file: io.FileIO, data: bytes, name: str) -> None:
    """Every byte, straight to the system: nothing waits in this process for a flush that may never come."""
    try:
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        raise StateError(
            f"The file of results cannot be written ({error.strerror}).",
            where=name,
            mend="Make room and drive again; what stands in it is kept.",
        ) from None


def _lock(number: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such lock on this system
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StateError(
            "Another drive is writing this file of results.", where=path.name, mend="Wait for it, or give another file."
        ) from None


def _sealed(content: Mapping[str, Any], root: str) -> bytes:
    """A line with its check: SHA-256 over the header's digest and the line, 64 bits of it."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    check = hashlib.sha256(f"{root}\n{text}".encode()).hexdigest()[:16]
    return f'{{"check":"{check}",{text[1:]}\n'.encode()


def _show(line: Line) -> dict[str, Any]:
    def answer(a: Answer) -> object:
        if isinstance(a, Failed):
            return {"failure": a.kind, "cause": a.cause}
        return a.tolist() if isinstance(a, np.ndarray) else a

    return {
        "items": list(line.items),
        "answers": [answer(a) for a in line.answers],
        "seconds": line.seconds,
        "events": dict(line.events),
    }


def _read(data: bytes, first: bytes, root: str, does: Does, n: int, name: str) -> list[Line]:
    start, *rest = data.removesuffix(b"\n").split(b"\n")
    if start + b"\n" != first:
        raise StateError(
            "The file of results belongs to another system, other work or other rules.", where=name, mend=_START_AGAIN
        )
    lines: list[Line] = []
    seen: set[int] = set()
    for row, text in enumerate(rest, 2):
        line = _line(text, root, does, n)
        if line is None or not seen.isdisjoint(line.items):
            raise StateError(
                "The line is damaged or does not belong here.",
                where=f"{name}, line {row}",
                mend="Delete this line to have its batch asked again.",
            )
        seen.update(line.items)
        lines.append(line)
    return lines


def _line(text: bytes, root: str, does: Does, n: int) -> Line | None:
    """The line, or ``None`` where anything about it is not as it was written."""
    try:
        content = json.loads(text)
        del content["check"]
        if _sealed(content, root) != text + b"\n":
            return None
        items, raw = content["items"], content["answers"]
        answers = read_answers(raw, does, len(items))
        for k, answer in enumerate(answers):
            if isinstance(answer, Failed):
                answers[k] = Failed(answer.kind, _CAUSES[raw[k]["cause"]])
        good = all(isinstance(i, int) and 0 <= i < n for i in items) and len(set(items)) == len(items)
        return Line(tuple(items), tuple(answers), content["seconds"], content["events"]) if good else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Unanswered, TargetError):
        return None
