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
- memory of a whole session, by itself: rlimits count each process. Its owner holds that,
  with a control group where it has one
- what a bound path gives away

The names load on first use: a zygote and the sessions forked from it import this package,
too, and must not pay for the launcher's side.

See docs/security.md for the threat model, and tests/sandbox for the attacks that must fail.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import LaunchFailed as LaunchFailed
    from .errors import LayerFailed as LayerFailed
    from .errors import SandboxError as SandboxError
    from .launcher import Launched as Launched
    from .launcher import Launcher as Launcher
    from .launcher import bubblewrap as bubblewrap
    from .launcher import launch as launch
    from .launcher import launch_bare as launch_bare
    from .policy import WORKSPACE as WORKSPACE
    from .policy import Bind as Bind
    from .policy import Limits as Limits
    from .policy import View as View
    from .policy import joined as joined
    from .receipt import Receipt as Receipt
    from .receipt import confirm as confirm
    from .receipt import pid_of as pid_of
    from .shown import interpreter as interpreter
    from .shown import program as program
    from .shown import system as system
    from .tiers import TIERS as TIERS
    from .tiers import Grade as Grade
    from .tiers import Tier as Tier
    from .verdict import Cause as Cause
    from .verdict import OwnReason as OwnReason
    from .verdict import Passed as Passed
    from .verdict import Verdict as Verdict
    from .verdict import judge as judge
else:
    _HOME = {
        "Bind": "policy",
        "Cause": "verdict",
        "Grade": "tiers",
        "LaunchFailed": "errors",
        "Launched": "launcher",
        "Launcher": "launcher",
        "LayerFailed": "errors",
        "Limits": "policy",
        "OwnReason": "verdict",
        "Passed": "verdict",
        "Receipt": "receipt",
        "SandboxError": "errors",
        "TIERS": "tiers",
        "Tier": "tiers",
        "Verdict": "verdict",
        "View": "policy",
        "WORKSPACE": "policy",
        "bubblewrap": "launcher",
        "confirm": "receipt",
        "interpreter": "shown",
        "joined": "policy",
        "judge": "verdict",
        "launch": "launcher",
        "launch_bare": "launcher",
        "pid_of": "receipt",
        "program": "shown",
        "system": "shown",
    }
    __all__ = sorted(_HOME)

    def __getattr__(name):
        """Load a public name from the module that defines it (PEP 562)."""
        from importlib import import_module

        try:
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
