"""Ask a system under test about every item of the work, and count what it did not answer.

Why the order is as it is: a call belongs to one cell of groups, so that its time and its failures belong to somebody; the
cells take turns, so that a machine that grows slow or hot over the hours does so for every group alike.

Promises: what a system does not answer is counted, by cause and by group, and never dropped; one item that breaks the system
does not take its batch along (the batch is halved until the item stands alone); what was finished stays on disk.
What it does not do: call it a failure of a person where the system is simply down. After ``give_up_after`` items in a row
without an answer the drive stops, and those items are asked again when it is resumed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from audit_toolkit.errors import InputError, UsageError
from audit_toolkit.targets.contract import (
    Answer,
    Ask,
    Does,
    Failed,
    Kind,
    Target,
    TargetError,
    Unanswered,
    read_answers,
)
from audit_toolkit.targets.outcome import Outcome, cell_of, count, speeds
from audit_toolkit.targets.results import Line, open_results
from audit_toolkit.targets.work import Pair, Sample, samples_of

Progress = Callable[[str, int, int | None], None]
"""progress(stage, items done, items in all)."""

LONGEST_PAUSE = 10.0
"""Seconds between two tries, at most."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides whether an item counts as answered; part of the results' header, so that a resumed drive keeps them."""

    batch: int
    timeout: float
    retries: int
    backoff: float
    unreadable: Literal["stop", "failure"]
    give_up_after: int
    deadline: float | None = None


@dataclass(slots=True)
class _State:
    """How the drive stands: answers without a break, the length of templates, and what happened in this batch."""

    row: int = 0
    length: int | None = None
    events: Counter[str] = field(default_factory=Counter)


def drive(
    target: Target,
    work: Sequence[Pair] | Sequence[Sample],
    *,
    batch: int = 32,
    timeout: float = 30.0,
    total: float | None = None,
    retries: int = 2,
    backoff: float = 0.2,
    unreadable: Literal["stop", "failure"] = "stop",
    give_up_after: int = 20,
    results: str | Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Have a system compare pairs of images or make templates of images, and report every item, answered or not.

    ``work`` is a sequence of `Pair` (the target's ``compare`` is asked) or of `Sample` (``template``). ``batch`` items go
    into a call, at most what the target takes; ``timeout`` is seconds a call, ``total`` seconds in all. A single item is
    asked again up to ``retries`` times after a time-out or a break-off (exit code, connection, HTTP 5xx), with pauses that
    start at ``backoff`` seconds and double. An item that stays without an answer counts as a failure: to acquire the probe
    ("fta") in a comparison, to enrol ("fte") for a template. Answers that cannot be read stop the drive, unless
    ``unreadable="failure"`` counts them the same way. ``results`` names a file that keeps what is finished: the same call
    again goes on from there.

    Raises `UsageError` for arguments that cannot be meant, `InputError` for images that are not there, `StateError` for a
    file of results that does not fit, and `TargetError` when the system cannot be driven on.
    """
    items: tuple[Pair | Sample, ...] = tuple(work)
    does = _check(target, items, batch=batch, timeout=timeout, total=total, retries=retries, backoff=backoff)
    if unreadable not in ("stop", "failure") or give_up_after < 1:
        raise UsageError('The argument unreadable must be "stop" or "failure", and give_up_after at least 1.')
    ask = target.compare if does == "compare" else target.template
    if ask is None:
        raise UsageError(
            f"The target does not {does}.", mend="Give pairs to one that compares, samples to one that templates."
        )
    batch = min(batch, target.most or batch)
    rules = Rules(
        batch, timeout, retries, backoff, unreadable, give_up_after, None if total is None else time.monotonic() + total
    )
    header = {
        "target": hashlib.sha256(target.identity.encode()).hexdigest(),
        "work": _digest(items),
        "does": does,
        "items": len(items),
        "rules": [batch, timeout, retries, unreadable],
    }
    try:
        with open_results(Path(results) if results else None, header, does, len(items)) as (lines, append):
            before = sum(len(line.items) for line in lines)
            for line in _ask_rest(ask, does, items, lines, rules, progress):
                append(line)
                lines.append(line)
    finally:
        target.close()
    answers: list[Answer | None] = [None] * len(items)
    for line in lines:
        for item, answer in zip(line.items, line.answers, strict=True):
            answers[item] = answer
    return Outcome(
        does=does,
        target=dict(target.description),
        work=items,
        answers=tuple(a for a in answers if a is not None),
        counts=count(items, lines),
        speeds=speeds(items, lines, batch),
        resumed=before,
    )


def _check(
    target: Target,
    work: Sequence[Pair | Sample],
    *,
    batch: int,
    timeout: float,
    total: float | None,
    retries: int,
    backoff: float,
) -> Does:
    if not isinstance(target, Target):
        raise UsageError(
            "This is not a target.",
            mend="Make one with callable_target, command_target or http_target from the system.",
        )
    if not work or not (all(isinstance(w, Pair) for w in work) or all(isinstance(w, Sample) for w in work)):
        raise UsageError("The work must be pairs, or samples, and at least one.")
    seconds = (timeout, *(() if total is None else (total,)))
    if batch < 1 or retries < 0 or not all(0 < s < float("inf") for s in seconds) or not 0 <= backoff < float("inf"):
        raise UsageError("Batch, time-outs, retries and back-off must be positive and finite numbers.")
    attributes = {frozenset(s.groups) for w in work for s in samples_of(w)}
    if len(attributes) > 1:
        raise UsageError("The samples are labelled on different attributes.", mend='Give every one; "" where unknown.')
    missing = 0
    for path in {s.image for w in work for s in samples_of(w)}:
        missing += not path.is_file()
    if missing:
        raise InputError(f"{missing} of the work's images are not there.", mend="Check the paths and the folder.")
    return "compare" if isinstance(work[0], Pair) else "template"


def _digest(work: Sequence[Pair | Sample]) -> str:
    """Tells one list of work from another: who, which file, how large, which labels."""
    h = hashlib.sha256()
    sizes: dict[Path, int] = {}
    for w in work:
        for s in samples_of(w):
            if s.image not in sizes:
                sizes[s.image] = s.image.stat().st_size
            said = [str(s.image), sizes[s.image], s.subject, s.sample, sorted(s.groups.items())]
            h.update(json.dumps(said).encode() + b"\n")
        h.update(b"\n")
    return h.hexdigest()


def _ask_rest(
    ask: Ask,
    does: Does,
    work: Sequence[Pair | Sample],
    done: Sequence[Line],
    rules: Rules,
    progress: Progress | None,
) -> Iterator[Line]:
    """Ask what is left, batch by batch; batches since the last answer wait until the system has shown that it is there."""
    finished = {i for line in done for i in line.items}
    state = _State()
    for line in done:
        for answer in line.answers:
            if isinstance(answer, np.ndarray):
                state.length = len(answer)
    waiting: list[Line] = []
    n_done = len(finished)
    for number, items in enumerate(_batches(work, finished, rules.batch)):
        state.events = Counter()
        questions = [_question(work[i]) for i in items]
        started = time.perf_counter()
        answers = _ask(ask, does, questions, rules, state)
        seconds = time.perf_counter() - started
        # The first call of a drive loads models and fills caches: it says nothing about the group it happened to be for.
        quick = number > 0 and not state.events
        waiting.append(Line(items, tuple(answers), seconds if quick else None, dict(state.events)))
        if state.row == 0:
            yield from waiting
            waiting.clear()
        n_done += len(items)
        if progress is not None:
            progress("driving the target", n_done, len(work))
    if waiting and state.row == len(work):
        raise TargetError("Not one item was answered.", mend="See that the system runs, and drive again.")
    yield from waiting


def _question(item: Pair | Sample) -> object:
    return (item.reference.image, item.probe.image) if isinstance(item, Pair) else item.image


def _batches(work: Sequence[Pair | Sample], finished: set[int], size: int) -> Iterator[tuple[int, ...]]:
    """Batches of one cell each, the cells taking turns; within a cell in the order of the work."""
    cells: dict[tuple[object, ...], list[int]] = {}
    for i, w in enumerate(work):
        if i not in finished:
            cells.setdefault(cell_of(w), []).append(i)
    turn = 0
    while cells:
        for cell in list(cells):
            items = cells[cell][turn : turn + size]
            if items:
                yield tuple(items)
            else:
                del cells[cell]
        turn += size


def _ask(ask: Ask, does: Does, questions: list[object], rules: Rules, state: _State) -> list[Answer]:
    """One answer a question; a batch without an answer is halved, a single item asked again as the rules say."""
    tries = 1 + rules.retries if len(questions) == 1 else 1
    cause = Unanswered("exit", "The system was not asked.")
    for attempt in range(tries):
        if attempt:
            state.events["retries"] += 1
            _pause(min(rules.backoff * 2 ** (attempt - 1), LONGEST_PAUSE), rules)
        left = None if rules.deadline is None else rules.deadline - time.monotonic()
        if left is not None and left <= 0:
            raise _out_of_time()
        seconds = rules.timeout if left is None else min(rules.timeout, left)
        try:
            answers = read_answers(ask(questions, seconds), does, len(questions), state.length)
        except Unanswered as error:
            if error.cause == "timeout" and seconds < rules.timeout:
                raise _out_of_time() from None  # the audit's own limit, not the system's
            state.events[error.cause] += 1
            if error.cause == "unreadable" and rules.unreadable == "stop":
                raise
            cause = error
            if not error.again:
                break
        else:
            state.row = 0
            for answer in answers:
                if isinstance(answer, np.ndarray):
                    state.length = len(answer)
            return answers
    if len(questions) > 1:
        half = len(questions) // 2
        return [
            *_ask(ask, does, questions[:half], rules, state),
            *_ask(ask, does, questions[half:], rules, state),
        ]
    state.row += 1
    if state.row >= rules.give_up_after:
        raise TargetError(
            f"{state.row} items in a row were not answered; the last time: {cause.what[0].lower()}{cause.what[1:]}",
            mend="See that the system runs. What was finished before is kept; these items are asked again.",
        ) from None
    kind: Kind = "fta" if does == "compare" else "fte"
    return [Failed(kind, cause.cause)]


def _pause(seconds: float, rules: Rules) -> None:
    if rules.deadline is not None:
        seconds = min(seconds, max(0.0, rules.deadline - time.monotonic()))
    with suppress(InterruptedError):
        time.sleep(seconds)


def _out_of_time() -> TargetError:
    return TargetError(
        "The time given for the whole drive is over.", mend="What was finished is kept; drive again to go on."
    )


def target_from(spec: Mapping[str, object], *, allow_commands: bool = False) -> Target:
    """A target from data (a plan file, a configuration): a service on loopback, or, where the auditor allows it, a command.

    ``spec``: ``{"kind": "http", "url": ..., "does": ..., "body": ...}`` or ``{"kind": "command", "argv": [...], "does": ...}``.
    A Python function is refused always; a command unless ``allow_commands``, which a person says on the spot and a file
    cannot. Raises `UsageError`.
    """
    from audit_toolkit.targets.command import command_target
    from audit_toolkit.targets.http import http_target

    kind = spec.get("kind")
    if kind == "callable":
        raise UsageError(
            "A plan file cannot name a Python function, because reading a plan must not run code.",
            mend="Call audit_toolkit.targets from Python with the function itself, and audit the scores it gives.",
        )
    makers: dict[object, tuple[Callable[..., Target], str, set[str]]] = {
        "command": (command_target, "argv", {"argv", "does", "name"}),
        "http": (http_target, "url", {"url", "does", "body", "name"}),
    }
    if kind not in makers:
        raise UsageError("The target's kind is not known.", mend='Use kind = "http" or kind = "command".')
    if kind == "command" and not allow_commands:
        raise UsageError(
            "The plan wants to start a program, which is refused unless you allow it.",
            mend="Read its argv, and allow commands for this run if it is what you mean to start.",
        )
    make, main, known = makers[kind]
    given = {k: v for k, v in spec.items() if k != "kind"}
    if set(given) - known or main not in given or "does" not in given:
        raise UsageError(f"A target of kind {kind} takes {', '.join(sorted(known))}; {main} and does are needed.")
    return make(given.pop(main), **given)
