"""Requirements that come with the toolkit, as data with their source; a plan names the ones it wants."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

import msgspec

from audit_toolkit.evidence.requirement import Requirement


@cache
def catalogue() -> dict[str, Requirement]:
    """Every requirement of the catalogue by its id."""
    text = (resources.files("audit_toolkit.plan") / "requirements.toml").read_text(encoding="utf-8")
    entries = msgspec.convert(tomllib.loads(text)["requirement"], list[Requirement])
    return {entry.id: entry for entry in entries}
