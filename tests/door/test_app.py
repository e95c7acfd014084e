"""`envhub.door.app` and `address`: which environment a WebSocket's URL names."""

import json
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def answer(verb: str, data: bytes) -> bytes:
    return b"{}"


async def test_an_unknown_environment_refuses_the_handshake(scripted: Any, served: Any) -> None:
    async with served(scripted(answer)) as address:
        with pytest.raises(InvalidStatus) as refusal:
            await connect(f"ws://{address}/envs/plya/ws", proxy=None)

    assert refusal.value.response.status_code == 404
    assert json.loads(refusal.value.response.body or b"") == {
        "detail": "no environment `plya`; there is play"
    }


async def test_an_environment_is_found_by_its_name(scripted: Any, served: Any) -> None:
    async with (
        served(scripted(answer), default=None) as address,
        connect(f"ws://{address}/envs/play/ws", proxy=None) as websocket,
    ):
        await websocket.send('{"type":"state"}')
        with anyio.fail_after(10):
            reply = await websocket.recv()

    assert reply == '{"type":"state","data":{}}'


async def test_a_session_id_is_unknown_as_long_as_http_makes_no_sessions(
    scripted: Any, served: Any
) -> None:
    hub = scripted(answer)
    async with (
        served(hub) as address,
        connect(f"ws://{address}/ws?session_id=nope", proxy=None) as websocket,
    ):
        with anyio.fail_after(10):
            reply = json.loads(await websocket.recv())
            await websocket.wait_closed()

    assert reply["data"] == {"message": "Unknown session_id: nope", "code": "SESSION_ERROR"}
    assert websocket.close_code == 1000
    assert hub.sessions == []
