"""The frame that nearly every message is, without the library that reads all others. No I/O.

RFC 6455, 5.2. A whole message in one frame, in one read, with its length in as few bytes as do:
what is anything else, or may be, is None here, and the library's to judge. That spares a step
more than half of what a WebSocket costs it.
"""

from __future__ import annotations

from websockets.frames import CTRL_OPCODES, Frame
from websockets.protocol import CONNECTING, Protocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # as the library itself does where it was not compiled
    from websockets.utils import apply_mask

_TEXT, _BINARY = 0x81, 0x82  # final, no reserved bits
_SHORT, _MIDDLE, _LONG = 125, 126, 127  # up to the first; then a mark, and 2 or 8 bytes
_MIDDLE_MOST = 0xFFFF
_MASKED = 0x80


class Between(Protocol):
    """The library's half of either side, which also knows whether a message is under way.

    Attributes:
        left: bytes that came after the handshake and are not in a frame yet.
    """

    left = 0
    _is_partial = False  # of a message some frames have come, and not all

    @property
    def is_between(self) -> bool:
        """Whether nothing of a message has come that is not all there."""
        return self.left == 0 and not self._is_partial

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take what has come."""
        if self.state is not CONNECTING:
            self.left += len(data)
        super().receive_data(data)

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame. What is left is looked at: its head may be longer than it need be."""
        self.left = len(self.reader.buffer)
        if frame.opcode not in CTRL_OPCODES:
            self._is_partial = not frame.fin
        super().recv_frame(frame)


def read(data: bytes, *, masked: bool) -> str | bytes | None:
    """Return the message that these bytes are.

    Args:
        data: what one read has brought, right after the frame before.
        masked: they come from a client.
    """
    size = len(data)
    if size < 2 or data[0] not in (_TEXT, _BINARY):
        return None
    length, at = data[1] - _MASKED if masked else data[1], 2
    if length == _MIDDLE and size > 4:
        length, at = data[2] << 8 | data[3], 4
        if length <= _SHORT:
            return None
    elif length == _LONG and size > 10:
        length, at = int.from_bytes(data[2:10], "big"), 10
        if length <= _MIDDLE_MOST:
            return None
    elif not 0 <= length <= _SHORT:
        return None
    if masked:
        at += 4
    if size != at + length:
        return None
    said = apply_mask(data[at:], data[at - 4 : at]) if masked else data[at:]
    if data[0] == _BINARY:
        return said
    try:
        return said.decode()
    except UnicodeDecodeError:
        return None


def written(message: str | bytes, mask: bytes = b"") -> bytes:
    """Return the bytes of a message.

    Args:
        message: of any length.
        mask: four bytes that nobody could foresee, for a client; nothing for a server.
    """
    if isinstance(message, str):
        first, message = _TEXT, message.encode()
    else:
        first = _BINARY
    length = len(message)
    if mask:
        message = mask + apply_mask(message, mask)
    flag = _MASKED if mask else 0
    if length <= _SHORT:
        return bytes((first, flag | length)) + message
    if length <= _MIDDLE_MOST:
        return bytes((first, flag | _MIDDLE, length >> 8, length & 0xFF)) + message
    return bytes((first, flag | _LONG)) + length.to_bytes(8, "big") + message
