"""The routes for tools: /mcp over HTTP, and as a WebSocket with a session of its own.

Over HTTP it serves two protocols: OpenEnv's JSON-RPC, and MCP itself.
"""

from __future__ import annotations

from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from envhub.door import bodies, http
from envhub.door.address import hub_of, manifest_of
from envhub.door.frames import FAILURES, NORMAL
from envhub.door.kept import Caller


async def call(request: Request) -> Response:
    """Answer one JSON-RPC request. In OpenEnv's dialect the status is always 200."""
    caller = _caller(request)
    body = await bodies.read(request)

    async def answer() -> Response:
        from envhub.door import mcp, rpc

        if mcp.is_meant(request.headers, body):
            return await mcp.answer(caller, request.headers, body)
        return Response(await rpc.answer_text(caller, body), media_type="application/json")

    return await http.attend(request, answer)


async def leave(request: Request) -> Response:
    """Close the session of an MCP client."""
    caller = _caller(request)

    async def close() -> Response:
        from envhub.door import mcp

        return await mcp.leave(caller, request.headers)

    return await http.attend(request, close)


def _caller(request: Request) -> Caller:
    manifest = manifest_of(request)
    return Caller(hub_of(request), request.app.state.sessions, manifest.name)


async def converse(websocket: WebSocket) -> None:
    """Answer JSON-RPC requests, one in each frame, in a session of this connection's own."""
    from envhub.door import rpc

    manifest, hub = manifest_of(websocket), hub_of(websocket)
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        try:
            session = await hub.open(manifest.name)
        except FAILURES as failure:
            await websocket.send_text(rpc.refused(failure, manifest.name))
            await websocket.close(NORMAL)
            return
        caller = Caller(hub, websocket.app.state.sessions, manifest.name, session)
        try:
            await _answer_all(websocket, caller)
        finally:
            await caller.leave()


async def _answer_all(websocket: WebSocket, caller: Caller) -> None:
    from envhub.door import rpc

    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        text = message.get("text")
        if text is None:  # a binary frame; the protocol has none
            await websocket.close(NORMAL)
            return
        await websocket.send_text(await rpc.answer_text(caller, text))
