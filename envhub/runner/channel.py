"""JSON in frames over a socket: how keeper, interpreter and environment speak."""

from __future__ import annotations

import json
import select
import socket
from typing import Any

from envhub.errors import RemoteProtocolError
from envhub.wire.framing import FrameBuffer, encode_frame

MAX_BYTES = 16 * 1024 * 1024  # of one message: code, or a value with MAX_VALUES in it
_READ_BYTES = 64 * 1024


class Channel:
    """One end of a conversation.

    Args:
        peer: a stream socket; its timeout is the deadline of each wait.
    """

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self._frames = FrameBuffer(max_bytes=MAX_BYTES)

    def send(self, message: dict[str, Any]) -> None:
        """Write one message.

        Raises:
            LocalProtocolError: it is over MAX_BYTES.
            OSError: the peer is gone.
        """
        data = json.dumps(message, ensure_ascii=True).encode()
        self.socket.sendall(encode_frame(data, max_bytes=MAX_BYTES))

    def receive(self) -> dict[str, Any] | None:
        """Wait for one message; None when the peer is gone.

        Raises:
            RemoteProtocolError: it is not a message.
            TimeoutError: none came in time.
        """
        while (message := self.next_message()) is None:
            if not self.fill():
                return None
        return message

    def fill(self) -> bool:
        """Read what is there; False when the peer is gone."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self._frames.receive_data(data)
        return bool(data)

    def is_readable(self) -> bool:
        """Whether something has come that nobody has read, or the peer is gone."""
        return bool(len(self._frames) or select.select([self.socket], [], [], 0)[0])

    def has_hung_up(self) -> bool:
        """Whether the peer is gone, whatever it has left behind to be read."""
        poll = select.poll()
        poll.register(self.socket, 0)  # an end is told of unasked
        return bool(poll.poll(0))

    def next_message(self) -> dict[str, Any] | None:
        """Return a message that has arrived whole, or None.

        Raises:
            RemoteProtocolError: it is not a message.
        """
        frame = self._frames.next_frame()
        if frame is None:
            return None
        try:
            message = json.loads(frame)
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"not a message: {error}") from None
        if not isinstance(message, dict):
            raise RemoteProtocolError("not a message: no object")
        return message
