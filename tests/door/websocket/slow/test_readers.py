"""Clients that do not read: what waits for them is bounded. RFC 6455, 10.4; decisions/0013."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest

from tests.door.hostile.arena import Server, attacked, until
from tests.door.websocket.frames import PING, frame
from tests.door.websocket.lanes import LANES
from tests.door.websocket.peer import Talk

MB = 2**20
BOTH = pytest.mark.parametrize("way", LANES)
WINDOW = 4096  # bytes that the client's kernel takes


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of which nobody is asked for a pong, and nobody is too quick."""
    bounds = {"ping_s": 3600.0, "controls": 10**9, "message_s": 3600.0, "stall_s": 6.0}
    with attacked("--max-sessions", "8", "--grace-s", "0", **bounds) as server:
        server.episode()
        yield server


def flood(talk: Talk, data: bytes, most: int) -> int:
    """Send the same again and again, until nothing more is taken; return how much was."""
    talk.peer.socket.settimeout(3.0)  # less than a stall may be
    sent = 0
    with suppress(TimeoutError, ConnectionError):
        while sent < most:
            sent += talk.peer.socket.send(data[sent % len(data) :])
    return sent


def is_reset(connection: socket.socket) -> bool:
    """Whether the server has given the connection up, without reading from it."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def requests(talk: Talk) -> bytes:
    """Return many requests that need no session's process, and whose answers are as long."""
    if talk.lane.path == "/ws":
        return frame(talk.opcode, b'{"type":"%s"}' % (b"x" * 4000)) * 100
    bills = [["bill", 2**32 - 1]] * 4000
    return frame(talk.opcode, msgspec.msgpack.encode([0, 0, bills]))


@BOTH
@pytest.mark.parametrize("what", ["requests", "pings"])
def test_who_does_not_read_is_read_no_more_and_then_gone(
    server: Server, way: str, what: str
) -> None:
    with Talk(server.host, way, unread=WINDOW) as talk:
        before = server.held()["memory"]
        data = frame(PING, b"p" * 125) * 500 if what == "pings" else requests(talk)
        sent = flood(talk, data, 256 * MB)
        after = server.held()["memory"]

        assert sent < 32 * MB  # the kernel takes some, and the server reads what it may answer
        assert after - before < 64 * MB
        until(lambda: is_reset(talk.peer.socket), "the end of a client that does not read")
    until(lambda: server.held()["connections"] == 0, "its place")
    server.episode()


@BOTH
def test_who_reads_late_reads_everything_in_order(server: Server, way: str) -> None:
    """The control: a server that dropped what waits would be bounded, too."""
    with Talk(server.host, way, unread=WINDOW) as talk:
        talk.say([talk.asking(f"{number} " + "x" * 100_000) for number in range(12)])
        server.episode()  # which the others' answers have not held up
        talk.listen()

        assert talk.answered == talk.expected
        assert talk.close() == 1000


@BOTH
def test_pings_are_answered_in_order_when_they_are_read_late(server: Server, way: str) -> None:
    sent = [b"%d" % number for number in range(5000)]
    with Talk(server.host, way, unread=WINDOW) as talk:
        talk.say([b"".join(frame(PING, data) for data in sent)])
        server.episode()
        while not talk.pongs or talk.pongs[-1] != sent[-1]:
            talk.listen(pongs=len(talk.pongs) + 1)
        remaining = iter(sent)

        assert all(pong in remaining for pong in talk.pongs)
        assert talk.close() == 1000
