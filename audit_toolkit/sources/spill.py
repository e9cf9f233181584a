"""Where coded rows wait: in memory up to a limit, then in a temporary folder that goes away by itself.

Why: an audit reads its source once and its coded rows several times. Promise: at most ``memory_rows`` rows stay in memory
at a time; the folder is private to this user, holds codes and scores but no identifier, and is removed with the last
reference to it, on errors and at the interpreter's end. It does not promise to survive the process.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import AuditError

Arrays = dict[str, NDArray[Any]]


def join(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    """The pieces one after the other, C-contiguous."""
    return np.ascontiguousarray(pieces[0]) if len(pieces) == 1 else np.concatenate(pieces)


class Spill:
    """Numbered chunks of named arrays of equal length; every chunk is written once and read whole or in slices."""

    def __init__(self, memory_rows: int) -> None:
        self._limit = memory_rows
        self._held = 0
        self._next = 0
        self._memory: dict[int, Arrays] = {}
        self._files: dict[int, dict[str, tuple[Path, np.dtype[Any], int, int]]] = {}
        self._folder: Path | None = None
        self._close: weakref.finalize[Any, Any] | None = None
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path | None:
        """The temporary folder, once there is one."""
        return self._folder

    def add(self, arrays: Arrays) -> int:
        """Keep a chunk and return its number; raises `AuditError` where the disk has no room."""
        rows = len(next(iter(arrays.values())))
        with self._lock:
            number, self._next = self._next, self._next + 1
            if self._held + rows <= self._limit:
                self._held += rows
                self._memory[number] = arrays
                return number
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="audit_toolkit-"))
                self._close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            folder = self._folder
        files = {}
        try:
            for k, (name, values) in enumerate(arrays.items()):
                path = folder / f"{number}-{k}.npy"
                np.save(path, values, allow_pickle=False)
                files[name] = (path, values.dtype, path.stat().st_size - values.nbytes, rows)
        except OSError as error:
            raise AuditError(
                f"Coded rows cannot be written to the temporary folder ({error.strerror or 'write failed'}).",
                mend="Free disk space there, or name another folder in the environment variable TMPDIR.",
            ) from error
        with self._lock:
            self._files[number] = files
        return number

    def load(self, number: int) -> Arrays:
        """The whole chunk, in private memory (shared with the store while it is held in memory: do not write)."""
        held = self._memory.get(number)
        if held is not None:
            return held
        return {name: np.load(path, allow_pickle=False) for name, (path, *_) in self._files[number].items()}

    def part(self, number: int, start: int, stop: int) -> Arrays:
        """Rows start..stop of a chunk, reading no others."""
        held = self._memory.get(number)
        if held is not None:
            return {name: values[start:stop] for name, values in held.items()}
        return {
            name: np.fromfile(path, dtype, stop - start, offset=offset + start * dtype.itemsize)
            for name, (path, dtype, offset, _) in self._files[number].items()
        }

    def drop(self, number: int) -> None:
        """Forget a chunk and free its room."""
        with self._lock:
            held = self._memory.pop(number, None)
            files = self._files.pop(number, {})
            if held is not None:
                self._held -= len(next(iter(held.values())))
        for path, *_ in files.values():
            path.unlink(missing_ok=True)

    def take(self, number: int) -> Arrays:
        """Load a chunk and forget it."""
        arrays = self.load(number)
        self.drop(number)
        return arrays

    def close(self) -> None:
        """Remove everything now; otherwise it goes with the last reference."""
        self._memory.clear()
        self._files.clear()
        if self._close is not None:
            self._close()
