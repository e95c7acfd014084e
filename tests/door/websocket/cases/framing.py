"""Frames one by one: lengths, masks, reserved bits, opcodes. Autobahn's groups 1, 3 and 4."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import product

from tests.door.websocket.cases.case import bad, each, free, good
from tests.door.websocket.frames import (
    BINARY,
    CLOSE,
    CONT,
    LONG,
    MIDDLE,
    NAMES,
    PING,
    TEXT,
    cut,
    frame,
    length,
)
from tests.door.websocket.peer import CUT, Talk

# around the edges of each form of a length; the shortest request has more than 40 bytes
SIZES = (90, 124, 125, 126, 127, 128, 256, 1000, 65_534, 65_535, 65_536, 65_537)
LENGTHS = [
    *each(
        SIZES,
        lambda size: good(
            f"a message of {size} bytes", "5.2", lambda t: [frame(t.opcode, t.sized(size))]
        ),
    ),
    *each(
        (90, 125, 126, 1000),
        lambda size: good(
            f"a message of {size} bytes, a byte at a time",
            "5.2",
            lambda t: cut(frame(t.opcode, t.sized(size)), every=1),
        ),
    ),
    *each(
        (997, 1024, 16_384, 65_536),
        lambda step: good(
            f"a message of 65536 bytes, {step} at a time",
            "5.2",
            lambda t: cut(frame(t.opcode, t.sized(65_536)), every=step),
        ),
    ),
    *each(
        range(1, 16),
        lambda at: good(
            f"a frame whose first {at} bytes come by themselves",
            "5.2",
            lambda t: _first(t, at),
        ),
    ),
    *each(
        range(10, 130, 10),
        lambda size: good(
            f"a frame whose last {size} bytes are one, if read by themselves",
            "5.2, 10.3",
            lambda t: _within(t, size),
        ),
    ),
    good("many messages in one segment", "5.2", lambda t: [b"".join(_twelve(t))]),
    good(
        "many messages, cut across each other",
        "5.2",
        lambda t: cut(b"".join(_twelve(t)), every=7),
    ),
    *each(
        (("middle", MIDDLE), ("large", LONG)),
        lambda name, form: free(
            f"a small length in the form of a {name} one",
            "5.2: the minimal number of bytes",
            lambda t: [frame(t.opcode, t.ask("short"), form=form)],
        ),
    ),
    free(
        "a middle length in the form of a large one",
        "5.2: the minimal number of bytes",
        lambda t: [frame(t.opcode, t.sized(200), form=LONG)],
    ),
    *each(
        ((63, 0), (63, -1), (64, -1), (32, 0), (31, -1)),
        lambda bits, extra: bad(
            f"a length of 2**{bits}{extra:+d}",
            "5.2, 7.4.1: the top bit is 0; too big",
            lambda t: [_claimed(t.opcode, 2**bits + extra)],
            1002,
            1009,
        ),
    ),
    *each(
        (CONT, CLOSE, PING),
        lambda op: bad(
            f"a {NAMES[op]} that claims 2**64-1 bytes",
            "5.5: 125 at most",
            lambda t: [_claimed(op, 2**64 - 1)],
            1002,
            1009,
        ),
    ),
]


def _within(talk: Talk, size: int) -> Iterator[bytes]:
    """Send a frame in two parts, of which the second looks like a frame of its own."""
    message = talk.ask("a" * 200)
    at = len(message) - size
    mask = bytearray(b"\1\2\3\4")
    mask[at % 4] = message[at] ^ (0x80 | talk.opcode)
    mask[(at + 1) % 4] = message[at + 1] ^ (0x80 | (size - 6))
    whole = frame(talk.opcode, message, mask=bytes(mask))
    yield whole[:-size]
    talk.is_read()
    yield whole[-size:]


def _first(talk: Talk, at: int) -> Iterator[bytes]:
    whole = frame(talk.opcode, talk.sized(70_000))
    yield whole[:at]
    talk.is_read()
    yield whole[at:]


def _twelve(talk: Talk) -> list[bytes]:
    return [talk.asking(f"message {number}") for number in range(12)]


def _claimed(opcode: int, size: int) -> bytes:
    return bytes([0x80 | opcode]) + length(0, LONG)[:1] + struct.pack("!Q", size) + bytes(4)


MASKS = [
    *each(
        (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0", b"\x80\0\0\0"),
        lambda mask: good(
            f"the mask {mask.hex()}", "5.3", lambda t: [frame(t.opcode, t.ask(), mask=mask)]
        ),
    ),
    *each(
        range(100, 117),
        lambda size: good(
            f"{size} bytes under a mask",
            "5.3",  # every place that a word-wise loop can end at
            lambda t: [frame(t.opcode, t.sized(size), mask=b"\x01\x02\x03\x04")],
        ),
    ),
    bad("no mask", "5.1", lambda t: [frame(t.opcode, t.ask(), mask=None)]),
    bad("no mask on an empty message", "5.1", lambda t: [frame(t.opcode, mask=None)]),
    bad("no mask on a ping", "5.1", lambda t: [frame(PING, b"?", mask=None)]),
    bad("no mask on a close", "5.1", lambda t: [frame(CLOSE, b"\x03\xe8", mask=None)]),
    bad(
        "no mask on the second fragment",
        "5.1",
        lambda t: [
            frame(t.opcode, b"{", fin=False),
            frame(CONT, b"}", mask=None),
        ],
    ),
]
RESERVED = [
    *each(
        range(1, 8),
        lambda bits: bad(
            f"reserved bits {bits:03b} on a request that is good but for them",
            "5.2",
            lambda t: [frame(t.opcode, t.lane.asking("x"), rsv=bits)],
        ),
    ),
    *each(
        product((BINARY, TEXT, CLOSE, PING), range(1, 8)),
        lambda op, bits: bad(
            f"reserved bits {bits:03b} on a {NAMES[op]}",
            "5.2",
            lambda t: [frame(op, b"\x03\xe8", rsv=bits)],
        ),
    ),
    *each(
        (1, 2, 4),
        lambda bits: bad(
            f"reserved bits {bits:03b} behind a good message",
            "5.2",
            lambda t: [t.asking() + frame(t.opcode, t.lane.asking("x"), rsv=bits)],
        ),
    ),
    *each(
        (1, 2, 4),
        lambda bits: bad(
            f"reserved bits {bits:03b} on a later fragment",
            "5.2; 7692 6.1",
            lambda t: [frame(t.opcode, b"{", fin=False), frame(CONT, b"}", rsv=bits)],
        ),
    ),
    bad(
        "reserved bits on the second message, a byte at a time",
        "5.2",
        lambda t: cut(t.asking() + frame(t.opcode, b"{}", rsv=2), every=1),
    ),
]
UNKNOWN = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
OPCODES = [
    *each(
        UNKNOWN,
        lambda op: bad(
            f"opcode {op} on a request that is good but for it",
            "5.2",
            lambda t: [frame(op, t.lane.asking("x"))],
        ),
    ),
    *each(UNKNOWN, lambda op: bad(f"opcode {op}, empty", "5.2", lambda t: [frame(op)])),
    *each(UNKNOWN, lambda op: bad(f"opcode {op}", "5.2", lambda t: [frame(op, b"data")])),
    *each(
        (3, 11),
        lambda op: bad(
            f"opcode {op} behind a good message, and a ping behind it",
            "5.2, 7.1.7",
            lambda t: [t.asking() + frame(op, b"data") + frame(PING)],
            1002,
            CUT,
        ),
    ),
    bad(
        "opcode 5 in the middle of a message",
        "5.2",
        lambda t: [frame(t.opcode, b"{", fin=False), frame(5), frame(CONT, b"}")],
        1002,
        CUT,
    ),
    bad(
        "nothing but zeros",
        "5.1, 5.4",
        lambda t: [bytes(64)],
        1002,
        CUT,
    ),
    bad(
        "HTTP", "5.1", lambda t: [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"], 1002, 1009, CUT
    ),
    bad(
        "a second handshake",
        "5.1",
        lambda t: [b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
        1002,
        1009,
        CUT,
    ),
]
