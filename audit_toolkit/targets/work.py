"""What a system is asked about: images of people, alone or in pairs, with the labels the figures are made by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of one person. ``sample`` names the image (default: its path); ``groups`` is {attribute: label}, "" unknown."""

    image: Path
    subject: str
    sample: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What tells this image from others."""
        return self.sample or str(self.image)


@dataclass(frozen=True, slots=True)
class Pair:
    """One comparison: the enrolled image against the probe; mated where both show the same subject."""

    reference: Sample
    probe: Sample


def samples_of(item: Pair | Sample) -> tuple[Sample, ...]:
    """The images of an item: reference and probe, or the one."""
    return (item.reference, item.probe) if isinstance(item, Pair) else (item,)
