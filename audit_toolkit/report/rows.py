"""A record put in reading order: what stands beside what, before any format decides how it looks.

Promise: nothing of the record is dropped on the way (every estimate stands in exactly one table), order is the record's
own except for findings, which come worst first. This module knows no domain: it groups by what the values say of
themselves (quantity, axes, place).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from audit_toolkit.evidence.estimate import At, Estimate
from audit_toolkit.evidence.finding import Finding
from audit_toolkit.evidence.quantity import Quantity
from audit_toolkit.evidence.record import Record
from audit_toolkit.evidence.series import Series
from audit_toolkit.evidence.verdict import WORST_FIRST, Verdict
from audit_toolkit.report.text import NONE, counts_text, describe, label, split_place

Place = tuple[tuple[str, At], ...]
_PER_ROW = ("against", "errors", "errors_against")
"""Keys of ``at`` that differ from row to row of one table and therefore stand in a column, not in a heading."""


@dataclass(frozen=True, slots=True)
class Block:
    """Estimates that share axes and place: one table body; of one quantity, also one interval plot.

    ``quantity`` is empty where a block holds several summary measures of the same place.
    """

    quantity: str
    axes: tuple[str, ...]
    at: dict[str, At]
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Estimates block by block, and which columns they need.

    One quantity over groups (``measures`` false, a row a group), or many summary measures (``measures`` true, a row a measure).
    """

    name: str
    blocks: tuple[Block, ...]
    measures: bool = False

    @property
    def rows(self) -> int:
        """How many estimates the table lists."""
        return sum(len(block.estimates) for block in self.blocks)

    def _any(self, field: str) -> bool:
        return any(getattr(e, field) for block in self.blocks for e in block.estimates)

    @property
    def has_counts(self) -> bool:
        """Whether any estimate carries counts."""
        return any(counts_text(e) != NONE for block in self.blocks for e in block.estimates)

    @property
    def has_against(self) -> bool:
        """Whether groups are held against another group here."""
        return any("against" in e.at for block in self.blocks for e in block.estimates)

    @property
    def has_interval(self) -> bool:
        """Whether any estimate carries an interval of its own."""
        return self._any("interval")

    @property
    def has_simultaneous(self) -> bool:
        """Whether any estimate carries an interval that holds for its whole family."""
        return self._any("simultaneous")

    @property
    def has_support(self) -> bool:
        """Whether any estimate says how many people stand behind it."""
        return self._any("support")

    @property
    def has_chance(self) -> bool:
        """Whether any estimate says what chance alone would give."""
        return self._any("chance")

    @property
    def has_notes(self) -> bool:
        """Whether any estimate carries a note."""
        return self._any("notes")

    def level(self, field: str) -> float | None:
        """The level that all intervals of that kind share, or ``None`` where they differ."""
        found = (getattr(e, field) for block in self.blocks for e in block.estimates)
        levels = {interval.level for interval in found if interval is not None}
        return levels.pop() if len(levels) == 1 else None

    @property
    def undefined(self) -> int:
        """How many of the estimates have no value."""
        return sum(e.value is None for block in self.blocks for e in block.estimates)


def _place(at: dict[str, At]) -> Place:
    return tuple(sorted((k, v) for k, v in at.items() if k not in _PER_ROW))


def blocks(estimates: Iterable[Estimate]) -> tuple[Block, ...]:
    """The estimates in blocks of equal quantity, axes and place, in order of first appearance."""
    found: dict[tuple[str, Place, tuple[str, ...]], list[Estimate]] = {}
    for e in estimates:
        found.setdefault((e.quantity, _place(e.at), tuple(e.of)), []).append(e)
    return tuple(
        Block(quantity, axes, dict(place), tuple(members)) for (quantity, place, axes), members in found.items()
    )


def tables(estimates: Iterable[Estimate]) -> tuple[Table, ...]:
    """Every estimate in exactly one table: one a quantity that is measured per group, one for the summary measures of an axis."""
    everything = tuple(estimates)
    grouped = {e.quantity for e in everything if e.of}
    found: dict[str, list[Block]] = {}
    for block in blocks(e for e in everything if e.quantity in grouped):
        found.setdefault(block.quantity, []).append(block)
    out = [Table(describe(quantity).name, tuple(members)) for quantity, members in found.items()]
    summaries: dict[str, dict[Place, list[Estimate]]] = {}
    for e in everything:
        if e.quantity not in grouped:
            place = tuple(split_place(e.at)[0].items())
            summaries.setdefault(str(e.at.get("axis", "")), {}).setdefault(place, []).append(e)
    for axis, places in summaries.items():
        bodies = tuple(
            Block("", (), dict(place), tuple(sorted(members, key=_first_seen(members))))
            for place, members in places.items()
        )
        name = "summary measures and tests" if axis else "further estimates of everybody"
        out.append(Table(f"{name}, {label(axis)}" if axis else name, bodies, measures=True))
    return tuple(out)


def _first_seen(members: list[Estimate]) -> Callable[[Estimate], int]:
    """A sort key that brings the variants of one measure together without changing the order of the measures."""
    rank: dict[str, int] = {}
    for e in members:
        rank.setdefault(e.quantity, len(rank))
    return lambda e: rank[e.quantity]


def panels(estimates: Iterable[Estimate]) -> dict[str, tuple[Block, ...]]:
    """The blocks worth drawing, by quantity: two groups or more with a value and an interval (or one against another).

    The estimate of everybody at the same place, where there is one, comes first in each panel.
    """
    everything = blocks(estimates)
    overall = {(b.quantity, _place(b.at)): b.estimates for b in everything if not b.axes}
    drawn: dict[str, list[Block]] = {}
    for block in everything:
        drawable = [e for e in block.estimates if e.value is not None and e.decisive is not None]
        if not block.axes or len(drawable) < (1 if drawable and "against" in drawable[0].at else 2):
            continue
        lead = overall.get((block.quantity, _place(block.at)), ())
        whole = Block(block.quantity, block.axes, block.at, (*lead[:1], *block.estimates))
        drawn.setdefault(block.quantity, []).append(whole)
    return {quantity: tuple(members) for quantity, members in drawn.items()}


def without_repeats(panels: dict[str, tuple[Block, ...]]) -> dict[str, tuple[Block, ...]]:
    """The panels without those whose every value stands already in an earlier one of the same groups and threshold.

    So a rate that counts failures is not drawn a second time where there were none, nor a rate at every rank where ranks make
    no difference.
    """
    seen: set[object] = set()
    kept: dict[str, list[Block]] = {}
    for quantity, members in panels.items():
        for block in members:
            values = (
                (tuple(e.of.items()), None if e.value is None else f"{e.value:.12g}") for e in block.estimates if e.of
            )
            key = (block.at.get("threshold"), tuple(values))
            if key not in seen:
                seen.add(key)
                kept.setdefault(quantity, []).append(block)
    return {quantity: tuple(members) for quantity, members in kept.items()}


def together(series: Iterable[Series], kind: str, *, apart: tuple[str, ...] = ()) -> tuple[tuple[Series, ...], ...]:
    """Series of one kind that belong into one drawing: same quantity, axes and place.

    ``apart`` names keys of ``at`` that may differ within one drawing (the two classes of a score histogram).
    """
    found: dict[tuple[str, Place, tuple[str, ...]], list[Series]] = {}
    for s in series:
        if s.kind == kind:
            place = tuple(sorted((k, v) for k, v in s.at.items() if k not in apart))
            found.setdefault((s.quantity, place, tuple(s.of)), []).append(s)
    return tuple(tuple(members) for members in found.values())


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, violated ones first; those that only state a measurement come last, in the record's order."""
    rank: dict[Verdict | None, int] = {verdict: i for i, verdict in enumerate(WORST_FIRST)}
    return tuple(sorted(findings, key=lambda f: rank.get(f.verdict, len(rank))))


def verdict_counts(findings: Iterable[Finding]) -> dict[Verdict, int]:
    """How many findings ended in each of the five verdicts, worst first; findings without a verdict do not count."""
    counts = dict.fromkeys(WORST_FIRST, 0)
    for finding in findings:
        if finding.verdict is not None:
            counts[finding.verdict] += 1
    return counts


def glossary(record: Record) -> tuple[Quantity, ...]:
    """The glossary entries of every quantity that occurs in the record, in order of first appearance."""
    seen: dict[str, None] = {}
    for finding in record.findings:
        for e in finding.estimates:
            seen.setdefault(e.quantity)
    for e in record.estimates:
        seen.setdefault(e.quantity)
    for s in record.series:
        seen.setdefault(s.quantity)
    entries = (describe(quantity) for quantity in seen)
    return tuple(entry for entry in entries if entry.definition)
