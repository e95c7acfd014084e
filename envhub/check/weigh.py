"""What a session's process holds, read from outside: nothing that it says is believed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

KIB = 1024


@dataclass(frozen=True, slots=True)
class Weight:
    """One look at a session: its process and all below it.

    In the weaker tiers the process that the hub knows is a guardian, and the environment's
    is below it.

    Args:
        pid: of the session's process.
        descriptors: that are open in all of them; None when we may not see them.
        threads: of all of them.
        processes: below the first.
        memory_bytes: private memory in use, of all of them.
        most_descriptors: of one of them, which `open_files` limits.
        most_data_bytes: private memory that one has asked for, which `memory_bytes` limits.
    """

    pid: int
    descriptors: int | None
    threads: int
    processes: int
    memory_bytes: int
    most_descriptors: int
    most_data_bytes: int


def look(pid: int) -> Weight | None:
    """Return what the session holds now; None when it has ended."""
    try:
        below = [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    statuses = {each: status for each in (pid, *below) if (status := _status(each))}
    if pid not in statuses:
        return None
    descriptors = [count for each in statuses if (count := _descriptors(each)) is not None]
    anonymous = [_bytes(s, "RssAnon") + _bytes(s, "RssShmem") for s in statuses.values()]
    return Weight(
        pid,
        sum(descriptors) if len(descriptors) == len(statuses) else None,
        sum(int(status.get("Threads", "1")) for status in statuses.values()),
        len(statuses) - 1,
        sum(anonymous),
        max(descriptors, default=0),
        max(_bytes(status, "VmData") for status in statuses.values()),
    )


def _status(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except OSError:
        return {}


def _descriptors(pid: int) -> int | None:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


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
