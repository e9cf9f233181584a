"""``audit-toolkit explain REQUIREMENT|QUANTITY``."""

from __future__ import annotations

import click

from audit_toolkit.errors import UsageError
from audit_toolkit.evidence.quantities import ALL
from audit_toolkit.evidence.quantity import Quantity
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.evidence.words import number
from audit_toolkit.plan.catalogue import catalogue


@click.command("explain")
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """Say in plain words what a QUANTITY is or what a REQUIREMENT asks for; without a name, list both."""
    known = catalogue()
    if name is None:
        click.echo("Quantities:")
        click.echo("\n".join(f"  {q.id:<26} {q.name}" for q in ALL.values()))
        click.echo("Requirements:")
        click.echo("\n".join(f"  {r.id:<26} {r.title}" for r in known.values()))
        return 0
    if name in known:
        click.echo(_requirement(known[name]))
    elif name in ALL:
        click.echo(_quantity(ALL[name]))
    else:
        near = [k for k in (*ALL, *known) if name.lower() in k.lower()]
        raise UsageError(
            "There is no quantity and no requirement of that name.",
            mend=f"Near: {', '.join(near)}." if near else "Call `audit-toolkit explain` for the list.",
        )
    return 0


def _quantity(entry: Quantity) -> str:
    rows = [
        ("", f"{entry.name}  [{entry.unit}]"),
        ("What it is", entry.definition),
        ("Numerator", entry.numerator),
        ("Denominator", entry.denominator),
        ("Without any difference", "" if entry.ideal is None else number(entry.ideal)),
        ("Source", entry.source),
        ("What it does not show", entry.limits),
    ]
    return "\n".join(click.wrap_text(f"{k}: {v}" if k else v, 78, "", "    ") for k, v in rows if v)


def _requirement(entry: Requirement) -> str:
    source = entry.source
    comparator = "at most" if entry.comparator == "<=" else "at least"
    rows = [
        ("", f"{entry.title}  [requirement]"),
        ("Requires", f"{ALL[entry.quantity].name} {comparator} {number(entry.limit)}"),
        ("Of", ", ".join(f"{k} {v}" for k, v in entry.of.items()) or "everybody"),
        ("Source", f"{source.title}, {source.clause} (text read: {source.read})"),
        ("Why", entry.rationale),
        ("Satisfied", "only if the whole interval keeps the limit; violated only if it lies wholly beyond it"),
    ]
    return "\n".join(click.wrap_text(f"{k}: {v}" if k else v, 78, "", "    ") for k, v in rows if v)
