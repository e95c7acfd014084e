"""What a session's process holds, read from outside: nothing that it says is believed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

KIB = 1024


@dataclass(frozen=True, slots=True)
class Weight:
    """One look at a session's process.

    Args:
        pid: which process it was.
        descriptors: that it has open; None when we may not see them.
        threads: of it.
        processes: below it.
        memory_bytes: private memory in use.
        data_bytes: private memory that it has asked for, which `memory_bytes` limits.
    """

    pid: int
    descriptors: int | None
    threads: int
    processes: int
    memory_bytes: int
    data_bytes: int


def look(pid: int) -> Weight | None:
    """Return what the process holds now; None when it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        processes = len(psutil.Process(pid).children(recursive=True))
    except (OSError, psutil.NoSuchProcess):
        return None
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        descriptors = None
    return Weight(
        pid,
        descriptors,
        int(lines.get("Threads", "1")),
        processes,
        _bytes(lines, "RssAnon") + _bytes(lines, "RssShmem"),
        _bytes(lines, "VmData"),
    )


def _bytes(lines: dict[str, str], name: str) -> int:
    words = lines.get(name, "0 kB").split()
    return int(words[0]) * KIB


def growth(samples: Sequence[float]) -> float:
    """Return by how much samples grow for each one, once they have settled."""
    rest = _settled(samples)
    return (rest[-1] - rest[0]) / (len(rest) - 1) if len(rest) > 1 else 0.0


def steadily(samples: Sequence[float], least: float) -> bool:
    """Whether samples grow by `least` or more for each one, and do so to the end.

    What fills up, such as a cache, grows in the first half only.
    """
    rest = _settled(samples)
    if len(rest) < 4:
        return False
    middle = len(rest) // 2
    halves = rest[: middle + 1], rest[middle:]
    slopes = [(half[-1] - half[0]) / (len(half) - 1) for half in halves]
    return growth(samples) >= least and min(slopes) >= least / 2


def _settled(samples: Sequence[float]) -> Sequence[float]:
    """Leave out the first third: what is loaded on first use is no leak."""
    return samples[len(samples) // 3 :]
