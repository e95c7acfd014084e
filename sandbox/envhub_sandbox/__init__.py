"""Run programs in a sandbox, and fork isolated processes from them in milliseconds.

Standard library only; knows nothing of envhub; needs no root and no container engine.

What is covered:
- the filesystem: an empty root, plus the paths that the view shows, read-only; private
  /workspace, /tmp and /dev/shm with quotas for each session
- the network: none, not even loopback to the host
- other processes: PID, IPC, user and UTS namespaces of its own; a session's end is atomic
- the kernel: a system call filter, no capability, no way to gain a privilege, Landlock
- memory of a process, CPU time, processes, open files, file size, by rlimits

What is not covered:
- bugs of the Linux kernel itself: one kernel serves host and sandbox
- side channels: timing, caches, load
- memory of a whole session: the limits count each process
- what a bound path gives away

See docs/security.md for the threat model, and tests/sandbox for the attacks that must fail.
"""

from .errors import LaunchFailed, LayerFailed, SandboxError
from .launcher import Launched, Launcher, bubblewrap, launch, launch_bare
from .policy import WORKSPACE, Bind, Limits, View
from .receipt import Receipt, confirm
from .shown import interpreter, program, system
from .verdict import Cause, OwnReason, Verdict, judge

__all__ = [
    "WORKSPACE",
    "Bind",
    "Cause",
    "LaunchFailed",
    "Launched",
    "Launcher",
    "LayerFailed",
    "Limits",
    "OwnReason",
    "Receipt",
    "SandboxError",
    "Verdict",
    "View",
    "bubblewrap",
    "confirm",
    "interpreter",
    "judge",
    "launch",
    "launch_bare",
    "program",
    "system",
]
