"""The blocking API: the same sessions, polled from the caller's thread."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import envhub
from envhub.errors import (
    DeadlineExceeded,
    EnvironmentFailed,
    HubForked,
    InvalidOption,
    LimitExceeded,
    ResetNeeded,
    SessionClosed,
    WorkerLost,
)
from envhub.hub.embedded import EmbeddedSession
from envhub.hub.make import close_hubs

ENVS = Path(__file__).parent / "envs"


def make(name: str = "probe", **options: Any) -> EmbeddedSession:
    return envhub.make(name, envs=ENVS, **options)


def test_reset_step_state_and_receipt() -> None:
    with make() as env:
        first = env.reset(seed=7, note="hi")
        result = env.step({"code": "result = {'x': 1, 'reward': 0.5, 'done': True}"})

        assert (first.observation.seed, first.observation.note) == (7, "hi")
        assert (result.observation.x, result.reward, result.done) == (1, 0.5, True)
        assert env.state == {"resets": 1}
        assert "seccomp" in env.receipt.seen


def test_misuse_and_failure_are_typed_and_the_session_goes_on() -> None:
    with make() as env:
        with pytest.raises(ResetNeeded):
            env.step({"code": ""})
        with pytest.raises(InvalidOption):
            env.reset(nope=1)
        env.reset()
        with pytest.raises(EnvironmentFailed, match="trouble"):
            env.step({"code": "raise ValueError('trouble')"})
        with pytest.raises(WorkerLost, match="exited with code 5"):
            env.step({"code": "import os; os._exit(5)"})
        with pytest.raises(LimitExceeded, match="printing too much"):
            env.reset()
            env.step({"code": "while True: print('x' * 1000)"})

        assert env.reset().observation.resets == 1


def test_a_step_past_its_deadline_is_killed_with_its_output_kept() -> None:
    with make("waits") as env:
        env.reset()
        with pytest.raises(DeadlineExceeded) as caught:
            env.step({"wait_s": 60})

        assert caught.value.output == "about to wait\n"
        env.reset()


def test_what_is_printed_before_a_reply_is_that_calls_output() -> None:
    """However it is printed, and however soon the reply follows; and no other call's."""
    with make() as env:
        env.reset()
        for n in range(300):
            env.step({"code": f"import os\nos.write({1 + n % 2}, b'{n}')\nprint(' and {n}')"})
            assert env.output == f"{n} and {n}\n"
            env.step({"code": ""})
            assert env.output == ""


def test_output_that_is_there_together_with_the_reply_is_read_too() -> None:
    with make() as env:
        env.reset()
        poll = env._poll
        assert poll is not None
        look = poll._look

        def look_when_all_is_there(most_ms: float | None = None, /) -> list[tuple[int, int]]:
            if most_ms:
                select.select([poll.process.channel], [], [])
            return look(most_ms)

        poll._look = look_when_all_is_there
        env.step({"code": "print('there')"})

        assert env.output == "there\n"


def test_output_of_a_whole_pipe_is_read_with_its_reply() -> None:
    with make() as env:
        env.reset()
        for length in (65_535, 65_536, 65_537, 200_000):
            env.step({"code": f"print('x' * {length - 1})"})
            assert env.output == "x" * min(length - 1, 65_535) + "\n"


def test_large_actions_and_observations_pass() -> None:
    with make() as env:
        env.reset()
        text = "x" * 3_000_000
        result = env.step({"code": f"big = '{text}'; result = {{'big': big}}"})

        assert result.observation.big == text


def test_pristine_gives_each_episode_a_process_of_its_own() -> None:
    with make("waits") as env:
        env.reset()
        pid = env.pid
        env.reset()

        assert env.pid != pid


def test_sessions_of_several_threads_share_a_hub() -> None:
    results: list[int] = []

    def play(number: int) -> None:
        with make() as env:
            env.reset()
            results.append(env.step({"code": f"result = {{'n': {number}}}"}).observation.n)

    threads = [threading.Thread(target=play, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == list(range(8))


def test_an_interrupted_step_ends_its_process_and_the_session_goes_on() -> None:
    with make() as env:
        env.reset()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            env.step({"code": "import time; time.sleep(600)"})
        timer.join()

        assert env.reset().observation.resets == 1


def test_after_a_fork_the_hub_is_a_typed_error_in_the_child() -> None:
    with make() as env:
        env.reset()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                env.step({"code": ""})
            except HubForked:
                os.write(write, b"forked")
            finally:
                env.close()  # must not end the parent's session
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as said:
            assert said.read() == b"forked"
        os.waitpid(child, 0)

        assert env.step({"code": "result = {'ok': 1}"}).observation.ok == 1


def test_a_closed_session_and_a_closed_hub_say_so() -> None:
    env = make()
    env.close()
    env.close()
    with pytest.raises(SessionClosed):
        env.reset()
    other = make()
    close_hubs()
    with pytest.raises((SessionClosed, WorkerLost)):
        other.reset()
    other.close()


def test_the_same_program_gives_the_same_trajectory_both_ways() -> None:
    import asyncio

    actions = ["result = {'n': self.names['resets']}", "result = {'reward': 1, 'done': True}"]
    with make() as env:
        blocking = [env.reset(seed=3), *(env.step({"code": code}) for code in actions)]

    async def play() -> list[envhub.StepResult]:
        async with envhub.Hub(ENVS) as hub, hub.session("probe") as env:
            first = await env.reset(seed=3)
            return [first, *[await env.step({"code": code}) for code in actions]]

    assert asyncio.run(play())[1:] == blocking[1:]
