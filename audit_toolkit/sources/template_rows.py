"""Each row of a file of templates judged: whom it shows, whether it can be compared, and what a reader should know.

Promise: every row stands under exactly one reason; a template that cannot be compared is a failure and not a gap; reasons
name parts and counts, never a value of a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.errors import InputError
from audit_toolkit.evidence.record import Exclusion
from audit_toolkit.sources import coding
from audit_toolkit.sources.same_vectors import identical_rows, row_hash
from audit_toolkit.sources.stored_vectors import Stored, block_rows, read_rows
from audit_toolkit.sources.template_labels import Labelled

Metric = Literal["cosine", "inner", "l2"]

LONGEST = 1e18
"""Products of longer templates overflow float32: they cannot be compared."""
UNIT = 1e-3
"""How far a template's length may lie from 1 and still be called normalised."""

OK, NO_SUBJECT, FLAGGED, NAN, INFINITE, ZERO, TORN, DUPLICATE, FIRST_LABEL = range(9)
FAILURES = (FLAGGED, NAN, INFINITE, ZERO)
_TEXTS = {
    NO_SUBJECT: "missing subject id",
    FLAGGED: "enrolment failure (FTE), flagged in the file",
    NAN: "enrolment failure (FTE): the template is missing or holds values that are not numbers",
    INFINITE: f"enrolment failure (FTE): the template holds infinite values or is longer than {LONGEST:g}",
    ZERO: "enrolment failure (FTE): the template has length zero, which cosine cannot compare",
}
_LATE = {
    TORN: "subject with two different labels on one attribute (all rows of such subjects)",
    DUPLICATE: "duplicate: same subject, same sample, same template; first kept",
}
_FAILED = frozenset({"fte", "fta", "1", "1.0", "true", "t", "yes", "y", "failed", "failure"})
_PASSED = frozenset({"", "0", "0.0", "false", "f", "no", "n", "none", "ok"})


@dataclass(slots=True, eq=False)
class Judged:
    """Rows under judgement: codes against the sorted ids, one reason a row, and what was found among them."""

    ids: list[str]
    subject: NDArray[np.int32]
    image: NDArray[np.int32]
    has_samples: bool
    has_failures: bool
    reason: NDArray[np.int16]
    hashes: NDArray[np.uint64]
    normalised: bool = True
    label_reasons: list[str] = field(default_factory=list)
    """What the reasons from ``FIRST_LABEL`` on say."""
    found: Counter[str] = field(default_factory=Counter)

    def mark(self, rows: NDArray[np.bool_], reason: int) -> None:
        """Put rows that have no reason yet under this one."""
        self.reason[rows & (self.reason == OK)] = reason


def judge(stored: Stored, table: Mapping[str, pa.Array], where: str, metric: Metric) -> Judged:
    """Judge what a row shows by itself: its subject, a flagged failure, its numbers.

    table: Arrow arrays of N entries by part (subject; sample and failure where there are any); raises `InputError` for
    columns that cannot be read as what they are said to be.
    """
    n = len(stored.vectors)
    book: dict[str, int] = {}
    code = coding.code(table["subject"], book, f"{where}, subject")
    ids = sorted(book)
    subject = _ranked(code, book, ids)
    judged = Judged(
        ids=ids,
        subject=subject,
        image=_images(table, subject, where),
        has_samples="sample" in table,
        has_failures="failure" in table,
        reason=np.zeros(n, np.int16),
        hashes=np.zeros(n, np.uint64),
    )
    judged.mark(subject < 0, NO_SUBJECT)
    if "failure" in table:
        judged.mark(_flags(table["failure"], f"{where}, failure"), FLAGGED)
    _judge_numbers(judged, stored, metric)
    return judged


def _ranked(code: NDArray[np.int32], book: Mapping[str, int], order: Sequence[str]) -> NDArray[np.int32]:
    """Codes in order of appearance as codes in sorted order; -1 stays -1."""
    rank = np.empty(len(book) + 1, np.int32)
    rank[[book[text] for text in order]] = np.arange(len(book), dtype=np.int32)
    rank[-1] = -1
    return rank[code]


def _images(table: Mapping[str, pa.Array], subject: NDArray[np.int32], where: str) -> NDArray[np.int32]:
    """Samples are told apart within a subject: many files number each subject's images from 1."""
    image = np.full(len(subject), -1, np.int32)
    if "sample" in table:
        book: dict[str, int] = {}
        code = coding.code(table["sample"], book, f"{where}, sample")
        key = subject.astype(np.int64) * len(book) + _ranked(code, book, sorted(book))
        there = (code >= 0) & (subject >= 0)
        image[there] = np.unique(key[there], return_inverse=True)[1]
    return image


def _flags(array: pa.Array, where: str) -> NDArray[np.bool_]:
    index, texts = coding.encode(array, where)
    words = [(text or "").strip().lower() for text in texts]
    bad = [k for k, word in enumerate(words) if word not in _FAILED | _PASSED]
    if bad:
        raise InputError(
            f"Row {int(np.flatnonzero(np.isin(index, bad))[0]) + 1} has a failure word that is not known.",
            where=where,
            mend='Use "fte" or true where no template could be made, and leave it empty elsewhere.',
        )
    failed: NDArray[np.bool_] = coding.through(index, [int(word in _FAILED) for word in words]) == 1
    return failed


def _judge_numbers(judged: Judged, stored: Stored, metric: Metric) -> None:
    step = block_rows(stored.vectors.shape[1])
    for start in range(0, len(stored.vectors), step):
        stop = min(start + step, len(stored.vectors))
        block = read_rows(stored.vectors, stored.mapped, start, stop)
        wide = block.astype(np.float64)
        # squares of float32 numbers cannot overflow here: infinite or no number means that an entry is
        square = np.einsum("ij,ij->i", wide, wide)
        reason = judged.reason[start:stop]
        tests = [(np.isnan(square), NAN), (square > LONGEST**2, INFINITE)]
        if metric == "cosine":
            tests.append((square == 0.0, ZERO))
        for test, code in tests:
            reason[test & (reason == OK)] = code
        length = np.sqrt(square[reason == OK])
        judged.normalised &= bool((np.abs(length - 1.0) <= UNIT).all())
        judged.hashes[start:stop] = row_hash(block)


def judge_labels(judged: Judged, labelled: Sequence[Labelled]) -> None:
    """Rows whose subject has no label or an undeclared one, then all rows of subjects with two."""
    torn = np.zeros(len(judged.ids), np.bool_)
    for attribute in labelled:
        for rows, what in (
            (attribute.missing, "subject without a label"),
            (attribute.undeclared, "label is not among the declared ones"),
        ):
            judged.mark(rows, FIRST_LABEL + len(judged.label_reasons))
            judged.label_reasons.append(f"{what} ({attribute.attribute})")
        torn |= attribute.torn
    judged.mark(torn[judged.subject] & (judged.subject >= 0) if len(torn) else judged.subject >= 0, TORN)


def judge_duplicates(judged: Judged, stored: Stored) -> None:
    """Copies of one sample's template leave but for the first; identical templates of different samples are counted."""
    rows = np.flatnonzero(judged.reason == OK)
    for same in identical_rows(stored.vectors, stored.mapped, rows, judged.hashes[rows]):
        seen: set[tuple[int, int]] = set()
        people: set[int] = set()
        for row in same:
            person, image = int(judged.subject[row]), int(judged.image[row])
            if image >= 0 and (person, image) in seen:
                judged.reason[row] = DUPLICATE
                continue
            if person in people:
                judged.found["other sample" if judged.has_samples else "without sample"] += 1
            elif people:
                judged.found["other subject"] += 1
            seen.add((person, image))
            people.add(person)


def exclusions(judged: Judged) -> list[Exclusion]:
    """Rows not used, by reason, in the order in which they are judged."""
    texts = _TEXTS | {FIRST_LABEL + k: text for k, text in enumerate(judged.label_reasons)} | _LATE
    counts = Counter(judged.reason.tolist())
    return [Exclusion(reason=text, count=counts[code]) for code, text in texts.items() if counts[code]]


def enrolment(judged: Judged) -> NDArray[np.int64]:
    """[subjects, 2] templates and failures among them; a row without a subject id is nobody's attempt."""
    out = np.zeros((len(judged.ids), 2), np.int64)
    there = judged.subject >= 0
    for k, rows in enumerate((there, there & np.isin(judged.reason, FAILURES))):
        out[:, k] = np.bincount(judged.subject[rows], minlength=len(judged.ids))
    return out


def remarks(judged: Judged, metric: Metric) -> tuple[list[Exclusion], list[str]]:
    """Remarks on rows that stay, and warnings; call it when every row is judged."""
    used = judged.reason == OK
    people = len(judged.ids)
    subject, image = judged.subject[used], judged.image[used]
    known = image >= 0
    first = np.unique(image[known], return_index=True)[1]
    # templates of one image are never compared with each other: a mated comparison takes two images
    images = np.bincount(subject[known][first], minlength=people) + np.bincount(subject[~known], minlength=people)
    found = judged.found
    texts = {
        "subjects with a single image; they give no mated comparison": int((images == 1).sum()),
        "templates identical to another sample's of the same subject; counted and not dropped": found["other sample"],
        "templates identical to another subject's; counted and not dropped": found["other subject"],
        "templates identical to another of the same subject; no sample ids, so counted and not dropped": found[
            "without sample"
        ],
        "further templates of a sample that has one already; never compared with each other": int(known.sum())
        - len(first),
        "templates without a sample id; not judged for duplicates": int((~known).sum()) if judged.has_samples else 0,
    }
    warnings = []
    if metric == "cosine" and not judged.normalised:
        warnings.append("Templates are not of length 1; for cosine they are normalised before they are compared.")
    if found["other subject"]:
        warnings.append(
            f"{found['other subject']} templates are identical to a template of another subject: one person under two ids,"
            " or a copied file. Their comparisons count as false matches."
        )
    copied = found["other sample"] + found["without sample"]
    if copied:
        warnings.append(
            f"{copied} templates are identical to another template of the same subject: a copied image makes mated"
            " comparisons look easier than they are."
        )
    if not judged.has_samples:
        warnings.append(
            "There are no sample ids: templates of one image cannot be told from those of different images."
        )
    if not (images > 1).any():
        warnings.append("There are no mated comparisons (no subject has two images): FNMR is undefined.")
    if (images > 0).sum() < 2:
        warnings.append("There are no non-mated comparisons (a single subject): FMR is undefined.")
    return [Exclusion(reason=text, count=count, used=True) for text, count in texts.items() if count], warnings
