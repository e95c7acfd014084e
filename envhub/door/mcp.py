"""The Model Context Protocol over HTTP, as its own clients speak it: an environment's tools.

OpenEnv's JSON-RPC resembles MCP and has no `initialize`, so that ordinary clients cannot
connect. They can here, at the same address: `initialize` opens a session, whose id every
further request carries in a header. It is one of those that /ws?session_id= attaches to, so
that who trains may reset what an agent plays.

Each answer is one JSON document; there is no stream of events, since nothing is ever sent
unasked (specification of 2025-11-25, "Streamable HTTP").
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import JSONResponse, Response

import envhub
from envhub.door.frames import FAILURES, cause_of
from envhub.door.splice import json_object
from envhub.errors import EnvironmentFailed, InvalidAction, RemoteProtocolError, UsageError

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from envhub.door.kept import Caller
    from envhub.hub.session import Session

SESSION = "mcp-session-id"
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
_INVALID, _NO_METHOD, _INTERNAL = -32600, -32601, -32603
_TOOL = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "_meta")
_RENAMED = {
    "input_schema": "inputSchema",
    "output_schema": "outputSchema",
    "meta": "_meta",
    "mime_type": "mimeType",
}


class _Request(msgspec.Struct):
    """A request, or a notification, which has no id."""

    method: str = ""
    id: str | int | None = None
    params: dict[str, Any] | None = None


_REQUEST = msgspec.json.Decoder(_Request)


def is_meant(headers: Headers, body: bytes) -> bool:
    """Whether this is MCP's, and not OpenEnv's dialect."""
    if SESSION in headers:
        return True
    try:
        return _REQUEST.decode(body).method == "initialize"
    except (msgspec.DecodeError, RecursionError):
        return False


async def answer(caller: Caller, headers: Headers, body: bytes) -> Response:
    """Return the reply to one message."""
    try:
        request = _REQUEST.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return _error(None, _INVALID, f"not a valid request: {error}", 400)
    if request.method == "initialize":
        return await _initialize(caller, request)
    kept = caller.find(headers.get(SESSION, ""))
    if kept is None:  # the client begins anew, as the specification tells it to
        return _error(request.id, _INVALID, "no such session; `initialize` opens one", 404)
    if request.id is None:
        return Response(status_code=202)
    try:
        with kept.in_use() as session:
            if request.method.startswith("tools/"):
                await caller.holder.turn()
            return _reply(request, await _result(session, request))
    except UsageError as error:
        return _error(request.id, _NO_METHOD, str(error))
    except FAILURES as failure:
        return _error(request.id, _INTERNAL, str(failure), cause=cause_of(failure))


async def leave(caller: Caller, headers: Headers) -> Response:
    """Close the session that a client has done with."""
    kept = caller.find(headers.get(SESSION, ""))
    if kept is None:
        return _error(None, _INVALID, "no such session", 404)
    await caller.sessions.close(kept)
    return Response(status_code=204)


async def _initialize(caller: Caller, request: _Request) -> Response:
    asked = (request.params or {}).get("protocolVersion")
    try:
        kept = await caller.create()
    except FAILURES as failure:
        return _error(request.id, _INTERNAL, str(failure), cause=cause_of(failure))
    result: dict[str, Any] = {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": f"envhub: {caller.name}", "version": envhub.__version__},
    }
    reply = _reply(request, result)
    reply.headers[SESSION] = kept.key
    return reply


async def _result(session: Session, request: _Request) -> dict[str, Any]:
    match request.method:
        case "ping":
            return {}
        case "tools/list":
            try:
                listed = await _invoked(session, request)
            except UsageError:
                return {"tools": []}  # an environment without any is no error here
            with session.held_to_protocol():
                return {"tools": [_tool(tool) for tool in _list(listed, "tools")]}
        case "tools/call":
            try:
                called = await _invoked(session, request)
            except (EnvironmentFailed, InvalidAction) as error:  # for the model to read
                return {"content": [_text(str(error))], "isError": True}
            with session.held_to_protocol():
                return _call_result(called)
    raise UsageError(f"Method not found: {request.method}")


async def _invoked(session: Session, request: _Request) -> dict[str, Any]:
    params = json.dumps(request.params or {}).encode()
    result = await session.invoke_raw(request.method, params)
    with session.held_to_protocol():
        found: dict[str, Any] = msgspec.json.decode(json_object(result))
        return found


def _tool(tool: Any) -> dict[str, Any]:
    """Return a tool in MCP's own words: no nulls, and not a field that it does not have."""
    found = _renamed(tool)
    found.setdefault("inputSchema", {"type": "object"})
    return {name: found[name] for name in _TOOL if name in found}


def _call_result(called: dict[str, Any]) -> dict[str, Any]:
    """Return what a tool has said: of a tools' server, or of an action that calls one."""
    error = called.get("error")
    if isinstance(error, dict):
        return {"content": [_text(str(error.get("message", error)))], "isError": True}
    inner = called.get("result")
    if "content" not in called and isinstance(inner, dict) and "content" in inner:
        called = inner
    if "content" not in called:
        return {"content": [_text(json.dumps(called.get("result", called)))], "isError": False}
    result = {
        "content": [_renamed(item) for item in _list(called, "content")],
        "isError": called.get("is_error", called.get("isError")) is True,
    }
    structured = called.get("structured_content", called.get("structuredContent"))
    if isinstance(structured, dict):
        result["structuredContent"] = structured
    return result


def _renamed(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RemoteProtocolError("expected an object from the worker's tools")
    found: dict[str, Any] = value
    return {_RENAMED.get(name, name): v for name, v in found.items() if v is not None}


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise RemoteProtocolError(f"expected `{name}` to be a list in the worker's reply")
    return found


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _reply(request: _Request, result: dict[str, Any]) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": request.id, "result": result})


def _error(
    request_id: str | int | None, code: int, message: str, status: int = 200, cause: str = ""
) -> Response:
    error: dict[str, Any] = {"code": code, "message": message}
    if cause:
        error["data"] = {"cause": cause}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status)
