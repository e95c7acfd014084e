"""Play `guess_env` and `tools_env` with every client that this version of OpenEnv has.

Run by the interpreter that has it, with the folder of the typed client, then pairs of an
environment's name and its address. Says what it has played.
"""

import asyncio
import sys

sys.path.insert(0, sys.argv[1])

from guess_env import GuessAction, GuessEnv
from openenv import GenericEnvClient
from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.mcp_client import MCPToolClient


async def generic(url):
    async with GenericEnvClient(base_url=url) as env:
        begun = await env.reset(seed=7, unknown_to_it=1)
        assert begun.observation["hint"] == "Guess a number from 0 to 5.", begun
        assert (begun.reward, begun.done) == (0.0, False), begun
        ended = await env.step({"number": 3})
        assert (ended.observation["hint"], ended.reward, ended.done) == ("Right.", 1.0, True)
        assert (await env.state())["guessed"] == 3
        refused = ""
        try:
            await env.step({"numbre": 3})
        except RuntimeError as error:
            refused = str(error)
        assert "VALIDATION_ERROR" in refused, refused
        await env.reset()
        assert (await env.step({"number": 1})).observation["hint"] == "Wrong."


async def typed(url):
    async with GuessEnv(base_url=url) as env, GuessEnv(base_url=url) as other:
        await env.reset()
        await other.reset()
        ended = await env.step(GuessAction(number=3))
        assert (ended.observation.hint, ended.reward, ended.done) == ("Right.", 1.0, True)
        assert (await env.state()).step_count == 1
        assert (await other.state()).step_count == 0


def generic_sync(url):
    with GenericEnvClient(base_url=url).sync() as env:
        env.reset(seed=7)
        assert env.step({"number": 3}).reward == 1.0
        assert env.state()["step_count"] == 1


def typed_sync(url):
    with GuessEnv(base_url=url).sync() as env:
        env.reset()
        assert env.step(GuessAction(number=2)).reward == 0.0
        assert env.state().guessed == 2


async def tools(url):
    async with MCPToolClient(base_url=url) as env:
        await env.reset()
        assert [tool.name for tool in await env.list_tools()] == ["add", "fail"]
        assert await env.call_tool("add", number=4) == 4
        stepped = await env.step(CallToolAction(tool_name="add", arguments={"number": 3}))
        assert stepped.observation.result["data"] == 7, stepped  # on the same session
        listed = (await env.step(ListToolsAction())).observation.tools
        assert [tool.name for tool in listed] == ["add", "fail"]
        for name in "fail", "nothing":
            try:
                await env.call_tool(name)
            except RuntimeError:
                pass
            else:
                raise AssertionError(name)
        failed = (await env.step(CallToolAction(tool_name="fail", arguments={}))).observation
        assert "as asked" in failed.error.message, failed
        assert (await env.state()).step_count == 7


def tools_sync(url):
    with MCPToolClient(base_url=url).sync() as env:
        env.reset()
        assert [tool.name for tool in env.list_tools()] == ["add", "fail"]
        assert env.call_tool("add", number=4) == 4
        assert env.state().step_count == 4


async def tools_over_http(url):
    """What a client asks of POST /mcp: the newer ones always do, the older if told to."""
    env = MCPToolClient(base_url=url)
    env.use_production_mode = True
    try:
        assert [tool.name for tool in await env.list_tools()] == ["add", "fail"]
        assert await env.call_tool("add", number=4) == 4
        assert await env.call_tool("add", number=1) == 5
    finally:
        await env.close()


PLAYED = {
    "guess_env": (generic, typed, generic_sync, typed_sync),
    "tools_env": (tools, tools_sync, tools_over_http),
}
for name, url in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
    for play in PLAYED[name]:
        asyncio.run(play(url)) if asyncio.iscoroutinefunction(play) else play(url)
        print(play.__name__, name)
