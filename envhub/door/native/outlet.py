"""What leaves on one connection: replies that travel together, and a bound on what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from envhub.door.connections.duplex import Duplex
from envhub.wire import native

MAX_UNSENT_BYTES = 32 * 1024 * 1024  # beyond it, no further call of this connection begins
MAX_HELD_BYTES = 32 * 1024 * 1024  # by its groups together: beyond it none waits for others
_TOGETHER_BYTES = 1024 * 1024  # in one frame, unless a single reply is longer


class Sink(Protocol):
    """Takes what numbered calls have come to."""

    def expect(self, calls: int, first: int) -> None:
        """Begin calls: each is answered once."""
        ...

    def answer(self, *messages: bytes) -> None:
        """Send the reply to one, and what goes ahead of it; together if that can be.

        No messages: it is answered elsewhere.
        """
        ...


class Outlet:
    """Encoded replies on their way to one client. Those of one turn of the loop share a frame.

    Args:
        on_gone: told by a session that it has ended, or goes on elsewhere: its number, and its
            lane.
        on_room: told when there is room again.

    Attributes:
        gone: that.
        line: to the client; None before it is there.
        closed: the connection is gone; what is sent is dropped, and can be asked for again.
        held_bytes: of replies that wait in groups for others.
    """

    def __init__(
        self,
        on_gone: Callable[[int, object], None],
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.gone = on_gone
        self._on_room = on_room
        self.line: Duplex | None = None
        self.closed = False
        self.held_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._messages: list[bytes] = []
        self._unsent_bytes = 0
        self._under_way = 0
        self._is_due = False
        self._room = asyncio.Event()

    def expect(self, calls: int, first: int = 0) -> None:
        """Begin calls. The last one's reply goes at once, for none is there to join it."""
        self._under_way += calls

    def answer(self, *messages: bytes) -> None:
        """Send the reply to one call, and what goes ahead of it."""
        self._under_way -= 1
        line = self.line
        if self._under_way > 0 or self._messages or line is None or line.is_full:
            self.send(*messages)
        elif messages and not self.closed:
            line.say(native.joined(messages))

    def send(self, *messages: bytes) -> None:
        """Have messages sent, with all others of this turn of the loop."""
        if self.closed:
            return
        self._messages += messages
        for message in messages:
            self._unsent_bytes += len(message)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.go_on)

    @property
    def is_full(self) -> bool:
        """Whether no more may be made for now."""
        return self._unsent_bytes > MAX_UNSENT_BYTES and not self.closed

    async def room(self) -> None:
        """Wait until there may be room for more: who waits looks again."""
        if self.is_full:
            self._room.clear()
            await self._room.wait()

    def look_again(self) -> None:
        """Have who waits for room look whether it is still here that it needs some."""
        self._room.set()

    def go_on(self) -> None:
        """Send what waits, as long as the client reads."""
        self._is_due = False
        line, was_full = self.line, self.is_full
        while line is not None and self._messages and not line.is_full:
            line.say(self._next_frame())
        if was_full and not self.is_full:
            self._room.set()
            self._on_room()

    def _next_frame(self) -> bytes:
        together = taken = 0
        for message in self._messages:
            taken += 1
            together += len(message)
            if together >= _TOGETHER_BYTES:
                break
        frame = native.joined(self._messages[:taken])
        del self._messages[:taken]
        self._unsent_bytes -= together
        return frame

    def close(self) -> None:
        """Drop what waits, and whoever waits for room. Idempotent."""
        self.closed = True
        self._messages.clear()
        self._room.set()


class Group:
    """Calls whose replies wait for each other: the first K of those that are under way.

    Args:
        outlet: where the replies go.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._first = 1
        self._under_way = 0
        self._messages: list[bytes] = []
        self._bytes = 0
        self._replies = 0

    def expect(self, calls: int, first: int) -> None:
        """Begin calls. From now on, so many replies go together."""
        self._under_way += calls
        self._first = first

    def answer(self, *messages: bytes) -> None:
        """Take the reply to one call, and what goes ahead of it."""
        self._messages += messages
        self._replies += 1
        self._under_way -= 1
        size = sum(map(len, messages))
        self._bytes += size
        self._outlet.held_bytes += size
        if (
            self._replies >= self._first
            or self._under_way <= 0
            or self._outlet.held_bytes > MAX_HELD_BYTES
        ):
            self._outlet.send(*self._messages)
            self._outlet.held_bytes -= self._bytes
            self._messages.clear()
            self._replies = self._bytes = 0
