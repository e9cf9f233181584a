"""What a long fold has counted so far, on disk, so that an interrupted run goes on where it was.

Why: all pairs of a large gallery take hours, and integers that were counted stay counted. Promise: the journal on disk is
always a whole one (written beside, flushed, then put in place; the one before it is kept); a journal of another run, or a
damaged one, is refused in one sentence and never overwritten; a resumed fold ends in the digest of an uninterrupted one.
Partitions are known by their number, so whatever cuts them (tile shape, chunk size, order of the rows) belongs into
``header``. A journal may hold counts by person: it is readable by this user only, and belongs to no release.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core.fold import Measure, State, from_bytes, to_bytes
from audit_toolkit.errors import AuditError, StateError

_MAGIC = b"audit_toolkit/journal/1\n"


@dataclass(frozen=True, slots=True, eq=False)
class Progressed:
    """How far a fold has come: merged states, which partitions they hold, and how many rows those were."""

    states: list[State]
    done: NDArray[np.bool_]
    rows: int


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one fold in the file ``path``.

    ``header`` is what tells this run from others beyond its measures: digests of input and plan, and whatever decides
    where the partitions are cut (JSON values). ``every`` seconds pass between two writes, more where a write is slow, so
    that writing takes at most about a fiftieth of the time.
    """

    path: Path
    header: Mapping[str, Any] = field(default_factory=dict)
    every: float = 2.0

    @property
    def previous(self) -> Path:
        """Where the journal before the present one stands."""
        return self.path.with_name(self.path.name + ".previous")

    def load(self, measures: Sequence[Measure], partitions: int) -> Progressed | None:
        """Read the journal back; ``None`` where there is none yet.

        Raises `StateError` for a journal of another run or a damaged one; nothing on disk is touched.
        """
        # A stop between the two renames of a write leaves the previous journal alone in the folder.
        path = self.path if self.path.exists() or not self.previous.exists() else self.previous
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuditError(f"The journal cannot be read ({error.strerror}).", where=path.name) from None
        try:
            return self._parse(data, measures, partitions)
        except _DamagedError:
            mend = "Remove it to begin anew."
            if path == self.path and self.previous.exists():
                mend = f"Put {self.previous.name} in its place to go on from the state before, or remove both to begin anew."
            raise StateError("The journal is damaged.", where=path.name, mend=mend) from None

    def _parse(self, data: bytes, measures: Sequence[Measure], partitions: int) -> Progressed:
        if not data.startswith(_MAGIC):
            raise _DamagedError
        stored, _, rest = data[len(_MAGIC) :].partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != stored:
            raise _DamagedError
        line, _, body = rest.partition(b"\n")
        head = json.loads(line)
        mine = self._identity(measures, partitions)
        differing = [name for name in mine if head["run"].get(name) != mine[name]]
        if differing:
            raise StateError(
                f"The journal belongs to another run: not the same {', not the same '.join(differing)}.",
                where=self.path.name,
                mend="Run with the same input, plan and options as before, or name another journal.",
            )
        states, at = [], 0
        for measure, size in zip(measures, head["states"], strict=True):
            states.append(from_bytes(measure, body[at : at + size]))
            at += size
        bits = np.frombuffer(base64.b64decode(head["done"]), np.uint8)
        done = np.unpackbits(bits, count=partitions).astype(np.bool_)
        return Progressed(states, done, head["rows"])

    def save(self, measures: Sequence[Measure], progressed: Progressed) -> None:
        """Put a new journal in place of the present one, which stays beside it; raises `AuditError` without room."""
        bodies = [to_bytes(m, s) for m, s in zip(measures, progressed.states, strict=True)]
        head = {
            "run": self._identity(measures, len(progressed.done)),
            "done": base64.b64encode(np.packbits(progressed.done).tobytes()).decode(),
            "rows": progressed.rows,
            "states": [len(body) for body in bodies],
        }
        rest = [json.dumps(head, separators=(",", ":")).encode() + b"\n", *bodies]
        whole = hashlib.sha256()
        for part in rest:
            whole.update(part)
        beside = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.writelines([_MAGIC, whole.hexdigest().encode() + b"\n", *rest])
                stream.flush()
                os.fsync(stream.fileno())
            if self.path.exists():
                self.path.replace(self.previous)
            beside.replace(self.path)
        except OSError as error:
            raise AuditError(
                f"The journal cannot be written ({error.strerror or 'write failed'}).",
                where=self.path.name,
                mend="Free disk space there, or name another journal; what was written before is whole.",
            ) from None

    def remove(self) -> None:
        """Forget the run: for when its record is written."""
        for path in (self.path, self.previous, self.path.with_name(self.path.name + ".part")):
            path.unlink(missing_ok=True)

    def _identity(self, measures: Sequence[Measure], partitions: int) -> dict[str, Any]:
        named = [[m.name, m.version, m.parameters()] for m in measures]
        return {
            "measures": _digest(named),
            "number of partitions": partitions,
            "input or options": _digest(dict(self.header)),
        }


class _DamagedError(Exception):
    """These bytes are no whole journal."""


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
