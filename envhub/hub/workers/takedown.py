"""How a sandbox is taken down: its launcher reaps what is inside, if it can."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from envhub.hub.workers.process import only_child, parent_of
from envhub.hub.workers.tail import Tail
from envhub_sandbox import Launched

_GONE_S = 2.0  # for a sandbox that was hung up on to be taken down; takes milliseconds


async def take_down(launched: Launched, tail: Tail, *, hangs: bool) -> None:
    """Hang up, and wait until the launcher has reaped what is inside and has ended.

    Killed at once, the launcher would leave its dying child to the machine's init.

    Args:
        launched: the sandbox.
        tail: of what it prints, which is read meanwhile.
        hangs: its zygote will not notice.
    """
    launched.control.close()
    try:
        ended = os.pidfd_open(launched.process.pid)
    except OSError:  # a program that ignores SIGCHLD has it reaped by the kernel
        launched.kill()
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(ended, gone.set)
    tail.listen()
    try:
        if not (hangs and _kill_zygote(launched)):
            await _wait(gone)
        if not gone.is_set() and _kill_zygote(launched):
            await _wait(gone)
        if not gone.is_set():  # it does not go by itself, and an executioner may need a while
            tail.stop()  # the pipe is closed in there
            await asyncio.to_thread(launched.kill)
    finally:
        loop.remove_reader(ended)
        tail.stop()
        os.close(ended)
        launched.kill()


async def _wait(gone: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_GONE_S):
            await gone.wait()


def _kill_zygote(launched: Launched) -> bool:
    """Kill process 1 of the sandbox, if it has one; return whether it had."""
    launcher = launched.process.pid
    zygote = only_child(launcher) if launched.launcher and launched.grade.namespaces else None
    if zygote is None:
        return False
    try:
        pidfd = os.pidfd_open(zygote)
    except OSError:
        return False
    try:
        if parent_of(zygote) != launcher:  # it was reaped, and the number is another's
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
    return True
