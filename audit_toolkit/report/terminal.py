"""A record as a page of text for a terminal: verdicts first, findings worst first, rates per group, what was left out.

Promise: everything is understood without colour, nothing is wider than asked, and no label can steer the terminal.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from audit_toolkit.evidence import words
from audit_toolkit.evidence.estimate import Estimate
from audit_toolkit.evidence.record import Record, read_record
from audit_toolkit.evidence.verdict import Verdict
from audit_toolkit.report import rows, text

if TYPE_CHECKING:
    from rich.console import Console

_STYLES: dict[Verdict | None, str] = {
    "violated": "bold red",
    "inconclusive": "bold yellow",
    "not_assessed": "bold",
    "satisfied": "bold green",
    "not_applicable": "dim",
    None: "bold",
}
_MOST_TABLES = 8


def render_text(record: Record, *, width: int = 80, color: bool = False) -> str:
    """The record's summary as text, at most ``width`` columns wide (40 at least), ending in a newline.

    ``color`` adds ANSI colours; without it the text holds no escape sequence at all.
    """
    from rich.console import Console

    record = read_record(record.to_bytes())  # a view of record.json, whatever order its mappings were built in
    out = io.StringIO()
    console = Console(
        file=out,
        width=max(width, 40),
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        force_jupyter=False,  # inside a notebook rich would show every line there instead of writing it to `out`
        _environ={},
    )
    _head(console, record)
    _findings(console, record)
    _rates(console, record)
    _data(console, record)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().rstrip().splitlines())


def _head(console: Console, record: Record) -> None:
    from rich.text import Text

    console.print(Text(text.label(record.title), style="bold"))
    console.print(Text("═" * min(console.width, len(text.label(record.title)))))
    if record.status != "complete":
        console.print(Text("This record is partial: the audit did not run to its end."))
    counts = rows.verdict_counts(record.findings)
    if not sum(counts.values()):
        console.print(Text("Nothing was required in the plan, so there are no verdicts; this is what was measured."))
        return
    strip = Text()
    for k, (verdict, count) in enumerate(counts.items()):
        if k:
            strip.append(" · ")
        strip.append(f"{count} {text.VERDICT_WORDS[verdict].lower()}", style=_STYLES[verdict] if count else "dim")
    console.print(strip)


def _findings(console: Console, record: Record) -> None:
    from rich.padding import Padding
    from rich.text import Text

    _title(console, "Findings, worst first")
    if not record.findings:
        console.print(Text("The record holds no findings."))
    for k, finding in enumerate(rows.worst_first(record.findings)):
        if k:
            console.print()
        word = text.VERDICT_WORDS[finding.verdict].upper() if finding.verdict else "MEASURED"
        line = Text(f"[{word}] ", style=_STYLES[finding.verdict])
        line.append(Text(text.label(finding.claim), style="not bold"))
        console.print(line)
        if finding.requirement is not None:
            required = f"Required: {text.requirement_text(finding.requirement)}"
            console.print(Padding(Text(text.clean(required)), (0, 0, 0, 2)))
        if finding.reason:
            console.print(Padding(Text(f"Why: {text.label(finding.reason)}"), (0, 0, 0, 2)))
        for limit in finding.limits:
            console.print(Padding(Text(f"Limit: {text.label(limit)}"), (0, 0, 0, 2)))


def _rates(console: Console, record: Record) -> None:
    """A table for each rate per group at its first threshold; beyond a handful the report is the better place."""
    from rich.table import Table
    from rich.text import Text

    panels = list(rows.panels(record.estimates).values())
    rates = [members for members in panels if text.describe(members[0].quantity).unit == "rate"]
    shown = [block for members in rates for block in members if block.at == members[0].at][:_MOST_TABLES]
    for block in shown:
        place = text.at_text(block.at)
        name = text.heading(text.describe(block.quantity).name)
        _title(console, f"{name} by {text.axes_text(block.axes)}" + (f", {place}" if place else ""))
        counted = any(text.counts_text(e) != text.NONE for e in block.estimates)
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False, header_style="dim")
        table.add_column("group", overflow="fold", ratio=1, min_width=12)
        table.add_column("value", justify="right", no_wrap=True)
        levels = {i.level for e in block.estimates if (i := e.interval or e.simultaneous) is not None}
        level = levels.pop() if len(levels) == 1 else None
        table.add_column("interval" + ("" if level is None else f" ({text.percent(level)})"), overflow="fold")
        if counted:
            table.add_column("counts", justify="right", overflow="fold")
        for e in block.estimates:
            group = text.group_text(e.of)
            if "against" in e.at:
                group += f" to {text.label(str(e.at['against']))}"
            cells = [group, *_value(e, with_level=level is None)]
            table.add_row(*(Text(c) for c in ([*cells, text.counts_text(e)] if counted else cells)))
        console.print(table)
    more = sum(len(members) for members in panels) - len(shown)
    if more:
        console.print()
        console.print(Text(f"{more} more {'table stands' if more == 1 else 'tables stand'} in report.html."))


def _value(estimate: Estimate, *, with_level: bool) -> tuple[str, str]:
    if estimate.value is None:
        return text.NONE, f"no value: {text.label(estimate.undefined or 'undefined')}"
    interval = estimate.interval or estimate.simultaneous
    level = "" if interval is None or not with_level else f" ({text.percent(interval.level)})"
    return words.number(estimate.value), words.bounds(interval) + level


def _data(console: Console, record: Record) -> None:
    from rich.text import Text

    _title(console, "Data")
    for source in record.inputs:
        used = f"{words.number(source.rows_used)} of {words.number(source.rows_read)} rows used"
        console.print(Text(f"{text.label(source.name)}: {used}"))
        for x in source.exclusions:
            remark = "kept, with this remark" if x.used else "left out"
            console.print(Text(f"  {words.number(x.count)} {remark}: {text.label(x.reason)}"))
        for warning in source.warnings:
            console.print(Text(f"  Warning: {text.label(warning)}"))
    for statement in record.statements:
        console.print(
            Text(f"{text.heading(text.label(statement.name))}: {text.label(statement.text) or 'not provided'}")
        )
    for limit in record.limits:
        console.print(Text(f"Limit: {text.label(limit)}"))
    console.print(Text(f"Plan digest: {text.label(record.plan_digest)[:16]}…  (whole in record.json)"))


def _title(console: Console, line: str) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(line, style="bold"))
    console.print(Text("─" * min(console.width, len(line)), style="dim"))
