"""What a system under test is to the audit: up to two functions, and three kinds of answer.

Why it exists: a matcher may be a Python function, a program or a local service. The audit asks all of them the same two
questions, in batches: what are the templates of these images, and how alike are these pairs of images?

Promises: every answer is checked before it counts: as many answers as questions, finite numbers, templates of one length.
What it does not do: judge whether a score is a good one; nor decide what a failure means (see `drive`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.errors import AuditError

Does = Literal["compare", "template"]
"""Which question is asked: a score a pair of images, or a template an image."""

Kind = Literal["fte", "fta"]
Cause = Literal["stated", "timeout", "exit", "throw", "unreadable"]
"""Why there is no answer: the system said so, it ran out of time, it broke off, the function raised, or the answer could
not be read."""
COUNTED: tuple[Cause, ...] = ("timeout", "exit", "throw", "unreadable")
"""The causes the audit itself notices."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No template could be made: "fte" of the reference (enrolment), "fta" of the probe (acquisition)."""

    kind: Kind
    cause: Cause = "stated"


Answer = float | NDArray[np.float32] | Failed
"""A score, a template float32 [d], or a failure."""

Ask = Callable[[Sequence[Any], float], object]
"""ask(items, seconds): a list with one raw answer an item, in order; `read_answers` checks that it is one.

Raises `Unanswered` where there is none."""


@dataclass(frozen=True, slots=True)
class Target:
    """A system under test: what it is, and the functions it offers (at least one).

    ``compare`` takes pairs (reference path, probe path), ``template`` takes paths; both also take the seconds the call may
    last. ``most`` is the largest number of items a call can take, ``None`` = any. ``description`` goes to ``run.json``: no
    secrets, no paths. ``identity`` tells targets apart when results are resumed. ``close`` lets go of what the target holds.
    """

    kind: Literal["callable", "command", "http"]
    description: Mapping[str, Any]
    identity: str
    compare: Ask | None = None
    template: Ask | None = None
    most: int | None = None
    close: Callable[[], None] = lambda: None


class TargetError(AuditError):
    """The system under test cannot be driven any further; what was finished stays usable."""


class Unanswered(TargetError):
    """One call got no usable answer; ``cause`` says why, ``again`` whether asking again is worth it."""

    def __init__(self, cause: Cause, what: str, *, mend: str | None = None, again: bool = False) -> None:
        super().__init__(what, mend=mend)
        self.cause: Cause = cause
        self.again = again


_PROTOCOL = 'Each answer is a number, {"score": number}, {"template": [numbers]}, or {"failure": "fte" or "fta"}.'


def unreadable(what: str) -> Unanswered:
    """The system answered, but not in the agreed form; never asked again by itself, since it would say the same."""
    return Unanswered("unreadable", what, mend=_PROTOCOL)


def read_json(text: bytes) -> object:
    """One JSON value from bytes; NaN, Infinity and anything broken raise `Unanswered`."""

    def refuse(_: str) -> object:
        raise unreadable("The answer holds NaN or Infinity, which is no score.")

    try:
        value: object = json.loads(text.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise unreadable("The answer is not JSON.") from None
    return value


def read_lines(output: bytes) -> list[object]:
    """One JSON value a line, as a program prints them; empty lines at the end are passed over."""
    return [read_json(line) for line in output.rstrip().split(b"\n")] if output.strip() else []


def read_answers(raw: object, does: Does, expected: int, length: int | None = None) -> list[Answer]:
    """Check what came back for ``expected`` items; ``length`` is the length of earlier templates.

    Raises `Unanswered` ("unreadable") for another number of answers, another kind of answer, numbers that are not finite,
    and templates of different lengths.
    """
    if isinstance(raw, np.ndarray):
        raw = list(raw) if raw.ndim else raw
    if not isinstance(raw, list | tuple):
        raise unreadable("The answer is not a list.")
    if len(raw) != expected:
        raise unreadable(f"There are {len(raw)} answers to {expected} questions.")
    answers: list[Answer] = []
    for value in raw:
        answer = _read(value, does)
        if isinstance(answer, np.ndarray):
            if length is not None and len(answer) != length:
                raise unreadable(f"A template has {len(answer)} numbers where others have {length}.")
            length = len(answer)
        answers.append(answer)
    return answers


def _read(value: object, does: Does) -> Answer:
    if isinstance(value, Mapping):
        said = [k for k in ("score", "template", "failure") if k in value]
        if len(said) != 1:
            raise unreadable("An answer must say exactly one of score, template and failure.")
        inner = value[said[0]]
        if said[0] == "failure" and not isinstance(inner, str):
            raise unreadable("A failure must be a word.")
        if said[0] != "failure" and isinstance(inner, str | Mapping | Failed):
            raise unreadable(f"A {said[0]} must be made of numbers.")
        if said[0] != "failure" and (said[0] == "score") != (does == "compare"):
            raise unreadable(f"The answer is a {said[0]}, which was not asked for.")
        value = inner
    if isinstance(value, Failed):
        return Failed(value.kind)
    if isinstance(value, str):
        if value not in ("fte", "fta"):
            raise unreadable("A failure must be fte or fta.")
        return Failed("fte" if value == "fte" else "fta")
    return _score(value) if does == "compare" else _template(value)


def _score(value: object) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise unreadable("A score is not a number.")
    try:
        score = float(value)
    except OverflowError:
        score = math.inf
    if not math.isfinite(score):
        raise unreadable("A score is not finite.")
    return score


def _template(value: object) -> NDArray[np.float32]:
    if (
        not isinstance(value, list | tuple | np.ndarray)
        or len(np.shape(value) if isinstance(value, np.ndarray) else [0]) != 1
    ):
        raise unreadable("A template is not a list of numbers.")
    if isinstance(value, list | tuple) and not all(
        isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, bool) for x in value
    ):
        raise unreadable("A template is not a list of numbers.")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "iuf":
        raise unreadable("A template is not a list of numbers.")
    try:
        with np.errstate(over="ignore"):
            vector = np.array(value, np.float64).astype(np.float32)
    except OverflowError:
        raise unreadable("A template holds a number that is not finite.") from None
    if len(vector) == 0:
        raise unreadable("A template is empty.")
    if not np.isfinite(vector).all():
        raise unreadable("A template holds a number that is not finite.")
    return vector
