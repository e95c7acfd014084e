"""How long to wait before what keeps failing is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable

_PATIENCE = 2  # failures that are forgiven: what fails once in a while is tried again at once
_FIRST_S = 0.1
_LONGEST_S = 30.0
_STEADY_S = 60.0  # what has worked for so long begins anew


class BackOff:
    """Waits twice as long after each failure in a row, from the third on: 0.1 s to 30 s.

    Args:
        clock: the monotonic one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._began: float | None = None
        self._until = 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, self._until - self._clock())

    @property
    def failures(self) -> int:
        """How many there were in a row."""
        return self._failures

    def began(self) -> None:
        """Note that it works, for now."""
        self._began = self._clock()

    def failed(self) -> None:
        """Note that it did not work, or does no more."""
        now = self._clock()
        if self._began is not None and now - self._began >= _STEADY_S:
            self._failures = 0
        self._began = None
        self._failures += 1
        doublings = self._failures - _PATIENCE - 1
        if doublings >= 0:
            self._until = now + min(_LONGEST_S, _FIRST_S * 2.0 ** min(doublings, 32))

    def forget(self) -> None:
        """Begin anew: it is not what has failed any more."""
        self._failures, self._until = 0, 0.0
