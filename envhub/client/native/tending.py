"""The thread that has an eye on a line while nobody waits for replies over it."""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from envhub.wire import native

_TEND_S = 5.0  # between two looks at a connection that nobody uses
_END_S = 1.0
Word = native.Request | None  # to be said; None only to look


class Tended(Protocol):
    """What is looked at now and then."""

    def tend(self, word: Word) -> None:
        """Say that, and look."""
        ...


class Tending:
    """A thread, from `start` to `end`, or until nobody has its line any more.

    Args:
        line: to be tended.
    """

    def __init__(self, line: Tended) -> None:
        # a queue that may be put to from anywhere: a signal's handler, the garbage collector
        self._words: SimpleQueue[Word | bool] = SimpleQueue()
        args = weakref.ref(line), self._words
        self._thread = threading.Thread(
            target=_tend, args=args, name="envhub-tend", daemon=True
        )
        weakref.finalize(line, self._words.put, False).atexit = False

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def soon(self, word: Word) -> None:
        """Have it say that, and look, now."""
        self._words.put(word)

    def end(self) -> None:
        """End it. Idempotent."""
        self._words.put(False)
        thread = self._thread
        is_started = thread.ident is not None and not sys.is_finalizing()
        if is_started and thread is not threading.current_thread():
            thread.join(_END_S)


def _tend(line: weakref.ref[Tended], words: SimpleQueue[Word | bool]) -> None:
    while True:
        word: Word | bool = None
        with suppress(Empty):
            word = words.get(timeout=_TEND_S)
        found = line()
        if isinstance(word, bool) or found is None:
            return
        found.tend(word)
        del found
