"""What came of driving a system: rows in the canonical form, counts of what was not answered, and speed, by group.

Promises: a row an item, in the order of the work, failures included; speeds are medians over whole calls of the full batch
that were answered at once, so that groups of different size are measured alike.
What it does not promise: speed depends on the machine and the hour; it goes to ``run.json`` and never into the record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import UsageError
from audit_toolkit.targets.contract import COUNTED, Answer, Does, Failed
from audit_toolkit.targets.results import Line
from audit_toolkit.targets.work import Pair, Sample, samples_of


@dataclass(frozen=True, slots=True)
class Counts:
    """What was asked and not answered, over everybody (``axis`` ``None``) or in one cell of an attribute.

    ``groups`` is (reference's label, probe's label) for comparisons, (label,) for templates. ``fte`` and ``fta`` count items,
    stated by the system or counted by the audit; ``timeout``, ``exit``, ``throw`` and ``unreadable`` count calls, ``retries``
    repeated calls; ``unstated`` counts the items among ``fte`` and ``fta`` that the system did not state itself.
    """

    axis: str | None
    groups: tuple[str, ...]
    items: int
    answered: int
    fte: int
    fta: int
    unstated: int
    timeout: int
    exit: int
    throw: int
    unreadable: int
    retries: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Items a second in one cell (ISO/IEC 19795-10: processing time by group): median and range over calls.

    ``calls`` of ``batch`` items each were measured; ``None`` with ``undefined`` as the reason where there were none.
    """

    axis: str | None
    groups: tuple[str, ...]
    batch: int
    calls: int
    median: float | None
    lowest: float | None
    highest: float | None
    undefined: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything a drive gave; ``answers`` stand in the order of ``work``, ``resumed`` of them came from the file of results."""

    does: Does
    target: Mapping[str, Any]
    work: tuple[Pair | Sample, ...]
    answers: tuple[Answer, ...]
    counts: tuple[Counts, ...]
    speeds: tuple[Speed, ...]
    resumed: int = 0

    @property
    def overall(self) -> Counts:
        """The counts over everybody."""
        return self.counts[0]

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row an item under the canonical column names; templates are left out (see `vectors`)."""
        for item, answer in zip(self.work, self.answers, strict=True):
            row: dict[str, Any] = {}
            if isinstance(item, Pair):
                for side, sample in (("reference", item.reference), ("probe", item.probe)):
                    row[f"{side}_subject"] = sample.subject
                    row[f"{side}_sample"] = sample.id
                    row |= {f"{side}.{k}": v or None for k, v in sample.groups.items()}
                row["score"] = answer if isinstance(answer, float) else None
            else:
                row = {"subject": item.subject, "sample": item.id}
                row |= {f"group.{k}": v or None for k, v in item.groups.items()}
            row["failure"] = answer.kind if isinstance(answer, Failed) else ""
            yield row

    def columns(self) -> dict[str, list[Any]]:
        """The rows as columns, ready for any table library; equal lengths, in the order of the work."""
        rows = list(self.rows())
        return {name: [row[name] for row in rows] for name in rows[0]}

    def vectors(self) -> NDArray[np.float32]:
        """The templates, float32 [items, d]; a failed item's row is zero, and its ``failure`` says so.

        Raises `UsageError` for scores, and where no template was made at all.
        """
        made = [a for a in self.answers if isinstance(a, np.ndarray)]
        if not made:
            raise UsageError("There are no templates here.", mend="Drive a target that makes templates.")
        out = np.zeros((len(self.answers), len(made[0])), np.float32)
        for k, answer in enumerate(self.answers):
            if isinstance(answer, np.ndarray):
                out[k] = answer
        return out

    def run(self) -> dict[str, Any]:
        """What belongs in ``run.json``: the target, the counts and the speeds by group. No names, no paths."""
        return {
            "target": dict(self.target),
            "does": self.does,
            "resumed": self.resumed,
            "counts": [asdict(c) for c in self.counts],
            "speeds": [asdict(s) for s in self.speeds],
        }

    def remarks(self) -> tuple[str, ...]:
        """Sentences for the record about items that the system did not answer and did not state as failures."""
        unstated = self.overall.unstated
        if not unstated:
            return ()
        what, kind = ("comparisons", "acquire") if self.does == "compare" else ("images", "enrol")
        return (
            f"{unstated} of {self.overall.items} {what} got no answer from the system (time-outs, break-offs or answers "
            f"that could not be read); they are counted as failures to {kind}.",
        )


def cell_of(item: Pair | Sample) -> tuple[tuple[str, ...], ...]:
    """The cell an item belongs to: the labels of each of its images, attributes in order."""
    return tuple(tuple(s.groups[k] for k in sorted(s.groups)) for s in samples_of(item))


Place = tuple[str | None, tuple[str, ...]]


def _places(item: Pair | Sample) -> list[Place]:
    """Where an item is counted: over everybody, and in its cell on every attribute."""
    images = samples_of(item)
    return [(None, ()), *((k, tuple(s.groups[k] for s in images)) for k in sorted(images[0].groups))]


def _in_order(places: Mapping[Place, Any]) -> list[Place]:
    return sorted(places, key=lambda place: (place[0] is not None, place[0] or "", place[1]))


def count(work: Sequence[Pair | Sample], lines: Sequence[Line]) -> tuple[Counts, ...]:
    """Items, failures and calls without an answer: over everybody first, then by attribute and cell."""
    found: dict[Place, Counter[str]] = {}
    for line in lines:
        for place in _places(work[line.items[0]]):  # a batch belongs to one cell
            tally = found.setdefault(place, Counter())
            tally["items"] += len(line.items)
            for name in (*COUNTED, "retries"):
                tally[name] += line.events.get(name, 0)
            for answer in line.answers:
                if isinstance(answer, Failed):
                    tally[answer.kind] += 1
                    tally["unstated"] += answer.cause != "stated"
                else:
                    tally["answered"] += 1
    names = ("items", "answered", "fte", "fta", "unstated", *COUNTED, "retries")
    return tuple(
        Counts(axis, groups, **{n: found[axis, groups][n] for n in names}) for axis, groups in _in_order(found)
    )


def speeds(work: Sequence[Pair | Sample], lines: Sequence[Line], batch: int) -> tuple[Speed, ...]:
    """Items a second over calls of the full batch that were answered at once; cells as in `count`."""
    found: dict[Place, list[float]] = {}
    for line in lines:
        for place in _places(work[line.items[0]]):
            rates = found.setdefault(place, [])
            if line.seconds and len(line.items) == batch:
                rates.append(batch / line.seconds)
    return tuple(_speed(place, batch, found[place]) for place in _in_order(found))


def _speed(place: Place, batch: int, rates: list[float]) -> Speed:
    if not rates:
        reason = f"no call of {batch} items after the first was answered at once"
        return Speed(*place, batch, 0, None, None, None, reason)
    return Speed(*place, batch, len(rates), median(rates), min(rates), max(rates))
