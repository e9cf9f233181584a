"""The glossary of searches in a gallery: identification, watchlists, alert logs."""

from __future__ import annotations

from audit_toolkit.evidence.quantity import Quantity

_ISO = "ISO/IEC 19795-1:2021"
_RATE = (
    "{threshold}, {name} for {group} was {value} ({interval}; {numerator} of {denominator} {what}; {subjects} people)."
)

SEARCHES = (
    Quantity(
        id="fpir",
        name="false positive identification rate (FPIR)",
        unit="rate",
        definition="Share of searches for people who are not enrolled that return at least one person at or above the "
        "threshold.",
        numerator="non-mated searches with at least one candidate at score >= threshold",
        denominator="non-mated searches (searches, never comparisons)",
        source=f"{_ISO} (false-positive identification rate); NIST FRVT 1:N reports",
        limits="Holds for this gallery and its size: a larger gallery gives more false positives. Whether the interval "
        "counts the people enrolled as drawn anew or holds them fixed stands beside it.",
        sentence=_RATE,
    ),
    Quantity(
        id="fnir",
        name="false negative identification rate (FNIR)",
        unit="rate",
        definition="Share of searches for people who are enrolled in which their entry is not among the first R people, or "
        "scores below the threshold. Ties count against the system.",
        numerator="mated searches with the mate outside rank R or below the threshold",
        denominator="mated searches",
        source=f"{_ISO} (false-negative identification rate); NIST FRVT 1:N reports",
        limits="Holds for the time between enrolment and probes in this sample. It cannot be measured from an alert log.",
        sentence=_RATE,
    ),
    Quantity(
        id="tpir",
        name="true positive identification rate (TPIR)",
        unit="rate",
        definition="One less the false negative identification rate.",
        numerator="mated searches that return the mate",
        denominator="mated searches",
        source=f"{_ISO} (true-positive identification rate)",
        limits="As for the false negative identification rate.",
        sentence=_RATE,
        ideal=1.0,
    ),
    Quantity(
        id="cmc",
        name="cumulative match characteristic (CMC)",
        unit="rate",
        definition="Share of searches for enrolled people in which their entry is among the first R people, for every R, "
        "without a threshold: 1 - FNIR(N, R, 0).",
        numerator="mated searches with the mate at rank R or better",
        denominator="mated searches",
        source=f"{_ISO} (cumulative match characteristic)",
        limits="Says nothing about searches for people who are not enrolled, and depends on the size of the gallery.",
        ideal=1.0,
    ),
    Quantity(
        id="selectivity",
        name="selectivity",
        unit="index",
        definition="Mean number of wrong people that a search for a person who is not enrolled returns at or above the "
        "threshold.",
        numerator="people at score >= threshold over all non-mated searches",
        denominator="non-mated searches",
        source=f"{_ISO} (selectivity)",
        limits="Grows in proportion to the gallery. A few searches that return many people can carry the mean.",
        ideal=0.0,
    ),
    Quantity(
        id="fpir_ratio",
        name="ratio of false positive identification rates",
        unit="rate ratio",
        definition="FPIR of one probe group divided by FPIR of another, at the same threshold and against the same gallery.",
        numerator="FPIR of the group",
        denominator="FPIR of the group it is held against",
        source="ratio of two rates; interval on the logarithmic scale with the covariance of one shared gallery",
        limits="Depends on who is enrolled: a gallery that holds more people of one group gives that group more false "
        "positives.",
        sentence="{threshold}, {name} of {group} to {against} was {value} ({interval}; {errors} and {errors_against} {what}).",
        ideal=1.0,
    ),
    Quantity(
        id="fnir_ratio",
        name="ratio of false negative identification rates",
        unit="rate ratio",
        definition="FNIR of one probe group divided by FNIR of another, at the same rank and threshold.",
        numerator="FNIR of the group",
        denominator="FNIR of the group it is held against",
        source="ratio of two rates; interval on the logarithmic scale",
        limits="Does not show why, nor that other thresholds behave alike.",
        sentence="{threshold}, {name} of {group} to {against} was {value} ({interval}; {errors} and {errors_against} {what}).",
        ideal=1.0,
    ),
    Quantity(
        id="fnir_change",
        name="change of the false negative identification rate",
        unit="difference",
        definition="FNIR of a group at a threshold of its own less its FNIR at the threshold common to all, on the same "
        "searches.",
        source="difference of two rates on the same searches; interval from leaving one person out at a time",
        limits="A what-if: it says what equal FPIR would cost or give this group, not what should be done.",
        ideal=0.0,
    ),
    Quantity(
        id="fpir_predicted",
        name="false positive identification rate if comparisons were independent",
        unit="rate",
        definition="1 - (1 - FMR)^N, with the false match rate per enrolled person measured on these searches.",
        source="independence of comparisons; used for scaling FPIR with gallery size N",
        limits="Probes that resemble many people make the true growth slower; read it beside the measured halves.",
    ),
    Quantity(
        id="gallery_share",
        name="share of the gallery",
        unit="rate",
        definition="Share of the people enrolled who belong to the group.",
        numerator="people of the group who are enrolled",
        denominator="people enrolled",
        source="counted",
        limits="People enrolled without a label stand among the others.",
    ),
    Quantity(
        id="alert_share",
        name="share of alerts",
        unit="rate",
        definition="Share of all alerts that fall on people of the group: false alerts where searches are known, all alerts "
        "where only a log is.",
        numerator="alerts on people of the group",
        denominator="alerts on people of any group",
        source="counted; NPL operational testing of live facial recognition, 2023, for the comparison with passers-by",
        limits="Read it beside the group's share of the people who passed by.",
    ),
    Quantity(
        id="passerby_share",
        name="share of people passing by",
        unit="rate",
        definition="Share of the people who passed by (or were searched for without being enrolled) who belong to the group.",
        numerator="people of the group who passed by",
        denominator="people who passed by",
        source="counted by whoever provides the figure",
        limits="The count's own error is in no interval.",
    ),
    Quantity(
        id="alert_share_ratio",
        name="share of alerts to share of people passing by",
        unit="ratio",
        definition="The group's share of all alerts divided by its share of the people who passed by.",
        source="ratio of two shares; passers-by taken as counted",
        limits="Alerts on people who are rightly on the list count too; without adjudication they cannot be told apart.",
        ideal=1.0,
    ),
    Quantity(
        id="false_alert_share",
        name="share of false alerts among those adjudicated (verification-biased)",
        unit="rate",
        definition="Share of the adjudicated alerts that were on the wrong person.",
        numerator="alerts adjudicated as the wrong person",
        denominator="adjudicated alerts",
        source="counted from the log",
        limits="Verification-biased: people decide which alerts they look at, and what they see decides the verdict. No rate "
        "per person passing by follows from it.",
    ),
    Quantity(
        id="alert_burden",
        name="false alerts per 1,000 people passing by",
        unit="index",
        definition="From searches: 1,000 (1 - prevalence) FPIR. From a log: 1,000 x alerts adjudicated as wrong / people "
        "counted.",
        numerator="false alerts",
        denominator="1,000 people passing by",
        source="NPL operational testing of live facial recognition, 2023 (false alerts per person passing)",
        limits="From a log it is a lower bound wherever alerts were not adjudicated. The prevalence is stated, not measured.",
        ideal=0.0,
    ),
    Quantity(
        id="ppv",
        name="positive predictive value (PPV)",
        unit="index",
        definition="Share of the people alerted on who would be on the watchlist: p TPIR / (p TPIR + (1 - p) FPIR), p the "
        "stated share of people passing by who are on it.",
        source="Bayes' rule; interval from the ratio of TPIR to FPIR",
        limits="Rests on the stated prevalence, which this sample does not measure, and takes it as the same for each group.",
        ideal=1.0,
    ),
)
"""Entries about searches, never about single comparisons."""
