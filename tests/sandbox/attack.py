"""What an attack is, and what a failed one says.

Every attack is Python that reaches its end when it has worked, and raises when it has not. It
runs twice: *free*, where it must work, and in a session, where it must not. Without the first
a typo would pass for security.

Free means one of three things:

* "plain": an ordinary process of whoever runs the tests;
* "owner": one that has just made its own namespaces, and is root in them;
* the names of layers: a session without exactly these.
"""

from __future__ import annotations

from dataclasses import dataclass

# what every attack finds defined, wherever it runs
PRELUDE = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)

def call(function, *arguments):
    if isinstance(function, int):
        result = libc.syscall(function, *arguments)
    else:
        result = getattr(libc, function)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def reached(number, *arguments):
    "Whether the kernel did the call, or looked at its arguments at least."
    try:
        call(number, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            raise
"""

# deaf, and a child of nobody in the sandbox
DAEMON = """
import os, signal
if not os.fork():
    os.setsid()
    if not os.fork():
        for number in range(1, 32):
            if number not in (9, 19): signal.signal(number, signal.SIG_IGN)
        say('daemon')
        while True: signal.pause()
    os._exit(0)
os.wait()
hear()
"""


@dataclass(frozen=True)
class Attack:
    """One row.

    Args:
        name: what is tried.
        code: reaches its end when it worked.
        meets: what the failure in a session says.
        free: where it works; see above.
        deeper: layers to leave out, and what then still stops it.
        optional: why it may fail even when free; such a row is then skipped.
    """

    name: str
    code: str
    meets: str
    free: str | tuple[str, ...] = "plain"
    deeper: tuple[tuple[tuple[str, ...], str], ...] = ()
    optional: str = ""


NO = "PermissionError"
ABSENT = "FileNotFoundError"
UNKNOWN = "Function not implemented"
NO_FAMILY = "Address family not supported"
FULL = "No space left on device"
READ_ONLY = "Read-only file system"
