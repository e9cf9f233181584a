"""``audit-toolkit run PLAN.toml --out DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from audit_toolkit.cli.show import check_out, finish, out_option, progress


@click.command("run")
@click.argument("plan", type=click.Path(path_type=Path))
@out_option
def command(plan: Path, out: Path, quiet: bool) -> int:
    """Carry out PLAN (a TOML file, or the plan.json of an earlier run) and write its report.

    Paths in the plan are relative to the plan's own folder.
    """
    from audit_toolkit import api

    check_out(out)
    with progress(quiet) as report:
        audit = api.run(plan, progress=report)
    return finish(audit, out, quiet)
