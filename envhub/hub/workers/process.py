"""One forked process as the hub sees it: its descriptors, and why it ended.

The zygote is its parent and reaps it; the hub holds a pidfd, so that a kill can never reach
a stranger with a recycled number, and hears of the wait status from the zygote.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from contextlib import suppress
from types import TracebackType

from envhub.errors import RemoteProtocolError
from envhub.hub.places import census
from envhub.hub.places.census import Used
from envhub_sandbox import (
    Cause,
    Grade,
    Limits,
    OwnReason,
    Passed,
    Receipt,
    Verdict,
    judge,
    syscalls,
)
from envhub_sandbox.cgroups import Leaf
from envhub_sandbox.verdict import NOTHING

_NOTE_S = 5.0  # between the end of a process and the zygote's word on it; milliseconds
_LOOK_S = 0.01  # between two looks at whether one has ended that no zygote will tell of


class ForkedProcess:
    """A process in a sandbox. Belongs to the event loop of its worker.

    Args:
        pidfd: of the process; owned by us.
        pid: its number on this machine, for looking at it; never for killing.
        cpu_limit_s: RLIMIT_CPU in force, 0 for none.
        grade: how it is isolated, and so how all of it is killed.

    Attributes:
        limits: in force around it. The owner who knows them sets them.
        leaf: its control group, if it has one.
        is_killed: we have sent SIGKILL.
        kept_bytes: that are kept for it outside, and count as its own.
        is_unreaped: its zygote is wedged, so that nobody will say how it ended.
    """

    def __init__(self, pidfd: int, pid: int, *, cpu_limit_s: int, grade: Grade) -> None:
        self.pidfd = pidfd
        self.pid = pid
        self._cpu_limit_s = cpu_limit_s
        self._own_group = grade.tier == "none"  # and with it its process group
        self._ordered = grade.fenced  # an executioner: SIGTERM is its order
        self._killed_for: tuple[OwnReason, Passed] | None = None
        self.is_killed = False
        self._was_alive = False  # when it was killed, so that this is what ended it
        self.limits = Limits(cpu_s=cpu_limit_s)
        self.leaf: Leaf | None = None
        self.kept_bytes = 0
        self.is_unreaped = False
        self._used = Used()
        self._noted = asyncio.Event()
        self._verdict: Verdict | None = None

    def kill(self, reason: OwnReason, passed: Passed = NOTHING) -> None:
        """Kill it and everything in its namespaces. The first reason given is the verdict's.

        May be called from any thread, and after the end.

        Args:
            reason: why.
            passed: the limit that it passed, if that is why.
        """
        if self._verdict is None and self._killed_for is None:
            self._was_alive = not self.has_ended
            self._killed_for = reason, passed
            self.is_killed = True
        if self.pidfd < 0:
            return
        try:
            if self._ordered:
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
                return
            syscalls.kill(self.pidfd)
            if self._own_group:
                os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself
        if self._own_group and (leaf := self.leaf) is not None:
            leaf.kill()  # what has left the process group, without a namespace

    @property
    def has_ended(self) -> bool:
        """Whether it is gone already, even if nobody has said why."""
        if self.pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def verdict(self) -> Verdict | None:
        """Why it ended; None while it runs, or until the zygote has said it."""
        return self._verdict

    def used_so_far(self) -> Used:
        """Return what it and its descendants have used; never less than before.

        Of one that went with its zygote, or when /proc cannot be read for want of descriptors,
        what was known at the last time. May be called from any thread.
        """
        used = Used()
        if self._verdict is not None:
            used = Used(self._verdict.cpu_s, self._verdict.peak_bytes)
        elif self.pid > 0:
            with suppress(OSError):
                used = census.used(self.pid)
            if self.has_ended:  # so that the number may be another's
                used = Used()
        known = self._used
        cpu_s = max(known.cpu_s, used.cpu_s)
        self._used = Used(cpu_s, max(known.peak_bytes, used.peak_bytes))
        return self._used

    def note_end(self, status: int, cpu_s: float, peak_bytes: int) -> None:
        """Take the zygote's word on how it ended; what we ended ourselves we know."""
        reason, passed = self._killed_for or (None, NOTHING)
        if self._was_alive:
            status = signal.SIGKILL
        if reason is None and self.leaf is not None and (held := self.leaf.passed()):
            reason, passed = "memory_limit", held
        self._settle(
            judge(
                status,
                killed_for=reason,
                passed=passed,
                cpu_s=cpu_s,
                peak_bytes=peak_bytes,
                cpu_limit_s=self._cpu_limit_s,
                file_limit_bytes=self.limits.file_bytes,
            )
        )

    def note_worker_lost(self) -> None:
        """The zygote is gone, and with it the process and what could be known of its end."""
        reason, passed = self._killed_for or ("worker_lost", NOTHING)
        cause: Cause = reason
        found = (passed.limit, passed.allowed, passed.observed)
        self._settle(Verdict(cause, 0, 0.0, 0, *found))

    async def wait_verdict(self) -> Verdict:
        """Wait until it has been reaped. The process must have ended, or been killed."""
        try:
            async with asyncio.timeout(_NOTE_S):
                while not self._noted.is_set() and not (self.is_unreaped and self.has_ended):
                    await self._wait_noted(_LOOK_S if self.is_unreaped else _NOTE_S)
        except TimeoutError:
            pass
        self.note_worker_lost()
        assert self._verdict is not None
        return self._verdict

    async def _wait_noted(self, at_most_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._noted.wait()

    def discard(self) -> None:
        """End it, for nobody wants it; its zygote reaps it."""
        self.kill("closed")
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Give the pidfd and the control group back. Idempotent."""
        if self.leaf is not None:
            self.leaf.remove()
            self.leaf = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _settle(self, verdict: Verdict) -> None:
        if self._verdict is None:
            self._verdict = verdict
            self._noted.set()


class HeldToProtocol:
    """Kills a process if, in its block, what that said turns out to break the protocol.

    No generator: every step enters it.

    Args:
        process: that said it.
    """

    def __init__(self, process: ForkedProcess) -> None:
        self._process = process

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, RemoteProtocolError):
            self._process.kill("protocol")


class SessionProcess(ForkedProcess):
    """A session's process: isolated, and from the first reset on with its environment.

    Args:
        pidfd: see ForkedProcess.
        pid: see ForkedProcess.
        cpu_limit_s: see ForkedProcess.
        grade: see ForkedProcess.
        channel: stream socket to it.
        output: what it prints, both streams; a pipe that never blocks us.
        broker: SOCK_SEQPACKET on which it asks for agent sandboxes; None if it may not.

    Attributes:
        cancels: its environment says that it can be asked to leave a call.
    """

    def __init__(
        self,
        pidfd: int,
        pid: int,
        *,
        cpu_limit_s: int,
        grade: Grade,
        channel: socket.socket,
        output: int,
        broker: socket.socket | None,
    ) -> None:
        super().__init__(pidfd, pid, cpu_limit_s=cpu_limit_s, grade=grade)
        self.channel = channel
        self.output = output
        self.broker = broker
        self.receipt = Receipt("none", "", ())
        self._held = HeldToProtocol(self)
        self.used = False
        self.cancels = False

    def ring(self) -> None:
        """Have it look at its socket during a call. May be called from any thread."""
        try:
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, syscalls.DOORBELL)
        except OSError:
            pass  # it has ended; or we may not, and it is killed for its silence

    def held_to_protocol(self) -> HeldToProtocol:
        """Kill it if, in this block, what it said turns out to break the protocol."""
        return self._held

    def close_descriptors(self) -> None:
        """Give every descriptor back. Idempotent."""
        super().close_descriptors()
        self.channel.close()
        if self.broker is not None:
            self.broker.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


def parent_of(pid: int) -> int | None:
    """Return the parent's number, which is 0 for one that we cannot see.

    None when the process has just ended.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def only_child(pid: int) -> int | None:
    """Return the number of a launcher's child, the zygote; None when there is none."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            found = file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(found[0]) if found else None
