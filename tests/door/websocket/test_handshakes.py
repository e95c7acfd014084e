"""The opening handshake: what is agreed to, what is refused, and that no byte of it is lost."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.door.hostile.arena import Server
from tests.door.websocket.cases import handshakes
from tests.door.websocket.cases.handshakes import ACCEPT, ENDED, YES, Handshake
from tests.door.websocket.frames import BINARY, PING, closing, cut, frame
from tests.door.websocket.lanes import LANES
from tests.door.websocket.peer import CUT, Peer, Talk, handshake
from tests.serving import serving

TABLES = {
    "right": handshakes.AS_SHOULD_BE,
    "line": handshakes.LINES,
    "header": handshakes.HEADERS,
    "subprotocol": handshakes.PROTOCOLS,
    "extension": handshakes.EXTENSIONS,
}
CASES = [
    pytest.param(way, shake, id=f"{way}-{group}: {shake.name}")
    for group, shakes in TABLES.items()
    for shake in shakes
    for way in shake.lanes
]
HONEST = Handshake("honest", "4.2", YES)


def judge_agreement(way: str, head: bytes) -> None:
    """Hold the response that opens a WebSocket to 4.2.2."""
    fields = [line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if line]
    names = [name for name, _ in fields]
    said = {name: value.strip() for name, value in fields}

    assert b"\r\nsec-websocket-accept: " + ACCEPT.lower() + b"\r\n" in head.lower()
    assert ACCEPT in head
    assert said[b"upgrade"] == b"websocket"
    assert said[b"connection"] == b"upgrade"
    assert said.get(b"sec-websocket-protocol") == (b"envhub.v1" if way == "native" else None)
    assert b"sec-websocket-extensions" not in said
    assert b"content-length" not in said  # 9110, 8.6
    assert b"transfer-encoding" not in said
    assert len(names) == len(set(names)), names


def is_alive(peer: Peer) -> bool:
    """Whether a WebSocket answers a ping, and closes as it should."""
    peer.send(frame(PING, b"alive?"))
    heard = peer.hear()
    if heard is None or heard.data != b"alive?":
        return False
    peer.send(closing(1000))
    peer.all()
    return peer.closed_with == 1000


def status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else ENDED


@pytest.mark.parametrize(("way", "shake"), CASES)
def test_handshake(server: Server, way: str, shake: Handshake) -> None:
    with Peer(server.host) as peer:
        peer.send(shake.request(way, server.address))
        head = peer.head()

        assert status(head) in shake.statuses, f"{shake.section}: {head!r}"
        if status(head) == 101:
            judge_agreement(way, head)
            assert is_alive(peer)
        else:
            assert b"sec-websocket-accept" not in head.lower()
            assert all(line in head.lower() for line in shake.answered), head
            if b"\r\nconnection: close" in head.lower():
                peer.rest()  # up to an end that must come


@pytest.mark.parametrize("way", LANES)
@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_a_handshake_in_pieces(server: Server, way: str, every: int) -> None:
    with Peer(server.host) as peer:
        peer.send(*cut(HONEST.request(way, server.address), every=every))
        head = peer.head()

        assert status(head) == 101
        judge_agreement(way, head)
        assert is_alive(peer)


@pytest.mark.parametrize("way", LANES)
@pytest.mark.parametrize("at", [1, 2, 5, 6, 9, 1000])
def test_what_comes_with_the_handshake_is_read_or_refused(
    server: Server, way: str, at: int
) -> None:
    """A client must wait for the response (4.1); one that does not is no reason to lose bytes.

    What is left of a frame whose beginning was dropped would be read as other frames.
    """
    sent = frame(PING, b"early") + frame(PING, b"earlier")
    with Peer(server.host) as peer:
        peer.send(HONEST.request(way, server.address) + sent[:at])
        head = peer.head()
        peer.send(sent[at:], frame(PING, b"late"))
        peer.send(closing(1000))  # a server that has lost some waits for no more than this
        heard = [found.data for found in peer.all()]

    assert (
        heard[:3] == [b"early", b"earlier", b"late"]
        or status(head) != 101
        or (heard == [] and peer.closed_with == CUT)
    ), heard


@pytest.mark.parametrize("way", LANES)
@pytest.mark.parametrize("length", ["Content-Length: {}", "Transfer-Encoding: chunked"])
def test_a_body_of_the_handshake_is_no_frame(server: Server, way: str, length: str) -> None:
    """Two servers behind each other must not read it differently (9112, 11.2; 6455, 10)."""
    body = frame(PING, b"smuggled")
    line = length.format(len(body))
    if "chunked" in line:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    shake = Handshake("with a body", "4.2", YES, more=(line,), behind=body)
    with Peer(server.host) as peer:
        peer.send(shake.request(way, server.address))
        if status(peer.head()) == 101:
            assert is_alive(peer)


@pytest.mark.parametrize("way", LANES)
def test_after_a_refusal_the_connection_is_http_or_nothing(server: Server, way: str) -> None:
    """Frames behind a handshake that was refused open no WebSocket."""
    shake = Handshake("of version 8", "4.4", (426,), {"Sec-WebSocket-Version": "8"})
    with Peer(server.host) as peer:
        peer.send(shake.request(way, server.address) + frame(PING, b"?") + frame(BINARY, b"x"))
        said = peer.head()
        while chunk := peer.socket.recv(4096) if said else b"":
            said += chunk

    assert said == b"" or status(said) in (400, 426)
    assert b"\x8a\x01?" not in said


@pytest.mark.parametrize("way", LANES)
def test_two_handshakes_on_one_connection(server: Server, way: str) -> None:
    """The second one is no frame."""
    shake = HONEST.request(way, server.address)
    with Peer(server.host) as peer:
        peer.send(shake)
        assert status(peer.head()) == 101
        peer.send(shake)
        peer.all()

    assert peer.closed_with in (1002, CUT)


@pytest.mark.parametrize("way", LANES)
def test_a_compressed_bomb_is_no_message(server: Server, way: str) -> None:
    """Deflate is offered and not agreed to, so its bit is reserved (6455, 5.2; 7692, 6)."""
    squeezed = zlib.compressobj(wbits=-15)
    bomb = squeezed.compress(bytes(2**30 // 4)) + squeezed.flush(zlib.Z_SYNC_FLUSH)
    before = server.held()["memory"]
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    with Talk(server.host, way, more=offer) as talk:
        talk.say([frame(talk.opcode, bomb, rsv=4)])

        assert talk.end() in (1002, CUT)
    assert server.held()["memory"] - before < 2**26


TOKEN = "a-token-for-a-raw-client"
BEARING = {
    "nothing": ("", "", 401),
    "another token": ("Authorization: Bearer another-token-of-them\r\n", "", 401),
    "another scheme": (f"Authorization: Basic {TOKEN}\r\n", "", 401),
    "the token in the address": ("", f"?token={TOKEN}&access_token={TOKEN}", 401),
    "the token as a subprotocol": (f"Sec-WebSocket-Protocol: {TOKEN}\r\n", "", 401),
    "the token": (f"Authorization: Bearer {TOKEN}\r\n", "", 101),
}


@pytest.fixture(scope="module")
def tokened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    with serving("--env", "echo", "--token-file", str(file), "--drain-s", "0") as url:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        yield parts.hostname, parts.port


@pytest.mark.parametrize("way", LANES)
@pytest.mark.parametrize("what", BEARING)
def test_a_token_is_looked_at_before_anything_else(
    tokened: tuple[str, int], way: str, what: str
) -> None:
    header, query, expected = BEARING[what]
    lane = LANES[way]()
    lane.path += query
    with Peer(tokened) as peer:
        peer.send(handshake(lane, tokened, more=header) + frame(PING, b"?"))

        assert status(peer.head()) == expected
