"""A clock on the event loop, to the microsecond: the loop's own timers count milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CLOCK_MONOTONIC = 1  # time.perf_counter's
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


@contextmanager
def ticks(interval_s: float, tick: Callable[[float], object]) -> Iterator[None]:
    """Call `tick` at every interval, with the time at which that was due.

    A loop that was held up makes good for every tick that it has missed, at once.
    """
    loop = asyncio.get_running_loop()
    begun, done = time.perf_counter(), 0
    timer = _timer(begun + interval_s, interval_s)

    def read() -> None:
        nonlocal done
        try:
            (missed,) = struct.unpack("Q", os.read(timer, 8))
        except BlockingIOError:
            return
        for _ in range(missed):
            done += 1
            tick(begun + done * interval_s)

    loop.add_reader(timer, read)
    try:
        yield
    finally:
        loop.remove_reader(timer)
        os.close(timer)


def _timer(first: float, interval_s: float) -> int:
    """Make and set a timer; `os.timerfd_create` is of Python 3.13."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = int(libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    pairs = (divmod(round(seconds * 1e9), 1_000_000_000) for seconds in (interval_s, first))
    settings = struct.pack("qqqq", *(number for pair in pairs for number in pair))
    if libc.timerfd_settime(timer, _ABSOLUTE, settings, None):
        os.close(timer)
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return timer
