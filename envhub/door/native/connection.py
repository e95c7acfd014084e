"""One connection to `/v1/connect`: frames in, frames out, and the lanes in between.

Whatever a client does, this connection bears it alone: a frame that is none ends it, a client
that does not read is not read, and its sessions are kept for a while in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from envhub.door.connections.duplex import Duplex, taken
from envhub.door.holders import Holder, holder_of
from envhub.door.native.lane import Lane
from envhub.door.native.lanes import Lanes
from envhub.door.native.outlet import Group, Outlet, Sink
from envhub.errors import EnvhubError, OutOfOrder, RemoteProtocolError, SessionClosed
from envhub.wire import native
from envhub.wire.failures import failed

MAX_LANES = 16_384  # of one connection
_AT_ONCE_S = 0.005  # of requests; then others have the loop
_NORMAL, _UNACCEPTABLE, _BROKEN = 1000, 1002, 1011  # close codes (RFC 6455, 7.4.1)
_REASON_BYTES = 120  # a close frame has room for 123

_log = logging.getLogger(__name__)


async def connect(websocket: WebSocket) -> None:
    """Serve one WebSocket from its handshake to its end."""
    if native.VERSION not in websocket.scope["subprotocols"]:
        refusal = f"400: the subprotocol `{native.VERSION}` is needed\n"
        await websocket.send_denial_response(PlainTextResponse(refusal, 400))
        return
    await websocket.accept(native.VERSION)
    connection = Connection(websocket.app.state.lanes, holder_of(websocket))
    async with taken(websocket, connection) as line:
        await connection.run(line)


class Connection:
    """A connection, from the accepted handshake to its end.

    Args:
        lanes: of the door.
        holder: who is at its other end.
    """

    def __init__(self, lanes: Lanes, holder: Holder) -> None:
        self._lanes = lanes
        self._holder = holder
        self._outlet = Outlet(self._forget, self._go_on)
        self._mine: dict[int, Lane] = {}
        self._groups: dict[int, Group] = {}
        self._requests: deque[tuple[native.Request, Sink]] = deque()
        self._goes_on_later = False
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[tuple[int, str]] = self._loop.create_future()

    async def run(self, line: Duplex) -> None:
        """Serve the client until either side ends. Its sessions outlive that for a while."""
        self._outlet.line = line
        self._outlet.go_on()
        try:
            line.hang_up(*await self._over)
        finally:
            self._end(_NORMAL, "")
            self._outlet.close()
            for lane in self._mine.values():
                lane.detach(self._outlet)

    # ------------------------------------------------------------ what the line brings

    def heard(self, message: str | bytes) -> None:
        """Take a frame. One that is none ends the connection."""
        if self._over.done():
            return
        try:
            if isinstance(message, str):
                raise RemoteProtocolError("a text frame, where all are binary")
            frame = native.requests(message)
        except RemoteProtocolError as error:
            self._end(_UNACCEPTABLE, str(error))
            return
        sink = self._sink(frame)
        self._requests += [(request, sink) for request in frame.requests]
        if not self._goes_on_later:
            self._go_on()

    def has_room(self) -> None:
        """Send on: the client reads again."""
        self._outlet.go_on()

    def hung_up(self) -> None:
        """End: the client is gone."""
        self._end(_NORMAL, "")

    def _end(self, code: int, reason: str) -> None:
        if not self._over.done():
            self._over.set_result((code, _shortened(reason)))
        self._requests.clear()

    # ------------------------------------------------------------ requests

    def _go_on(self) -> None:
        """Take what has been asked, while there is room for the replies; for a while."""
        self._goes_on_later = False
        until = 0.0
        try:
            while self._requests and not self._outlet.is_full:
                self._take(*self._requests.popleft())
                if not self._requests:
                    break
                now = self._loop.time()
                until = until or now + _AT_ONCE_S
                if now > until:
                    self._goes_on_later = True
                    self._loop.call_soon(self._go_on)
                    break
        except Exception:
            _log.exception("a bug in envhub ended a connection")
            self._end(_BROKEN, "a bug in envhub")
        if self._outlet.line is not None:
            self._outlet.line.listen(not self._requests)

    def _sink(self, frame: native.Frame) -> Sink:
        """Return where the replies to a frame's numbered requests go."""
        sink: Sink = self._outlet
        if frame.group:
            sink = self._groups.setdefault(frame.group, Group(self._outlet))
        calls = [request for request in frame.requests if isinstance(request, native.NUMBERED)]
        sink.expect(len(calls), frame.first)
        return sink

    def _take(self, request: native.Request, sink: Sink) -> None:
        channel = request.session
        lane = self._mine.get(channel)
        if isinstance(request, native.NUMBERED):
            if lane is None:
                sink.answer(_refusal(request, request.op))
            else:
                lane.call(request, sink)
        elif isinstance(request, native.Open | native.Resume):
            self._begin(request)
        elif lane is None:
            self._outlet.send(_refusal(request, 0))
        elif isinstance(request, native.Cancel):
            lane.cancel(request.op)
        elif isinstance(request, native.Bill):
            lane.bill()
        else:
            del self._mine[channel]
            lane.close()

    def _forget(self, channel: int, lane: object) -> None:
        """Note that a session has ended, or goes on elsewhere."""
        if self._mine.get(channel) is lane:
            del self._mine[channel]

    def _begin(self, request: native.Open | native.Resume) -> None:
        channel = request.session
        try:
            if channel in self._mine:
                raise OutOfOrder(f"this connection has a session {channel} already")
            if len(self._mine) >= MAX_LANES:
                raise OutOfOrder(f"this connection has {MAX_LANES} sessions already")
            self._mine[channel] = self._lanes.find(request, self._holder, self._outlet)
        except EnvhubError as error:
            self._outlet.send(native.encode(failed(channel, 0, error)))


def _refusal(request: native.Request, op: int) -> bytes:
    unknown = SessionClosed(f"this connection has no session {request.session}")
    return native.encode(failed(request.session, op, unknown))


def _shortened(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")
