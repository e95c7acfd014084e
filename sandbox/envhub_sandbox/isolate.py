"""How a freshly cloned process is isolated, before it may run anybody's code.

The work is a plan: a table of system calls with their arguments, made once in the zygote,
that each child runs down in one loop. So what is done can be read and tested as data, and a
child executes next to no Python for it, which would copy pages that it shares with its zygote.

The order is not free. Mounts need the capabilities of the first user namespace, the limit on
processes must be counted in the second, capabilities go before the parent-death signal (a
change of credentials clears it), and the system call filter is last, for it forbids most of
the rest. A call that fails ends the process: there is no "as far as possible".
"""

from __future__ import annotations

import os
import resource
import signal
import struct
from collections.abc import Mapping, Sequence

from . import landlock, syscalls
from .calls import Call, Plan
from .errors import LayerFailed
from .policy import MIB, WORKSPACE, Limits
from .sysno import X86_64

NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWNET
)
INSIDE_UID = 1000
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORKSPACE,
    "TMPDIR": "/tmp",  # noqa: S108  (the session's own tmpfs)
    "LANG": "C.UTF-8",
}
_TMP, _SHM, _PTS = "/tmp", "/dev/shm", "/dev/pts"  # noqa: S108
_QUIET = syscalls.MS_NOSUID | syscalls.MS_NODEV
_NO_MORE = ("mnt", "net", "pid", "ipc", "uts", "cgroup", "time")
_HERE = -100  # AT_FDCWD


class _Making:
    """Collects the calls of a plan.

    Args:
        free: the lowest descriptor that will not be open when the plan is run.
    """

    def __init__(self, free: int) -> None:
        self.calls: list[Call] = []
        self.free = free
        self.layer = ""

    def call(
        self,
        name: str,
        *arguments: syscalls.Argument,
        what: str = "",
        result: int | None = None,
    ) -> None:
        numbered = (X86_64[name], *arguments)
        self.calls.append(Call(self.layer, what or name, numbered, result))

    def open(self, path: str, flags: int, mode: int = 0, *, as_: int = 0) -> None:
        """Open a path as the lowest free descriptor, or as `as_` above it."""
        flags |= os.O_CLOEXEC
        result = self.free + as_
        self.call("openat", _HERE, path, flags, mode, what=f"open {path}", result=result)

    def close(self, as_: int = 0) -> None:
        self.call("close", self.free + as_)

    def write(self, path: str, text: str) -> None:
        self.open(path, os.O_WRONLY)
        what = f"write {text} to {path}"
        self.call("write", self.free, text, len(text), what=what, result=len(text))
        self.close()

    def mount(
        self, source: str | None, target: str, kind: str | None, flags: int, data: str = ""
    ) -> None:
        what = f"mount {kind or 'bind'} on {target}"
        self.call("mount", source, target, kind, flags, data or None, what=what)

    def prctl(self, option: int, value: int, third: int = 0) -> None:
        self.call("prctl", option, value, third, 0, 0, what=f"prctl {option}")

    def map_user(self, inside: int, uid: int, gid: int) -> None:
        self.write("/proc/self/setgroups", "deny")
        self.write("/proc/self/uid_map", f"{inside} {uid} 1")
        self.write("/proc/self/gid_map", f"{inside} {gid} 1")

    def unblock_signals(self) -> None:
        """Take back what the zygote blocked, to read it from a descriptor."""
        none = bytes(8)
        self.call("rt_sigprocmask", signal.SIG_SETMASK, none, None, len(none))

    def session(self) -> None:
        self.layer = "no terminal"
        self.call("setsid")
        self.call("umask", 0o022)

    def rlimits(self, limits: Limits) -> None:
        self.layer = "rlimits"
        self.write("/proc/self/oom_score_adj", "1000")
        nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + limits.niceness)
        self.call("setpriority", os.PRIO_PROCESS, 0, nice)
        for kind, (soft, hard) in _rlimits(limits).items():
            self.call(
                "setrlimit", kind, struct.pack("QQ", soft, hard), what=f"setrlimit {kind}"
            )

    def die_with_zygote(self) -> None:
        self.layer = "parent death signal"
        self.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def plan(
    limits: Limits,
    *,
    uid: int,
    gid: int,
    free: int,
    shown_below_tmp: Sequence[str],
    links_below_tmp: Mapping[str, str],
    filter_: syscalls.Filter,
) -> Plan:
    """Return every call that isolates a child of `syscalls.fork(NAMESPACES)`.

    Args:
        limits: of the session.
        uid: of the zygote, which becomes the session's.
        gid: likewise.
        free: the lowest descriptor that the child will not have open.
        shown_below_tmp: what `mounts_below_tmp` found.
        links_below_tmp: what `links_below_tmp` found: path to target.
        filter_: installed last.
    """
    made = _Making(free)
    made.unblock_signals()
    made.layer = "user namespace"
    made.map_user(0, uid, gid)
    _mounts(made, limits, shown_below_tmp, links_below_tmp)
    made.layer = "pid namespace"
    made.mount("proc", "/proc", "proc", _QUIET | syscalls.MS_NOEXEC)
    made.layer = "uts namespace"
    made.call("sethostname", "envhub", len("envhub"))
    made.layer = "no further namespaces"
    for kind in _NO_MORE:
        if os.path.exists(f"/proc/sys/user/max_{kind}_namespaces"):
            made.write(f"/proc/sys/user/max_{kind}_namespaces", "0")
    made.write("/proc/sys/user/max_user_namespaces", "1")
    # a second one, in which nobody is root: without power over the mounts above, even if code
    # in it won back every capability that it can hold
    made.layer = "unprivileged user"
    made.call("unshare", syscalls.CLONE_NEWUSER)
    made.map_user(INSIDE_UID, 0, 0)
    made.session()
    made.call("chdir", WORKSPACE)
    made.rlimits(limits)
    made.layer = "no capabilities"
    made.prctl(syscalls.PR_SET_SECUREBITS, syscalls.SECUREBITS_LOCKED)
    made.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    made.call("capset", syscalls.CAP_HEADER, syscalls.NO_CAPS)
    made.die_with_zygote()
    made.layer = "no new privileges"
    made.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if abi := landlock.version():
        _landlock(made, abi)
    made.layer = "seccomp"
    made.call("seccomp", 1, 0, filter_)
    return Plan(made.calls)


def moves(descriptors: Sequence[int], first: int) -> Plan:
    """Return the calls that move descriptors to `first` and the numbers after it.

    The second one, if there is one, also becomes stdout and stderr.
    """
    made = _Making(0)
    made.layer = "descriptors"
    mine = range(first, first + len(descriptors))
    aside = max([*descriptors, *mine]) + 1  # where none stands that another is to become
    for at, descriptor in enumerate(descriptors):
        made.call("dup3", descriptor, aside + at, os.O_CLOEXEC)
    for at, descriptor in enumerate(mine):
        made.call("dup3", aside + at, descriptor, os.O_CLOEXEC)
    for standard in (1, 2) if len(mine) > 1 else ():
        made.call("dup3", mine[1], standard, 0)
    return Plan(made.calls)


def rehearse() -> None:
    """Run harmless calls until that is routine: code that is new writes to itself."""
    made = _Making(0)
    made.prctl(syscalls.PR_GET_DUMPABLE, 0)  # changes nothing
    harmless = Plan(made.calls)
    for _ in range(syscalls.REHEARSALS):
        run(harmless)


def bare_plan(limits: Limits, *, free: int) -> Plan:
    """Return what is left without isolation: limits, and the end with the zygote."""
    made = _Making(free)
    made.unblock_signals()
    made.session()
    made.rlimits(limits)
    made.die_with_zygote()
    return Plan(made.calls)


def run(plan: Plan) -> None:
    """Make the calls of a plan.

    Raises:
        LayerFailed: one failed. The process must end.
    """
    for at, result in enumerate(plan.table.run()):
        wanted = plan.results[at]
        if result < 0 or (wanted is not None and result != wanted):
            call = plan.calls[at]
            why = os.strerror(-result) if result < 0 else f"expected {wanted}, got {result}"
            raise LayerFailed(call.layer, f"{call.what}: {why}", max(0, -result))


def layers(calls: Sequence[Call], namespaces: int) -> list[str]:
    """Return the names of the layers that a plan builds, in order, with the clone's own."""
    of_the_clone = {
        "ipc namespace": syscalls.CLONE_NEWIPC,
        "network namespace": syscalls.CLONE_NEWNET,
    }
    names = [name for name, flag in of_the_clone.items() if namespaces & flag]
    names += [call.layer for call in calls if call.layer]
    return list(dict.fromkeys(names))


def mounts_below_tmp() -> list[str]:
    """Return what the view shows below /tmp, which each session covers; outermost only."""
    with open("/proc/self/mountinfo") as file:
        points = sorted(line.split()[4].encode().decode("unicode_escape") for line in file)
    found: list[str] = []
    for point in points:
        outer = any(point.startswith(f"{seen}/") for seen in found)
        if point.startswith(f"{_TMP}/") and not outer:
            found.append(point)
    return found


def links_below_tmp(shown: Sequence[str]) -> dict[str, str]:
    """Return the links that the view has below /tmp, outside of what is mounted there."""
    links: dict[str, str] = {}
    for folder, folders, files in os.walk(_TMP):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                links[path] = os.readlink(path)
        folders[:] = [name for name in folders if os.path.join(folder, name) not in shown]
    return links


def map_user(inside: int, uid: int, gid: int) -> None:
    """Map one user and one group of the parent namespace to `inside`, here and now."""
    syscalls.write_file("/proc/self/setgroups", "deny")
    syscalls.write_file("/proc/self/uid_map", f"{inside} {uid} 1")
    syscalls.write_file("/proc/self/gid_map", f"{inside} {gid} 1")


def restrict_zygote(filter_: syscalls.Filter) -> None:
    """Filter the zygote itself: code that an author runs at import is not trusted either.

    Raises:
        LayerFailed: it could not be.
    """
    try:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        filter_.install()
    except OSError as error:
        what = str(error.strerror or error)
        raise LayerFailed("seccomp", what, error.errno or 0) from error


def _mounts(
    made: _Making, limits: Limits, shown_below_tmp: Sequence[str], links: Mapping[str, str]
) -> None:
    """Give the session files of its own, with quotas; they die with its namespace."""
    made.layer = "mount namespace"
    made.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    for at, path in enumerate(shown_below_tmp):  # held while a tmpfs covers them
        made.open(path, os.O_PATH, as_=at)
    made.layer = "private tmpfs"
    quota = f"size={limits.disk_bytes},nr_inodes={limits.disk_files}"
    made.mount("tmpfs", _TMP, "tmpfs", _QUIET, f"{quota},mode=1777")
    _show_below_tmp(made, shown_below_tmp, links)
    made.mount("tmpfs", WORKSPACE, "tmpfs", _QUIET, f"{quota},mode=755")
    shared = f"size={min(limits.disk_bytes, 16 * MIB)},nr_inodes=256,mode=1777"
    made.mount("tmpfs", _SHM, "tmpfs", _QUIET, shared)
    # kernel.pty.max is for the whole machine, so each session has a share of its own
    terminals = "newinstance,ptmxmode=0666,mode=620,max=64"
    made.mount("devpts", _PTS, "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, terminals)


def _show_below_tmp(made: _Making, shown: Sequence[str], links: Mapping[str, str]) -> None:
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in shown]
    for folder in _with_parents([*folders, *map(os.path.dirname, links)]):
        made.call("mkdir", folder, 0o755, what=f"mkdir {folder}")
    for path, target in links.items():
        made.call("symlink", target, path, what=f"symlink {path}")
    above = len(shown)
    for at, path in enumerate(shown):
        if not os.path.isdir(path):
            made.open(path, os.O_CREAT | os.O_WRONLY, 0o644, as_=above)
            made.close(above)
        flags = syscalls.MS_BIND | syscalls.MS_REC
        made.mount(f"/proc/self/fd/{made.free + at}", path, None, flags)
    for at in range(above):
        made.close(at)


def _with_parents(folders: Sequence[str]) -> list[str]:
    """Return every folder on the way from /tmp to these, outer ones first."""
    found: set[str] = set()
    for folder in folders:
        while folder.startswith(f"{_TMP}/"):
            found.add(folder)
            folder = os.path.dirname(folder)
    return sorted(found)


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


def _landlock(made: _Making, abi: int) -> None:
    made.layer = f"landlock {abi}"
    attributes = landlock.attributes(abi)
    made.call("landlock_create_ruleset", attributes, len(attributes), 0, result=made.free)
    for path, writable in (("/", False), (WORKSPACE, True), (_TMP, True), ("/dev", True)):
        made.open(path, os.O_PATH, as_=1)
        rule = landlock.rule(abi, made.free + 1, writable=writable)
        made.call("landlock_add_rule", made.free, 1, rule, 0, what=f"landlock rule {path}")
        made.close(1)
    made.call("landlock_restrict_self", made.free, 0)
    made.close()
