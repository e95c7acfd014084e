"""Our client against hubs, networks and habits of its own that it cannot rely on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

import envhub
from envhub.client.native import bounds
from envhub.errors import ConnectionLost, InvalidAction, RemoteProtocolError
from envhub.wire import native
from tests.protocol.proxy import cutting
from tests.serving import serving

PATIENCE_S = 10.0
LIMITS = {"reset_s": 10.0, "step_s": 10.0, "state_s": 10.0, "close_s": 1.0}
Said = list[native.Reply] | bytes | int
Answering = Callable[[native.Request, ServerConnection], Said]


@asynccontextmanager
async def pretending(answering: Answering) -> AsyncIterator[str]:
    """Hold a hub that says what a test wants said: replies, bytes, or a close code."""

    async def talk(connection: ServerConnection) -> None:
        async for data in connection:
            assert isinstance(data, bytes)
            for request in native.requests(data).requests:
                said = answering(request, connection)
                if isinstance(said, int):
                    await connection.close(said)
                    return
                if isinstance(said, bytes):
                    await connection.send(said)
                elif said:
                    await connection.send(native.joined([native.encode(r) for r in said]))

    subprotocols = [native.VERSION]
    async with serve(talk, "127.0.0.1", 0, subprotocols=subprotocols) as server:  # type: ignore[arg-type]
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}"


def opened(request: native.Request, limits: dict[str, float] | None = None) -> native.Opened:
    limits = LIMITS if limits is None else limits
    return native.Opened(request.session, "echo", "1.0.0", 0, 60.0, limits)


def observed(request: native.Numbered) -> native.Observed:
    empty = b"\x80"
    return native.Observed(
        request.session, request.op, empty, None, False, False, empty, False, ""
    )


@pytest.mark.parametrize("said", [1002, 1009, b"\xc1", b"\x91\x92\xa6closed\xa1x"])
async def test_what_is_not_taken_is_not_said_again(said: bytes | int) -> None:
    resets: list[int] = []

    def answer(
        request: native.Request, _: ServerConnection
    ) -> list[native.Reply] | bytes | int:
        if isinstance(request, native.Reset):
            resets.append(request.session)
            return said if resets.count(request.session) == len(resets) else [observed(request)]
        return [opened(request)] if isinstance(request, native.Open) else []

    async with pretending(answer) as url, envhub.connect(url) as hub:
        env = await hub.open("echo")
        with pytest.raises(RemoteProtocolError):
            await asyncio.wait_for(env.reset(), PATIENCE_S)
        with pytest.raises(RemoteProtocolError):
            await env.step({})
        other = await hub.open("echo")
        await asyncio.wait_for(other.reset(), PATIENCE_S)

    assert len(resets) == 2


async def test_a_hub_that_hangs_up_on_everybody_is_asked_ever_more_slowly() -> None:
    came: list[float] = []
    enough = asyncio.Event()

    def answer(
        request: native.Request, connection: ServerConnection
    ) -> list[native.Reply] | int:
        if isinstance(request, native.Open):
            return [opened(request)]
        came.append(asyncio.get_running_loop().time())
        if len(came) == 6:
            enough.set()
        return 1011

    async with pretending(answer) as url, envhub.connect(url) as hub:
        env = await hub.open("echo")
        reset = asyncio.create_task(env.reset())
        await asyncio.wait_for(enough.wait(), PATIENCE_S)
        reset.cancel()

    assert came[5] - came[4] > 0.3


@pytest.mark.parametrize("step_s", [math.nan, math.inf, -1.0, 1e308, None])
async def test_limits_that_mean_nothing_hinder_nobody(step_s: float | None) -> None:
    limits = {} if step_s is None else dict.fromkeys(LIMITS, step_s)

    def answer(request: native.Request, _: ServerConnection) -> Said:
        if isinstance(request, native.Open):
            return [opened(request, limits), opened(request)]
        if isinstance(request, native.Reset):
            wrong = native.Reset(request.session, 99, 0, b"")
            return [observed(wrong), observed(request), observed(request)]
        return [native.Closed(request.session)] if isinstance(request, native.Close) else []

    async with pretending(answer) as url, envhub.connect(url) as hub:
        env = await hub.open("echo")
        await env.reset()
        await asyncio.wait_for(env.aclose(), PATIENCE_S)


async def test_a_hub_that_never_tells_a_bill_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(request: native.Request, _: ServerConnection) -> Said:
        return [opened(request)] if isinstance(request, native.Open) else []

    monkeypatch.setattr(bounds, "MARGIN_S", 0.1)
    async with pretending(answer) as url, envhub.connect(url) as hub:
        env = await hub.open("echo")
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(env.bill(), PATIENCE_S)


async def test_an_open_that_is_cancelled_keeps_no_place() -> None:
    async with (
        serving_one() as url,
        envhub.connect(url) as hub,
    ):
        first = await hub.open("chain")
        second = asyncio.create_task(hub.open("chain"))
        third = asyncio.create_task(hub.open("chain"))
        await asyncio.sleep(0)
        await first.reset()  # a round trip later they wait
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await first.aclose()
        env = await asyncio.wait_for(third, PATIENCE_S)
        await env.aclose()


@asynccontextmanager
async def serving_one() -> AsyncIterator[str]:
    envs = ("--envs", "tests/protocol/envs", "--env", "chain", "--drain-s", "0")
    with serving(*envs, "--max-sessions", "1") as url:
        yield url


async def test_large_actions_of_one_moment_are_not_too_large_together(url: str) -> None:
    async with envhub.connect(url) as hub:
        envs = [await hub.open("chain") for _ in range(2)]
        for env in envs:
            await env.reset(seed=1)
        steps = [
            env.step({"text": "x" * size})
            for env, size in zip(envs, [7_000_000, 12_000_000], strict=True)
        ]
        results = await asyncio.wait_for(asyncio.gather(*steps), PATIENCE_S)
        for env in envs:
            await env.aclose()

        assert [result.observation.steps for result in results] == [1, 1]


async def test_many_calls_that_were_given_up_leave_the_session_usable(url: str) -> None:
    async with cutting(url) as (cut_url, cutter):
        async with envhub.connect(cut_url, reconnect_s=0.01) as hub:
            async with hub.session("chain") as env:
                await env.reset(seed=1)
                cutter.refuse(True)
                cutter.cut()
                for _ in range(native.WINDOW + 4):
                    with pytest.raises(ConnectionLost):
                        await env.step({"text": "a"})
                cutter.refuse(False)
                result = await asyncio.wait_for(env.step({"text": "b"}), PATIENCE_S)

                assert result.observation.steps == native.WINDOW + 1


async def test_many_calls_that_are_cancelled_leave_the_session_usable(url: str) -> None:
    async with envhub.connect(url) as hub, hub.session("probe") as env:
        await env.reset()
        for _ in range(2 * native.WINDOW):
            step = asyncio.create_task(env.step({"code": "import time; time.sleep(60)"}))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step

        assert (await asyncio.wait_for(env.reset(seed=3), PATIENCE_S)).observation["seed"] == 3


async def test_what_one_environment_says_too_much_of_hurts_no_other_session(url: str) -> None:
    code = "from envhub.errors import *; raise InvalidAction('no', detail=b'x' * 300000)"
    async with envhub.connect(url) as hub:
        async with hub.session("probe") as env, hub.session("chain") as other:
            await env.reset()
            await other.reset(seed=1)
            with pytest.raises(InvalidAction):
                await asyncio.wait_for(env.step({"code": code}), PATIENCE_S)

            assert (await other.step({"text": "a"})).observation.steps == 1
