"""`envhub.door.http`, `bodies`, `origin` and `openapi` over real sockets.

What upstream answers, word for word, is in `test_upstream.py`; here is what only we decide.
"""

from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.routing import Route

from envhub.door import openapi
from envhub.door.app import OPENENV
from envhub.errors import (
    CapacityError,
    DeadlineExceeded,
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    WorkerLost,
    WorkerStartFailed,
)
from envhub.hub.hub import Hub
from tests.door.asking import JSON, Reply, ask

ENVS = Path(__file__).parents[2] / "envs"
RESULT = b'{"observation":{"metadata":{}},"reward":null,"done":false}'


@pytest.fixture
def playing(scripted: Any, served: Any) -> Any:
    """Hold a door before a scripted hub; yield its address and the hub."""

    @asynccontextmanager
    async def hold(reply: bytes | EnvhubError, opening: Any = None) -> Any:
        seen: list[tuple[str, bytes]] = []

        async def play(verb: str, data: bytes) -> bytes:
            seen.append((verb, data))
            if isinstance(reply, EnvhubError):
                raise reply
            return reply

        hub = scripted(play, opening)
        hub.seen = seen
        async with served(hub) as address:
            yield address, hub

    return hold


async def test_the_routes_of_a_real_environment(served: Any) -> None:
    async with Hub(ENVS) as hub, served(hub, default="echo") as address:
        reset = await ask(address, "POST", "/reset", '{"seed": 7}')
        step = await ask(address, "POST", "/envs/echo/step", '{"action":{"message":"hello"}}')
        wrong = await ask(address, "POST", "/step", '{"action":{}}')
        state = await ask(address, "GET", "/state")
        metadata = await ask(address, "GET", "/metadata")
        schema = await ask(address, "GET", "/envs/echo/schema")
        health = await ask(address, "GET", "/envs/echo/health")

    assert reset.headers["envhub-isolation"] == step.headers["envhub-isolation"] == "strict"
    assert reset.json == {
        "observation": {"metadata": {}, "message": "seed 7"},
        "reward": None,
        "done": False,
        "metadata": None,
    }
    assert step.json["observation"]["message"] == "hello"
    assert step.json["reward"] == 5.0
    assert wrong.status == 422
    assert wrong.json["detail"][0]["loc"] == ["message"]
    assert state.json == {"episode_id": None, "step_count": 0, "last": ""}
    assert metadata.json["name"] == "Echo"
    assert metadata.json["version"] == "1.0.0"
    assert schema.json["action"]["properties"]["message"] == {
        "title": "Message",
        "type": "string",
    }
    assert list(schema.json) == ["action", "observation", "state", "reset_observation"]
    assert health.json == {"status": "healthy"}


# ------------------------------------------------------------------ requests and sessions


async def test_each_request_has_a_session_that_is_closed_before_the_reply(playing: Any) -> None:
    async with playing(RESULT) as (address, hub):
        await ask(address, "POST", "/reset")
        await ask(address, "POST", "/step", '{"action":{}}')
        closed = [session.closed.is_set() for session in hub.sessions]

    assert closed == [True, True]


async def test_only_the_keys_that_were_sent_reach_the_session(playing: Any) -> None:
    async with playing(RESULT) as (address, hub):
        await ask(address, "POST", "/reset")
        await ask(address, "POST", "/reset", '{"seed":"5","level":NaN}')
        await ask(address, "POST", "/step", '{"action":{"a":1}}')
        await ask(address, "POST", "/step", '{"action":{"a":1},"timeout_s":3,"tag":"t"}')

    assert hub.seen == [
        ("reset", b"{}"),
        ("reset", b'{"seed": 5, "level": NaN}'),
        ("step", b'{"a": 1}'),
        ("step", b'{"a": 1}{"timeout_s": 3.0, "tag": "t"}'),
    ]


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (
            b'{"observation":{"a":1},"reward":1,"done":true,"metadata":{"k":2}}',
            '{"observation":{"a":1},"reward":1.0,"done":true,"metadata":{"k":2}}',
        ),
        (
            b'{"observation":{},"reward":true,"done":false}',
            '{"observation":{},"reward":1.0,"done":false,"metadata":null}',
        ),
        (
            b'{"observation":{}}',
            '{"observation":{},"reward":null,"done":false,"metadata":null}',
        ),
    ],
)
async def test_a_result_has_all_four_keys(playing: Any, payload: bytes, text: str) -> None:
    async with playing(payload) as (address, _):
        reply = await ask(address, "POST", "/reset")

    assert (reply.status, reply.text) == (200, text)


async def test_a_body_that_does_not_fit_opens_no_session(playing: Any) -> None:
    async with playing(RESULT) as (address, hub):
        reply = await ask(address, "POST", "/reset", '{"seed":-1}')

    assert reply.status == 422
    assert reply.text == (
        '{"detail":[{"type":"greater_than_equal","loc":["body","seed"],"msg":"Input should be'
        ' greater than or equal to 0","input":-1,"ctx":{"ge":0}}]}'
    )
    assert hub.sessions == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_and_the_connection_stays(
    playing: Any, chunked: bool
) -> None:
    megabyte = b"x" * (1024 * 1024)

    def exchange(address: str) -> tuple[Reply, Reply]:
        connection = HTTPConnection(address, timeout=30)
        try:
            body = iter([megabyte] * 17) if chunked else megabyte * 17
            connection.request("POST", "/reset", body, JSON, encode_chunked=chunked)
            first = Reply(connection)
            connection.request("GET", "/health")
            return first, Reply(connection)
        finally:
            connection.close()

    async with playing(RESULT) as (address, hub):
        refused, after = await anyio.to_thread.run_sync(exchange, address)

    assert refused.status == 413
    assert refused.json == {"detail": "the body is over 16777216 bytes"}
    assert after.status == 200
    assert hub.sessions == []


async def test_a_client_that_hangs_up_frees_its_session(scripted: Any, served: Any) -> None:
    started = anyio.Event()

    async def never(verb: str, data: bytes) -> bytes:
        started.set()
        await anyio.sleep_forever()
        raise AssertionError("for ever is over")

    hub = scripted(never)
    async with served(hub) as address:
        host, port = address.split(":")
        async with await anyio.connect_tcp(host, int(port)) as client:
            await client.send(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with anyio.fail_after(10):
                await started.wait()
        with anyio.fail_after(10):
            await hub.sessions[0].closed.wait()


# ------------------------------------------------------------------ failures


async def test_only_a_reset_brings_back_an_episode_that_was_lost(
    scripted: Any, served: Any
) -> None:
    """Not a call that began before it was lost, and ended after."""
    reading, may_end = anyio.Event(), anyio.Event()

    async def play(verb: str, data: bytes) -> bytes:
        if verb == "step":
            await reading.wait()
            raise WorkerLost("it ended")
        reading.set()
        await may_end.wait()
        return b"{}"

    create = '{"jsonrpc":"2.0","id":1,"method":"openenv/session/create"}'
    async with served(scripted(play)) as address:
        opened = (await ask(address, "POST", "/mcp", create)).json
        named = f"?session_id={opened['result']['session_id']}"
        replies: list[Reply] = []

        async def read() -> None:
            replies.append(await ask(address, "GET", f"/state{named}"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            lost = await ask(address, "POST", f"/step{named}", '{"action":{}}')
            may_end.set()
        after = await ask(address, "POST", f"/step{named}", '{"action":{}}')

    assert (lost.json["detail"], replies[0].status) == ("it ended", 200)
    assert "reset begins another" in after.json["detail"]


@pytest.mark.parametrize(
    ("reply", "status", "cause"),
    [
        (EnvironmentFailed("secret of the author"), 500, "environment_failed"),
        (DeadlineExceeded("late"), 500, "deadline_exceeded"),
        (InvalidAction("x", detail=b"[]}"), 500, "remote_protocol"),
        (b'{},"x":1', 500, "remote_protocol"),
        (b'{"reward":"many"}', 500, "remote_protocol"),
        (b'{"observation":{},"reward":{}}', 500, "remote_protocol"),
    ],
)
async def test_a_failure_is_a_bare_500_with_its_cause_in_a_header(
    playing: Any, reply: bytes | EnvhubError, status: int, cause: str
) -> None:
    async with playing(reply) as (address, hub):
        found = await ask(address, "POST", "/step", '{"action":{}}')

    assert (found.status, found.text) == (status, "Internal Server Error")
    assert found.headers["envhub-cause"] == cause
    assert hub.sessions[0].closed.is_set()


async def test_an_invalid_action_is_422_with_pydantic_s_list(playing: Any) -> None:
    errors = b'[{"type":"missing","loc":["op"]}]'
    async with playing(InvalidAction("op: missing", detail=errors)) as (address, _):
        found = await ask(address, "POST", "/step", '{"action":{}}')

    assert (found.status, found.text) == (422, f'{{"detail":{errors.decode()}}}')


@pytest.mark.parametrize(
    ("failure", "status", "retry"),
    [(CapacityError("full"), 503, "1"), (WorkerStartFailed("it ended"), 500, None)],
)
async def test_a_session_that_cannot_be_opened(
    playing: Any, failure: EnvhubError, status: int, retry: str | None
) -> None:
    async def refuse() -> None:
        raise failure

    async with playing(RESULT, refuse) as (address, _):
        found = await ask(address, "GET", "/state")

    assert found.status == status
    assert found.headers.get("retry-after") == retry
    assert found.headers["envhub-cause"] == failure.code


@pytest.mark.parametrize("path", ["/envs/plya/health", "/envs/plya/reset", "/envs/plya/schema"])
async def test_an_unknown_environment_is_404_and_names_the_known(
    playing: Any, path: str
) -> None:
    async with playing(RESULT) as (address, _):
        found = await ask(address, "POST" if path.endswith("reset") else "GET", path)

    assert found.status == 404
    assert found.json == {"detail": "no environment `plya`; there is play"}


async def test_without_a_default_environment_the_root_is_404(
    scripted: Any, served: Any
) -> None:
    async def play(verb: str, data: bytes) -> bytes:
        return RESULT

    async with served(scripted(play), default=None) as address:
        root = await ask(address, "GET", "/health")
        named = await ask(address, "GET", "/envs/play/health")

    assert root.status == 404
    assert named.status == 200


# ------------------------------------------------------------------ documents


async def test_the_environments_are_listed(playing: Any) -> None:
    async with playing(RESULT) as (address, _):
        found = await ask(address, "GET", "/envs")

    assert found.json == {
        "environments": [{"name": "play", "description": "A script.", "version": "2.0"}],
        "default": "play",
    }


async def test_a_lying_schema_is_no_schema(playing: Any) -> None:
    async with playing(RESULT) as (address, hub):
        honest = await hub.describe("play")

        async def lie(name: str) -> Any:
            return type(honest)(0, "Play", "", b'{},"x":{}', b"{}", b"{}", b"{}", None)

        hub.describe = lie
        found = await ask(address, "GET", "/schema")

    assert (found.status, found.headers["envhub-cause"]) == (500, "remote_protocol")


def test_the_openapi_document_names_the_routes_and_nothing_else() -> None:
    documented = {
        (path, method)
        for path, methods in openapi.document("")["paths"].items()
        for method in methods
    }
    routes = {
        (route.path, method.lower())
        for route in OPENENV
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }

    assert documented == routes - {("/openapi.json", "get")}


async def test_the_openapi_document_knows_its_prefix(playing: Any) -> None:
    async with playing(RESULT) as (address, _):
        root = await ask(address, "GET", "/openapi.json")
        named = await ask(address, "GET", "/envs/play/openapi.json")

    assert root.json["servers"] == [{"url": "/"}]
    assert named.json["servers"] == [{"url": "/envs/play"}]
    assert named.json["info"]["version"] == "1.0.0"
