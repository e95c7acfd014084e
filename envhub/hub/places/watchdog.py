"""The watchdog: holds what no rlimit can, by looking twice a second.

An rlimit counts one process. What a session uses together (private memory of all its
processes, what they share, the files in its tmpfs, what the hub keeps for it) is summed here,
and a session past its limit is killed with the numbers as its verdict. So what it takes
between two looks is not held, and where that matters a control group is the answer; see
docs/decisions. No control group holds what is kept in the hub; a look does, beside one, too.

The machine has a limit, too. While less memory is available than is kept free no session is
admitted, and below half of that the largest one is killed.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import anyio
import anyio.to_thread

from envhub.errors import UsageError
from envhub.hub.places import census
from envhub.hub.places.census import Census, Tree
from envhub.hub.workers.process import ForkedProcess
from envhub_sandbox import Passed, cgroups
from envhub_sandbox.cgroups import Cgroups
from envhub_sandbox.sweep import Sweeper
from envhub_sandbox.verdict import HOST_MEMORY

LOOK_S = 0.5  # between two looks
_SLICE = 64  # sessions summed before others may have the loop
# where RLIMIT_NPROC does not count for each session a kill does, and a kill is coarser
_PROCESS_FACTOR = 4
_EASE = 20  # a dear measure is repeated after so many times what it took: 5 % of a core
_LARGEST = 4  # sessions that are measured to find the largest
_WORTH_BYTES = 64 * 1024 * 1024  # killing a smaller one would not help the machine
_GONE_S = 5.0  # for killed processes to be gone
_RELIEF_LOOKS = 4  # the kernel takes that long to get a large session's memory back


class Watchdog:
    """Watches the processes of one hub. Belongs to its event loop.

    Args:
        floor_bytes: memory of the machine that is kept free.

    Attributes:
        cgroups: where sessions get control groups of their own; None for none. They hold
            exactly what is held here by looking, which goes on all the same.
    """

    def __init__(self, floor_bytes: int) -> None:
        self.floor_bytes = floor_bytes
        self.cgroups: Cgroups | None = None
        self._sweeper: Sweeper | None = None
        self._watched: dict[ForkedProcess, bool] = {}
        self._not_before: dict[ForkedProcess, float] = {}
        self._relief = 0
        self.available_bytes = floor_bytes

    @property
    def is_short(self) -> bool:
        """Whether the machine has less memory than is kept free."""
        return self.available_bytes < self.floor_bytes

    @property
    def memory_control(self) -> str:
        """What holds a session's memory: "cgroup v2", "cgroup v1" or "watchdog"."""
        if self.cgroups is not None and self.cgroups.holds_memory:
            return self.cgroups.kind
        return "watchdog"

    def use_cgroup(self, named: str) -> None:
        """Find where sessions get control groups: "auto", "off", or the path of a group.

        Raises:
            UsageError: the group that was named cannot be used.
        """
        if named == "off":
            return
        try:
            self.cgroups = cgroups.find("" if named == "auto" else named)
        except OSError as error:
            raise UsageError(f"the control group `{named}` cannot be used: {error}") from error
        if self.cgroups is not None:
            with suppress(OSError):  # there is no shell; then the next hub sweeps
                self._sweeper = self.cgroups.sweeper()

    def watch(self, process: ForkedProcess, *, count_processes: bool) -> None:
        """Watch a session's or agent sandbox's first process until it ends.

        It is put into its control group here, before it runs anybody's code.

        Args:
            process: with its limits.
            count_processes: also kill it past four times `processes`. For tiers in which the
                kernel does not count them for each session.
        """
        self._watched[process] = count_processes
        if self.cgroups is not None and process.pid > 0:
            try:
                process.leaf = self.cgroups.leaf(process.pid, process.limits)
            except OSError:
                pass  # it has ended, or there are too many groups: then it is watched only

    async def look(self) -> None:
        """Look once, and kill what is over.

        Raises:
            OSError: /proc cannot be read.
        """
        self.available_bytes = census.available_bytes()
        for process in [p for p in self._watched if p.pidfd < 0 or p.verdict is not None]:
            del self._watched[process]
            self._not_before.pop(process, None)
        if not self._watched:
            return
        taken = await census.take()
        trees = await self._trees(taken)
        for process, tree in trees.items():
            self._hold_processes(process, tree)
            self._note_oom(process)
            if self._is_suspect(process, tree):
                await self._hold_memory(process, tree)
        await self._relieve(trees)

    async def aclose(self) -> None:
        """Remove the last control groups. When every process has been killed."""
        with anyio.move_on_after(_GONE_S):
            while self.cgroups and not self.cgroups.remove_left():  # noqa: ASYNC110 (no event)
                await anyio.sleep(0.01)
        if self._sweeper is not None:
            self._sweeper.close()

    async def _trees(self, taken: Census) -> dict[ForkedProcess, Tree]:
        trees: dict[ForkedProcess, Tree] = {}
        for at, process in enumerate(list(self._watched)):
            if at % _SLICE == 0:
                await asyncio.sleep(0)
            if process.pid > 0 and not process.is_killed:
                trees[process] = taken.tree(process.pid)
        return trees

    def _hold_processes(self, process: ForkedProcess, tree: Tree) -> None:
        allowed = _PROCESS_FACTOR * process.limits.processes
        if self._watched.get(process) and tree.threads > allowed and _lives(process):
            process.kill("process_limit", Passed("processes", allowed, tree.threads))

    def _note_oom(self, process: ForkedProcess) -> None:
        """Kill all of a session of which cgroup v1 has killed one process."""
        if process.leaf is None or self.memory_control != "cgroup v1":
            return
        if (passed := process.leaf.passed()) and _lives(process):
            process.kill("memory_limit", passed)

    def _is_suspect(self, process: ForkedProcess, tree: Tree) -> bool:
        """Whether it could be over: with shared pages counted for each, and its files full."""
        limits = process.limits
        most = tree.resident_bytes + limits.file_memory_bytes + process.kept_bytes
        if not limits.session_memory_bytes or most <= limits.session_memory_bytes:
            return False
        return time.monotonic() >= self._not_before.get(process, 0.0)

    async def _hold_memory(self, process: ForkedProcess, tree: Tree) -> None:
        used = await self._measure(process, tree) + process.kept_bytes
        allowed = process.limits.session_memory_bytes
        if used > allowed and _lives(process):
            process.kill("memory_limit", Passed("session_memory_bytes", allowed, used))

    async def _measure(self, process: ForkedProcess, tree: Tree) -> int:
        """Return what it holds. In a thread: the kernel walks every page of it."""
        began = time.monotonic()
        used = await anyio.to_thread.run_sync(_used_bytes, process.pid, tree)
        now = time.monotonic()
        self._not_before[process] = now + _EASE * (now - began)
        return used

    async def _relieve(self, trees: dict[ForkedProcess, Tree]) -> None:
        self._relief = max(0, self._relief - 1)
        if self.available_bytes >= self.floor_bytes // 2 or self._relief:
            return
        by_size = sorted(trees, key=lambda p: trees[p].resident_bytes, reverse=True)
        used = {p: await self._measure(p, trees[p]) for p in by_size[:_LARGEST] if _lives(p)}
        largest = max(used, key=lambda p: used[p], default=None)
        if largest is not None and used[largest] >= _WORTH_BYTES and _lives(largest):
            passed = Passed(HOST_MEMORY, self.floor_bytes, self.available_bytes)
            largest.kill("memory_limit", passed)
            self._relief = _RELIEF_LOOKS


def _used_bytes(pid: int, tree: Tree) -> int:
    return census.held_bytes(tree.pids) + census.file_bytes(pid)


def _lives(process: ForkedProcess) -> bool:
    """Whether its number was its own when it was looked at: it has the process still."""
    return process.pidfd >= 0 and not process.is_killed and not process.has_ended
