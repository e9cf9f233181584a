"""Carry out a plan: run its section, apply its requirements, write down what was done."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_toolkit._version import __version__
from audit_toolkit.disparity.assess import assess
from audit_toolkit.disparity.identification.assess import assess as assess_searches
from audit_toolkit.disparity.identification.open import open_section as open_searches
from audit_toolkit.disparity.open import open_section
from audit_toolkit.engines.context import Context
from audit_toolkit.engines.fold import Progress
from audit_toolkit.engines.local import available_threads, local
from audit_toolkit.evidence.record import Record, Statement
from audit_toolkit.evidence.verdict import exit_code
from audit_toolkit.plan.model import AnyPlan, SearchPlan
from audit_toolkit.plan.policy import findings

LIMITS = (
    "The figures describe the people, the pairs and the thresholds in this file; they do not show why rates differ.",
    "Labels are taken as the file gives them; a wrong label moves an error to the wrong group.",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The record, what stands beside it in ``run.json`` (clock, machine, speed), and the exit code."""

    record: Record
    run: dict[str, Any]
    exit_code: int


def run_plan(
    plan: AnyPlan,
    *,
    folder: Path,
    frame: Any = None,
    subjects: Any = None,
    progress: Progress | None = None,
    journal: Path | None = None,
) -> Outcome:
    """Run a plan on the files it names (relative to ``folder``), or on a frame handed over in their place.

    Raises an `AuditError` subclass for anything that cannot be carried out; nothing is written here.
    """
    started, clock = time.time(), time.perf_counter()
    threads = plan.execution.threads or available_threads()
    context = Context(
        seed=bytes.fromhex(plan.digest()),
        min_people=plan.disclosure.min_people,
        engine=local(threads),
        chunk_rows=plan.execution.chunk_rows,
        memory_rows=plan.execution.memory_rows,
        progress=progress,
        journal=journal,
    )
    if isinstance(plan, SearchPlan):
        frames = {} if frame is None else dict(frame)
        result = assess_searches(
            plan.identification, open_searches(plan.identification, folder=folder, frames=frames), context
        )
    else:
        source = open_section(plan.disparity, folder=folder, frame=frame, subjects=subjects)
        result = assess(plan.disparity, source, context)
    support = plan.section.support
    found = findings(result, plan.all_requirements(), min_subjects=support.min_subjects, min_errors=support.min_errors)
    stated = tuple(Statement(name=k, text=v) for k, v in plan.section.statements().items())
    record = Record(
        toolkit_version=__version__,
        title=plan.title,
        plan=plan.canonical(),
        plan_digest=plan.digest(),
        statements=(*stated, *result.statements),
        inputs=result.inputs,
        runs=result.runs,
        estimates=result.estimates,
        series=result.series,
        findings=found,
        limits=(*LIMITS, *result.limits),
    )
    seconds = time.perf_counter() - clock
    run = {
        "schema": "audit_toolkit/run/1",
        "record_sha256": record.digest(),
        "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(seconds, 3),
        "rows": sum(i.rows_read for i in result.inputs),
        "threads": threads,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": _versions(),
    }
    return Outcome(record, run, exit_code(f.verdict for f in found if f.verdict is not None))


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("numpy", "numba", "scipy", "pyarrow", "narwhals", "msgspec", "matplotlib", "jinja2"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
