"""How a process is isolated, as data: a table of system calls with their arguments.

A plan is made once in the zygote, and each child runs it down in one loop. So what is done
can be read and tested, and a child executes next to no Python for it, which would copy pages
that it shares with its zygote. A call that fails ends the process: there is no "as far as
possible".
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from . import syscalls
from .errors import LayerFailed
from .policy import MIB, Limits
from .sysno import X86_64

_HERE = -100  # AT_FDCWD
# what an error calls them, and whoever wants to name one call of a plan
_LIMITS = {
    number: name
    for name, number in vars(resource).items()
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"  # NOFILE's old name
}
_PROPERTIES = {
    number: name
    for name, number in vars(syscalls).items()
    if name.startswith("PR_") and not name.startswith("PR_CAP_AMBIENT_")
}


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of a plan.

    Args:
        layer: what it helps to build.
        what: says it in words, for the error.
        arguments: of syscall(2), the number first.
        result: what it must return; None for anything but an error. A descriptor that is
            opened must be the one that the calls after it name.
    """

    layer: str
    what: str
    arguments: tuple[syscalls.Argument, ...]
    result: int | None = None


class Plan:
    """Calls, and the same as the table that is run.

    Args:
        calls: in order.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self._table = syscalls.Table([call.arguments for call in calls])
        # what each must return, beside its row: a child need not look at its Call
        self._results = [call.result for call in calls]

    def run(self) -> None:
        """Make the calls.

        Raises:
            LayerFailed: one failed. The process must end.
        """
        for at, result in enumerate(self._table.run()):
            wanted = self._results[at]
            if result < 0 or (wanted is not None and result != wanted):
                call = self.calls[at]
                why = os.strerror(-result) if result < 0 else f"expected {wanted}, got {result}"
                raise LayerFailed(call.layer, f"{call.what}: {why}", max(0, -result))

    def layers(self, namespaces: int = 0) -> list[str]:
        """Return the names of what it builds, in order, those of the clone before it first."""
        of_the_clone = {
            "ipc namespace": syscalls.CLONE_NEWIPC,
            "network namespace": syscalls.CLONE_NEWNET,
            "pid namespace": syscalls.CLONE_NEWPID,
        }
        names = [name for name, flag in of_the_clone.items() if namespaces & flag]
        names += [call.layer for call in self.calls if call.layer]
        return list(dict.fromkeys(names))


class Making:
    """A plan in the making.

    Args:
        free: the lowest descriptor that will not be open when the plan is run.
    """

    def __init__(self, free: int) -> None:
        self.calls: list[Call] = []
        self.free = free
        self.layer = ""
        self._proc: int | None = None

    def plan(self) -> Plan:
        """Return what was collected, ready to run."""
        return Plan(self.calls)

    def call(
        self,
        name: str,
        *arguments: syscalls.Argument,
        what: str = "",
        result: int | None = None,
    ) -> None:
        """Add a system call by its name."""
        self.calls.append(Call(self.layer, what or name, (X86_64[name], *arguments), result))

    def open(self, path: str, flags: int, mode: int = 0, *, as_: int = 0) -> None:
        """Open a path as the lowest free descriptor, or as `as_` above it."""
        flags |= os.O_CLOEXEC
        result = self.free + as_
        self.call("openat", _HERE, path, flags, mode, what=f"open {path}", result=result)

    def close(self, as_: int = 0) -> None:
        """Close what `open` opened."""
        self.call("close", self.free + as_)

    def hold_proc(self) -> None:
        """Keep /proc open, so that `write` still finds it when something covers it."""
        self.open("/proc", os.O_PATH)
        self._proc = self.free
        self.free += 1

    def release_proc(self) -> None:
        """Undo `hold_proc`, if it was called."""
        if self._proc is not None:
            self._proc = None
            self.free -= 1
            self.close()

    def write(self, path: str, text: str) -> None:
        """Write a small file of /proc in one call."""
        if self._proc is None:
            self.open(path, os.O_WRONLY)
        else:
            flags, below = os.O_WRONLY | os.O_CLOEXEC, path.removeprefix("/proc/")
            what = f"open {path}"
            self.call("openat", self._proc, below, flags, 0, what=what, result=self.free)
        what = f"write {text} to {path}"
        self.call("write", self.free, text, len(text), what=what, result=len(text))
        self.close()

    def mount(
        self, source: str | None, target: str, kind: str | None, flags: int, data: str = ""
    ) -> None:
        """Mount a file system, or bind a path (man 2 mount)."""
        what = f"mount {kind or 'bind'} on {target}"
        self.call("mount", source, target, kind, flags, data or None, what=what)

    def prctl(self, option: int, value: int, third: int = 0) -> None:
        """Set a property of the process (man 2 prctl)."""
        self.call("prctl", option, value, third, 0, 0, what=f"prctl {_PROPERTIES[option]}")

    def map_user(self, inside: int, uid: int, gid: int) -> None:
        """Map one user and one group of the parent namespace to `inside`."""
        self.write("/proc/self/setgroups", "deny")
        self.write("/proc/self/uid_map", f"{inside} {uid} 1")
        self.write("/proc/self/gid_map", f"{inside} {gid} 1")

    def unblock_signals(self) -> None:
        """Take back what the zygote blocked, to read it from a descriptor."""
        none = bytes(8)
        self.call("rt_sigprocmask", signal.SIG_SETMASK, none, None, len(none))

    def session(self) -> None:
        """Lead a process group without a terminal."""
        self.layer = "no terminal"
        self.call("setsid")
        self.call("umask", 0o022)

    def first_to_go(self) -> None:
        """Let the kernel take this process, and not the hub, when memory runs out."""
        self.layer = "rlimits"
        self.write("/proc/self/oom_score_adj", "1000")

    def rlimits(self, limits: Limits, *, own_user: bool = True) -> None:
        """Set the limits; on processes only where the user is the session's alone."""
        self.layer = "rlimits"
        nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + limits.niceness)
        self.call("setpriority", os.PRIO_PROCESS, 0, nice)
        for kind, (soft, hard) in _rlimits(limits).items():
            if own_user or kind != resource.RLIMIT_NPROC:
                pair = struct.pack("QQ", soft, hard)
                self.call("setrlimit", kind, pair, what=f"setrlimit {_LIMITS[kind]}")

    def die_with_zygote(self) -> None:
        """Ask for SIGKILL when the parent goes. Undone by a change of credentials."""
        self.layer = "parent death signal"
        self.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def moves(descriptors: Sequence[int], first: int) -> Plan:
    """Return the calls that move descriptors to `first` and the numbers after it.

    The second one, if there is one, also becomes stdout and stderr.
    """
    made = Making(0)
    made.layer = "descriptors"
    mine = range(first, first + len(descriptors))
    aside = max([*descriptors, *mine]) + 1  # where none stands that another is to become
    for at, descriptor in enumerate(descriptors):
        made.call("dup3", descriptor, aside + at, os.O_CLOEXEC)
    for at, descriptor in enumerate(mine):
        made.call("dup3", aside + at, descriptor, os.O_CLOEXEC)
    for standard in (1, 2) if len(mine) > 1 else ():
        made.call("dup3", mine[1], standard, 0)
    return made.plan()


def harmless() -> Plan:
    """Return a plan that changes nothing."""
    made = Making(0)
    made.prctl(syscalls.PR_GET_DUMPABLE, 0)
    return made.plan()


def bare(limits: Limits, *, free: int) -> Plan:
    """Return what is left without isolation: limits, and the end with the zygote."""
    made = Making(free)
    made.unblock_signals()
    made.session()
    made.first_to_go()
    made.rlimits(limits)
    made.die_with_zygote()
    return made.plan()


def _rlimits(limits: Limits) -> dict[int, tuple[int, int]]:
    """Return soft and hard limits; one in force that is stricter already stays."""
    wanted = {
        # 1, not 0: a core_pattern that is a pipe ignores 0, and gives up at 1
        resource.RLIMIT_CORE: (1, 1),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
        resource.RLIMIT_SIGPENDING: (256, 256),
        resource.RLIMIT_RTPRIO: (0, 0),
        resource.RLIMIT_NICE: (0, 0),
        resource.RLIMIT_STACK: (8 * MIB, 8 * MIB),
        resource.RLIMIT_DATA: (limits.memory_bytes, limits.memory_bytes),
        resource.RLIMIT_NOFILE: (limits.open_files, limits.open_files),
        resource.RLIMIT_FSIZE: (limits.file_bytes, limits.file_bytes),
        resource.RLIMIT_NPROC: (limits.processes, limits.processes),
    }
    if limits.address_bytes:
        wanted[resource.RLIMIT_AS] = (limits.address_bytes, limits.address_bytes)
    if limits.cpu_s:
        wanted[resource.RLIMIT_CPU] = (limits.cpu_s, limits.cpu_s + 2)
    for kind, (soft, hard) in wanted.items():
        _, ceiling = resource.getrlimit(kind)
        if ceiling != resource.RLIM_INFINITY:
            wanted[kind] = (min(soft, ceiling), min(hard, ceiling))
    return wanted
