"""Start a program in an outer sandbox and own it: one process to reap, one socket to speak on.

`auto` takes bubblewrap where it is installed. Whether its children can build namespaces is
found by doing it: the zygote's first word. The one who starts zygotes remembers the answer.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import LaunchFailed
from .policy import View

Launcher = Literal["bubblewrap", "built-in"]
# a range that systemd's documentation lists as unused: https://systemd.io/UIDS-GIDS/
_SPARE_UIDS = range(60578, 61184)
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from envhub_sandbox import stage;\
 stage.main(int(sys.argv[2]))"


@dataclass
class Launched:
    """A sandboxed program and the ends of what connects us to it.

    Args:
        process: to be reaped by us. Its end is the end of everything in the sandbox.
        control: SOCK_SEQPACKET.
        output: what it prints, both streams; the reading end of a pipe.
        launcher: who built the sandbox; None when nobody did.
        uid: the spare user that it runs as; -1 when it runs as we do. A pipe that is handed
            in must belong to it (fchown) for /dev/stdout to be opened by name.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    output: int
    launcher: Launcher | None
    uid: int = -1

    def kill(self) -> None:
        """End everything in the sandbox, reap it, and close our ends. Idempotent."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self.control.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


def bubblewrap() -> str | None:
    """Return the path of bubblewrap, if it is installed."""
    named = [folder for folder in os.get_exec_path() if os.path.isabs(folder)]
    return shutil.which("bwrap", path=":".join([*named, "/usr/bin", "/usr/local/bin"]))


def spare_uid() -> int:
    """Return the user that sandboxes of a root owner run as: none that anybody else uses.

    It differs between owners, so that they do not share the kernel's quotas per user.
    """
    for at in range(len(_SPARE_UIDS)):
        uid = _SPARE_UIDS[(os.getpid() + at) % len(_SPARE_UIDS)]
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid
    raise LaunchFailed("every spare user id from 60578 to 61183 is taken")


def launch(view: View, command: Sequence[str], launcher: Launcher) -> Launched:
    """Start `command` in a sandbox that shows `view`.

    Its descriptor 0 is /dev/null, 1 and 2 are the output; `{control}` in a word of the
    command becomes the number of the control socket.

    Raises:
        LaunchFailed: bubblewrap was asked for and is not there.
    """
    bwrap = bubblewrap() if launcher == "bubblewrap" else None
    if launcher == "bubblewrap" and bwrap is None:
        raise LaunchFailed(
            "`bwrap` not found on PATH",
            hint="install the package `bubblewrap`, or use the built-in launcher",
        )
    uid = spare_uid() if os.geteuid() == 0 else -1
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spec = {
        "binds": [(bind.source, bind.inside) for bind in view.binds],
        "links": view.links,
        "masks": view.masks,
        "environment": view.environment,
        "command": _with_control(command, theirs.fileno()),
        "control": theirs.fileno(),
        "uid": uid,
        "owner": os.getpid(),
        "bwrap": bwrap,
    }
    sheet = os.memfd_create("envhub-sandbox", os.MFD_CLOEXEC)
    os.write(sheet, json.dumps(spec).encode())
    os.lseek(sheet, 0, os.SEEK_SET)
    here = str(Path(__file__).parent.parent)
    line = [sys.executable, "-I", "-S", "-c", _BOOT, here, str(sheet)]
    try:
        return _start(line, ours, theirs, [sheet], launcher, uid=uid)
    finally:
        os.close(sheet)


def launch_bare(command: Sequence[str], environment: dict[str, str]) -> Launched:
    """Start `command` as an ordinary process, without any isolation."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = _with_control(command, theirs.fileno())
    return _start(line, ours, theirs, [], None, environment)


def _with_control(command: Sequence[str], number: int) -> list[str]:
    return [word.replace("{control}", str(number)) for word in command]


def _start(
    line: Sequence[str],
    ours: socket.socket,
    theirs: socket.socket,
    extra: list[int],
    launcher: Launcher | None,
    environment: dict[str, str] | None = None,
    uid: int = -1,
) -> Launched:
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        os.fchown(write, uid, uid)
    except OSError:
        pass  # such a user cannot be: becoming it will fail, and say so
    try:
        process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            pass_fds=[theirs.fileno(), *extra],
            env=environment if environment is not None else {},
            cwd="/",
        )
    except BaseException:
        ours.close()
        os.close(read)
        raise
    finally:
        theirs.close()
        os.close(write)
    os.set_blocking(read, False)
    return Launched(process, ours, read, launcher, uid)
