"""Why a sandboxed process ended, from evidence: its wait status, its usage, and who killed it.

The cause is one of a closed set. What the owner did itself it knows and need not guess: it
passes its own reason in `killed_for`, and the wait status only confirms it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "exited",  # by itself; detail is the exit code
    "signalled",  # by a signal that nobody here sent; detail is its number
    "cpu_limit",  # used up its CPU seconds
    "file_limit",  # SIGXFSZ
    "syscall_denied",  # SIGSYS: another architecture's system calls
    "deadline",  # killed by its owner: a call was not answered in time
    "output_limit",  # killed by its owner: printed too much
    "protocol",  # killed by its owner: sent what is not a message
    "closed",  # killed by its owner: no longer needed
    "worker_lost",  # went with its zygote
]
OwnReason = Literal["deadline", "output_limit", "protocol", "closed", "worker_lost"]

_BY_SIGNAL: dict[int, Cause] = {
    signal.SIGXCPU: "cpu_limit",
    signal.SIGXFSZ: "file_limit",
    signal.SIGSYS: "syscall_denied",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a process ended.

    Args:
        cause: the reason, one of a closed set.
        detail: exit code for "exited", signal number otherwise; 0 where there is neither.
        cpu_s: CPU seconds that the process and its reaped children used.
        peak_bytes: largest resident set of any of them, shared pages included.
    """

    cause: Cause
    detail: int = 0
    cpu_s: float = 0.0
    peak_bytes: int = 0

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
                return f"used up its CPU time ({self.cpu_s:.1f} s)"
            case "file_limit":
                return "wrote a file longer than its limit"
            case "syscall_denied":
                return "made a system call of another architecture"
            case "deadline":
                return "killed at its deadline"
            case "output_limit":
                return "killed for printing too much"
            case "protocol":
                return "killed for breaking the protocol"
            case "closed":
                return "closed"
            case "worker_lost":
                return "went with its worker"


def judge(
    status: int,
    *,
    killed_for: OwnReason | None = None,
    cpu_s: float = 0.0,
    peak_bytes: int = 0,
    cpu_limit_s: float = 0.0,
) -> Verdict:
    """Return the verdict on a wait status.

    Args:
        status: as `os.waitpid` gives it. It comes from a zygote, which is not trusted: of
            what is no status of an end, nothing can be known but the owner's reason.
        killed_for: why the owner had sent SIGKILL, if it had.
        cpu_s: CPU seconds used.
        peak_bytes: largest resident set.
        cpu_limit_s: RLIMIT_CPU that was in force, 0 for none. A pid 1 ignores SIGXCPU and
            meets SIGKILL at the hard limit, so SIGKILL with the time used up is that limit.
    """
    try:
        code = os.waitstatus_to_exitcode(status)
    except (ValueError, OverflowError):
        return Verdict(killed_for or "worker_lost", 0, cpu_s, peak_bytes)
    if code >= 0:
        return Verdict("exited", code, cpu_s, peak_bytes)
    number = -code
    cause: Cause = _BY_SIGNAL.get(number, "signalled")
    if number == signal.SIGKILL:
        if killed_for is not None:
            cause = killed_for
        elif cpu_limit_s and cpu_s >= cpu_limit_s:
            cause = "cpu_limit"
    return Verdict(cause, number, cpu_s, peak_bytes)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
