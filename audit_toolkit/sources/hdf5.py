"""Templates in HDF5: datasets by name, the vectors in one of them (bob calls it ``features``).

Needs the optional package h5py. Promise: only the named datasets of this one file are read; links into other files and
stored references are refused; vectors come in blocks, never as Python objects.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audit_toolkit.errors import InputError, MissingExtraError
from audit_toolkit.sources.stored_vectors import (
    Pick,
    Stored,
    check_shape,
    copy_rows,
    kept_type,
    room,
    rounded,
    text_column,
)


def read_hdf5(path: Path, pick: Pick, memory_bytes: int) -> Stored:
    """Datasets of an HDF5 file; names may be paths (``group/features``).

    Raises `InputError` for damaged files, missing datasets, links into other files and shapes that do not fit, and
    `MissingExtraError` without h5py.
    """
    try:
        h5py = importlib.import_module("h5py")
    except ImportError:
        raise MissingExtraError(
            "HDF5 files need the package h5py.", where=path.name, mend="pip install 'audit_toolkit[hdf5]'"
        ) from None
    where = path.name
    try:
        with h5py.File(path, "r") as file:
            vectors_name, names = pick(_names(file, h5py))
            data = file[vectors_name]
            place = f"{where}, dataset {vectors_name}"
            _own(data, place)
            kept = kept_type(data.dtype, place)
            n, d = check_shape(data.shape, place)
            vectors = room(n, d, kept, memory_bytes)
            copy_rows(lambda start, stop: data[start:stop], vectors)
            columns = {part: _column(file[name], f"{where}, dataset {name}", h5py) for part, name in names.items()}
            notes = rounded(data.dtype, kept)
    except (OSError, RuntimeError, KeyError, ValueError, UnicodeDecodeError):
        raise InputError(
            "This is not a readable HDF5 file: it is damaged or cut short.", where=where, mend="Ask for it again."
        ) from None
    return Stored("HDF5 datasets", vectors, columns, None, notes)


def _names(file: Any, h5py: Any) -> Sequence[str]:
    """Every dataset of this file by its path; links that lead out of the file are not followed."""
    names: list[str] = []

    def walk(group: Any, prefix: str, depth: int) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                names.append(prefix + name)
            elif depth < 8:
                walk(item, f"{prefix}{name}/", depth + 1)

    walk(file, "", 0)
    return sorted(names)


def _own(data: Any, where: str) -> None:
    if data.is_virtual or data.external:
        raise InputError(
            "The dataset's numbers lie in other files.", where=where, mend="Copy them into this file first."
        )


def _column(data: Any, where: str, h5py: Any) -> pa.Array:
    _own(data, where)
    if h5py.check_string_dtype(data.dtype) is not None and len(data.shape) == 1:
        return pa.array(data.asstr()[()].tolist(), pa.string())
    if data.dtype.hasobject:
        raise InputError(
            f"The dataset is of type {data.dtype}.", where=where, mend="Save ids and labels as text or whole numbers."
        )
    return text_column(np.asarray(data[()]), where)
