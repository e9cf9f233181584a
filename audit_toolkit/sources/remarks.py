"""What a survey says of a file in words: why rows were not used, and what a reader should know before believing rates.

Promise: every reason names columns and counts, never a value of a person; a warning changes nothing by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import codes
from audit_toolkit.evidence.record import Exclusion
from audit_toolkit.sources.intake import Intake, label_codes, special_code
from audit_toolkit.sources.options import SurveyOptions
from audit_toolkit.sources.settle import Settled
from audit_toolkit.sources.table import ScoreSource


def skipped(source: ScoreSource) -> list[Exclusion]:
    """Rows that the reader itself left out, where a format marks them so."""
    return [Exclusion(reason=reason, count=count) for reason, count in source.skipped if count]


def exclusions(
    intake: Intake, settled: Settled, source: ScoreSource, options: SurveyOptions
) -> tuple[list[Exclusion], list[Exclusion]]:
    """Rows not used, by reason; and remarks on rows that stay."""
    texts = {
        codes.FTE: "enrolment failure (FTE), counted in FTE",
        codes.FTA: "acquisition failure (FTA), counted in FTA",
        codes.NO_SUBJECT: "missing subject id (reference_subject or probe_subject)",
        codes.NO_SCORE: "missing score without a failure",
        codes.NAN: "score is not a number (NaN)",
        codes.INFINITE: "score is infinite",
        codes.NO_WEIGHT: "missing weight",
        codes.FLAG_MATED: "mated flag is true, subject ids differ",
        codes.FLAG_NONMATED: "mated flag is false, subject ids are equal",
        codes.SELF: "self comparison: reference_sample and probe_sample are the same",
    }
    for k, value in enumerate(options.failure_scores):
        texts[special_code(k)] = f"score equals {value:g}, declared as no comparison"
    for k, attribute in enumerate(intake.attributes):
        missing, undeclared = label_codes(k, options)
        sides = f"reference.{attribute} or probe.{attribute}"
        texts[missing] = f"subject without a label ({sides})"
        texts[undeclared] = f"label is not among the declared ones ({sides})"
    out = [Exclusion(reason=text, count=intake.reasons[c]) for c, text in texts.items() if intake.reasons[c]]
    whole = {
        "two labels": "subject with two different labels on one attribute (all rows of such subjects)",
        "exact": "duplicate: same two samples with the same score, first kept",
        "mirrored": "mirrored duplicate: same two samples the other way round with the same score, one kept",
    }
    found = settled.found
    out += [Exclusion(reason=text, count=found[key]) for key, text in whole.items() if found[key]]
    remarks = {
        "identical rows (same subjects, score and mated flag); no sample ids, so counted and not dropped": found[
            "identical"
        ],
        "rows equal to another with its two subjects swapped; no sample ids, so counted and not dropped": found[
            "mirrored unjudged"
        ],
        "pairs of samples compared both ways with different scores; both kept": found["mirrored differing"],
        "rows without reference_sample or probe_sample; not judged for duplicates": intake.no_sample,
        "rows without a transaction; left out of transaction-level rates": intake.no_transaction,
        "transactions that mix subjects; left out of transaction-level rates": found["mixed transactions"],
    }
    return out, [Exclusion(reason=text, count=count, used=True) for text, count in remarks.items() if count]


def warnings(intake: Intake, settled: Settled, source: ScoreSource, options: SurveyOptions) -> tuple[str, ...]:
    """What a reader of the rates should know: scores that look inverted or saturated, what could not be judged."""
    out = []
    nonmated, mated = settled.histogram
    if source.higher_is_hint not in (None, options.higher_is):
        out.append(
            f'The file\'s format says higher_is = "{source.higher_is_hint}", declared is "{options.higher_is}"; the'
            " declaration was followed."
        )
    total = int(nonmated.sum() + mated.sum())
    if not mated.any():
        out.append("There are no mated comparisons: false non-match rates are undefined.")
    if not nonmated.any():
        out.append("There are no non-mated comparisons: false match rates are undefined.")
    if mated.any() and nonmated.any() and _median(mated) < _median(nonmated):
        other = "same" if options.higher_is == "different" else "different"
        out.append(
            "The scores look inverted: the median of mated comparisons lies below that of non-mated ones. Nothing was"
            f' turned round; if the scores say so, declare higher_is = "{other}".'
        )
    ends = (("lowest", settled.low, settled.at_low), ("highest", settled.high, settled.at_high))
    for which, value, count in ends:
        if settled.low < settled.high and count >= 5 and count > 0.01 * total:
            out.append(
                f"Scores look saturated: {count} of {total} comparisons ({count / total:.1%}) share the {which} score,"
                f" {value * intake.sign:g}; no threshold can tell them apart."
            )
    if settled.low == settled.high:
        out.append("All used scores are equal: no threshold tells comparisons apart.")
    if not intake.has_samples:
        out.append(
            "The source has no sample ids (reference_sample, probe_sample): self comparisons and duplicates cannot be"
            " told from different images; identical rows are counted and not dropped."
        )
    if settled.found["mirrored differing"]:
        out.append("Some pairs of samples were compared both ways with different scores; both comparisons are kept.")
    if intake.has_transactions and intake.has_weights:
        out.append("Weights do not act on transaction-level rates: each transaction counts once.")
    for attribute, declared in options.labels:
        met = intake.label_books[intake.attributes.index(attribute)]
        absent = [label for label in declared if label not in met]
        if absent:
            out.append(f"No row names {', '.join(map(repr, absent))}, declared for {attribute}; check the spelling.")
    for name in _one_sided(source):
        out.append(f"Column {name} has no counterpart on the other side and was not used.")
    return tuple(out)


def _median(histogram: NDArray[np.int64]) -> int:
    """The class that holds the lower median."""
    total = np.cumsum(histogram)
    return int(np.searchsorted(total, (total[-1] + 1) // 2))


def _one_sided(source: ScoreSource) -> list[str]:
    sides = {"reference": "probe", "probe": "reference"}
    return [
        column
        for column in source.columns
        for side, other in sides.items()
        if column.startswith(f"{side}.") and f"{other}.{column.removeprefix(side + '.')}" not in source.columns
    ]
