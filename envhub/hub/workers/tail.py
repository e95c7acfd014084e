"""The last of what a zygote printed, kept for the error that it may explain."""

from __future__ import annotations

import asyncio
import os

_KEPT_BYTES = 16 * 1024  # the tail of a traceback
_READ_BYTES = 64 * 1024
_LAST_READS = 64  # a process that survives its zygote for a moment may print without an end


class Tail:
    """Reads a pipe as something comes. Belongs to the running event loop.

    Args:
        descriptor: the pipe, not blocking; owned by somebody else.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()

    def __str__(self) -> str:
        return self._kept.decode(errors="replace")

    def listen(self) -> None:
        """Read from now on."""
        self._loop.add_reader(self._descriptor, self._read)

    def stop(self) -> None:
        """Read no more. Idempotent."""
        self._loop.remove_reader(self._descriptor)

    def read_what_is_left(self) -> None:
        """Read what is there now."""
        try:
            for _ in range(_LAST_READS):
                if not self._keep(os.read(self._descriptor, _READ_BYTES)):
                    return
        except BlockingIOError:
            pass

    def _read(self) -> None:
        try:
            if not self._keep(os.read(self._descriptor, _READ_BYTES)):
                self.stop()
        except BlockingIOError:
            pass

    def _keep(self, data: bytes) -> bool:
        self._kept += data
        del self._kept[:-_KEPT_BYTES]
        return bool(data)
