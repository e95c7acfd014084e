"""Folders written for OpenEnv, run as they are, in sandboxes of their own."""

from __future__ import annotations

import json
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from envhub import Hub, Session
from envhub.errors import DeadlineExceeded, EnvironmentFailed, InvalidAction, WorkerLost

pytestmark = pytest.mark.openenv


async def step(session: Session, **action: Any) -> Any:
    """Take a step as OpenEnv's wire has it."""
    observed = await session.step_raw(json.dumps(action).encode(), form="json")
    return json.loads(observed.payload)


async def test_a_folder_plays_as_its_author_wrote_it(hub: Hub) -> None:
    async with hub.session("counter_env") as session:
        begun = json.loads((await session.reset_raw(b'{"seed":1}', form="json")).payload)
        taken = await step(session, by=3)
        state = json.loads(await session.state_raw(form="json"))

    # the variable of openenv.yaml is 2, and goes before the image's
    assert begun["observation"] == {"metadata": {}, "count": 0, "truncated": False, "seen": ""}
    assert (taken["observation"]["count"], taken["reward"], taken["done"]) == (6, 0.5, False)
    assert taken["observation"]["truncated"] is True  # a field of theirs, and none of ours
    assert state == {"episode_id": None, "step_count": 1, "count": 6}


async def test_the_same_in_our_own_api(hub: Hub) -> None:
    async with hub.session("counter_env") as session:
        await session.reset()
        result = await session.step({"by": 5})

    assert (result.observation["count"], result.reward, result.terminated) == (10, 0.5, True)


@pytest.mark.parametrize(
    ("deed", "seen"),
    [
        ("image", "a file beside the server\n"),
        ("folder", "a file beside the server\n"),
        ("variables", "image"),
        ("network", "0"),
    ],
)
async def test_it_finds_what_its_image_would_have_had(hub: Hub, deed: str, seen: str) -> None:
    async with hub.session("counter_env") as session:
        await session.reset()

        assert (await step(session, do=deed))["observation"]["seen"] == seen


async def test_errors_are_what_upstream_would_say(hub: Hub) -> None:
    async with hub.session("counter_env") as session:
        await session.reset()
        with pytest.raises(EnvironmentFailed, match=r"^'boom'$"):
            await step(session, do="fail")
        with pytest.raises(InvalidAction) as refused:
            await step(session, by="x", extra=1)

    errors = {tuple(e["loc"]): e["type"] for e in json.loads(refused.value.detail)}
    assert errors == {("by",): "int_parsing", ("extra",): "extra_forbidden"}


async def test_one_that_has_a_cancel_is_asked_to_leave_its_step(hub: Hub) -> None:
    async with hub.session("counter_env") as session:
        await session.reset()
        pid = session.pid
        seen: list[str] = []

        async def wait() -> None:
            seen.append((await step(session, by=1, do="wait"))["observation"]["seen"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while session.output != "begun\n":
                await anyio.lowlevel.checkpoint()
            assert session.cancel() is True

        assert seen == ["left"]
        assert json.loads(await session.state_raw(form="json"))["count"] == 2
        assert session.pid == pid


async def test_sixty_four_sessions_of_one_that_allows_one_share_nothing(hub: Hub) -> None:
    """Its module counts the steps of all sessions of a process: here each has its own."""
    seen: list[str] = []

    async def play() -> None:
        async with hub.session("counter_env") as session:
            await session.reset()
            seen.append((await step(session, do="global"))["observation"]["seen"])

    async with anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(play)

    assert seen == ["1"] * 64


async def test_an_end_or_a_hang_in_a_step_is_harmless_to_the_others(hub: Hub) -> None:
    async with hub.session("counter_env") as other:
        await other.reset()
        async with hub.session("counter_env") as session:
            await session.reset()
            with pytest.raises(WorkerLost):
                await step(session, do="exit")
            await session.reset()
            with pytest.raises(DeadlineExceeded):
                await step(session, do="hang")
            await session.reset()
            again = await step(session, by=1)
        beside = await step(other, by=1)

    assert again["observation"]["count"] == beside["observation"]["count"] == 2


async def test_what_needs_the_whole_of_openenv_gets_it(hub: Hub) -> None:
    """And what runs on an event loop keeps running between two steps."""
    async with hub.session("whole_env") as session:
        options = b'{"seed":4,"episode_id":"e","level":2}'
        begun = json.loads((await session.reset_raw(options, form="json")).payload)
        ticks = [(await step(session))["metadata"]["ticks"] for _ in range(2)]
        while ticks[-1] == ticks[0]:
            ticks.append((await step(session))["metadata"]["ticks"])

    assert begun["metadata"] == {"options": {"level": 2}, "seed": 4}
    assert ticks[0] >= 100


async def test_its_schemas_and_its_title_are_its_own(hub: Hub) -> None:
    described = await hub.describe("counter_env")

    assert described.title == "CounterEnvironment"
    assert set(json.loads(described.action)["properties"]) == {"metadata", "by", "do"}
    assert "seen" in json.loads(described.reset_observation)["properties"]
