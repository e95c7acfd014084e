"""Many environments in a session's process, from the hub's side: memory, cancelling, ends."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest

import envhub
from envhub.errors import Cancelled, EnvhubError, ResetNeeded, SessionClosed, WorkerLost
from envhub.hub.vectors.relay import Relay
from envhub.wire import blobs, native
from envhub.wire.messages import Observed

ENVS = Path(__file__).parents[1] / "adapters" / "envs"
NOTHING, EXIT, SLEEP = 0, 2, 3
RESETS = blobs.encode(blobs.Resets(b"\2\2"))


def step(*acts: int) -> bytes:
    return b"\1\1".ljust(64, b"\0") + struct.pack("<2q", *acts).ljust(64, b"\0")


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:envhub")


async def gathered(session: envhub.Session) -> Relay:
    relay = session.relay()
    await relay.gather(native.Gather(1, 1, 0, 2, "next_step"))
    return relay


async def begun(relay: Relay, action: bytes) -> Observed:
    """Begin a step as a door does, and return what it comes to."""
    future: asyncio.Future[Observed] = asyncio.get_running_loop().create_future()

    def done(outcome: Observed | EnvhubError) -> None:
        if isinstance(outcome, EnvhubError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    relay.begin_step_raw(action, done)
    return await future


async def test_memory_is_let_go_with_the_process_and_with_the_session() -> None:
    async with envhub.Hub(ENVS) as hub:
        session = await hub.open("odd")
        relay = await gathered(session)
        await relay.reset_raw(RESETS)
        assert mappings() == 1
        with pytest.raises(WorkerLost):
            await begun(relay, step(EXIT, NOTHING))
        assert mappings() == 0
        with pytest.raises(ResetNeeded):
            await begun(relay, step(NOTHING, NOTHING))
        await relay.reset_raw(RESETS)
        await relay.gather(native.Gather(1, 1, 0, 2, "disabled"))
        assert mappings() == 1
        await session.aclose()
        assert mappings() == 0
        with pytest.raises(SessionClosed):
            await begun(relay, step(NOTHING, NOTHING))
        with pytest.raises(SessionClosed):
            await relay.reset_raw(RESETS)
        with pytest.raises(SessionClosed):
            await relay.gather(native.Gather(1, 1, 0, 2, "disabled"))


async def test_a_batch_is_cancelled_and_the_session_goes_on() -> None:
    async with envhub.Hub(ENVS) as hub, hub.session("odd") as session:
        relay = await gathered(session)
        await relay.reset_raw(RESETS)
        stepping = asyncio.create_task(begun(relay, step(SLEEP, NOTHING)))
        await asyncio.sleep(0)
        assert session.cancel()
        with pytest.raises(Cancelled):
            await stepping
        await relay.reset_raw(RESETS)

        assert (await begun(relay, step(NOTHING, NOTHING))).payload[:16] == struct.pack(
            "<2d", 1, 1
        )


async def test_a_session_that_is_closed_in_a_batch_ends_it() -> None:
    async with envhub.Hub(ENVS) as hub:
        session = await hub.open("odd")
        relay = await gathered(session)
        await relay.reset_raw(RESETS)
        stepping = asyncio.create_task(begun(relay, step(SLEEP, NOTHING)))
        await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(SessionClosed):
            await stepping


async def test_batches_are_billed_and_counted() -> None:
    async with envhub.Hub(ENVS) as hub, hub.session("odd") as session:
        relay = await gathered(session)
        await relay.reset_raw(RESETS)
        await begun(relay, step(NOTHING, NOTHING))
        [told] = hub.sessions()

        assert (told.steps, told.episode) == (2, 2)
        assert (await session.bill()).calls == 4
