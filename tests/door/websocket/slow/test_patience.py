"""How long a server waits for what does not come: RFC 6455, 7.1.1 and 10.4; decisions/0013."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.door.hostile.arena import Server, attacked, until
from tests.door.websocket.frames import (
    CLOSE,
    CONT,
    LONG,
    MIDDLE,
    PING,
    PONG,
    TEXT,
    closing,
    frame,
    length,
)
from tests.door.websocket.lanes import LANES
from tests.door.websocket.peer import CUT, Peer, Talk, handshake

MB = 2**20
BOTH = pytest.mark.parametrize("way", LANES)


@pytest.fixture(scope="module")
def patient() -> Iterator[Server]:
    """A server that waits for a second at most, and has no pings to end a connection with."""
    with attacked("--max-sessions", "64", "--grace-s", "0", ping_s=3600.0) as server:
        server.episode()
        yield server


@pytest.fixture(scope="module")
def pinging() -> Iterator[Server]:
    """One that pings twice a second, and waits for everything else."""
    long = {"message_s": 3600.0, "stall_s": 3600.0, "close_s": 3600.0}
    with attacked("--max-sessions", "64", "--grace-s", "0", ping_s=0.3, **long) as server:
        server.episode()
        yield server


def gone(server: Server) -> None:
    """Wait until no session and no connection is left."""

    def is_empty() -> bool:
        held = server.held()
        return held["sessions"] == held["connections"] == 0

    until(is_empty, "the end of all connections")


def drip(talk: Talk, parts: Iterator[bytes]) -> None:
    """Send a part at a time, each when the server has had time for more, up to the end."""
    talk.peer.socket.settimeout(0.05)

    def is_over() -> bool:
        talk.peer.send(next(parts))
        try:
            return talk.peer.hear() is None
        except TimeoutError:
            return False

    until(is_over, "the end of a message that drips")


UNFINISHED: dict[str, Callable[[Talk], bytes]] = {
    "half a head": lambda t: frame(t.opcode, t.lane.asking("x"))[:1],
    "a head without its length": lambda t: bytes([0x80 | t.opcode, 0xFF, 0, 0]),
    "half a mask": lambda t: frame(t.opcode, t.lane.asking("x"))[:4],
    "a frame without its last byte": lambda t: frame(t.opcode, t.lane.asking("x"))[:-1],
    "a claim of 16 MiB": lambda t: bytes([0x80 | t.opcode]) + length(16 * MB) + bytes(4),
    "a fragment": lambda t: frame(t.opcode, b"{", fin=False),
    "an empty fragment": lambda t: frame(t.opcode, fin=False),
    "two fragments": lambda t: frame(t.opcode, b"{", fin=False) + frame(CONT, b"}", fin=False),
    "a fragment, and half of another": lambda t: (
        frame(t.opcode, b"{", fin=False) + frame(CONT, b"}")[:3]
    ),
    "a fragment, and pings": lambda t: (
        frame(t.opcode, b"{", fin=False) + frame(PING, b"?") + frame(PONG)
    ),
    "half a ping": lambda t: frame(PING, b"half")[:-2],
    "half a close": lambda t: closing(1000)[:-1],
    "a message, and half of another": lambda t: t.asking() + frame(t.opcode, b"{}")[:-1],
}


@BOTH
def test_messages_that_do_not_end_are_cut_off(patient: Server, way: str) -> None:
    """All at once, for each takes its time."""
    talks = {what: Talk(patient.host, way) for what in UNFINISHED}
    for what, talk in talks.items():
        talk.say([UNFINISHED[what](talk)])
    ended = {what: talk.end() for what, talk in talks.items()}
    for talk in talks.values():
        talk.peer.socket.close()

    assert set(ended.values()) <= {CUT, 1002, 1008}, ended
    gone(patient)


@BOTH
def test_a_claim_of_bytes_that_do_not_come_takes_no_memory(patient: Server, way: str) -> None:
    talks = [Talk(patient.host, way) for _ in range(32)]
    before = patient.held()["memory"]
    for talk in talks:
        talk.say([UNFINISHED["a claim of 16 MiB"](talk) + b"a little"])
        talk.peer.send(frame(PONG))
    after = patient.held()["memory"]
    for talk in talks:
        talk.peer.reset()

    assert after - before < 64 * MB  # of 512 that were claimed
    gone(patient)


@BOTH
@pytest.mark.parametrize("how", ["bytes", "fragments", "fragments and pings"])
def test_a_message_that_drips_is_cut_off(patient: Server, way: str, how: str) -> None:
    """Each part is in time for any timeout that counts from the last one."""
    with Talk(patient.host, way) as talk:
        byte_by_byte = (bytes([byte]) for byte in frame(talk.opcode, b"x" * 100_000))
        in_fragments = (frame(CONT, b"x", fin=False) for _ in range(100_000))
        if how != "bytes":
            talk.say([frame(talk.opcode, b"{", fin=False)])
        parts = {
            "bytes": byte_by_byte,
            "fragments": in_fragments,
            "fragments and pings": (part + frame(PING, b"?") for part in in_fragments),
        }
        drip(talk, parts[how])
    gone(patient)


@BOTH
def test_a_client_that_thinks_between_messages_is_left_alone(patient: Server, way: str) -> None:
    """The control: one that is cut off shows that the time of all the others has passed."""
    with Talk(patient.host, way) as honest:
        for _ in range(2):
            with Talk(patient.host, way) as other:
                other.say([frame(other.opcode, b"{", fin=False)])
                assert other.end() is not None
            honest.say([honest.asking("still here")])
            honest.listen()
        assert honest.answered == honest.expected
        assert honest.close() == 1000
    gone(patient)


@BOTH
@pytest.mark.parametrize("form", [MIDDLE, LONG])
def test_a_length_in_more_bytes_than_it_needs_is_over_with_its_frame(
    patient: Server, way: str, form: int
) -> None:
    """Taken or refused (5.2); but if taken, no byte of it is waited for later."""
    with Talk(patient.host, way) as honest:
        honest.say([frame(honest.opcode, honest.ask("short"), form=form)])
        honest.listen()
        if honest.peer.closed_with is not None:
            return
        for _ in range(2):
            with Talk(patient.host, way) as other:
                other.say([frame(other.opcode, b"{", fin=False)])
                assert other.end() is not None
        honest.say([honest.asking("still here")])
        honest.listen()

        assert honest.answered == honest.expected


@BOTH
@pytest.mark.parametrize("size", [0, 1, 40, -2])
def test_a_handshake_that_does_not_end_is_cut_off(patient: Server, way: str, size: int) -> None:
    whole = handshake(LANES[way](), patient.host)
    with Peer(patient.host) as peer:
        peer.send(whole[:size])
        said = peer.head()

    assert said == b"" or said.split(b" ")[1] in (b"400", b"408")
    gone(patient)


@BOTH
@pytest.mark.parametrize("what", ["nothing", "data", "pongs"])
def test_who_never_answers_a_ping_is_gone(pinging: Server, way: str, what: str) -> None:
    """A network that is lost says nothing; what else comes is no answer to a ping (5.5.3)."""
    with Talk(pinging.host, way) as talk:
        codes, pings = [], 0
        while (heard := talk.peer.hear()) is not None:
            pings += heard.opcode == PING
            if heard.opcode == CLOSE:
                codes.append(heard.code)
            elif what == "pongs":
                talk.peer.send(frame(PONG, b"another") + frame(PONG))
            elif what == "data" and heard.opcode == PING:
                talk.say([talk.asking()])

    assert pings == 1
    assert codes in ([], [1011])
    gone(pinging)


@BOTH
def test_who_answers_pings_is_pinged_again_and_stays(pinging: Server, way: str) -> None:
    with Talk(pinging.host, way) as talk:
        pings: list[bytes] = []
        while len(pings) < 4:
            heard = talk.peer.hear()
            assert heard is not None
            assert heard.opcode == PING
            pings.append(heard.data)
            talk.peer.send(frame(PONG, heard.data))
        talk.say([talk.asking("still here")])
        talk.listen()

        assert talk.answered == talk.expected
        assert talk.close() == 1000
    gone(pinging)


@BOTH
def test_a_pong_in_the_middle_of_a_message_counts(pinging: Server, way: str) -> None:
    with Talk(pinging.host, way) as talk:
        first, *middle, last = cut_up(talk)
        talk.say([first])
        for part in middle:
            heard = talk.peer.hear()
            assert heard is not None
            assert heard.opcode == PING
            talk.say([frame(PONG, heard.data), part])
        talk.say([last])
        talk.listen()

        assert talk.answered == talk.expected
    gone(pinging)


def cut_up(talk: Talk) -> list[bytes]:
    """Return a request in five frames."""
    message = talk.ask("slowly")
    parts = [message[:1], message[1:2], message[2:3], message[3:4], message[4:]]
    return [
        frame(CONT if number else talk.opcode, part, fin=number == 4)
        for number, part in enumerate(parts)
    ]


@pytest.mark.parametrize("what", ["nothing", "requests", "pings", "bytes"])
def test_who_does_not_answer_a_close_is_gone(patient: Server, what: str) -> None:
    """The server's close, that is, when a client has asked for one (7.1.1, 7.1.7)."""
    with Talk(patient.host, "openenv") as talk:
        talk.say([frame(TEXT, b'{"type":"close"}')])
        heard = talk.peer.hear()
        assert heard is not None
        assert (heard.opcode, heard.code) == (CLOSE, 1000)
        more = {"requests": talk.asking(), "pings": frame(PING, b"?"), "bytes": b"\0"}
        talk.peer.socket.settimeout(0.05)

        def is_over() -> bool:
            talk.peer.send(more.get(what, b""))
            try:
                return talk.peer.hear() is None
            except TimeoutError:
                return False

        until(is_over, "the end of who answers no close")
    gone(patient)


@BOTH
@pytest.mark.parametrize("what", ["between messages", "behind a request", "in a message"])
def test_a_socket_that_is_closed_on_one_side(patient: Server, way: str, what: str) -> None:
    """Without a close frame it is no clean end (7.1.4), but it is one."""
    with Talk(patient.host, way) as talk:
        if what == "behind a request":
            talk.say([talk.asking("one last thing")])
        elif what == "in a message":
            talk.say([frame(talk.opcode, b"{", fin=False)])
        talk.peer.shut()
        assert talk.end() in (CUT, 1000, 1002, 1006)
    gone(patient)


@BOTH
def test_a_handshake_whose_socket_is_closed_on_one_side(patient: Server, way: str) -> None:
    with Peer(patient.host) as peer:
        peer.send(handshake(LANES[way](), patient.host))
        peer.socket.shutdown(socket.SHUT_WR)
        peer.head()
        peer.all()
    gone(patient)
