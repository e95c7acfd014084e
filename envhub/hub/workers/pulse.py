"""A zygote's pulse: it is asked every few seconds whether it is there.

The answer comes from its main loop, so that one which is stopped, or hangs in a fork, gives
none, though its socket is open and its sessions run on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 10.0
_PINGS = 3  # in the time within which one must be answered


class Pulse:
    """When to ask, and whether the answer is late.

    Args:
        patience_s: within which an answer must come.
        clock: the monotonic one.
    """

    def __init__(
        self, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._asked: float | None = None  # and not answered yet
        self._next = clock()

    def is_due(self) -> bool:
        """Whether to ask now; then it counts as asked."""
        now = self._clock()
        if self._asked is not None or now < self._next:
            return False
        self._asked = now
        self._next = now + self._patience_s / _PINGS
        return True

    def heard(self) -> None:
        """Note an answer."""
        self._asked = None

    @property
    def is_late(self) -> bool:
        """Whether an answer should have come by now."""
        return self._asked is not None and self._clock() - self._asked > self._patience_s
