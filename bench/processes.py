"""Processes of this machine, read from /proc: their children, their end, their memory."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections import defaultdict
from pathlib import Path


def tree(root: int) -> list[int]:
    """Return every descendant of process `root`, as they are now."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            # the name in parentheses may hold anything, parentheses too
            parent = int(text.rpartition(")")[2].split()[1])
            children[parent].append(int(entry))
    found: list[int] = []
    look_at = [root]
    while look_at:
        below = children[look_at.pop()]
        found += below
        look_at += below
    return found


class Deaths:
    """Waits for processes to end, by their pidfds: asleep, so it takes no time from them.

    Args:
        pids: of live processes.
    """

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._pidfds: list[int] = []
        try:
            for pid in pids:
                self._pidfds.append(os.pidfd_open(pid))
        except BaseException:
            self.close()
            raise

    def wait_dead(self, deadline_s: float) -> float:
        """Wait until all have ended; return the time of the last end, as perf_counter says.

        Raises:
            TimeoutError: some still run.
        """
        poll = select.poll()
        for pidfd in self._pidfds:
            poll.register(pidfd, select.POLLIN)
        left = len(self._pidfds)
        deadline = time.perf_counter() + deadline_s
        while left:
            ended = poll.poll(max(0.0, deadline - time.perf_counter()) * 1000)
            if not ended:
                raise TimeoutError(f"{left} of {len(self._pids)} processes survived the kill")
            for pidfd, _ in ended:
                poll.unregister(pidfd)
            left -= len(ended)
        return time.perf_counter()

    def wait_gone(self, deadline_s: float) -> float:
        """Wait until none has an entry in /proc; return when. Reaps those that are ours.

        Raises:
            TimeoutError: some are still there.
        """
        deadline = time.perf_counter() + deadline_s
        left = self._pids
        while True:
            for pid in left:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass  # somebody else's to reap
            left = [pid for pid in left if os.path.exists(f"/proc/{pid}")]
            now = time.perf_counter()
            if not left:
                return now
            if now > deadline:
                raise TimeoutError(f"{len(left)} processes are still in /proc")
            time.sleep(0.0002)

    def close(self) -> None:
        """Give the descriptors back. Idempotent."""
        while self._pidfds:
            os.close(self._pidfds.pop())


def run_to_end(line: list[str], deadline_s: float = 60.0) -> float:
    """Run a program and return how long it took, in seconds.

    Waits by pidfd: `subprocess`, given a timeout, looks at ever longer intervals, up to 50 ms.

    Raises:
        RuntimeError: it failed, or was killed at the deadline.
    """
    start = time.perf_counter()
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL)
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(deadline_s * 1000)
        end = time.perf_counter()
    finally:
        os.close(pidfd)
        process.kill()
        code = process.wait()
    if code:
        raise RuntimeError(f"`{' '.join(line)}` ended with {code}")
    return end - start


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and all its threads; 0 of one that is gone."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), as glibc makes it
    except OSError:
        return 0.0


def cpu_s_with_ended(pid: int) -> float:
    """As `cpu_s`, to a hundredth, and with that of its children that it has waited for."""
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text.rpartition(")")[2].split()[11:15]  # utime, stime, cutime, cstime
    return sum(map(int, fields)) / os.sysconf("SC_CLK_TCK")


def rollup(pid: int) -> dict[str, int]:
    """Return the memory of a process in bytes, by kind, such as "Pss"."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.split()[:2] for line in lines)
    return {name.rstrip(":"): int(value) * 1024 for name, value in pairs}


def pss(pid: int) -> int:
    """Return the process's share of memory in bytes; 0 of one that is gone."""
    try:
        return rollup(pid)["Pss"]
    except (OSError, KeyError):
        return 0


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # the listing's own


def descriptors_of(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads_of(pid: int) -> int:
    """Return how many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))
