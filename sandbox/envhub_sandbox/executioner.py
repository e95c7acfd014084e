"""The executioner: the parent of what it can kill in one call, where there is no pid namespace.

It restricts itself to a Landlock domain that scopes signals (Linux 6.12), and forks. What it
forks, and all that comes of that, is in this domain or in one below it, so `kill(-1)` from
here reaches exactly those, daemons and fork bombs included, and nobody else; they, in a domain
of their own, cannot signal it. What is orphaned comes to it, for it is a subreaper.

There is one above each worker, as the launcher; and one above each session, as the process
that the zygote forked and the hub holds. SIGTERM is its order, also by the parent's death.
What rings for the session's process rings here, and is passed on.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from typing import NoReturn

from . import syscalls
from .errors import LayerFailed

_PR_SET_CHILD_SUBREAPER = 36
_ORDERS = (signal.SIGTERM, signal.SIGCHLD, syscalls.DOORBELL)
_REMOVE_S = 30.0


def prepare() -> None:
    """Get ready to be one: before its domain is entered, and before `fork`."""
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ORDERS)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)


def adopt_orphans() -> None:
    """Have what our descendants leave behind become our children, and not the machine's."""
    syscalls.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def fork() -> int:
    """Fork what is to be watched; return 0 in it, with the signals as they were."""
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ORDERS)
        die_with_it()
    return child


def die_with_it() -> None:
    """Ask for SIGKILL when the executioner goes. Undone by a change of credentials."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def watch(child: int, folder: str) -> NoReturn:
    """Wait for the child's end, or for the order; end all, and then as the child did.

    Args:
        child: what `fork` returned.
        folder: what it may have left, removed afterwards as far as we may.
    """
    syscalls.close_from(0)
    status = None
    while status is None:
        order = signal.sigwait(_ORDERS)
        while (ended := _reap(os.WNOHANG)) is not None:
            status = ended[1] if ended[0] == child else status
        if order == signal.SIGTERM:
            break
        if order == syscalls.DOORBELL and status is None:  # nobody else reaps it
            os.kill(child, syscalls.DOORBELL)
    try:
        os.kill(-1, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # nobody is left whom we may reach
    while (ended := _reap(0)) is not None:
        status = ended[1] if ended[0] == child else status
    _remove(folder)
    _end_like(status or 0)


def _reap(flags: int) -> tuple[int, int] | None:
    """Return the number and status of a child that has ended; None without one."""
    try:
        number, status = os.waitpid(-1, flags)
    except ChildProcessError:
        return None
    return (number, status) if number else None


def _remove(folder: str) -> None:
    """Remove what is in a folder, whatever it is; programs do that for any depth and name."""
    null = os.open(os.devnull, os.O_RDWR)
    for line in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        if not os.path.isdir(folder) or not os.listdir(folder):
            break
        try:
            subprocess.run(
                [*line, "--", folder],
                stdin=null,
                stdout=null,
                stderr=null,
                env={"PATH": "/usr/bin:/bin"},
                timeout=_REMOVE_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return  # the folder of the worker goes with the worker


def _end_like(status: int) -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def require(abi: int) -> None:
    """Refuse a kernel on which this does not hold.

    Raises:
        LayerFailed: its Landlock scopes no signals.
    """
    if abi < 6:
        raise LayerFailed(
            "landlock",
            f"this kernel's Landlock is version {abi}, and 6 is the first that holds signals",
            hint="Linux 6.12 or newer, with `landlock` among its security modules",
        )
