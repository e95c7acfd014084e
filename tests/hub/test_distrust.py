"""What the hub does not believe of what zygotes and session processes say of themselves."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import envhub
from envhub import EmbeddedSession, Hub
from envhub.errors import (
    DeadlineExceeded,
    RemoteProtocolError,
    ResetNeeded,
    WorkerLost,
    WorkerStartFailed,
)
from envhub.hub.make import close_hubs
from tests.hub.test_robust import environment

ALL_IS_WELL = """
from envhub_sandbox import zygote
zygote._ENDED = b'{"ended": %d, "why": "%d", "cpu_s": %.6f, "peak_bytes": %d}'
"""
TALKER = """
import os, sys
if os.fork() == 0:
    while True:
        os.write(1, bytes(65536))
os._exit(1)
"""
LIAR = """
from envhub.wire import messages
from envhub.worker import answer

really = answer.Answering.answer
told = []  # during which call, and what

def lie(self, request):
    kind = {"GetState": "state"}.get(type(request).__name__, type(request).__name__.lower())
    if told and told[0][0] == kind:
        return eval(told.pop()[1], vars(messages), {"op": request.op})
    return really(self, request)

answer.Answering.answer = lie
"""


# it answers the third call right after the second
EARLY = """
import socket
from envhub.wire import messages
from envhub.worker import answer

framed, recv = answer.Answering.framed, socket.socket.recv
early = []

def framed_twice(self, reply):
    if reply.op == 2:
        early.append(framed(self, messages.Observed(3, b"\\x80")))
    return framed(self, reply)

def recv_late(self, *arguments):
    if early:
        self.sendall(early.pop())
    return recv(self, *arguments)

answer.Answering.framed, socket.socket.recv = framed_twice, recv_late
"""


async def test_a_zygote_cannot_excuse_what_the_hub_has_killed(tmp_path: Path) -> None:
    """It says of every end: exited with code 0."""
    folder = environment(tmp_path, ALL_IS_WELL, "[deadlines]\nstep_s = 0.3")
    async with Hub(folder) as hub, hub.session("x") as session:
        await session.reset()
        with pytest.raises(DeadlineExceeded):
            await session.step({"code": "import time; time.sleep(60)"})


async def test_an_end_of_its_own_is_not_blamed_on_the_hubs_kill_after_it(
    tmp_path: Path,
) -> None:
    async with Hub(environment(tmp_path)) as hub, hub.session("x") as session:
        await session.reset()
        with pytest.raises(WorkerLost, match="exited with code 3"):
            await session.step({"code": "import os; os._exit(3)"})


@pytest.mark.timeout(60)
async def test_output_without_end_does_not_hold_the_hub(tmp_path: Path) -> None:
    """Without a sandbox, what the zygote forked goes on printing into its pipe."""
    folder = environment(tmp_path, TALKER, "[deadlines]\nstart_s = 1")
    async with Hub(folder, isolation="none") as hub:
        with pytest.raises(WorkerStartFailed):
            await hub.open("x")


async def test_a_process_that_was_never_used_is_replaced_in_silence(tmp_path: Path) -> None:
    """Nothing is lost with it; what comes next is what it would have said."""
    async with Hub(environment(tmp_path)) as hub, hub.session("x") as session:
        await killed(session.pid)
        with pytest.raises(ResetNeeded):
            await session.step({"code": ""})


async def test_the_end_of_a_used_process_is_told_by_the_next_call(tmp_path: Path) -> None:
    async with Hub(environment(tmp_path)) as hub, hub.session("x") as session:
        await session.reset()
        await killed(session.pid)
        with pytest.raises(WorkerLost):
            await session.step({"code": ""})
        await session.reset()


async def killed(pid: int) -> None:
    """Kill it, and wait until the kernel says that it has ended."""
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    os.kill(pid, signal.SIGKILL)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


@pytest.fixture
def blocking(tmp_path: Path) -> Iterator[EmbeddedSession]:
    with envhub.make("x", envs=environment(tmp_path)) as session:
        yield session
    close_hubs()


def test_without_an_event_loop_the_next_call_tells_it_too(blocking: EmbeddedSession) -> None:
    blocking.reset()
    asyncio.run(killed(blocking.pid))
    with pytest.raises(WorkerLost, match="between two calls"):
        blocking.step({"code": ""})

    assert blocking.reset().observation == {}


def test_without_an_event_loop_a_reset_needs_no_excuse(blocking: EmbeddedSession) -> None:
    blocking.reset()
    asyncio.run(killed(blocking.pid))

    assert blocking.reset().observation == {}


# during which call a session process says what
LIES = {
    "step": [
        "StateRead(op, b'\\x80')",
        "Observed(op, b'\\xc1')",
        "Observed(op, b'', float('nan'))",
    ],
    "state": ["Closed(op)", "StateRead(op, b'\\x90')"],
    "describe": ["Closed(op)", "Observed(op, b'\\x80')"],
}


@pytest.mark.parametrize(
    ("call", "lie"), [(c, lie) for c, told in LIES.items() for lie in told]
)
async def test_a_payload_that_breaks_the_protocol_ends_its_process(
    tmp_path: Path, call: str, lie: str
) -> None:
    async with Hub(environment(tmp_path, LIAR)) as hub, hub.session("x") as session:
        await session.reset()
        await session.step({"code": f"told.append(({call!r}, {lie!r}))"})
        pid = session.pid
        calls = {
            "step": lambda: session.step({"code": ""}),
            "state": session.state,
            "describe": session.describe,
        }
        with pytest.raises(RemoteProtocolError):
            await calls[call]()
        with pytest.raises(WorkerLost, match="breaking the protocol"):
            await session.state()
        await session.reset()

        assert session.pid != pid


def test_a_reply_before_its_call_is_none(tmp_path: Path) -> None:
    """Without an event loop nobody reads between two calls: the next one looks."""
    with envhub.make("x", envs=environment(tmp_path, EARLY)) as session:
        session.reset()
        with pytest.raises(WorkerLost, match="breaking the protocol"):
            session.step({"code": ""})
            assert session._lease is not None
            select.select([session._lease.process.channel], [], [])
            session.step({"code": ""})
    close_hubs()


def test_and_so_it_does_without_an_event_loop(tmp_path: Path) -> None:
    with envhub.make("x", envs=environment(tmp_path, LIAR)) as session:
        session.reset()
        session.step({"code": f"told.append(('step', {LIES['step'][1]!r}))"})
        with pytest.raises(RemoteProtocolError):
            session.step({"code": ""})
        with pytest.raises(WorkerLost, match="breaking the protocol"):
            session.step({"code": ""})
    close_hubs()


async def test_what_the_door_finds_in_a_payload_ends_the_process_too(tmp_path: Path) -> None:
    async with Hub(environment(tmp_path)) as hub, hub.session("x") as session:
        await session.reset()
        with pytest.raises(RemoteProtocolError), session.held_to_protocol():
            raise RemoteProtocolError("a payload that is no JSON")
        with pytest.raises(WorkerLost, match="breaking the protocol"):
            await session.state()
