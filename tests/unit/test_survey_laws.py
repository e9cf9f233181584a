"""What a survey finds depends on the rows alone: not on their order, the chunks, or where they waited."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_toolkit.errors import InputError
from audit_toolkit.sources.frames import open_frame
from audit_toolkit.sources.survey import Survey, SurveyOptions, survey

SUBJECTS = ["ann", "bo", "cy", "dee", ""]
KINDS = {
    "reference_subject": pa.string(),
    "probe_subject": pa.string(),
    "score": pa.float32(),
    "reference.sex": pa.string(),
    "probe.sex": pa.string(),
    "reference_sample": pa.string(),
    "probe_sample": pa.string(),
    "failure": pa.string(),
    "mated": pa.bool_(),
    "covariate.age": pa.float64(),
    "transaction": pa.string(),
}
SEX = {"ann": "f", "bo": "m", "cy": "f", "dee": "m", "": "f"}


@st.composite
def rows(draw, samples: bool):
    a, b = draw(st.sampled_from(SUBJECTS)), draw(st.sampled_from(SUBJECTS))
    odd = draw(st.integers(0, 19))
    out = {
        "reference_subject": a,
        "probe_subject": b,
        "score": draw(st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, math.nan, math.inf, None])),
        "reference.sex": SEX[a] if odd else draw(st.sampled_from([None, "unknown", "m", "x"])),
        "probe.sex": SEX[b],
        "failure": draw(st.sampled_from([None, None, None, "", "fte", "fta"])),
        "mated": draw(st.sampled_from([None, None, a == b, a != b])),
        "covariate.age": draw(st.sampled_from([math.nan, 1.0, 2.0, 3.0, 4.0])),
        "transaction": draw(st.sampled_from([None, "t1", "t2", "t3", "t4", "t5"])),
    }
    if samples:
        one, two = draw(st.sampled_from(["1", "2"])), draw(st.sampled_from(["1", "2"]))
        out |= {"reference_sample": one, "probe_sample": two}
        if draw(st.integers(0, 3)) and out["score"] is not None:
            # mostly agreeing scores, so that files are refused now and then and not always
            out["score"] = (hash_of(a, one) + hash_of(b, two)) / 32
    return out


def hash_of(*parts: str) -> int:
    return hashlib.sha256("|".join(parts).encode()).digest()[0] % 8


def build(listed, samples):
    kinds = {k: v for k, v in KINDS.items() if samples or not k.endswith("_sample")}
    return pa.table({name: pa.array([r[name] for r in listed], kind) for name, kind in kinds.items()})


def canonical(found: Survey):
    def multiset(group):
        lines = Counter()
        for part in group.partitions:
            for batch in part():
                names = sorted(batch.arrays)
                lines.update(zip(*(batch[n].tolist() for n in names), strict=True))
        return sorted(lines.items())

    plain = [
        found.rows_read,
        found.rows_used,
        found.exclusions,
        found.warnings,
        found.codebook_digest,
        found.identity.tolist(),
        found.labels,
        found.subject_labels.tolist(),
        found.low,
        found.high,
        found.saturated,
        found.mated,
        found.nonmated,
        found.covariate_labels,
        found.enrol.tolist(),
        found.acquire.tolist(),
        found.sha256,
        multiset(found.rows),
        multiset(found.transactions),
    ]
    return repr(plain)


def result(listed, samples, options):
    try:
        return canonical(survey(open_frame(build(listed, samples)), options))
    except InputError as error:
        return str(error)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_order_chunks_and_spill_change_nothing(data, samples):
    listed = data.draw(st.lists(rows(samples), min_size=1, max_size=30))
    want = result(listed, samples, SurveyOptions(covariate_bins=3))
    shuffled = data.draw(st.permutations(listed))
    chunk = data.draw(st.integers(1, 40))
    memory = data.draw(st.sampled_from([0, 5, 10_000]))
    options = SurveyOptions(covariate_bins=3, chunk_rows=chunk, memory_rows=memory, duplicate_rows=chunk)
    assert result(shuffled, samples, options) == want


def twin(listed, samples):
    """The survey in plain Python: reasons, used rows, transactions."""
    why = Counter()
    labels = defaultdict(set)
    passed = []
    tries = defaultdict(list)
    for r in listed:
        for side in ("reference", "probe"):
            label = r[f"{side}.sex"]
            if r[f"{side}_subject"] and label not in (None, "unknown"):
                labels[r[f"{side}_subject"]].add(label)
    torn = {s for s, found in labels.items() if len(found) > 1}
    for r in listed:
        a, b, score = r["reference_subject"], r["probe_subject"], r["score"]
        flagged = (r["mated"] is True and a != b) or (r["mated"] is False and a == b)
        unlabelled = any(r[f"{s}.sex"] in (None, "unknown") for s in ("reference", "probe"))
        if r["failure"] == "fte":
            why["FTE" if a else "missing subject"] += 1
        elif r["failure"] == "fta":
            why["FTA" if b else "missing subject"] += 1
            if a and b and not unlabelled and not flagged and not {a, b} & torn and r["transaction"]:
                tries[r["transaction"]].append((a, b, -float(np.finfo(np.float32).max)))
        elif not a or not b:
            why["missing subject"] += 1
        elif score is None:
            why["missing score"] += 1
        elif math.isnan(score):
            why["NaN"] += 1
        elif math.isinf(score):
            why["infinite"] += 1
        elif unlabelled:
            why["without a label"] += 1
        elif flagged:
            why["mated flag"] += 1
        elif samples and a == b and r["reference_sample"] == r["probe_sample"]:
            why["self"] += 1
        elif {a, b} & torn:
            why["two different"] += 1
        else:
            passed.append(r)
    kept = {}
    if not samples:
        kept = dict(enumerate(passed))
    else:
        by_key = defaultdict(list)
        for r in passed:
            x, y = (r["reference_subject"], r["reference_sample"]), (r["probe_subject"], r["probe_sample"])
            by_key[x, y, r["transaction"]].append(r)
        if any(len({r["score"] for r in same}) > 1 for same in by_key.values()):
            return None
        for (x, y, t), same in by_key.items():
            why["duplicate: "] += len(same) - 1
            other = by_key.get((y, x, t))
            if other and x > y and other[0]["score"] == same[0]["score"]:
                why["mirrored"] += 1
            else:
                kept[x, y, t] = same[0]
    for r in kept.values():
        if r["transaction"]:
            tries[r["transaction"]].append((r["reference_subject"], r["probe_subject"], r["score"]))
    best = [max(group) for group in tries.values() if len({g[:2] for g in group}) == 1]
    used = sorted((r["reference_subject"], r["probe_subject"], r["score"]) for r in kept.values())
    return why, used, sorted(best), {s for r in listed for s in (r["reference_subject"], r["probe_subject"]) if s}


@settings(max_examples=80, deadline=None)
@given(st.data(), st.booleans())
def test_agrees_with_the_plain_twin(data, samples):
    listed = data.draw(st.lists(rows(samples), min_size=1, max_size=30))
    expected = twin(listed, samples)
    try:
        found = survey(open_frame(build(listed, samples)), SurveyOptions(chunk_rows=data.draw(st.integers(1, 40))))
    except InputError:
        assert expected is None or not expected[1]
        return
    assert expected is not None
    why, used, best, ids = expected
    excluded = [e for e in found.exclusions if not e.used]
    assert found.rows_read == len(listed) == found.rows_used + sum(e.count for e in excluded)
    for word, count in why.items():
        assert sum(e.count for e in excluded if word in e.reason) == count, word
    names = sorted(ids)
    assert found.subjects == len(names)

    def back(group):
        return sorted(
            (names[i], names[j], s)
            for part in group.partitions
            for batch in part()
            for i, j, s in zip(batch["ref"], batch["probe"], batch["score"].tolist(), strict=True)
        )

    assert back(found.rows) == used
    assert back(found.transactions) == best
    assert (found.rows.n, found.transactions.n) == (len(used), len(best))
