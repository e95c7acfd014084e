"""How much a message may be, in how many parts. Autobahn's group 9, and our own bounds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from envhub.door.connections.guard import BOUNDS
from tests.door.websocket.cases.case import bad, each, good, only
from tests.door.websocket.frames import CONT, LONG, PING, cut, fragments, frame, length
from tests.door.websocket.peer import CUT, Talk

KB, MB = 2**10, 2**20
MOST = BOUNDS.frame_bytes
OURS = "docs/decisions/0013"
TOO_MANY = (1002, 1008, 1009, CUT)


def _cut(talk: Talk, size: int, every: int) -> list[bytes]:
    return fragments(talk.opcode, cut(talk.sized(size), every=every))


def _head(talk: Talk, size: int, *, opcode: int | None = None, fin: bool = True) -> bytes:
    """Return the head of a frame that claims so many bytes."""
    first = (0x80 if fin else 0) | (talk.opcode if opcode is None else opcode)
    return bytes([first]) + length(size) + bytes(4)


def _over(talk: Talk) -> Iterator[bytes]:
    """Send one byte more than a message may have, a megabyte at a time."""
    yield frame(talk.opcode, b"x" * MB, fin=False)
    for _ in range(MOST // MB - 1):
        yield frame(CONT, b"x" * MB, fin=False)
    yield frame(CONT, b"x")


def _batches(talk: Talk, batches: int) -> Iterator[bytes]:
    """Send messages by the dozen, each dozen in one segment, and read the answers to each."""
    for number in range(batches):
        yield b"".join(talk.asking(f"{number} {place}") for place in range(12))
        talk.listen()


LIMITS = [
    *each(
        (64 * KB, 256 * KB, MB, 4 * MB),
        lambda size: good(
            f"a message of {size // KB} KiB", "5.2", lambda t: [frame(t.opcode, t.sized(size))]
        ),
    ),
    *each(
        product((64, 1000, 64 * KB), (64 * KB, MB)),
        lambda every, size: good(
            f"{size // KB} KiB in fragments of {every}", "5.4", lambda t: _cut(t, size, every)
        ),
    ),
    *each(
        (512, 1000, 65_521),
        lambda every: good(
            f"1 MiB in segments of {every}",
            "5.2",
            lambda t: cut(frame(t.opcode, t.sized(MB)), every=every),
        ),
    ),
    good("the longest message", "10.4", lambda t: [frame(t.opcode, t.sized(MOST))]),
    good("the longest message, in fragments of 1 MiB", "10.4", lambda t: _cut(t, MOST, MB)),
    bad("a byte more", "10.4; 7.4.1", lambda t: [_head(t, MOST + 1)], 1009),
    bad("a byte more, with all its bytes", "10.4; 7.4.1", lambda t: _all_over(t), 1009, CUT),
    bad("a byte more, in fragments", "10.4; 7.4.1", _over, 1009, CUT),
    bad(
        "a fragment that would make it a byte more",
        "10.4; 7.4.1",
        lambda t: [frame(t.opcode, b"x", fin=False) + _head(t, MOST, opcode=CONT)],
        1009,
    ),
    bad(
        "a length that is just too much, in its largest form",
        "10.4; 7.4.1",
        lambda t: [frame(t.opcode, b"", form=LONG)[:1] + length(MOST + 1, LONG) + bytes(4)],
        1009,
    ),
    good("10000 fragments of a byte", "5.4", lambda t: _cut(t, 10_000, 1)),
    good(
        "10000 empty fragments",
        "5.4",
        lambda t: [
            frame(t.opcode, t.ask(), fin=False) + frame(CONT, fin=False) * 10_000 + frame(CONT)
        ],
    ),
    bad(
        "more fragments than a message may have",
        OURS,
        lambda t: _endless(t, BOUNDS.chunks + 2),
        *TOO_MANY,
    ),
    good(
        "as many pings as a second may have",
        OURS,
        lambda t: [frame(PING, b"%d" % n) for n in range(100)],
        pongs=[b"%d" % n for n in range(100)],
    ),
    bad("a thousand pings at once", OURS, lambda t: [frame(PING, b"?") * 1000], *TOO_MANY),
    good("240 messages, twelve in a segment", "5.2", lambda t: _batches(t, 20)),
    *only(
        "openenv",
        good(
            "600 messages before any answer is read",
            "1.5: a reliable order",
            lambda t: [t.asking(f"{number}") for number in range(600)],
        ),
    ),
]


def _all_over(talk: Talk) -> list[bytes]:
    return [frame(talk.opcode, b"x" * (MOST + 1))]


def _endless(talk: Talk, count: int) -> Iterator[bytes]:
    """Send fragments without end, never many at once: there is a bound for that, too."""
    yield frame(talk.opcode, fin=False)
    for number in range(count // 1000 + 1):
        yield frame(CONT, fin=False) * 1000 + frame(PING)
        talk.listen(pongs=number + 1)
