"""Holders: who asks, and how much of the hub is theirs. No sockets, and nothing of Starlette.

Whoever bears a token is the holder that its line in the token file names; on a door without
tokens everybody is anonymous, and unlimited. Each way in does the same four things:

    holder = holder_of(connection)     # once for each connection
    holder.check("coding")             # may they open this environment?
    seat = await holder.enter()        # counts a session; `seat.leave()` when it is closed
    await holder.turn()                # before each call: reset, step, state, a tool

A call beyond the rate is delayed and not refused: a client that is told to slow down by TCP
needs no code for it. One that would have to wait for longer than PATIENCE_S is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any, Protocol, Self

import anyio

from envhub.errors import CapacityError, NotAllowed

ANONYMOUS = "anonymous"
SCOPE_KEY = "envhub.holder"  # where the ASGI scope has the holder; never the token
PATIENCE_S = 30.0  # that a call is delayed by its rate; half of what clients wait for a reply
QUEUE_MAX = 1024  # sessions of one holder that wait for another of its own to close
QUEUE_S = 30.0  # that a session waits for another of its holder's to close


class Rate:
    """A bucket of one second's calls, which fills at the rate.

    Callers get their turns in the order in which they came. One that gives up gives its call
    back.

    Args:
        per_second: calls; more than zero.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._most = max(1.0, per_second)
        self._left = self._most  # below zero: so many are promised to those who wait
        self._at = time.monotonic()

    async def turn(self) -> None:
        """Return when it is the caller's turn.

        Raises:
            CapacityError: that would be in more than PATIENCE_S.
        """
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self.per_second)
        self._at = now
        wait_s = (1 - self._left) / self.per_second
        if wait_s <= 0:
            self._left -= 1
            return
        if wait_s > PATIENCE_S:
            raise CapacityError(
                f"over {self.per_second:g} calls a second: the next turn is in {wait_s:.0f} s",
                hint="have fewer calls under way at once",
            )
        self._left -= 1
        try:
            await anyio.sleep(wait_s)
        except BaseException:
            self._left += 1
            raise


class Seat:
    """One session, counted to its holder until it is left.

    Args:
        holder: whose.
    """

    def __init__(self, holder: Holder) -> None:
        self._holder: Holder | None = holder

    def leave(self) -> None:
        """Count the session no longer. Idempotent."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder._left(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


class Holder:
    """Who asks. One object for each token, used from one event loop.

    Args:
        name: for logs and metrics; never the token.
        key: who it counts as where clients are served by turns.
        environments: that it may open; None for all.
        sessions: that it may have open at once; None for any number.
        rate: calls a second; None for any number.
        queue_s: how long a session waits for another of the same holder's to close.
    """

    def __init__(
        self,
        name: str,
        key: str,
        *,
        environments: frozenset[str] | None = None,
        sessions: int | None = None,
        rate: float | None = None,
        queue_s: float = QUEUE_S,
    ) -> None:
        self.name = name
        self.key = key
        self.environments = environments
        self.sessions = sessions
        self.rate = None if rate is None else Rate(rate)
        self.queue_s = queue_s
        self.on_refused: Callable[[str], None] = lambda why: None  # told in one word
        self._active = self._waiting = 0
        self._seats: anyio.CapacityLimiter | None = None  # made in the loop that uses it

    @property
    def active(self) -> int:
        """How many sessions it has open."""
        return self._active

    def may_open(self, environment: str) -> bool:
        """Whether it may open that environment, if there is one."""
        return self.environments is None or environment in self.environments

    def check(self, environment: str) -> None:
        """Refuse an environment that is not this holder's to open.

        Raises:
            NotAllowed: it is not.
        """
        if not self.may_open(environment):
            self.on_refused("environment")
            raise NotAllowed(
                f"`{self.name}` may not use environment `{environment}`",
                hint="whoever runs the server names it in the token's `envs=`",
            )

    async def enter(self) -> Seat:
        """Count one session more, which must `leave` when it is closed.

        With all of its sessions open, wait for one of them to close: nobody else's can help.

        Raises:
            CapacityError: none did, with how many are open and may be; or too many wait.
        """
        seat = Seat(self)
        if self.sessions is not None:
            if self._seats is None:
                self._seats = anyio.CapacityLimiter(self.sessions)
            try:  # at first without waiting, so that a patience of nothing can have a free one
                self._seats.acquire_on_behalf_of_nowait(seat)
            except anyio.WouldBlock:
                has_seat = self._waiting < QUEUE_MAX and await self._wait(self._seats, seat)
            else:
                has_seat = True
            if not has_seat:
                self.on_refused("quota")
                raise CapacityError(
                    f"`{self.name}` has {self._active} of its {self.sessions} sessions open",
                    active=self._active,
                    limit=self.sessions,
                    hint="close sessions",
                )
        self._active += 1
        return seat

    async def _wait(self, seats: anyio.CapacityLimiter, seat: Seat) -> bool:
        self._waiting += 1
        try:
            with anyio.move_on_after(self.queue_s) as waiting:
                await seats.acquire_on_behalf_of(seat)
        finally:
            self._waiting -= 1
        return not waiting.cancelled_caught

    def _left(self, seat: Seat) -> None:
        self._active -= 1
        if self._seats is not None:
            self._seats.release_on_behalf_of(seat)

    async def turn(self) -> None:
        """Wait until another call is within the rate.

        On a path where nothing may be spent, look first whether there is a `rate` at all.

        Raises:
            CapacityError: that would take too long.
        """
        if self.rate is None:
            return
        try:
            await self.rate.turn()
        except CapacityError:
            self.on_refused("rate")
            raise


class Connection(Protocol):
    """What has an ASGI scope: a request or a WebSocket of Starlette's, or one's own."""

    @property
    def scope(self) -> MutableMapping[str, Any]:
        """Where the server and what wraps the routes leave what they know."""


def holder_of(connection: Connection) -> Holder:
    """Return who asks; on a door without tokens somebody anonymous, by the peer's host."""
    holder: Holder | None = connection.scope.get(SCOPE_KEY)
    if holder is not None:
        return holder
    client = connection.scope.get("client")
    return Holder(ANONYMOUS, client[0] if client else "")
