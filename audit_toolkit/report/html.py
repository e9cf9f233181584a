"""A record as one web page that needs nothing else: no scripts, no fonts, no requests; it prints and reads on a telephone.

Promise: a pure function of the record (the same record gives the same bytes under the same version of matplotlib), every
text escaped, findings before tables, every estimate listed, and no value shown where the record holds none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audit_toolkit.errors import UsageError
from audit_toolkit.evidence import words
from audit_toolkit.evidence.estimate import Estimate, Interval
from audit_toolkit.evidence.finding import Finding
from audit_toolkit.evidence.record import Record, read_record
from audit_toolkit.evidence.series import Series
from audit_toolkit.report import figures, rows, svg, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = {"en": "report.en.html"}
"""Language -> template; a language is added by adding a template."""

_CURVES_PER_FIGURE = 8
_MOST_OPEN = 8
"""With more findings than this, requirement and method of each fold away under its claim (and unfold in print)."""
_RULES = {
    "min_subjects": "Fewest people for a verdict",
    "min_errors": "Fewest errors for a verdict on a ratio",
    "min_people": "Fewest people for a group to be shown at all",
}
Facts = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One numbered figure of the page."""

    id: str
    number: int
    title: str
    note: str
    svg: Markup
    width: int
    heat: bool = False

    @property
    def wide(self) -> bool:
        """Whether it is too wide to shrink to a telephone and scrolls in its own frame instead."""
        return self.width > 400


@dataclass(frozen=True, slots=True)
class Section:
    """Figures under one heading."""

    title: str
    grids: tuple[tuple[Drawing, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One finding with its figure and the facts beside it."""

    finding: Finding
    figure: Drawing | None
    evidence: Facts
    basis: Facts


def render_html(record: Record, *, language: str = "en") -> bytes:
    """The record as a self-contained HTML page, UTF-8.

    Raises `UsageError` for a language without a template.
    """
    if language not in TEMPLATES:
        raise UsageError(
            f"There is no report in the language {language!r}.",
            mend=f"Known: {', '.join(sorted(TEMPLATES))}.",
        )
    record = read_record(record.to_bytes())  # a view of record.json, whatever order its mappings were built in
    draw = _Counter()
    findings = tuple(_view(f, draw) for f in rows.worst_first(record.findings))
    counts = rows.verdict_counts(record.findings)
    page = (
        _environment()
        .get_template(TEMPLATES[language])
        .render(
            record=record,
            subject=_subject(record),
            counts=counts,
            required=sum(counts.values()),
            verdict_words=text.VERDICT_WORDS,
            meanings=text.VERDICT_MEANINGS,
            statements=tuple((text.heading(s.name), s.text or "not provided") for s in record.statements),
            findings=findings,
            figures=_sections(record, draw),
            repeated=_repeated(record),
            tables=rows.tables(record.estimates),
            chance=any(e.chance for e in record.estimates),
            matrices=tuple(s for s in record.series if s.kind == "matrix"),
            support=_rules(record.plan),
            compact=len(findings) > _MOST_OPEN,
            methods=_methods(record),
            glossary=rows.glossary(record),
            digests=(
                ("Plan digest", _code(record.plan_digest)),
                ("Digest of record.json (SHA-256)", _code(record.digest())),
            ),
            plan=json.dumps(record.plan, indent=2, ensure_ascii=False, default=str),
        )
    )
    return page.encode() + b"\n"


class _Counter:
    """Numbers the figures of one page in reading order."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(
        self, figure: Figure, title: str, *, note: str = "", description: str = "", heat: bool = False
    ) -> Drawing:
        self.last += 1
        prefix = f"figure-{self.last}"
        drawn = svg.inline(
            figure,
            prefix=prefix,
            title=title,
            description=description or note or "The numbers stand in the tables.",
        )
        safe = Markup(drawn)  # noqa: S704 - serialised from a parsed tree, so every text in it is escaped
        return Drawing(prefix, self.last, title, note, safe, svg.width(figure), heat)


def _view(finding: Finding, draw: _Counter) -> View:
    requirement = finding.requirement
    figure = None
    if requirement is not None and any(e.value is not None for e in finding.estimates):
        drawn = figures.interval_plot(
            finding.estimates, requirement=requirement, ideal=text.describe(requirement.quantity).ideal
        )
        title = f"{text.heading(text.describe(requirement.quantity).name)} against the limit"
        figure = draw(drawn, title, description=_in_words(finding.estimates))
    basis: list[tuple[str, Any]] = []
    if requirement is not None:
        basis.append(("Required", f"{requirement.title} ({text.requirement_text(requirement)})"))
        basis.append(("Source of the requirement", text.source_text(requirement)))
        if requirement.rationale:
            basis.append(("Rationale", requirement.rationale))
    if finding.method is not None:
        m = finding.method
        basis.append(("Method", "; ".join(filter(None, (f"{m.name}, version {m.version}", m.reference)))))
        if m.assumptions:
            basis.append(("Takes for granted", "; ".join(m.assumptions)))
    return View(finding, figure, _evidence(finding), tuple(basis))


def _evidence(finding: Finding) -> Facts:
    """Counts and people behind a finding, one entry an estimate."""
    out = []
    for e in finding.estimates:
        parts = [words.number(e.value) if e.value is not None else f"no value: {e.undefined}"]
        if e.value is not None and e.decisive is not None:
            parts.append(f"{text.percent(e.decisive.level)} interval {words.bounds(e.decisive)}")
        if text.counts_text(e) != text.NONE:
            parts.append(text.counts_text(e))
        if text.people_text(e) != text.NONE:
            parts.append(f"{text.people_text(e)} people")
        out.append((f"{text.heading(text.short_name(e.quantity))}, {text.group_text(e.of)}", "; ".join(parts)))
    return tuple(out)


def _in_words(estimates: Iterable[Estimate]) -> str:
    """What a screen reader says of an interval plot: each value with its interval, or its reason for having none."""
    said = []
    for e in estimates:
        value = f"no value, {e.undefined}" if e.value is None else f"{words.number(e.value)}"
        bounds = "" if e.value is None or e.decisive is None else f", interval {words.bounds(e.decisive)}"
        said.append(f"{text.group_text(e.of)}: {value}{bounds}")
    return text.clean(". ".join(said) + ".")


def _sections(record: Record, draw: _Counter) -> tuple[Section, ...]:
    """All figures beyond the findings', quantities per group first, then curves, distributions, matrices, ladders."""
    drawn = rows.without_repeats(rows.panels(record.estimates))
    out = [
        Section(text.heading(text.describe(quantity).name), _by_place(blocks, draw))
        for quantity, blocks in drawn.items()
        if len(blocks) > 1
    ]
    single = [block for blocks in drawn.values() if len(blocks) == 1 for block in blocks]
    if single:
        out.append(Section("Further quantities by group", (tuple(_panel(b, draw) for b in single),)))
    for kind, heading, overlay in (
        ("curve", "Curves by group", figures.curve),
        ("histogram", "Score distributions by group", figures.histogram),
    ):
        drawings = []
        for members in rows.together(record.series, kind, apart=("class",) if kind == "histogram" else ()):
            for start in range(0, len(members), _CURVES_PER_FIGURE):
                part = members[start : start + _CURVES_PER_FIGURE]
                drawings.append(draw(overlay(part), _series_title(part[0]), note=_series_note(part)))
        if drawings:
            out.append(Section(heading, (tuple(drawings),)))
    steps = [draw(figures.ladder(s), _series_title(s), note="; ".join(s.notes)) for s in _of_kind(record, "ladder")]
    if steps:
        out.append(Section("Step by step", (tuple(steps),)))
    cells = [draw(figures.matrix(s), _series_title(s), heat=True) for s in _of_kind(record, "matrix")]
    if cells:
        narrow, wide = (tuple(d for d in cells if d.wide is w) for w in (False, True))
        grids = tuple(grid for grid in (narrow, *((d,) for d in wide)) if grid)
        out.append(Section("Between groups", grids, note=_MATRIX_NOTE))
    return tuple(out)


def _series_note(members: Iterable[Series]) -> str:
    """The notes of the series in one drawing, each once, and a word where there is nothing but zero to see."""
    every = tuple(members)
    notes = list(dict.fromkeys(note for s in every for note in s.notes))
    values = {y for s in every for y in s.y}
    return "; ".join([*notes, *(["every value is 0"] if values == {0.0} else [])])


def _of_kind(record: Record, kind: str) -> tuple[Series, ...]:
    return tuple(s for s in record.series if s.kind == kind and s.x)


def _repeated(record: Record) -> tuple[str, ...]:
    """Quantities of which a panel was left out because every value in it equals one that is drawn."""
    whole = rows.panels(record.estimates)
    kept = rows.without_repeats(whole)
    return tuple(text.describe(q).name for q, blocks in whole.items() if len(blocks) > len(kept.get(q, ())))


def _by_place(blocks: Iterable[rows.Block], draw: _Counter) -> tuple[tuple[Drawing, ...], ...]:
    """One quantity's panels, those of one threshold side by side."""
    places: dict[str, list[rows.Block]] = {}
    for block in blocks:
        places.setdefault(text.at_text(block.at), []).append(block)
    return tuple(tuple(_panel(b, draw) for b in members) for members in places.values())


def _panel(block: rows.Block, draw: _Counter) -> Drawing:
    quantity = text.describe(block.quantity)
    title = f"{text.heading(text.short_name(block.quantity))} by {text.axes_text(block.axes)}"
    figure = figures.interval_plot(block.estimates, ideal=quantity.ideal)
    note = text.heading(text.at_text(block.at))
    return draw(figure, title, note=note, description=_in_words(block.estimates))


_MATRIX_NOTE = (
    "Each cell: the rate, and errors over comparisons below it (k = thousand; exact counts stand in the tables). Darker is "
    "larger, on a logarithmic scale. A dash: no value."
)


def _series_title(series: Series) -> str:
    name = text.describe(series.quantity).name
    name = "DET (error trade-off)" if series.quantity == "det" else name
    axis = str(series.of.get("axis", "")) if series.kind == "matrix" else text.axes_text(tuple(series.of))
    place = text.at_text(series.at, without=("class", "axis"))
    return text.heading(name) + (f" by {text.label(axis)}" if axis else "") + (f", {place}" if place else "")


def _series_place(series: Series) -> str:
    """Of which axis and where a matrix was taken."""
    return ", ".join(filter(None, (text.label(series.of.get("axis", "")), text.at_text(series.at))))


def _cells(series: Series) -> list[dict[str, str]]:
    """A matrix as rows of a table: row, column, value, counts, interval; nothing but a dash where there is no value."""
    out = []
    for k, value in enumerate(series.y):
        i, j = divmod(k, len(series.x))
        counts = interval = text.NONE
        if value is not None and series.denominators:
            counts = text.ratio_text(series.numerators[k] if series.numerators else None, series.denominators[k])
        if value is not None and (series.low or series.high):
            low = series.low[k] if series.low else None
            high = series.high[k] if series.high else None
            interval = words.bounds(Interval(low=low, high=high, level=0.5, method=""))
        out.append(
            {
                "row": text.label(series.rows[i]),
                "column": text.label(str(series.x[j])),
                "value": "no value" if value is None else words.number(value),
                "counts": counts,
                "interval": interval,
            }
        )
    return out


def _subject(record: Record) -> Facts:
    """What was audited and by whom, as far as the plan says; what it does not say is not provided."""
    plan = record.plan
    system = _facts(plan.get("system"), "System") or (("System", "not provided"),)
    parties = _facts(plan.get("parties"), "Parties") or (("Parties", "not provided"),)
    return (*system, *parties, ("Toolkit", f"audit_toolkit {record.toolkit_version}"))


def _facts(value: Any, name: str) -> Facts:
    """A part of the plan as names and words; ``name`` stands for the whole, and for a key ``name`` within it."""
    if value is None or value == "" or value == {} or value == []:
        return ()
    if isinstance(value, Mapping):
        named = ((name if k == "name" else str(k), v) for k, v in value.items() if v not in (None, ""))
        return tuple((text.heading(text.label(k).replace("_", " ")), _plain(v)) for k, v in named)
    return ((name, _plain(value)),)


def _rules(plan: Mapping[str, Any]) -> Facts:
    """The plan's rules on support and disclosure, wherever in the plan a section states them."""
    found: dict[str, Any] = {}
    for part in (plan, *(v for v in plan.values() if isinstance(v, Mapping))):
        for rules in (part.get("support"), part.get("disclosure")):
            if isinstance(rules, Mapping):
                found |= {_RULES[k]: _plain(v) for k, v in rules.items() if k in _RULES}
    return tuple(found.items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{text.label(str(k)).replace('_', ' ')}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text.place(value) if isinstance(value, (int, float, str)) else str(value)


def _methods(record: Record) -> tuple[str, ...]:
    """Every interval and chance method that occurs, once, in order of appearance."""
    seen: dict[str, None] = {}
    for e in record.estimates:
        for interval in (e.interval, e.simultaneous):
            if interval is not None and interval.method:
                seen.setdefault(interval.method)
        if e.chance is not None:
            seen.setdefault(f"what chance gives: {e.chance.method}")
    return tuple(seen)


def _code(value: str) -> Markup:
    return Markup("<code>{}</code>").format(text.clean(value))


def _finalize(value: Any) -> Any:
    return text.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "group": text.group_text,
        "axes": text.axes_text,
        "at": lambda at: text.at_text(at, without=("against",)),
        "bounds": words.bounds,
        "percent": text.percent,
        "value": text.value_text,
        "counts": text.counts_text,
        "people": text.people_text,
        "heading": text.heading,
        "name": lambda quantity: text.describe(quantity).name,
        "measure": lambda e: text.heading(text.measure_text(e)),
        "series_place": _series_place,
        "cells": _cells,
        "code": _code,
    }
    return environment
