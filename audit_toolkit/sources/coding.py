"""From Arrow columns to numpy codes: text becomes integers here, and no later step sees a string.

Promise: what a value is coded as depends on the value alone (by way of a book that grows as values are met and is sorted
at the end), never on how the column was stored: plain strings, dictionaries, categories and integers give the same ids.
Errors name the column and the row, never the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audit_toolkit.errors import InputError

TRUE = frozenset({"true", "t", "1", "1.0", "yes", "y", "mated", "genuine", "same", "match"})
FALSE = frozenset({"false", "f", "0", "0.0", "no", "n", "nonmated", "non-mated", "impostor", "imposter", "different"})


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, stored plainly or as a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    view = getattr(pa.types, "is_string_view", lambda _: False)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers (not booleans, not dates)."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


Memo = dict[str, tuple[pa.Array, list[str | None], NDArray[np.int32]]]
"""Per column the last dictionary, its values as text, and their codes (-2: not met in a row yet)."""


def encode(array: pa.Array, where: str) -> tuple[NDArray[np.int32], list[str | None]]:
    """The column as indices (int32, -1 = null) into its distinct values as text.

    Values of a dictionary that no row has are given as ``None``: a category without rows is no subject and no label.
    """
    index, values = _indices(array, where)
    used = np.zeros(len(values) + 1, np.bool_)
    used[index] = True
    return index, [t if u else None for t, u in zip(_texts(values, where), used, strict=False)]


def _indices(array: pa.Array, where: str) -> tuple[NDArray[np.int32], pa.Array]:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_null(array.type):
        return np.full(len(array), -1, np.int32), pa.array([], pa.string())
    if not pa.types.is_dictionary(array.type):
        try:
            array = array.dictionary_encode()
        except pa.ArrowException:
            raise InputError(f"A column of type {array.type} cannot be read as labels or ids.", where=where) from None
    index = array.indices
    if index.type != pa.int32():
        index = index.cast(pa.int32())
    if index.null_count:
        index = index.fill_null(-1)
    return index.to_numpy(zero_copy_only=False), array.dictionary


def _texts(values: pa.Array, where: str) -> list[str | None]:
    if pa.types.is_floating(values.type):
        # pandas turns integer ids into floats where one is missing; fractions are no ids.
        try:
            values = values.cast(pa.float64()).cast(pa.int64())
        except pa.ArrowInvalid:
            raise InputError(
                "The column holds fractions where ids or labels are expected.",
                where=where,
                mend="Store ids and labels as text or as integers.",
            ) from None
    if not is_text(values.type):
        try:
            values = values.cast(pa.string())
        except pa.ArrowException:
            raise InputError(
                f"A column of type {values.type} cannot be read as ids or labels.",
                where=where,
                mend="Store them as text or as integers.",
            ) from None
    try:
        return list(values.to_pylist())
    except UnicodeDecodeError:
        raise InputError("The column holds text that is not UTF-8.", where=where, mend="Save it as UTF-8.") from None


def through(index: NDArray[np.int32], codes: list[int]) -> NDArray[np.int32]:
    """Replace each index by its value's code; -1 stays -1."""
    table = np.empty(len(codes) + 1, np.int32)
    table[:-1] = codes
    table[-1] = -1
    return table[index]


def code(
    array: pa.Array,
    book: dict[str, int],
    where: str,
    clean: Callable[[str], str | None] | None = None,
    memo: Memo | None = None,
) -> NDArray[np.int32]:
    """Code a column against a book that grows; -1 for null, empty text, and what ``clean`` turns into ``None``.

    Batches of one row group bring the same dictionary again and again: with ``memo`` its values are looked up once.
    """
    index, values = _indices(array, where)
    kept = memo.get(where) if memo is not None else None
    if kept is not None and kept[0].equals(values):
        _, texts, table = kept
    else:
        texts, table = _texts(values, where), np.full(len(values) + 1, -2, np.int32)
        table[-1] = -1
    used = np.zeros(len(table), np.bool_)
    used[index] = True
    for k in np.flatnonzero(used & (table == -2)).tolist():
        text = texts[k]
        value = text if clean is None or text is None else clean(text)
        table[k] = book.setdefault(value, len(book)) if value else -1
    if memo is not None:
        memo[where] = (values, texts, table)
    return table[index]


def transactions(array: pa.Array, book: dict[str, int], where: str) -> NDArray[Any]:
    """Transactions as codes >= 0, -1 where missing: integers as they are (there may be millions), text by its book."""
    if not pa.types.is_integer(array.type):
        return code(array, book, where)
    if array.type == pa.uint64():
        array = array.cast(pa.int64(), safe=False)
    absent = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    values: NDArray[np.int64] = pc.fill_null(array, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    if len(values) and (values.max() >= 2**62 or values.min() < -(2**62)):
        raise InputError("A transaction's number is beyond 2^62.", where=where, mend="Store transactions as text.")
    values = np.where(values < 0, -2 * values - 1, 2 * values)  # every integer to one that is not negative
    if absent is not None:
        values[absent] = -1
    return values


def scores(array: pa.Array, dtype: np.dtype[Any], where: str, first_row: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Scores in the survey's dtype, and where they are null (empty array: nowhere)."""
    if not is_number(array.type) and not pa.types.is_null(array.type):
        raise not_numbers(array, where, first_row)
    absent = np.zeros(0, np.bool_)
    if array.null_count:
        absent = array.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan, dtype), absent
    if not pa.types.is_floating(array.type):
        array = array.cast(pa.float64(), safe=False)
    return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False), absent


def not_numbers(array: pa.Array, where: str, first_row: int) -> InputError:
    """The error for a column that should hold numbers and does not; names the first row that is none."""
    row = None
    if is_text(array.type):
        for k, value in enumerate(array.to_pylist()):
            if value is not None and not _reads_as_number(value):
                row = first_row + k
                break
    what = f"The column holds {'text' if is_text(array.type) else array.type}, not numbers"
    what += "." if row is None else f"; row {row} is the first that cannot be read as a number."
    return InputError(what, where=where, mend="Store it as numbers, and leave a missing value empty.")


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def flags(array: pa.Array, where: str, first_row: int) -> NDArray[np.int8]:
    """Mated flags as int8: 1, 0, or -1 where the column is null. Booleans, 0/1 and the usual words are understood."""
    if pa.types.is_boolean(array.type):
        given: NDArray[np.int8] = array.cast(pa.int8()).fill_null(-1).to_numpy(zero_copy_only=False)
        return given
    index, texts = encode(array, where)
    codes, bad = [], []
    for k, text in enumerate(texts):
        word = (text or "").strip().lower()
        codes.append(1 if word in TRUE else 0 if word in FALSE else -1)
        if word and codes[-1] < 0:
            bad.append(k)
    if bad:
        row = first_row + int(np.flatnonzero(np.isin(index, bad))[0])
        raise InputError(
            f"Row {row} has a mated flag that is neither true nor false.",
            where=where,
            mend="Use true and false (or 1 and 0), and leave it empty where the ids decide.",
        )
    return through(index, codes).astype(np.int8)


def failures(array: pa.Array, where: str, first_row: int) -> NDArray[np.uint8]:
    """Failure words as uint8: 0 compared, 1 "fte", 2 "fta"."""
    words = {"": 0, "none": 0, "fte": 1, "fta": 2}
    index, texts = encode(array, where)
    codes, bad = [], []
    for k, text in enumerate(texts):
        word = (text or "").strip().lower()
        codes.append(words.get(word, 0))
        if word not in words:
            bad.append(k)
    if bad:
        row = first_row + int(np.flatnonzero(np.isin(index, bad))[0])
        raise InputError(
            f"Row {row} has a failure word that is not known.",
            where=where,
            mend='Use "fte" (enrolment failed), "fta" (acquisition failed), or leave it empty.',
        )
    return np.maximum(through(index, codes), 0).astype(np.uint8)


def weights(array: pa.Array, where: str, first_row: int) -> NDArray[np.int64]:
    """Multiplicities as int64, -1 where missing; raises `InputError` for anything that is not a positive integer."""
    if pa.types.is_null(array.type):
        return np.full(len(array), -1, np.int64)
    if not is_number(array.type):
        raise not_numbers(array, where, first_row)
    absent = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    values = pc.fill_null(array, 1) if array.null_count else array
    if not pa.types.is_integer(values.type):
        values = values.cast(pa.float64(), safe=False)
    plain = values.to_numpy(zero_copy_only=False)
    if plain.dtype.kind == "f":
        # NaN is how pandas writes "missing".
        absent = np.isnan(plain) if absent is None else absent | np.isnan(plain)
        plain = np.where(absent, 1.0, plain)
    with np.errstate(invalid="ignore"):
        bad = (plain < 1) | (plain > 2**53) | (plain != np.floor(plain))
    if bad.any():
        raise InputError(
            f"Row {first_row + int(np.flatnonzero(bad)[0])} has a weight that is not a positive integer.",
            where=where,
            mend="A weight says how many identical comparisons a row stands for; sampling weights do not belong here.",
        )
    out: NDArray[np.int64] = plain.astype(np.int64)
    if absent is not None:
        out[absent] = -1
    return out
