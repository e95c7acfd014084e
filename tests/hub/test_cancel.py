"""A call is stopped from beside: by its environment, or by the end of its process."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import envhub
from envhub import EmbeddedSession, Hub, Session
from envhub.errors import Cancelled, EnvhubError, EnvironmentFailed, SessionClosed
from envhub_sandbox import landlock
from tests.hub.conftest import ENVS

TIERS = [
    "strict",
    "standard",
    *(["uid"] if os.geteuid() == 0 else []),
    *(["landlock"] if landlock.version() >= 6 else []),
    "none",
]
ASKED = ["cancels", "cancels_async", "cancels_beside"]
ROUNDS = 200  # of a cancel that meets a reply
_numbers = itertools.count()


def marked(how: str) -> tuple[str, dict[str, str]]:
    """An action, and what its step prints when it has begun."""
    mark = f"begun {next(_numbers)}\n"
    if how == "busy":
        return mark, {"code": f"print({mark!r}, end='', flush=True)\nwhile True: pass"}
    return mark, {"how": how, "mark": mark.strip()}


@asynccontextmanager
async def under_way(session: Session, how: str) -> AsyncIterator[list[Any]]:
    """Take a step beside the block, which is entered once the environment is in it."""
    came: list[Any] = []
    mark, action = marked(how)

    async def step() -> None:
        try:
            came.append(await session.step(action))
        except EnvhubError as error:
            came.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(step)
        while not came and mark not in session.output:
            await anyio.lowlevel.checkpoint()
        yield came


@contextmanager
def beside(env: EmbeddedSession, how: str, do: Any) -> Iterator[dict[str, str]]:
    """Do something in another thread once the environment is in the step of the block."""
    mark, action = marked(how)
    over = threading.Event()

    def cancel() -> None:
        while not over.is_set():
            if mark in env.output:
                do()
                return

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield action
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("tier", TIERS)
async def test_without_a_cancel_of_its_own_the_process_is_killed(tier: str) -> None:
    async with Hub(ENVS, isolation=tier, exactly=True) as hub:
        async with hub.session("probe") as session, hub.session("probe") as neighbour:
            await neighbour.reset()
            pid = (await session.reset()).observation.pid, session.pid
            async with under_way(session, "busy") as came:
                assert session.cancel() is True

            (error,) = came
            assert isinstance(error, Cancelled)
            assert (error.verdict, error.limit) == ("cancelled", "")
            assert error.output.startswith("begun")
            assert not error.retryable
            again = await session.reset()
            assert again.observation.resets == 1
            assert (again.observation.pid, session.pid) != pid
            await neighbour.step({"code": "result = {'ok': 1}"})
            assert (await neighbour.state()).resets == 1


@pytest.mark.parametrize(
    ("name", "tier"),
    [*(("cancels", tier) for tier in TIERS), *((n, "strict") for n in ASKED[1:])],
)
async def test_an_environment_that_leaves_goes_on_in_its_process(name: str, tier: str) -> None:
    async with Hub(ENVS, isolation=tier, exactly=True) as hub, hub.session(name) as session:
        await session.reset()
        pid = session.pid
        for number in (1, 2):
            async with under_way(session, "flag") as came:
                assert session.cancel() is True
                assert session.cancel() is True  # and asks no second time

            assert came[0].observation["steps"] == number
        state = await session.state()

        assert (state.steps, state.asked) == (2, 2)
        assert session.pid == pid


@pytest.mark.parametrize("name", ASKED[:2])
@pytest.mark.parametrize("how", ["raise", "sleep", "wait"])
async def test_what_cancel_raises_leaves_the_call(hub: Hub, name: str, how: str) -> None:
    async with hub.session(name) as session:
        await session.reset()
        async with under_way(session, how) as came:
            session.cancel()
        after = await session.step({"how": "quick"})

    (error,) = came
    assert isinstance(error, EnvironmentFailed)
    assert str(error) == "left early"
    assert after.observation.steps == 1


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("cancels", "deaf"),
        ("cancels", "hang"),
        ("cancels_async", "deaf"),
        ("cancels_async", "hang"),
        ("cancels_async", "block"),
        ("cancels_beside", "raise"),
    ],
)
async def test_an_environment_that_does_not_leave_in_time_is_killed(
    hub: Hub, name: str, how: str
) -> None:
    async with hub.session(name) as session:
        await session.reset()
        async with under_way(session, how) as came:
            assert session.cancel() is True

        (error,) = came
        assert isinstance(error, Cancelled)
        assert (error.verdict, error.limit, error.allowed) == ("cancelled", "cancel_s", 0.5)
        assert error.observed >= 0.5
        assert (await session.reset()).observation.steps == 0


async def test_a_reset_can_be_cancelled_too(hub: Hub) -> None:
    async with hub.session("cancels") as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: session.reset(how="flag"))
            while "begun" not in session.output:
                await anyio.lowlevel.checkpoint()
            session.cancel()

        assert (await session.state()).asked == 1


@pytest.mark.parametrize("name", ["probe", "cancels", "cancels_async"])
async def test_without_a_call_there_is_nothing_to_cancel(hub: Hub, name: str) -> None:
    session = await hub.open(name)
    before = session.cancel()
    await session.reset()
    pid = session.pid
    between = session.cancel()
    await session.state()
    same = session.pid == pid
    await session.aclose()

    assert (before, between, same, session.cancel()) == (False, False, True, False)


async def test_a_call_that_waits_for_a_process_can_be_cancelled(hub: Hub) -> None:
    """Each reset of a pristine environment waits for one."""
    async with hub.session("waits") as session:
        await session.reset()

        async def reset() -> None:
            with pytest.raises(Cancelled, match="while it waited for a process"):
                await session.reset()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reset)
            while not session.cancel():
                await anyio.lowlevel.checkpoint()
        assert (await session.reset()).observation.ticks == 0


@pytest.mark.parametrize("name", ASKED)
async def test_a_cancel_that_meets_the_reply_never_harms_another_call(
    hub: Hub, name: str
) -> None:
    """Each is cancelled some moments after it began; which is under way then differs."""
    async with hub.session(name) as session:
        await session.reset()
        pid = session.pid
        asked = 0
        for number in range(ROUNDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: session.step({"how": "quick"}))
                for _ in range(number % 30):
                    await anyio.lowlevel.checkpoint()
                session.cancel()
            async with under_way(session, "flag") as came:
                assert session.cancel() is True
            now = came[0].observation.asked
            assert now - asked in (1, 2)
            asked = now
        assert (await session.state()).steps == 2 * ROUNDS
        assert session.pid == pid


async def test_a_cancel_that_kills_as_the_reply_comes_is_told_to_that_call(hub: Hub) -> None:
    """Never to the next, which has a process."""
    killed = 0
    async with hub.session("probe") as session:
        for number in range(100):
            await session.reset()
            cancelled = False

            async def step() -> None:
                nonlocal killed
                try:
                    await session.step({"code": "result = {'ok': 1}"})
                except Cancelled:
                    killed += 1

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step)
                for _ in range(number % 10):
                    await anyio.lowlevel.checkpoint()
                before = killed
                cancelled = session.cancel()
            assert killed - before == int(cancelled)
    assert killed


async def test_the_context_of_an_asynchronous_step_is_that_of_the_next(hub: Hub) -> None:
    async with hub.session("cancels_async") as session:
        await session.reset()
        async with under_way(session, "raise"):
            session.cancel()
        seen = [(await session.step({"how": "quick"})).observation.seen for _ in range(3)]
        cleaned = (await session.state()).cleaned

    assert (seen, cleaned) == ([1, 2, 3], 4)


async def test_a_closed_session_wins_over_its_cancel(hub: Hub) -> None:
    session = await hub.open("cancels")
    await session.reset()
    async with under_way(session, "hang") as came:
        session.cancel()
        await session.aclose()

    assert isinstance(came[0], SessionClosed)


def test_from_another_thread_an_embedded_call_is_killed_or_left() -> None:
    said: list[bool] = []
    with envhub.make("probe", envs=ENVS) as env, envhub.make("cancels", envs=ENVS) as asked:
        env.reset()
        asked.reset()
        kill, ask = (lambda: said.append(env.cancel())), (lambda: said.append(asked.cancel()))
        with beside(env, "busy", kill) as action, pytest.raises(Cancelled) as caught:
            env.step(action)
        with beside(asked, "flag", ask) as action:
            result = asked.step(action)
        with beside(asked, "sleep", ask) as action, pytest.raises(EnvironmentFailed) as left:
            asked.step(action)
        with beside(asked, "hang", ask) as action, pytest.raises(Cancelled) as late:
            asked.step(action)

        assert said == [True] * 4
        assert (caught.value.verdict, caught.value.limit) == ("cancelled", "")
        assert result.observation.asked == 1
        assert str(left.value) == "left early"
        assert late.value.limit == "cancel_s"
        assert env.cancel() is asked.cancel() is False
        assert env.reset().observation.resets == 1
        assert asked.reset().observation.steps == 0
    assert env.cancel() is False


def test_a_cancel_from_a_thread_that_meets_the_reply_never_harms_another_call() -> None:
    with envhub.make("cancels", envs=ENVS) as env:
        env.reset()
        pid = env.pid
        begin, over = threading.Semaphore(0), threading.Event()

        def cancel() -> None:
            while begin.acquire() and not over.is_set():
                env.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            for number in range(ROUNDS):
                begin.release()
                assert env.step({"how": "quick"}).observation.steps == number + 1
        finally:
            over.set()
            begin.release()
            thread.join()
        with beside(env, "flag", env.cancel) as action:
            env.step(action)

        assert env.state.steps == ROUNDS + 1
        assert env.pid == pid


def test_a_signal_in_the_callers_own_thread_may_cancel() -> None:
    with envhub.make("cancels", envs=ENVS) as env:
        env.reset()
        before = signal.signal(signal.SIGUSR1, lambda *_: env.cancel())
        try:
            with beside(env, "flag", lambda: os.kill(os.getpid(), signal.SIGUSR1)) as action:
                result = env.step(action)
        finally:
            signal.signal(signal.SIGUSR1, before)

    assert result.observation.asked == 1
