"""What a figure was measured on. A number without its machine is a rumour."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import envhub_sandbox

_CONTENTION_S = 0.3


def describe() -> dict[str, Any]:
    """Return processor, cores, memory, kernel, Python and launcher of this machine."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(_memory_bytes() / 1e9, 1),
        "virtual": "hypervisor" in _cpu_field("flags").split(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "launcher": _launcher(),
        "user": "root" if os.geteuid() == 0 else "a normal user",
    }


def in_words(machine: dict[str, Any]) -> str:
    """Return the description as one line."""
    virtual = " (virtual machine)" if machine["virtual"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:g} GB{virtual},"
        f" Linux {machine['kernel']}, Python {machine['python']}, {machine['launcher']},"
        f" as {machine['user']}"
    )


def load() -> float:
    """Return how many processes wanted a core, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def contention() -> float:
    """Return how long a fixed piece of work takes on average, in units of its best time.

    1 on a machine that nobody else uses.
    """
    times = []
    end = time.perf_counter() + _CONTENTION_S
    while (start := time.perf_counter()) < end:
        sum(range(10_000))
        times.append(time.perf_counter() - start)
    return round(sum(times) / len(times) / min(times), 2)


def available_bytes() -> int:
    """Return what the kernel could still give without swapping.

    MemAvailable, and the free pages that each core keeps in a list of its own: Linux counts
    them as used, and since 6.7 lets them grow to gigabytes after a large release.
    """
    zones = Path("/proc/zoneinfo").read_text()
    kept = sum(int(pages) for pages in re.findall(r"^\s+count:\s+(\d+)", zones, re.MULTILINE))
    return meminfo("MemAvailable") + kept * os.sysconf("SC_PAGESIZE")


def meminfo(*names: str) -> int:
    """Return the sum of some lines of /proc/meminfo, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return sum(int(found[name].split()[0]) * 1024 for name in names)


def _memory_bytes() -> int:
    return meminfo("MemTotal")


def _cpu_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _cpu() -> str:
    name = _cpu_field("model name") or platform.machine()
    family, model = _cpu_field("cpu family"), _cpu_field("model")
    return f"{name} (family {family} model {model})" if family else name


def _launcher() -> str:
    path = envhub_sandbox.bubblewrap()
    if path is None:
        return "built-in launcher"
    line = [path, "--version"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
