"""Start a program in an outer sandbox and own it: one process to reap, one socket to speak on.

`auto` takes bubblewrap where it is installed. Whether its children can build namespaces is
found by doing it: the zygote's first word. The one who starts zygotes remembers the answer.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Literal

from . import fenced, machine
from .errors import LaunchFailed, LayerFailed
from .policy import View
from .tiers import NONE, ROOT, SESSIONS, STRICT, UIDS, Grade, Ground

Launcher = Literal["bubblewrap", "built-in"]
# a range that systemd's documentation lists as unused: https://systemd.io/UIDS-GIDS/
_SPARE_UIDS = range(60578, 61184)
# blocks for the uid tier; containers with users of their own have 65,536 of them
_BLOCKS = range(16 * UIDS, 56 * UIDS, UIDS)
_blocks_in_use: set[int] = set()
_EXECUTION_S = 5.0  # and what it leaves, to be removed
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
        grade: how well it is isolated.
        folder: what the sandbox has on the disk, "" for nothing.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    output: int
    launcher: Launcher | None
    uid: int = -1
    grade: Grade = NONE
    folder: str = ""

    def kill(self) -> None:
        """End everything in the sandbox, reap it, and close our ends. Idempotent."""
        if self.process.returncode is None:
            self._order_the_end()
            self.process.kill()
            self.process.wait()
        if self.folder:  # the executioner was killed before it could
            subprocess.run(["/bin/rm", "-rf", "--", self.folder], check=False)
            self.folder = ""
            _blocks_in_use.discard(self.uid)
        self.control.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1

    def _order_the_end(self) -> None:
        """Let an executioner do its work: nobody else reaches what hides from its parent."""
        if self.grade.fenced:
            self.process.terminate()
            try:
                self.process.wait(_EXECUTION_S)
            except subprocess.TimeoutExpired:
                pass


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


def launch(
    view: View, command: Sequence[str], launcher: Launcher, grade: Grade = STRICT
) -> Launched:
    """Start `command` in a sandbox that shows `view`.

    Its descriptor 0 is /dev/null, 1 and 2 are the output. In the words of the command
    `{control}` becomes the number of the control socket, and `{root}` the path below which
    the view's targets are: "" where the sandbox has a root of its own.

    Args:
        view: what it shows.
        command: the program and its arguments.
        launcher: who builds it; without namespaces it is always the built-in one.
        grade: how well.

    Raises:
        LaunchFailed: bubblewrap was asked for and is not there.
        LayerFailed: no process could be started.
    """
    bwrap = bubblewrap() if launcher == "bubblewrap" else None
    if launcher == "bubblewrap" and bwrap is None:
        raise LaunchFailed(
            "`bwrap` not found on PATH",
            hint="install the package `bubblewrap`, or use the built-in launcher",
        )
    uid = spare_uid() if os.geteuid() == 0 else -1
    folder, ground = "", Ground(grade)
    if grade.fenced:
        uid = _free_block() if grade.tier == "uid" else -1
        folder = f"{os.path.realpath(gettempdir())}/envhub-{os.getpid()}-{secrets.token_hex(8)}"
        shown = (*fenced.shown(view), (f"{folder}/{ROOT}", "read"))
        ground = Ground(grade, f"{folder}/{SESSIONS}", shown, uid)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spec = {
        "binds": [(bind.source, bind.inside) for bind in view.binds],
        "links": view.links,
        "masks": view.masks,
        "environment": (*view.environment, ground.variable()),
        "command": _filled_in(command, theirs.fileno(), folder and f"{folder}/{ROOT}"),
        "control": theirs.fileno(),
        "uid": uid,
        "owner": os.getpid(),
        "bwrap": bwrap,
        "grade": asdict(grade),
        "folder": folder,
    }
    here = str(Path(__file__).parent.parent)
    try:
        sheet = os.memfd_create("envhub-sandbox", os.MFD_CLOEXEC)
        try:
            os.write(sheet, json.dumps(spec).encode())
            os.lseek(sheet, 0, os.SEEK_SET)
            line = [sys.executable, "-I", "-S", "-c", _BOOT, here, str(sheet)]
            launched = _start(line, ours, theirs, [sheet], launcher, uid=uid)
        finally:
            os.close(sheet)
    except OSError as error:
        ours.close()
        theirs.close()
        _blocks_in_use.discard(uid)
        raise _not_started(error) from error
    launched.grade, launched.folder = grade, folder
    return launched


def launch_bare(command: Sequence[str], environment: dict[str, str]) -> Launched:
    """Start `command` as an ordinary process, without any isolation."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = _filled_in(command, theirs.fileno(), "")
    name, value = Ground(NONE).variable()
    try:
        return _start(line, ours, theirs, [], None, {**environment, name: value})
    except OSError as error:
        raise _not_started(error) from error


def _not_started(error: OSError) -> LayerFailed:
    what = f"{error.strerror or error} {error.filename or ''}".strip()
    hint = machine.FORK_FIX if error.errno == errno.EAGAIN else ""
    return LayerFailed("launcher", what, error.errno or 0, hint=hint)


def _filled_in(command: Sequence[str], control: int, root: str) -> list[str]:
    values = {"{control}": str(control), "{root}": root}
    words = list(command)
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def _free_block() -> int:
    """Return the first of UIDS users that nobody has; another block for each sandbox."""
    start = secrets.randbelow(len(_BLOCKS))  # another hub begins elsewhere, most likely
    for at in range(len(_BLOCKS)):
        first = _BLOCKS[(start + at) % len(_BLOCKS)]
        taken = any(first <= user.pw_uid < first + UIDS for user in pwd.getpwall())
        if not taken and first not in _blocks_in_use:
            _blocks_in_use.add(first)
            return first
    raise LaunchFailed("every block of user ids from 16384 to 57343 is taken")


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
