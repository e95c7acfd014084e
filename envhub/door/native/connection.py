"""One connection to `/v1/connect`: frames in, frames out, and the lanes in between.

Whatever a client does, this connection bears it alone: a frame that is none ends it, a client
that does not read is not read, and its sessions are kept for a while in any case.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import anyio
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from envhub.door.holders import holder_of
from envhub.door.native.lane import Lane
from envhub.door.native.lanes import Lanes
from envhub.door.native.outlet import Group, Outlet, Sink
from envhub.errors import EnvhubError, OutOfOrder, RemoteProtocolError, SessionClosed
from envhub.wire import native
from envhub.wire.failures import failed

MAX_LANES = 16_384  # of one connection
SEND_DEADLINE_S = 60.0  # a client that takes no frame for so long is as good as gone
_AT_ONCE_S = 0.005  # of a frame's requests; then others have the loop
_UNACCEPTABLE, _BROKEN = 1002, 1011  # close codes (RFC 6455, 7.4.1)
_REASON_BYTES = 120  # a close frame has room for 123

_log = logging.getLogger(__name__)


async def connect(websocket: WebSocket) -> None:
    """Serve one WebSocket from its handshake to its end."""
    if native.VERSION not in websocket.scope["subprotocols"]:
        refusal = f"400: the subprotocol `{native.VERSION}` is needed\n"
        await websocket.send_denial_response(PlainTextResponse(refusal, 400))
        return
    await websocket.accept(native.VERSION)
    await Connection(websocket, websocket.app.state.lanes).run()


class Connection:
    """A connection, from the accepted handshake to its end.

    Args:
        websocket: accepted.
        lanes: of the door.
    """

    def __init__(self, websocket: WebSocket, lanes: Lanes) -> None:
        self._websocket = websocket
        self._lanes = lanes
        self._holder = holder_of(websocket)
        self._outlet = Outlet(self._forget)
        self._mine: dict[int, Lane] = {}
        self._groups: dict[int, Group] = {}

    async def run(self) -> None:
        """Serve the client until either side ends. Its sessions outlive that for a while."""
        code, reason = 1000, ""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send, tasks.cancel_scope)
                try:
                    await self._listen()
                except RemoteProtocolError as error:
                    code, reason = _UNACCEPTABLE, str(error)
                except Exception:
                    _log.exception("a bug in envhub ended a connection")
                    code, reason = _BROKEN, "a bug in envhub"
                tasks.cancel_scope.cancel()
        finally:
            self._outlet.close()
            for lane in self._mine.values():
                lane.detach(self._outlet)
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code, _shortened(reason))

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data is None:
                raise RemoteProtocolError("a text frame, where all are binary")
            frame = native.requests(data)
            sink = self._sink(frame)
            began = loop.time()
            for request in frame.requests:
                self._take(request, sink)
                while self._outlet.is_full:
                    await self._outlet.room()
                if loop.time() - began > _AT_ONCE_S:
                    await asyncio.sleep(0)
                    began = loop.time()

    def _sink(self, frame: native.Frame) -> Sink:
        """Return where the replies to a frame's numbered requests go."""
        if not frame.group:
            return self._outlet
        group = self._groups.setdefault(frame.group, Group(self._outlet))
        calls = sum(isinstance(request, native.Numbered) for request in frame.requests)
        group.expect(calls, frame.first)
        return group

    def _take(self, request: native.Request, sink: Sink) -> None:
        channel = request.session
        lane = self._mine.get(channel)
        if isinstance(request, native.Numbered):
            if lane is None:
                self._refuse(request, sink)
            else:
                lane.call(request, sink)
        elif isinstance(request, native.Open | native.Resume):
            self._begin(request)
        elif lane is None:
            self._refuse(request, self._outlet)
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

    def _refuse(self, request: native.Request, sink: Sink) -> None:
        op = request.op if isinstance(request, native.Numbered) else 0
        unknown = SessionClosed(f"this connection has no session {request.session}")
        sink.send(native.encode(failed(request.session, op, unknown)))

    async def _send(self, connection: anyio.CancelScope) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                frame = await self._outlet.next_frame()
                timer = loop.call_later(SEND_DEADLINE_S, connection.cancel)
                try:
                    await self._websocket.send_bytes(frame)
                finally:
                    timer.cancel()
        except WebSocketDisconnect:
            connection.cancel()


def _shortened(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")
