"""Waiting for a place of a hub: in turn, bounded, and never losing one."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub import Hub
from envhub.errors import CapacityError, UsageError
from envhub.hub.places import budgets
from envhub.hub.places.admission import Admission
from envhub.hub.places.turns import Turn
from envhub.hub.places.watchdog import Watchdog

PROBES = Path(__file__).parent / "envs"
ACTIONS = st.tuples(st.sampled_from(["ask", "cancel", "release", "pass"]), st.integers(0, 9))


def admission(places: int, *, queue_s: float = 60, queue_max: int = 1024) -> Admission:
    made = Admission(Watchdog(0), queue_s=queue_s, queue_max=queue_max)
    made.open(places)
    return made


@given(st.lists(ACTIONS, max_size=40), st.sampled_from([0.0, 60.0]))
def test_no_place_is_lost_whoever_is_cancelled_when(
    actions: list[tuple[str, int]], queue_s: float
) -> None:
    """With a real loop: a cancellation may come in the moment in which a place is given."""

    async def play() -> None:
        places = admission(2, queue_s=queue_s, queue_max=3)
        held: list[Turn] = []
        asking: list[anyio.CancelScope] = []

        async def ask(client: str) -> None:
            with anyio.CancelScope() as scope:
                asking.append(scope)
                try:
                    held.append(await places.take(client))
                except CapacityError:
                    pass

        async with anyio.create_task_group() as tasks:
            for action, number in actions:
                if action == "ask":
                    tasks.start_soon(ask, f"client {number % 3}")
                elif action == "cancel" and asking:
                    asking[number % len(asking)].cancel()
                elif action == "release" and held:
                    places.give_back(held.pop(number % len(held)))
                elif action == "pass":
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        for turn in held:
            places.give_back(turn)

        assert (places.taken, places.waiting) == (0, 0)
        assert {(await places.take("x")).state for _ in range(2)} == {"served"}

    anyio.run(play)


async def test_more_than_may_wait_are_refused_at_once() -> None:
    places = admission(1, queue_max=1)
    held = await places.take("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(places.take, "a")
        while places.waiting < 1:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(CapacityError, match="the queue is full") as caught:
            await places.take("b")
        places.give_back(held)

    assert caught.value.retryable
    assert (caught.value.active, caught.value.limit) == (1, 1)


async def test_who_wants_one_session_is_not_starved_by_who_wants_many() -> None:
    order: list[str] = []

    async with Hub(PROBES, max_sessions=1) as hub, anyio.create_task_group() as tasks:

        async def play(client: str) -> None:
            async with hub.session("probe", client=client):
                order.append(client)

        first = await hub.open("probe", client="greedy")
        for client in [*["greedy"] * 5, "modest"]:
            tasks.start_soon(play, client)
            waiting = hub.waiting_sessions
            while hub.waiting_sessions == waiting:
                await anyio.lowlevel.checkpoint()
        await first.aclose()

    assert order == ["greedy", "modest", *["greedy"] * 4]
    assert (hub.active_sessions, hub.waiting_sessions) == (0, 0)


async def test_who_waits_for_memory_gets_a_session_when_it_is_back() -> None:
    async with Hub(PROBES) as hub, anyio.create_task_group() as tasks:
        floor_bytes = hub._watchdog.floor_bytes
        hub._watchdog.floor_bytes = 2**60

        async def play() -> None:
            async with hub.session("probe") as env:
                await env.reset()

        for _ in range(3):
            tasks.start_soon(play)
        while hub.waiting_sessions < 3:
            await anyio.lowlevel.checkpoint()
        hub._watchdog.floor_bytes = floor_bytes

    assert hub.active_sessions == 0


async def test_memory_lets_in_no_more_at_a_time_than_it_holds() -> None:
    watchdog = Watchdog(2**30)
    places = Admission(watchdog, queue_s=60, queue_max=10)
    places.open(10)
    watchdog.available_bytes = 0
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(places.take, "a")
        while places.waiting < 4:
            await anyio.lowlevel.checkpoint()
        seen = []
        for available_bytes in (2**30 - 1, 2**30 + 13 * 2**20, 2**30 + 7 * 2**20, 2**31):
            watchdog.available_bytes = available_bytes
            places.look()
            seen.append((places.taken, places.waiting))

    assert seen == [(0, 4), (2, 2), (3, 1), (4, 0)]


@pytest.mark.parametrize("argument", ["queue_s", "queue_max"])
def test_a_queue_is_not_negative(argument: str) -> None:
    with pytest.raises(UsageError, match=f"`{argument}` must be 0 or more, and is -1"):
        Hub(PROBES, **{argument: -1})  # type: ignore[arg-type]


async def test_what_bounds_the_places_is_said() -> None:
    async with Hub(PROBES) as hub:
        counted = hub.places_bound_by
    async with Hub(PROBES, max_sessions=1) as hub:
        named = hub.places_bound_by

    assert counted in {"memory", "descriptors", "processes"}
    assert named == "max_sessions"


def test_processes_bound_the_places_where_they_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets, "processes_left", lambda: iter([100_000, 82]))

    assert budgets.places(None) == (10, "processes")
