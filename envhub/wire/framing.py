"""Length-prefixed frames: bytes in, frames out. No I/O.

A frame is a 4-byte big-endian length, then that many bytes. The same code serves the
session's blocking socket and the hub's asynchronous one, because it touches neither; the
shape is h11's `receive_data` / `next_event` (https://sans-io.readthedocs.io).
"""

from __future__ import annotations

import struct

from envhub.errors import LocalProtocolError, RemoteProtocolError

HEADER = struct.Struct(">I")
_HEADER_BYTES = HEADER.size
_unpack = HEADER.unpack_from
MAX_FRAME_BYTES = 64 * 1024 * 1024  # one 4K RGB observation is 24 MiB; leave room for two


def encode_frame(payload: bytes, *, max_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """Return `payload` with its header.

    Raises:
        LocalProtocolError: `payload` is longer than `max_bytes`.
    """
    if len(payload) > max_bytes:
        raise LocalProtocolError(f"a frame of {len(payload)} bytes is over {max_bytes}")
    return HEADER.pack(len(payload)) + payload


class FrameBuffer:
    """Collects received bytes and hands back whole frames, in order.

    Args:
        max_bytes: longest payload accepted. Checked against the header, before any of the
            payload is buffered, so a hostile length cannot make the hub allocate it.

    Attributes:
        waiting: bytes that are to become frames.
    """

    def __init__(self, *, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self.waiting = bytearray()

    def receive(self, data: bytes) -> bytes | bytearray | None:
        """Append bytes just read from the peer, and return the next whole payload, if any.

        As `receive_data` and `next_frame`, and quicker where the bytes are one frame, which
        almost all are.

        Raises:
            RemoteProtocolError: as `next_frame`.
        """
        if len(data) >= _HEADER_BYTES and not self.waiting:
            (length,) = _unpack(data)
            if length == len(data) - _HEADER_BYTES and length <= self._max_bytes:
                return data[_HEADER_BYTES:]
        self.waiting += data
        return self.next_frame()

    def receive_data(self, data: bytes) -> None:
        """Append bytes just read from the peer."""
        self.waiting += data

    def next_frame(self) -> bytes | bytearray | None:
        """Return the next whole payload, or None if more bytes are needed.

        One that nothing follows is the buffer itself: a copy of a large one would hold up
        whoever shares the thread.

        Raises:
            RemoteProtocolError: the peer announced a payload longer than `max_bytes`. The
                buffer is then unusable: close the connection.
        """
        if len(self.waiting) < HEADER.size:
            return None
        (length,) = HEADER.unpack_from(self.waiting)
        if length > self._max_bytes:
            raise RemoteProtocolError(
                f"a frame of {length} bytes is over {self._max_bytes}", frame_bytes=length
            )
        end = HEADER.size + length
        if len(self.waiting) < end:
            return None
        if len(self.waiting) == end:
            whole, self.waiting = self.waiting, bytearray()
            del whole[: HEADER.size]
            return whole
        payload = bytes(self.waiting[HEADER.size : end])
        del self.waiting[:end]
        return payload

    def __len__(self) -> int:
        """Return how many bytes wait to become frames."""
        return len(self.waiting)
