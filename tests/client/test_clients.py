"""Our clients of OpenEnv's wire, against a server of its own: WebSocket and HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import envhub
from envhub import EnvClient, HTTPEnvClient, StepResult
from envhub.errors import (
    CapacityError,
    DeadlineExceeded,
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    UsageError,
    WorkerLost,
)
from tests.serving import serving

Make = Callable[[str], Any]
BLOCKING: list[Make] = [lambda url: EnvClient(url).sync(), HTTPEnvClient]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    folders = ("--envs", "envs", "--envs", "tests/door/envs")
    with serving(*folders, "--default", "echo", "--cap", "step_s=2") as url:
        yield url


@pytest.mark.parametrize("make", BLOCKING, ids=["websocket", "http"])
class TestBlocking:
    def test_an_episode(self, url: str, make: Make) -> None:
        with make(f"{url}/envs/echo") as env, make(url) as other:
            first = env.reset(seed=7)
            other.reset(seed=8)
            second = env.step({"message": "hello"})
            state = env.state()
            over = env.step({"message": "bye"})

            assert other.state().step_count == 0
        assert (first.observation.message, first.reward, first.done) == ("seed 7", None, False)
        assert (second.observation.message, second.reward) == ("hello", 5.0)
        assert (state.step_count, over.terminated, over.truncated) == (1, True, False)

    @pytest.mark.parametrize(
        ("action", "kind", "words"),
        [
            ({"op": 3}, InvalidAction, "valid string - at `op`"),
            ({"op": "raise"}, EnvironmentFailed, "boom key"),
            ({"op": "os_exit"}, WorkerLost, "exit"),
            ({"op": "hang"}, DeadlineExceeded, "not answered within"),
            ({"op": object()}, UsageError, "cannot be sent"),
        ],
    )
    def test_what_goes_wrong_is_typed_and_the_session_goes_on(
        self, url: str, make: Make, action: Any, kind: type[EnvhubError], words: str
    ) -> None:
        with make(f"{url}/envs/probe") as env:
            env.reset()
            with pytest.raises(kind, match=words):
                env.step(action)
            env.reset(seed=3)

            assert env.step({"op": "say"}).done is False

    def test_a_lost_episode_is_not_stepped_on(self, url: str, make: Make) -> None:
        with make(f"{url}/envs/probe") as env:
            env.reset()
            with pytest.raises(WorkerLost):
                env.step({"op": "os_exit"})
            with pytest.raises(WorkerLost, match="reset begins another"):
                env.step({"op": "say"})

    def test_nobody_listening_is_said(self, make: Make) -> None:
        with pytest.raises(WorkerLost, match=r"connection to http://127\.0\.0\.1:1 is lost"):
            make("http://127.0.0.1:1").reset()

    def test_an_address_must_be_one(self, make: Make) -> None:
        with pytest.raises(UsageError, match="expected an address"):
            make("ftp://127.0.0.1")


async def test_the_asynchronous_client_plays(url: str) -> None:
    async with EnvClient(f"{url}/envs/echo") as env, env.new_session() as other:
        first = await env.reset(seed=7)
        await other.reset(seed=8)
        await asyncio.gather(*(e.step({"message": "hello"}) for e in (env, other)))

        assert (await env.state()).step_count == 1
        assert first.observation.message == "seed 7"


async def test_a_late_reply_is_never_taken_for_the_next_one(url: str) -> None:
    """Upstream's client opens another session in silence; here a reset says so."""
    async with EnvClient(f"{url}/envs/probe") as first:
        await first.reset()  # its worker may take longer to start than the other waits
    async with EnvClient(f"{url}/envs/probe", message_timeout_s=0.5) as env:
        await env.reset()
        with pytest.raises(DeadlineExceeded, match=r"0\.5 s"):
            await env.step({"op": "hang"})
        with pytest.raises(WorkerLost, match="reset begins another"):
            await env.state()

        assert (await env.reset(seed=3)).observation.text.startswith("reset seed=3")


async def test_a_client_may_parse_in_its_own_way(url: str) -> None:
    class Echo(EnvClient):
        def _step_payload(self, action: Any) -> dict[str, Any]:
            return {"message": action}

        def _parse_result(self, payload: dict[str, Any]) -> StepResult:
            return StepResult(payload["observation"]["message"].upper())

        def _parse_state(self, payload: dict[str, Any]) -> int:
            return int(payload["step_count"])

    async with Echo(f"{url}/envs/echo") as env:
        await env.reset()

        assert (await env.step("hello")).observation == "HELLO"
        assert await env.state() == 1


def test_a_full_server_says_how_full() -> None:
    with serving("--env", "echo", "--max-sessions", "1", "--queue-s", "0.1") as url:
        with EnvClient(url).sync() as env:
            env.reset()
            websocket, http = EnvClient(url).sync(), HTTPEnvClient(url)
            for other in (websocket, http):
                with pytest.raises(CapacityError) as full:
                    other.reset()
                assert (full.value.active, full.value.limit) == (1, 1)
                other.close()


def test_a_client_is_quick_to_import() -> None:
    """No hub, no web framework, no pydantic."""
    code = (
        "import sys, envhub; envhub.EnvClient, envhub.HTTPEnvClient; print([m for m in"
        " ('anyio', 'pydantic', 'starlette', 'uvicorn', 'envhub.hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.strip() == "[]", done.stderr


def test_docker_is_not_there_and_what_is_is_named() -> None:
    with pytest.raises(UsageError) as refused:
        envhub.EnvClient.from_docker_image("echo-env:latest")

    assert "EnvHubProvider" in refused.value.hint
