"""More connections than anybody needs. Those who want something are served all the same."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress

from envhub.door.connections.guard import Bounds, Guard
from tests.door.hostile.arena import Server, attacked, frame, until
from tests.door.hostile.test_requests import status

MANY = 1500


def test_connections_that_say_nothing_lose_their_places(server: Server) -> None:
    with attacked("--max-connections", "64", "--max-sessions", "4", header_s=600.0) as server:
        server.episode()
        before = server.at_rest()
        with ExitStack() as held:
            for _ in range(MANY):
                hostile = held.enter_context(socket.socket())
                hostile.settimeout(30)
                hostile.connect(server.host)
            for _ in range(3):
                until(lambda: _served(server), "an episode in a flood")
            bounded = server.held()
        server.settles(before)

    assert bounded["connections"] <= 64 + 4
    assert bounded["descriptors"] <= before["descriptors"] + 64 + 16


def _served(server: Server) -> bool:
    """Whether a client that tries again when it is told to has had its episode."""
    try:
        server.episode()
    except Exception:
        return False
    return True


def test_who_is_one_too_many_is_told_so() -> None:
    """Places of those who are served are not taken away: the newcomer is refused."""
    with attacked("--max-connections", "2", "--max-sessions", "4") as server:
        with server.websocket() as one, server.websocket() as two:
            for busy in (one, two):
                busy.sendall(frame(b'{"type":"reset"}'))
                assert b"observation" in busy.recv(4096)
            three = server.raw()
            refused = three.recv(4096)
            three.close()
            assert (status(refused), b"retry-after" in refused) == (503, True)
            one.sendall(frame(b'{"type":"state"}'))
            assert b'"state"' in one.recv(4096)
        until(lambda: _served(server), "an episode, once there is room")


def test_connections_that_come_and_go_stop_nobody(server: Server) -> None:
    enough = threading.Event()

    def flood() -> None:
        while not enough.is_set():
            with suppress(OSError):
                hostile = socket.create_connection(server.host, timeout=30)
                hostile.sendall(b"GET / HT")
                hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                hostile.close()

    floods = [threading.Thread(target=flood) for _ in range(4)]
    for thread in floods:
        thread.start()
    try:
        for _ in range(5):
            server.episode()
    finally:
        enough.set()
        for thread in floods:
            thread.join()


def test_sessions_without_end_are_refused_and_come_to_an_end(server: Server) -> None:
    """All places are taken by handshakes; a client waits in the queue, and is served."""
    held = [server.websocket() for _ in range(20)]  # of 8 places; none answers a ping
    server.episode()
    for hostile in held:
        hostile.close()


class Connection:
    """As much of one as a guard needs."""

    def __init__(self, since: float = 0.0) -> None:
        self.since = since
        self.is_aborted = False
        self.transport = self

    def abort(self) -> None:
        self.is_aborted = True

    def get_extra_info(self, name: str) -> None:
        assert name == "socket"

    def look(self, now: float) -> bool:
        return False


def test_one_host_off_loopback_has_half_of_the_places() -> None:
    guard = Guard(Bounds(), 4)
    mine = [Connection() for _ in range(4)]
    admitted = [guard.admit(c, "192.0.2.1") for c in mine]  # type: ignore[arg-type]
    other = guard.admit(Connection(), "::ffff:192.0.2.2")  # type: ignore[arg-type]
    for connection in mine[2:]:
        guard.forget(connection)  # type: ignore[arg-type]
    guard.forget(mine[0])  # type: ignore[arg-type]

    assert (admitted, other) == ([True, True, False, False], False)
    assert guard.admit(Connection(), "192.0.2.1")  # type: ignore[arg-type]
    assert guard.connections == 3


def test_this_machine_itself_may_have_all_of_them() -> None:
    guard = Guard(Bounds(), 4)
    hosts = ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""]

    assert [guard.admit(Connection(), host) for host in hosts] == [True] * 4  # type: ignore[arg-type]


def test_the_oldest_silent_one_goes_and_no_other() -> None:
    guard = Guard(Bounds(settle_s=1.0), 3)
    busy, oldest, silent = (Connection(since) for since in (0.0, 1.0, 2.0))
    for connection in (busy, oldest, silent):
        guard.admit(connection, "")  # type: ignore[arg-type]
    guard.heard(busy)  # type: ignore[arg-type]
    too_early = guard.admit(Connection(1.5), "")  # type: ignore[arg-type]
    late = guard.admit(Connection(2.5), "")  # type: ignore[arg-type]

    assert (too_early, late) == (False, True)
    assert [c.is_aborted for c in (busy, oldest, silent)] == [False, True, False]
