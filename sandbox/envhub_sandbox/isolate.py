"""The child's side: what a freshly cloned process does before it may run anybody's code.

The order is not free. Mounts need the capabilities of the first user namespace, the process
limit must be counted in the second, capabilities go before `PR_SET_PDEATHSIG` (a change of
credentials clears it), and the system call filter is last, for it forbids most of the rest.
Any step that fails ends the process: there is no "as far as possible".
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence
from types import TracebackType

from . import landlock, syscalls
from .errors import LayerFailed
from .policy import MIB, WORKSPACE, Limits

NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWNET
)
INSIDE_UID = 1000
_QUIET = syscalls.MS_NOSUID | syscalls.MS_NODEV
_NO_MORE = ("mnt", "net", "pid", "ipc", "uts", "cgroup", "time")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORKSPACE,
    "TMPDIR": "/tmp",  # noqa: S108  (the session's own tmpfs)
    "LANG": "C.UTF-8",
}


class _layer:
    """Turn a failed system call into the name of the layer it belongs to.

    A class and not a generator: this runs in every child, and a generator copies more pages.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            what = str(error.strerror or error)
            raise LayerFailed(self._name, what, error.errno or 0) from error
        if isinstance(error, ValueError):  # resource.setrlimit says it this way
            raise LayerFailed(self._name, str(error)) from error


def isolate(
    limits: Limits,
    *,
    outer_uid: int,
    outer_gid: int,
    shown_below_tmp: Sequence[str],
    filter_: syscalls.Filter,
) -> list[str]:
    """Build every layer around this process; return their names.

    The caller has just come out of `syscalls.fork(NAMESPACES)` and has closed every
    descriptor that it does not hand on.

    Raises:
        LayerFailed: one could not be built. The process must end.
    """
    layers: list[str] = []
    with _layer("user namespace"):
        map_user(0, outer_uid, outer_gid)
    with _layer("mount namespace"):
        _mounts(limits, shown_below_tmp)
        layers += ["mount namespace", "private tmpfs"]
    with _layer("pid namespace"):
        syscalls.mount("proc", "/proc", "proc", _QUIET | syscalls.MS_NOEXEC)
        layers.append("pid namespace")
    with _layer("uts namespace"):
        syscalls.sethostname("envhub")
        layers += ["uts namespace", "ipc namespace", "network namespace"]
    with _layer("no further namespaces"):
        for kind in _NO_MORE:
            _write_if_there(f"/proc/sys/user/max_{kind}_namespaces", "0")
        syscalls.write_file("/proc/sys/user/max_user_namespaces", "1")
        layers.append("no further namespaces")
    with _layer("user namespace"):
        # a second one, in which nobody is root: without power over the mounts above, even if
        # code in it won back every capability it can hold
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        map_user(INSIDE_UID, 0, 0)
        layers.append("user namespace")
    os.setsid()
    os.umask(0o022)
    os.chdir(WORKSPACE)
    restrict_process(limits)
    layers.append("rlimits")
    with _layer("capabilities"):
        syscalls.prctl(syscalls.PR_SET_SECUREBITS, syscalls.SECUREBITS_LOCKED)
        syscalls.drop_capabilities(bounding=False)
        layers.append("no capabilities")
    with _layer("parent death signal"):
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    with _layer("no new privileges"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        layers.append("no new privileges")
    with _layer("landlock"):
        if abi := landlock.version():
            landlock.restrict(
                readable=["/"],
                writable=[WORKSPACE, "/tmp", "/dev"],  # noqa: S108
                abi=abi,
            )
            layers.append(f"landlock {abi}")
    with _layer("seccomp"):
        filter_.install()
        layers.append("seccomp")
    return layers


def restrict_process(limits: Limits) -> None:
    """Set the limits that need no namespace; after this they can only be lowered."""
    with _layer("rlimits"):
        syscalls.write_file("/proc/self/oom_score_adj", "1000")
        os.nice(limits.niceness)
        fixed = {
            # 1, not 0: a core_pattern that is a pipe ignores 0, and gives up at 1
            resource.RLIMIT_CORE: 1,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_SIGPENDING: 256,
            resource.RLIMIT_RTPRIO: 0,
            resource.RLIMIT_NICE: 0,
            resource.RLIMIT_STACK: 8 * MIB,
            resource.RLIMIT_DATA: limits.memory_bytes,
            resource.RLIMIT_NOFILE: limits.open_files,
            resource.RLIMIT_FSIZE: limits.file_bytes,
            resource.RLIMIT_NPROC: limits.processes,
        }
        if limits.address_bytes:
            fixed[resource.RLIMIT_AS] = limits.address_bytes
        for kind, value in fixed.items():
            _lower(kind, value, value)
        if limits.cpu_s:
            _lower(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 2)


def _lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit, or keep the one in force where that is stricter already."""
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def map_user(inside: int, uid: int, gid: int) -> None:
    """Map one user and one group of the parent namespace to `inside`."""
    syscalls.write_file("/proc/self/setgroups", "deny")
    syscalls.write_file("/proc/self/uid_map", f"{inside} {uid} 1")
    syscalls.write_file("/proc/self/gid_map", f"{inside} {gid} 1")


def mounts_below_tmp() -> list[str]:
    """Return what the view shows below /tmp, which each session covers; outermost only."""
    with open("/proc/self/mountinfo") as file:
        points = sorted(line.split()[4].encode().decode("unicode_escape") for line in file)
    found: list[str] = []
    for point in points:
        if point.startswith("/tmp/") and not any(  # noqa: S108
            point.startswith(f"{outer}/") for outer in found
        ):
            found.append(point)
    return found


def _mounts(limits: Limits, shown_below_tmp: Sequence[str]) -> None:
    """Give the session files of its own, with quotas; they die with its namespace."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    quota = f"size={limits.disk_bytes},nr_inodes={limits.disk_files}"
    shown = [(p, os.open(p, os.O_PATH | os.O_CLOEXEC)) for p in shown_below_tmp]
    syscalls.mount("tmpfs", "/tmp", "tmpfs", _QUIET, f"{quota},mode=1777")  # noqa: S108
    for path, descriptor in shown:
        source = f"/proc/self/fd/{descriptor}"
        if os.path.isdir(source):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        syscalls.mount(source, path, None, syscalls.MS_BIND | syscalls.MS_REC)
        os.close(descriptor)
    syscalls.mount("tmpfs", WORKSPACE, "tmpfs", _QUIET, f"{quota},mode=755")
    shared = f"size={min(limits.disk_bytes, 16 * MIB)},nr_inodes=256,mode=1777"
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", _QUIET, shared)  # noqa: S108
    terminals = "newinstance,ptmxmode=0666,mode=620"
    flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    syscalls.mount("devpts", "/dev/pts", "devpts", flags, terminals)


def _write_if_there(path: str, text: str) -> None:
    try:
        syscalls.write_file(path, text)
    except FileNotFoundError:
        pass  # a kernel without this kind of namespace


def restrict_zygote(filter_: syscalls.Filter) -> None:
    """Filter the zygote itself: code that an author runs at import is not trusted either."""
    with _layer("no new privileges"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    with _layer("seccomp"):
        filter_.install()


__all__ = [
    "ENVIRONMENT",
    "NAMESPACES",
    "isolate",
    "map_user",
    "mounts_below_tmp",
    "restrict_process",
    "restrict_zygote",
]
