"""Control frames while a session is busy: no call may hold up the rest of the protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.door.websocket.frames import BINARY, CLOSE, PING, PONG, TEXT, Heard, closing, frame
from tests.door.websocket.lanes import LANES
from tests.door.websocket.peer import Peer, handshake
from tests.serving import serving

ENDLESS = "import time\nwhile True: time.sleep(1)"
BOTH = pytest.mark.parametrize("way", LANES)


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with serving("--envs", "tests/hub/envs", "--env", "probe", "--drain-s", "0") as url:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        yield parts.hostname, parts.port


def busy(address: tuple[str, int], way: str) -> Peer:
    """Return a connection whose session is in a step that does not end."""
    lane = LANES[way]()
    peer = Peer(address)
    peer.send(handshake(lane, address))
    assert peer.head().startswith(b"HTTP/1.1 101")
    action = {"code": ENDLESS}
    if lane.opcode == TEXT:
        step = msgspec.json.encode({"type": "step", "data": action})
        peer.send(frame(TEXT, b'{"type":"reset"}') + frame(TEXT, step))
        first = heard(peer, 1)[0]
    else:
        opening = [["open", 1, os.urandom(16), "probe"], ["reset", 1, 1, 0, b""]]
        step = msgspec.msgpack.encode(["step", 1, 2, 0, msgspec.msgpack.encode(action)])
        packed = msgspec.msgpack.encode([0, 0, [*opening, msgspec.Raw(step)]])
        peer.send(frame(lane.opcode, packed))
        first = heard(peer, 1)[0]
    assert first.opcode == lane.opcode
    return peer


def heard(peer: Peer, count: int) -> list[Heard]:
    found = []
    for _ in range(count):
        one = peer.hear()
        assert one is not None
        found.append(one)
    return found


def until_close(peer: Peer) -> list[Heard]:
    return [one for one in peer.all() if one.opcode in (PONG, CLOSE)]


@BOTH
def test_a_ping_is_answered_in_the_middle_of_a_call(address: tuple[str, int], way: str) -> None:
    with busy(address, way) as peer:
        peer.send(frame(PING, b"busy?"))
        while (one := peer.hear()) is not None and one.opcode != PONG:
            pass

    assert one is not None
    assert one.data == b"busy?"


@BOTH
def test_a_close_is_answered_in_the_middle_of_a_call(
    address: tuple[str, int], way: str
) -> None:
    with busy(address, way) as peer:
        peer.send(closing(1000, b"enough"))
        found = until_close(peer)

    assert [one.opcode for one in found] == [CLOSE]
    assert peer.closed_with == 1000


@BOTH
def test_what_is_wrong_is_refused_in_the_middle_of_a_call(
    address: tuple[str, int], way: str
) -> None:
    with busy(address, way) as peer:
        peer.send(frame(PING, b"first") + frame(3))
        found = until_close(peer)

    assert [one.opcode for one in found] in ([PONG, CLOSE], [CLOSE])
    assert peer.closed_with == 1002


def test_what_comes_behind_a_close_is_not_carried_out(address: tuple[str, int]) -> None:
    """RFC 6455, 1.4 and 5.5.1. A session goes on over the next connection as if unasked."""
    key = os.urandom(16)

    def said(*requests: list[object]) -> bytes:
        return frame(BINARY, msgspec.msgpack.encode([0, 0, list(requests)]))

    def step(code: str) -> list[object]:
        return ["step", 1, 2, 1, msgspec.msgpack.encode({"code": code})]

    def asked(peer: Peer, *requests: list[object]) -> list[object]:
        """Ask, and return the last reply."""
        peer.send(handshake(LANES["native"](), address))
        assert peer.head().startswith(b"HTTP/1.1 101")
        peer.send(said(*requests))
        while (one := peer.hear()) is not None:
            replies = msgspec.msgpack.decode(one.data)
            if replies[-1][0] in ("observed", "failed"):
                return list(replies[-1])
        raise AssertionError("the server hung up")

    with Peer(address) as peer:
        assert asked(peer, ["open", 1, key, "probe"], ["reset", 1, 1, 0, b""])[0] == "observed"
        peer.send(closing(1000) + said(step("result = {'is': 'late'}")))
        peer.all()
    with Peer(address) as peer:
        reply = asked(peer, ["resume", 1, key], step("result = {'is': 'in time'}"))

    assert reply[:3] == ["observed", 1, 2], reply
    assert isinstance(reply[3], bytes)
    assert msgspec.msgpack.decode(reply[3]) == {"is": "in time"}
