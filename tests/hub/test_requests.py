"""What a zygote is asked waits for room, in order, and for no longer than there is a zygote."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from envhub.hub.workers.requests import Requests

PATIENCE_S = 30.0
MANY = 2000  # more than the socket holds
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def begun(requests: Requests) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(requests.send(b"%d" % number, list)) for number in range(MANY)]


async def sent(tasks: list[asyncio.Task[None]]) -> int:
    """How many there are when no more can be sent."""
    before, count = -1, 0
    while before != count:
        before = count
        for _ in range(MANY):  # each that is sent gives its turn to the next
            await asyncio.sleep(0)
        count = sum(task.done() for task in tasks)
    return count


def receive(theirs: socket.socket, count: int) -> list[int]:
    return [int(theirs.recv(32)) for _ in range(count)]


async def test_they_wait_for_room_and_keep_their_order(pair: Pair) -> None:
    ours, theirs = pair
    tasks = begun(Requests(ours))
    assert 0 < await sent(tasks) < MANY
    asked = await asyncio.to_thread(receive, theirs, MANY)
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)

    assert asked == list(range(MANY))


async def test_one_that_is_given_up_does_not_hold_up_the_others(pair: Pair) -> None:
    ours, theirs = pair
    tasks = begun(Requests(ours))
    first = await sent(tasks)
    for task in (tasks[first], tasks[first + 7]):  # one at its turn, one that waits for it
        task.cancel()
    asked = await asyncio.to_thread(receive, theirs, MANY - 2)
    await asyncio.wait(tasks, timeout=PATIENCE_S)

    assert asked == [n for n in range(MANY) if n not in (first, first + 7)]
    assert [n for n, task in enumerate(tasks) if task.cancelled()] == [first, first + 7]


async def test_none_opens_descriptors_before_its_turn(pair: Pair) -> None:
    """A storm of sessions would else have none left."""
    ours, _ = pair
    requests, opened = Requests(ours), 0

    def opening() -> list[int]:
        nonlocal opened
        opened += 1
        return []

    tasks = [asyncio.create_task(requests.send(b"1", opening)) for _ in range(MANY)]
    done = await sent(tasks)
    assert opened == done + 1 < MANY
    requests.stop()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)
    assert opened == done + 1


@pytest.mark.parametrize("how", ["we stop", "the zygote ends"])
async def test_none_waits_for_a_zygote_that_is_no_more(pair: Pair, how: str) -> None:
    ours, theirs = pair
    requests = Requests(ours)
    tasks = begun(requests)
    first = await sent(tasks)
    if how == "we stop":
        requests.stop()
    else:
        theirs.close()
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)

    assert ends[:first] == [None] * first
    assert all(isinstance(end, OSError) for end in ends[first:])


async def test_descriptors_go_with_them(pair: Pair) -> None:
    ours, theirs = pair
    reading, writing = os.pipe()
    await Requests(ours).send(b"1", lambda: [writing])
    data, handed, _, _ = socket.recv_fds(theirs, 32, 1)
    os.write(handed[0], b"here")

    assert (data, os.read(reading, 16)) == (b"1", b"here")
    for descriptor in (reading, writing, *handed):
        os.close(descriptor)
