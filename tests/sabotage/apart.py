"""Attacks that only show outside of the sandbox, tried where they can hurt nobody.

That is a pid namespace and a mount namespace of its own, as its first process, which nothing
in there can kill. What is left of it ends with it.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
import traceback
from collections.abc import Iterable
from typing import NoReturn

from envhub_sandbox import isolate, syscalls
from tests.sabotage.ends import ENDS
from tests.sabotage.trying import NOT_BUILT
from tests.sabotage.worlds import World
from tests.sandbox.alone import DEADLINE_S

_WORKED, _FAILED, _NOT_BUILT, _BROKEN = 10, 11, 12, 13


def works(world: World, left_out: Iterable[str], name: str) -> bool | None:
    """Return whether it worked; None where no sandbox could be built."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as own:
        os.chmod(own, 0o755)
        child = os.fork()
        if not child:
            tempfile.tempdir = own  # for what a sandbox leaves that is killed
            _go_apart(world, tuple(left_out), name, said.fileno())
        code = _exit_code(child)
        said.seek(0)
        assert code in (_WORKED, _FAILED, _NOT_BUILT), f"{code}: {said.read()}"
    return {_WORKED: True, _FAILED: False, _NOT_BUILT: None}[code]


def _exit_code(child: int) -> int:
    held = os.pidfd_open(child)
    if not select.select([held], [], [], DEADLINE_S)[0]:
        signal.pidfd_send_signal(held, signal.SIGKILL)
    os.close(held)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _go_apart(world: World, left_out: tuple[str, ...], name: str, output: int) -> NoReturn:
    """Become the parent of process 1 of what is apart, and end as that did."""
    code = _BROKEN
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        uid, gid = os.getuid(), os.getgid()
        kinds = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS
        if uid:
            syscalls.unshare(syscalls.CLONE_NEWUSER | kinds)
            isolate.map_user(uid, uid, gid)
        else:
            syscalls.unshare(kinds)
        child = os.fork()
        if child:
            code = _exit_code(child)
        else:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()  # or a signal to our group would reach who started us
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("proc", "/proc", "proc")
            code = _WORKED if ENDS[name](world, left_out) else _FAILED
    except NOT_BUILT:
        os.write(2, traceback.format_exc().encode())
        code = _NOT_BUILT
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)
