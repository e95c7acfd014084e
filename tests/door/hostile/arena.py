"""Where a hostile client meets a server, and a well-behaved one beside it."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from websockets.sync.client import connect

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0
SHORT = {"header_s": 1.0, "body_s": 1.0, "idle_s": 0.5, "message_s": 1.0, "stall_s": 1.0,
         "close_s": 0.5, "ping_s": 0.5, "look_s": 0.05, "settle_s": 0.1}  # fmt: skip
# of what a server at rest holds; its memory is another matter
COUNTED = ("sessions", "tasks", "descriptors", "connections", "processes")
RESET, STEP = '{"type":"reset"}', '{"type":"step","data":{"message":"hi"}}'
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
)


def until(holds: Callable[[], Any], what: str = "it") -> Any:
    """Wait until something holds, and return what it is then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come about")


class Server:
    """A running server.

    Args:
        process: of `server.py`.
        output: all that it says on standard error.
    """

    def __init__(self, process: subprocess.Popen[str], output: IO[str]) -> None:
        self._process = process
        self._output = output
        self.said: list[str] = []
        self.address = ""

    @property
    def host(self) -> tuple[str, int]:
        name, _, port = self.address.rpartition(":")
        return name, int(port)

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server ended: {self.said} {self.complaints()}"
        self.said.append(line)
        return line

    def held(self) -> dict[str, int]:
        """What the server's process holds now."""
        assert self._process.stdin is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self.line())
        return found

    def complaints(self) -> str:
        """What it has said on standard error."""
        self._output.seek(0)
        return self._output.read()

    def at_rest(self) -> dict[str, int]:
        """What it holds when nothing changes any more."""
        before: list[dict[str, int]] = []

        def counted() -> dict[str, int]:
            held = self.held()
            return {name: held[name] for name in COUNTED}

        def is_still() -> bool:
            before.append(counted())
            last = before[-5:]
            return len(last) == 5 and all(held == last[0] for held in last)

        until(is_still, "rest")
        return before[-1]

    def settles(self, before: dict[str, int]) -> None:
        """Wait until it holds no more than before."""
        held: dict[str, int] = {}

        def is_less() -> bool:
            held.update(self.held())
            return all(held[name] <= before[name] for name in COUNTED)

        try:
            until(is_less)
        except AssertionError:
            raise AssertionError(f"before {before}, and after {held}") from None

    def episode(self, **options: Any) -> None:
        """Play an episode as a well-behaved client."""
        with connect(
            f"ws://{self.address}/ws", proxy=None, open_timeout=PATIENCE_S, **options
        ) as websocket:
            for frame in (RESET, STEP, STEP):
                websocket.send(frame)
                reply = json.loads(websocket.recv(timeout=PATIENCE_S))
                assert reply["type"] == "observation", reply

    def raw(self, data: bytes = b"") -> socket.socket:
        """Return a connection over which `data` has been sent."""
        connection = socket.create_connection(self.host, timeout=PATIENCE_S)
        connection.sendall(data)
        return connection

    def websocket(self, path: str = "/ws", more: str = "") -> socket.socket:
        """Return a connection after a WebSocket's handshake, for frames made by hand."""
        text = HANDSHAKE.format(path=path, host=self.address, more=more)
        connection = self.raw(text.encode())
        reply = b""
        while b"\r\n\r\n" not in reply:
            chunk = connection.recv(1)
            assert chunk, reply
            reply += chunk
        assert reply.startswith(b"HTTP/1.1 101"), reply
        assert b"sec-websocket-extensions" not in reply.lower()
        return connection


def frame(
    data: bytes, opcode: int = 1, *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """Return a client's frame, right or wrong; the mask is zero."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size, mask = len(data), 0x80 if masked else 0
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65536:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (bytes(4) if masked else b"") + data


def is_over(connection: socket.socket) -> bytes:
    """Wait until the server hangs up; return what it had sent by then."""
    found = b""
    with connection:
        try:
            while chunk := connection.recv(65536):
                found += chunk
        except ConnectionError:
            pass
    return found


@contextmanager
def attacked(*arguments: str, **bounds: float) -> Iterator[Server]:
    """Hold a server with short bounds. It must end well, and not have stumbled."""
    program = [sys.executable, "-m", "tests.door.hostile.server"]
    given = json.dumps({**SHORT, **bounds})
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [*program, given, "--port", "0", "--env", "echo", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
        with process:
            try:
                server = Server(process, output)
                while not (
                    found := re.search(r"listening on http://(\S+)", "".join(server.said))
                ):
                    server.line()
                server.address = found[1]
                yield server
                process.terminate()
                process.wait(timeout=30)
                said = server.complaints()
            finally:
                process.kill()
        assert process.returncode == 0, said
        assert "Traceback" not in said
        assert "Fatal" not in said, said
