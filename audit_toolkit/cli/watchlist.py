"""``audit-toolkit watchlist --gallery G --probes P --group gender --threshold T --out DIR``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from audit_toolkit.cli.show import check_out, finish, out_option, progress
from audit_toolkit.errors import UsageError

_FILES = ("gallery", "probes", "candidates", "searches", "enrolled", "alerts", "passers_by")


def _file(name: str, text: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    return click.option(f"--{name.replace('_', '-')}", name, type=click.Path(path_type=Path), help=text)


@click.command("watchlist")
@_file("gallery", "Templates of the people enrolled.")
@_file("probes", "Templates of the people searched for.")
@_file("candidates", "Candidate lists that a system returned, instead of templates.")
@_file("searches", "With --candidates: every search made, also those that returned nobody.")
@_file("enrolled", "With --candidates: everybody in the gallery.")
@_file("alerts", "The alert log of a system in use, instead of templates or lists.")
@_file("passers_by", "With --alerts: people counted, per group.")
@click.option("--group", "groups", multiple=True, required=True, metavar="[NAME=]COLUMN", help="Column with the group.")
@click.option("--subjects", type=click.Path(path_type=Path), help="Table of people to join the groups from.")
@click.option("--subject-id", default="subject", show_default=True, help="Column of that table that names the person.")
@click.option("--threshold", "thresholds", multiple=True, type=float, help="The vendor's threshold. May be repeated.")
@click.option("--fpir", "targets", multiple=True, type=float, help="Lowest threshold with overall FPIR at most this.")
@click.option("--prevalence", "prevalences", multiple=True, type=float, help="Share of passers-by who are enrolled.")
@click.option("--metric", type=click.Choice(["cosine", "inner", "l2"]), default="cosine", show_default=True,
              help="How templates are compared.")  # fmt: skip
@click.option("--higher-is", type=click.Choice(["same", "different"]), default="same", show_default=True,
              help="With --candidates: what a higher score means; 'different' for distances.")  # fmt: skip
@click.option("--intersection", "intersections", multiple=True, metavar="A,B", help="Also compare A x B.")
@click.option("--level", default=0.95, show_default=True, help="Level of the intervals.")
@click.option("--searches-complete", is_flag=True, help="The candidate lists leave no search out.")
@click.option("--title", default="Audit of identification by demographic group", help="Title of the report.")
@click.option("--evaluation-type", default="not provided", help="Kind of evaluation.",
              type=click.Choice(["technology", "scenario", "operational", "not provided"]))  # fmt: skip
@click.option("--label-source", default="not provided", help="Where the group labels come from.")
@click.option("--gallery-selection", default="not provided", help="How the gallery was chosen.")
@click.option("--days", default="not provided", help="Days between enrolment and mated probes.")
@click.option("--min-people", default=5, show_default=True, help="Smaller groups are withheld.")
@click.option("--threads", default=0, help="0 = all that are available.")
@out_option
def command(out: Path, quiet: bool, **options: Any) -> int:
    """Measure searches in a gallery by group: who is missed, who is stopped wrongly, and what that means for passers-by."""
    from audit_toolkit import api

    check_out(out)
    beside = options["subjects"] is None and options["gallery"] is not None
    groups: dict[str, str | tuple[str, str]] = {}
    for text in options["groups"]:
        name, sign, column = text.rpartition("=")
        if (sign and not (name and column)) or (name or column) in groups:
            raise UsageError("--group takes NAME=COLUMN or COLUMN, each name once.", mend="For example --group sex.")
        # beside the vectors a label of NAME is called group.NAME, unless another column is named
        groups[name or column] = column if name or not beside else f"group.{column}"
    files = {name: os.fspath(options[name]) for name in _FILES if options[name] is not None}
    more: dict[str, Any] = {"prevalences": list(options["prevalences"])} if options["prevalences"] else {}
    subjects = options["subjects"]
    plan = api.watchlist_plan(
        groups=groups,
        threshold=options["thresholds"] or None,
        fpir=options["targets"] or None,
        subjects=None if subjects is None else os.fspath(subjects),
        subject_id=options["subject_id"],
        title=options["title"],
        evaluation_type=options["evaluation_type"],
        label_source=options["label_source"],
        gallery_selection=options["gallery_selection"],
        days_between_mated_captures=options["days"],
        min_people=options["min_people"],
        threads=options["threads"],
        metric=options["metric"],
        higher_is="different" if options["gallery"] is not None and options["metric"] == "l2" else options["higher_is"],
        intersections=[[n.strip() for n in i.split(",")] for i in options["intersections"]],
        uncertainty={"level": options["level"]},
        searches_complete=options["searches_complete"],
        **files,
        **more,
    )
    with progress(quiet) as report:
        audit = api.run(plan, progress=report)
    return finish(audit, out, quiet)
