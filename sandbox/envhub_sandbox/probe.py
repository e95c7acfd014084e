"""Trying something that may kill whoever tries it: in a throw-away process."""

from __future__ import annotations

import os
from collections.abc import Callable

_WORKED = b"\0"


def attempt(work: Callable[[], None], words: Callable[[BaseException], str]) -> str:
    """Do it in a child of ours.

    Args:
        work: what is tried; it has worked if it returns.
        words: what is said of the error that it raised.

    Returns:
        "" if it worked, else why it did not.

    Raises:
        OSError: there can be no more processes.
    """
    read, write = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        raise
    if child == 0:
        try:
            work()
            said = _WORKED
        except BaseException as error:
            said = words(error)[:500].encode()
        os.write(write, said)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if told == _WORKED:
        return ""
    return told.decode(errors="replace") or "it was killed"
