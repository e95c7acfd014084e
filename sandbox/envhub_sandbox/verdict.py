"""Why a sandboxed process ended, from evidence: its wait status, its usage, and who killed it.

The cause is one of a closed set. What the owner did itself it knows and need not guess: it
passes its own reason in `killed_for`, and the wait status only confirms it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "exited",  # by itself; detail is the exit code
    "signalled",  # by a signal that nobody here sent; detail is its number
    "cpu_limit",  # used up its CPU seconds
    "file_limit",  # SIGXFSZ
    "syscall_denied",  # SIGSYS: another architecture's system calls
    "deadline",  # killed by its owner: a call was not answered in time
    "episode_deadline",  # killed by its owner: its episode went on for too long
    "idle",  # killed by its owner: nobody called it for too long
    "output_limit",  # killed by its owner: printed too much
    "frame_limit",  # killed by its owner: sent too long a message
    "memory_limit",  # killed by its owner, or by a control group: all of it used too much
    "process_limit",  # killed by its owner: too many processes and threads
    "protocol",  # killed by its owner: sent what is not a message
    "cancelled",  # killed by its owner: its call was cancelled
    "closed",  # killed by its owner: no longer needed
    "worker_lost",  # went with its zygote
]
OwnReason = Literal[
    "deadline",
    "episode_deadline",
    "idle",
    "output_limit",
    "frame_limit",
    "memory_limit",
    "process_limit",
    "protocol",
    "cancelled",
    "closed",
    "worker_lost",
]
HOST_MEMORY = "host_memory"  # the machine's own limit, not one of the session

_BY_SIGNAL: dict[int, Cause] = {
    signal.SIGXCPU: "cpu_limit",
    signal.SIGXFSZ: "file_limit",
    signal.SIGSYS: "syscall_denied",
}


@dataclass(frozen=True, slots=True)
class Passed:
    """A limit that was passed.

    Args:
        limit: its name, such as "output_bytes" or "step_s"; "" for none.
        allowed: in the unit that the name ends in.
        observed: likewise; 0 where it cannot be known. For "host_memory" both are what the
            machine had available: `allowed` is the least that is kept free.
    """

    limit: str = ""
    allowed: float = 0
    observed: float = 0


NOTHING = Passed()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a process ended.

    Args:
        cause: the reason, one of a closed set.
        detail: exit code for "exited", signal number otherwise; 0 where there is neither.
        cpu_s: CPU seconds that the process and its reaped children used.
        peak_bytes: largest resident set of any of them, shared pages included.
        limit: see Passed.
        allowed: see Passed.
        observed: see Passed.
    """

    cause: Cause
    detail: int = 0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    limit: str = ""
    allowed: float = 0
    observed: float = 0

    @property
    def ok(self) -> bool:
        """Whether the process exited with code 0, or was no longer needed."""
        return (self.cause == "exited" and self.detail == 0) or self.cause == "closed"

    def __str__(self) -> str:
        match self.cause:
            case "exited":
                return f"exited with code {self.detail}"
            case "signalled":
                return f"ended by {_signal_name(self.detail)}"
            case "cpu_limit":
                allowed = f", allowed {self.allowed:g} s" if self.limit else ""
                return f"used up its CPU time ({self.cpu_s:.1f} s{allowed})"
            case "file_limit":
                allowed = f" of {_size(self.allowed)}" if self.limit else ""
                return f"wrote a file longer than its limit{allowed}"
            case "syscall_denied":
                return "made a system call of another architecture"
            case "deadline":
                allowed = f" of {self.allowed:g} s" if self.limit else ""
                return f"killed at its deadline{allowed}"
            case "episode_deadline":
                return f"killed at the end of its episode's time{self._numbers(_seconds)}"
            case "idle":
                return f"closed for not being called{self._numbers(_seconds)}"
            case "output_limit":
                return f"killed for printing too much{self._numbers(_size)}"
            case "frame_limit":
                return f"killed for too long a message{self._numbers(_size)}"
            case "memory_limit" if self.limit == HOST_MEMORY:
                left, kept = _size(self.observed), _size(self.allowed)
                return f"killed because the machine had {left} of memory left, and keeps {kept}"
            case "memory_limit":
                used, allowed = _size(self.observed), _size(self.allowed)
                return f"used {used} of memory, allowed {allowed}"
            case "process_limit":
                return f"ran {self.observed:g} processes and threads, allowed {self.allowed:g}"
            case "protocol":
                return "killed for breaking the protocol"
            case "cancelled":
                kept = f", and it did not stop by itself{self._numbers(_seconds)}"
                return f"killed because the call was cancelled{kept if self.limit else ''}"
            case "closed":
                return "closed"
            case "worker_lost":
                return "went with its worker"

    def _numbers(self, words: Callable[[float], str]) -> str:
        if not self.limit:
            return ""
        return f": {words(self.observed)}, allowed {words(self.allowed)}"


def judge(
    status: int,
    *,
    killed_for: OwnReason | None = None,
    passed: Passed = NOTHING,
    cpu_s: float = 0.0,
    peak_bytes: int = 0,
    cpu_limit_s: float = 0.0,
    file_limit_bytes: int = 0,
) -> Verdict:
    """Return the verdict on a wait status.

    Args:
        status: as `os.waitpid` gives it. It comes from a zygote, which is not trusted: of
            what is no status of an end, nothing can be known but the owner's reason.
        killed_for: why the owner had sent SIGKILL, if it had.
        passed: the limit for which it had.
        cpu_s: CPU seconds used.
        peak_bytes: largest resident set.
        cpu_limit_s: RLIMIT_CPU that was in force, 0 for none. A pid 1 ignores SIGXCPU and
            meets SIGKILL at the hard limit, so SIGKILL with the time used up is that limit.
        file_limit_bytes: RLIMIT_FSIZE that was in force, 0 where it is not known.
    """

    def verdict(cause: Cause, detail: int, passed: Passed = NOTHING) -> Verdict:
        found = (passed.limit, passed.allowed, passed.observed)
        return Verdict(cause, detail, cpu_s, peak_bytes, *found)

    try:
        code = os.waitstatus_to_exitcode(status)
    except (ValueError, OverflowError):
        return verdict(killed_for or "worker_lost", 0, passed)
    if code >= 0:
        return verdict("exited", code)
    number = -code
    cause: Cause = _BY_SIGNAL.get(number, "signalled")
    if number == signal.SIGKILL:
        if killed_for is not None:
            return verdict(killed_for, number, passed)
        if cpu_limit_s and cpu_s >= cpu_limit_s:
            cause = "cpu_limit"
    if cause == "cpu_limit" and cpu_limit_s:
        return verdict(cause, number, Passed("cpu_s", cpu_limit_s, cpu_s))
    if cause == "file_limit" and file_limit_bytes:
        return verdict(cause, number, Passed("file_bytes", file_limit_bytes))
    return verdict(cause, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def _size(value: float) -> str:
    """Return a number of bytes as people write it: 1.2 GiB, 1 GiB, 300 B."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"
