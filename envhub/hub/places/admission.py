"""Admission: who may open a session now, who waits for it, and who is refused."""

from __future__ import annotations

import anyio

from envhub.errors import CapacityError, UsageError
from envhub.hub.accounts.counters import Counters
from envhub.hub.places.turns import Turn, Turns
from envhub.hub.places.watchdog import Watchdog

QUEUE_S = 30.0
QUEUE_MAX = 1024
SESSION_BYTES = 6 * 1024 * 1024  # a coding session's three processes; others take a third
_CLOSING = "the hub is closing"


class Admission:
    """Gives out the places of one hub. Belongs to its event loop.

    Args:
        watchdog: says whether the machine is short of memory.
        queue_s: how long a request waits.
        queue_max: how many may wait.
        counters: of the hub, for those that are refused.

    Raises:
        UsageError: one of them is negative.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        *,
        queue_s: float,
        queue_max: int,
        counters: Counters | None = None,
    ) -> None:
        for name, given in (("queue_s", queue_s), ("queue_max", queue_max)):
            if given < 0:
                raise UsageError(f"`{name}` must be 0 or more, and is {given:g}")
        self._watchdog = watchdog
        self._counters = counters or Counters()
        self._queue_s = queue_s
        self._turns = Turns(0, queue_max)
        self._waiting: set[anyio.Event] = set()
        self._was_short = False
        self._refusal = _CLOSING

    @property
    def places(self) -> int:
        """How many there are."""
        return self._turns.places

    @property
    def taken(self) -> int:
        """How many are given out."""
        return self._turns.taken

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._turns.waiting

    @property
    def is_full(self) -> bool:
        """Whether no place is free, and no more requests may wait for one."""
        return not self._turns.free and self.waiting >= self._turns.waiting_max

    def open(self, places: int) -> None:
        """Begin to give out so many places."""
        self._turns.places = places
        self._refusal = ""

    def refuse(self, why: str = _CLOSING) -> None:
        """Give out no more, and end the requests that wait."""
        self._refusal = why
        for told in self._waiting:
            told.set()

    async def take(self, client: str) -> Turn:
        """Return a place, waiting for it if need be; `give_back` ends it.

        Args:
            client: who asks; clients are served in turn.

        Raises:
            CapacityError: there is none in time, too many wait already, memory is short, or
                no more are given out.
        """
        if self._refusal:
            raise self._closed()
        self._hold_back()
        told = anyio.Event()
        turn = self._turns.ask(client, told.set)
        try:
            if turn.state == "waiting":
                self._waiting.add(told)
                with anyio.move_on_after(self._queue_s):
                    await told.wait()
            if self._refusal:
                raise self._closed()
            if turn.state != "served":
                raise self._refused(turn)
        except BaseException:  # cancelled, too: it may have been served in the same moment
            self.give_back(turn)
            raise
        finally:
            self._waiting.discard(told)
        return turn

    def give_back(self, turn: Turn) -> None:
        """Note that a place is free again. Idempotent."""
        self._turns.give_back(turn)

    def look(self) -> None:
        """Let in who waited for memory, and no faster than it comes back.

        After each look of the watchdog.
        """
        if self._watchdog.is_short or not self._was_short:
            self._hold_back()
            return
        room = (self._watchdog.available_bytes - self._watchdog.floor_bytes) // SESSION_BYTES
        self._was_short = room < self.waiting
        self._turns.hold(self.taken + room if self._was_short else None)

    def _hold_back(self) -> None:
        if self._watchdog.is_short:
            self._was_short = True
            self._turns.hold(0)

    def _closed(self) -> CapacityError:
        self._counters.refuse("closing")
        return CapacityError(self._refusal)

    def _refused(self, turn: Turn) -> CapacityError:
        counts = {"active": self.taken, "limit": self.places}
        if self._watchdog.is_short:
            self._counters.refuse("memory")
            left = self._watchdog.available_bytes // 1024**2
            kept = self._watchdog.floor_bytes // 1024**2
            return CapacityError(
                f"the machine is short of memory: {left} MiB are left, {kept} are kept free",
                hint="close sessions, or lower memory_floor_bytes",
                **counts,
            )
        if turn.state == "refused":
            self._counters.refuse("queue_full")
            return CapacityError(
                f"the queue is full: {self.waiting} requests wait for one of {self.places}"
                " places",
                hint="try again later, close sessions, or raise max_sessions",
                **counts,
            )
        self._counters.refuse("no_place")
        return CapacityError(
            f"no place within {self._queue_s:g} s: {self.taken} of {self.places} sessions"
            " are open",
            hint="close sessions, or raise max_sessions",
            **counts,
        )
