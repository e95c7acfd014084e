"""Threads that wait for replies over one connection, of which one reads for all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


class Waiting:
    """A thread that waits.

    Args:
        done: says whether it need not wait any more.

    Attributes:
        beneath: who reads in the same thread, and was interrupted by a signal's handler.
    """

    __slots__ = ("_gate", "beneath", "done", "thread")

    def __init__(self, done: Callable[[], bool]) -> None:
        self.done = done
        self.thread = threading.get_ident()
        self.beneath: Waiting | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    def sleep(self, at_most_s: float) -> None:
        """Wait until it is woken."""
        self._gate.acquire(timeout=at_most_s)

    def wake(self) -> None:
        """Have it look again."""
        with suppress(RuntimeError):  # it is awake
            self._gate.release()


class Readers:
    """Who reads, and who waits meanwhile. Whoever calls this has the line's lock."""

    def __init__(self) -> None:
        self._reader: Waiting | None = None
        self._followers: dict[Waiting, None] = {}

    @property
    def is_anybody(self) -> bool:
        """Whether somebody reads."""
        return self._reader is not None

    def take(self, waiting: Waiting) -> bool:
        """Be the one who reads, if there is none, or one that cannot go on before we have."""
        reader = self._reader
        if reader is not None and reader is not waiting:
            if reader.thread != waiting.thread:
                self._followers[waiting] = None
                return False
            waiting.beneath = reader
        self._reader = waiting
        return True

    def leave(self, waiting: Waiting) -> None:
        """Wait no more, and have another read. Idempotent."""
        self._followers.pop(waiting, None)
        if self._reader is waiting:
            self._reader = waiting.beneath
            self.wake_done()
            if self._reader is None:
                self._pass_on()

    def _pass_on(self) -> None:
        for waiting in reversed(self._followers):  # a handler's before what it interrupted
            if not waiting.done():
                self._reader = waiting
                del self._followers[waiting]
                waiting.wake()
                return

    def wake_done(self) -> None:
        """Have those go on who have what they wait for."""
        for waiting in self._followers:
            if waiting.done():
                waiting.wake()

    def wake_all(self) -> None:
        """Have everybody look again."""
        if self._reader is not None:
            self._reader.wake()
        for waiting in self._followers:
            waiting.wake()
