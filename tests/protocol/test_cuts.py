"""Our client over connections that are cut: it goes on as if they were not."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import envhub
from envhub.errors import ConnectionLost, EnvhubError, SessionLost, UsageError
from tests.protocol.conftest import FOLDERS
from tests.protocol.proxy import cutting
from tests.serving import serving

TEXTS = ["a", "b", "c", "d", "e", "f"]


async def program(url: str) -> list[object]:
    """Two sessions beside each other; all that they see."""
    log: list[object] = []
    async with envhub.connect(url) as hub:
        envs = [await hub.open("chain") for _ in range(2)]
        for seed, env in enumerate(envs):
            log.append(await env.reset(seed=seed))
        batch = hub.batch(envs)
        for text in TEXTS:
            log.append(await envs[0].step({"text": text}))
            log += await batch.step([{"text": text}] * 2)
        log += [await env.state() for env in envs]
        for env in envs:
            await env.aclose()
    return log


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(after=st.lists(st.integers(0, 6000), min_size=1, max_size=8))
def test_a_program_cannot_tell_that_its_connection_was_cut(url: str, after: list[int]) -> None:
    async def run() -> tuple[list[object], list[object]]:
        async with cutting(url, [700 + after[0], *after[1:]]) as (cut_url, _):
            return await program(url), await program(cut_url)

    undisturbed, disturbed = asyncio.run(run())

    assert disturbed == undisturbed


async def test_a_step_that_runs_during_the_cut_is_carried_out_once(url: str) -> None:
    async with cutting(url) as (cut_url, cutter), envhub.connect(cut_url) as hub:
        async with hub.session("chain") as env:
            await env.reset(seed=1)
            pid = env.pid
            step = asyncio.create_task(env.step({"text": "slow", "takes_s": 0.5}))
            await hub.describe("chain")  # a round trip later it has been sent
            cutter.cut()
            result = await step

            assert (result.observation.steps, (await env.state()).step_count) == (1, 1)
            assert env.pid == pid


async def test_a_hub_that_was_restarted_has_lost_the_session_and_says_so() -> None:
    envs = [word for folder in FOLDERS for word in ("--envs", folder)]
    envs += ["--env", "chain", "--drain-s", "0"]
    with serving(*envs) as first, serving(*envs) as second:
        servers = iter([first, second])
        async with cutting(next(servers)) as (url, cutter), envhub.connect(url) as hub:
            env = await hub.open("chain")
            await env.reset(seed=1)
            cutter.move(next(servers))
            cutter.cut()
            with pytest.raises(SessionLost):
                await env.step({"text": "a"})
            with pytest.raises(SessionLost):
                await env.step({"text": "a"})
            cutter.cut()  # what opens the session anew is lost, and must be said again
            async with asyncio.timeout(60):
                again = await env.reset(seed=1)

            assert again.observation.steps == 0
            assert (await env.step({"text": "a"})).observation.steps == 1
            await env.aclose()


async def test_without_a_connection_a_call_fails_in_time_and_the_next_tries_again(
    url: str,
) -> None:
    async with cutting(url) as (cut_url, cutter):
        async with envhub.connect(cut_url, reconnect_s=0.2) as hub:
            async with hub.session("chain") as env:
                await env.reset(seed=1)
                cutter.refuse(True)
                cutter.cut()
                with pytest.raises(ConnectionLost):
                    await env.step({"text": "a"})
                cutter.refuse(False)
                result = await env.step({"text": "b"})

                # whether the first was carried out was not known: it was, once
                assert result.observation.steps == 2


async def test_nobody_at_the_address_is_an_error_at_once() -> None:
    with pytest.raises(ConnectionLost, match=r"no connection to ws://127\.0\.0\.1:1"):
        async with envhub.connect("http://127.0.0.1:1"):
            pass


@pytest.mark.parametrize("url", ["ftp://x", "", "http://x?token=secret"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        envhub.connect(url)


async def test_a_cancelled_step_is_stopped_at_the_hub(url: str) -> None:
    async with envhub.connect(url) as hub, hub.session("probe") as env:
        await env.reset()
        step = asyncio.create_task(env.step({"code": "import time; time.sleep(60)"}))
        await hub.describe("chain")  # a round trip later it has been sent
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

        assert (await env.reset()).reward is None


async def test_a_batch_gives_the_first_that_are_ready(url: str) -> None:
    async with envhub.connect(url) as hub:
        envs = [await hub.open("chain") for _ in range(4)]
        for env in envs:
            await env.reset(seed=0)
        batch = hub.batch(envs, first=3)
        slow, *fast = envs
        batch.send({env: {"text": "x", "takes_s": 1.0 if env is slow else 0} for env in envs})
        first = await batch.recv()
        with pytest.raises(UsageError):
            batch.send({slow: {"text": "y"}})
        rest = await batch.recv()

        assert (set(first), set(rest)) == (set(fast), {slow})
        assert await batch.recv() == {}
        outcomes = await batch.step([{"text": "z"}, {"no": 1}, {"text": "z"}, {"text": "z"}])
        assert [isinstance(outcome, EnvhubError) for outcome in outcomes] == [
            False, True, False, False,
        ]  # fmt: skip
        for env in envs:
            await env.aclose()
