"""Servers that say what they like, in whatever frames they like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from envhub import EnvClient
from envhub.errors import UsageError, WorkerLost

REPLY = '{"type":"observation","data":{"observation":{"said":"é"},"reward":1.0,"done":false}}'
Play = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def client_of(play: Play, **options: Any) -> AsyncIterator[EnvClient]:
    """Hold a server that plays, and a client that is connected to it."""

    async def handle(connection: ServerConnection) -> None:
        await play(connection)
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with EnvClient(f"http://127.0.0.1:{port}", **options) as client:
            yield client


def raw(*frames: Frame) -> Play:
    """Answer the first message with frames, all in one segment."""

    async def play(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.write(b"".join(frame.serialize(mask=False) for frame in frames))

    return play


def text(data: bytes, *, first: bool = True, last: bool = True) -> Frame:
    return Frame(Opcode.TEXT if first else Opcode.CONT, data, last)


HALF = len(REPLY.encode()) // 2
PING = Frame(Opcode.PING, b"there?")


@pytest.mark.parametrize(
    "frames",
    [
        [text(REPLY.encode())],
        [PING, text(REPLY.encode())],
        [text(REPLY.encode()), PING],
        [
            text(REPLY.encode()[:HALF], last=False),
            PING,
            text(REPLY.encode()[HALF:], first=False),
        ],
        [text(byte, first=not at, last=False) for at, byte in enumerate([b"", b""])]
        + [text(REPLY.encode(), first=False)],
        [text(REPLY.encode() + b" " * 70_000)],
    ],
    ids=["whole", "after a ping", "before a ping", "in halves", "after nothing", "long"],
)
async def test_a_reply_is_read_in_whatever_frames_it_comes(frames: list[Frame]) -> None:
    async with client_of(raw(*frames)) as client:
        with anyio.fail_after(10):
            result = await client.reset()

    assert result.observation.said == "é"
    assert result.reward == 1


async def test_a_reply_over_the_limit_is_none() -> None:
    long = text(REPLY.encode() + b" " * 2000)
    async with client_of(raw(long), max_message_size_mb=0.001) as client:
        with anyio.fail_after(10), pytest.raises(WorkerLost):
            await client.reset()


async def test_a_text_that_is_none_ends_the_connection() -> None:
    async with client_of(raw(text(b"\xff"), text(REPLY.encode()))) as client:
        with anyio.fail_after(10), pytest.raises(WorkerLost):
            await client.reset()


async def test_what_nobody_has_asked_for_is_not_kept_without_end() -> None:
    async def play(connection: ServerConnection) -> None:
        for _ in range(100):
            await connection.send(REPLY)

    async with client_of(play) as client:
        connection = client._socket
        assert connection is not None
        with anyio.fail_after(10):
            await connection.wait_closed()

        assert len(client._unasked) <= 16


async def test_why_there_is_no_session_is_told_by_the_first_call() -> None:
    async def play(connection: ServerConnection) -> None:
        await connection.send(
            '{"type":"error","data":{"message":"no","code":"CAPACITY_REACHED",'
            '"active_sessions":2,"max_sessions":2}}'
        )
        await connection.close()

    async with client_of(play) as client:
        connection = client._socket
        assert connection is not None
        await connection.wait_closed()
        with pytest.raises(Exception, match="no") as found:
            await client.reset()

    assert type(found.value).__name__ == "CapacityError"


async def test_one_call_at_a_time_and_each_session_hears_its_own() -> None:
    """The second of two calls would be given the reply to the first."""
    asked, answered = anyio.Event(), anyio.Event()
    count = 0

    async def play(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await connection.recv()
            asked.set()
            await answered.wait()
            await connection.send(REPLY)
        else:
            await connection.send(REPLY.replace("é", "unasked"))

    async with client_of(play) as client, anyio.create_task_group() as group:
        said: list[Any] = []

        async def reset() -> None:
            said.append((await client.reset()).observation.said)

        group.start_soon(reset)
        await asked.wait()
        with pytest.raises(UsageError, match="no reply yet"):
            await client.reset()
        async with client.new_session() as other:
            said.append((await other.reset()).observation.said)
        answered.set()
    assert said == ["unasked", "é"]
