"""The second stage of a survey: what only the whole file shows.

The rows that passed by themselves get their final codes (subjects sorted by id), rows of subjects with two labels leave,
and the rest is dealt into parts by a hash, so that rows which could be the same meet in one part whatever their order in
the file. Duplicates are then judged exactly, part by part, and each part's rows become one clean chunk. Transactions are
dealt and judged in the same way.

Memory: one part holds about ``min(chunk_rows, duplicate_rows)`` rows; rows with the very same samples cannot be parted, so
a file that repeats one comparison millions of times needs room for them.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import codes, same
from audit_toolkit.sources.intake import Intake
from audit_toolkit.sources.spill import Arrays, Spill, join

FINE_ROWS = 131_072
"""Rows of a part that is judged at once: small enough for its hash table to stay in a core's cache."""
BINS = 4096
MOST_PARTS = 65_536

A = TypeVar("A")
B = TypeVar("B")


@dataclass(slots=True)
class Settled:
    """Clean chunks and what was found on the way; every count is independent of the order of the rows."""

    chunks: list[int] = field(default_factory=list)
    transaction_chunks: list[int] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    used: int = 0
    transactions: int = 0
    low: float = np.inf
    high: float = -np.inf
    at_low: int = 0
    at_high: int = 0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, BINS), np.int64))
    """[non-mated | mated, class of score between the lowest and the highest], multiplicities counted."""
    fingerprint: int = 0
    """Sum of a hash of every used row, modulo 2^64: the same for every order of the rows."""


def ordered(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Apply a function in threads, at most one item ahead a worker; results in the order of the items."""
    workers = max(1, min(4, os.cpu_count() or 1))
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True, slots=True)
class Dealt:
    """A chunk in the store whose rows stand part by part; part p is rows start[p]..start[p+1]."""

    number: int
    start: NDArray[np.int64]


def plan_parts(rows: int, block_rows: int) -> tuple[int, int]:
    """How many blocks (each becomes one chunk) and how many parts a block, for this many rows."""
    blocks = max(1, min(MOST_PARTS, -(-rows // max(1, block_rows))))
    fine = max(1, -(-min(rows, -(-rows // blocks)) // FINE_ROWS))
    return blocks, fine


def deal(rows: Arrays, part: NDArray[np.int32], parts: int, spill: Spill) -> Dealt:
    """Put a chunk's rows in order of their parts and store it."""
    if parts == 1:
        return Dealt(spill.add(rows), np.array([0, len(part)], np.int64))
    order, start = same.order_by_part(part, parts)
    return Dealt(spill.add({name: values[order] for name, values in rows.items()}), start)


def gather(dealt: list[Dealt], first: int, last: int, spill: Spill) -> list[Arrays]:
    """The rows of parts first..last-1, each part from all chunks together; empty parts are left out."""
    pieces = []
    for chunk in dealt:
        a, b = int(chunk.start[first]), int(chunk.start[last])
        if a < b:
            pieces.append((chunk.start[first : last + 1] - a, spill.part(chunk.number, a, b)))
    parts = []
    for p in range(last - first):
        mine = [(rows, s[p], s[p + 1]) for s, rows in pieces if s[p] < s[p + 1]]
        if mine:
            parts.append({name: join([rows[name][a:b] for rows, a, b in mine]) for name in mine[0][0]})
    return parts


def settle(
    intake: Intake,
    spill: Spill,
    rank: NDArray[np.int32],
    torn: NDArray[np.bool_],
    classes: dict[str, Callable[[NDArray[Any]], NDArray[np.int32]]],
    *,
    block_rows: int,
    fingerprint: bool,
    progress: Callable[[str, int, int | None], None] | None,
) -> Settled:
    """Judge the waiting rows together and write the clean chunks.

    rank: final code of each provisional subject code; torn: by provisional code, subjects with two labels; classes: per
    covariate column the function to its final codes.
    """
    settled = Settled()
    blocks, fine = plan_parts(intake.kept, block_rows)
    sample_rank = _sample_rank(intake)

    def recode(number: int) -> tuple[Dealt | None, int]:
        rows = dict(spill.take(number))
        rows, lost = _recode(rows, rank, torn, sample_rank)
        if len(rows["ref"]) == 0:
            return None, lost
        for name, to_class in classes.items():
            rows[name] = to_class(rows[name])
        return deal(rows, _parts(rows, blocks * fine), blocks * fine, spill), lost

    dealt: list[Dealt] = []
    for chunk, lost in ordered(recode, intake.chunks):
        settled.found["two labels"] += lost
        if chunk is not None:
            dealt.append(chunk)

    trans: list[Dealt] = []
    trans_blocks, trans_fine = plan_parts(intake.kept, block_rows)

    def judge(block: int) -> tuple[Arrays | None, Dealt | None, Counter[str], tuple[Any, ...]]:
        found: Counter[str] = Counter()
        parts = [_judge_part(rows, found) for rows in gather(dealt, block * fine, (block + 1) * fine, spill)]
        if not parts:
            return None, None, found, ()
        rows = {name: join([part[name] for part in parts]) for name in parts[0]}
        attempts = None
        if "transaction" in rows:
            attempts = _deal_transactions(
                {k: rows[k] for k in ("ref", "probe", "mated", "score", "transaction")},
                trans_blocks * trans_fine,
                spill,
            )
        rows = {k: v for k, v in rows.items() if k not in ("ref_sample", "probe_sample", "transaction")}
        histogram = np.zeros((2, BINS), np.int64)
        weight = rows.get("weight", np.zeros(0, np.int64))
        tally = codes.tally_scores(rows["score"], rows["mated"], weight, intake.low, intake.high, histogram)
        return rows, attempts, found, (histogram, tally, _fingerprint(rows) if fingerprint else 0)

    done = 0
    for rows, attempts, found, (*facts,) in ordered(judge, range(blocks)):
        settled.found += found
        if rows is None:
            continue
        histogram, tally, print64 = facts
        settled.histogram += histogram
        settled.fingerprint = (settled.fingerprint + print64) % 2**64
        _merge_ends(settled, *tally)
        settled.used += len(rows["ref"])
        settled.chunks.append(spill.add(rows))
        if attempts is not None:
            trans.append(attempts)
        done += len(rows["ref"])
        if progress is not None:
            progress("judging", done, intake.kept)
    for chunk in dealt:
        spill.drop(chunk.number)
    if intake.has_transactions:
        for number in intake.failed_chunks:
            rows, _ = _recode(dict(spill.take(number)), rank, torn, None)
            if len(rows["ref"]):
                extra = _deal_transactions(rows, trans_blocks * trans_fine, spill)
                trans += [] if extra is None else [extra]
        _settle_transactions(settled, trans, trans_blocks, trans_fine, spill)
    return settled


def _sample_rank(intake: Intake) -> NDArray[np.int32] | None:
    if not intake.has_samples:
        return None
    rank = np.empty(len(intake.samples) + 1, np.int32)
    rank[[intake.samples[text] for text in sorted(intake.samples)]] = np.arange(len(intake.samples), dtype=np.int32)
    rank[-1] = -1
    return rank


def _recode(
    rows: Arrays, rank: NDArray[np.int32], torn: NDArray[np.bool_], sample_rank: NDArray[np.int32] | None
) -> tuple[Arrays, int]:
    lost = 0
    if torn.any():
        keep = ~(torn[rows["ref"]] | torn[rows["probe"]])
        lost = len(keep) - int(keep.sum())
        if lost:
            rows = {name: values[keep] for name, values in rows.items()}
    rows["ref"], rows["probe"] = rank[rows["ref"]], rank[rows["probe"]]
    if sample_rank is not None:
        rows["ref_sample"], rows["probe_sample"] = (
            sample_rank[rows["ref_sample"]],
            sample_rank[rows["probe_sample"]],
        )
    return rows, lost


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    return values.view(np.uint32 if values.dtype.itemsize == 4 else np.uint64)


def _parts(rows: Arrays, parts: int) -> NDArray[np.int32]:
    out = np.zeros(len(rows["ref"]), np.int32)
    if parts == 1:
        return out
    if "ref_sample" in rows:
        transaction = rows.get("transaction", np.zeros(0, np.int32))
        same.parts_of_samples(
            rows["ref"], rows["probe"], rows["ref_sample"], rows["probe_sample"], transaction, parts, out
        )
    else:
        same.parts_of_rows(rows["ref"], rows["probe"], _bits(rows["score"]), parts, out)
    return out


def _judge_part(rows: Arrays, found: Counter[str]) -> Arrays:
    if "ref_sample" not in rows:
        identical, mirrored = same.count_identical(rows["ref"], rows["probe"], _bits(rows["score"]))
        found["identical"] += identical
        found["mirrored unjudged"] += mirrored
        return rows
    extra = [name for name in rows if name == "weight" or name.startswith("x.")]
    tie = np.zeros(len(rows["ref"]) if extra else 0, np.uint64)
    for name in extra:
        codes.mix_into(tie, rows[name].astype(np.int64))
    keep = np.empty(len(rows["ref"]), np.uint8)
    exact, mirrored, differing, conflicting = same.find_duplicates(
        rows["ref"],
        rows["probe"],
        rows["ref_sample"],
        rows["probe_sample"],
        rows.get("transaction", np.zeros(0, np.int32)),
        rows["score"],
        tie,
        keep,
    )
    found["exact"] += exact
    found["mirrored"] += mirrored
    found["mirrored differing"] += differing
    found["conflicting"] += conflicting
    if exact or mirrored:
        kept = np.flatnonzero(keep)
        return {name: values[kept] for name, values in rows.items()}
    return rows


def _fingerprint(rows: Arrays) -> int:
    hashes = np.zeros(len(rows["ref"]), np.uint64)
    for name in sorted(rows):
        values = rows[name]
        codes.mix_into(hashes, (_bits(values) if values.dtype.kind == "f" else values).astype(np.int64))
    return int(hashes.sum(dtype=np.uint64))


def _merge_ends(settled: Settled, least: float, at_least: int, most: float, at_most: int) -> None:
    if least < settled.low:
        settled.low, settled.at_low = least, 0
    if most > settled.high:
        settled.high, settled.at_high = most, 0
    settled.at_low += at_least if least == settled.low else 0
    settled.at_high += at_most if most == settled.high else 0


def _deal_transactions(rows: Arrays, parts: int, spill: Spill) -> Dealt | None:
    there = np.flatnonzero(rows["transaction"] >= 0)
    if len(there) == 0:
        return None
    if len(there) < len(rows["ref"]):
        rows = {name: values[there] for name, values in rows.items()}
    part = np.zeros(len(there), np.int32)
    same.parts_of_keys(rows["transaction"], parts, part)
    return deal(rows, part, parts, spill)


def _settle_transactions(settled: Settled, dealt: list[Dealt], blocks: int, fine: int, spill: Spill) -> None:
    def best(block: int) -> tuple[Arrays | None, int, int]:
        kept, mixed, rows_of_mixed = [], 0, 0
        for rows in gather(dealt, block * fine, (block + 1) * fine, spill):
            score = rows["score"].copy()
            which, count, attempts = same.best_of_transactions(rows["transaction"], rows["ref"], rows["probe"], score)
            mixed, rows_of_mixed = mixed + count, rows_of_mixed + attempts
            if len(which):
                kept.append(
                    {
                        "ref": rows["ref"][which],
                        "probe": rows["probe"][which],
                        "mated": rows["mated"][which],
                        "score": score[which],
                    }
                )
        if not kept:
            return None, mixed, rows_of_mixed
        return {name: join([rows[name] for rows in kept]) for name in kept[0]}, mixed, rows_of_mixed

    for rows, mixed, _ in ordered(best, range(blocks)):
        settled.found["mixed transactions"] += mixed
        if rows is not None:
            settled.transactions += len(rows["ref"])
            settled.transaction_chunks.append(spill.add(rows))
    for chunk in dealt:
        spill.drop(chunk.number)
