"""What runs between the owner and the sandbox where bubblewrap alone is not enough.

Started as `python -I -S`, with a spec on a descriptor. If it is root it first becomes a spare
user, for the limits on processes do not bind root and neither do file modes. Paths that the
spare user cannot reach (an interpreter under /root, mode 0700) are bound below a private
folder before, which takes CAP_SYS_ADMIN. Then it becomes bubblewrap, or the built-in launcher,
or, in the tiers without namespaces, the sandbox's executioner.

Any failure is one JSON packet {"failed": …} on the control socket, and the end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import replace
from typing import Any, NoReturn

from . import builtin, bwrap, fence, syscalls
from .errors import LayerFailed
from .policy import Bind, View
from .tiers import Grade

_SHELTER = "/tmp"  # noqa: S108  (covered in a private mount namespace only)


def main(spec_descriptor: int) -> NoReturn:
    """Read the spec and become the sandboxed command."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an owner that ignores it bequeaths that
    with os.fdopen(spec_descriptor, "rb") as file:
        spec = json.load(file)
    try:
        _start(spec)
    except LayerFailed as error:
        failed = {"layer": error.layer, "what": error.what, "errno": error.number}
        _report(spec["control"], {**failed, "hint": error.hint})
    except OSError as error:
        what = f"{error.strerror or error}: {error.filename or spec['command'][0]}"
        _report(spec["control"], {"layer": "launcher", "what": what, "errno": error.errno})
    os._exit(1)


def _report(control: int, failed: dict[str, Any]) -> None:
    with socket.socket(fileno=control) as owner:
        owner.send(json.dumps({"failed": failed}).encode())


def _start(spec: dict[str, Any]) -> NoReturn:
    view = View(
        tuple(Bind(*bind) for bind in spec["binds"]),
        tuple((target, link) for target, link in spec["links"]),
        tuple(spec["masks"]),
        tuple((name, value) for name, value in spec["environment"]),
    )
    grade = Grade(**spec["grade"])
    if grade.fenced:
        fence.enter(view, spec["command"], grade, spec["folder"], spec["uid"], spec["owner"])
    if spec["uid"] >= 0:
        named, view = view, _shelter(view)
        _become(spec["uid"])
        require_reachable(named, view, spec["uid"])
    builtin.die_with_parent()
    if os.getppid() != spec["owner"]:
        os._exit(1)  # the owner went before we could ask to be told
    if spec["bwrap"]:
        line = bwrap.packed(bwrap.arguments(view, grade))
        arguments = os.memfd_create("bwrap-arguments", 0)
        os.write(arguments, line)
        os.lseek(arguments, 0, os.SEEK_SET)
        words = [spec["bwrap"], "--args", str(arguments), "--", *spec["command"]]
        os.execv(spec["bwrap"], words)  # noqa: S606
    builtin.enter(view, spec["command"], grade)


def _shelter(view: View) -> View:
    """Bind every source below a folder that anybody may traverse; return the view from there.

    Without the privilege to mount, the view comes back as it is: perhaps it is reachable.
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    except PermissionError:
        return view
    binds = view.ordered()
    # opened in the new namespace, for a bind takes sources of its own namespace only, and
    # before the shelter covers what may lie below it
    sources = [os.open(b.source, os.O_PATH | os.O_CLOEXEC) for b in binds]
    syscalls.mount("tmpfs", _SHELTER, "tmpfs", 0, "mode=755,size=1m")
    sheltered = []
    for at, (bind, descriptor) in enumerate(zip(binds, sources, strict=True)):
        place = f"{_SHELTER}/{at}"
        opened = f"/proc/self/fd/{descriptor}"
        if os.path.isdir(opened):
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        syscalls.mount(opened, place, None, syscalls.MS_BIND | syscalls.MS_REC)
        os.close(descriptor)
        sheltered.append(Bind(place, bind.inside))
    return replace(view, binds=tuple(sheltered))


def _become(uid: int) -> None:
    """Drop from root to `uid`, for good."""
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        syscalls.drop_capabilities(bounding=False)
        # a change of user makes /proc/self belong to root; the built-in launcher writes there
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    except OSError as error:
        raise LayerFailed(
            "spare user",
            f"cannot become user {uid}: {error.strerror}",
            error.errno or 0,
            hint="start envhub as a normal user, or give it CAP_SETUID and CAP_SETGID",
        ) from error


def require_reachable(named: View, view: View, uid: int) -> None:
    """Try what is shown, and name it by the path that its owner knows."""
    for owned, bind in zip(named.ordered(), view.ordered(), strict=True):
        try:
            if os.path.isdir(bind.source):
                os.listdir(bind.source)
            else:
                os.stat(bind.source)
        except PermissionError as error:
            raise LayerFailed(
                "spare user",
                f"user {uid}, as which sandboxes run, cannot read `{owned.source}`",
                error.errno or 0,
                hint="make it readable (chmod o+rX), move it out of a private home, or start "
                "envhub with CAP_SYS_ADMIN or as the user that owns it",
            ) from None
