"""A system under test that is a Python function, handed over as a function and never as a name.

Why never as a name: a plan file is data. If it could name a module, opening somebody's plan would run somebody's code.

Promises: the function is called in one thread of its own, always the same one; what it raises is counted by the kind of
exception, and the text of the exception goes nowhere, since it may name people.
What it does not promise: a function that hangs cannot be stopped from outside. Its thread is left behind; after
`MOST_LEFT_BEHIND` of them the audit stops and says so. A program (see `command`) can be stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from audit_toolkit.errors import UsageError
from audit_toolkit.targets.contract import Ask, Target, TargetError, Unanswered

MOST_LEFT_BEHIND = 3
"""How many hanging calls are left behind before the audit stops."""

Compare = Callable[[list[tuple[Path, Path]]], Sequence[object]]
Template = Callable[[list[Path]], Sequence[object]]

_Reply = SimpleQueue[tuple[object, BaseException | None]]
_Call = tuple[Callable[[Any], object], list[Any], _Reply]


def callable_target(*, compare: Compare | None = None, template: Template | None = None, name: str = "") -> Target:
    """A target from Python functions: ``compare(pairs) -> scores``, ``template(images) -> templates``, one answer an item.

    An answer is a number (a list or 1-d array for templates), "fte" or "fta", or a dict as in the line protocol; a NumPy
    array [n] or [n, d] for the whole batch is taken too. ``name`` is what the run calls it. Raises `UsageError` for anything
    that is not a function, import strings before all.
    """
    given = [f for f in (compare, template) if f is not None]
    for function in given:
        if isinstance(function, str):
            raise UsageError(
                "A function named by text is refused, because it would run code that a data file chooses.",
                mend="Import the function in Python and hand it over itself.",
            )
        if not callable(function):
            raise UsageError(f"A {type(function).__name__} cannot be called.", mend="Hand over a function.")
    if not given:
        raise UsageError("There is no function to call.", mend="Give compare=, template= or both.")
    name = name or str(getattr(given[0], "__name__", type(given[0]).__name__))
    post: list[SimpleQueue[_Call | None]] = []  # the queue of the worker at work, if there is one
    left_behind = 0

    def close() -> None:
        while post:
            post.pop().put(None)  # a worker that hangs ends when its call comes back

    def ask_of(function: Callable[[Any], object]) -> Ask:
        def ask(items: Sequence[Any], seconds: float) -> object:
            nonlocal left_behind
            if not post:
                post.append(SimpleQueue())
                threading.Thread(target=_serve, args=(post[0],), name="target", daemon=True).start()
            reply: _Reply = SimpleQueue()
            post[0].put((function, list(items), reply))
            try:
                value, error = reply.get(timeout=seconds)
            except Empty:
                close()
                left_behind += 1
                if left_behind > MOST_LEFT_BEHIND:
                    raise TargetError(
                        f"The function did not come back from {left_behind} calls, and a function cannot be stopped.",
                        mend="Give more time, or drive the system as a command, which can be stopped.",
                    ) from None
                raise Unanswered("timeout", f"The function did not come back in {seconds:g} s.", again=True) from None
            except BaseException:
                close()
                raise
            if error is not None:
                raise Unanswered("throw", f"The function raised {type(error).__name__}.")
            return value

        return ask

    return Target(
        kind="callable",
        description={"kind": "callable", "name": name},
        identity=" ".join(["callable", name, *(f"{f.__module__}.{getattr(f, '__qualname__', '')}" for f in given)]),
        compare=ask_of(compare) if compare else None,
        template=ask_of(template) if template else None,
        close=close,
    )


def _serve(post: SimpleQueue[_Call | None]) -> None:
    while (call := post.get()) is not None:
        function, items, reply = call
        try:
            reply.put((function(items), None))
        except BaseException as error:  # whatever it raises, the audit counts it and goes on
            reply.put((None, error))
        del call, function, items, reply
