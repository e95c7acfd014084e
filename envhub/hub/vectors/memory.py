"""Memory that is shared with a session process, which cannot take any of it away again."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

MOST_BYTES = 4 * 1024**3  # shared with one process that has no limit of its own
# a mapping whose file is made shorter kills who reads it (SIGBUS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@contextmanager
def shared(size_bytes: int) -> Iterator[tuple[mmap.mmap, int]]:
    """Hold new memory, mapped, and the descriptor to hand over; that is closed at the end."""
    descriptor = os.memfd_create("envhub", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        yield mmap.mmap(descriptor, size_bytes), descriptor
    finally:
        os.close(descriptor)
