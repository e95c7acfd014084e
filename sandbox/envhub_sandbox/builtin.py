"""envhub's own launcher: the sandbox that bubblewrap builds, built by system calls from here.

For machines without bubblewrap, and for those where its children cannot build namespaces
(Ubuntu's profile for /usr/bin/bwrap takes their capabilities). The order is bubblewrap's:

    launcher            unshare user, mount, pid, net, ipc, uts, cgroup; waits for the rest
      └─ pid 1          mounts; two pivot_roots; leaves the privileged user namespace; becomes
                        the command, without a capability

Two pivots, because sources may lie under the folder that the first tmpfs covers.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from . import bwrap, isolate, syscalls
from .errors import LayerFailed
from .policy import DEVICES, View
from .tiers import STRICT, Grade

_QUIET = syscalls.MS_NOSUID | syscalls.MS_NODEV
_BASE = "/tmp"  # noqa: S108  (any folder that every Linux has; covered in our namespace only)
_OLD, _NEW = "/oldroot", "/newroot"
_ST_NOEXEC, _ST_NOATIME, _ST_NODIRATIME = 8, 1024, 2048  # statvfs(3) and mount(2) agree


def enter(view: View, command: Sequence[str], grade: Grade = STRICT) -> NoReturn:
    """Run `command` in a sandbox that shows `view`; never returns to the caller.

    Raises:
        LayerFailed: a step of it failed, in the process that tried.
    """
    uid, gid = os.getuid(), os.getgid()
    for layer, flag in isolate.NAMESPACES_BY_NAME.items():
        if isolate.namespaces(grade) & flag:
            _step(layer, partial(syscalls.unshare, flag))
        if flag == syscalls.CLONE_NEWUSER:
            _step(layer, lambda: isolate.map_user(0, uid, gid))
    _step("cgroup namespace", lambda: syscalls.unshare(syscalls.CLONE_NEWCGROUP))
    die_with_parent()
    alive, life = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child:
        os.close(alive)  # `life` closes with this process, and the child sees that
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    os.close(life)
    die_with_parent()
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)  # the launcher went before we could ask to be told
    os.close(alive)
    _step("mount namespace", lambda: _build_root(view, grade))
    _step("user namespace", _leave_the_privileged_namespace)
    os.setsid()
    os.execve(command[0], list(command), dict(view.environment))  # noqa: S606


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent goes. Undone by a change of credentials, so set late."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _step(layer: str, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        what = str(error.strerror or error)
        raise LayerFailed(layer, what, error.errno or 0) from error


def _build_root(view: View, grade: Grade) -> None:
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    syscalls.mount("tmpfs", _BASE, "tmpfs", _QUIET, "mode=755,size=1m")
    os.mkdir(_BASE + _OLD)
    os.mkdir(_BASE + _NEW)
    syscalls.mount(_BASE + _NEW, _BASE + _NEW, None, syscalls.MS_BIND)
    syscalls.pivot_root(_BASE, _BASE + _OLD)
    os.chdir("/")
    for folder in ("/proc", "/dev", bwrap.IMPORTS, *bwrap.FOLDERS):
        os.makedirs(_NEW + folder, exist_ok=True)
    syscalls.mount("tmpfs", _NEW + bwrap.IMPORTS, "tmpfs", _QUIET, "mode=755,size=256m")
    for device in DEVICES:
        _mount_point(f"/dev/{device}", folder=False)
        source = f"{_OLD}/dev/{device}"
        syscalls.mount(source, f"{_NEW}/dev/{device}", None, syscalls.MS_BIND)
    for target, link in (*bwrap.LINKS, *view.links):
        Path(_NEW + link).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(target, _NEW + link)
    for bind in view.ordered():
        _bind(_OLD + bind.source, bind.inside)
    for mask in view.masks:
        flags = _QUIET | syscalls.MS_RDONLY
        syscalls.mount("tmpfs", _NEW + mask, "tmpfs", flags, "mode=755,size=4k,nr_inodes=2")
    if grade.proc:
        _step("/proc of its own", _mount_proc)
    else:
        syscalls.mount(_OLD + "/proc", _NEW + "/proc", None, syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount(_OLD, _OLD, None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.umount(_OLD)
    syscalls.pivot_root(_NEW, _NEW + "/tmp")  # noqa: S108
    os.chdir("/")
    syscalls.umount("/tmp")  # noqa: S108
    # or every session of the zygote could leave files for the next one
    remount = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
    syscalls.mount(None, "/", None, remount | _QUIET)


def _mount_proc() -> None:
    syscalls.mount("proc", _NEW + "/proc", "proc", _QUIET | syscalls.MS_NOEXEC)


def _bind(source: str, target: str) -> None:
    _mount_point(target, folder=os.path.isdir(source))
    syscalls.mount(source, _NEW + target, None, syscalls.MS_BIND | syscalls.MS_REC)
    # flags that a mount came with are locked in a user namespace: a remount must repeat them
    has = os.statvfs(_NEW + target).f_flag
    keep = has & (_ST_NOEXEC | _ST_NOATIME | _ST_NODIRATIME)
    flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | _QUIET
    syscalls.mount(None, _NEW + target, None, flags | keep)


def _mount_point(target: str, *, folder: bool) -> None:
    path = Path(_NEW + target)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        path.mkdir()
    else:
        path.touch()


def _leave_the_privileged_namespace() -> None:
    """Go where nobody has power over the mounts just made, and keep no capability."""
    syscalls.sethostname("envhub")
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    isolate.map_user(isolate.INSIDE_UID, 0, 0)
    syscalls.drop_capabilities(bounding=True)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent()
