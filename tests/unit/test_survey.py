"""Every reason for which a row is not used, each counted once; and what a survey says of a file."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_toolkit.errors import AuditError, InputError, UsageError
from audit_toolkit.sources.frames import open_frame
from audit_toolkit.sources.survey import Survey, SurveyOptions, survey
from audit_toolkit.sources.table import ColumnMap
from audit_toolkit.sources.tabular import open_table


def table(rows, **kinds):
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({n: pa.array([row.get(n) for row in rows], kinds.get(n)) for n in names})


def run(rows, options=None, columns=None, **kinds) -> Survey:
    return survey(open_frame(table(rows, **kinds), columns), options or SurveyOptions())


def row(a, b, score, **more):
    return {"reference_subject": a, "probe_subject": b, "score": score, **more}


def counts(found: Survey) -> dict[str, int]:
    assert found.rows_read == found.rows_used + sum(e.count for e in found.exclusions if not e.used)
    return {e.reason: e.count for e in found.exclusions if not e.used}


def remarks(found: Survey) -> dict[str, int]:
    return {e.reason: e.count for e in found.exclusions if e.used}


def content(found: Survey, rows=None):
    out = []
    for part in (rows or found.rows).partitions:
        for batch in part():
            assert all(v.flags.c_contiguous and len(v) == batch.n for v in batch.arrays.values())
            names = sorted(batch.arrays)
            out += list(zip(*(batch[n].tolist() for n in names), strict=True))
    return sorted(out)


def test_plain_rows_are_coded_against_the_sorted_codebook():
    found = run([row("b", "b", 0.9), row("é", "a", 0.25), row("a", "b", 0.5)])
    assert found.subjects == 3
    assert (found.rows_used, found.mated, found.nonmated) == (3, 1, 2)
    assert content(found) == [(0, 0, 2, 0.25), (0, 1, 0, 0.5), (1, 1, 1, 0.9)]  # mated, probe, ref, score
    whole = b"".join(len(t.encode()).to_bytes(8, "little") + t.encode() for t in ("a", "b", "é"))
    assert found.codebook_digest == hashlib.sha256(whole).hexdigest()
    assert len(set(found.identity.tolist())) == 3
    batch = next(iter(found.rows.partitions[0]()))
    assert (batch["ref"].dtype, batch["mated"].dtype, batch["score"].dtype) == (np.int32, np.uint8, np.float64)
    assert (found.low, found.high, found.saturated) == (0.25, 0.9, (1, 1))


def test_every_reason_is_counted_once_and_nothing_is_dropped_silently():
    good = {"reference.sex": "f", "probe.sex": "f", "reference_sample": "1", "probe_sample": "2"}
    rows = [
        row("a", "a", 0.9, **good),
        row("a", "b", 0.1, **good, mated=False),
        row(None, "b", 0.1, **good),
        row("a", "", 0.1, **good),
        row("a", "b", None, **good),
        row("a", "b", float("nan"), **good),
        row("a", "b", float("inf"), **good),
        row("a", "b", -float("inf"), **good),
        row("a", "b", -1.0, **good),
        row("a", "b", 0.2, **good | {"probe.sex": " Unknown "}),
        row("a", "b", 0.2, **good | {"reference.sex": None}),
        row("a", "c", 0.2, **good | {"probe.sex": "x"}),
        row("a", "b", 0.2, **good, mated=True),
        row("a", "a", 0.2, **good, mated=False),
        row("a", "a", 1.0, **good | {"probe_sample": "1"}),
        row("d", "a", 0.3, **good | {"reference.sex": "m", "reference_sample": "7"}),
        row("d", "a", 0.4, **good | {"reference_sample": "8"}),
        row("a", "a", 0.9, **good),
        row("b", "a", 0.1, **good | {"reference_sample": "2", "probe_sample": "1"}),
        row("a", "b", None, **good, failure="fte"),
        row("a", "b", None, **good, failure="FTA"),
        row("a", "b", 0.3, **good | {"probe_sample": "5"}, weight=None),
    ]
    rows = [{"weight": 1} | r for r in rows]
    options = SurveyOptions(failure_scores=(-1.0,), labels=(("sex", ("f", "m")),))
    found = run(rows, options)
    sides = "(reference.sex or probe.sex)"
    assert counts(found) == {
        "missing subject id (reference_subject or probe_subject)": 2,
        "missing score without a failure": 1,
        "score is not a number (NaN)": 1,
        "score is infinite": 2,
        "score equals -1, declared as no comparison": 1,
        "missing weight": 1,
        f"subject without a label {sides}": 2,
        f"label is not among the declared ones {sides}": 1,
        "mated flag is true, subject ids differ": 1,
        "mated flag is false, subject ids are equal": 1,
        "self comparison: reference_sample and probe_sample are the same": 1,
        "subject with two different labels on one attribute (all rows of such subjects)": 2,
        "duplicate: same two samples with the same score, first kept": 1,
        "mirrored duplicate: same two samples the other way round with the same score, one kept": 1,
        "enrolment failure (FTE), counted in FTE": 1,
        "acquisition failure (FTA), counted in FTA": 1,
    }
    assert found.rows_used == 2
    assert found.labels == (("f", "m"),)
    # a and b are f; c has a label that is not declared, d has two
    assert found.subject_labels.tolist() == [[0], [0], [-1], [-1]]


def test_failure_scores_are_compared_in_the_scores_own_type():
    found = run([row("a", "a", 0.7), row("a", "b", 0.5)], SurveyOptions(failure_scores=(0.7,)), score=pa.float32())
    assert counts(found) == {"score equals 0.7, declared as no comparison": 1}
    assert found.score_dtype == np.float32


def test_the_first_reason_counts():
    rows = [row("a", "a", 0.9), row(None, "b", None, failure="fte"), row("a", None, float("nan"), failure="fte")]
    rows += [row("a", None, float("nan"))]
    assert counts(run(rows)) == {
        "missing subject id (reference_subject or probe_subject)": 2,
        "enrolment failure (FTE), counted in FTE": 1,
    }


@pytest.mark.parametrize(
    ("kind", "kept"),
    [(pa.float32(), np.float32), (pa.float64(), np.float64), (pa.int16(), np.float64), (pa.float16(), np.float64)],
)
def test_only_single_precision_stays_single(kind, kept):
    values = [np.float16(2), np.float16(1)] if kind == pa.float16() else [2, 1]
    found = run([row("a", "a", values[0]), row("a", "b", values[1])], score=kind)
    assert found.score_dtype == kept
    assert next(iter(found.rows.partitions[0]()))["score"].dtype == kept


def test_distances_are_negated_and_never_by_themselves():
    rows = [row("a", "a", 0.1)] * 3 + [row("a", "b", 0.9)] * 3
    turned = run(rows, SurveyOptions(higher_is="different"))
    assert (turned.sign, turned.low, turned.high) == (-1, -0.9, -0.1)
    assert not [w for w in turned.warnings if "inverted" in w]
    kept = run(rows)
    assert (kept.sign, kept.low, kept.high) == (1, 0.1, 0.9)
    assert [w for w in kept.warnings if 'higher_is = "different"' in w]


def test_saturation_is_told_with_numbers():
    rows = [row("a", "a", 100.0)] * 20 + [row("a", "b", float(k)) for k in range(80)]
    found = run(rows)
    assert found.saturated == (1, 20)
    assert [w for w in found.warnings if "saturated: 20 of 100 comparisons (20.0%) share the highest score, 100" in w]


def test_no_mated_or_no_nonmated_is_a_warning():
    assert any("no mated" in w for w in run([row("a", "b", 0.5)]).warnings)
    assert any("no non-mated" in w for w in run([row("a", "a", 0.5)]).warnings)


def test_nothing_left_is_an_error_with_the_reasons():
    with pytest.raises(InputError, match=r"None of the 2 rows can be used .*2: missing score"):
        run([row("secret", "b", None), row("secret", "c", None)], score=pa.float64())
    with pytest.raises(InputError, match="no rows"):
        survey(open_frame(table([row("a", "a", 1.0)]).slice(0, 0)), SurveyOptions())


def test_weights_are_multiplicities():
    rows = [row("a", "a", 0.9, weight=3), row("a", "b", 0.1, weight=5), row("b", "a", 0.2, weight=None)]
    found = run(rows)
    assert (found.mated, found.nonmated, found.saturated) == (3, 5, (5, 3))
    assert counts(found) == {"missing weight": 1}
    assert next(iter(found.rows.partitions[0]()))["weight"].dtype == np.int64


@pytest.mark.parametrize("bad", [0, -2, 1.5, float("inf")])
def test_a_weight_that_is_no_positive_integer_is_refused(bad):
    with pytest.raises(InputError, match="column weight: Row 2 has a weight"):
        run([row("a", "a", 0.9, weight=1.0), row("a", "b", 0.1, weight=float(bad))])


def test_unknown_words_are_refused_without_their_value():
    with pytest.raises(InputError, match="column failure: Row 1 has a failure word") as caught:
        run([row("a", "a", 0.9, failure="secret"), row("a", "b", 0.1)])
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="column mated: Row 2 has a mated flag") as caught:
        run([row("a", "a", 0.9, mated="yes"), row("a", "b", 0.1, mated="secret")])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("words", [("true", "false"), (1, 0), ("Genuine", "impostor"), (1.0, 0.0), (True, None)])
def test_mated_flags_are_understood_in_many_words(words):
    found = run([row("a", "a", 0.9, mated=words[0]), row("a", "b", 0.1, mated=words[1])])
    assert (found.mated, found.nonmated) == (1, 1)


@pytest.mark.parametrize("ids", [pa.string(), pa.large_string(), pa.int64(), pa.uint8(), pa.float64()])
def test_ids_are_the_same_however_they_are_stored(ids):
    values = [("10", "10"), ("9", "10"), ("10", None)]
    number = pa.types.is_integer(ids) or pa.types.is_floating(ids)
    rows = [row(*(int(v) if number and v else v for v in pair), 0.5) for pair in values]
    found = run(rows, reference_subject=ids, probe_subject=ids)
    plain = run([row(*pair, 0.5) for pair in values])
    assert found.codebook_digest == plain.codebook_digest
    assert content(found) == content(plain) == [(0, 0, 1, 0.5), (1, 0, 0, 0.5)]


def test_ids_with_fractions_are_refused():
    with pytest.raises(InputError, match="fractions"):
        run([row(1.5, 2.0, 0.5)])


def test_labels_are_sorted_stripped_and_kept_for_empty_groups():
    labels = {"reference.sex": "m ", "probe.sex": "f"}
    found = run([row("a", "b", 0.5, **labels)], SurveyOptions(labels=(("sex", ("x", "m", "f")),)))
    assert found.labels == (("f", "m", "x"),)
    assert found.subject_labels.tolist() == [[1], [0]]
    with pytest.raises(UsageError, match="'age'"):
        run([row("a", "b", 0.5, **labels)], SurveyOptions(labels=(("age", ("1",)),)))


def test_a_one_sided_label_is_told():
    found = survey(
        open_frame(table([row("a", "a", 0.5, **{"reference.sex": "f"})])).__class__(
            name="x",
            format="test",
            columns=("reference_subject", "probe_subject", "score", "reference.sex"),
            open=open_frame(table([row("a", "a", 0.5)])).open,
        ),
        SurveyOptions(),
    )
    assert any("Column reference.sex has no counterpart" in w for w in found.warnings)


def test_failures_by_sample():
    rows = [
        row("a", "a", 0.9, reference_sample="1", probe_sample="2"),
        row("a", "b", 0.2, reference_sample="1", probe_sample="3"),
        row("a", "b", None, reference_sample="4", probe_sample="5", failure="fte"),
        row("b", "a", None, reference_sample="3", probe_sample="9", failure="fta"),
        row("b", "b", None, reference_sample="3", probe_sample="9", failure="fta"),
    ]
    found = run(rows)
    assert found.has_failures
    assert found.enrol.tolist() == [[2, 1], [1, 0]]
    # the FTE row says nothing about its probe; sample 9 of a and sample 9 of b are different samples
    assert found.acquire.tolist() == [[2, 1], [2, 1]]


def test_failures_without_samples_count_subjects_and_rows():
    rows = [
        row("a", "a", 0.9),
        row("a", "b", 0.2),
        row("a", None, None, failure="fte"),
        row("b", "a", None, failure="fta"),
        row("b", "a", 0.1, weight=4),
    ]
    found = run([{"weight": 1} | r for r in rows])
    assert found.enrol.tolist() == [[1, 1], [1, 0]]
    assert found.acquire.tolist() == [[6, 1], [1, 0]]
    assert not run([row("a", "a", 0.9)]).has_failures
    assert run([row("a", "a", 0.9)]).enrol.tolist() == [[0, 0]]


def test_identical_rows_without_samples_stay():
    rows = [row("a", "b", 0.5), row("a", "b", 0.5), row("b", "a", 0.5), row("a", "b", 0.4)]
    found = run(rows)
    assert found.rows_used == 4
    assert sorted(remarks(found).values()) == [1, 1]
    assert any("no sample ids" in w for w in found.warnings)


def test_covariates_of_text_and_number():
    rows = [row("a", "b", k / 10, camera="zb"[k % 2], age=float(k)) for k in range(10)]
    rows.append(row("a", "b", 0.95, camera=None, age=float("nan")))
    found = run(rows, SurveyOptions(covariate_bins=5), ColumnMap(covariates={"camera": "camera", "age": "age"}))
    assert found.covariates == ("camera", "age")
    assert found.covariate_labels == (
        ("b", "z", "(missing)"),
        ("0 to 2", "2 to 4", "4 to 6", "6 to 8", "8 to 9", "(missing)"),
    )
    batch = next(iter(found.rows.partitions[0]()))
    assert batch["x.age"].dtype == np.int32
    assert sorted(batch["x.age"].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert np.bincount(batch["x.camera"]).tolist() == [5, 5, 1]


def test_a_number_with_few_values_is_its_values():
    rows = [row("a", "b", k / 10, days=[30, 7, 365][k % 3]) for k in range(9)]
    found = run(rows, None, ColumnMap(covariates={"days": "days"}))
    assert found.covariate_labels == (("7", "30", "365"),)
    batch = next(iter(found.rows.partitions[0]()))
    assert np.bincount(batch["x.days"]).tolist() == [3, 3, 3]


def test_a_large_covariate_is_cut_from_a_sample_that_ignores_order(tmp_path):
    rng = np.random.default_rng(5)
    n = 700_000
    values = rng.gamma(2.0, 10.0, n)
    frame = pa.table(
        {
            "reference_subject": pa.array(rng.integers(0, 50, n)),
            "probe_subject": pa.array(rng.integers(0, 50, n)),
            "score": rng.random(n, np.float32),
            "covariate.q": values,
        }
    )
    first = survey(open_frame(frame), SurveyOptions())
    second = survey(open_frame(frame.take(pa.array(rng.permutation(n)))), SurveyOptions(chunk_rows=90_001))
    assert first.covariate_labels == second.covariate_labels
    share = np.bincount(np.concatenate([b["x.q"] for p in first.rows.partitions for b in p()])) / n
    assert len(share) == 5
    assert np.abs(share - 0.2).max() < 0.005  # 262,144 of 700,000 rows: standard error of a cut below .0008


def test_the_temporary_folder_lives_with_the_rows_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = [row(f"s{k % 7}", f"s{k % 5}", k / 100) for k in range(100)]
    found = run(rows, SurveyOptions(chunk_rows=10, memory_rows=20))
    parts = found.rows.partitions
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        assert b"s1" not in path.read_bytes()
    del found
    gc.collect()
    assert sum(batch.n for part in parts for batch in part()) == 100
    assert sum(batch.n for part in parts for batch in part()) == 100
    del parts
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [InputError("broken"), KeyboardInterrupt()])
def test_the_temporary_folder_goes_on_errors(tmp_path, monkeypatch, error):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = [row(f"s{k % 7}", f"s{k % 5}", k / 100) for k in range(100)]
    source = open_frame(table(rows))
    seen = []

    def progress(stage, done, total):
        seen.append(list(tmp_path.iterdir()))
        if stage == "judging":
            raise error

    with pytest.raises(type(error)):
        survey(source, SurveyOptions(chunk_rows=10, memory_rows=0), progress)
    assert any(seen)
    assert list(tmp_path.iterdir()) == []


def test_files_are_hashed_and_frames_by_content(tmp_path):
    rows = [row("a", "a", 0.9), row("a", "b", 0.1)]
    path = Path(tmp_path) / "scores.parquet"
    pq.write_table(table(rows), path)
    assert survey(open_table(path), SurveyOptions()).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    frame = run(rows).sha256
    assert frame == run(rows[::-1]).sha256
    assert frame != run([row("a", "a", 0.9), row("a", "b", 0.2)]).sha256
    swapped = [{"reference.sex": x, "probe.sex": y} for x, y in (("f", "m"), ("m", "f"))]
    first, second = (run([row("a", "b", 0.9, **s)]) for s in swapped)
    assert first.sha256 != second.sha256


def test_progress_tells_rows():
    calls = []
    survey(open_frame(table([row("a", "a", 0.9)] * 30)), SurveyOptions(chunk_rows=7), lambda *a: calls.append(a))
    assert [c for c in calls if c[0] == "reading"][-1] == ("reading", 30, None)
    assert [c for c in calls if c[0] == "judging"][-1] == ("judging", 30, 30)


def test_no_message_carries_an_identifier():
    rows = [row("secret-1", "secret-1", 0.9, **{"reference.sex": "f", "probe.sex": "m"})]
    with pytest.raises(InputError) as caught:
        run(rows)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("values", [(-1.7e308, 1.7e308), (0.0, 5e-324), (1e300, 1e300), (-3.4e38, 3.4e38)])
def test_extreme_scores_are_scores(values):
    low, high = values
    found = run([row("a", "a", high), row("a", "b", low), row("b", "b", high)])
    assert (found.low, found.high) == (low, high)
    assert (found.mated, found.nonmated, found.rows_used) == (2, 1, 3)
    assert not [w for w in found.warnings if "inverted" in w]


def test_categories_without_rows_are_neither_subjects_nor_labels():
    ids = pa.DictionaryArray.from_arrays(pa.array([0, 2], pa.int8()), pa.array(["a", "ghost", "b"]))
    sex = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int8()), pa.array(["f", "ghost"]))
    frame = pa.table(
        {"reference_subject": ids, "probe_subject": ids, "score": [0.5, 0.6], "reference.sex": sex, "probe.sex": sex}
    )
    found = survey(open_frame(frame), SurveyOptions())
    assert found.subjects == 2
    assert found.labels == (("f",),)


def test_dictionaries_that_change_between_batches_give_the_same_codes():
    names = [[f"s{k}" for k in range(part, part + 5)] for part in range(6)]
    chunks = [pa.DictionaryArray.from_arrays(pa.array([4, 0, 2]), pa.array(n)) for n in [*names, *names]]
    ids = pa.chunked_array(chunks)
    frame = pa.table({"reference_subject": ids, "probe_subject": ids, "score": np.arange(36.0)})
    plain = frame.set_column(0, "reference_subject", ids.cast(pa.string()))
    first = survey(open_frame(frame), SurveyOptions(chunk_rows=2))
    second = survey(open_frame(plain), SurveyOptions())
    assert first.sha256 == second.sha256
    assert content(first) == content(second)


def test_a_declared_label_is_one_even_if_its_word_is_none():
    rows = [row("a", "a", 0.5, **{"reference.belief": "none", "probe.belief": "none"})]
    assert run(rows, SurveyOptions(labels=(("belief", ("none", "some")),))).rows_used == 1
    with pytest.raises(InputError, match="without a label"):
        run(rows)


def test_rows_a_format_leaves_out_are_reported_and_its_hint_is_compared():
    source = dataclasses.replace(
        open_frame(table([row("a", "a", 0.5)])), skipped=(("masked", 3), ("none", 0)), higher_is_hint="different"
    )
    found = survey(source, SurveyOptions())
    assert counts(found) == {"masked": 3}
    assert found.rows_read == 4
    assert any('format says higher_is = "different"' in w for w in found.warnings)
    assert not any("format says" in w for w in survey(source, SurveyOptions(higher_is="different")).warnings)


def test_a_full_disk_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)
    with pytest.raises(AuditError, match=r"No space left on device.*TMPDIR"):
        run([row("a", "a", 0.5)], SurveyOptions(memory_rows=0))
    assert list(tmp_path.iterdir()) == []


def test_options_that_cannot_be_meant():
    for options in (SurveyOptions(chunk_rows=0), SurveyOptions(memory_rows=-1), SurveyOptions(covariate_bins=0)):
        with pytest.raises(UsageError, match="must be positive"):
            run([row("a", "a", 0.5)], options)
