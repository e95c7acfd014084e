"""A WebSocket's frames, made and read by hand: right ones, and any kind of wrong ones."""

from __future__ import annotations

import struct
from typing import NamedTuple

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
MASK = b"\x37\xfa\x21\x3d"  # of RFC 6455's own example (5.7)
SHORT, MIDDLE, LONG = 125, 65_535, 2**63 - 1  # the largest of each form of a length (5.2)


def masked(data: bytes, mask: bytes) -> bytes:
    """Return data under a mask, or from under it."""
    size = len(data)
    if not any(mask):
        return data
    stream = mask * (size // 4 + 1)
    both = int.from_bytes(data, "little") ^ int.from_bytes(stream[:size], "little")
    return both.to_bytes(size, "little")


def length(size: int, form: int | None = None, bit: int = 0x80) -> bytes:
    """Return a frame's length as it is written, with the bit for whether it is masked.

    Args:
        size: whatever is to be claimed.
        form: SHORT, MIDDLE or LONG, right or wrong; None for the one that RFC 6455 asks for.
        bit: 0 for a frame without a mask.
    """
    if form is None:
        form = next(form for form in (SHORT, MIDDLE, LONG) if size <= form)
    if form == SHORT:
        return bytes([bit | size])
    if form == MIDDLE:
        return bytes([bit | 126]) + struct.pack("!H", size)
    return bytes([bit | 127]) + struct.pack("!Q", size)


def frame(
    opcode: int,
    data: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    form: int | None = None,
) -> bytes:
    """Return a client's frame.

    Args:
        opcode: of 4 bits, whatever they mean.
        data: what it carries.
        fin: it is the message's last.
        rsv: the three reserved bits; 4 is the first.
        mask: None for a frame that breaks the rule that clients mask.
        form: of the length, as for `length`.
    """
    first = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if mask is None:
        return first + length(len(data), form, 0) + data
    return first + length(len(data), form) + mask + masked(data, mask)


def fragments(opcode: int, parts: list[bytes]) -> list[bytes]:
    """Return the frames of one message, in so many parts."""
    last = len(parts) - 1
    return [
        frame(CONT if number else opcode, part, fin=number == last)
        for number, part in enumerate(parts)
    ]


def cut(data: bytes, *, into: int = 0, every: int = 0) -> list[bytes]:
    """Return data in parts: so many of about one size, or each of so many bytes."""
    every = every or max(1, -(-len(data) // into))
    return [data[at : at + every] for at in range(0, len(data), every)]


def closing(code: int | None = None, reason: bytes = b"") -> bytes:
    """Return a close frame, with a code or, by the RFC, without."""
    return frame(CLOSE, (b"" if code is None else struct.pack("!H", code)) + reason)


class Heard(NamedTuple):
    """A frame of the server's."""

    opcode: int
    data: bytes
    fin: bool = True

    @property
    def code(self) -> int | None:
        """The code of a close."""
        return int.from_bytes(self.data[:2], "big") if self.data else None


class Reader:
    """The server's bytes to frames. What no server may send is an error of the test's."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_message = False  # of which more fragments must come
        self._is_closed = False

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> Heard | None:
        """Return the next whole frame, if it is there."""
        data = self._data
        if len(data) < 2:
            return None
        first, second = data[0], data[1]
        opcode, size, start = first & 15, second & 127, 2
        if size > SHORT:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        found = Heard(opcode, bytes(data[start : start + size]), bool(first & 0x80))
        del data[: start + size]
        self._judge(found, first, second, start)
        return found

    def _judge(self, found: Heard, first: int, second: int, start: int) -> None:
        size = len(found.data)
        late = self._is_closed and found.opcode not in (PING, PONG)
        assert not late, f"a frame behind a close frame (5.5.1): {found}"
        assert not first & 0x70, f"reserved bits, and nothing was negotiated (5.2): {first:#x}"
        assert not second & 0x80, "a server must not mask (5.1)"
        assert found.opcode in NAMES, f"no such opcode (5.2): {found.opcode}"
        assert start == len(length(size)) + 1, f"a length of {size} in {start - 1} bytes (5.2)"
        if found.opcode >= CLOSE:
            assert found.fin, "a control frame in fragments (5.5)"
            assert size <= SHORT, "a control frame that is too long (5.5)"
            self._is_closed = self._is_closed or found.opcode == CLOSE
            if found.opcode == CLOSE and size:
                assert size >= 2, "half a close code (5.5.1)"
                found.data[2:].decode()
            return
        assert self._is_message == (found.opcode == CONT), "a fragment out of its place (5.4)"
        self._is_message = not found.fin

    def rest(self) -> bytes:
        """Return what has come and is no frame."""
        return bytes(self._data)
