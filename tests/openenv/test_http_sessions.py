"""Reset and step over HTTP in a session of one's own, by its id."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from envhub import Hub
from tests.door.asking import Reply, ask
from tests.door.conftest import served as served  # a fixture

pytestmark = pytest.mark.openenv
Served = Callable[..., AbstractAsyncContextManager[str]]


class Player:
    """A client without a WebSocket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.key = ""

    async def open(self) -> None:
        opened = await self.rpc("openenv/session/create")
        self.key = opened["result"]["session_id"]

    async def rpc(self, method: str, **params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return (await ask(self.address, "POST", "/mcp", json.dumps(body))).json

    async def close(self) -> Any:
        return (await self.rpc("openenv/session/close", session_id=self.key))["result"]

    def path(self, verb: str) -> str:
        return f"/{verb}?session_id={self.key}"

    async def reset(self) -> Reply:
        return await ask(self.address, "POST", self.path("reset"), "{}")

    async def step(self, **action: Any) -> Reply:
        return await ask(
            self.address, "POST", self.path("step"), json.dumps({"action": action})
        )

    async def state(self) -> Reply:
        return await ask(self.address, "GET", self.path("state"))


@pytest.fixture
async def address(hub: Hub, served: Served) -> Any:
    async with served(hub, default="counter_env") as address:
        yield address


async def test_two_clients_have_an_episode_each(address: str) -> None:
    one, other = Player(address), Player(address)
    for player in (one, other):
        await player.open()
        await player.reset()
    await one.step(by=1)
    second = await one.step(by=1)
    elsewhere = await other.step(by=3)
    closed = [await player.close() for player in (one, other)]

    assert second.json["observation"]["count"] == 4
    assert elsewhere.json["observation"]["count"] == 6
    assert (await one.state()).json == {"detail": f"Unknown session_id: {one.key}"}
    assert [end["closed"] for end in closed] == [True, True]


async def test_what_went_wrong_is_said_and_the_episode_goes_on(address: str) -> None:
    player = Player(address)
    await player.open()
    await player.reset()
    failed = await player.step(do="fail")
    invalid = await player.step(by="x")
    went_on = await player.step(by=1)
    await player.close()

    assert (failed.status, failed.json) == (
        500,
        {"detail": "'boom'", "cause": "environment_failed"},
    )
    assert (invalid.status, invalid.json["detail"][0]["loc"]) == (422, ["by"])
    assert went_on.json["observation"]["count"] == 4


async def test_an_episode_that_is_lost_is_not_stepped_on(address: str) -> None:
    player = Player(address)
    await player.open()
    await player.reset()
    lost = await player.step(do="exit")
    after = await player.step(by=1)
    state = await player.state()
    await player.reset()
    again = await player.step(by=1)
    await player.close()

    assert [r.json["cause"] for r in (lost, after, state)] == ["worker_lost"] * 3
    assert again.json["observation"]["count"] == 2
