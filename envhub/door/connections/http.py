"""uvicorn's HTTP, held to the bounds of a guard."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from envhub.door.connections.guard import Bounds, Config, Stall

if TYPE_CHECKING:
    from uvicorn.server import ServerState

_LENGTHS = {b"content-length", b"transfer-encoding"}
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"retry-after: 1\r\nconnection: close\r\ncontent-length: 26\r\n\r\n"
    b"503: too many connections\n"
)


class GuardedHTTP(H11Protocol):
    """HTTP, in which a request must come to its end.

    Args: uvicorn's.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.guard = config.guard
        bounds = self.guard.bounds
        self.conn = _Requests(bounds)
        self.since = 0.0
        self._waits_for = "header"
        self._deadline = math.inf
        self._allowed_s = {"header": bounds.header_s, "body": bounds.body_s, "": math.inf}
        self._stall = Stall(bounds.stall_s)
        self._is_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or say that there are too many."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._deadline = self.since + self._allowed_s["header"]
        if not self.guard.admit(self, self.client[0] if self.client else ""):
            self.transport.write(_FULL)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no longer."""
        self.guard.forget(self)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Do what has come asks for; note what has still to come, and by when."""
        super().handle_events()
        state = self.conn.their_state
        if self._is_upgraded:
            waits_for = ""
        elif state is h11.SEND_BODY:
            waits_for = "body"
        elif state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            waits_for = "header"
        else:  # between two requests uvicorn has a timer of its own
            waits_for = ""
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._deadline = self.loop.time() + self._allowed_s[waits_for]
            self.guard.heard(self)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to a WebSocket, with what has come of it already."""
        if event.http_version != b"1.1":  # RFC 6455, 4.2.1; upstream hands it on as that
            self.send_400_response("a WebSocket needs HTTP/1.1")
            return
        self._is_upgraded = True
        super().handle_websocket_upgrade(event)
        early, _ = self.conn.trailing_data
        if early:
            self.transport.get_protocol().data_received(early)  # type: ignore[attr-defined]

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP; or hang up, in the middle of a reply to what was."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def look(self, now: float) -> bool:
        """Return whether a request takes too long to come, or its reply to be read."""
        is_late = now > self._deadline
        return self._stall.is_over(self.transport, self.flow.write_paused, now) or is_late


class _Requests(h11.Connection):
    """HTTP's events, of which a body has not too many: each costs more than its bytes."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(h11.SERVER, bounds.header_bytes)
        self._most = bounds.chunks
        self._chunks = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._chunks += 1
            if self._chunks > self._most:
                raise h11.RemoteProtocolError("too many chunks")
        elif isinstance(event, h11.Request):
            self._chunks = 0
            lengths = {name for name, _ in event.headers} & _LENGTHS
            lines = [value for name, value in event.headers if name == b"connection"]
            if len(lines) > 1:  # RFC 9110, 5.3: as if they were one; upstream takes the last
                others = [
                    (name, value) for name, value in event.headers if name != b"connection"
                ]
                event = h11.Request(
                    method=event.method,
                    target=event.target,
                    headers=[*others, (b"connection", b", ".join(lines))],
                    http_version=event.http_version,
                )
            if len(lengths) > 1:  # RFC 9112, 6.1: no two servers must read it differently
                raise h11.RemoteProtocolError("two ways to tell a body's length")
        return event
