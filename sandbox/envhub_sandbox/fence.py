"""The launcher of the tiers without namespaces: a Landlock domain, and an executioner in it.

    executioner         as the hub's user; its domain scopes signals; ends all with kill(-1)
      └─ zygote         in tier `uid` another user, that may become those of its sessions

Files keep their places, for nothing can be mounted: the folder of the sandbox has links where
the view has names of its own, and a folder for those of the sessions. As root with
CAP_SYS_ADMIN, folders that the other users cannot traverse (an interpreter under /root, mode
0700) are covered by ones that they can.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from . import executioner, fenced, landlock, syscalls
from .errors import LayerFailed
from .plan import Making
from .policy import View
from .tiers import ROOT, SESSIONS, UIDS, Grade

_CAP_CHOWN, _CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP = 0, 5, 6, 7, 8
_KEPT = 1 << _CAP_SETGID | 1 << _CAP_SETUID  # by the zygote
_NEEDED = _KEPT | 1 << _CAP_CHOWN | 1 << _CAP_KILL | 1 << _CAP_SETPCAP
_LAYER = "user of its own"
_HINT = (
    "start envhub as root with CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_CHOWN and CAP_KILL, as"
    " Docker's root has them; or ask for `--isolation landlock`"
)
_BACKSTOP = 4096  # processes of one user of ours, where nothing else counts them


def enter(
    view: View, command: Sequence[str], grade: Grade, folder: str, uid: int, owner: int
) -> NoReturn:
    """Become the executioner of `command`; never returns to the caller.

    Args:
        view: what may be read.
        command: the program and its arguments.
        grade: uid or landlock.
        folder: of the sandbox; does not exist yet.
        uid: in tier `uid` the first of UIDS users.
        owner: our parent's number.

    Raises:
        LayerFailed: a layer of it cannot be had.
    """
    executioner.require(landlock.version())
    others = grade.tier == "uid"
    if others:
        _require_capabilities(uid)
        _open_ways(view, uid)
    _make(view, folder, uid if others else -1)
    os.setsid()
    executioner.prepare()
    if os.getppid() != owner:
        os._exit(1)  # the owner went before we could ask to be told
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)  # or only CAP_SYS_ADMIN may do what follows
    with fenced.free_descriptors() as free:
        made = Making(free)
        fenced.scope_signals(made)
        made.plan().run()
    child = executioner.fork()
    if child:
        executioner.watch(child, folder)
    with fenced.free_descriptors() as free:
        made = Making(free)
        made.first_to_go()
        made.plan().run()
    if others:
        _become(uid)
    executioner.die_with_it()
    os.execve(command[0], list(command), dict(view.environment))  # noqa: S606


def _make(view: View, folder: str, uid: int) -> None:
    """Make the sandbox's folder, with what the view shows under another name than its own."""
    os.mkdir(folder, 0o711)
    os.chmod(folder, 0o711)  # noqa: S103  (whatever the umask; its names cannot be listed)
    for bind in view.ordered():
        if bind.inside != bind.source:
            _link(bind.source, f"{folder}/{ROOT}{bind.inside}")
    sessions = f"{folder}/{SESSIONS}"
    os.mkdir(sessions)
    os.chmod(sessions, 0o700 if uid < 0 else 0o1733)  # each makes its own, and sees no other
    if uid >= 0:
        os.chown(sessions, uid, uid)


def _link(target: str, path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(path):
        os.symlink(target, path)


def _become(uid: int) -> None:
    """Become the zygote's user, with the power to become its sessions' and no other."""
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (_BACKSTOP, _BACKSTOP))
        syscalls.bound_capabilities(_KEPT)
        os.setgroups([])
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        syscalls.set_capabilities(_KEPT)
        for number in (_CAP_SETGID, _CAP_SETUID):
            syscalls.raise_ambient(number)
    except OSError as error:
        what = f"cannot become user {uid}, one of {UIDS}: {error.strerror}"
        raise LayerFailed(_LAYER, what, error.errno or 0, hint=_HINT) from error


def _require_capabilities(uid: int) -> None:
    """Refuse a root that is none: a kill(-1) that reaches only some would not say so."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("CapEff:"))
    if _NEEDED & ~int(line.split()[1], 16):
        raise LayerFailed(_LAYER, f"no power to become user {uid}", errno.EPERM, hint=_HINT)


def _open_ways(view: View, uid: int) -> None:
    """Let other users reach what the view shows.

    Raises:
        LayerFailed: they cannot, and we may not change that.
    """
    shown = [path for path, _ in fenced.shown(view)]
    closed = {way: path for path in shown for way in _closed_ways(path)}
    if not closed:
        return
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        for way in sorted(closed):
            _cover(way, shown)
    except PermissionError as error:
        way, path = next(iter(closed.items()))
        raise LayerFailed(
            _LAYER,
            f"user {uid}, as which sandboxes run, cannot reach `{path}`: `{way}` is closed",
            error.errno or 0,
            hint=f"open it (chmod o+x {way}), move it out of a private home, or start envhub "
            "with CAP_SYS_ADMIN",
        ) from None


def _closed_ways(path: str) -> Iterable[str]:
    """Return the outermost folder above a path that others cannot traverse, if there is one."""
    for above in reversed(Path(path).parents):
        if not os.stat(above).st_mode & 0o001:
            yield str(above)
            return


def _cover(way: str, shown: Sequence[str]) -> None:
    """Mount an empty folder over a closed one, and in it what is shown from below it."""
    within = [path for path in shown if path.startswith(f"{way}/")]
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in within}
    syscalls.mount("tmpfs", way, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=711")
    for path in sorted(within):
        opened = f"/proc/self/fd/{held[path]}"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(opened):
            Path(path).mkdir(exist_ok=True)
        else:
            Path(path).touch()
        syscalls.mount(opened, path, None, syscalls.MS_BIND | syscalls.MS_REC)
    for descriptor in held.values():
        os.close(descriptor)
