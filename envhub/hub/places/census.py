"""Which processes the machine has, and what the tree below one of them uses.

Two measures. The cheap one is one read for each process of the machine: its parent, its
threads and its resident set. A resident set counts what is shared once for each process, so
the sum over a tree is never below what the tree holds. The dear one, taken only where the
cheap one gives cause, divides what is shared by those who share it (proportional set size).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from envhub_sandbox import WORKSPACE

_SLICE = 64  # processes read before others may have the loop: 0.5 ms
_MOST = 4096  # processes of one tree that are looked at; a limit on them is far below
_STAT_BYTES = 1024
_ROLLUP_BYTES = 4096
_FILES = (WORKSPACE, "/tmp", "/dev/shm")  # noqa: S108  (of the session)
_MOST_USED = 1024  # likewise, when somebody waits for the answer
_CPU_CLOCK = 2  # CPUCLOCK_SCHED: see clock_getcpuclockid(3)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_HELD = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")


@dataclass(slots=True)
class Tree:
    """A process and its descendants, at the time of the census.

    Args:
        pids: with the time that each was started, in the kernel's ticks.
        threads: of all of them.
        resident_bytes: what they hold at most, files apart.
    """

    pids: list[tuple[int, int]] = field(default_factory=list)
    threads: int = 0
    resident_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """What processes have used until now, or until their end.

    Args:
        cpu_s: CPU seconds of all of them.
        peak_bytes: largest resident set of any of them.
    """

    cpu_s: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: Used) -> Used:
        """Return what both have used."""
        return Used(self.cpu_s + other.cpu_s, max(self.peak_bytes, other.peak_bytes))


class Census:
    """Every process at one time, by parent. Made by `take`."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int, int]] = {}
        self._children: dict[int, list[int]] = {}

    def add(self, pid: int) -> None:
        """Read one process; one that has ended is left out."""
        stat = _read(f"/proc/{pid}/stat", _STAT_BYTES)
        fields = stat.rpartition(b")")[2].split(None, 22)
        if len(fields) > 21:
            threads, started, pages = int(fields[17]), int(fields[19]), int(fields[21])
            self._seen[pid] = threads, started, pages
            self._children.setdefault(int(fields[1]), []).append(pid)

    def tree(self, root: int) -> Tree:
        """Return what was seen of `root` and everything below it."""
        tree = Tree()
        left = [root]
        pages = 0
        while left and len(tree.pids) < _MOST:
            pid = left.pop()
            if pid in self._seen:
                threads, started, resident = self._seen[pid]
                tree.pids.append((pid, started))
                tree.threads += threads
                pages += resident
                left += self._children.get(pid, ())
        tree.resident_bytes = pages * _PAGE_BYTES
        return tree


async def take() -> Census:
    """Read every process, in slices: others have the loop between them.

    Raises:
        OSError: /proc cannot be listed.
    """
    census = Census()
    for at, name in enumerate(os.listdir("/proc")):
        if name.isdigit():
            census.add(int(name))
        if at % _SLICE == 0:
            await asyncio.sleep(0)
    return census


def held_bytes(pids: Iterable[tuple[int, int]]) -> int:
    """Return the memory that these processes hold, without files. Blocks: milliseconds a GiB.

    A number that another process has since is not counted.
    """
    total = 0
    for pid, started in pids:
        rollup = _read(f"/proc/{pid}/smaps_rollup", _ROLLUP_BYTES)
        if started == _started(pid):
            total += sum(
                int(line.split()[1]) * 1024
                for line in rollup.splitlines()
                if line.startswith(_HELD)
            )
    return total


def used(root: int) -> Used:
    """Return what a live process, its descendants and those of them that ended have used.

    What ended below one that lives is known in hundredths of a second. The caller makes sure
    that `root` is still the process that he means.
    """
    total = Used()
    left = [root]
    for _ in range(_MOST_USED):
        if not left:
            break
        pid = left.pop()
        fields = _read(f"/proc/{pid}/stat", _STAT_BYTES).rpartition(b")")[2].split(None, 16)
        try:
            cpu_s = time.clock_gettime((~pid << 3) | _CPU_CLOCK)
        except OSError:
            continue  # it has ended, and is its parent's to count
        if len(fields) > 15:
            cpu_s += (int(fields[13]) + int(fields[14])) / _TICKS
        total += Used(cpu_s, _peak_bytes(pid))
        left += _children(pid)
    return total


def file_bytes(pid: int) -> int:
    """Return what the files in a session's own file systems hold; 0 if it has none."""
    try:
        if os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return 0
        systems = [os.statvfs(f"/proc/{pid}/root{path}") for path in _FILES]
    except OSError:
        return 0  # it has ended
    return sum((s.f_blocks - s.f_bfree) * s.f_frsize for s in systems)


def available_bytes() -> int:
    """Return what the kernel thinks programs can still have, without swapping."""
    for line in _read("/proc/meminfo", _ROLLUP_BYTES).splitlines():
        if line.startswith(b"MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("no MemAvailable in /proc/meminfo")


def _peak_bytes(pid: int) -> int:
    for line in _read(f"/proc/{pid}/status", _ROLLUP_BYTES).splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _children(pid: int) -> list[int]:
    """Return the children of all threads of a process."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    found = (_read(f"/proc/{pid}/task/{task}/children", _ROLLUP_BYTES) for task in tasks)
    return [int(child) for children in found for child in children.split()]


def _started(pid: int) -> int:
    fields = _read(f"/proc/{pid}/stat", _STAT_BYTES).rpartition(b")")[2].split(None, 20)
    return int(fields[19]) if len(fields) > 19 else -1


def _read(path: str, most_bytes: int) -> bytes:
    """Return the beginning of a file of /proc; nothing when its process has ended."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        return os.read(file, most_bytes)
    except ProcessLookupError:
        return b""
    finally:
        os.close(file)
