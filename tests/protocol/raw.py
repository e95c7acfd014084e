"""A client that says exactly what a test wants said, when it wants it."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack
from typing import Any

import msgspec
from websockets.sync.client import ClientConnection, connect

from envhub.wire import native

PATIENCE_S = 10.0


class Raw:
    """One connection. Blocking.

    Args:
        url: of the server.
        headers: of the handshake.
        unread: frames that it takes before a test reads them; None for any number.
    """

    def __init__(
        self, url: str, headers: dict[str, str] | None = None, unread: int | None = None
    ) -> None:
        self.heard: list[native.Reply] = []
        self._stack = ExitStack()
        connecting = connect(
            f"ws{url.removeprefix('http')}/v1/connect",
            subprotocols=[native.VERSION],  # type: ignore[list-item]
            additional_headers=headers,
            compression=None,
            max_size=None,
            max_queue=unread,
            proxy=None,
        )
        self._socket: ClientConnection = self._stack.enter_context(connecting)

    def say(self, *requests: native.Request, group: int = 0, first: int = 0) -> None:
        """Send one frame."""
        self.say_bytes(native.encode(native.Frame(group, first, list(requests))))

    def say_bytes(self, data: bytes) -> None:
        """Send whatever these are."""
        self._socket.send(data)

    def frame(self) -> list[native.Reply]:
        """Return the next frame."""
        data = self._socket.recv(PATIENCE_S)
        assert isinstance(data, bytes)
        return native.replies(data)

    def hear(self) -> Any:
        """Return the next reply, receipts left out."""
        while True:
            while not self.heard:
                self.heard = [r for r in self.frame() if not isinstance(r, native.Process)]
            return self.heard.pop(0)

    def cut(self) -> None:
        """Tear the connection down without a word."""
        raw = self._socket.socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.shutdown(socket.SHUT_RDWR)
        self._stack.close()

    def close(self) -> None:
        """Hang up."""
        self._stack.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def key() -> bytes:
    """Return a key that nobody has."""
    return os.urandom(16)


def packed(**fields: Any) -> bytes:
    """Return a map, as options and actions travel."""
    return msgspec.msgpack.encode(fields)


def unpacked(data: bytes) -> Any:
    """Return what is in a payload."""
    return msgspec.msgpack.decode(data)
