"""What runs below a server, by kind; and signals that reach nobody else."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

KINDS = ("launcher", "zygote", "session", "runner", "keeper", "interpreter", "other")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as it was when we looked.

    Args:
        pid: its number.
        parent: that of its parent.
        state: as in /proc: "R", "S", "T", "Z", ….
        words: its command line.
    """

    pid: int
    parent: int
    state: str
    words: str


def look(pid: int) -> Process | None:
    """Return a process; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:  # it ended while we looked
        return None
    return Process(pid, int(stat[1]), stat[0], words.decode(errors="replace"))


def all_processes() -> dict[int, Process]:
    """Return every process of this pid namespace."""
    found = (look(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {process.pid: process for process in found if process is not None}


def below(root: int) -> dict[int, list[Process]]:
    """Return the descendants of a process by depth, its children being at 1."""
    everybody = all_processes()
    children: dict[int, list[Process]] = {}
    for process in everybody.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[int, list[Process]] = {}
    level, depth = [root], 0
    while level:
        depth += 1
        here = [child for parent in level for child in children.get(parent, [])]
        if here:
            found[depth] = here
        level = [process.pid for process in here]
    return found


def by_kind(root: int) -> dict[str, list[Process]]:
    """Return the descendants of a hub by what they are to it."""
    found: dict[str, list[Process]] = {kind: [] for kind in KINDS}
    levels = below(root)
    by_pid = {process.pid: process for level in levels.values() for process in level}
    for depth, level in levels.items():
        for process in level:
            found[_kind(process, depth, by_pid)].append(process)
    return found


def _kind(process: Process, depth: int, by_pid: dict[int, Process]) -> str:
    if depth == 1:
        return "launcher"
    runs_agents = "envhub.runner" in process.words
    if depth == 2:
        return "runner" if runs_agents else "zygote"
    if depth == 3:
        return "keeper" if runs_agents else "session"
    return "interpreter" if runs_agents and depth == 4 else "other"


def open_victim(process: Process) -> int:
    """Return a pidfd of a process that is still the one we saw; -1 if it has gone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return -1
    now = look(process.pid)
    if now is None or (now.parent, now.words) != (process.parent, process.words):
        os.close(pidfd)
        return -1
    return pidfd


def send(pidfd: int, number: signal.Signals) -> bool:
    """Send a signal; whether somebody was there to get it."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    return True


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def mounts(pid: int) -> int:
    """Return how many mounts a process sees."""
    return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())


def memory(pid: int) -> dict[str, int]:
    """Return resident and proportional memory of a process in KiB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name.lower()] = int(rest.split()[0])
    return found


def memory_or_none(pid: int) -> int:
    """Return the proportional memory of a process in KiB; 0 if it is gone."""
    try:
        return memory(pid).get("pss", 0)
    except OSError:
        return 0


def zombies() -> list[Process]:
    """Return who has ended and was not reaped, in this pid namespace."""
    return [process for process in all_processes().values() if process.state == "Z"]


def groups() -> int:
    """Return how many control groups envhub has made that are still there."""
    found = 0
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup"):
            at = fields.split()[4]
            found += sum(
                name.startswith("envhub-") for _, names, _ in os.walk(at) for name in names
            )
    return found
