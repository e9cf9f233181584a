"""The plan: everything an auditor decides, in one file, before the data is looked at.

A plan is TOML. Unknown fields are refused with their place, because a misspelt limit that is silently ignored is worse than
no limit. The plan's digest, from which all seeds derive, leaves out execution and paths: the machine and the folder may
change, the figures may not.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
from msgspec import Struct

from audit_toolkit.disparity.plan import Section
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.quantities import get
from audit_toolkit.evidence.requirement import Requirement
from audit_toolkit.plan.catalogue import catalogue


class System(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was tested: name, vendor, version, and what it is used for."""

    name: str = "not provided"
    vendor: str = "not provided"
    version: str = "not provided"
    purpose: str = "not provided"


class Parties(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asked, who tested, who operates."""

    commissioned_by: str = "not provided"
    auditor: str = "not provided"
    operator: str = "not provided"


class Disclosure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Groups of fewer people than this are withheld from every table, drawing and file."""

    min_people: int = 5

    def __post_init__(self) -> None:
        if self.min_people < 1:
            raise ValueError("`min_people` must be at least 1")


class Execution(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it runs; changes no figure and stands outside the digest. ``threads`` 0 = all that are available."""

    threads: int = 0
    chunk_rows: int = 1_048_576
    memory_rows: int = 1_048_576

    def __post_init__(self) -> None:
        if self.threads < 0 or self.chunk_rows < 1 or self.memory_rows < 1:
            raise ValueError("`threads` must be 0 or more, `chunk_rows` and `memory_rows` at least 1")


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One audit: what is tested, how, and what is required of it."""

    schema: Literal["audit_toolkit/plan/1"] = "audit_toolkit/plan/1"
    title: str = "Audit of error rates by demographic group"
    system: System = System()
    parties: Parties = Parties()
    disparity: Section
    requirements: tuple[Requirement, ...] = ()
    catalogue: tuple[str, ...] = ()
    disclosure: Disclosure = Disclosure()
    execution: Execution = Execution()

    def all_requirements(self) -> tuple[Requirement, ...]:
        """The plan's own requirements and those it takes from the catalogue."""
        return (*self.requirements, *(catalogue()[name] for name in self.catalogue))

    def canonical(self) -> dict[str, Any]:
        """The plan as it enters the record: every default written out, without execution, paths reduced to file names."""
        whole: dict[str, Any] = msgspec.to_builtins(self)
        whole.pop("execution")
        section = whole["disparity"]
        section["scores"] = _file_name(section["scores"])
        section["format_options"] = {
            k: _file_name(v) if isinstance(v, str) else v for k, v in section["format_options"].items()
        }
        if section["subjects"]:
            section["subjects"]["path"] = _file_name(section["subjects"]["path"])
        return whole

    def digest(self) -> str:
        """SHA-256 of the canonical plan without any file name: what all seeds derive from."""
        plan = self.canonical()
        plan["disparity"].pop("scores")
        plan["disparity"].pop("subjects")
        text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def load_plan(path: Path) -> Plan:
    """Read a plan from a TOML file, or the plan.json an earlier run left; a mistake is a `PlanError` that names its place."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise PlanError("There is no such plan file.", where=path.name) from None
    except IsADirectoryError:
        raise PlanError("A plan is a file, and this is a folder.", where=path.name) from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"This is neither a TOML nor a JSON plan ({error}).", where=path.name) from None
    return make_plan(raw, where=path.name)


def make_plan(raw: dict[str, Any], *, where: str = "plan") -> Plan:
    """A plan from a mapping, checked field by field; raises `PlanError` with the path of what does not fit."""
    try:
        plan = msgspec.convert(raw, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(f"{_sentence(str(error))}", where=where, mend="See docs/plan.md for the fields.") from None
    seen: set[str] = set()
    for k, name in enumerate(plan.catalogue):
        if name not in catalogue():
            raise PlanError(
                f"There is no requirement {name!r} in the catalogue.",
                where=f"{where}: $.catalogue[{k}]",
                mend=f"Known: {', '.join(catalogue())}.",
            )
    for k, requirement in enumerate(plan.all_requirements()):
        get(requirement.quantity)
        if requirement.id in seen:
            raise PlanError(f"Two requirements have the id {requirement.id!r}.", where=f"{where}: $.requirements[{k}]")
        seen.add(requirement.id)
    return plan


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."
