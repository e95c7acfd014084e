"""The frame that nearly every message is, without the library that reads all others. Pure.

RFC 6455, 5.2. A whole message in one frame, in one read, masked, of at most 65,535 bytes, with
its length in as few bytes as do: what is anything else, or may be, is None here, and the
library's to judge. That spares a step more than half of what a WebSocket costs it.
"""

from __future__ import annotations

from websockets.speedups import apply_mask

_TEXT, _BINARY = 0x81, 0x82  # final, no reserved bits
_SHORT, _MIDDLE = 125, 126  # lengths up to the one; then the other, and two bytes
_LONGEST = 0xFFFF
_MASKED = 0x80


def message(data: bytes) -> str | bytes | None:
    """Return the message that a client's bytes are."""
    size = len(data)
    if size < 6 or data[0] not in (_TEXT, _BINARY):
        return None
    length, at = data[1] - _MASKED, 2
    if length == _MIDDLE and size > 8:
        length, at = data[2] << 8 | data[3], 4
        if length <= _SHORT:
            return None
    elif not 0 <= length <= _SHORT:
        return None
    if size != at + 4 + length:
        return None
    said = apply_mask(data[at + 4 :], data[at : at + 4])
    if data[0] == _BINARY:
        return said
    try:
        return said.decode()
    except UnicodeDecodeError:
        return None


def frame(message: str | bytes) -> bytes | None:
    """Return the bytes of a server's message."""
    if isinstance(message, str):
        first, message = _TEXT, message.encode()
    else:
        first = _BINARY
    length = len(message)
    if length <= _SHORT:
        return bytes((first, length)) + message
    if length <= _LONGEST:
        return bytes((first, _MIDDLE, length >> 8, length & 0xFF)) + message
    return None
