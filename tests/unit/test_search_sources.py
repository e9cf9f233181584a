"""Candidate lists and alert logs as they come: counted, coded, or refused with a place and a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from audit_toolkit.disparity.identification.lists import search_lists
from audit_toolkit.disparity.identification.searches import UNLISTED
from audit_toolkit.errors import InputError
from audit_toolkit.sources.alerts import open_alerts
from audit_toolkit.sources.searches import CandidateLists, open_candidates

GROUP = {"group": "group"}


def lists() -> pd.DataFrame:
    """Three searches: p1 (enrolled, rank 2), p2 (not enrolled), p3 (enrolled, not returned)."""
    return pd.DataFrame(
        {
            "probe": ["p1", "p1", "p2", "p2", "p3", "p3"],
            "rank": [1, 2, 1, 2, 1, 2],
            "candidate_subject": ["b", "a", "a", "c", "b", "c"],
            "score": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            "probe_subject": ["a", "a", "x", "x", "d", "d"],
        }
    )


def gallery() -> pd.DataFrame:
    return pd.DataFrame({"subject": ["a", "b", "c", "d"]})


def people() -> pd.DataFrame:
    return pd.DataFrame({"subject": list("abcdx"), "group": ["m", "f", "m", "f", "m"]})


def opened(table: Any = None, **options: Any) -> CandidateLists:
    options = {"enrolled": gallery(), "subjects": people(), "attributes": GROUP, **options}
    return open_candidates(lists() if table is None else table, **options)


def test_lists_become_searches() -> None:
    found = opened()
    assert found.mated.tolist() == [True, False, True]
    assert found.longest == 2
    assert found.complete
    searches = search_lists(found, 5)
    assert searches.mate_score.tolist()[:1] == [0.8]
    assert searches.mate_score[2] == -np.inf
    assert searches.ahead.tolist() == [1, -1, UNLISTED]
    assert searches.best[:, 0].tolist() == [0.9, 0.7, 0.5]
    assert searches.second.tolist() == [-np.inf, 0.6, 0.4]
    assert searches.above([0.45, 0.65]).tolist() == [[1, 1], [2, 1], [1, 0]]
    labels = [searches.labels[0][k] for k in searches.subject_labels[searches.subject, 0]]
    assert labels == ["m", "m", "f"]


def digest(found: CandidateLists) -> str:
    return search_lists(found, 5).runs[0].state_digest


def test_the_order_of_rows_does_not_matter() -> None:
    for k in range(4):
        order = np.random.default_rng(k).permutation(6)
        assert digest(opened(lists().iloc[order])) == digest(opened())
    other = lists()
    other.loc[0, "score"] = 0.95
    assert digest(opened(other)) != digest(opened())


@pytest.mark.parametrize("kind", ["pandas", "polars", "csv", "parquet", "tsv"])
def test_every_kind_of_table_gives_the_same(kind: str, tmp_path: Path) -> None:
    frame = lists()
    table: Any = frame
    if kind == "polars":
        table = pl.from_pandas(frame)
    elif kind in ("csv", "tsv"):
        table = tmp_path / f"lists.{kind}"
        frame.to_csv(table, index=False, sep="," if kind == "csv" else "\t")
    elif kind == "parquet":
        table = tmp_path / "lists.parquet"
        frame.to_parquet(table)
    found, plain = opened(table), opened()
    for name in ("search", "candidate", "score", "subject", "mated", "enrolled", "identity", "subject_labels"):
        assert np.array_equal(getattr(found, name), getattr(plain, name)), name


def test_ids_stay_text_in_csv(tmp_path: Path) -> None:
    frame = lists().replace({"a": "007", "x": "7"})
    file, enrolled = tmp_path / "l.csv", tmp_path / "g.csv"
    frame.to_csv(file, index=False)
    gallery().replace({"a": "007"}).to_csv(enrolled, index=False)
    labels = tmp_path / "s.csv"
    people().replace({"a": "007", "x": "7"}).to_csv(labels, index=False)
    found = open_candidates(file, enrolled=enrolled, subjects=labels, attributes=GROUP)
    assert found.mated.tolist() == [True, False, True]
    assert [i.name for i in found.inputs] == ["l.csv", "g.csv", "s.csv"]


def test_a_search_that_returned_nobody_is_a_search() -> None:
    empty = pd.DataFrame(
        {"probe": ["p4"], "rank": [None], "candidate_subject": [None], "score": [None], "probe_subject": ["x"]}
    )
    by_row = opened(pd.concat([lists(), empty], ignore_index=True))
    every = pd.DataFrame({"probe": ["p1", "p2", "p3", "p4"], "probe_subject": ["a", "x", "d", "x"]})
    by_table = opened(lists(), searches=every)
    for found in (by_row, by_table):
        assert found.mated.tolist() == [True, False, True, False]
        assert found.complete
        assert search_lists(found, 5).best[3, 0] == -np.inf


def test_lists_of_different_length_without_the_empty_ones_have_no_fpir() -> None:
    table = lists().iloc[[0, 1, 2, 4, 5]]
    found = opened(table)
    assert not found.complete
    assert "returned nobody" in found.warnings[0]
    assert search_lists(found, 5).fpir_unknown(0.65) == "searches that returned nobody are not in the file"
    declared = search_lists(opened(table, searches_complete=True), 5)
    assert declared.fpir_unknown(0.65) is None
    assert declared.fpir_unknown(0.1) == "the lists hold no candidate of so low a score"


def test_a_full_list_may_go_on_unseen() -> None:
    searches = search_lists(opened(), 5)
    assert searches.fpir_unknown(0.1) is None
    assert searches.count_unknown(0.55) == "some lists end before the threshold is reached"
    assert searches.count_unknown(0.85) is None


def test_a_person_listed_twice_is_one_candidate() -> None:
    table = lists()
    table["candidate_subject"] = ["b", "b", "a", "a", "b", "c"]
    searches = search_lists(opened(table), 5)
    assert searches.above([0.3])[:, 0].tolist() == [1, 1, 2]
    assert searches.second[1] == -np.inf


def test_ties_stand_before_the_mate() -> None:
    table = lists()
    table["score"] = [0.8, 0.8, 0.7, 0.7, 0.5, 0.4]
    assert search_lists(opened(table), 5).ahead[0] == 1
    table["candidate_subject"] = ["a", "b", "a", "c", "b", "c"]  # listed first, and still second
    assert search_lists(opened(table), 5).ahead[0] == 1


def test_ranks_without_scores() -> None:
    found = opened(lists().drop(columns="score"))
    assert found.ranks_only
    searches = search_lists(found, 5)
    assert searches.ahead.tolist() == [1, -1, UNLISTED]
    assert searches.thresholds_known == "the lists hold ranks and no scores"


def test_a_mated_column_instead_of_the_gallery() -> None:
    table = lists().assign(mated=[1, 1, 0, 0, 1, 1])
    found = opened(table, enrolled=None)
    assert found.mated.tolist() == [True, False, True]
    assert not found.gallery_known
    contradicting = opened(table.assign(mated=[0, 0, 0, 0, 1, 1]), enrolled=None)
    assert len(contradicting.subject) == 2
    assert ("searches flagged non-mated whose list holds their own person", 1) in [
        (e.reason, e.count) for e in contradicting.inputs[0].exclusions
    ]
    against_gallery = opened(table.assign(mated=[1, 1, 1, 1, 1, 1]))
    assert len(against_gallery.subject) == 2


def test_labels_beside_the_searches() -> None:
    table = lists().assign(group=["m", "m", "f", "f", "m", "f"])
    found = opened(table, subjects=None)
    codes = found.subject_labels[found.subject, 0].tolist()
    assert [found.labels[0][k] if k >= 0 else None for k in codes] == ["m", "f", None]
    assert ("people with two labels (in no group)", 1) in [(e.reason, e.count) for e in found.inputs[0].exclusions]
    declared = opened(lists(), labels={"group": ("m",)})
    assert declared.labels == (("m",),)
    assert (declared.subject_labels[declared.subject, 0] < 0).tolist() == [False, False, True]


def test_scores_that_are_none_are_counted() -> None:
    table = lists()
    table.loc[3, "score"] = np.nan
    table.loc[5, "score"] = np.inf
    found = opened(table)
    assert len(found.score) == 4
    reasons = {e.reason: e.count for e in found.inputs[0].exclusions}
    assert reasons["the score is missing or not finite"] == 2
    assert found.inputs[0].rows_read == found.inputs[0].rows_used + 2


def test_distances_are_turned_round() -> None:
    found = opened(lists().assign(score=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), higher_is="different")
    assert search_lists(found, 5).best[:, 0].tolist() == [-0.1, -0.3, -0.5]


def test_a_list_out_of_the_order_of_its_scores_is_told() -> None:
    found = opened(lists().assign(score=[0.8, 0.9, 0.7, 0.6, 0.5, 0.4]))
    assert found.warnings == ("1 lists are not in the order of their scores; ranks are taken from the scores.",)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda t: t.assign(rank=[1, 1, 1, 2, 1, 2]), {}, "Row 2 repeats a rank"),
        (lambda t: t.assign(rank=[1, 2.5, 1, 2, 1, 2]), {}, "Row 2 has a rank"),
        (lambda t: t.assign(rank=[0, 2, 1, 2, 1, 2]), {}, "Row 1 has a rank"),
        (lambda t: t.drop(columns=["rank", "score"]), {}, "neither a rank"),
        (lambda t: t.drop(columns="candidate_subject"), {}, "Missing column: candidate_subject"),
        (lambda t: t.drop(columns="probe_subject"), {}, "Missing column: probe_subject"),
        (lambda t: t.assign(probe_subject=["a", "b", "x", "x", "d", "d"]), {}, "different people"),
        (lambda t: t.iloc[:0], {}, "no rows"),
        (lambda t: t, {"enrolled": None}, "Nothing says which searches are mated"),
        (lambda t: t, {"enrolled": pd.DataFrame({"subject": ["a"]})}, "2 people in the candidate lists are not among"),
        (lambda t: t, {"enrolled": pd.DataFrame({"subject": pd.Series([], dtype=str)})}, "gallery is empty"),
        (
            lambda t: t,
            {"searches": pd.DataFrame({"probe": ["p1"], "probe_subject": ["a"]})},
            "does not name",
        ),
        (lambda t: t.assign(score=["high"] * 6), {}, "row 1 is the first"),
        (lambda t: t.assign(probe_subject=None), {}, "No search is left"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(change: Any, options: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(change(lists()), **options)
    assert words in str(caught.value)
    for secret in ("p1", "p2", "p3"):
        assert secret not in str(caught.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.csv", b"", "empty"),
        ("a.parquet", b"PAR1 no", "not a readable table"),
        ("a.txt", b"x", "ending .txt"),
        ("b.csv", b"probe,rank\np1,1,2\n", "rows differ in length"),
        ("c.csv", b"probe;rank;candidate_subject\n", "Missing column"),
        ("e.csv", b"p1,1,a,.9,a\np1,2,b,.8,a\n", "looks like a row"),
        ("d.csv", "probe,räng\n".encode("latin-1"), "UTF-8"),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(InputError, match=words):
            opened(file)
    with pytest.raises(InputError, match="no such file"):
        opened(tmp_path / "none.csv")
    with pytest.raises(InputError, match="directory"):
        opened(tmp_path)


# ---- alert logs ------------------------------------------------------------------------------------------------------


def log() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "time": [
                "2026-01-01T10:00",
                "2026-01-01T11:00",
                "2026-01-02T10:00",
                "2026-01-02T10:05",
                "2026-01-03T09:00",
            ],
            "camera": ["c1", "c1", "c1", "c2", "c2"],
            "entry": ["w1", "w2", "w1", "w3", None],
            "score": [0.9, 0.8, 0.85, 0.7, 0.6],
            "adjudication": ["true", "FALSE", None, "false positive", "true"],
            "group": ["m", "f", "f", "m", "m"],
        }
    )


def test_a_log_is_coded() -> None:
    counts = pd.DataFrame({"group": ["m", "f"], "count": [500, 300]})
    found = open_alerts(log(), passers_by=counts, attributes=GROUP)
    assert found.verdict.tolist() == [1, 0, -1, 0]
    assert len(np.unique(found.occasion)) == 3
    assert found.occasion[0] == found.occasion[1]
    assert len(np.unique(found.entry)) == 3
    assert [found.labels[0][k] for k in found.labels_of[:, 0]] == ["m", "f", "f", "m"]
    assert found.counts.tolist() == [500, 300]
    assert [(e.reason, e.count) for e in found.inputs[0].exclusions] == [("no matched entry is named", 1)]


def test_a_log_from_csv_with_dates_and_numbers(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    log().assign(adjudication=[1, 0, None, 0, 1]).to_csv(file, index=False)
    found = open_alerts(file, attributes=GROUP)
    assert found.score.tolist() == [0.9, 0.8, 0.85, 0.7]
    frame = log().assign(time=pd.to_datetime(log()["time"]))
    again = open_alerts(frame, attributes=GROUP)
    assert np.array_equal(
        np.unique(again.occasion, return_inverse=True)[1], np.unique(found.occasion, return_inverse=True)[1]
    )


def test_a_log_that_lacks_parts_says_so() -> None:
    found = open_alerts(log()[["entry", "group"]], attributes=GROUP)
    assert found.warnings == ("The log names no time.", "The log names no camera.")
    assert (found.verdict == -1).all()


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda t: t.drop(columns="entry"), {}, "Missing column: entry"),
        (lambda t: t.drop(columns="group"), {}, "Missing column: group"),
        (lambda t: t.assign(adjudication="maybe"), {}, "Row 1 has an adjudication"),
        (lambda t: t.iloc[:0], {}, "no alerts"),
        (lambda t: t, {"passers_by": pd.DataFrame({"group": ["m"], "count": [-1]})}, "Row 1 has a count"),
        (lambda t: t, {"passers_by": pd.DataFrame({"group": ["m"], "count": [1.5]})}, "Row 1 has a count"),
        (lambda t: t, {"passers_by": pd.DataFrame({"group": ["m"]})}, "Missing column: count"),
    ],
)
def test_logs_that_cannot_be_read_are_refused(change: Any, options: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_alerts(change(log()), attributes=GROUP, **options)
