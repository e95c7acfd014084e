"""Requests for an environment that has routes of its own go to its own application.

Some folders for OpenEnv build a whole server. It runs in one session process, for everybody,
and what it answers is forwarded: not opened, bounded, and held to what HTTP allows.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from envhub.door import bodies, http
from envhub.door.address import app_of, manifest_of
from envhub.door.frames import BROKEN, FAILURES
from envhub.door.holders import holder_of
from envhub.errors import RemoteProtocolError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from envhub.hub.hub import Hub
    from envhub.hub.session import Session

_OURS = {"connection", "content-length", "date", "keep-alive", "server", "te", "trailer",
         "transfer-encoding", "upgrade"}  # fmt: skip
# a browser keeps these for all ports of a host, so for all servers of this machine
_OF_THE_HOST = {"cookie", "cookie2", "set-cookie", "set-cookie2", "clear-site-data"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2 and 5.5
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# its pages must not act on this origin, where other environments are
_SANDBOX = {"content-security-policy": "sandbox allow-scripts"}
_CLOSES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}  # RFC 6455, 7.4
_sockets = itertools.count(1)


class _Answer(msgspec.Struct):
    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    headers: Annotated[list[tuple[str, str]], msgspec.Meta(max_length=256)]
    body: str


class _Event(msgspec.Struct):
    type: Literal["websocket.accept", "websocket.send", "websocket.close"]
    text: str | None = None
    bytes: str | None = None
    code: int = 1000


_BREAK = _Event("websocket.close", code=BROKEN)


class _Events(msgspec.Struct):
    events: list[_Event]


_ANSWER = msgspec.json.Decoder(_Answer)
_EVENTS = msgspec.json.Decoder(_Events)


class Applications:
    """The sessions in which applications run, one for each environment that is one.

    Args:
        hub: where they are opened; it closes them.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._sessions: dict[str, Session] = {}
        self._turns: dict[str, anyio.Lock] = {}
        self._clients = 0

    @property
    def resting(self) -> int:
        """How many sessions are open, though no client has a request or a WebSocket here."""
        return 0 if self._clients else len(self._sessions)

    @contextmanager
    def client(self) -> Iterator[None]:
        """Hold on to the sessions for one client."""
        self._clients += 1
        try:
            yield
        finally:
            self._clients -= 1

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Session]:
        """Hold the session of an environment, opened if need be, for one call.

        A client that goes away leaves the queue, but ends no call that has begun: that would
        end the process, and it is everybody's.

        Raises: as `Hub.open`.
        """
        async with self._turns.setdefault(name, anyio.Lock()):
            if name not in self._sessions:
                self._sessions[name] = await self._hub.open(name)
            with anyio.CancelScope(shield=True):
                yield self._sessions[name]


class Forwarding:
    """Forward what is for an application; let everything else through to our routes.

    Args:
        app: our routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket."""
        described = await app_of(HTTPConnection(scope))
        if described is None or not described.is_application:
            await self._app(scope, receive, send)
            return
        applications: Applications = scope["app"].state.applications
        with applications.client():
            if scope["type"] == "http":
                await (await _forward(Request(scope, receive)))(scope, receive, send)
            else:
                await _converse(WebSocket(scope, receive, send))


async def _forward(request: Request) -> Response:
    applications: Applications = request.app.state.applications
    name = manifest_of(request).name
    params = {"method": request.method, **_address(request)}
    params["body"] = base64.b64encode(await bodies.read(request)).decode()

    async def ask() -> Response:
        await holder_of(request).turn()
        async with applications.turn(name) as session:
            answered = await session.invoke_raw("asgi/http", json.dumps(params).encode())
            with session.held_to_protocol():
                return response(answered)

    return await http.attend(request, ask)


async def _converse(websocket: WebSocket) -> None:
    """Carry frames to the application, and what it says back, until either side ends."""
    applications: Applications = websocket.app.state.applications
    name, socket = manifest_of(websocket).name, next(_sockets)
    address, holder = _address(websocket), holder_of(websocket)

    async def tell(event: dict[str, Any]) -> list[_Event]:
        params = {"socket": socket, "event": event, **address}
        async with applications.turn(name) as session:
            said = await session.invoke_raw("asgi/websocket", json.dumps(params).encode())
            with session.held_to_protocol():
                events: list[_Event] = _decoded(_EVENTS, said).events
                return events

    is_accepted = is_over = is_gone = False
    try:
        event: dict[str, Any] = dict(await websocket.receive())
        while not is_over and event["type"] != "websocket.disconnect":
            await holder.turn()
            for said in _in_order(await tell(event), is_accepted):
                is_accepted = True
                is_over = said.type == "websocket.close"
                await _say(websocket, said)
            if not is_over:
                event = _frame(await websocket.receive())
    except FAILURES:
        is_gone = True
        with suppress(WebSocketDisconnect):
            await _say(websocket, _BREAK)
    except WebSocketDisconnect:
        pass
    finally:
        if not is_gone:
            with anyio.CancelScope(shield=True), suppress(*FAILURES):
                await tell({"type": "websocket.disconnect", "code": 1005})


def _in_order(events: list[_Event], is_accepted: bool) -> list[_Event]:
    """Return what a WebSocket can carry of what an application says on it, up to its close."""
    found: list[_Event] = []
    for event in events:
        if event.type == "websocket.close":
            return [*found, event if event.code in _CLOSES else _BREAK]
        if (event.type == "websocket.accept") is is_accepted:
            return [*found, _BREAK]
        is_accepted = True
        found.append(event)
    return found


def _address(connection: HTTPConnection) -> dict[str, Any]:
    """Return what the application is told of a request; its own path, without ours before."""
    root = connection.scope.get("root_path", "")
    named = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in connection.headers.raw]
    headers = [(name, value) for name, value in named if name not in _OF_THE_HOST]
    return {
        "path": connection.scope["path"].removeprefix(root) or "/",
        "raw_path": connection.scope.get("raw_path", b"").decode("latin-1").removeprefix(root),
        "query": connection.scope.get("query_string", b"").decode("latin-1"),
        "headers": headers,
    }


def _frame(event: Any) -> dict[str, Any]:
    """Return a frame of the client's, for an application that is told of it in JSON."""
    if event["type"] == "websocket.disconnect":
        return {"type": event["type"]}
    text = event.get("text")
    if text is None:  # JSON has no bytes; the protocol of OpenEnv has no such frames
        text = event["bytes"].decode(errors="replace")
    return {"type": event["type"], "text": text}


async def _say(websocket: WebSocket, said: _Event) -> None:
    match said.type:
        case "websocket.accept":
            await websocket.accept()
        case "websocket.close":
            await websocket.close(said.code)
        case _ if said.text is not None:
            await websocket.send_text(said.text)
        case _:
            await websocket.send_bytes(_bytes(said.bytes or ""))


def response(answered: bytes) -> Response:
    """Return what an application has answered, if it is something that HTTP can say.

    Raises:
        RemoteProtocolError: it is not.
    """
    answer = _decoded(_ANSWER, answered)
    found = Response(_bytes(answer.body), answer.status)
    for name, value in answer.headers:
        if name.lower() in _OURS | _OF_THE_HOST:
            continue
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise RemoteProtocolError(f"the application's header {name!r} is not valid")
        found.headers.append(name, value)
    found.headers.update(_SANDBOX)
    return found


def _decoded(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not an application's answer: {error}") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RemoteProtocolError(f"an application's bytes are not base64: {error}") from None
