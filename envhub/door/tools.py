"""The routes for tools: /mcp over HTTP, and as a WebSocket with a session of its own.

Over HTTP it serves two protocols: OpenEnv's JSON-RPC, and MCP itself.
"""

from __future__ import annotations

from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from envhub.door import bodies, http
from envhub.door.frames import FAILURES, NORMAL
from envhub.door.kept import Caller


async def call(request: Request) -> Response:
    """Answer one JSON-RPC request. In OpenEnv's dialect the status is always 200."""
    caller = Caller.of(request)
    body = await bodies.read(request)

    async def answer() -> Response:
        from envhub.door import mcp, rpc

        if mcp.is_meant(request.headers, body):
            return await mcp.answer(caller, request.headers, body)
        return Response(await rpc.answer_text(caller, body), media_type="application/json")

    return await http.attend(request, answer)


async def leave(request: Request) -> Response:
    """Close the session of an MCP client."""
    caller = Caller.of(request)

    async def close() -> Response:
        from envhub.door import mcp

        return await mcp.leave(caller, request.headers)

    return await http.attend(request, close)


async def converse(websocket: WebSocket) -> None:
    """Answer JSON-RPC requests, one in each frame, in a session of this connection's own."""
    from envhub.door import rpc

    caller = Caller.of(websocket)
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        try:
            await caller.open()
        except FAILURES as failure:
            await caller.leave()  # nothing is open, but a seat is taken
            await websocket.send_text(rpc.refused(failure, caller.name))
            await websocket.close(NORMAL)
            return
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
        reply, is_last = await rpc.answer_frame(caller, text)
        await websocket.send_text(reply)
        if is_last:
            await websocket.close(NORMAL)
            return
