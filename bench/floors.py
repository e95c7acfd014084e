"""What steps are compared with: the least that Python can do between two processes.

`python -m bench.floors pipe|socket|framed FD` is the other end: it sends back what it is sent.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import socket
import struct
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
_LENGTH = struct.Struct(">I")
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


class FramedEcho:
    """A Unix stream socket to a process that answers: msgspec both ways, a length before each.

    What a session would cost that is nothing but its own wire: a stream knows no packets.
    """

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours

    async def burst(self, count: int) -> list[float]:
        """Make `count` blocking round trips; return what each took, in µs."""
        self._socket.settimeout(_TIMEOUT_S)
        held = bytearray()
        times = []
        for _ in range(count):
            start = time.perf_counter()
            _send(self._socket, ACTION)
            _receive(self._socket, held)
            times.append((time.perf_counter() - start) * 1e6)
        return times


def _send(to: socket.socket, message: Any) -> None:
    said = _ENCODER.encode(message)
    to.sendall(_LENGTH.pack(len(said)) + said)


def _receive(of: socket.socket, held: bytearray) -> Any:
    """Return the next message; raise EOFError at the end."""
    while len(held) < 4 or len(held) < 4 + _LENGTH.unpack_from(held)[0]:
        if not (data := of.recv(65536)):
            raise EOFError
        held += data
    end = 4 + _LENGTH.unpack_from(held)[0]
    said = bytes(held[4:end])
    del held[:end]
    return _DECODER.decode(said)


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
def framed_echo() -> Iterator[FramedEcho]:
    """Hold a process that echoes over a stream socket, a length before each message."""
    ours, theirs = socket.socketpair()
    with ours, theirs, _other_end("framed", theirs.fileno()):
        theirs.close()
        yield FramedEcho(ours)
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
    if kind == "framed":
        held = bytearray()
        with socket.socket(fileno=descriptor) as peer:
            try:
                while True:
                    _send(peer, _receive(peer, held))
            except EOFError:
                return
    with socket.socket(fileno=descriptor) as peer:
        while data := peer.recv(65536):
            peer.send(_ENCODER.encode(_DECODER.decode(data)))


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
