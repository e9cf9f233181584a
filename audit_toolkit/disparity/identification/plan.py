"""What an auditor decides before the searches are looked at: the identification section of a plan.

One of three inputs: templates of a gallery and of probes, candidate lists that a system returned, or the alert log of a
system in use. Four statements cannot be left out: the kind of evaluation, where the labels come from, how the gallery was
chosen, and how long after enrolment the mated probes were captured. "not provided" is an accepted answer and is printed.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from audit_toolkit.disparity.plan import LARGEST, Attribute, Subjects, SupportRule, Uncertainty, axis_name

MOST_THRESHOLDS = 16


class SearchColumns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which columns of the candidate lists, of the table of searches and of the table of enrolled people play which part."""

    search: str = "probe"
    rank: str = "rank"
    score: str = "score"
    probe_subject: str = "probe_subject"
    candidate_subject: str = "candidate_subject"
    mated: str = "mated"
    enrolled_subject: str = "subject"


class AlertColumns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which columns of an alert log play which part; ``count`` belongs to the table of people who passed by."""

    time: str = "time"
    camera: str = "camera"
    entry: str = "entry"
    score: str = "score"
    adjudication: str = "adjudication"
    count: str = "count"


class SearchThreshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a threshold is chosen.

    vendor: ``value`` as the vendor states it. fpir: the lowest threshold whose FPIR over everybody is at most ``target``.
    fpir_per_group: what if every group of the axis ``axis`` had its own threshold at ``target``; a named what-if, never the
    operating point, with what it costs each group in FNIR. Investigation (no threshold) is always measured and not listed.
    """

    policy: Literal["vendor", "fpir", "fpir_per_group"]
    value: float | None = None
    target: float | None = None
    axis: str = ""

    def __post_init__(self) -> None:
        needed = {"value": self.value, "target": self.target, "axis": self.axis}
        uses = {"vendor": ("value",), "fpir": ("target",), "fpir_per_group": ("target", "axis")}[self.policy]
        foreign = [f"`{k}`" for k, v in needed.items() if v not in (None, "") and k not in uses]
        if foreign:
            raise ValueError(f"{' and '.join(foreign)} would have no effect on a threshold by policy {self.policy!r}")
        if self.policy == "vendor" and (self.value is None or not abs(self.value) <= LARGEST):
            raise ValueError(f"a vendor threshold needs `value`, a number of at most {LARGEST:g}")
        if self.policy != "vendor" and (self.target is None or not 0.0 < self.target < 1.0):
            raise ValueError("a threshold set by FPIR needs `target` between 0 and 1")
        if self.policy == "fpir_per_group" and not self.axis:
            raise ValueError("thresholds per group need `axis`")


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The identification section of a plan.

    Templates: ``gallery`` and ``probes`` (the same file twice: every image searched against all others). Lists:
    ``candidates``, and beside them ``searches`` (every search made, one row each, also those that returned nobody) and
    ``enrolled`` (everybody in the gallery). A log: ``alerts``, and ``passers_by`` (people counted, per group).
    ``searches_complete`` declares that the candidate lists leave no search out. ``prevalences``: shares of people passing by
    who are on the watchlist, for predictive values and alert burdens.
    """

    evaluation_type: Literal["technology", "scenario", "operational", "not provided"]
    label_source: str
    gallery_selection: str
    days_between_mated_captures: str
    attributes: dict[str, Attribute]
    gallery: str = ""
    probes: str = ""
    candidates: str = ""
    searches: str = ""
    enrolled: str = ""
    alerts: str = ""
    passers_by: str = ""
    subjects: Subjects | None = None
    columns: SearchColumns = SearchColumns()
    alert_columns: AlertColumns = AlertColumns()
    metric: Literal["cosine", "inner", "l2"] = "cosine"
    higher_is: Literal["same", "different"] = "same"
    searches_complete: bool = False
    intersections: tuple[tuple[str, ...], ...] = ()
    thresholds: tuple[SearchThreshold, ...] = ()
    ranks: tuple[int, ...] = (1, 10, 50)
    prevalences: tuple[float, ...] = (0.001,)
    growth: bool = True
    uncertainty: Uncertainty = Uncertainty()
    support: SupportRule = SupportRule()

    def __post_init__(self) -> None:
        given = [bool(self.gallery or self.probes), bool(self.candidates), bool(self.alerts)]
        if sum(given) != 1:
            raise ValueError("give one input: `gallery` and `probes`, or `candidates`, or `alerts`")
        if given[0] and not (self.gallery and self.probes):
            raise ValueError("templates need both `gallery` and `probes`")
        if self.gallery and (self.higher_is == "different") != (self.metric == "l2"):
            raise ValueError("`higher_is` must be 'different' for the metric l2 and 'same' for the others")
        if not self.candidates and (self.searches or self.enrolled):
            raise ValueError("`searches` and `enrolled` belong to `candidates`")
        if self.passers_by and not self.alerts:
            raise ValueError("`passers_by` belongs to `alerts`")
        if not self.attributes:
            raise ValueError("`attributes` names no attribute to compare groups by")
        if any(not name.strip() or ":" in name or " x " in name for name in self.attributes):
            raise ValueError("a name in `attributes` is empty or holds ':' or ' x ', which join names in the report")
        if any(a.reference_column for a in self.attributes.values()):
            raise ValueError("in `attributes`, searches have one labelled person: give `column`")
        for names in self.intersections:
            if len(names) < 2 or len(set(names)) != len(names) or any(n not in self.attributes for n in names):
                raise ValueError("each entry of `intersections` lists two or more different names from `attributes`")
        if len({frozenset(names) for names in self.intersections}) != len(self.intersections):
            raise ValueError("`intersections` lists the same attributes twice")
        if len(self.thresholds) > MOST_THRESHOLDS:
            raise ValueError(f"at most {MOST_THRESHOLDS} thresholds can be asked for in one audit")
        axes = {*self.attributes, *map(axis_name, self.intersections)}
        for k, asked in enumerate(self.thresholds):
            if asked.axis and asked.axis not in axes:
                raise ValueError(f"`thresholds[{k}].axis` is none of {', '.join(sorted(axes))}")
        if not self.ranks or any(r < 1 or r > MOST_RANK for r in self.ranks) or len(set(self.ranks)) != len(self.ranks):
            raise ValueError(f"`ranks` must lie between 1 and {MOST_RANK}, each once")
        if any(not 0.0 < p < 1.0 for p in self.prevalences) or len(set(self.prevalences)) != len(self.prevalences):
            raise ValueError("`prevalences` must lie between 0 and 1, each once")
        if self.uncertainty.method not in ("logit-jackknife", "wilson"):
            raise ValueError("searches have intervals by 'logit-jackknife', or 'wilson' to compare with")

    @property
    def sign(self) -> int:
        """-1 where a higher score means more different: scores are negated inside, and shown as the file writes them."""
        return -1 if self.higher_is == "different" else 1

    def statements(self) -> dict[str, str]:
        """The four statements without which no figure means anything."""
        return {
            "evaluation type": self.evaluation_type,
            "source of the labels": self.label_source,
            "selection of the gallery": self.gallery_selection,
            "days between enrolment and mated probes": self.days_between_mated_captures,
        }


MOST_RANK = 200
"""Names of that many competitors are kept of each search, so that gallery people can be left out exactly."""
