"""Synthetic labelled comparison scores of any size, the same on every call, written in bounded memory.

Why it exists: speed and memory need files of 1 to 100 million comparisons whose answers can be checked, and no real vendor
file of that size may be passed on. Scores are made the way real ones behave: every person has an effect of
their own on every comparison they are in, groups differ in size and in level, and people of one group look more alike to
the matcher than people of different groups.

What it promises: chunk c of a data set is a function of (seed, c, subjects) alone, so a file of 1 million rows is the
beginning of the file of 10 million, and ``digest`` is equal wherever numpy draws the same numbers. What it does not: these
are no measurements of any system.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

GROUPS = tuple(f"group {letter}" for letter in "ABCDEFGH")
_SHARES = (0.22, 0.18, 0.15, 0.13, 0.11, 0.09, 0.07, 0.05)
_LEVEL = (0.00, 0.004, 0.008, 0.012, 0.016, 0.020, 0.024, 0.028)
"""What a group adds to the score of its within-group non-mated comparisons: false matches rise from A to H."""
MATED_SHARE = 0.10
WITHIN_SHARE = 0.5
"""Share of the non-mated comparisons drawn within one group (testers pair like with like); the rest pair anybody."""
THRESHOLD = 0.33
"""Where about one non-mated comparison in a thousand, and one mated one in a hundred, is an error."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Population:
    """Who is compared: ``group`` int32 and ``effect`` float32 a subject, and subjects by group for within-group pairs."""

    group: NDArray[np.int32]
    effect: NDArray[np.float32]
    order: NDArray[np.int32]
    start: NDArray[np.int64]


def _rng(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))


def population(subjects: int, seed: int = 1) -> Population:
    """The people: eight groups of unequal size, each at least two people; person effects N(0, 0.6)."""
    if subjects < 2 * len(GROUPS):
        raise ValueError("Eight groups need at least sixteen subjects.")
    rng = _rng(seed, 2**63)
    first = np.repeat(np.arange(len(GROUPS), dtype=np.int32), 2)
    rest = rng.choice(len(GROUPS), subjects - len(first), p=_SHARES).astype(np.int32)
    group = np.concatenate([first, rest])
    rng.shuffle(group)
    effect = (0.6 * rng.standard_normal(subjects)).astype(np.float32)
    order = np.argsort(group, kind="stable").astype(np.int32)
    start = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(GROUPS)))]).astype(np.int64)
    return Population(group, effect, order, start)


def chunk(people: Population, index: int, rows: int, seed: int = 1) -> Arrays:
    """The first ``rows`` comparisons of chunk ``index``: ``ref``, ``probe`` int32, ``mated`` bool, ``score`` float32.

    A whole chunk is drawn and cut, so that a shorter file is the beginning of a longer one.
    """
    rng = _rng(seed, index)
    subjects, group = len(people.group), people.group
    ref = rng.integers(0, subjects, CHUNK, dtype=np.int32)
    mated = rng.random(CHUNK, dtype=np.float32) < MATED_SHARE
    within = rng.random(CHUNK, dtype=np.float32) < WITHIN_SHARE
    low = np.where(within, people.start[group[ref]], 0)
    high = np.where(within, people.start[group[ref] + 1], subjects)
    at = low + (rng.random(CHUNK) * (high - low)).astype(np.int64)
    # Never oneself in a non-mated comparison: the next person of the same range (every range holds two or more).
    again = np.where(at + 1 < high, at + 1, low)
    other = people.order[np.where(people.order[at] == ref, again, at)]
    probe = np.where(mated, ref, other)
    same = group[ref] == group[probe]
    noise = rng.standard_normal(CHUNK, dtype=np.float32)
    level = np.array(_LEVEL, np.float32)[group[ref]]
    impostor = 0.10 + 0.05 * (people.effect[ref] + people.effect[probe] + noise) + np.where(same, 0.02 + level, 0)
    genuine = 0.55 + 0.08 * (people.effect[ref] + noise) - level
    score = np.where(mated, genuine, impostor).astype(np.float32)
    return {"ref": ref[:rows], "probe": probe[:rows], "mated": mated[:rows], "score": score[:rows]}


def chunks(rows: int, subjects: int, seed: int = 1) -> Iterator[Arrays]:
    """All comparisons, a chunk of at most 2**20 rows at a time."""
    people = population(subjects, seed)
    for index in range(-(-rows // CHUNK)):
        yield chunk(people, index, min(CHUNK, rows - index * CHUNK), seed)


def digest(rows: int, subjects: int, seed: int = 1) -> str:
    """SHA-256 of the content: the people's groups, then every column of every chunk, little-endian."""
    h = hashlib.sha256(population(subjects, seed).group.astype("<i4").tobytes())
    for part in chunks(rows, subjects, seed):
        for name in sorted(part):
            h.update(part[name].astype(part[name].dtype.newbyteorder("<")).tobytes())
    return h.hexdigest()


def _label(rows: int, subjects: int, seed: int) -> str:
    """A kept data set's name ends in a digest of its beginning: one kept from another generator is never taken for it."""
    return f"{rows}-{subjects}-{seed}-{digest(min(rows, 1000), subjects, seed)[:8]}"


def default_folder() -> Path:
    """Where data sets are kept between runs: a folder under the system's temporary one."""
    return Path(tempfile.gettempdir()) / "audit_toolkit_benchmarks"


def score_file(folder: Path, rows: int, subjects: int, seed: int = 1) -> Path:
    """The data set as zstd Parquet (ids and groups as strings, row groups of 2**20 rows); written once, then reused.

    Columns: reference_subject, probe_subject, reference_group, probe_group, mated, score (float32). About 10 bytes a row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = folder / f"scores-{_label(rows, subjects, seed)}.parquet"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    people = population(subjects, seed)
    ids = pa.array([f"S{code:06d}" for code in range(subjects)])
    labels = pa.array(GROUPS)
    unfinished = target.with_suffix(f".{os.getpid()}.part")
    fields = ("reference_subject", "probe_subject", "reference_group", "probe_group", "mated", "score")
    writer = None
    # store_schema=False: the file says "string", as any writer's would; that we held dictionaries is not its reader's concern.
    for part in chunks(rows, subjects, seed):
        table = pa.table(
            [
                pa.DictionaryArray.from_arrays(pa.array(part["ref"]), ids),
                pa.DictionaryArray.from_arrays(pa.array(part["probe"]), ids),
                pa.DictionaryArray.from_arrays(pa.array(people.group[part["ref"]]), labels),
                pa.DictionaryArray.from_arrays(pa.array(people.group[part["probe"]]), labels),
                pa.array(part["mated"]),
                pa.array(part["score"]),
            ],
            names=fields,
        )
        if writer is None:
            writer = pq.ParquetWriter(unfinished, table.schema, compression="zstd", store_schema=False)
        writer.write_table(table, row_group_size=CHUNK)
    if writer is None:
        raise ValueError("A data set needs at least one row.")
    writer.close()
    unfinished.replace(target)
    return target


def array_folder(folder: Path, rows: int, subjects: int, seed: int = 1) -> Path:
    """The same data set as coded .npy files (ref, probe, mated, score, and group by subject), for in-memory contenders."""
    target = folder / f"arrays-{_label(rows, subjects, seed)}"
    if (target / "complete").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    kinds = {"ref": np.int32, "probe": np.int32, "mated": np.bool_, "score": np.float32}
    open_files = {
        name: np.lib.format.open_memmap(target / f"{name}.npy", "w+", np.dtype(kind), (rows,))
        for name, kind in kinds.items()
    }
    at = 0
    for part in chunks(rows, subjects, seed):
        n = len(part["score"])
        for name, values in open_files.items():
            values[at : at + n] = part[name]
        at += n
    for values in open_files.values():
        values.flush()
    np.save(target / "group.npy", population(subjects, seed).group)
    (target / "complete").touch()
    return target
