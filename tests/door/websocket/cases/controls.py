"""Pings, pongs and closes. Autobahn's groups 2 and 7."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from tests.door.websocket.cases.case import Case, bad, each, free, good
from tests.door.websocket.frames import (
    CLOSE,
    CONT,
    LONG,
    MIDDLE,
    NAMES,
    PING,
    PONG,
    closing,
    cut,
    frame,
)
from tests.door.websocket.peer import CUT

CONTROLS = (CLOSE, PING, PONG)
FORMS = {MIDDLE: "2 bytes", LONG: "8 bytes"}


def _pings(*payloads: bytes) -> bytes:
    return b"".join(frame(PING, data) for data in payloads)


TEN = tuple(b"ping %d" % number for number in range(10))
PINGS = [
    good("an empty ping", "5.5.2", lambda t: [_pings(b"")], pongs=[b""]),
    good("a ping", "5.5.2", lambda t: [_pings(b"hello")], pongs=[b"hello"]),
    good(
        "a ping of any bytes",
        "5.5.2",
        lambda t: [_pings(b"\0\xff\xfe\xfd")],
        pongs=[b"\0\xff\xfe\xfd"],
    ),
    good("a ping of 125 bytes", "5.5", lambda t: [_pings(b"p" * 125)], pongs=[b"p" * 125]),
    good(
        "a ping of 125 bytes, a byte at a time",
        "5.5",
        lambda t: cut(_pings(b"p" * 125), every=1),
        pongs=[b"p" * 125],
    ),
    good("ten pings in one segment", "5.5.3", lambda t: [_pings(*TEN)], pongs=TEN),
    good(
        "ten pings, a byte at a time", "5.5.3", lambda t: cut(_pings(*TEN), every=1), pongs=TEN
    ),
    good(
        "a ping between two messages, in one segment",
        "5.5.2",
        lambda t: [t.asking("one") + _pings(b"?") + t.asking("two")],
        pongs=[b"?"],
    ),
    good(
        "a ping ahead of a message and one behind it",
        "5.5.2",
        lambda t: [_pings(b"1"), t.asking(), _pings(b"2")],
        pongs=[b"1", b"2"],
    ),
    good("a pong that nobody asked for", "5.5.3", lambda t: [frame(PONG)]),
    good("a pong of bytes that nobody asked for", "5.5.3", lambda t: [frame(PONG, b"\0" * 4)]),
    good(
        "pongs around a ping",
        "5.5.3",
        lambda t: [frame(PONG, b"a") + _pings(b"b") + frame(PONG, b"c")],
        pongs=[b"b"],
    ),
    *each(
        CONTROLS,
        lambda op: bad(
            f"a {NAMES[op]} of 126 bytes", "5.5", lambda t: [frame(op, b"\x03\xe8" * 63)]
        ),
    ),
    *each(
        CONTROLS,
        lambda op: bad(
            f"a {NAMES[op]} of 65536 bytes",
            "5.5",
            lambda t: [frame(op, b"\x03\xe8" * 32_768)],
            1002,
            CUT,
        ),
    ),
    # of the sender it is a MUST; the receiver may take it
    *each(
        product((PING, PONG), FORMS),
        lambda op, form: free(
            f"a {NAMES[op]} whose short length is in {FORMS[form]}",
            "5.2, 5.5",
            lambda t: [frame(op, b"?", form=form)],
        ),
    ),
    *each(
        FORMS,
        lambda form: bad(
            f"a close whose short length is in {FORMS[form]}",
            "5.2, 5.5",
            lambda t: [frame(CLOSE, b"\x03\xe8", form=form)],
            1000,
            1002,
        ),
    ),
    *each(
        CONTROLS,
        lambda op: bad(
            f"a {NAMES[op]} in fragments",
            "5.5",
            lambda t: [frame(op, b"\x03\xe8", fin=False) + frame(CONT)],
            1002,
            CUT,
        ),
    ),
]

VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
REGISTERED = (1012, 1013, 1014)  # later than the RFC, with IANA
INVALID = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999)
BEYOND = (5000, 10_000, 65_535)  # which the RFC does not speak of
BAD_REASONS = {
    "a lone byte": b"\xff",
    "a cut letter": b"ok \xc3",
    "a surrogate": b"\xed\xa0\x80",
    "an overlong NUL": b"\xc0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
}


def _closed(name: str, section: str, parts: Iterable[bytes], *codes: int) -> Case:
    """Return a case that ends well: the close comes back, with its own code or 1000."""
    sent = list(parts)
    return Case(name, section, lambda t: sent, codes)


CLOSES = [
    _closed("a close without a code", "5.5.1", [closing()], 1005, 1000),
    _closed(
        "a close without a code, a byte at a time", "5.5.1", cut(closing(), every=1), 1005, 1000
    ),
    *each(
        VALID,
        lambda code: _closed(
            f"a close with {code}", "7.4.1, 7.4.2", [closing(code)], code, 1000
        ),
    ),
    *each(
        REGISTERED,
        lambda code: _closed(
            f"a close with {code}", "7.4.1: registered", [closing(code)], code, 1000, 1002
        ),
    ),
    *each(
        INVALID, lambda code: bad(f"a close with {code}", "7.4.1", lambda t: [closing(code)])
    ),
    *each(
        BEYOND,
        lambda code: _closed(
            f"a close with {code}", "7.4.2: undefined", [closing(code)], code, 1000, 1002
        ),
    ),
    _closed("a close with a reason", "5.5.1", [closing(1000, b"bye")], 1000),
    _closed(
        "a close with a reason of more than ASCII",
        "5.5.1",
        [closing(1000, "κόσμε 🙂".encode())],
        1000,
    ),
    _closed("a close with the longest reason", "5.5", [closing(1000, b"r" * 123)], 1000),
    _closed(
        "a close with the longest reason, a byte at a time",
        "5.5",
        cut(closing(1000, b"r" * 123), every=1),
        1000,
    ),
    bad("a close with too long a reason", "5.5", lambda t: [closing(1000, b"r" * 124)]),
    bad("a close with half a code", "5.5.1", lambda t: [frame(CLOSE, b"\x03")]),
    *each(
        BAD_REASONS.items(),
        lambda what, reason: bad(
            f"a close whose reason is not UTF-8: {what}",
            "5.5.1, 8.1",
            lambda t: [closing(1000, reason)],
            1007,
            1002,
        ),
    ),
    _closed("two closes", "5.5.1", [closing(1000) + closing(1001)], 1000, CUT),
    _closed("a ping behind a close", "5.5.1", [closing(1000) + frame(PING, b"?")], 1000, CUT),
    _closed(
        "a bad frame behind a close", "5.5.1", [closing(1000) + frame(3, rsv=7)], 1000, CUT
    ),
    _closed("1 MiB behind a close", "5.5.1", [closing(1000), bytes(2**20)], 1000, CUT),
    Case(
        "a message behind a close",
        "5.5.1",
        lambda t: [closing(1000) + frame(t.opcode, t.lane.asking("late"))],
        (1000, CUT),
    ),
    Case(
        "a close behind a message, in one segment",
        "5.5.1, 7.1.2",
        lambda t: [frame(t.opcode, t.lane.asking("perhaps")) + closing(1000)],
        (1000,),
    ),
    Case(
        "a close in the middle of a message",
        "5.4, 5.5.1",
        lambda t: [frame(t.opcode, t.lane.asking("half"), fin=False) + closing(1000)],
        (1000, 1002),
    ),
    Case(
        "a close in the middle of a message, whose end comes later",
        "5.4, 5.5.1",
        lambda t: [frame(t.opcode, b"{", fin=False), closing(1000), frame(CONT, b"}")],
        (1000, 1002, CUT),
    ),
    Case(
        "a close behind a ping", "5.5.1", lambda t: [frame(PING, b"?") + closing(1000)], (1000,)
    ),
]
