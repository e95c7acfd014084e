"""How a freshly cloned process is isolated by namespaces, before it may run anybody's code.

The order of the plan is not free. Mounts need the capabilities of the first user namespace,
the limit on processes must be counted in the second, capabilities go before the parent-death
signal (a change of credentials clears it), and the system call filter is last, for it forbids
most of the rest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

from . import landlock, syscalls
from .plan import Making, Plan
from .policy import SHARED_FILES_BYTES, WORKSPACE, Limits
from .tiers import Grade

# the user namespace first: it brings the privilege to make the others
NAMESPACES_BY_NAME = {
    "user namespace": syscalls.CLONE_NEWUSER,
    "mount namespace": syscalls.CLONE_NEWNS,
    "pid namespace": syscalls.CLONE_NEWPID,
    "ipc namespace": syscalls.CLONE_NEWIPC,
    "uts namespace": syscalls.CLONE_NEWUTS,
    "network namespace": syscalls.CLONE_NEWNET,
}
NAMESPACES = reduce(or_, NAMESPACES_BY_NAME.values())
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


def namespaces(grade: Grade) -> int:
    """Return the flags of the clone that a session begins with."""
    return NAMESPACES if grade.network else NAMESPACES & ~syscalls.CLONE_NEWNET


def plan(
    limits: Limits,
    grade: Grade,
    *,
    uid: int,
    gid: int,
    free: int,
    shown_below_tmp: Sequence[str],
    links_below_tmp: Mapping[str, str],
    filter_: syscalls.Filter,
) -> Plan:
    """Return every call that isolates a child of `syscalls.fork(namespaces(grade))`.

    Args:
        limits: of the session.
        grade: strict, or standard and without what.
        uid: of the zygote, which becomes the session's.
        gid: likewise.
        free: the lowest descriptor that the child will not have open.
        shown_below_tmp: what `mounts_below_tmp` found.
        links_below_tmp: what `links_below_tmp` found: path to target.
        filter_: installed last.
    """
    made = Making(free)
    made.unblock_signals()
    made.layer = "user namespace"
    made.map_user(0, uid, gid)
    _mounts(made, limits, shown_below_tmp, links_below_tmp)
    if grade.proc:
        made.layer = "/proc of its own"
        made.mount("proc", "/proc", "proc", _QUIET | syscalls.MS_NOEXEC)
    else:  # the one there shows the host's processes, and has parts that are read-only
        made.hold_proc()
        made.layer = "empty /proc"
        flags = _QUIET | syscalls.MS_NOEXEC | syscalls.MS_RDONLY
        made.mount("tmpfs", "/proc", "tmpfs", flags, "size=4k,nr_inodes=2")
    made.layer = "uts namespace"
    made.call("sethostname", "envhub", len("envhub"))
    if grade.proc:
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
    made.first_to_go()
    made.release_proc()
    made.rlimits(limits)
    made.layer = "no capabilities"
    made.prctl(syscalls.PR_SET_SECUREBITS, syscalls.SECUREBITS_LOCKED)
    made.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    made.call("capset", syscalls.CAP_HEADER, syscalls.NO_CAPS)
    made.die_with_zygote()
    made.layer = "no new privileges"
    made.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if abi := landlock.version():
        _landlock(made, abi, connect=grade.open_network)
    made.layer = "seccomp"
    made.call("seccomp", 1, 0, filter_)
    return made.plan()


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


def _mounts(
    made: Making, limits: Limits, shown_below_tmp: Sequence[str], links: Mapping[str, str]
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
    shared = f"size={min(limits.disk_bytes, SHARED_FILES_BYTES)},nr_inodes=256,mode=1777"
    made.mount("tmpfs", _SHM, "tmpfs", _QUIET, shared)
    # kernel.pty.max is for the whole machine, so each session has a share of its own
    terminals = "newinstance,ptmxmode=0666,mode=620,max=64"
    made.mount("devpts", _PTS, "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, terminals)


def _show_below_tmp(made: Making, shown: Sequence[str], links: Mapping[str, str]) -> None:
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


def _landlock(made: Making, abi: int, *, connect: bool) -> None:
    made.layer = f"landlock {abi}"
    attributes = landlock.attributes(abi, connect=connect)
    made.call("landlock_create_ruleset", attributes, len(attributes), 0, result=made.free)
    writable = [(path, landlock.WRITE) for path in (WORKSPACE, _TMP, "/dev")]
    for path, access in (("/", landlock.READ), *writable):
        made.open(path, os.O_PATH, as_=1)
        rule = landlock.rule(abi, made.free + 1, access)
        made.call("landlock_add_rule", made.free, 1, rule, 0, what=f"landlock rule {path}")
        made.close(1)
    made.call("landlock_restrict_self", made.free, 0)
    made.close()
