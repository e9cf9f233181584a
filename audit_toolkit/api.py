"""The toolkit from Python: the same plan, the same run and the same report as on the command line.

    audit = disparity(scores, groups=["gender"], threshold=0.6)
    audit                      # shows itself in a notebook
    audit.save("out")          # record.json, report.html, run.json, plan.json

There is no second path: every function here builds a `Plan` and runs it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_toolkit.disparity.plan import FRAME
from audit_toolkit.engines.fold import Progress
from audit_toolkit.errors import AuditError, InputError, UsageError
from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.record import Record
from audit_toolkit.evidence.series import Series
from audit_toolkit.plan.model import AnyPlan, Plan, SearchPlan, load_plan, make_plan, moved
from audit_toolkit.plan.run import run_plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Groups = Sequence[str] | Mapping[str, str | tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """A finished audit: the record, what stands in ``run.json``, the plan, and the exit code a command would end with.

    ``folder`` is what the plan's paths are relative to.
    """

    record: Record
    run: dict[str, Any]
    plan: AnyPlan
    exit_code: int
    folder: Path = Path()

    def estimates(self, quantity: str, of: Mapping[str, str] | None = None, **at: float | str) -> tuple[Estimate, ...]:
        """The estimates of a quantity: all of them, or those of exactly the axes in ``of``, at a place (``threshold=0.6``).

        ``of={"gender": "female"}`` is one group, ``{"gender": "*"}`` every gender, ``{}`` everybody and the summaries.
        """
        return tuple(e for e in self.record.estimates if e.matches(quantity, e.of if of is None else of, at))

    def series(self, kind: str, quantity: str | None = None) -> tuple[Series, ...]:
        """The series of a kind (``"curve"``, ``"matrix"``, ``"histogram"``)."""
        return tuple(s for s in self.record.series if s.kind == kind and quantity in (None, s.quantity))

    def html(self) -> bytes:
        """The report as one self-contained HTML file."""
        from audit_toolkit.report.html import render_html

        return render_html(self.record)

    def text(self, width: int = 80, *, color: bool = False) -> str:
        """The summary for a terminal."""
        from audit_toolkit.report.terminal import render_text

        return render_text(self.record, width=width, color=color)

    def plot_rates(self, quantity: str = "fmr", axis: str | None = None, threshold: float | None = None) -> Figure:
        """Interval plot of a rate across the groups of an axis (default: the plan's first), at one threshold."""
        from audit_toolkit.report.figures import interval_plot

        attributes = tuple((axis or next(iter(self.plan.section.attributes))).split(" x "))
        rates = [e for e in self.record.estimates if e.quantity == quantity and tuple(e.of) == attributes]
        shown = threshold if threshold is not None else next((e.at.get("threshold") for e in rates), None)
        chosen = [e for e in rates if e.at.get("threshold") == shown]
        if not chosen:
            raise UsageError(f"There is no {quantity!r} for that axis and threshold in this audit.")
        return interval_plot(chosen)

    def plot_det(self, axis: str | None = None) -> Figure:
        """DET curves of the groups of an axis (default: the plan's first)."""
        from audit_toolkit.report.figures import curve

        attributes = tuple((axis or next(iter(self.plan.section.attributes))).split(" x "))
        curves = [s for s in self.series("curve", "det") if tuple(s.of) in (attributes, ())]
        if not curves:
            raise UsageError("There is no DET curve for that axis in this audit.")
        return curve(curves)

    def plot_matrix(self, axis: str | None = None, quantity: str = "fmr") -> Figure:
        """Heat map of a rate for every reference group and probe group of an axis."""
        from audit_toolkit.report.figures import matrix

        name = axis or next(iter(self.plan.section.attributes))
        for series in self.series("matrix", quantity):
            if series.of.get("axis") == name:
                return matrix(series)
        raise UsageError("There is no such matrix in this audit.")

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``record.json``, ``report.html``, ``run.json`` and ``plan.json`` into a folder; returns the report's path.

        The four files appear together, each whole, or none does. Paths in ``plan.json`` are relative to the folder it stands
        in, so that ``run`` can carry it out again; only a plan that was made for a data frame cannot be. Raises `InputError`
        where the folder cannot be written.
        """
        target = Path(folder)
        plan = moved(self.plan, self.folder, target)
        files = {
            "record.json": self.record.to_bytes(),
            "report.html": self.html(),
            "run.json": json.dumps(self.run, indent=2, sort_keys=True).encode() + b"\n",
            "plan.json": json.dumps(plan, indent=2, ensure_ascii=False).encode() + b"\n",
        }
        try:
            target.mkdir(parents=True, exist_ok=True)
            _write_together(target, files)
        except OSError as error:
            raise InputError(
                f"The folder for the report cannot be written ({error.strerror or 'write failed'}).",
                where=target.name,
                mend="Choose another folder.",
            ) from error
        return target / "report.html"

    def _repr_html_(self) -> str:
        """The whole report, in a frame of its own so that its style stays inside."""
        from html import escape

        page = escape(self.html().decode(), quote=True)
        return f'<iframe title="{escape(self.record.title)}" style="width:100%;height:42em;border:0" srcdoc="{page}"></iframe>'

    def __repr__(self) -> str:
        return self.text()


def _write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write every file under a passing name first, so that a full disk or an interrupt leaves none of them half-done."""
    parts = {folder / f".{name}.part": folder / name for name in files}
    blocked = next((path for path in parts.values() if path.is_dir()), None)
    if blocked is not None:
        raise IsADirectoryError(errno.EISDIR, f"{blocked.name} is a folder there")
    try:
        for part, path in parts.items():
            part.write_bytes(files[path.name])
        for part, path in parts.items():
            os.replace(part, path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def run(
    plan: str | os.PathLike[str] | Mapping[str, Any] | AnyPlan, *, folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None, journal: str | os.PathLike[str] | None = None,
) -> Audit:  # fmt: skip
    """Run a plan: a TOML or JSON file, a mapping, or a `Plan`. Paths in it are relative to its folder (or ``folder``).

    ``journal``: a file in which a pass over all pairs of templates writes down how far it came; the same call goes on from
    there. Raises `PlanError` for a plan that cannot be carried out and `InputError` for data that cannot be read.
    """
    base = Path.cwd() if folder is None else Path(folder)
    if isinstance(plan, str | os.PathLike):
        path = Path(plan)
        base = path.absolute().parent if folder is None else base
        made = load_plan(path)
    elif isinstance(plan, Plan | SearchPlan):
        made = plan
    else:
        made = make_plan(dict(plan))
    return _finish(made, base, None, None, progress, None if journal is None else Path(journal))


def _finish(
    plan: AnyPlan, folder: Path, frame: Any, subjects: Any, progress: Progress | None, journal: Path | None = None
) -> Audit:
    outcome = run_plan(plan, folder=folder, frame=frame, subjects=subjects, progress=progress, journal=journal)
    return Audit(outcome.record, outcome.run, plan, outcome.exit_code, folder)


def disparity_plan(
    scores: str,
    *,
    groups: Groups,
    intersections: Sequence[Sequence[str]] = (),
    threshold: float | Sequence[float] | None = None,
    fmr: float | Sequence[float] | None = None,
    eer: bool = False,
    subjects: str | None = None,
    subject_id: str = "subject",
    title: str | None = None,
    evaluation_type: str = "not provided",
    label_source: str = "not provided",
    impostor_selection: str = "not provided",
    days_between_mated_captures: str = "not provided",
    requirements: Sequence[Mapping[str, Any]] = (),
    min_people: int = 5,
    level: float | None = None,
    threads: int = 0,
    **section: Any,
) -> Plan:
    """The plan that the command ``disparity`` and the function `disparity` both run.

    ``groups``: attribute names, found as ``reference_NAME`` and ``probe_NAME`` (or in the subject table as ``NAME``); or a
    mapping from name to (reference column, probe column), or to a column of the subject table. Without any threshold the
    equal error rate and an FMR of 1 in 1,000 are used. Further keywords are fields of the plan's disparity section.
    """
    if level is not None:
        if "uncertainty" in section:
            raise UsageError("Both `level` and `uncertainty` were given.", mend="Put the level into `uncertainty`.")
        section["uncertainty"] = {"level": level}
    if "thresholds" in section and (threshold is not None or fmr is not None or eer):
        raise UsageError(
            "Both `thresholds` and one of `threshold`, `fmr`, `eer` were given.",
            mend="Put all of them into `thresholds`.",
        )
    thresholds: list[dict[str, Any]] = [{"policy": "vendor", "value": float(v)} for v in _many(threshold)]
    thresholds += [{"policy": "fmr", "target": float(v)} for v in _many(fmr)]
    if eer or not thresholds:
        thresholds.append({"policy": "eer"})
    if threshold is None and fmr is None and not eer:
        thresholds.append({"policy": "fmr", "target": 1e-3})
    body: dict[str, Any] = {
        "scores": scores,
        "evaluation_type": evaluation_type,
        "label_source": label_source,
        "impostor_selection": impostor_selection,
        "days_between_mated_captures": days_between_mated_captures,
        "attributes": _attributes(groups, joined=subjects is not None),
        "intersections": [list(i) for i in intersections],
        "thresholds": thresholds,
        **section,
    }
    if subjects is not None:
        body["subjects"] = {"path": subjects, "id": subject_id}
    whole: dict[str, Any] = {
        "disparity": body,
        "requirements": [dict(r) for r in requirements],
        "disclosure": {"min_people": min_people},
        "execution": {"threads": threads},
    }
    if title is not None:
        whole["title"] = title
    made = make_plan(whole)
    assert isinstance(made, Plan)  # noqa: S101 - the mapping has a disparity section
    return made


def _many(value: float | Sequence[float] | None) -> list[float]:
    if value is None:
        return []
    return [value] if isinstance(value, int | float) else list(value)


def _attributes(groups: Groups, *, joined: bool) -> dict[str, dict[str, str]]:
    if isinstance(groups, str):
        raise UsageError("`groups` is one string.", mend='Give a list of names, for example ["gender"].')
    if isinstance(groups, Mapping):
        return {str(name): _columns_of(str(name), where) for name, where in groups.items()}
    if joined:
        return {name: {"column": name} for name in groups}
    return {name: {"reference_column": f"reference_{name}", "probe_column": f"probe_{name}"} for name in groups}


def _columns_of(name: str, where: str | tuple[str, str]) -> dict[str, str]:
    if isinstance(where, str):
        return {"column": where}
    if len(where) != 2:
        raise UsageError(
            f"The group {name!r} does not name two columns.",
            mend="Give (reference column, probe column), or one column of the subject table.",
        )
    return {"reference_column": where[0], "probe_column": where[1]}


def disparity(
    scores: Any, *, groups: Groups, subjects: Any = None, progress: Progress | None = None, **options: Any
) -> Audit:
    """Measure how false match and false non-match rates differ between groups, with intervals that respect shared people.

    ``scores``: a path, or a pandas, Polars or Arrow frame in the shape of the canonical comparison table (columns
    ``reference_subject, probe_subject, score`` and two columns per attribute; see `audit_toolkit.sources.table`; other names
    through ``columns={"score": "similarity", ...}``). ``subjects``: a path or frame with one row a person, to join labels
    from. Options are those of `disparity_plan`. Raises `PlanError` or `InputError`, each with how to mend it.
    """
    from_file = isinstance(scores, str | os.PathLike)
    options.setdefault("title", None)
    table = None if subjects is None or isinstance(subjects, str | os.PathLike) else subjects
    plan = disparity_plan(
        os.fspath(scores) if from_file else FRAME,
        groups=groups,
        subjects=None if subjects is None else FRAME if table is not None else os.fspath(subjects),
        **options,
    )
    return _finish(plan, Path.cwd(), None if from_file else scores, table, progress)


def demo_plan() -> Plan:
    """The plan of the demonstration: a real, openly licensed matcher on the Face Research Lab London Set."""
    raw = resources.files("audit_toolkit.examples") / "london.toml"
    with resources.as_file(raw) as path:
        made = load_plan(path)
    assert isinstance(made, Plan)  # noqa: S101 - our own file
    return made


def demo(progress: Progress | None = None) -> Audit:
    """Audit the demonstration's score table; groups are small on purpose, so that it shows what cannot be concluded."""
    with resources.as_file(resources.files("audit_toolkit.examples")) as folder:
        return _finish(demo_plan(), folder, None, None, progress)


def watchlist(
    *, groups: Groups, frames: Mapping[str, Any] | None = None, progress: Progress | None = None, **options: Any
) -> Audit:
    """Measure searches in a gallery by group of the person searched for: FPIR, FNIR, CMC, alert burden.

    Inputs are paths in ``options`` (``gallery`` and ``probes``; ``candidates``, ``searches``, ``enrolled``; ``alerts``,
    ``passers_by``), or data frames in ``frames`` under the names of tables (all but ``gallery`` and ``probes``). Options are
    those of `watchlist_plan`.
    """
    given = dict(frames or {})
    plan = watchlist_plan(groups=groups, **{**dict.fromkeys((k for k in given if k != "subjects"), FRAME), **options})
    return _finish(plan, Path.cwd(), given, None, progress)


def watchlist_plan(
    *,
    groups: Groups,
    thresholds: Sequence[Mapping[str, Any]] = (),
    threshold: float | Sequence[float] | None = None,
    fpir: float | Sequence[float] | None = None,
    subjects: str | None = None,
    subject_id: str = "subject",
    title: str = "Audit of identification by demographic group",
    evaluation_type: str = "not provided",
    label_source: str = "not provided",
    gallery_selection: str = "not provided",
    days_between_mated_captures: str = "not provided",
    requirements: Sequence[Mapping[str, Any]] = (),
    min_people: int = 5,
    threads: int = 0,
    **section: Any,
) -> SearchPlan:
    """The plan that the command ``watchlist`` and the function `watchlist` both run; keywords are fields of its section."""
    asked = [dict(t) for t in thresholds]
    asked += [{"policy": "vendor", "value": float(v)} for v in _many(threshold)]
    asked += [{"policy": "fpir", "target": float(v)} for v in _many(fpir)]
    body: dict[str, Any] = {
        "evaluation_type": evaluation_type,
        "label_source": label_source,
        "gallery_selection": gallery_selection,
        "days_between_mated_captures": days_between_mated_captures,
        "attributes": _attributes(groups, joined=True),
        "thresholds": asked,
        **section,
    }
    if subjects is not None:
        body["subjects"] = {"path": subjects, "id": subject_id}
    made = make_plan(
        {
            "title": title,
            "identification": body,
            "requirements": [dict(r) for r in requirements],
            "disclosure": {"min_people": min_people},
            "execution": {"threads": threads},
        }
    )
    assert isinstance(made, SearchPlan)  # noqa: S101 - the mapping has an identification section
    return made


__all__ = [
    "Audit",
    "AuditError",
    "demo",
    "demo_plan",
    "disparity",
    "disparity_plan",
    "run",
    "watchlist",
    "watchlist_plan",
]
