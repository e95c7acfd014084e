"""JSON-RPC at the door, against a real hub: tools there are none, sessions there are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic.version import version_short
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from envhub import Hub
from envhub.door import kept
from tests.door.asking import ask
from tests.sharing import anyio_backend as anyio_backend
from tests.sharing import nothing_leaks as nothing_leaks

ENVS = Path(__file__).parents[2] / "envs"
CREATE, CLOSE, LIST = "openenv/session/create", "openenv/session/close", "tools/list"


class Client:
    """Speaks JSON-RPC over HTTP."""

    def __init__(self, address: str, hub: Hub) -> None:
        self.address = address
        self.hub = hub
        self.url = f"ws://{address}/envs/echo"
        self.made: list[str] = []  # keys of sessions

    async def post(self, body: str, path: str = "/envs/echo/mcp") -> tuple[int, Any]:
        reply = await ask(self.address, "POST", path, body)
        return reply.status, reply.json

    async def until_all_have_gone(self) -> None:
        with anyio.fail_after(30):
            while self.hub.active_sessions:  # noqa: ASYNC110 (no event says so)
                await anyio.sleep(0.01)

    async def call(self, method: str, **params: Any) -> Any:
        status, reply = await self.post(request(method, **params))
        assert (status, reply["id"]) == (200, 7)
        if method == CREATE and "result" in reply:
            self.made.append(reply["result"]["session_id"])
        return reply.get("result", reply.get("error"))

    async def leave(self) -> None:
        """Close what is left open."""
        for key in self.made:
            await self.call(CLOSE, session_id=key)
        await self.until_all_have_gone()


def request(method: str, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 7})


@pytest.fixture(scope="module")
async def door(nothing_leaks: None, served: Any) -> AsyncIterator[tuple[str, Hub]]:
    async with Hub(ENVS, max_sessions=3, queue_s=0.1) as hub, served(hub, "echo") as address:
        yield address, hub


@pytest.fixture
async def client(door: tuple[str, Hub]) -> AsyncIterator[Client]:
    client = Client(*door)
    yield client
    await client.leave()


async def say(websocket: Any, frame: dict[str, Any]) -> Any:
    await websocket.send(json.dumps(frame))
    with anyio.fail_after(30):
        return json.loads(await websocket.recv())


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("{", -32700, "Parse error"),
        ("[1]", -32700, "Parse error"),
        ("\xff", -32700, "Parse error"),
        ("[" * 100_000, -32700, "Parse error"),
        ("{}", -32600, "Invalid request: 2 validation errors for JsonRpcRequest"),
        (request("resources/list"), -32601, "Method not found: resources/list"),
        (request(LIST), -32603, "Environment does not support MCP"),
        (request("tools/call"), -32602, "Missing 'name' in params"),
        (request(LIST, session_id="x"), -32602, "Unknown session_id: x"),
        (request(LIST, session_id=[1]), -32602, "Unknown session_id: [1]"),
        (request(CLOSE), -32602, "Invalid params - 'session_id' is required"),
        (request(CLOSE, session_id="x"), -32602, "Unknown session_id: x"),
    ],
)
async def test_what_is_wrong_is_in_the_answer(
    client: Client, body: str, code: int, message: str
) -> None:
    status, reply = await client.post(body)

    assert status == 200
    assert reply["error"]["code"] == code
    assert reply["error"]["message"].startswith(message)
    assert client.hub.active_sessions == 0


async def test_a_request_that_is_none_is_told_so_in_upstream_s_words(client: Client) -> None:
    link = f"https://errors.pydantic.dev/{version_short()}/v/"
    frame = {"type": "mcp", "data": {"x": 1}}
    async with connect(f"{client.url}/ws") as websocket:
        await websocket.send(json.dumps(frame))
        reply = await websocket.recv()

    assert reply == (
        '{"type":"mcp","data":{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":'
        '"Invalid request: 3 validation errors for JsonRpcRequest\\njsonrpc\\n  Field required'
        " [type=missing, input_value={'x': 1}, input_type=dict]\\n    For further information"
        f" visit {link}missing\\nmethod\\n  Field required [type=missing,"
        f" input_value={{'x': 1}}, input_type=dict]\\n    For further information visit"
        f" {link}missing\\nx\\n  Extra inputs are not permitted [type=extra_forbidden,"
        " input_value=1, input_type=int]\\n   "
        f' For further information visit {link}extra_forbidden","data":null}}}}}}'
    )


async def test_without_tools_the_frame_says_so_in_upstream_s_words(client: Client) -> None:
    frame = '{"type": "mcp", "data": {"jsonrpc": "2.0", "method": "tools/list", "id": 1}}'
    async with connect(f"{client.url}/ws") as websocket:
        await websocket.send(frame)
        reply = await websocket.recv()

    assert reply == (
        '{"type":"mcp","data":{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":'
        '"Environment does not support MCP","data":null}}}'
    )


async def test_a_million_unknown_keys_are_not_a_million_errors(client: Client) -> None:
    _, reply = await client.post(json.dumps({str(n): 0 for n in range(1_000_000)}))

    assert reply["error"]["message"].count("Extra inputs are not permitted") == 100


async def test_a_session_is_made_over_http_played_over_websocket_and_closed(
    client: Client,
) -> None:
    key = (await client.call(CREATE))["session_id"]
    async with connect(f"{client.url}/ws?session_id={key}") as websocket:
        await say(websocket, {"type": "reset"})
        await say(websocket, {"type": "step", "data": {"message": "here"}})
        assert client.hub.active_sessions == 1
    async with connect(f"{client.url}/ws?session_id={key}") as websocket:
        state = await say(websocket, {"type": "state"})  # of the same episode

    assert state["data"]["last"] == "here"
    assert await client.call(CLOSE, session_id=key) == {"session_id": key, "closed": True}
    assert client.hub.active_sessions == 0


async def test_one_that_is_attached_closes_when_it_is_left(client: Client) -> None:
    key = (await client.call(CREATE))["session_id"]
    async with connect(f"{client.url}/ws?session_id={key}") as websocket:
        await say(websocket, {"type": "reset"})
        done = await client.call(CLOSE, session_id=key)
        still = await say(websocket, {"type": "state"})
    await client.until_all_have_gone()

    assert done == {"session_id": key, "closed": False, "closing": True}
    assert still["type"] == "state"
    assert (await client.call(LIST, session_id=key))["code"] == -32602


async def test_nobody_attaches_to_what_is_another_s(client: Client) -> None:
    key = (await client.call(CREATE))["session_id"]
    async with connect(f"{client.url}/ws?session_id={key}") as first:
        await say(first, {"type": "reset"})
        for url, why in (
            (f"{client.url}/ws?session_id={key}", f"Session {key} already has an attached"),
            (f"{client.url}/ws?session_id=guess", "Unknown session_id: guess"),
            (f"ws://{client.address}/envs/coding/ws?session_id={key}", "Unknown session_id"),
        ):
            async with connect(url) as second:
                told = json.loads(await second.recv())
                with pytest.raises(ConnectionClosed):
                    await second.recv()
            assert told["data"]["code"] == "SESSION_ERROR"
            assert told["data"]["message"].startswith(why)


async def test_the_session_of_a_websocket_has_an_id_while_it_lives(client: Client) -> None:
    def frame(method: str, **params: Any) -> dict[str, Any]:
        return {"type": "mcp", "data": json.loads(request(method, **params))}

    async with connect(f"{client.url}/ws") as websocket:
        made = await say(websocket, frame(CREATE))
        again = await say(websocket, frame(CREATE))
        key = made["data"]["result"]["session_id"]
        own = await say(websocket, frame(CLOSE, session_id=key))
        tools = await client.call(LIST, session_id=key)

    assert made == again
    assert own["data"]["error"]["code"] == -32600
    assert tools["message"] == "Environment does not support MCP"  # and it was found
    await client.until_all_have_gone()
    assert (await client.call(LIST, session_id=key))["code"] == -32602


async def test_a_websocket_for_tools_alone_has_a_session_of_its_own(client: Client) -> None:
    async with connect(f"{client.url}/mcp") as websocket:
        broken = await say(websocket, {})
        tools = await say(websocket, json.loads(request(LIST)))
        assert client.hub.active_sessions == 1

    assert broken["error"]["code"] == -32600
    assert tools["error"]["code"] == -32603


async def test_a_binary_frame_ends_the_connection_and_its_session(client: Client) -> None:
    async with connect(f"{client.url}/mcp") as websocket:
        await websocket.send(b"{}")
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    await client.until_all_have_gone()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("[1]", "JsonRpcRequest() argument after ** must be a mapping, not list"),
        ("null", "JsonRpcRequest() argument after ** must be a mapping, not NoneType"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
async def test_a_frame_that_is_no_object_is_told_so_and_ends_the_connection(
    client: Client, frame: str, words: str
) -> None:
    async with connect(f"{client.url}/mcp") as websocket:
        await websocket.send("{")
        broken = json.loads(await websocket.recv())
        await websocket.send(frame)
        told = json.loads(await websocket.recv())
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()

    assert broken["error"] == {
        "code": -32700,
        "message": "Parse error: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        "data": None,
    }
    assert told["error"]["code"] == -32000
    assert words in told["error"]["message"]
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    await client.until_all_have_gone()


async def test_a_session_s_reply_has_no_white_space(client: Client) -> None:
    made = await ask(client.address, "POST", "/envs/echo/mcp", request(CREATE))
    key = made.json["result"]["session_id"]
    closed = await ask(client.address, "POST", "/envs/echo/mcp", request(CLOSE, session_id=key))

    assert made.text == f'{{"jsonrpc":"2.0","id":7,"result":{{"session_id":"{key}"}}}}'
    assert '"closed":true' in closed.text


async def test_a_full_hub_says_so_in_the_answer(client: Client) -> None:
    for _ in range(3):
        await client.call(CREATE)
    full = await client.call(CREATE)
    async with connect(f"{client.url}/mcp") as websocket:
        told = json.loads(await websocket.recv())

    assert (full["code"], full["data"]) == (-32000, {"active_sessions": 3, "max_sessions": 3})
    assert told["error"]["code"] == -32000


async def test_a_client_that_crashed_leaves_its_place_to_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream's server keeps such a session for ever, and is full after as many crashes."""
    for _ in range(3):
        await client.call(CREATE)
    monkeypatch.setattr(kept, "IDLE_S", 0.0)

    assert "session_id" in await client.call(CREATE)
    assert client.hub.active_sessions == 1


async def test_a_session_that_nobody_uses_goes_by_itself(client: Client) -> None:
    """Nobody has to want another; and one that is attached, or in a call, stays."""
    now = 0.0
    sessions = kept.KeptSessions(client.hub, clock=lambda: now)
    client.hub.every_look(sessions.forget_idle)
    left, attached, called = [await sessions.create("echo") for _ in range(3)]
    sessions.attach("echo", attached.key)
    with called.in_use():
        now = kept.IDLE_S + 1
        with anyio.fail_after(30):
            while client.hub.active_sessions == 3:  # noqa: ASYNC110 (it has no event)
                await anyio.sleep(0.01)
        found = [sessions.find("echo", one.key) for one in (left, attached, called)]

    assert found == [None, attached, called]
    await sessions.detach(attached)
    for one in (attached, called):
        await sessions.close(one)


async def test_a_session_in_a_long_call_is_not_idle(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = kept.KeptSessions(client.hub)
    busy = await sessions.create("echo")
    monkeypatch.setattr(kept, "IDLE_S", 0.0)
    with busy.in_use():
        await sessions.create("echo")
        assert sessions.find("echo", busy.key) is busy
    last = await sessions.create("echo")

    assert sessions.find("echo", busy.key) is None
    await sessions.close(last)


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/echo/tasks", '{"split":"train"}', 501, "list_tasks is not supported for this"),
        ("/echo/task", '{"split":"train","index":0}', 501, "get_task is not supported"),
        ("/other/tasks", '{"split":"train"}', 404, "unknown environment 'other'"),
        ("/echo/tasks", "{}", 422, ""),
        ("/echo/tasks", '{"split":"train","x":1}', 422, ""),
        ("/echo/nothing", "{}", 404, "Not Found"),
    ],
)
async def test_an_environment_without_tasks_says_so(
    client: Client, path: str, body: str, status: int, detail: str
) -> None:
    got, reply = await client.post(body, f"/envs/echo{path}")

    assert got == status
    assert detail == "" or reply["detail"].startswith(detail)
