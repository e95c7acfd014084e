"""Steps that have parts, watched or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, closing

import pytest

import envhub
from envhub import Hub, Session
from envhub.errors import EnvironmentFailed, ResetNeeded
from tests.hub.conftest import ENVS
from tests.hub.sharing import anyio_backend as anyio_backend
from tests.hub.sharing import hub as hub
from tests.hub.sharing import nothing_leaks as nothing_leaks
from tests.hub.sharing import shared as shared


@pytest.fixture(params=["parts", "parts_async"])
async def session(request: pytest.FixtureRequest, hub: Hub) -> AsyncIterator[Session]:
    async with hub.session(request.param) as session:
        await session.reset()
        yield session


async def test_each_part_comes_and_the_last_is_the_result(session: Session) -> None:
    parts = [part async for part in session.stream({"to": 4})]

    assert [(part.observation["at"], part.reward) for part in parts] == [
        (0, None),
        (1, None),
        (2, None),
        (3, 1.0),
    ]


async def test_who_does_not_watch_gets_the_last(session: Session) -> None:
    result = await session.step({"to": 4})
    raw = await session.step_raw(b'{"to":3}', form="json")

    assert (result.observation["at"], result.reward) == (3, 1.0)
    assert b'"at":2' in raw.payload


async def test_a_part_is_made_when_it_is_asked_for(session: Session) -> None:
    async with aclosing(session.stream({"to": 100})) as parts:
        await anext(parts)
        await anext(parts)
        made = (await session.state()).step_count

    assert made == 2


async def test_a_step_that_is_left_is_ended_by_the_next_call(session: Session) -> None:
    async with aclosing(session.stream({"to": 100})) as parts:
        await anext(parts)
    result = await session.step({"to": 2})
    state = await session.state()

    assert result.observation["at"] == 1
    assert (state.step_count, state.left) == (3, 2)


async def test_a_step_that_raises_in_the_middle_says_so_and_is_over(session: Session) -> None:
    parts = session.stream({"to": 9, "fails_at": 2})
    seen = [(await anext(parts)).observation["at"] for _ in range(2)]
    with pytest.raises(EnvironmentFailed, match="as asked, at 2"):
        await anext(parts)
    again = [part.observation["at"] async for part in session.stream({"to": 1})]

    assert (seen, again) == ([0, 1], [0])


async def test_the_part_that_is_done_ends_the_episode(session: Session) -> None:
    parts = [part async for part in session.stream({"to": 10})]

    assert [part.done for part in parts] == [False] * 9 + [True]
    with pytest.raises(ResetNeeded):
        await session.step({"to": 1})


async def test_a_step_without_parts_is_one(hub: Hub) -> None:
    async with hub.session("probe") as session:
        await session.reset()
        parts = [part async for part in session.stream({"code": "1"})]

    assert len(parts) == 1


async def test_without_a_part_there_is_no_result(session: Session) -> None:
    assert [part async for part in session.stream({"to": 0})] == []
    with pytest.raises(EnvironmentFailed, match="ended without a part"):
        await session.step({"to": 0})


async def test_the_schema_is_of_one_part(session: Session) -> None:
    described = await session.describe()

    assert b'"at"' in described.observation


def test_a_program_without_an_event_loop_watches_as_well() -> None:
    with envhub.make("parts", envs=ENVS) as env:
        env.reset()
        assert [part.observation.at for part in env.stream({"to": 3})] == [0, 1, 2]
        with closing(env.stream({"to": 100})) as parts:
            next(parts)
        assert env.step({"to": 2}).observation.at == 1
