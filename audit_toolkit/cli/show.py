"""What every command that audits has in common: a progress display, and telling where the report is."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_toolkit.errors import UsageError

if TYPE_CHECKING:
    from audit_toolkit.api import Audit

Report = Callable[[str, int, int | None], None]


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be written before hours of work, not after; nothing is made or changed here."""
    nearest = next(p for p in (out.absolute(), *out.absolute().parents) if os.path.lexists(p))
    if not nearest.is_dir():
        raise UsageError("--out leads through something that is not a folder.", where=nearest.name, mend=_OTHER)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError("--out leads to a folder that cannot be written.", where=nearest.name, mend=_OTHER)


_OTHER = "Choose another folder."


@contextmanager
def progress(quiet: bool) -> Iterator[Report | None]:
    """A bar on stderr for anything over a second; off when stderr is not a terminal or the user wants quiet."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} {task.fields[unit]}, {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, int] = {}
    began: dict[str, tuple[float, int]] = {}
    started = time.monotonic()
    shown = False

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal shown
        if not shown:
            if time.monotonic() - started < 1.0:
                return
            bar.start()
            shown = True
        if stage not in tasks:
            unit = "pairs" if "pairs" in stage else "rows"
            tasks[stage] = bar.add_task(stage, total=total, unit=unit, rate="")
            began[stage] = (time.monotonic(), done)
        at, first = began[stage]
        speed = (done - first) / max(time.monotonic() - at, 1e-3)
        bar.update(tasks[stage], completed=done, total=total, rate=f"{speed:,.0f}/s")  # type: ignore[arg-type]

    try:
        yield report
    finally:
        if shown:
            bar.stop()


def finish(audit: Audit, out: Path, quiet: bool) -> int:
    """Save the audit, print its summary and where the report is; returns the exit code."""
    report = audit.save(out)
    if not quiet:
        width = min(shutil.get_terminal_size((80, 24)).columns, 110)
        click.echo(audit.text(width=width, color=sys.stdout.isatty()))
    click.echo(f"Report: {report.resolve()}")
    return audit.exit_code


def out_option(function: Callable[..., int]) -> Callable[..., int]:
    """``--out DIR`` and ``--quiet``."""
    function = click.option("--quiet", is_flag=True, help="Print only where the report is.")(function)
    return click.option(
        "--out",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for record.json, report.html, run.json and plan.json.",
    )(function)
