"""Candidate lists: what a search system returned, coded and judged once.

Why: most audits of a search system get no templates, only the lists it returned. Promise: every row that was read is used or
counted under one reason; ids become codes here and no later step sees one; a list that contradicts itself is refused with
the row. A search that returned nobody is a search: it stands in the table of searches, or in the candidate lists as one row
whose candidate is empty. Where neither is so and lists differ in length, that is said, and nothing is divided by a number of
searches that the file cannot know.
Not promised: that ids stand for different people, or that labels are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audit_toolkit.errors import InputError
from audit_toolkit.evidence.record import Exclusion, Input
from audit_toolkit.sources.coding import code, encode, flags
from audit_toolkit.sources.whole import column, drop, identity_of, need, numbers, read_whole, score_column

CANDIDATE_COLUMNS = {
    "search": "probe",
    "rank": "rank",
    "score": "score",
    "probe_subject": "probe_subject",
    "candidate_subject": "candidate_subject",
    "mated": "mated",
    "enrolled_subject": "subject",
}


@dataclass(frozen=True, slots=True, eq=False)
class CandidateLists:
    """Lists as they were returned, one entry a candidate; everything in integers and scores.

    ``search``, ``candidate`` [candidates] int64: number of the search, subject code of the candidate; ``score`` float64
    (larger = more alike), minus the rank where ``ranks_only``. ``search_identity`` [searches] uint64: hash of each search's id;
    ``subject`` [searches] int64; ``mated`` [searches] bool.
    ``enrolled`` int64 codes of everybody in the gallery, or of everybody who was ever listed where ``gallery_known`` is false.
    ``identity`` [subjects] uint64 hash of each id; ``subject_labels`` [subjects, attributes] int16, -1 = no label.
    ``complete``: whether searches that returned nobody are in it. ``longest``: candidates in the longest list.
    """

    name: str
    inputs: tuple[Input, ...]
    warnings: tuple[str, ...]
    search: NDArray[np.int64]
    candidate: NDArray[np.int64]
    score: NDArray[np.float64]
    search_identity: NDArray[np.uint64]
    subject: NDArray[np.int64]
    mated: NDArray[np.bool_]
    enrolled: NDArray[np.int64]
    gallery_known: bool
    identity: NDArray[np.uint64]
    attributes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    subject_labels: NDArray[np.int16]
    complete: bool
    ranks_only: bool
    longest: int


# ---- candidate lists -----------------------------------------------------------------------------------------------------


def open_candidates(
    table: Path | str | Any,
    *,
    searches: Path | str | Any | None = None,
    enrolled: Path | str | Any | None = None,
    subjects: Path | str | Any | None = None,
    id_column: str = "subject",
    attributes: Mapping[str, str],
    labels: Mapping[str, tuple[str, ...]] | None = None,
    columns: Mapping[str, str] | None = None,
    higher_is: str = "same",
    searches_complete: bool = False,
) -> CandidateLists:
    """Candidate lists from Parquet, CSV or a frame, coded and judged.

    table: one row a candidate, with the search, its rank or its score (or both), and both people; a row whose candidate is
    empty is a search that returned nobody. searches: every search, one row each, with the person and optionally ``mated``.
    enrolled: everybody in the gallery, one row a person. subjects: labels, one row a person; else the columns of
    ``attributes`` stand in ``searches`` or in ``table`` and label the probe's person. ``columns`` renames `CANDIDATE_COLUMNS`.

    Whether a search is mated comes from ``enrolled``, else from ``mated``; one of them is needed. Left out and counted: rows
    without a search or without its person, scores that are not finite, and (where both are given) searches whose flag
    contradicts the gallery or their own list. Raises `InputError` for repeated ranks in one list, searches in the lists that
    the table of searches does not name, one search with two people, missing columns, and nothing left to audit.
    """
    names = {**CANDIDATE_COLUMNS, **(columns or {})}
    lists, where, sha = read_whole(table, "candidate lists")
    need(lists, [names["search"], names["candidate_subject"]], where)
    has_rank, has_score = names["rank"] in lists.column_names, names["score"] in lists.column_names
    if not has_rank and not has_score:
        raise InputError(
            f"There is neither a rank ({names['rank']}) nor a score ({names['score']}).",
            where=where,
            mend=f"Columns it has: {', '.join(lists.column_names)}. Say which of them plays a part.",
        )
    if lists.num_rows == 0:
        raise InputError("There are no rows.", where=where, mend="Check that the right file was given.")
    book: dict[str, int] = {}
    search_book: dict[str, int] = {}
    lost: dict[str, int] = {}
    search = code(column(lists, names["search"]), search_book, f"{where}, column {names['search']}").astype(np.int64)
    candidate = code(column(lists, names["candidate_subject"]), book, f"{where}, column {names['candidate_subject']}")
    use = drop(search >= 0, np.ones(len(search), np.bool_), lost, "no search is named")
    score = np.full(len(search), np.nan)
    rank = _ranks(lists, names["rank"], where) if has_rank else None
    if has_score:
        score = score_column(lists, names["score"], where, higher_is)
    elif rank is not None:
        score = -rank.astype(np.float64)
    full = candidate >= 0
    use = drop(~full | np.isfinite(score), use, lost, "the score is missing or not finite")

    source, at, table_rows = lists, where, None
    inputs = [(where, sha, lists.num_rows)]
    if searches is not None:
        source, at, digest = read_whole(searches, "table of searches")
        inputs.append((at, digest, source.num_rows))
        need(source, [names["search"], names["probe_subject"]], at)
        before = len(search_book)
        table_rows = code(column(source, names["search"]), search_book, f"{at}, column {names['search']}")
        if np.bincount(table_rows[table_rows >= 0], minlength=len(search_book))[:before].min(initial=1) == 0:
            raise InputError(
                "The candidate lists hold a search that the table of searches does not name.",
                where=at,
                mend="List every search that was made, one row each.",
            )
    else:
        need(source, [names["probe_subject"]], at)
        table_rows = search.astype(np.int32)
    person = code(column(source, names["probe_subject"]), book, f"{at}, column {names['probe_subject']}")
    subject = _one_each(table_rows, person, len(search_book), f"{at}, column {names['probe_subject']}", "people")

    codes_enrolled: NDArray[np.int64] | None = None
    if enrolled is not None:
        people, place, digest = read_whole(enrolled, "table of enrolled people")
        inputs.append((place, digest, people.num_rows))
        need(people, [names["enrolled_subject"]], place)
        found = code(column(people, names["enrolled_subject"]), book, f"{place}, column {names['enrolled_subject']}")
        codes_enrolled = np.unique(found[found >= 0]).astype(np.int64)
        if len(codes_enrolled) == 0:
            raise InputError("The gallery is empty.", where=place, mend="List everybody who is enrolled.")
        strangers = np.setdiff1d(candidate[full & use], codes_enrolled)
        if len(strangers):
            raise InputError(
                f"{len(strangers)} people in the candidate lists are not among the enrolled.",
                where=place,
                mend="Give the gallery that the searches were run against.",
            )
    flag: NDArray[np.int8] | None = None
    if names["mated"] in source.column_names:
        given = flags(column(source, names["mated"]), f"{at}, column {names['mated']}", 1)
        flag = _one_each(table_rows, given, len(search_book), f"{at}, column {names['mated']}", "mated flags").astype(
            np.int8
        )
    if codes_enrolled is None and flag is None:
        raise InputError(
            "Nothing says which searches are mated: a person who is not in the list may still be enrolled.",
            where=where,
            mend=f"Give a column {names['mated']}, or the table of everybody enrolled.",
        )
    own = np.zeros(len(search_book), np.bool_)
    hit = use & full & (candidate == subject[np.maximum(search, 0)])
    own[search[hit]] = True
    good = subject >= 0
    lost_searches: dict[str, int] = {}
    good = drop(subject >= 0, np.ones(len(subject), np.bool_), lost_searches, "searches without a person")
    if codes_enrolled is not None:
        mated = np.isin(subject, codes_enrolled)
        if flag is not None:
            good = drop(
                (flag < 0) | (flag == mated), good, lost_searches, "searches whose mated flag contradicts the gallery"
            )
    else:
        assert flag is not None  # noqa: S101 - refused above
        mated = flag == 1
        good = drop(flag >= 0, good, lost_searches, "searches without a mated flag")
        good = drop(mated | ~own, good, lost_searches, "searches flagged non-mated whose list holds their own person")
    use &= good[np.maximum(search, 0)] & full
    if rank is not None:
        _refuse_repeats(search, rank, use, f"{where}, column {names['rank']}")
    number = np.cumsum(good) - 1
    lengths = np.bincount(number[search[use]], minlength=int(good.sum()))
    if not good.any():
        raise InputError("No search is left to audit.", where=where, mend="Check the searches and their people.")
    warnings = _order_warning(search, rank, score, use) if rank is not None and has_score else ()
    empty_rows = bool((~full & (search >= 0)).any())
    complete = searches is not None or empty_rows or searches_complete or len(np.unique(lengths)) == 1
    if not complete:
        warnings += (
            "Lists differ in length, so the system returned only candidates above some score; searches that returned "
            "nobody are not in the file.",
        )
    seen = np.unique(candidate[use]).astype(np.int64)
    identity = identity_of(book)
    beside: tuple[Input, ...] = ()
    if subjects is not None:
        (texts, label_codes, _), of_people = people_labels(subjects, id_column, attributes, labels or {}, identity)
        beside = (of_people,)
    else:
        need(source, list(attributes.values()), at)
        person = np.where(table_rows >= 0, subject[np.maximum(table_rows, 0)], -1)
        texts, label_codes, two = _coded(source, at, attributes, labels or {}, person, len(book))
        if two:
            lost_searches["people with two labels (in no group)"] = two
    kept_rows = int(use.sum())
    exclusions = tuple(Exclusion(reason=k, count=v) for k, v in lost.items() if v)
    exclusions += tuple(Exclusion(reason=k, count=v, used=True) for k, v in lost_searches.items() if v)
    # people's codes follow the hashes of their ids, so that no figure depends on the order of the rows
    person_code = _ranked(identity)
    return CandidateLists(
        name=where,
        inputs=tuple(
            Input(
                name=n, sha256=d, format="table", rows_read=r, rows_used=kept_rows if k == 0 else r,
                exclusions=exclusions if k == 0 else (), warnings=warnings if k == 0 else (),
            )
            for k, (n, d, r) in enumerate(inputs)
        )
        + beside,
        warnings=warnings,
        search=number[search[use]].astype(np.int64),
        candidate=person_code[candidate[use]],
        score=score[use],
        search_identity=identity_of(search_book)[good],
        subject=person_code[subject[good]],
        mated=np.asarray(mated[good], np.bool_),
        enrolled=np.sort(person_code[seen if codes_enrolled is None else codes_enrolled]),
        gallery_known=codes_enrolled is not None,
        identity=np.sort(identity),
        attributes=tuple(attributes),
        labels=texts,
        subject_labels=label_codes[np.argsort(identity)],
        complete=complete,
        ranks_only=not has_score,
        longest=int(lengths.max(initial=0)),
    )  # fmt: skip


def _ranked(identity: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[ids] place of each hash among all of them."""
    out = np.empty(len(identity), np.int64)
    out[np.argsort(identity)] = np.arange(len(identity))
    return out


def _ranks(table: pa.Table, name: str, where: str) -> NDArray[np.int64]:
    place = f"{where}, column {name}"
    values = numbers(table, name, where)
    with np.errstate(invalid="ignore"):
        bad = np.isfinite(values) & ((values < 1) | (values != np.floor(values)) | (values > 2**31))
    if bad.any():
        raise InputError(
            f"Row {int(np.flatnonzero(bad)[0]) + 1} has a rank that is not a whole number from 1.",
            where=place,
            mend="The best candidate has rank 1.",
        )
    return np.where(np.isfinite(values), values, 0).astype(np.int64)


def _refuse_repeats(search: Any, rank: Any, use: Any, where: str) -> None:
    rows = np.flatnonzero(use & (rank > 0))
    order = rows[np.lexsort((rank[rows], search[rows]))]
    same = (search[order][1:] == search[order][:-1]) & (rank[order][1:] == rank[order][:-1])
    if same.any():
        row = int(order[1:][same].min()) + 1
        raise InputError(
            f"Row {row} repeats a rank of its list ({int(same.sum())} such rows).",
            where=where,
            mend="Give every candidate of a list a rank of its own; equal scores are judged by the scores.",
        )


def _order_warning(search: Any, rank: Any, score: Any, use: Any) -> tuple[str, ...]:
    rows = np.flatnonzero(use & (rank > 0))
    order = rows[np.lexsort((rank[rows], search[rows]))]
    wrong = (search[order][1:] == search[order][:-1]) & (score[order][1:] > score[order][:-1])
    lists = len(np.unique(search[order][1:][wrong]))
    if not lists:
        return ()
    return (f"{lists} lists are not in the order of their scores; ranks are taken from the scores.",)


def _one_each(rows: Any, values: Any, count: int, where: str, what: str) -> NDArray[np.int64]:
    """One value a search; -1 where no row gives one. Raises `InputError` where two rows differ."""
    out = np.full(count, -1, np.int64)
    there = (rows >= 0) & (values >= 0)
    out[rows[there]] = values[there]
    differs = np.flatnonzero(there & (out[np.maximum(rows, 0)] != values))
    if len(differs):
        raise InputError(
            f"Row {int(differs[0]) + 1} belongs to a search that another row gives different {what}.",
            where=where,
            mend="A search is one probe of one person.",
        )
    return out


Labelled = tuple[tuple[tuple[str, ...], ...], NDArray[np.int16], int]
"""Labels per attribute, their codes [people, attributes], and how many people have two labels."""


def people_labels(
    table: Path | str | Any,
    id_column: str,
    attributes: Mapping[str, str],
    declared: Mapping[str, tuple[str, ...]],
    identity: NDArray[np.uint64],
) -> tuple[Labelled, Input]:
    """Labels of people from a table of one row a person, found by the hash of their id.

    ``identity`` [people] uint64 as `identity_of` makes it. Whoever is not listed, or has a label that is not declared, gets -1;
    whoever is listed with two labels gets none at all and is counted.
    """
    rows, where, sha = read_whole(table, "subject table")
    need(rows, [id_column, *attributes.values()], where)
    index, texts = encode(column(rows, id_column), f"{where}, column {id_column}")
    order = np.argsort(identity)
    hashed = identity_of({t: k for k, t in enumerate(dict.fromkeys(t for t in texts if t))})
    place = {t: k for k, t in enumerate(dict.fromkeys(t for t in texts if t))}
    at = np.minimum(np.searchsorted(identity[order], hashed), max(0, len(identity) - 1))
    known = np.where(identity[order][at] == hashed, order[at], -1) if len(identity) else np.full(len(hashed), -1)
    person = np.array([known[place[t]] if t else -1 for t in texts] + [-1], np.int64)[index]
    made = _coded(rows, where, attributes, declared, person, len(identity))
    told = (Exclusion(reason="people with two labels (in no group)", count=made[2], used=True),) if made[2] else ()
    n = rows.num_rows
    return made, Input(name=where, sha256=sha, format="table", rows_read=n, rows_used=n, exclusions=told)


def _coded(
    table: pa.Table,
    where: str,
    attributes: Mapping[str, str],
    declared: Mapping[str, tuple[str, ...]],
    person: NDArray[Any],
    people: int,
) -> Labelled:
    names: list[tuple[str, ...]] = []
    out = np.full((people, len(attributes)), -1, np.int16)
    two = np.zeros(people, np.bool_)
    for a, (attribute, named) in enumerate(attributes.items()):
        index, texts = encode(column(table, named), f"{where}, column {named}")
        words = [(t or "").strip() for t in texts]
        names.append(tuple(sorted(declared.get(attribute) or {w for w in words if w})))
        place = {w: k for k, w in enumerate(names[-1])}
        codes = np.array([place.get(w, -1) for w in words] + [-1], np.int64)[index]
        there = (person >= 0) & (codes >= 0)
        out[person[there], a] = codes[there]
        two[person[there & (out[np.maximum(person, 0), a] != codes)]] = True
    out[two] = -1
    return tuple(names), out, int(two.sum())
