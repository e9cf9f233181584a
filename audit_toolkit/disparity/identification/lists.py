"""Searches from the candidate lists that a system returned.

Promise: the same value that templates end in. What a list cannot know (who stood below its last line, searches that are not
in the file) is carried along as a reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import search as core
from audit_toolkit.core.fold import digest_arrays
from audit_toolkit.disparity.identification.searches import UNLISTED, Searches, halvings
from audit_toolkit.evidence.record import Run
from audit_toolkit.sources.searches import CandidateLists


def search_lists(lists: CandidateLists, kept: int, *, growth: bool = True) -> Searches:
    """The same numbers from candidate lists; a person listed several times is one candidate with the best of the scores."""
    n = len(lists.subject)
    order = np.lexsort((-lists.score, lists.candidate, lists.search))
    row, who, score = lists.search[order], lists.candidate[order], lists.score[order]
    first = np.ones(len(row), np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (who[1:] != who[:-1])
    row, who, score = row[first], who[first], score[first]
    own = who == lists.subject[row]
    mate = np.where(lists.mated, -np.inf, np.nan)
    mate[row[own]] = score[own]
    other = np.flatnonzero(~own)
    other = other[np.lexsort((who[other], -score[other], row[other]))]
    r, w, s = row[other], who[other], score[other]
    start = np.searchsorted(r, np.arange(n))
    place = np.arange(len(r)) - start[r]
    best, second, best_subject = np.full(n, -np.inf), np.full(n, -np.inf), np.full(n, -1, np.int64)
    best[r[place == 0]], best_subject[r[place == 0]] = s[place == 0], w[place == 0]
    second[r[place == 1]] = s[place == 1]
    listed = np.isfinite(mate)
    beats = listed[r] & (s >= np.where(listed, mate, np.inf)[r])
    ahead = np.where(lists.mated, UNLISTED, -1)
    ahead[listed] = np.bincount(r[beats], minlength=n)[listed]
    competitors = np.full((n, kept), -1, np.int64)
    few = beats & (place < kept) & (ahead[r] <= kept)
    competitors[r[few], place[few]] = w[few]
    depth = halvings(len(lists.enrolled)) if growth and lists.gallery_known else 0
    level = core.subgallery_levels(lists.identity, depth)
    by_level = np.full((n, depth + 1), -np.inf)
    by_level[:, 0] = best
    for k in range(1, depth + 1):
        inside = level[w] >= k
        np.maximum.at(by_level[:, k], r[inside], s[inside])
    lengths = np.bincount(lists.search, minlength=n)
    cut = float(lists.score.min()) if len(lists.score) else np.inf
    lowest = np.full(n, np.inf)
    np.minimum.at(lowest, lists.search, lists.score)
    deepest_full = float(lowest[lengths == lists.longest].max(initial=-np.inf)) if lists.longest else -np.inf
    short = bool((lengths < lists.longest).any()) or not lists.complete

    def below(t: float) -> str | None:
        if not lists.complete:
            return "searches that returned nobody are not in the file"
        if short and t < cut:
            return "the lists hold no candidate of so low a score"
        return None

    def count_below(t: float) -> str | None:
        # a full list whose last candidate still reaches the threshold may go on unseen
        full = "some lists end before the threshold is reached" if t <= deepest_full else None
        return below(t) or full

    def above(wanted: Sequence[float]) -> NDArray[np.int64]:
        return np.stack([np.bincount(r[s >= t], minlength=n) for t in wanted], axis=1).astype(np.int64).reshape(n, -1)

    arrays = {
        "subject": lists.subject,
        "mated": lists.mated,
        "mate_score": mate,
        "ahead": ahead,
        "competitors": competitors,
        "best": by_level,
        "best_subject": best_subject,
        "second": second,
    }
    by_search = np.argsort(lists.search_identity)  # the digest must not depend on the order of the rows
    evidence = digest_arrays({name: values[by_search] for name, values in arrays.items()})
    parameters = {"kept": kept, "levels": depth + 1, "gallery_known": lists.gallery_known}
    return Searches(
        **arrays,
        above=above,
        enrolled=lists.enrolled,
        gallery_known=lists.gallery_known,
        sizes=np.array([int((level[lists.enrolled] >= k).sum()) for k in range(depth + 1)]),
        longest=lists.longest,
        fpir_unknown=below,
        count_unknown=count_below,
        thresholds_known="the lists hold ranks and no scores" if lists.ranks_only else None,
        attributes=lists.attributes,
        labels=lists.labels,
        subject_labels=lists.subject_labels,
        inputs=lists.inputs,
        warnings=(),
        runs=(Run(measure="candidate lists", version="1", parameters=parameters, state_digest=evidence),),
    )
