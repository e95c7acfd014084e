"""A tool that ends its session's process ends the episode, whichever way it was called."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from websockets.asyncio.client import ClientConnection, connect

from envhub import Hub
from envhub.door.kept import Kept, KeptSessions
from tests.door.asking import ask

ENVS = Path(__file__).parent / "envs"
Call = Callable[..., Awaitable[Any]]
Way = Callable[[str], AbstractAsyncContextManager[tuple[Call, Call]]]


@pytest.fixture
async def address(served: Any) -> AsyncIterator[str]:
    async with Hub(ENVS) as hub, served(hub, "toolbox") as address:
        yield address


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def stepping(address: str, key: str) -> Call:
    """Return what resets and steps a session over HTTP, by its id."""

    async def do(verb: str) -> Any:
        body = json.dumps({"action": {}} if verb == "step" else {})
        return (await ask(address, "POST", f"/{verb}?session_id={key}", body)).json

    return do


async def say(websocket: ClientConnection, frame: dict[str, Any]) -> Any:
    await websocket.send(json.dumps(frame))
    with anyio.fail_after(30):
        return json.loads(await websocket.recv())


@asynccontextmanager
async def by_post(address: str) -> AsyncIterator[tuple[Call, Call]]:
    """OpenEnv's dialect, which names the session in each call."""

    async def post(method: str, **params: Any) -> Any:
        body = json.dumps(request(method, **params))
        return (await ask(address, "POST", "/mcp", body)).json

    key = (await post("openenv/session/create"))["result"]["session_id"]

    async def tool(**params: Any) -> Any:
        return await post("tools/call", session_id=key, **params)

    yield tool, stepping(address, key)


@asynccontextmanager
async def by_mcp(address: str) -> AsyncIterator[tuple[Call, Call]]:
    """MCP itself, with the session in a header."""
    body = json.dumps(request("initialize"))
    key = (await ask(address, "POST", "/mcp", body)).headers["mcp-session-id"]

    async def tool(**params: Any) -> Any:
        body = json.dumps(request("tools/call", **params))
        return (await ask(address, "POST", "/mcp", body, {"mcp-session-id": key})).json

    yield tool, stepping(address, key)


@asynccontextmanager
async def by_the_websocket_of_tools(address: str) -> AsyncIterator[tuple[Call, Call]]:
    async with connect(f"ws://{address}/mcp") as websocket:
        made = await say(websocket, request("openenv/session/create"))

        async def tool(**params: Any) -> Any:
            return await say(websocket, request("tools/call", **params))

        yield tool, stepping(address, made["result"]["session_id"])


@asynccontextmanager
async def by_frames_between_steps(address: str) -> AsyncIterator[tuple[Call, Call]]:
    async with connect(f"ws://{address}/ws") as websocket:

        async def tool(**params: Any) -> Any:
            data = request("tools/call", **params)
            return (await say(websocket, {"type": "mcp", "data": data}))["data"]

        async def do(verb: str) -> Any:
            return (await say(websocket, {"type": verb, "data": {}}))["data"]

        yield tool, do


async def lose(way: Way, address: str, name: str) -> None:
    """Have a tool end the process of an episode, and look at what is said of it afterwards."""
    async with way(address) as (tool, do):
        await do("reset")
        await do("step")
        second = await tool(name="count")
        lost = await tool(name=name)
        other = await tool(name="count")  # of a fresh process, in no episode
        refused = [await do("step"), await do("step")]
        await do("reset")
        begun = await do("step")

    assert second["result"]["content"][0]["text"] == "2"
    assert lost["error"]["code"] == -32603
    assert other["result"]["content"][0]["text"] == "1"
    assert [answer["cause"] for answer in refused] == ["worker_lost"] * 2
    assert begun["observation"]["count"] == 1


@pytest.mark.parametrize(
    "way", [by_post, by_mcp, by_the_websocket_of_tools, by_frames_between_steps]
)
async def test_an_episode_is_lost_with_the_process_that_a_tool_ends(
    address: str, way: Way
) -> None:
    await lose(way, address, "exit")


@pytest.mark.parametrize("name", ["print", "hang"])
async def test_a_tool_past_a_limit_ends_the_episode_as_well(address: str, name: str) -> None:
    await lose(by_post, address, name)


async def test_a_tool_that_fails_ends_no_episode(address: str) -> None:
    async with by_post(address) as (tool, do):
        await do("reset")
        failed = await tool(name="fail")
        on = await do("step")

    assert failed["error"]["message"] == "as asked"
    assert on["observation"]["count"] == 1


def begin(kept: Kept, name: str, tasks: TaskGroup) -> anyio.CancelScope:
    """Call a tool of a kept session in the background, for somebody who may go away."""
    scope = anyio.CancelScope()

    async def call() -> None:
        with scope, kept.in_use() as session:
            await session.invoke_raw("tools/call", json.dumps({"name": name}).encode())

    tasks.start_soon(call)
    return scope


async def test_who_goes_away_in_a_call_ends_the_episode_and_who_only_waited_does_not() -> None:
    async with Hub(ENVS) as hub:
        kept = await KeptSessions(hub).create("toolbox")
        await kept.session.reset()
        async with anyio.create_task_group() as tasks:
            first = begin(kept, "hang", tasks)
            with anyio.fail_after(30):
                while "hang" not in kept.session.output:  # noqa: ASYNC110 (no event says so)
                    await anyio.sleep(0.005)
            async with anyio.create_task_group() as others:
                second = begin(kept, "count", others)
                await anyio.wait_all_tasks_blocked()
                second.cancel()
            lost_by_waiting = kept.episode.lost
            first.cancel()

        assert (lost_by_waiting, kept.episode.lost) == (False, True)
