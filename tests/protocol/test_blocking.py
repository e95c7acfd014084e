"""The blocking client: threads that share a connection, cuts, interrupts, and its end."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import envhub
from envhub.client.native import bounds
from envhub.errors import (
    Cancelled,
    ConnectionLost,
    EnvhubError,
    EnvironmentFailed,
    HubForked,
    InvalidAction,
    RemoteProtocolError,
    ResetNeeded,
    SessionClosed,
    SessionLost,
)
from envhub.wire import native
from tests.conftest import descriptors
from tests.protocol.conftest import FOLDERS
from tests.protocol.proxy import beside
from tests.protocol.proxy import cutting_beside as cutting
from tests.protocol.test_hostile_hub import observed, opened, pretending
from tests.serving import serving

TEXTS = ["a", "b", "c", "d", "e", "f"]
FOR_EVER = {"code": "import time; time.sleep(600)"}


def program(url: str) -> list[object]:
    """Two sessions beside each other; all that they see."""
    log: list[object] = []
    with envhub.connect(url) as hub:
        envs = [hub.make("chain") for _ in range(2)]
        for seed, env in enumerate(envs):
            log.append(env.reset(seed=seed))
        batch = hub.batch(envs)
        for text in TEXTS:
            log.append(envs[0].step({"text": text}))
            log += batch.step([{"text": text}] * 2)
        log += [env.state for env in envs]
        log += [env.bill.calls for env in envs]
        for env in envs:
            env.close()
    return log


def episode(hub: Any, seed: int, steps: int) -> list[object]:
    """All that a session sees in so many steps."""
    with hub.make("chain") as env:
        log: list[object] = [env.reset(seed=seed)]
        log += [env.step({"text": f"{seed}/{at}"}) for at in range(steps)]
        return log


def tending() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "envhub-tend"]


@contextmanager
def aside(call: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Have a call made by another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


@contextmanager
def on_signal(handler: Callable[[], Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def when_it_runs(hub: Any, env: Any, do: Callable[[], Any]) -> threading.Thread:
    """Have another thread do something once the call of `env` that follows is at the hub."""

    def wait() -> None:
        while not env._channel._calls:
            time.sleep(0.001)
        hub.make("chain").close()  # a round trip later it has been sent
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# ---------------------------------------------------------------- many threads


def test_threads_with_a_session_each_see_what_they_would_see_alone(url: str) -> None:
    with envhub.connect(url) as hub:
        alone = [episode(hub, seed, 40) for seed in range(8)]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda seed: episode(hub, seed, 40), range(8)))

    assert together == alone


def test_a_session_that_takes_long_holds_up_no_other(url: str) -> None:
    with envhub.connect(url) as hub, hub.make("probe") as slow, hub.make("chain") as env:
        slow.reset()
        env.reset(seed=1)
        with aside(lambda: slow.step(FOR_EVER)) as step:
            while not slow._channel._calls:
                time.sleep(0.001)
            for at in range(20):
                assert env.step({"text": "a"}).observation.steps == at + 1
            assert not step.done()
            assert slow.cancel()
            with pytest.raises(Cancelled):
                step.result()
        assert not slow.cancel()
        slow.reset()


def test_threads_that_share_a_session_take_turns(url: str) -> None:
    with envhub.connect(url) as hub, hub.make("chain") as env:
        env.reset(seed=1)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: env.step({"text": "a"}), range(40)))

        assert sorted(result.observation.steps for result in results) == list(range(1, 41))


def test_threads_with_actions_of_megabytes_hinder_nobody(url: str) -> None:
    def play(hub: Any, size: int) -> int:
        with hub.make("chain") as env:
            env.reset(seed=1)
            for _ in range(3):
                result = env.step({"text": "x" * size})
            return int(result.observation.steps)

    with envhub.connect(url) as hub, ThreadPoolExecutor(4) as pool:
        sizes = [12_000_000, 1, 6_000_000, 10]
        assert list(pool.map(lambda size: play(hub, size), sizes)) == [3] * 4


# ---------------------------------------------------------------- batches


def test_the_first_that_are_ready_come_first(url: str) -> None:
    with envhub.connect(url) as hub:
        envs = [hub.make("chain") for _ in range(4)]
        slow = hub.make("probe")
        for env in (*envs, slow):
            env.reset()
        batch = hub.batch([*envs, slow], first=2)
        batch.send({**{env: {"text": "a"} for env in envs}, slow: FOR_EVER})
        ready = batch.recv()
        while len(ready) < 4:
            ready |= batch.recv(1)
        assert set(ready) == set(envs)
        with pytest.raises(EnvhubError, match="under way"):
            batch.send({slow: FOR_EVER})
        assert slow.cancel()
        assert isinstance(batch.recv()[slow], Cancelled)
        assert batch.recv() == {}


def test_of_a_batch_one_failure_is_its_own(url: str) -> None:
    with envhub.connect(url) as hub:
        envs = [hub.make("chain") for _ in range(3)]
        for env in envs[:2]:
            env.reset()
        outcomes = hub.batch(envs).step([{"text": "a"}, {"no": 1}, {"text": "a"}])

        assert isinstance(outcomes[1], InvalidAction)
        assert isinstance(outcomes[2], ResetNeeded)
        assert not isinstance(outcomes[0], EnvhubError)


# ---------------------------------------------------------------- cuts


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(after=st.lists(st.integers(0, 6000), min_size=1, max_size=5))
def test_a_program_cannot_tell_that_its_connection_was_cut(url: str, after: list[int]) -> None:
    undisturbed = program(url)
    with cutting(url, [700 + after[0], *after[1:]]) as (cut_url, _, _):
        disturbed = program(cut_url)

    assert disturbed == undisturbed


def test_a_step_that_runs_during_the_cut_is_carried_out_once(url: str) -> None:
    with cutting(url) as (cut_url, cutter, call), envhub.connect(cut_url) as hub:
        with hub.make("chain") as env:
            env.reset(seed=1)
            pid = env.pid
            cut = when_it_runs(hub, env, lambda: call(cutter.cut))
            result = env.step({"text": "slow", "takes_s": 1.0})
            cut.join()

            assert (result.observation.steps, env.state.step_count) == (1, 1)
            assert env.pid == pid


def test_threads_go_on_over_cuts(url: str) -> None:
    with envhub.connect(url) as hub:
        alone = [episode(hub, seed, 60) for seed in range(4)]
    after = [random.Random(3).randrange(2000, 9000) for _ in range(6)]
    with cutting(url, after) as (cut_url, cutter, _), envhub.connect(cut_url) as hub:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda seed: episode(hub, seed, 60), range(4)))

        assert cutter.cuts > 1
    assert together == alone


def test_a_hub_that_was_restarted_has_lost_the_session_and_says_so() -> None:
    envs = [word for folder in FOLDERS for word in ("--envs", folder)]
    envs += ["--env", "chain", "--drain-s", "0"]
    with serving(*envs) as first, serving(*envs) as second, cutting(first) as cut:
        url, cutter, call = cut
        with envhub.connect(url) as hub:
            env = hub.make("chain")
            env.reset(seed=1)
            call(cutter.move, second)
            call(cutter.cut)
            with pytest.raises(SessionLost):
                while True:
                    env.step({"text": "a"})
            with pytest.raises(SessionLost):
                env.step({"text": "a"})

            assert env.reset(seed=1).observation.steps == 0
            assert env.step({"text": "a"}).observation.steps == 1
            env.close()


def test_without_a_connection_a_call_fails_and_the_next_tries_again(url: str) -> None:
    with cutting(url) as (cut_url, cutter, call):
        with envhub.connect(cut_url, reconnect_s=0.05) as hub, hub.make("chain") as env:
            env.reset(seed=1)
            call(cutter.refuse, True)
            call(cutter.cut)
            with suppress(ConnectionLost):
                while env.step({"text": "a"}):
                    pass  # until it is cut
            for _ in range(native.WINDOW + 4):
                with pytest.raises(ConnectionLost):
                    env.step({"text": "a"})
            call(cutter.refuse, False)
            while True:
                with suppress(ConnectionLost):
                    before = env.state.step_count
                    break

            assert env.step({"text": "b"}).observation.steps == before + 1


# ---------------------------------------------------------------- interrupts


def test_a_call_that_is_interrupted_is_stopped_and_the_session_goes_on(url: str) -> None:
    with envhub.connect(url) as hub, hub.make("probe") as env, hub.make("chain") as other:
        env.reset()
        other.reset(seed=1)
        other.step({"text": "a"})
        interrupt = when_it_runs(hub, env, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            env.step(FOR_EVER)
        interrupt.join()

        with pytest.raises((ResetNeeded, Cancelled)):
            env.step({"code": ""})
        assert env.reset(seed=3).observation["seed"] == 3
        assert other.step({"text": "a"}).observation.steps == 2


def test_interrupts_at_any_moment_hurt_no_other_thread(url: str) -> None:
    class Now(BaseException):
        pass

    def interrupt() -> None:
        raise Now

    over = threading.Event()

    def beside_it(env: Any) -> int:
        count = 0
        while not over.is_set():
            count += 1
            assert env.step({"text": "a"}).observation.steps == count
        return count

    chance = random.Random(5)
    with envhub.connect(url) as hub, hub.make("chain") as env, hub.make("chain") as other:
        other.reset(seed=1)
        with on_signal(interrupt), aside(lambda: beside_it(other)) as playing:
            interrupted = 0
            try:
                while interrupted < 60:
                    try:
                        env.reset(seed=2)
                        signals = threading.Timer(
                            chance.random() * 0.01, os.kill, (os.getpid(), signal.SIGUSR1)
                        )
                        signals.start()
                        while True:
                            env.step({"text": "b"})
                    except Now:
                        interrupted += 1
                    assert not playing.done()
            finally:
                over.set()
            assert playing.result() > 60
        again = env.reset(seed=2)
        assert again.observation.steps == 0
        assert env.step({"text": "b"}).observation.steps == 1


@pytest.mark.parametrize("ended", ["cancel", "close", "hang up"])
def test_a_handler_of_signals_may_end_the_call_that_it_interrupts(url: str, ended: str) -> None:
    with envhub.connect(url) as hub, hub.make("probe") as env:
        env.reset()
        do = {"cancel": env.cancel, "close": env.close, "hang up": hub.close}[ended]
        error = {"cancel": Cancelled, "close": SessionClosed, "hang up": ConnectionLost}[ended]
        with on_signal(do):
            kill = when_it_runs(hub, env, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            with pytest.raises(error):
                env.step(FOR_EVER)
            kill.join()


def test_an_open_that_is_interrupted_keeps_no_place() -> None:
    envs = ("--envs", "tests/protocol/envs", "--env", "chain", "--drain-s", "0")
    with serving(*envs, "--max-sessions", "1") as url, envhub.connect(url) as hub:
        first = hub.make("chain")
        first.reset()

        def interrupt() -> None:
            first.step({"text": "a"})  # a round trip later it waits
            os.kill(os.getpid(), signal.SIGINT)

        with aside(interrupt), pytest.raises(KeyboardInterrupt):
            hub.make("chain")
        first.close()
        hub.make("chain").close()


# ---------------------------------------------------------------- the end


def test_closing_the_hub_ends_the_calls_of_others(url: str) -> None:
    before = len(tending())
    with envhub.connect(url) as hub:
        envs = [hub.make("probe") for _ in range(3)]
        for env in envs:
            env.reset()
        with ThreadPoolExecutor(3) as pool:
            steps = [pool.submit(env.step, FOR_EVER) for env in envs]
            when_it_runs(hub, envs[-1], hub.close).join()
            for step in steps:
                with pytest.raises(ConnectionLost):
                    step.result()
        with pytest.raises(ConnectionLost):
            envs[0].step({})
        with pytest.raises(ConnectionLost):
            hub.make("probe")
        hub.close()

    assert len(tending()) == before


def test_closing_a_session_ends_the_call_of_another_thread(url: str) -> None:
    with envhub.connect(url) as hub, hub.make("probe") as env:
        env.reset()
        with aside(lambda: env.step(FOR_EVER)) as step:
            when_it_runs(hub, env, env.close).join()
            with pytest.raises(SessionClosed):
                step.result()
        assert env.bill.calls >= 1


def test_a_hub_that_nobody_has_any_more_leaves_nothing(url: str) -> None:
    threads, before = tending(), descriptors()
    hub: Any = envhub.connect(url).sync()
    env: Any = hub.make("chain")
    env.reset()
    (thread,) = set(tending()) - set(threads)
    assert descriptors() > before
    del hub
    gc.collect()
    env.step({"text": "a"})  # its session goes on
    del env
    gc.collect()
    thread.join()

    assert descriptors() == before


def test_in_a_fork_nothing_is_said_and_the_parent_goes_on(url: str) -> None:
    with envhub.connect(url) as hub, hub.make("chain") as env:
        env.reset(seed=1)
        with warnings.catch_warnings():  # Python's, of forks beside threads
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            code = 1
            try:
                env.step({"text": "a"})
            except HubForked:
                env.close()
                hub.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert env.step({"text": "a"}).observation.steps == 1


# ---------------------------------------------------------------- hubs that lie


@pytest.mark.parametrize("said", [1002, 1009, b"\xc1", b"\x91\x92\xa6closed\xa1x"])
def test_what_is_not_taken_is_not_said_again(said: bytes | int) -> None:
    resets: list[int] = []

    def answer(request: native.Request, _: object) -> list[native.Reply] | bytes | int:
        if isinstance(request, native.Reset):
            resets.append(request.session)
            return said if resets.count(request.session) == len(resets) else [observed(request)]
        return [opened(request)] if isinstance(request, native.Open) else []

    with beside(pretending(answer)) as (url, _), envhub.connect(url) as hub:
        env = hub.make("echo")
        with pytest.raises(RemoteProtocolError):
            env.reset()
        with pytest.raises(RemoteProtocolError):
            env.step({})
        hub.make("echo").reset()

    assert len(resets) == 2


def test_a_hub_that_answers_nothing_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(request: native.Request, _: object) -> list[native.Reply]:
        limits = {"step_s": 0.001, "close_s": 0.001}
        return [opened(request, limits)] if isinstance(request, native.Open) else []

    monkeypatch.setattr(bounds, "MARGIN_S", 0.1)
    monkeypatch.setattr(bounds.allowed_s, "__defaults__", (0.1,))
    monkeypatch.setattr(bounds, "CLOSE_S", 0.1)
    with beside(pretending(answer)) as (url, _), envhub.connect(url) as hub:
        with hub.make("echo") as env:
            with pytest.raises(ConnectionLost, match="in time"):
                env.bill  # noqa: B018
            for _ in range(2):
                with pytest.raises(ConnectionLost, match="in time"):
                    env.step({})
            (late,) = hub.batch([env]).step([{}])
            assert isinstance(late, ConnectionLost)


def test_what_an_environment_raises_arrives(url: str) -> None:
    with envhub.connect(url) as hub, hub.make("probe") as env:
        env.reset()
        with pytest.raises(EnvironmentFailed, match="mine"):
            env.step({"code": "raise ValueError('mine')"})
