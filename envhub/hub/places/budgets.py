"""How many sessions this machine affords: by memory, by descriptors, by processes.

Counted when a hub opens, at the dear end of what one session costs, from what is left then.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from envhub.hub.places import census
from envhub.hub.places.admission import SESSION_BYTES
from envhub_sandbox import cgroups

Bound = Literal["memory", "descriptors", "processes", "max_sessions"]
_SESSION_DESCRIPTORS = 8  # at most, with agent sandboxes
_SESSION_PROCESSES = 5  # coding's three, two of them with an executioner in some tiers
_SPARE_DESCRIPTORS = 128  # for workers, the front door's listeners, and the user's program
_SPARE_PROCESSES = 32  # likewise
_FLOOR_BYTES = 512 * 1024 * 1024  # kept free of the machine's memory; a twentieth, if less


def memory_floor(given_bytes: int | None) -> int:
    """Return how much of the machine's memory is kept free: what was given, if anything."""
    if given_bytes is not None:
        return given_bytes
    return min(_FLOOR_BYTES, psutil.virtual_memory().total // 20)


def raise_descriptor_limit() -> None:
    """Take what this process may have of descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def places(max_sessions: int | None) -> tuple[int, Bound]:
    """Return how many sessions there may be, and what bounds them.

    Args:
        max_sessions: as the operator has decided, who knows what a session costs; None counts.
    """
    if max_sessions is not None:
        return max_sessions, "max_sessions"
    bounds: dict[Bound, int] = {
        "memory": census.available_bytes() // SESSION_BYTES,
        "descriptors": (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS)
        // _SESSION_DESCRIPTORS,
    }
    if (left := min(processes_left(), default=None)) is not None:
        bounds["processes"] = (left - _SPARE_PROCESSES) // _SESSION_PROCESSES
    by = min(bounds, key=lambda bound: bounds[bound])
    return max(1, bounds[by]), by


def processes_left() -> Iterator[int]:
    """Yield how many more processes each limit on them allows, where there is such a limit."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if allowed != resource.RLIM_INFINITY:
        # root's do not count; under root, sandboxes run as a user that has no others
        yield allowed - (_threads_of(os.getuid()) if os.getuid() else 0)
    with suppress(OSError, ValueError):
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
        for limit in ("pid_max", "threads-max"):
            yield int(Path("/proc/sys/kernel", limit).read_text()) - running
    yield from cgroups.processes_left()


def _threads_of(uid: int) -> int:
    """Return how many threads a user has: what RLIMIT_NPROC counts."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                if os.stat(f"/proc/{name}").st_uid == uid:
                    total += len(os.listdir(f"/proc/{name}/task"))
    return total
