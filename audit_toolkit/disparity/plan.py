"""What an auditor decides before the scores are looked at: the disparity section of a plan.

Four statements cannot be left out, because no figure means anything without them: the kind of evaluation, where the
labels come from, how non-mated pairs were chosen, and how long after each other mated samples were captured. "not
provided" is an accepted answer, and the report prints it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from audit_toolkit.errors import PlanError

FRAME = "(a data frame)"
"""What stands in place of a file where a frame was handed over; no file can be read from it again."""

FILE_OPTIONS = ("impostor", "scores", "mask", "target", "query", "subject_of", "rows")
"""Format options that name a file, relative to the plan's folder like every other path."""

LARGEST = 1e30
"""No threshold lies beyond this; the squares of numbers much larger than it are no numbers."""


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

    def __post_init__(self) -> None:
        if bool(self.reference_column) != bool(self.probe_column):
            raise ValueError("give both `reference_column` and `probe_column`, or `column` of a subject table")
        if self.reference_column and self.column:
            raise ValueError("`column` is for a subject table, and the score file's own columns are named too")
        if len(set(self.labels)) != len(self.labels) or any(not label.strip() for label in self.labels):
            raise ValueError("`labels` lists an empty label, or one twice")
        if self.labels and self.reference and self.reference not in self.labels:
            raise ValueError("the `reference` group is not among `labels`")


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
        needed = {"value": self.value, "target": self.target, "of": self.of, "axis": self.axis}
        foreign = [f"`{k}`" for k, v in needed.items() if v not in (None, {}, "") and k not in _OF_POLICY[self.policy]]
        if foreign:
            raise ValueError(f"{' and '.join(foreign)} would have no effect on a threshold by policy {self.policy!r}")
        if self.policy == "vendor" and (self.value is None or not abs(self.value) <= LARGEST):
            raise ValueError(f"a vendor threshold needs `value`, a number of at most {LARGEST:g}")
        if self.policy in ("fmr", "fmr_per_group") and (self.target is None or not 0.0 < self.target < 1.0):
            raise ValueError("a threshold set by FMR needs `target` between 0 and 1")


_OF_POLICY = {"vendor": ("value",), "fmr": ("target", "of"), "eer": (), "fmr_per_group": ("target", "axis")}


class Uncertainty(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How intervals are made; the names are the keys of `audit_toolkit.stats.intervals.INTERVALS`."""

    method: str = "logit-jackknife"
    level: float = 0.95
    replicates: int = 1024

    def __post_init__(self) -> None:
        if not 0.5 < self.level < 1.0:
            raise ValueError("`level` must lie between 0.5 and 1")
        if self.replicates < 64 or self.replicates % 64 or self.replicates > 65_536:
            raise ValueError("`replicates` must be a multiple of 64 between 64 and 65536")


class SupportRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Below this, nothing is assessed: people for a rate, and errors for a ratio."""

    min_subjects: int = 30
    min_errors: int = 10

    def __post_init__(self) -> None:
        if self.min_subjects < 0 or self.min_errors < 0:
            raise ValueError("`min_subjects` and `min_errors` must be 0 or more")


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The disparity section of a plan."""

    scores: str
    metric: Literal["", "cosine", "inner", "l2"] = ""
    """Given: ``scores`` names a file of templates (embeddings), and all pairs of them are compared by this metric."""
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
    curves: bool = True
    """False: only what stands at the asked thresholds; all pairs of templates may then be scored by certified 8-bit products."""
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    uncertainty: Uncertainty = Uncertainty()
    support: SupportRule = SupportRule()

    def __post_init__(self) -> None:
        if not self.scores.strip():
            raise ValueError("`scores` names no file")
        if self.metric:
            self._check_templates()
        if not self.attributes:
            raise ValueError("`attributes` names no attribute to compare groups by")
        if any(not name.strip() or ":" in name or " x " in name for name in self.attributes):
            raise ValueError("a name in `attributes` is empty or holds ':' or ' x ', which join names in the report")
        if not self.thresholds:
            raise ValueError("`thresholds` is empty: state the vendor's value, a target FMR, or the EER")
        if len(self.thresholds) > MOST_THRESHOLDS:
            raise ValueError(f"at most {MOST_THRESHOLDS} thresholds can be asked for in one audit")
        if any(not 0.0 <= a <= 1.0 for a in self.alphas) or len(set(self.alphas)) != len(self.alphas):
            raise ValueError("`alphas` must lie in [0, 1], each once")
        for names in self.intersections:
            if len(names) < 2 or len(set(names)) != len(names) or any(n not in self.attributes for n in names):
                raise ValueError("each entry of `intersections` lists two or more different names from `attributes`")
        if len({frozenset(names) for names in self.intersections}) != len(self.intersections):
            raise ValueError("`intersections` lists the same attributes twice")
        axes = {*self.attributes, *map(axis_name, self.intersections)}
        for k, asked in enumerate(self.thresholds):
            if asked.axis and asked.axis not in axes:
                raise ValueError(f"`thresholds[{k}].axis` is none of {', '.join(sorted(axes))}")
            if set(asked.of) - set(self.attributes):
                raise ValueError(f"`thresholds[{k}].of` names an attribute that `attributes` has not")
            if asked.of and axis_name(tuple(n for n in self.attributes if n in asked.of)) not in axes:
                raise ValueError(
                    f"`thresholds[{k}].of` needs its attributes together in `intersections`, in their order"
                )

    def _check_templates(self) -> None:
        """What a file of templates cannot have: sides, covariates of a comparison, declared failure scores."""
        if any(a.reference_column or a.probe_column for a in self.attributes.values()):
            raise ValueError("templates have no reference and probe columns: give an attribute's `column`")
        if self.covariates or self.failure_scores or self.format != "auto":
            raise ValueError("`covariates`, `failure_scores` and `format` are for files of scores, not of templates")
        if self.scope == "probe-group":
            raise ValueError("`scope` = 'probe-group' needs a reference and a probe side; templates have none")
        if (self.higher_is == "different") != (self.metric == "l2"):
            raise ValueError("`higher_is` must be 'different' for the metric l2 and 'same' for the others")
        unknown = set(self.format_options) - {*TEMPLATE_PARTS, "rows"}
        if unknown:
            raise ValueError(f"`format_options` of templates are {', '.join(TEMPLATE_PARTS)} and rows")

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


TEMPLATE_PARTS = ("vectors", "subject", "sample", "failure")
"""What a file of templates holds, by the names that `format_options` can map to the file's own."""

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
