"""How long to wait before a hub that was lost is dialled again. No I/O."""

from __future__ import annotations

import time

_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0  # between two attempts to connect


def longer(pause_s: float) -> float:
    """Return how long to wait after an attempt that has failed, and `pause_s` before it."""
    return min(max(2 * pause_s, _PAUSE_S), _LONGEST_PAUSE_S)


class Pauses:
    """Of one line.

    Attributes:
        next_s: before the next attempt; 0 if the last connection was of use.
        cut_at: when the last that was of use ended.
        has_heard: there was an answer over this connection.
    """

    def __init__(self) -> None:
        self.next_s = self.cut_at = self._since = 0.0
        self.has_heard = False

    def made(self) -> None:
        """Note that there is a connection."""
        self.has_heard, self._since = False, time.monotonic()

    def cut(self) -> None:
        """Note that it has ended."""
        now = time.monotonic()
        if self.has_heard or now - self._since > _LONGEST_PAUSE_S:
            self.next_s, self.cut_at = 0.0, now
        else:  # a hub that hangs up on everybody is not asked all the time
            self.failed()

    def failed(self) -> None:
        """Note that there was none to be had."""
        self.next_s = longer(self.next_s)

    def given_up(self) -> None:
        """Note that nobody waits for one any more: whoever calls next tries at once."""
        self.next_s = 0.0
