"""The door before a real hub, beside what openenv 0.10.0 was recorded to say.

`upstream/` holds the recordings: one environment, the same requests, upstream's own server.
Left out are the cases where ours says more than upstream (numpy, plain mappings), and what
depends on the moment. `envs/probe` is that environment, written for envhub.
"""

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic.version import version_short
from websockets.asyncio.client import ClientConnection, connect

from envhub.hub.hub import Hub

HERE = Path(__file__).parent
ENVS = [HERE / "envs", HERE.parents[1] / "envs"]


def recorded(name: str) -> list[tuple[str, str]]:
    """Return the pairs of request and reply, with this pydantic's version in the links."""
    text = (HERE / "upstream" / name).read_text().replace("/2.14/", f"/{version_short()}/")
    pairs = [
        block.split("\n<- ") for block in text.removeprefix("-> ").strip().split("\n\n-> ")
    ]
    return [(request, reply) for request, reply in pairs]


async def ask(websocket: ClientConnection, frame: str) -> str:
    await websocket.send(frame)
    with anyio.fail_after(30):
        reply = await websocket.recv()
    assert isinstance(reply, str)
    return reply


async def test_a_conversation_is_the_same_as_with_upstream(served: Any) -> None:
    conversation = recorded("ws.txt")
    async with (
        Hub(ENVS) as hub,
        served(hub, default="probe") as address,
        connect(f"ws://{address}/ws", proxy=None) as websocket,
    ):
        replies = [await ask(websocket, request) for request, _ in conversation]

    assert replies == [reply for _, reply in conversation]


async def test_http_requests_are_answered_as_by_upstream(served: Any) -> None:
    exchanges = recorded("http.txt")

    def play(address: str) -> list[str]:
        return [exchange(address, *request.split(" ", 3)) for request, _ in exchanges]

    async with Hub(ENVS) as hub, served(hub, default="probe") as address:
        replies = await anyio.to_thread.run_sync(play, address)

    assert replies == [reply for _, reply in exchanges]


def exchange(address: str, method: str, path: str, content_type: str, body: str) -> str:
    """Return status, content type and body of one request on a connection of its own."""
    connection = HTTPConnection(address, timeout=30)
    try:
        headers = {} if content_type == "-" else {"content-type": content_type}
        connection.request(method, path, json.loads(body).encode("latin-1"), headers)
        response = connection.getresponse()
        text = response.read().decode()
        return f"{response.status} {response.getheader('content-type', '-')} {text}"
    finally:
        connection.close()


async def test_two_environments_stand_side_by_side(served: Any) -> None:
    async with (
        Hub(ENVS) as hub,
        served(hub, default="probe") as address,
        connect(f"ws://{address}/envs/echo/ws", proxy=None) as echo,
        connect(f"ws://{address}/envs/probe/ws", proxy=None) as probe,
    ):
        await ask(echo, '{"type":"reset"}')
        said = json.loads(await ask(echo, '{"type":"step","data":{"message":"hello"}}'))
        failed = json.loads(await ask(probe, '{"type":"step","data":{"op":"x"}}'))

    assert said["data"]["observation"]["message"] == "hello"
    assert failed["data"]["message"] == "call reset first"


async def test_a_large_observation_arrives_whole(served: Any) -> None:
    async with (
        Hub(ENVS) as hub,
        served(hub, default="probe") as address,
        connect(f"ws://{address}/ws", proxy=None, max_size=None) as websocket,
    ):
        await ask(websocket, '{"type":"reset"}')
        reply = await ask(websocket, '{"type":"step","data":{"op":"big","n":3000000}}')

    assert json.loads(reply)["data"]["observation"]["text"] == "x" * 3_000_000


@pytest.mark.parametrize(
    ("op", "cause"), [("os_exit", "worker_lost"), ("hang", "deadline_exceeded")]
)
async def test_a_dead_session_process_is_a_typed_error_and_the_neighbour_goes_on(
    served: Any, op: str, cause: str
) -> None:
    async with (
        Hub(ENVS) as hub,
        served(hub, default="probe") as address,
        connect(f"ws://{address}/ws", proxy=None) as dying,
        connect(f"ws://{address}/ws", proxy=None) as neighbour,
    ):
        await ask(neighbour, '{"type":"reset"}')
        await ask(dying, '{"type":"reset"}')
        reply = json.loads(await ask(dying, f'{{"type":"step","data":{{"op":"{op}"}}}}'))
        fresh = json.loads(await ask(dying, '{"type":"reset"}'))
        after = json.loads(await ask(neighbour, '{"type":"step","data":{"op":"fine"}}'))

    assert reply["data"]["code"] == "EXECUTION_ERROR"
    assert reply["data"]["cause"] == cause
    assert fresh["type"] == "observation"
    assert after["data"]["observation"]["text"] == "fine"


async def test_a_client_that_vanishes_in_a_call_leaves_its_place_to_the_next(
    served: Any,
) -> None:
    async with Hub(ENVS, max_sessions=1) as hub, served(hub, default="probe") as address:
        hanging = await connect(f"ws://{address}/ws", proxy=None)
        await hanging.send('{"type":"reset","data":{"difficulty":"hang"}}')  # 60 s, then killed
        async with connect(f"ws://{address}/ws", proxy=None) as waiting:
            await waiting.send('{"type":"reset"}')
            hanging.transport.abort()
            with anyio.fail_after(10):
                reply = json.loads(await waiting.recv())

    assert reply["type"] == "observation"


async def test_a_full_hub_refuses_after_its_queue(served: Any) -> None:
    async with (
        Hub(ENVS, max_sessions=1, queue_s=0.05) as hub,
        served(hub, default="probe") as address,
        connect(f"ws://{address}/ws", proxy=None) as first,
    ):
        await ask(first, '{"type":"state"}')
        async with connect(f"ws://{address}/ws", proxy=None) as second:
            with anyio.fail_after(10):
                refusal = json.loads(await second.recv())

    assert refusal["data"] == {
        "message": "Server at capacity: 1/1 sessions active. Cannot accept new connections.",
        "code": "CAPACITY_REACHED",
        "active_sessions": 1,
        "max_sessions": 1,
    }


async def test_clients_of_different_addresses_are_served_in_turn(served: Any) -> None:
    """Over either protocol: one that asks for many does not keep another waiting."""
    order: list[str] = []
    async with Hub(ENVS, max_sessions=1) as hub, served(hub, default="probe") as address:

        async def play(host: str) -> None:
            source = (host, 0)
            async with connect(f"ws://{address}/ws", proxy=None, local_addr=source) as one:
                await ask(one, '{"type":"state"}')
                order.append(host)

        async def wait_for(count: int) -> None:
            with anyio.fail_after(30):
                while hub.waiting_sessions < count:  # noqa: ASYNC110 (it has no event)
                    await anyio.sleep(0.01)

        first = await hub.open("probe", client="127.0.0.1")
        async with anyio.create_task_group() as tasks:
            for at, host in enumerate(["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"]):
                tasks.start_soon(play, host)
                await wait_for(at + 1)
            await first.aclose()

    assert order == ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.1"]
