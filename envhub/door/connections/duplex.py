"""A WebSocket after its handshake: messages in and messages out, without a task for either.

ASGI has a message wait in a queue for a task, which costs a step more than the step itself.
So where the server is ours the connection tells its listener of each message right away, and
takes what it says right away. Under any other server two tasks do the same over ASGI.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

EXTENSION = "envhub.duplex"  # of the ASGI scope: the connection itself, if it can be had
SEND_DEADLINE_S = 60.0  # a client that takes nothing for so long is as good as gone


class Listener(Protocol):
    """Who is told what a connection brings. All in the loop's thread, and never awaited."""

    def heard(self, message: str | bytes) -> None:
        """Take a message. It may come after reading was paused: what is here is delivered."""
        ...

    def has_room(self) -> None:
        """Say on: the client reads again."""
        ...

    def hung_up(self) -> None:
        """Note that nothing more is heard, and nothing said reaches anybody. Called once."""
        ...


class Duplex(Protocol):
    """An open connection."""

    @property
    def is_full(self) -> bool:
        """Whether the client does not read: what is said now waits in memory."""
        ...

    def say(self, message: str | bytes) -> None:
        """Send a message; to nobody, if the connection is closed."""
        ...

    def hang_up(self, code: int, reason: str = "") -> None:
        """Close the connection, after all that was said. Idempotent."""
        ...

    def listen(self, wanted: bool) -> None:
        """Read from the client, or do not."""
        ...


class Direct(Duplex, Protocol):
    """One that a protocol of ours has."""

    def tell(self, listener: Listener | None) -> None:
        """Tell a listener of all that comes, and of what has; or nobody any more."""
        ...


@asynccontextmanager
async def taken(websocket: WebSocket, listener: Listener) -> AsyncIterator[Duplex]:
    """Have a listener hear an accepted WebSocket for the length of a block."""
    direct: Direct | None = websocket.scope.get("extensions", {}).get(EXTENSION)
    if direct is not None:
        direct.tell(listener)
        try:
            yield direct
        finally:
            direct.tell(None)
        return
    over = OverASGI(websocket, listener)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(over.hear)
        tasks.start_soon(over.speak)
        yield over
        await over.spoken()
        tasks.cancel_scope.cancel()


class OverASGI:
    """The connection of whatever server there is.

    Args:
        websocket: accepted.
        listener: told by `hear`.
    """

    def __init__(self, websocket: WebSocket, listener: Listener) -> None:
        self._websocket = websocket
        self._listener: Listener | None = listener
        self._unsaid: deque[dict[str, Any]] = deque()
        self._said = anyio.Event()  # something more was
        self._read = anyio.Event()  # somebody listens
        self._read.set()
        self._over = anyio.Event()  # all was said, or there is nobody to be told
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether something waits for the client to read."""
        return bool(self._unsaid)

    def say(self, message: str | bytes) -> None:
        """Send a message."""
        kind = "text" if isinstance(message, str) else "bytes"
        self._send({"type": "websocket.send", kind: message})

    def hang_up(self, code: int, reason: str = "") -> None:
        """Close the connection, after all that was said. Idempotent."""
        self._send({"type": "websocket.close", "code": code, "reason": reason})
        self._closed = True

    def listen(self, wanted: bool) -> None:
        """Read from the client, or do not."""
        if wanted:
            self._read.set()
        elif self._read.is_set():
            self._read = anyio.Event()

    async def hear(self) -> None:
        """Tell the listener of each message, until there are no more."""
        while True:
            await self._read.wait()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._end()
                return
            if self._listener is not None:
                said = message.get("bytes")
                self._listener.heard(message["text"] if said is None else said)

    async def speak(self) -> None:
        """Send what is said, until there is nobody to hear it."""
        with suppress(WebSocketDisconnect, RuntimeError):  # the latter: it was closed
            while not self._over.is_set():
                while self._unsaid:
                    with anyio.move_on_after(SEND_DEADLINE_S) as waiting:
                        await self._websocket.send(self._unsaid[0])
                    if waiting.cancelled_caught or (self._closed and len(self._unsaid) == 1):
                        self._end()
                        return
                    self._unsaid.popleft()
                if self._listener is not None:
                    self._listener.has_room()
                self._said = anyio.Event()
                await self._said.wait()
        self._end()

    async def spoken(self) -> None:
        """Wait until all was said, if the end was."""
        if self._closed:
            await self._over.wait()

    def _send(self, message: dict[str, Any]) -> None:
        if not (self._closed or self._over.is_set()):
            self._unsaid.append(message)
            self._said.set()

    def _end(self) -> None:
        self._over.set()
        self._said.set()
        self._unsaid.clear()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.hung_up()
