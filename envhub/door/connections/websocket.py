"""uvicorn's WebSocket, held to the bounds of a guard; and had without ASGI, by who wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import CTRL_OPCODES, Frame
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from envhub.door.connections.duplex import EXTENSION, Listener
from envhub.door.connections.guard import Bounds, Config, Stall
from envhub.door.connections.http import GuardedHTTP
from envhub.wire import websocket

if TYPE_CHECKING:
    from uvicorn.server import ServerState

_BAD = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket, of which a message must come to its end, and a reply must be read.

    An application has it over ASGI, or takes it as a `duplex.Direct`.

    Args: uvicorn's.
    """

    conn: _Frames
    queue: Any  # of upstream's; or who takes its events instead

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.guard = config.guard
        self.conn = _Frames(self.guard.bounds)
        self.since = 0.0
        self.close_timeout = self.guard.bounds.close_s
        self._longest = self.guard.bounds.frame_bytes
        self._seen = 0
        self._message_since = self.loop.time()
        self._stall = Stall(self.guard.bounds.stall_s)
        self._listener: Listener | None = None
        self._early = b""  # what came before the handshake was answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection from HTTP."""
        before = cast(asyncio.Transport, transport).get_protocol()  # uvloop's is no subclass
        super().connection_made(transport)
        assert isinstance(before, GuardedHTTP)
        self.guard.replace(before, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        self.guard.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come. The first is a handshake, whole, or will never be one."""
        listener = self._listener
        if (
            listener is not None
            and len(data) <= self._longest
            and self.conn.is_between
            and self.conn.state is OPEN
        ):
            said = websocket.read(data, masked=True)
            if said is not None:
                listener.heard(said)
                return
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data  # a pong must not come before the answer
            if len(self._early) > self.guard.bounds.header_bytes:
                self.transport.pause_reading()
            return
        super().data_received(data)
        if not self.handshake_initiated:
            self.handle_parser_exception()

    def handle_connect(self, event: Any) -> None:
        """Have the application answer the handshake, and tell it what it may take."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def pause_writing(self) -> None:
        """Listen no more: each ping has its answer, and who asks without reading gets none."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Listen again."""
        super().resume_writing()
        if self._listener is not None:
            self._listener.has_room()
        if not self.read_paused and self.writable.is_set():
            self.transport.resume_reading()

    # ------------------------------------------------------------ as a `duplex.Direct`

    @property
    def is_full(self) -> bool:
        """Whether the client does not read."""
        return not self.writable.is_set()

    def tell(self, listener: Listener | None) -> None:
        """Tell a listener of all that comes, and of what has; or nobody any more."""
        self._listener = listener
        waiting, self.queue = self.queue, _Events(self._hear)
        if isinstance(waiting, asyncio.Queue):
            self.listen(True)  # upstream waits for each message to be taken
            while not waiting.empty():
                self._hear(waiting.get_nowait())

    def say(self, message: str | bytes) -> None:
        """Send a message; to nobody, if the connection is closed."""
        if self.conn.state is not OPEN or self.transport.is_closing():
            return
        self.transport.write(websocket.written(message))

    def hang_up(self, code: int, reason: str = "") -> None:
        """Close the connection, after all that was said. Idempotent."""
        if self.conn.state is not OPEN or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.listen(True)  # to its answer
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def listen(self, wanted: bool) -> None:
        """Read from the client, or do not."""
        if wanted is not self.read_paused:
            return
        self.read_paused = not wanted
        if not wanted:
            self.transport.pause_reading()
        elif self.writable.is_set():
            self.transport.resume_reading()

    def _hear(self, event: Any) -> None:
        """Pass on what ASGI's queue would be given."""
        listener = self._listener
        if listener is None:
            return
        if event["type"] == "websocket.receive":
            listener.heard(event["text"] if "text" in event else event["bytes"])
        elif event["type"] == "websocket.disconnect":
            self._listener = None
            listener.hung_up()

    # ------------------------------------------------------------ over ASGI

    async def send(self, message: Any) -> None:
        """Send an event of ASGI's. After the answer to the handshake, read on."""
        was_complete = self.handshake_complete
        await super().send(message)
        if self._early and self.handshake_complete and not was_complete:
            early, self._early = self._early, b""
            if not self.close_sent:
                self.transport.resume_reading()
                self.data_received(early)

    async def receive(self) -> Any:
        """Return the next event; uvicorn listens again after it, whatever waits to be read."""
        message = await super().receive()
        if not self.writable.is_set() and not self.transport.is_closing():
            self.transport.pause_reading()
        return message

    def send_receive_event_to_app(self) -> None:
        """Hand a message over. One that is not UTF-8 ends the connection, and is no news."""
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        kind = self.curr_msg_data_type
        try:
            said = data.decode() if kind == "text" else data
        except UnicodeDecodeError:
            self.conn.fail(1007, "not UTF-8")
            self.handle_parser_exception()
            return
        if self._listener is not None:
            self._listener.heard(said)
            return
        self.queue.put_nowait({"type": "websocket.receive", kind: said})
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_parser_exception(self) -> None:
        """End a connection that broke the protocol, its handshake included."""
        if self.close_sent:
            return
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
            return
        if not self.handshake_initiated:
            self.transport.write(_BAD)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.close_sent = self.disconnected = True
        self.transport.close()

    def look(self, now: float) -> bool:
        """Return whether a message takes too long to come, or a reply to be read."""
        self.conn.controls = 0
        is_heard = not self.read_paused and self.writable.is_set()
        if not is_heard or self.conn.is_between or self.conn.messages != self._seen:
            self._seen = self.conn.messages
            self._message_since = now
        is_late = now - self._message_since > self.guard.bounds.message_s
        is_paused = not self.writable.is_set()
        return self._stall.is_over(self.transport, is_paused, now) or is_late


class _Events:
    """In the place of a queue, where nobody waits for events: they are passed on at once."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        self.put_nowait = take


class _Frames(websocket.Between, ServerProtocol):
    """A WebSocket's frames, of which a message, a second and a read have not too many.

    Nothing is compressed, so that no frame is longer than it came.
    """

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(max_size=bounds.frame_bytes)
        self._bounds = bounds
        self.controls = 0  # since the last look
        self.messages = 0
        self._fragments = 0  # of the message that is under way
        self._at_once = 0

    def accept(self, request: Request) -> Response:
        response = super().accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers["Sec-WebSocket-Version"] = "13"  # RFC 6455, 4.2.2
        return response

    def receive_data(self, data: bytes | bytearray) -> None:
        self._at_once = 0
        super().receive_data(data)

    def recv_frame(self, frame: Frame) -> None:
        self._at_once += 1
        if self._at_once > self._bounds.frames_at_once:
            raise ProtocolError("too many frames")
        if frame.opcode in CTRL_OPCODES:
            self.controls += 1
            if self.controls > self._bounds.controls:
                raise ProtocolError("too many control frames")
        else:
            self._fragments += 1
            if self._fragments > self._bounds.chunks:
                raise ProtocolError("too many fragments")
            if frame.fin:
                self._fragments = 0
                self.messages += 1
        super().recv_frame(frame)
