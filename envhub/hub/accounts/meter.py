"""The meter of a session: what its bill is made of.

What passes through the hub is counted there. What its processes have used is asked of the
kernel when a bill is wanted, so that no call pays for it; of those that have ended it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from envhub.hub.places.census import Used
from envhub.results import Bill


class Uses(Protocol):
    """A lease, or whatever else knows what it has used."""

    def used_so_far(self) -> Used:
        """Return that."""
        ...


class Meter:
    """Counts for one session, over all its processes.

    Calls are counted in the session's thread, leases in the hub's; a bill may be asked for in
    either.

    Attributes:
        sent_bytes: to its processes.
        received_bytes: from them.
        printed_bytes: by them.
        waited_s: for a place, a process, another call.
    """

    def __init__(self) -> None:
        self.sent_bytes = self.received_bytes = self.printed_bytes = 0
        self.waited_s = 0.0
        self._calls = 0
        self._wall_s = 0.0
        self._since: float | None = None  # of the call under way
        # by what has ended, and what has not: replaced together, for another thread may read
        self._used: tuple[Used, tuple[Uses, ...]] = Used(), ()

    def begin(self, stage: str) -> None:
        """Begin a call of a process; the one that closes it is nobody's."""
        if stage != "close":
            self._calls += 1
            self._since = monotonic()

    def end(self) -> None:
        """End it."""
        if self._since is not None:
            self._wall_s += monotonic() - self._since
            self._since = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting."""
        since = monotonic()
        try:
            yield
        finally:
            self.waited_s += monotonic() - since

    def hold(self, lease: Uses) -> None:
        """Count what uses something from now on."""
        ended, live = self._used
        self._used = ended, (*live, lease)

    def release(self, lease: Uses) -> None:
        """Keep what it has used, when that is final."""
        ended, live = self._used
        self._used = ended + lease.used_so_far(), tuple(one for one in live if one is not lease)

    def bill(self) -> Bill:
        """Return what was used until now."""
        since, wall_s = self._since, self._wall_s
        used, live = self._used
        for lease in live:
            used += lease.used_so_far()
        return Bill(
            self._calls,
            wall_s if since is None else wall_s + monotonic() - since,
            self.waited_s,
            used.cpu_s,
            used.peak_bytes,
            self.sent_bytes,
            self.received_bytes,
            self.printed_bytes,
        )
