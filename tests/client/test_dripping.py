"""A server that sends a byte now and then does not hold its client for longer than agreed."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from envhub import HTTPEnvClient
from envhub.client import fetch
from envhub.errors import DeadlineExceeded, WorkerLost

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
DRIPS = {
    "the status": (b"", b"HTTP/1.1 200 " + b"x" * 60_000),
    "a header": (HEAD, b"x: " + b"y" * 60_000),
    "headers": (HEAD, b"x: y\r\n" * 10_000),
    "a body": (HEAD + b"content-length: 1000000\r\n\r\n", b" " * 10**6),
    "chunks": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 10**6),
    "a body until the end": (HEAD + b"\r\n", b" " * 10**6),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10**5),
}


@contextmanager
def dripping(start: bytes, drops: bytes) -> Iterator[str]:
    """Hold a server that begins a reply, and goes on with it a byte at a time, for ever."""
    is_enough = threading.Event()

    def serve() -> None:
        with suppress(OSError), listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(start)
            for drop in itertools.cycle(drops):
                if is_enough.wait(0.02):  # the pace of the drip, which nothing depends on
                    return
                connection.sendall(bytes([drop]))

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        is_enough.set()
        thread.join()


@pytest.mark.parametrize("what", DRIPS)
def test_an_exchange_is_over_in_time(what: str) -> None:
    """Without a deadline for all of it, this test would be ended by its own."""
    with dripping(*DRIPS[what]) as url:
        with pytest.raises(DeadlineExceeded, match=r"no reply within 0\.5 s"):
            HTTPEnvClient(url, request_timeout_s=0.5).reset()


def test_so_is_the_reading_of_a_document() -> None:
    with dripping(*DRIPS["a body"]) as url:
        with pytest.raises(WorkerLost, match="timed out"):
            fetch.document(url, "/schema", timeout_s=0.5)
