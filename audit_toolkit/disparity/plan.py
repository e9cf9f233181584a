"""What an auditor decides before the scores are looked at: the disparity section of a plan.

Four statements cannot be left out, because no figure means anything without them: the kind of evaluation, where the
labels come from, how non-mated pairs were chosen, and how long after each other mated samples were captured. "not
provided" is an accepted answer, and the report prints it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from audit_toolkit.errors import PlanError


class Columns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which columns of the file play which part; what is left out keeps its canonical name."""

    reference_subject: str = "reference_subject"
    probe_subject: str = "probe_subject"
    mated: str = "mated"
    score: str = "score"
    reference_sample: str = "reference_sample"
    probe_sample: str = "probe_sample"
    failure: str = "failure"
    weight: str = "weight"
    transaction: str = "transaction"


class Attribute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A demographic attribute: its column for the reference and the probe side, or its column in the subject table.

    ``labels`` are the labels the auditor declares; a label outside them is excluded and counted. ``reference`` is the group
    that ratios are taken against (default: the group with most people, chosen before errors are looked at).
    """

    reference_column: str = ""
    probe_column: str = ""
    column: str = ""
    labels: tuple[str, ...] = ()
    reference: str = ""


class Subjects(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of people to join labels from: one row a person, ``id`` names the column that the scores refer to."""

    path: str
    id: str = "subject"


class Threshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a threshold is chosen.

    vendor: ``value`` as the vendor states it. fmr: the lowest threshold whose FMR is at most ``target``, over everybody, or
    within the group ``of`` (attribute -> label). eer: where overall FMR and FNMR meet. fmr_per_group: what if every group of
    the axis ``axis`` had its own threshold at ``target``; a named what-if, never the operating point.
    """

    policy: Literal["vendor", "fmr", "eer", "fmr_per_group"]
    value: float | None = None
    target: float | None = None
    of: dict[str, str] = field(default_factory=dict)
    axis: str = ""

    def __post_init__(self) -> None:
        if self.policy == "vendor" and self.value is None:
            raise ValueError("a vendor threshold needs `value`")
        if self.policy in ("fmr", "fmr_per_group") and (self.target is None or not 0.0 < self.target < 1.0):
            raise ValueError("a threshold set by FMR needs `target` between 0 and 1")


class Uncertainty(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How intervals are made; the names are the keys of `audit_toolkit.stats.dependence.INTERVALS`."""

    method: str = "logit-jackknife"
    level: float = 0.95
    replicates: int = 1024

    def __post_init__(self) -> None:
        if not 0.5 <= self.level < 1.0:
            raise ValueError("`level` must lie in [0.5, 1)")
        if self.replicates < 64 or self.replicates % 64 or self.replicates > 65_536:
            raise ValueError("`replicates` must be a multiple of 64 between 64 and 65536")


class SupportRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Below this, nothing is assessed: people for a rate, and errors for a ratio."""

    min_subjects: int = 30
    min_errors: int = 10


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The disparity section of a plan."""

    scores: str
    evaluation_type: Literal["technology", "scenario", "operational", "not provided"]
    label_source: str
    impostor_selection: str
    days_between_mated_captures: str
    attributes: dict[str, Attribute]
    intersections: tuple[tuple[str, ...], ...] = ()
    thresholds: tuple[Threshold, ...]
    format: str = "auto"
    format_options: dict[str, str | int | float | bool] = field(default_factory=dict)
    columns: Columns = Columns()
    subjects: Subjects | None = None
    covariates: dict[str, str] = field(default_factory=dict)
    higher_is: Literal["same", "different"] = "same"
    failure_scores: tuple[float, ...] = ()
    scope: Literal["within-group", "probe-group", "all-impostor"] = "within-group"
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    uncertainty: Uncertainty = Uncertainty()
    support: SupportRule = SupportRule()

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ValueError("`attributes` names no attribute to compare groups by")
        if not self.thresholds:
            raise ValueError("`thresholds` is empty: state the vendor's value, a target FMR, or the EER")
        if len(self.thresholds) > MOST_THRESHOLDS:
            raise ValueError(f"at most {MOST_THRESHOLDS} thresholds can be asked for in one audit")
        if any(not 0.0 <= a <= 1.0 for a in self.alphas):
            raise ValueError("`alphas` must lie in [0, 1]")
        for names in self.intersections:
            if len(names) < 2 or len(set(names)) != len(names) or any(n not in self.attributes for n in names):
                raise ValueError("each entry of `intersections` lists two or more different names from `attributes`")

    def statements(self) -> dict[str, str]:
        """The four statements without which no figure means anything, and what the rates are taken over."""
        return {
            "evaluation type": self.evaluation_type,
            "source of the labels": self.label_source,
            "selection of non-mated pairs": self.impostor_selection,
            "days between mated captures": self.days_between_mated_captures,
            "rate in every summary": {
                "within-group": "within-group: reference and probe from the same group",
                "probe-group": "probe-group: probes of the group against all references",
                "all-impostor": "all-impostor: every comparison with the group on either side",
            }[self.scope],
        }


MOST_THRESHOLDS = 16
"""Counts by subject grow with every threshold; past this they would not stay within a commodity machine's memory."""


def check_axis(section: Section, axis: str) -> tuple[str, ...]:
    """The attributes of an axis named in a plan ("gender" or "gender x ethnicity"); raises `PlanError` if there is none."""
    known: dict[str, tuple[str, ...]] = {name: (name,) for name in section.attributes}
    known.update({axis_name(names): names for names in section.intersections})
    if axis not in known:
        raise PlanError(f"There is no axis {axis!r}.", where="$.disparity", mend=f"Known: {', '.join(sorted(known))}.")
    return known[axis]


def axis_name(attributes: tuple[str, ...]) -> str:
    """The printed name of an axis: attribute names joined by " x "."""
    return " x ".join(attributes)
