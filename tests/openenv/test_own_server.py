"""A folder that builds a server of its own: its application answers, behind our walls."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from envhub import EnvClient, Hub
from envhub.door import applications
from envhub.hub.environments import build, openenv
from tests.door.asking import ask
from tests.openenv.conftest import ENVS

pytestmark = pytest.mark.openenv
AT = "/envs/own_server_env"
STEP = base64.b64encode(b'{"action": {}}').decode()
PLAY = """
import sys
from openenv import GenericEnvClient

with GenericEnvClient(base_url=sys.argv[1]).sync() as env, \\
        GenericEnvClient(base_url=sys.argv[1]).sync() as other:
    assert env.reset(seed=3).observation["metadata"] == {"seed": 3}
    other.reset()
    env.step({})
    assert env.step({}).observation["metadata"] == {"count": 2}
    assert other.step({}).observation["metadata"] == {"count": 1}
    assert env.state()["step_count"] == 2
"""


async def test_its_own_routes_answer_with_their_own_state(address: str) -> None:
    hello = await ask(address, "GET", f"{AT}/hello/you?loud=1", headers={"x-database-id": "d"})
    await ask(address, "POST", f"{AT}/reset", '{"seed": 4}')
    first = await ask(address, "POST", f"{AT}/step", '{"action": {}}')
    second = await ask(address, "POST", f"{AT}/step", '{"action": {}}')
    state = await ask(address, "GET", f"{AT}/state")
    missing = await ask(address, "GET", f"{AT}/nothing")
    health = await ask(address, "GET", f"{AT}/health")

    assert hello.json == {"text": "HELLO YOU OF D", "root": ""}
    assert [r.json["observation"]["metadata"]["count"] for r in (first, second)] == [1, 2]
    assert state.json["step_count"] == 2
    assert (missing.status, missing.json) == (404, {"detail": "Not Found"})
    assert health.json == {"status": "healthy"}


async def test_its_pages_cannot_act_on_our_origin(address: str) -> None:
    page = await ask(address, "GET", f"{AT}/page")
    beside = await ask(address, "GET", "/envs/counter_env/health")

    assert (page.text, page.headers["x-own"]) == ("<p>a page</p>", "yes")
    assert page.headers["content-security-policy"] == "sandbox allow-scripts"
    assert "content-security-policy" not in beside.headers


async def test_its_websockets_carry_every_frame(address: str) -> None:
    async with asyncio.timeout(60), connect(f"ws://{address}{AT}/echo") as one:
        async with connect(f"ws://{address}{AT}/echo") as other:
            await one.send("abc")
            await other.send("xyz")
            assert [await one.recv(), await one.recv()] == ["abc", "cba"]
            assert [await other.recv(), await other.recv()] == ["xyz", "zyx"]
        await one.send("end")
        assert [await one.recv(), await one.recv()] == ["end", "dne"]
        with pytest.raises(ConnectionClosed) as closed:
            await one.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001


@pytest.mark.parametrize(
    ("how", "code"),
    [("early", 403), ("unaccepted", 403), ("twice", 1011), ("code", 1011), ("late", 4001),
     ("silent", 1011)],
)  # fmt: skip
async def test_what_no_websocket_can_carry_closes_it(address: str, how: str, code: int) -> None:
    async with asyncio.timeout(30):
        try:
            async with connect(f"ws://{address}{AT}/wrong/{how}") as websocket:
                await websocket.wait_closed()
                closed = websocket.close_code
        except InvalidStatus as refused:
            closed = refused.response.status_code

    assert closed == code


async def test_it_hears_and_sets_no_cookies(address: str) -> None:
    """A browser sends those of every server of this machine, whatever its port."""
    headers = {"cookie": "token=another-server-s", "x-asked": "yes"}
    heard = (await ask(address, "GET", f"{AT}/headers", headers=headers)).json

    assert heard["x-asked"] == "yes"
    assert "cookie" not in heard


async def test_who_goes_away_in_a_call_ends_nobody_else_s_episode(hub: Hub) -> None:
    door = applications.Applications(hub)
    began = asyncio.Event()

    async def step() -> None:
        async with door.turn("own_server_env") as session:
            began.set()
            await session.invoke_raw("asgi/http", json.dumps(request).encode())

    request = {"method": "POST", "path": "/step", "query": "", "headers": [], "body": STEP}
    for _ in range(2):
        async with anyio.create_task_group() as client:
            client.start_soon(step)
            await began.wait()
            client.cancel_scope.cancel()
        began.clear()
    async with door.turn("own_server_env") as session:
        state = await session.state()

    assert state["step_count"] == 2


def test_openenv_s_client_plays_at_its_websocket(url: str) -> None:
    python = build.python_for(openenv.read(ENVS / "own_server_env"))
    command = [f"{python}/bin/python", "-I", "-c", PLAY, url + AT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr


async def test_a_crash_is_a_failure_and_then_it_runs_again(address: str) -> None:
    await ask(address, "POST", f"{AT}/reset", "{}")
    lost = await ask(address, "POST", f"{AT}/exit", "{}")
    state = await ask(address, "GET", f"{AT}/state")

    assert (lost.status, lost.headers["envhub-cause"]) == (500, "worker_lost")
    assert state.json["step_count"] == 0


async def test_our_own_api_steps_it_by_its_routes(hub: Hub) -> None:
    async with hub.session("own_server_env") as session, hub.session("own_server_env") as other:
        await session.reset(seed=1)
        await other.reset()
        await session.step({})
        result = await session.step({})
        state = await session.state()

        assert (await other.state())["step_count"] == 0
    assert (result.metadata, result.reward) == ({"count": 2}, 1.0)
    assert state["step_count"] == 2


async def test_beside_it_our_routes_serve_the_others(url: str) -> None:
    async with EnvClient(f"{url}/envs/counter_env") as env:
        assert (await env.reset()).observation["count"] == 0
    assert json.loads((await ask(url[7:], "GET", "/envs")).text)["default"] == "counter_env"


async def test_what_stands_at_an_address_is_said_by_us_and_not_by_it(address: str) -> None:
    """Without a slash at the end the root's application would answer for any other."""
    own = await ask(address, "GET", AT)
    other = await ask(address, "GET", "/envs/counter_env")
    nobody = await ask(address, "GET", "/envs/nobody")

    assert (own.json["name"], other.json["name"]) == ("own_server_env", "counter_env")
    assert nobody.status == 404


async def test_a_path_arrives_as_it_was_written(address: str) -> None:
    encoded = await ask(address, "GET", f"{AT}/raw/a%2Fb%20c?q=%C3%A9")

    assert encoded.json == {"raw": "/raw/a%2Fb%20c", "query": "q=%C3%A9"}
