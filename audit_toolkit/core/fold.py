"""The contract of every audit: zero, update, merge; integers only.

Integer addition is exactly associative, so any partitioning, any number of workers and any order of rows end in the same
bytes and the same digest. That digest is evidence: a second auditor with the same file must get the same one.

A measure validates a batch before its first write, so a refused batch leaves the state as it was. A state belongs to one
worker at a time; merging returns the sum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import StateError

State = dict[str, NDArray[Any]]
"""Named integer arrays, added into in place."""

_MAGIC = b"audit_toolkit/state/1\n"


@dataclass(frozen=True, slots=True)
class Batch:
    """Named C-contiguous arrays of equal length, ids already coded; ``n`` = observations it stands for."""

    arrays: Mapping[str, NDArray[Any]]
    n: int

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def get(self, name: str) -> NDArray[Any] | None:
        """The array of that name, or ``None`` where the source offers none."""
        return self.arrays.get(name)


Partition = Callable[[], Iterable[Batch]]
"""Cheap to hand over; opened by the worker that folds it."""


class Measure(Protocol):
    """What is counted. Frozen, hashable and picklable; everything that shapes the counts stands in ``parameters``."""

    @property
    def name(self) -> str:
        """The measure's name, as the record prints it."""

    @property
    def version(self) -> str:
        """Changed whenever the meaning of the counts changes."""

    def parameters(self) -> dict[str, Any]:
        """Everything that shapes the counts, as JSON values (long arrays as digests)."""

    def zero(self) -> State:
        """A fresh, empty state."""

    def update(self, state: State, batch: Batch) -> None:
        """Add one batch in place; raises only before the first write."""

    def merge(self, into: State, other: State) -> State:
        """The state of both parts together."""


def add(into: State, other: State) -> State:
    """Merge by addition, in place: the default of nearly every measure."""
    if into.keys() != other.keys() or any(into[k].shape != other[k].shape for k in into):
        raise StateError("Counts of different shapes cannot be added.", mend="Fold both parts with the same measure.")
    for name, values in into.items():
        values += other[name]
    return into


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over named arrays: names in order, type, shape and little-endian bytes."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        values = arrays[name]
        little = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False)
        h.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
        h.update(little.tobytes() if little.ndim == 0 else np.ascontiguousarray(little).data)
    return h.hexdigest()


def digest(measure: Measure, state: State) -> str:
    """The digest of a state under its header: measure, version, parameters, counts."""
    return hashlib.sha256(_header(measure) + digest_arrays(state).encode()).hexdigest()


def _header(measure: Measure) -> bytes:
    header = {"measure": measure.name, "version": measure.version, "parameters": measure.parameters()}
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def to_bytes(measure: Measure, state: State) -> bytes:
    """A state as bytes: a JSON line that says what it is, then raw little-endian arrays. No pickle."""
    layout = [[name, state[name].dtype.newbyteorder("<").str, list(state[name].shape)] for name in sorted(state)]
    body = b"".join(
        state[name].astype(state[name].dtype.newbyteorder("<"), copy=False).tobytes() for name in sorted(state)
    )
    head = json.dumps([json.loads(_header(measure)), layout, digest(measure, state)], separators=(",", ":"))
    return _MAGIC + head.encode() + b"\n" + body


def from_bytes(measure: Measure, data: bytes) -> State:
    """Read a state back; refuses one of another measure, other parameters, or with a digest that does not fit."""
    if not data.startswith(_MAGIC):
        raise StateError("These bytes are not a stored state.")
    line_end = data.find(b"\n", len(_MAGIC))
    try:
        header, layout, stored = json.loads(data[len(_MAGIC) : line_end])
    except ValueError as error:
        raise StateError("The stored state's first line is damaged.") from error
    if header != json.loads(_header(measure)):
        raise StateError("The stored state belongs to another measure or to other parameters.")
    state: State = {}
    at = line_end + 1
    for name, kind, shape in layout:
        dtype = np.dtype(kind)
        if dtype.kind not in "iu":
            raise StateError("A stored state holds something other than integers.")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if at + size > len(data):
            raise StateError("The stored state is cut short.")
        state[name] = np.frombuffer(data, dtype, offset=at, count=size // dtype.itemsize).reshape(shape).copy()
        at += size
    if at != len(data) or digest(measure, state) != stored:
        raise StateError("The stored state's digest does not fit its counts.")
    return state


def seed(root: bytes, *names: str | int) -> int:
    """A 128-bit seed for one named purpose, derived from the plan's digest; the only origin of randomness."""
    h = hashlib.blake2b(root, digest_size=16)
    for name in names:
        part = str(name).encode()
        h.update(len(part).to_bytes(8, "little") + part)
    return int.from_bytes(h.digest(), "little")
