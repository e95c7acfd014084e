"""The line to a hub elsewhere: one WebSocket for many sessions, made again when it is cut.

Requests that are made in one turn of the event loop travel in one frame. When the connection
is cut it is made again, and each session then says what it still waits for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from envhub.client import speech
from envhub.client.native.address import Address, refusal
from envhub.client.native.bounds import framed
from envhub.client.native.pauses import longer
from envhub.client.native.subscriber import LoopSubscriber
from envhub.errors import ConnectionLost, EnvhubError, RemoteProtocolError, UsageError
from envhub.wire import native

if TYPE_CHECKING:
    from envhub.client.direct import Direct

MAX_REPLY_BYTES = 256 * 1024 * 1024  # one frame of the hub's; an observation's limit is below
_PING_S = 20.0
_LOOK_S = 1.0  # between two looks at who has waited for too long
NOT_AGAIN = (1002, 1009)  # by which the hub says that it takes no such message


class Line:
    """The connection, from `start` to `aclose`.

    Args:
        url: of the hub.
        token: that it asks for, or "".
        headers: sent with each handshake.
        connect_timeout_s: for each attempt to connect.
        reconnect_s: after how long without a connection the calls that wait are given up.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        headers: Mapping[str, str],
        connect_timeout_s: float,
        reconnect_s: float,
    ) -> None:
        base = speech.http_url(url)
        self.url = f"ws{base.removeprefix('http')}/v1/connect"
        self.address = Address(
            self.url, {**speech.authorization(token), **headers}, connect_timeout_s, reconnect_s
        )
        self._reconnect_s = reconnect_s
        self._settings: dict[str, Any] = {
            "subprotocols": [native.VERSION],
            "additional_headers": self.address.headers,
            "open_timeout": connect_timeout_s,
            "ping_interval": _PING_S,
            "ping_timeout": _PING_S,
            "max_size": MAX_REPLY_BYTES,
            "compression": None,
            "proxy": None,
        }
        self._subscribers: dict[int, LoopSubscriber] = {}
        self._channels = iter(range(1, 2**32))
        self._requests: list[native.Request] = []
        self._frames: deque[native.Frame] = deque()
        self._wanted = asyncio.Event()  # a connection is, if there is none
        self._is_due = False  # what waits is sent at the end of this turn
        self._running: asyncio.Task[None] | None = None
        self._socket: Direct | None = None
        self._has_heard = False  # a reply, over this connection
        self._closed = False

    async def start(self) -> None:
        """Connect.

        Raises:
            ConnectionLost: nobody answers there.
            UsageError: the hub refuses us.
        """
        self._loop = asyncio.get_running_loop()
        self._socket = await self._connected()
        self._running = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Hang up. Calls that wait are given up. Idempotent."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    def subscribe(self, subscriber: LoopSubscriber) -> int:
        """Return the number by which a session is called over this line."""
        channel = next(self._channels)
        self._subscribers[channel] = subscriber
        return channel

    def unsubscribe(self, channel: int) -> None:
        """Forget a session. Idempotent."""
        self._subscribers.pop(channel, None)

    def send(self, request: native.Request) -> None:
        """Have a request sent, with all others of this turn of the loop."""
        self._check_open()
        self._requests.append(request)
        self._wanted.set()
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._speak)

    def want(self) -> None:
        """Have a connection made, if there is none."""
        self._check_open()
        self._wanted.set()

    @contextmanager
    def together(self, group: int, first: int) -> Iterator[None]:
        """Have the requests of the block sent in a frame of their own.

        Args:
            group: whose replies wait for each other.
            first: until so many are there.
        """
        self._flush()
        try:
            yield
        finally:
            self._flush(group, first)

    # ------------------------------------------------------------ the connection

    async def _run(self) -> None:
        """Hold the connection until the line is closed."""
        looking = asyncio.create_task(self._look())
        pause = 0.0
        try:
            while True:
                if self._socket is not None:
                    await self._until_cut(self._socket)
                    # a hub that hangs up on everybody is not asked all the time
                    pause = 0.0 if self._has_heard else longer(pause)
                    await asyncio.sleep(pause)
                self._has_heard = False
                self._socket = await self._reconnected()
                self._resume()
        finally:
            looking.cancel()
            self._give_up(ConnectionLost("the connection to the hub was closed"))

    async def _until_cut(self, connection: Direct) -> None:
        await connection.wait_closed()
        self._socket = None
        closed = connection.protocol.close_rcvd
        if closed is not None and closed.code in NOT_AGAIN:
            self._end(RemoteProtocolError(f"the hub did not take it: {closed.reason}"))

    def _hear(self, message: str | bytes) -> None:
        """Take a frame. What is none ends the connection, and all that was said over it."""
        try:
            if isinstance(message, str):
                raise RemoteProtocolError("a text frame, where all are binary")
            replies = native.replies(message)
            self._has_heard = True
            for reply in replies:
                subscriber = self._subscribers.get(reply.session)
                if subscriber is not None:
                    subscriber.hear(reply)
        except RemoteProtocolError as error:
            self._end(error)
            if self._socket is not None:
                self._socket.transport.abort()

    def _speak(self) -> None:
        """Send what waits, as long as the hub reads."""
        self._is_due = False
        connection = self._socket
        if connection is None:
            return  # over the next one it is said again
        self._flush()
        while self._frames and not connection.is_full:
            connection.say(native.encode(self._frames.popleft()))

    def _flush(self, group: int = 0, first: int = 0) -> None:
        """Make frames of the requests that wait."""
        self._frames += framed(self._requests, group, first)
        self._requests.clear()

    async def _connected(self) -> Direct:
        from websockets.exceptions import WebSocketException

        from envhub.client.direct import opened

        try:
            return await opened(self.url, self._hear, self._speak, **self._settings)
        except (*speech.NO_CONNECTION, WebSocketException) as error:
            raise refusal(self.url, error) from None

    async def _reconnected(self) -> Direct:
        """Return a new connection, however long it takes; after a while nobody waits for it."""
        until = time.monotonic() + self._reconnect_s
        pause = 0.0
        while True:
            try:
                return await self._connected()
            except EnvhubError as error:
                if time.monotonic() >= until or isinstance(error, UsageError):
                    self._give_up(error)
                    self._wanted.clear()
                    await self._wanted.wait()  # until somebody calls again
                    until = time.monotonic() + self._reconnect_s
                    pause = 0.0
            pause = longer(pause)
            await asyncio.sleep(pause)

    def _resume(self) -> None:
        """Say again all that is not answered: what was sent since the cut is part of it."""
        self._frames.clear()
        self._requests.clear()
        for subscriber in list(self._subscribers.values()):
            self._requests += subscriber.resumed()
        self._wanted.set()
        self._speak()

    def _give_up(self, error: EnvhubError) -> None:
        for subscriber in list(self._subscribers.values()):
            subscriber.cut_off(error)

    def _end(self, error: EnvhubError) -> None:
        """End all sessions: what was said, by us or the hub, would be said again for ever."""
        for subscriber in list(self._subscribers.values()):
            subscriber.end(error)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            for subscriber in list(self._subscribers.values()):
                subscriber.look(now)

    def _check_open(self) -> None:
        if self._closed or self._running is None or self._running.done():
            raise ConnectionLost("the connection to the hub is closed")
