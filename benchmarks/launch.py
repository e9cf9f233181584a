"""Start one command and tell how long it ran and how much memory it held: ``python -S launch.py REPORT CORES -- COMMAND``.

Why a program of its own: Linux counts the memory of whoever starts a process towards that process's peak (the old address
space is noted when the new program is loaded). Started from here, that floor is this small interpreter's and not the
benchmark's, which may hold inputs. Standard library only.

What it promises: REPORT holds one JSON object with ``seconds`` (from start to end, monotonic clock), ``cpu_seconds`` (user
and system), ``peak_rss_bytes`` (the largest single process of the command's tree, not their sum) and ``exit_code``
(negative: ended by that signal). The command may use the first CORES processors this process is allowed to use (0 = all).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Run the command after ``--`` and write the report."""
    report, cores, mark, *command = sys.argv[1:]
    if mark != "--" or not command:
        raise SystemExit("usage: launch.py REPORT CORES -- COMMAND")
    if int(cores) > 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    result = {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_rss_bytes": usage.ru_maxrss * unit,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    Path(report).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
