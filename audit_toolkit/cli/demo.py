"""``audit-toolkit demo --out DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from audit_toolkit.cli.show import check_out, finish, out_option, progress


@click.command("demo")
@out_option
def command(out: Path, quiet: bool) -> int:
    """Audit a real, openly licensed face matcher on 102 people, and write the report.

    The groups are small on purpose: the report says what can and what cannot be concluded.
    """
    from audit_toolkit import api

    check_out(out)
    with progress(quiet) as report:
        audit = api.demo(progress=report)
    return finish(audit, out, quiet)
