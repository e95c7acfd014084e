"""What steps are compared with: the least that Python can do between two processes.

`python -m bench.floors pipe|socket FD` is the other end: it sends back what it is sent.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from bench.plan import ACTION, REPOSITORY

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder()
_TIMEOUT_S = 30.0


class PipeEcho:
    """A `multiprocessing.Pipe` to a process that answers: pickle both ways."""

    def __init__(self, ours: multiprocessing.connection.Connection[Any, Any]) -> None:
        self._pipe = ours

    async def burst(self, count: int) -> list[float]:
        """Make `count` round trips; return what each took, in µs."""
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self._pipe.send(ACTION)
            self._pipe.recv()
            times.append((time.perf_counter() - start) * 1e6)
        return times


class SocketEcho:
    """A Unix socket to a process that answers: msgspec both ways, one packet each."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours

    async def burst(self, count: int) -> list[float]:
        """Make `count` blocking round trips; return what each took, in µs."""
        self._socket.settimeout(_TIMEOUT_S)
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self._socket.send(_ENCODER.encode(ACTION))
            _DECODER.decode(self._socket.recv(65536))
            times.append((time.perf_counter() - start) * 1e6)
        return times

    async def burst_async(self, count: int) -> list[float]:
        """Make `count` round trips on the running event loop; return what each took, in µs."""
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        times = []
        for _ in range(count):
            start = time.perf_counter()
            await loop.sock_sendall(self._socket, _ENCODER.encode(ACTION))
            _DECODER.decode(await loop.sock_recv(self._socket, 65536))
            times.append((time.perf_counter() - start) * 1e6)
        return times


@contextmanager
def pipe_echo() -> Iterator[PipeEcho]:
    """Hold a process that echoes over a Pipe."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, _other_end("pipe", theirs.fileno()):
        theirs.close()
        yield PipeEcho(ours)
        ours.close()


@contextmanager
def socket_echo() -> Iterator[SocketEcho]:
    """Hold a process that echoes over a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, _other_end("socket", theirs.fileno()):
        theirs.close()
        yield SocketEcho(ours)
        ours.close()


@contextmanager
def _other_end(kind: str, descriptor: int) -> Iterator[None]:
    line = [sys.executable, "-m", "bench.floors", kind, str(descriptor)]
    process = subprocess.Popen(line, pass_fds=[descriptor], cwd=REPOSITORY)
    try:
        yield
        process.wait(_TIMEOUT_S)  # it ends when our end closes
    finally:
        process.kill()
        process.wait()


def _serve(kind: str, descriptor: int) -> None:
    if kind == "pipe":
        with multiprocessing.connection.Connection(descriptor) as pipe:
            try:
                while True:
                    pipe.send(pipe.recv())
            except EOFError:
                return
    with socket.socket(fileno=descriptor) as peer:
        while data := peer.recv(65536):
            peer.send(_ENCODER.encode(_DECODER.decode(data)))


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
