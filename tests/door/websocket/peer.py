"""A client on a raw socket: what it sends is nobody's but the test's."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import Iterable
from contextlib import suppress

from tests.door.websocket.frames import CLOSE, PING, PONG, Heard, Reader, closing, frame
from tests.door.websocket.lanes import LANES, Lane

PATIENCE_S = 20.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_AT_ONCE = struct.pack("ii", 1, 0)
CUT = 0  # instead of a close code: the connection ended without one


def accept_for(key: bytes) -> bytes:
    """Return what a server must make of a key (4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


class Peer:
    """One connection. Blocking; nothing is sent that a test did not ask for.

    Args:
        address: of the server.
        unread: how many bytes its kernel takes before it is read from; None for as it is.
        secure: for TLS.
    """

    def __init__(
        self,
        address: tuple[str, int],
        unread: int | None = None,
        secure: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = socket.socket()
        if unread is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, unread)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure is not None:
            self.socket = secure.wrap_socket(self.socket, server_hostname=address[0])
        self._reader = Reader()
        self.closed_with: int | None = None  # the code; CUT for none; None while it is open

    def send(self, *parts: bytes) -> None:
        """Send each part by itself. A server that has hung up is heard of when it is read."""
        with suppress(ConnectionError, ssl.SSLError):
            for part in parts:
                self.socket.sendall(part)

    def head(self) -> bytes:
        """Return an HTTP response's head, or what there is of one at the end; keep the rest."""
        found = b""
        while b"\r\n\r\n" not in found:
            chunk = self._recv()
            if not chunk:
                return found
            found += chunk
        head, _, rest = found.partition(b"\r\n\r\n")
        self._reader.feed(rest)
        return head + b"\r\n"

    def rest(self) -> bytes:
        """Return all bytes up to the end of the connection, which the server must bring."""
        return b"".join(iter(self._recv, b""))

    def hear(self) -> Heard | None:
        """Return the next frame; None when the server has hung up."""
        while (found := self._reader.next()) is None:
            chunk = self._recv()
            if not chunk:
                self.closed_with = self.closed_with or CUT
                return None
            self._reader.feed(chunk)
        if found.opcode == CLOSE:
            self.closed_with = 1005 if found.code is None else found.code
        return found

    def all(self) -> list[Heard]:
        """Return all frames up to the end of the connection, which the server must bring."""
        heard = []
        while (found := self.hear()) is not None:
            heard.append(found)
        return heard

    def shut(self) -> None:
        """Send nothing more, and go on to listen."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Tear the connection down without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.socket.close()

    def _recv(self) -> bytes:
        try:
            return self.socket.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            return b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def handshake(
    lane: Lane, address: tuple[str, int], *, key: bytes | None = None, more: str = ""
) -> bytes:
    """Return the opening handshake of an honest client, and `more` headers."""
    key = key or base64.b64encode(os.urandom(16))
    text = (
        f"GET {lane.path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key.decode()}\r\n"
        f"Sec-WebSocket-Version: 13\r\n{lane.headers}{more}\r\n"
    )
    return text.encode()


class Talk:
    """A connection after its handshake, with an episode that has begun.

    Args:
        address: of the server.
        way: a name of LANES.
        unread: as for a peer.
        more: headers of the handshake.
        secure: for TLS.
    """

    def __init__(
        self,
        address: tuple[str, int],
        way: str,
        unread: int | None = None,
        more: str = "",
        secure: ssl.SSLContext | None = None,
    ) -> None:
        self.lane = LANES[way]()
        self.opcode = self.lane.opcode
        self.peer = Peer(address, unread, secure)
        self._secure = secure
        self.expected: list[str] = []
        self.answered: list[str] = []
        self.pongs: list[bytes] = []
        self.sizes: list[int] = []  # of the messages that were heard
        self._parts: list[bytes] = []
        self.peer.send(handshake(self.lane, address, more=more))
        head = self.peer.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"sec-websocket-extensions" not in head.lower()
        self.peer.send(frame(self.opcode, self.lane.opening()))
        self.expected.append("seed 1")
        self.listen()

    def ask(self, text: str | bytes = "hi") -> bytes:
        """Return the message of a step, whose answer is expected from now on."""
        self.expected.append(text if isinstance(text, str) else text.decode())
        return self.lane.asking(text)

    def asking(self, text: str | bytes = "hi") -> bytes:
        """Return a frame with such a message."""
        return frame(self.opcode, self.ask(text))

    def sized(self, size: int) -> bytes:
        """Return such a message of so many bytes."""
        message, text = self.lane.sized(size)
        self.expected.append(text)
        return message

    def say(self, parts: Iterable[bytes]) -> None:
        """Send each part by itself."""
        for part in parts:
            self.peer.send(part)

    def is_read(self) -> None:
        """Wait until the server has read what was sent: it has turned to others since."""
        with Peer(self.peer.socket.getpeername()[:2], secure=self._secure) as other:
            other.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.head().startswith(b"HTTP/1.1 200")

    def listen(self, *, pongs: int = 0) -> None:
        """Listen until all that was asked is answered, or the server closes."""
        while len(self.answered) < len(self.expected) or len(self.pongs) < pongs:
            if not self._hear():
                return

    def end(self) -> int | None:
        """Listen until the server hangs up; return the code that it gave, CUT for none."""
        while self._hear():
            pass
        if self.peer.closed_with != CUT:
            self.peer.send(closing(1000))  # it may be the server that waits for one
        self.peer.all()
        return self.peer.closed_with

    def _hear(self) -> bool:
        """Take one frame; return whether there may be more."""
        heard = self.peer.hear()
        if heard is None or heard.opcode == CLOSE:
            return False
        if heard.opcode == PONG:
            self.pongs.append(heard.data)
        elif heard.opcode == PING:
            self.peer.send(frame(PONG, heard.data))
        else:
            self._parts.append(heard.data)
            if heard.fin:
                message = b"".join(self._parts)
                self._parts.clear()
                self.sizes.append(len(message))
                self.answered += self.lane.answers(message)
        return True

    def close(self) -> int | None:
        """Close as an honest client does; return the code that comes back."""
        self.peer.send(closing(1000))
        return self.end()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.socket.close()
