"""``audit-toolkit disparity SCORES --group reference_group,probe_group --threshold T --out DIR``."""

from __future__ import annotations

import os
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from audit_toolkit.cli.show import check_out, finish, out_option, progress
from audit_toolkit.errors import UsageError


@click.command("disparity")
@click.argument("scores", required=False, type=click.Path(path_type=Path))
@click.option("--embeddings", type=click.Path(path_type=Path),
              help="A file of templates instead of SCORES (npz, npy, Parquet, HDF5): all pairs are compared.")  # fmt: skip
@click.option("--metric", type=click.Choice(["cosine", "inner", "l2"]), default="cosine", show_default=True,
              help="How templates are compared.")  # fmt: skip
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path),
              help="With --embeddings: go on from here after an interruption.")  # fmt: skip
@click.option("--group", "groups", multiple=True, required=True, metavar="[NAME=]REF,PROBE",
              help="Columns with the group of the reference and of the probe; or one column of the subject table. Repeat "
              "for several attributes.")  # fmt: skip
@click.option("--intersection", "intersections", multiple=True, metavar="A,B", help="Also compare A x B.")
@click.option("--threshold", "thresholds", multiple=True, type=float, help="The vendor's threshold. May be repeated.")
@click.option("--fmr", "targets", multiple=True, type=float, help="Lowest threshold with overall FMR at most this.")
@click.option("--eer", is_flag=True, help="Also at the equal error rate.")
@click.option("--subjects", type=click.Path(path_type=Path), help="Table of people to join the groups from.")
@click.option("--subject-id", default="subject", show_default=True, help="Column of that table that names the person.")
@click.option("--column", "columns", multiple=True, metavar="PART=NAME",
              help="The file's name for a part, for example score=similarity. May be repeated.")  # fmt: skip
@click.option("--covariate", "covariates", multiple=True, metavar="NAME=COLUMN", help="Compare within its classes too.")
@click.option("--format", "format_", default="auto", show_default=True, help="How the file is written.")
@click.option("--format-option", "format_options", multiple=True, metavar="KEY=VALUE", help="An option of that format.")
@click.option("--higher-is", type=click.Choice(["same", "different"]), default="same", show_default=True,
              help="What a higher score means; 'different' for distances.")  # fmt: skip
@click.option("--failure-score", "failure_scores", multiple=True, type=float,
              help="A score that means: no comparison was possible, for example -1.")  # fmt: skip
@click.option("--scope", type=click.Choice(["within-group", "probe-group", "all-impostor"]), default="within-group",
              show_default=True, help="Which FMR the summaries are made of.")  # fmt: skip
@click.option("--evaluation-type", default="not provided", help="Kind of evaluation.",
              type=click.Choice(["technology", "scenario", "operational", "not provided"]))  # fmt: skip
@click.option("--label-source", default="not provided", help="Where the group labels come from.")
@click.option("--impostor-selection", default="not provided", help="How the non-mated pairs were chosen.")
@click.option("--days", default="not provided", help="Days between mated captures.")
@click.option("--title", default=None, help="Title of the report.")
@click.option("--level", default=0.95, show_default=True, help="Level of the intervals.")
@click.option("--method", default="logit-jackknife", show_default=True, help="How the intervals are made.")
@click.option("--min-people", default=5, show_default=True, help="Smaller groups are withheld.")
@click.option(
    "--max-fmr-ratio", type=float, help="Require every group's FMR to be at most this many times the reference's."
)
@click.option("--max-fnmr-ratio", type=float, help="The same for FNMR.")
@click.option("--threads", default=0, help="0 = all that are available.")
@out_option
def command(scores: Path | None, out: Path, quiet: bool, **options: Any) -> int:
    """Measure how error rates differ between the groups in SCORES, a file of comparison scores, and write the report.

    With --embeddings the file holds templates, and every pair of them is compared.
    """
    from audit_toolkit import api

    check_out(out)
    embeddings = options["embeddings"]
    if (scores is None) == (embeddings is None):
        raise UsageError(
            "Exactly one of SCORES and --embeddings is needed.", mend="Name a score file, or --embeddings FILE."
        )
    joined = options["subjects"] is not None or embeddings is not None
    groups, attributes = _groups(options["groups"], joined=joined)
    metric = "" if embeddings is None else options["metric"]
    if embeddings is not None and options["subjects"] is None:
        # beside the vectors a label of NAME is called group.NAME, unless another column is named
        groups = {name: f"group.{name}" if column == name else column for name, column in groups.items()}
    subjects = options["subjects"]
    plan = api.disparity_plan(
        os.fspath(scores or embeddings),
        metric=metric,
        groups=groups,
        intersections=[[n.strip() for n in i.split(",")] for i in options["intersections"]],
        threshold=options["thresholds"] or None,
        fmr=options["targets"] or None,
        eer=options["eer"],
        subjects=None if subjects is None else os.fspath(subjects),
        subject_id=options["subject_id"],
        title=options["title"],
        evaluation_type=options["evaluation_type"],
        label_source=options["label_source"],
        impostor_selection=options["impostor_selection"],
        days_between_mated_captures=options["days"],
        requirements=_requirements(options, attributes),
        min_people=options["min_people"],
        threads=options["threads"],
        columns=_pairs(options["columns"], "--column"),
        covariates=_pairs(options["covariates"], "--covariate"),
        format=options["format_"],
        format_options=_pairs(options["format_options"], "--format-option"),
        higher_is="different" if metric == "l2" else options["higher_is"],
        failure_scores=list(options["failure_scores"]),
        scope=options["scope"],
        uncertainty={"level": options["level"], "method": options["method"]},
    )
    with progress(quiet) as report:
        audit = api.run(plan, progress=report, journal=options["journal"])
    return finish(audit, out, quiet)


def _groups(given: tuple[str, ...], *, joined: bool) -> tuple[dict[str, str | tuple[str, str]], list[str]]:
    found: dict[str, str | tuple[str, str]] = {}
    for text in given:
        name, _, rest = text.rpartition("=")
        columns = [c.strip() for c in rest.split(",")]
        if len(columns) == 2 and all(columns):
            name = name or _common(*columns)
        elif len(columns) == 1 and columns[0] and joined:
            name = name or columns[0]
        else:
            raise UsageError(
                "--group needs two columns, one for the reference and one for the probe.",
                mend="For example --group gender=reference_gender,probe_gender; with --subjects, one column of that table.",
            )
        if name in found:
            raise UsageError(
                f"--group names {name!r} twice.", mend=f"Give one another name: --group NAME={','.join(columns)}."
            )
        found[name] = columns[0] if len(columns) == 1 else (columns[0], columns[1])
    return found, list(found)


def _common(reference: str, probe: str) -> str:
    """reference_gender, probe_gender -> gender: what the two names end in, else the first name."""
    a, b = re.split(r"[_. -]", reference)[::-1], re.split(r"[_. -]", probe)[::-1]
    shared = list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    return "_".join(word for word, _ in reversed(shared)) or reference


def _pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key or not value:
            raise UsageError(f"{option} takes KEY=VALUE.", mend=f"For example {option} {_EXAMPLE[option]}.")
        if key in found:
            raise UsageError(f"{option} names {key!r} twice.", mend="Give it once.")
        found[key] = value
    return found


_EXAMPLE = {
    "--column": "score=similarity",
    "--covariate": "camera=camera_model",
    "--format-option": "'delimiter=;'",
}


def _requirements(options: dict[str, Any], attributes: list[str]) -> list[dict[str, Any]]:
    made = []
    for rate in ("fmr", "fnmr"):
        limit = options[f"max_{rate}_ratio"]
        if limit is not None:
            made += [
                {
                    "id": f"{rate}-ratio-{name}",
                    "title": f"{rate.upper()} ratio of every {name} group to the reference group",
                    "quantity": f"{rate}_ratio",
                    "comparator": "<=",
                    "limit": limit,
                    "of": {name: "*"},
                    "source": {"title": "the command line"},
                }
                for name in attributes
            ]
    return made
