"""Tools as MCP's own clients call them: `mcp` and `fastmcp`, as they are."""

from __future__ import annotations

import json
import subprocess

import pytest

from envhub.hub.environments import build, openenv
from tests.door.asking import ask
from tests.openenv.conftest import ENVS

pytestmark = pytest.mark.openenv
INITIALIZE = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}})
PLAY = """
import asyncio, sys
from fastmcp import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

async def play_by_fastmcp(url):
    async with Client(url) as one, Client(url) as other:
        assert await one.ping()
        assert [tool.name for tool in await one.list_tools()] == ["add", "fail"]
        assert (await one.call_tool("add", {"number": 4})).data == 4
        assert (await one.call_tool("add", {"number": 3})).data == 7  # it remembers
        assert (await other.call_tool("add", {"number": 1})).data == 1
        failed = await one.call_tool("fail", raise_on_error=False)
        assert failed.is_error and "as asked" in failed.content[0].text, failed

async def play_by_mcp(url):
    async with streamable_http_client(url) as (receive, send, *_):
        async with ClientSession(receive, send) as session:
            begun = await session.initialize()
            assert begun.serverInfo.name == "envhub: tools_env", begun
            await session.send_ping()
            (add, _) = (await session.list_tools()).tools
            assert add.inputSchema["properties"]["number"]["type"] == "integer", add
            done = await session.call_tool("add", {"number": 2})
            assert (done.isError, done.structuredContent) == (False, {"result": 2}), done

for play in (play_by_fastmcp, play_by_mcp):
    asyncio.run(play(sys.argv[1]))
"""


def test_ordinary_clients_connect_and_call_tools(url: str) -> None:
    python = build.python_for(openenv.read(ENVS / "tools_env"))
    command = [f"{python}/bin/python", "-I", "-c", PLAY, f"{url}/envs/tools_env/mcp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr


async def test_a_session_ends_when_its_client_says_so(address: str) -> None:
    path = "/envs/tools_env/mcp"
    opened = await ask(address, "POST", path, INITIALIZE)
    key = {"mcp-session-id": opened.headers["mcp-session-id"]}
    ping = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"})
    alive = await ask(address, "POST", path, ping, key)
    elsewhere = await ask(address, "POST", "/envs/counter_env/mcp", ping, key)
    ended = await ask(address, "DELETE", path, None, key)
    gone = await ask(address, "POST", path, ping, key)
    again = await ask(address, "DELETE", path, None, key)

    assert alive.json == {"jsonrpc": "2.0", "id": 2, "result": {}}
    assert [r.status for r in (elsewhere, ended, gone, again)] == [404, 204, 404, 404]


@pytest.mark.parametrize(
    ("message", "status", "answer"),
    [
        ({"jsonrpc": "2.0", "method": "notifications/initialized"}, 202, None),
        ({"jsonrpc": "2.0", "id": "a", "method": "tools/list"}, 200, {"tools": []}),
        ({"jsonrpc": "2.0", "id": 3, "method": "resources/list"}, 200, -32601),
        ({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {}}, 200, -32601),
        (["no", "object"], 400, -32600),
        ({"id": [], "method": "ping"}, 400, -32600),
    ],
)
async def test_each_message_has_the_answer_that_the_specification_has(
    address: str, message: object, status: int, answer: object
) -> None:
    """Of an environment that has no tools."""
    path = "/envs/counter_env/mcp"
    opened = await ask(address, "POST", path, INITIALIZE)
    key = {"mcp-session-id": opened.headers["mcp-session-id"]}
    reply = await ask(address, "POST", path, json.dumps(message), key)
    await ask(address, "DELETE", path, None, key)

    assert reply.status == status
    if status != 202:
        error = reply.json.get("error")
        assert (error["code"] if error else reply.json["result"]) == answer


async def test_there_is_no_stream_to_listen_to(address: str) -> None:
    reply = await ask(address, "GET", "/envs/tools_env/mcp")

    assert reply.status == 405
