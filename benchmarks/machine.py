"""Which machine a figure was measured on: a time without its machine says little.

Read from Linux's own files; where one is missing the entry is ``None``. No host name, user name or path is recorded.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_LIBRARIES = """
import importlib.metadata as m, json
found = {}
for name in ("numpy", "numba", "scipy", "pyarrow", "audit_toolkit"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = None
blas = None
try:
    import numpy
    built = numpy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    blas = {k: built[k] for k in ("name", "version", "openblas configuration") if k in built}
except Exception:
    pass
print(json.dumps({"libraries": found, "blas": blas}))
"""


def describe() -> dict[str, Any]:
    """CPU, cores, caches, memory, kernel, Python, libraries and BLAS of this machine, as JSON values."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores_online": os.cpu_count(),
        "cores_available": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "caches": _caches(),
        "memory_bytes": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **_libraries(),
    }


def sentence(machine: dict[str, Any]) -> str:
    """The machine in one line, for the foot of a table."""
    memory = machine.get("memory_bytes")
    caches = ", ".join(f"{name} {size}" for name, size in (machine.get("caches") or {}).items())
    libraries = machine.get("libraries") or {}
    parts = [
        f"{machine.get('cpu') or 'unknown CPU'} ({machine.get('architecture')})",
        f"{machine.get('cores_available')} cores",
        caches,
        f"{memory / 2**30:.0f} GiB" if memory else "",
        str(machine.get("kernel") or ""),
        str(machine.get("python") or ""),
        *(f"{name} {libraries[name]}" for name in ("numpy", "numba", "pyarrow") if libraries.get(name)),
        " ".join(str((machine.get("blas") or {}).get(k, "")) for k in ("name", "version")).strip(),
    ]
    return "; ".join(part for part in parts if part)


def _cpu_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or None
    found = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _caches() -> dict[str, str] | None:
    """The caches the first processor sees, such as {"L1 data": "32K", "L3 (shared by 0-7)": "32768K"}."""
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size, shared = (
                (folder / name).read_text(encoding="utf-8").strip()
                for name in ("level", "type", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        name = f"L{level}" + ("" if kind == "Unified" else f" {kind.lower()}")
        caches[name if shared in ("", "0") else f"{name} (shared by {shared})"] = size
    return caches or None


def _memory() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^MemTotal:\s*(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


@functools.cache
def _libraries() -> dict[str, Any]:
    """Asked of a child, once, so that the benchmark itself stays small."""
    done = subprocess.run([sys.executable, "-c", _LIBRARIES], capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"libraries": None, "blas": None}
    return found
