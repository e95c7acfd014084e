"""Clients that do not read, do not answer, or are no longer there. Their places are freed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from tests.door.hostile.arena import RESET, Server, attacked, frame, is_over, until

PING, PONG = 9, 10
LONG = json.dumps({"type": "step", "data": {"message": "x" * 1_000_000}}).encode()


def small_window(server: Server, path: str = "/ws") -> socket.socket:
    """Return a WebSocket whose kernel takes little of what the client does not read."""
    hostile = server.websocket(path)
    hostile.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return hostile


def is_reset(hostile: socket.socket) -> bool:
    """Whether the server has given the connection up, without reading from it."""
    poll = select.poll()
    poll.register(hostile, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def test_who_reads_no_reply_loses_the_connection(server: Server) -> None:
    """The kernel has room for some replies. The next one waits, and not for ever."""
    hostile = small_window(server)
    hostile.settimeout(0.2)
    before = server.held()["memory"]
    hostile.sendall(frame(RESET.encode()))
    try:
        for _ in range(64):
            hostile.sendall(frame(LONG))
    except (TimeoutError, ConnectionError):
        pass
    server.episode()
    until(lambda: is_reset(hostile), "the end of a client that does not read")
    until(lambda: server.held()["sessions"] == 0, "its place")

    assert server.held()["memory"] - before < 2**27
    hostile.close()


def test_pings_without_an_end_and_nobody_who_reads_the_pongs(server: Server) -> None:
    """Below what is a flood: each has an answer, and those must not pile up."""
    with attacked("--max-sessions", "2", controls=10**9, ping_s=60.0) as server:
        server.episode()
        before = server.held()
        hostile = small_window(server)
        hostile.settimeout(0.2)
        sent = 0
        try:
            while sent < 2**28:
                sent += hostile.send(frame(b"x" * 125, PING) * 500)
        except (TimeoutError, ConnectionError):
            pass
        server.episode()

        assert sent < 2**28
        assert server.held()["memory"] - before["memory"] < 2**26
        until(lambda: is_reset(hostile), "the end of a client that does not read")
        hostile.close()


def test_who_answers_no_ping_is_gone(server: Server) -> None:
    """A machine that lost its network sends nothing, and no end either."""
    silent = [server.websocket() for _ in range(3)]
    for hostile in silent:
        hostile.sendall(frame(RESET.encode()))
    until(lambda: server.held()["sessions"] == 3, "three sessions")
    server.episode()
    until(lambda: server.held()["sessions"] == 0, "the end of clients that are gone")
    for hostile in silent:
        hostile.close()


def test_a_program_that_stands_still_is_gone(server: Server) -> None:
    """As above, with OpenEnv's kind of client: stopped, it holds its sockets open."""
    program = """
from websockets.sync.client import connect
import sys
websocket = connect(sys.argv[1], proxy=None)
websocket.send('{"type":"reset"}')
websocket.recv()
print("in", flush=True)
websocket.recv()
"""
    command = [sys.executable, "-c", program, f"ws://{server.address}/ws"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"in\n"
        assert server.held()["sessions"] == 1
        os.kill(client.pid, signal.SIGSTOP)
        server.episode()
        until(lambda: server.held()["sessions"] == 0, "the end of a client that stands still")
        client.kill()


def test_pongs_that_answer_nothing_keep_nobody_alive(server: Server) -> None:
    hostile = server.websocket()
    hostile.sendall(frame(RESET.encode()))

    def is_gone() -> bool:
        try:
            hostile.sendall(frame(b"\0\0\0\0", PONG) + frame(b"", PONG))
        except ConnectionError:
            return True
        return False

    until(is_gone, "the end of a client with pongs of its own")
    hostile.close()


@pytest.mark.parametrize("reads", [True, False])
def test_who_answers_no_close_is_gone(server: Server, reads: bool) -> None:
    hostile = server.websocket()
    hostile.sendall(frame(RESET.encode()) + frame(b'{"type":"close"}'))
    if reads:
        assert b"\x88" in is_over(hostile)
    until(lambda: server.held()["connections"] == 0, "the end of who answers no close")
    hostile.close()


def test_who_takes_no_response_loses_the_connection(server: Server) -> None:
    """Over HTTP the session is closed before the reply is sent; the reply must go as well."""
    body = json.dumps({"action": {"message": "x" * 8_000_000}}).encode()
    head = (
        f"POST /step HTTP/1.1\r\nHost: {server.address}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    hostile = socket.socket()
    hostile.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    hostile.connect(server.host)
    hostile.sendall(head.encode() + body)
    server.episode()
    until(lambda: is_reset(hostile), "the end of a client that does not read")
    hostile.close()


def test_a_reset_in_the_middle_of_an_episode_frees_its_place(server: Server) -> None:
    for _ in range(10):
        hostile = server.websocket()
        hostile.sendall(frame(RESET.encode()) * 3)
        hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        hostile.close()


def test_a_client_that_only_thinks_is_left_alone(server: Server) -> None:
    """The control: bounds that ended every quiet connection would pass most of these."""
    from websockets.sync.client import connect

    with connect(f"ws://{server.address}/ws", proxy=None) as honest:
        honest.send(RESET)
        assert "observation" in str(honest.recv(timeout=60))
        lost = server.websocket()  # four bounds later this one is gone, and the other not
        lost.sendall(frame(b"x")[:-1])
        is_over(lost)
        honest.send(RESET)
        assert "observation" in str(honest.recv(timeout=60))
