"""JSON-RPC as OpenEnv's server speaks it: its tools, and sessions over HTTP.

It resembles MCP, and is less: there is no `initialize`. Requests come by POST /mcp, where the
HTTP status is always 200, by the WebSocket /mcp, and in frames of /ws.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from envhub.door.envelopes import JsonRpcRequest, bounded
from envhub.door.frames import FAILURES, Failure
from envhub.door.kept import Caller, Kept
from envhub.door.splice import json_object
from envhub.errors import CapacityError

if TYPE_CHECKING:
    from envhub.hub.session import Session

_PARSE, _INVALID, _NO_METHOD, _PARAMS, _INTERNAL, _SERVER = (
    -32700, -32600, -32601, -32602, -32603, -32000,
)  # fmt: skip
_TOOLS = ("tools/list", "tools/call")


class _Refused(Exception):
    """The answer is an error."""

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


async def answer_text(caller: Caller, text: str | bytes) -> str:
    """Return the reply to the text of a request; never raises for what the client sent."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _error(None, _Refused(_PARSE, "Parse error"))
    if not isinstance(data, dict):
        return _error(None, _Refused(_PARSE, "Parse error"))
    return await answer(caller, data)


async def answer_frame(caller: Caller, text: str) -> tuple[str, bool]:
    """Return the reply to a frame of the WebSocket /mcp, and whether the connection ends.

    Unlike POST /mcp it says what is wrong with the text, and what is JSON and no object ends
    the connection; its words are those of upstream's failure.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        return _error(None, _Refused(_PARSE, f"Parse error: {error}")), False
    except (ValueError, RecursionError) as error:  # a number or a nesting without end
        return _error(None, _Refused(_SERVER, str(error))), True
    if not isinstance(data, dict):
        model = "openenv.core.env_server.mcp_types.JsonRpcRequest"
        kind = type(data).__name__
        complaint = f"{model}() argument after ** must be a mapping, not {kind}"
        return _error(None, _Refused(_SERVER, complaint)), True
    return await answer(caller, data), False


async def answer(caller: Caller, data: dict[str, Any]) -> str:
    """Return the reply to a request, as JSON."""
    try:
        request = JsonRpcRequest.model_validate(bounded(JsonRpcRequest, data))
    except ValidationError as error:
        return _error(None, _Refused(_INVALID, f"Invalid request: {error}"))
    try:
        result = await _result(caller, request)
    except _Refused as refused:
        return _error(request.id, refused)
    except FAILURES as failure:
        return _error(request.id, _Refused(_INTERNAL, str(failure)))
    return f'{{"jsonrpc":"2.0","id":{json.dumps(request.id)},"result":{result}}}'


def refused(failure: Failure, name: str) -> str:
    """Return what a client is told of a session that could not be opened."""
    return _error(None, _not_opened(failure, name))


async def _result(caller: Caller, request: JsonRpcRequest) -> str:
    match request.method:
        case "openenv/session/create":
            return _dumped({"session_id": (await _created(caller)).key})
        case "openenv/session/close":
            return _dumped(await _closed(caller, request.params.get("session_id")))
        case "tools/call" if not request.params.get("name"):
            raise _Refused(_PARAMS, "Missing 'name' in params")
        case method if method in _TOOLS:
            params = json.dumps(request.params).encode()
            await caller.holder.turn()
            async with _session(caller, request.params.get("session_id")) as session:
                result = await session.invoke_raw(method, params)
                with session.held_to_protocol():
                    return json_object(result)
    raise _Refused(_NO_METHOD, f"Method not found: {request.method}")


async def _created(caller: Caller) -> Kept:
    if caller.session is not None:
        return caller.adopt()
    try:
        return await caller.create()
    except FAILURES as failure:
        raise _not_opened(failure, caller.name) from None


async def _closed(caller: Caller, key: Any) -> dict[str, Any]:
    if not key:
        raise _Refused(_PARAMS, "Invalid params - 'session_id' is required")
    kept = _kept(caller, key)
    if kept is caller.kept:
        message = "Cannot close active WebSocket-managed session via MCP method"
        raise _Refused(_INVALID, message)
    attached = kept.attached
    await caller.sessions.close(kept)
    done = {"session_id": kept.key, "closed": not attached}
    return {**done, "closing": True} if attached else done


@asynccontextmanager
async def _session(caller: Caller, key: Any) -> AsyncIterator[Session]:
    """Hold the session that is meant: this connection's, one by its id, or a fresh one."""
    if caller.session is not None:
        with caller.episode.at_stake(caller.session):
            yield caller.session
    elif key:
        with _kept(caller, key).in_use() as session:
            yield session
    else:
        with await caller.holder.enter():
            async with caller.hub.session(
                caller.name, schema=caller.schema, client=caller.holder.key
            ) as session:
                yield session


def _kept(caller: Caller, key: Any) -> Kept:
    kept = caller.find(key) if isinstance(key, str) else None
    if kept is None:
        raise _Refused(_PARAMS, f"Unknown session_id: {key}")
    return kept


def _not_opened(failure: Failure, name: str) -> _Refused:
    if isinstance(failure, CapacityError):
        counts = {"active_sessions": failure.active, "max_sessions": failure.limit}
        return _Refused(_SERVER, str(failure), counts)
    return _Refused(_SERVER, str(failure), {"factory_name": name})


def _error(request_id: str | int | None, refused: _Refused) -> str:
    error = {"code": refused.code, "message": str(refused), "data": refused.data}
    reply = {"jsonrpc": "2.0", "id": request_id, "error": error}
    return _dumped(reply)


def _dumped(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
