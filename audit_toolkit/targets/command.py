"""A system under test that is a program: images in by path, answers out on standard output.

Promises: no shell ever sees an argument; what the program writes is read up to a limit; its standard error is drained, and
kept only in a file the auditor names, since it may hold personal data; the program and what it started in its process group
are killed when it runs out of time, writes too much, or the audit is told to end (Ctrl-C, SIGTERM, SIGHUP), before it ends.
What it does not promise: a program that puts itself into another process group, or an audit that is itself killed (SIGKILL),
can leave processes behind. Needs a POSIX system.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_toolkit.errors import UsageError
from audit_toolkit.targets.contract import Ask, Does, Target, TargetError, Unanswered, read_lines, unreadable

MOST_OUTPUT = 64 * 2**20
"""Bytes of standard output read from one call."""
MOST_STDERR = 64 * 2**10
"""Bytes of standard error kept from one call."""
GRACE = 0.25
"""Seconds that what the program left running may still write after the program itself has ended."""
TICK = 0.05
"""Seconds between two looks at the clock."""

_ENDING = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))
"""Signals that end the audit; the interrupt first."""
_PLACE = re.compile(r"\{([A-Za-z_]+)\}")
_FORMS: dict[Does, tuple[frozenset[str], ...]] = {
    "template": (frozenset({"image"}), frozenset({"list"})),
    "compare": (frozenset({"reference", "probe"}), frozenset({"list"})),
}


def command_target(
    argv: Sequence[str],
    *,
    does: Does,
    name: str = "",
    folder: str | Path | None = None,
    most_output: int = MOST_OUTPUT,
    stderr_file: str | Path | None = None,
) -> Target:
    """A target from a command line, given as a list of arguments with placeholders.

    ``does="template"``: ``{image}`` (one process an image) or ``{list}`` (one process a batch; the path of a text file with
    one image path a line). ``does="compare"``: ``{reference}`` and ``{probe}``, or ``{list}`` with reference, tab, probe on a
    line. The program prints one answer a line (see `contract`), exit code 0. ``folder`` is where it runs, ``most_output``
    limits its output in bytes, ``stderr_file`` gets its standard error appended (it may hold personal data: it stays with the
    auditor). Raises `UsageError` for a string in place of a list, unknown placeholders, or placeholders that do not fit.
    """
    if os.name != "posix":
        raise UsageError("Programs can be driven on POSIX systems only.", mend="Drive the system over HTTP instead.")
    if isinstance(argv, str) or not argv or not all(isinstance(a, str) and "\0" not in a for a in argv):
        raise UsageError(
            "A command must be a list of arguments; a command line in one text is refused, because no shell is used.",
            mend='Write it as a list, for example ["matcher", "--compare", "{reference}", "{probe}"].',
        )
    if does not in _FORMS:
        raise UsageError("A command does compare or template.", mend='Say does="compare" or does="template".')
    places = frozenset(found for a in argv[1:] for found in _PLACE.findall(a))
    if _PLACE.search(argv[0]) or places not in _FORMS[does]:
        needed = "{image} or {list}" if does == "template" else "{reference} and {probe}, or {list}"
        raise UsageError(
            f"The command's placeholders do not fit {does}.", mend=f"Use {needed}, after the name of the program."
        )
    run = _Run(tuple(argv), Path(folder) if folder else None, most_output, Path(stderr_file) if stderr_file else None)
    listed = "list" in places
    ask = _ask_list(run) if listed else _ask_one(run, does)
    whole = hashlib.sha256(json.dumps([list(argv), does]).encode()).hexdigest()
    name = name or Path(argv[0]).name
    return Target(
        kind="command",
        description={"kind": "command", "name": name, "does": does, "argv_sha256": whole},
        identity=f"command {whole}",
        compare=ask if does == "compare" else None,
        template=ask if does == "template" else None,
        most=None if listed else 1,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same from call to call."""

    argv: tuple[str, ...]
    folder: Path | None
    most: int
    stderr_file: Path | None

    def __call__(self, values: dict[str, str], seconds: float) -> list[object]:
        """Fill in the placeholders in one pass (a path that holds braces is not filled again), run, read the lines."""
        argv = [self.argv[0], *(_PLACE.sub(lambda m: values[m[1]], a) for a in self.argv[1:])]
        code, output, errors = run_bounded(argv, seconds, most=self.most, folder=self.folder)
        if self.stderr_file and errors:
            with self.stderr_file.open("ab") as file:
                file.write(errors)
        if code:
            said = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise Unanswered("exit", f"The program ended with {said}.", again=True)
        return read_lines(output)


def _ask_one(run: _Run, does: Does) -> Ask:
    def ask(items: Sequence[Any], seconds: float) -> list[object]:
        (item,) = items
        if does == "template":
            return run({"image": _path(item)}, seconds)
        return run({"reference": _path(item[0]), "probe": _path(item[1])}, seconds)

    return ask


def _ask_list(run: _Run) -> Ask:
    def ask(items: Sequence[Any], seconds: float) -> list[object]:
        lines = ["\t".join(_path(p, listed=True) for p in (i if isinstance(i, tuple) else (i,))) for i in items]
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            listing = Path(folder) / "list.txt"
            listing.write_bytes(b"".join(os.fsencode(line) + b"\n" for line in lines))
            return run({"list": str(listing)}, seconds)

    return ask


def _path(path: Path, *, listed: bool = False) -> str:
    """The path in full, so that none begins with a dash and is taken for an option."""
    text = str(path.absolute())
    if listed and any(c in text for c in "\t\n\r"):
        raise TargetError(
            "An image's path holds a tab or a line break, which a list cannot carry.", mend="Rename the file."
        )
    return text


def run_bounded(
    argv: Sequence[str], seconds: float, *, most: int, folder: Path | None = None
) -> tuple[int, bytes, bytes]:
    """Run a program: exit code, standard output (at most ``most`` bytes), the first `MOST_STDERR` bytes of standard error.

    A thread of its own watches the program, and signals that would end the audit wait until the program has been ended, so
    that none of them, nor a second one, can fall between its start and its end. Raises `Unanswered` ("timeout"; or
    "unreadable" for too much output) and `TargetError` where the program cannot be started.
    """
    stop: list[
        int
    ] = []  # not an Event: a signal may come while another is handled, and an Event's lock would wait for itself
    ended = threading.Event()
    found: list[tuple[int, bytes, bytes]] = []
    failed: list[BaseException] = []

    def watch() -> None:
        try:
            found.append(_watch(argv, seconds, most, folder, lambda: bool(stop)))
        except BaseException as error:  # handed to the caller below
            failed.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=watch, name="command")  # not a daemon: the end of the audit waits for the kill
    with _held_back(stop):
        try:
            thread.start()
            ended.wait()
        except BaseException:
            stop.append(0)
            if thread.is_alive():
                thread.join()
            raise
    if failed:
        raise failed[0]
    return found[0]


@contextlib.contextmanager
def _held_back(stop: list[int]) -> Iterator[None]:
    """Ctrl-C and its like are put into ``stop`` and take their effect at the end of the block; other threads never get them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hold(number: int, frame: object) -> None:
        stop.append(number)

    before = {n: h for n in _ENDING if (h := signal.getsignal(n)) not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, hold)
        yield
    finally:
        for number, handler in reversed(before.items()):  # the interrupt last: from then on it may raise
            signal.signal(number, handler)
        for number in dict.fromkeys(n for n in stop if n):
            if before[number] is signal.SIG_DFL:
                raise SystemExit(128 + number)  # by way of every clean-up, since a list of images may lie in a folder
            signal.raise_signal(number)


def _watch(
    argv: Sequence[str], seconds: float, most: int, folder: Path | None, stopped: Callable[[], bool]
) -> tuple[int, bytes, bytes]:
    deadline = time.monotonic() + seconds
    try:
        process = subprocess.Popen(  # noqa: S603 - a list from the auditor, never a shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise TargetError(
            f"The program cannot be started ({error.strerror}).",
            mend="Check its path, its permission to run, and the folder.",
        ) from None
    output, errors = bytearray(), bytearray()
    gone = None
    pause = 0.001
    try:
        with selectors.DefaultSelector() as open_pipes:
            for pipe, kept in ((process.stdout, output), (process.stderr, errors)):
                if pipe is not None:
                    open_pipes.register(pipe, selectors.EVENT_READ, kept)
            while True:
                now = time.monotonic()
                if stopped() or now >= deadline:
                    raise Unanswered("timeout", f"The program did not end in {seconds:g} s.", again=True)
                if gone is None and _has_ended(process):
                    gone = now
                if gone is not None and (not open_pipes.get_map() or now - gone > GRACE):
                    break
                if not open_pipes.get_map():
                    time.sleep(min(pause, deadline - now))
                    pause = min(2 * pause, TICK)
                    continue
                for key, _ in open_pipes.select(min(TICK, deadline - now)):
                    data = os.read(key.fd, 65_536)
                    if not data:
                        open_pipes.unregister(key.fileobj)
                    elif key.data is output:
                        output += data
                        if len(output) > most:
                            raise unreadable(f"The program wrote more than {most} bytes.")
                    else:
                        errors += data[: MOST_STDERR - len(errors)]
    finally:
        # Before the program is waited for: until then its number cannot belong to anybody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()
    return process.returncode, bytes(output), bytes(errors)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Has the program itself ended? Looks without taking its number away, where the system can."""
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return process.poll() is not None
