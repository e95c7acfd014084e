"""How a server ends: no new sessions at the first signal, no more patience at the second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from envhub.hub.accounts.events import INFO, tell

if TYPE_CHECKING:
    from envhub.door.applications import Applications
    from envhub.hub.hub import Hub


class Drain:
    """Lets the sessions of clients come to their end, for a while.

    Args:
        hub: that gives out no new ones meanwhile.
        applications: whose own sessions nobody ends, and nobody waits for.
        within_s: that it may take; 0 ends all of them at once.
        on_drain: called when it begins, with how many sessions are waited for.
        clock: the monotonic one.
    """

    def __init__(
        self,
        hub: Hub,
        applications: Applications,
        within_s: float,
        on_drain: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._applications = applications
        self._within_s = within_s
        self._on_drain = on_drain
        self._clock = clock
        self._asked = 0
        self._until: float | None = None

    @property
    def sessions(self) -> int:
        """How many are waited for."""
        return self._hub.active_sessions - self._applications.resting

    def ask(self, *, again: bool = True) -> None:
        """Ask the server to end; may be called by a handler of signals.

        Args:
            again: who has asked before, and asks once more, has lost patience.
        """
        self._asked = self._asked + 1 if again else max(self._asked, 1)

    def is_over(self) -> bool:
        """Begin if it was asked for; return whether the server is to end now.

        To be called again and again, in the hub's loop.
        """
        if not self._asked:
            return False
        if self._until is None:
            self._until = self._clock() + self._within_s
            self._hub.drain()
            tell(INFO, "drain begins", sessions=self.sessions, within_s=self._within_s)
            if self._within_s and self.sessions:
                self._on_drain(self.sessions)
        return self._asked > 1 or not self.sessions or self._clock() >= self._until
