"""The plan: everything an auditor decides, in one file, before the data is looked at.

A plan is TOML. Unknown fields are refused with their place, because a misspelt limit that is silently ignored is worse than
no limit. The plan's digest, from which all seeds derive, leaves out execution and paths: the machine and the folder may
change, the figures may not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from audit_toolkit.disparity.identification.plan import Section as Identification
from audit_toolkit.disparity.plan import FILE_OPTIONS, FRAME, Attribute, Section
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.quantities import ALL
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


class _Common(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every plan has, whatever is tested."""

    schema: Literal["audit_toolkit/plan/1"] = "audit_toolkit/plan/1"
    title: str = "Audit of error rates by demographic group"
    system: System = System()
    parties: Parties = Parties()
    requirements: tuple[Requirement, ...] = ()
    catalogue: tuple[str, ...] = ()
    disclosure: Disclosure = Disclosure()
    execution: Execution = Execution()

    def all_requirements(self) -> tuple[Requirement, ...]:
        """The plan's own requirements and those it takes from the catalogue."""
        return (*self.requirements, *(catalogue()[name] for name in self.catalogue))


class Plan(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One audit of verification: what is tested, how, and what is required of it."""

    disparity: Section

    @property
    def section(self) -> Section:
        """What is measured."""
        return self.disparity

    def canonical(self) -> dict[str, Any]:
        """The plan as it enters the record: every default written out, without execution, paths reduced to file names."""
        whole: dict[str, Any] = msgspec.to_builtins(self)
        whole.pop("execution")
        section = whole["disparity"]
        section["scores"] = _file_name(section["scores"])
        section["format_options"] = {
            k: _file_name(str(v)) if k in FILE_OPTIONS else v for k, v in section["format_options"].items()
        }
        if section["subjects"]:
            section["subjects"]["path"] = _file_name(section["subjects"]["path"])
        return whole

    def digest(self) -> str:
        """SHA-256 of the canonical plan without any file name: what all seeds derive from."""
        plan = self.canonical()
        plan["disparity"].pop("scores")
        plan["disparity"].pop("subjects")
        for option in FILE_OPTIONS:
            plan["disparity"]["format_options"].pop(option, None)
        text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


class SearchPlan(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One audit of identification: searches in a gallery, candidate lists, or the alert log of a watchlist."""

    identification: Identification

    @property
    def section(self) -> Identification:
        """What is measured."""
        return self.identification

    def canonical(self) -> dict[str, Any]:
        """The plan as it enters the record: every default written out, without execution, paths reduced to file names."""
        whole: dict[str, Any] = msgspec.to_builtins(self)
        whole.pop("execution")
        _each_path(whole["identification"], _file_name)
        return whole

    def digest(self) -> str:
        """SHA-256 of the canonical plan without any file name: what all seeds derive from."""
        plan = self.canonical()
        section = plan["identification"]
        # Which inputs there are shapes the audit; what the files are called does not.
        section.update({name: bool(section[name]) for name in SEARCH_FILES})
        section.pop("subjects")
        text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


AnyPlan = Plan | SearchPlan

SEARCH_FILES = ("gallery", "probes", "candidates", "searches", "enrolled", "alerts", "passers_by")
"""Fields of the identification section that name a file."""


def _each_path(section: dict[str, Any], change: Callable[[str], str]) -> None:
    for name in SEARCH_FILES:
        section[name] = change(section[name]) if section[name] else ""
    if section["subjects"]:
        section["subjects"]["path"] = change(section["subjects"]["path"])


def moved(plan: AnyPlan, source: Path, target: Path) -> dict[str, Any]:
    """The whole plan as a mapping, its paths rewritten from relative to ``source`` to relative to ``target``.

    So a plan that is written beside its results can be run again from there. Absolute paths become relative too, unless
    the two lie on different drives. What stands for a data frame stays as it is.
    """

    def there(path: str) -> str:
        if path == FRAME:
            return path
        # Folders are resolved, because ".." leaves a linked folder by its real parent; a linked file keeps its own name.
        whole = source / path
        whole = Path(os.path.realpath(whole.parent)) / whole.name
        try:
            return Path(os.path.relpath(whole, os.path.realpath(target))).as_posix()
        except ValueError:
            return whole.as_posix()

    whole: dict[str, Any] = msgspec.to_builtins(plan)
    if isinstance(plan, SearchPlan):
        _each_path(whole["identification"], there)
        return whole
    section = whole["disparity"]
    section["scores"] = there(section["scores"])
    options = section["format_options"]
    section["format_options"] = {k: there(str(v)) if k in FILE_OPTIONS else v for k, v in options.items()}
    if section["subjects"]:
        section["subjects"]["path"] = there(section["subjects"]["path"])
    return whole


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def load_plan(path: Path) -> AnyPlan:
    """Read a plan from a TOML file, or the plan.json an earlier run left; a mistake is a `PlanError` that names its place."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            raw = json.loads(text, object_pairs_hook=partial(_once, path.name))
        else:
            raw = tomllib.loads(text)
    except FileNotFoundError:
        raise PlanError("There is no such plan file.", where=path.name, mend="Check the path.") from None
    except IsADirectoryError:
        raise PlanError(
            "A plan is a file, and this is a folder.",
            where=path.name,
            mend="Name the TOML file, or the plan.json of an earlier run.",
        ) from None
    except OSError as error:
        raise PlanError(f"The plan cannot be read ({error.strerror}).", where=path.name) from None
    except UnicodeDecodeError:
        raise PlanError("The plan is not UTF-8 text.", where=path.name, mend="Save the file as UTF-8.") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise PlanError(f"This is no {kind} plan: {error}.", where=path.name, mend="Mend it there.") from None
    except RecursionError:
        raise PlanError("The plan is nested too deeply.", where=path.name, mend=_SEE) from None
    return make_plan(raw, where=path.name)


_SEE = "See docs/plan.md for the fields."


def _once(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose later fields must not silently replace earlier ones (TOML refuses that by itself)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for k, (name, _) in enumerate(pairs) if name in dict(pairs[:k]))
        raise PlanError(f"The field {twice!r} stands twice in one object.", where=where, mend="Keep one of them.")
    return found


def make_plan(raw: dict[str, Any], *, where: str = "plan") -> AnyPlan:
    """A plan from a mapping, checked field by field; raises `PlanError` with the path of what does not fit."""
    for path, what in _unfit(raw, "$"):
        raise PlanError(what, where=f"{where}: {path}", mend="Write another one there.")
    kind: type[AnyPlan] = (
        SearchPlan if isinstance(raw, dict) and "identification" in raw and "disparity" not in raw else Plan
    )
    try:
        plan: AnyPlan = msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        what, path = _sentence(str(error), kind)
        path = path.replace("[...]", f".{_attribute_at_fault(raw)}", 1) if "attributes[...]" in path else path
        raise PlanError(what, where=f"{where}: {path}", mend=_SEE) from None
    seen: set[str] = set()
    for k, name in enumerate(plan.catalogue):
        if name not in catalogue():
            raise PlanError(
                f"There is no requirement {name!r} in the catalogue.",
                where=f"{where}: $.catalogue[{k}]",
                mend=f"Known: {', '.join(catalogue())}.",
            )
    own = len(plan.requirements)
    for k, requirement in enumerate(plan.all_requirements()):
        place = f"{where}: " + (f"$.requirements[{k}]" if k < own else f"$.catalogue[{k - own}]")
        if requirement.quantity not in ALL:
            raise PlanError(
                f"There is no quantity {requirement.quantity!r} in the glossary.",
                where=f"{place}.quantity",
                mend="Call `audit-toolkit explain` for the list.",
            )
        if requirement.id in seen:
            raise PlanError(
                f"Two requirements have the id {requirement.id!r}.", where=place, mend="Rename or remove one of them."
            )
        seen.add(requirement.id)
    return plan


def _attribute_at_fault(raw: dict[str, Any]) -> str:
    """The name of the first attribute that does not fit, which the parser's message leaves out."""
    for name, attribute in (raw.get("disparity") or raw["identification"])["attributes"].items():
        try:
            msgspec.convert(attribute, Attribute)
        except msgspec.ValidationError:
            return str(name)
    return "*"


def _unfit(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Values that no JSON can hold, each with its place: numbers that are not finite, text that is not Unicode."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, "A number in a plan must be finite."
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        yield path, "A text or a file's name in a plan must be valid Unicode."
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unfit(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for k, inner in enumerate(value):
            yield from _unfit(inner, f"{path}[{k}]")


def _sentence(text: str, plan: type[AnyPlan]) -> tuple[str, str]:
    """What the parser found as a sentence, and its place in the plan."""
    what, _, place = text.partition(" - at ")
    path = place.strip("`") or "$"
    if what.startswith("Invalid enum value"):
        known = ", ".join(repr(v) for v in _allowed(path, plan))
        what = f"{what.removeprefix('Invalid enum value ')} is not one of {known}" if known else what
    elif what.startswith("Object missing required field"):
        what = f"The field{what.removeprefix('Object missing required field')} is missing"
    elif what.startswith("Object contains unknown field"):
        what = f"There is no field{what.removeprefix('Object contains unknown field')} here"
    what = what[0].upper() + what[1:]
    return what if what.endswith(".") else f"{what}.", path


def _allowed(path: str, plan: type[AnyPlan]) -> tuple[str, ...]:
    """The words that a field of fixed words accepts, looked up by its place in the plan."""
    kind: Any = plan
    for name in re.findall(r"\.(\w+)|(\[)", path):
        if name[0]:
            kind = get_type_hints(kind).get(name[0]) if isinstance(kind, type) else None
        elif get_origin(kind) in (tuple, dict):
            kind = get_args(kind)[0 if get_origin(kind) is tuple else 1]
    return get_args(kind) if get_origin(kind) is Literal else ()
