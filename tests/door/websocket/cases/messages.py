"""Messages in fragments, and what text may be. Autobahn's groups 5, 6 and 10."""

from __future__ import annotations

from tests.door.websocket.cases.case import Case, bad, each, good, only
from tests.door.websocket.frames import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    cut,
    fragments,
    frame,
)
from tests.door.websocket.peer import CUT, Talk


def _in(talk: Talk, into: int, text: str = "in parts") -> list[bytes]:
    """Return the frames of a request in so many fragments."""
    return fragments(talk.opcode, cut(talk.ask(text), into=into))


def _between(frames: list[bytes], middle: bytes) -> list[bytes]:
    """Return the frames with another between each two."""
    return [part for one in frames for part in (one, middle)][:-1]


def _one(parts: list[bytes]) -> list[bytes]:
    return [b"".join(parts)]


def _bytes(parts: list[bytes]) -> list[bytes]:
    return cut(b"".join(parts), every=1)


FRAGMENTS = [
    *each(
        (2, 3, 10, 40),
        lambda into: good(f"a message in {into} fragments", "5.4", lambda t: _in(t, into)),
    ),
    good("a message in two fragments, in one segment", "5.4", lambda t: _one(_in(t, 2))),
    good("a message in ten fragments, in one segment", "5.4", lambda t: _one(_in(t, 10))),
    good("a message in fragments, a byte at a time", "5.4", lambda t: _bytes(_in(t, 5))),
    good(
        "a fragment for each byte",
        "5.4",
        lambda t: fragments(t.opcode, cut(t.ask("each"), every=1)),
    ),
    good(
        "a fragment for each byte, in one segment",
        "5.4",
        lambda t: _one(fragments(t.opcode, cut(t.ask("each"), every=1))),
    ),
    good(
        "three messages in fragments, in one segment",
        "5.4",
        lambda t: _one(_in(t, 2, "one") + _in(t, 3, "two") + [t.asking("three")]),
    ),
    good(
        "empty fragments around a message",
        "5.4",
        lambda t: [
            frame(t.opcode, fin=False),
            frame(CONT, fin=False),
            frame(CONT, t.ask(), fin=False),
            frame(CONT, fin=False),
            frame(CONT),
        ],
    ),
    good(
        "a whole message in the first of two fragments",
        "5.4",
        lambda t: [frame(t.opcode, t.ask(), fin=False), frame(CONT)],
    ),
    good(
        "a whole message in the second of two fragments",
        "5.4",
        lambda t: [frame(t.opcode, fin=False), frame(CONT, t.ask())],
    ),
    good(
        "a ping between fragments",
        "5.4, 5.5",
        lambda t: _between(_in(t, 2), frame(PING, b"?")),
        pongs=[b"?"],
    ),
    good(
        "a ping between fragments, in one segment",
        "5.4, 5.5",
        lambda t: _one(_between(_in(t, 2), frame(PING, b"?"))),
        pongs=[b"?"],
    ),
    good(
        "a ping between fragments, a byte at a time",
        "5.4, 5.5",
        lambda t: _bytes(_between(_in(t, 3), frame(PING, b"?"))),
        pongs=[b"?", b"?"],
    ),
    good(
        "pings between twenty fragments",
        "5.4, 5.5",
        lambda t: _between(_in(t, 20), frame(PING, b"?")),
        pongs=[b"?"] * 19,
    ),
    good(
        "pongs between fragments", "5.4, 5.5", lambda t: _between(_in(t, 4), frame(PONG, b"!"))
    ),
    *each(
        (1300, 65_535, 65_536),
        lambda size: good(
            f"70000 bytes in fragments of {size}, each a segment",
            "5.4; Autobahn 10.1.1",
            lambda t: fragments(t.opcode, cut(t.sized(70_000), every=size)),
        ),
    ),
    *each(
        (
            ("the last", True, b"x"),
            ("not the last", False, b"x"),
            ("empty and the last", True, b""),
            ("empty and not the last", False, b""),
        ),
        lambda what, fin, data: bad(
            f"a continuation of nothing, {what}", "5.4", lambda t: [frame(CONT, data, fin=fin)]
        ),
    ),
    bad(
        "a continuation behind a whole message",
        "5.4",
        lambda t: [t.asking() + frame(CONT, b"more")],
    ),
    bad(
        "a continuation behind a message in fragments",
        "5.4",
        lambda t: [*_in(t, 2), frame(CONT, b"more")],
    ),
    bad(
        "a continuation of a ping", "5.4, 5.5", lambda t: [frame(PING, b"?"), frame(CONT, b"!")]
    ),
    *each(
        (
            ("text", TEXT, True),
            ("binary", BINARY, True),
            ("a fragment of text", TEXT, False),
        ),
        lambda what, op, fin: bad(
            f"a message within another, {what}",
            "5.4",
            lambda t: [frame(t.opcode, b"{", fin=False), frame(op, b"}", fin=fin)],
        ),
    ),
    bad(
        "a message within another, in one segment, and its end",
        "5.4",
        lambda t: [frame(t.opcode, b"{", fin=False) + t.asking() + frame(CONT, b"}")],
        1002,
        CUT,
    ),
    bad(
        "each fragment with the opcode of the first",
        "5.4",
        lambda t: [
            frame(t.opcode, part, fin=False) for part in cut(t.lane.asking("three"), into=3)
        ],
        1002,
        CUT,
    ),
]

GOOD_TEXT = {
    "Greek": "κόσμε",
    "astral": "🙂𐀀",
    "combined": "é\u0301\u200d",
    "a byte order mark": "\ufeff",
    "the first of 2 bytes": "\u0080",
    "the last of 2": "\u07ff",
    "the first of 3": "\u0800",
    "the last of 3": "\uffff",
    "the first of 4": "\U00010000",
    "the last of 4": "\U0010ffff",
    "below the surrogates": "\ud7ff",
    "above them": "\ue000",
    "no characters": "\ufdd0\ufffe\U0001fffe",
    "the replacement": "\ufffd",
    "DEL": "\x7f",
}
# as it comes, so with valid text before it and behind it
BAD_TEXT = {
    "a lone continuation": b"\x80",
    "another": b"\xbf",
    "two": b"\x80\xbf",
    "FE": b"\xfe",
    "FF": b"\xff",
    "both": b"\xfe\xfe\xff\xff",
    "a start of 2 alone": b"\xc3",
    "a start of 3 alone": b"\xe2",
    "of 3 without its last": b"\xe2\x82",
    "a start of 4 alone": b"\xf0",
    "of 4 without its last": b"\xf0\x90\x80",
    "of 5": b"\xf8\x88\x80\x80\x80",
    "of 6": b"\xfc\x84\x80\x80\x80\x80",
    "C0": b"\xc0\xaf",
    "C1": b"\xc1\xbf",
    "overlong in 3": b"\xe0\x80\xaf",
    "in 4": b"\xf0\x80\x80\xaf",
    "overlong in 3, the last": b"\xe0\x9f\xbf",
    "in 4, the last": b"\xf0\x8f\xbf\xbf",
    "an overlong NUL": b"\xc0\x80",
    "a surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb9\x82",
    "one beyond Unicode": b"\xf4\x90\x80\x80",
    "F5": b"\xf5\x80\x80\x80",
}


def _split(message: bytes, around: bytes) -> list[bytes]:
    """Return a message in fragments, cut around each byte of some of its bytes."""
    at = message.index(around)
    middle = cut(around, every=1)
    return fragments(TEXT, [message[:at], *middle, message[at + len(around) :]])


def _wrong(talk: Talk, data: bytes) -> bytes:
    return talk.lane.asking(b"before " + data + b" behind")


UTF_8 = [
    *each(
        GOOD_TEXT.items(),
        lambda what, text: good(
            f"{what}, whole", "8.1", lambda t: [t.asking(f"a{text}z".encode())]
        ),
    ),
    *only(
        "openenv",
        *each(
            GOOD_TEXT.items(),
            lambda what, text: good(
                f"{what}, cut at each byte by fragments",
                "5.6, 8.1",
                lambda t: _split(t.ask(f"a{text}z".encode()), text.encode()),
            ),
        ),
        *each(
            BAD_TEXT.items(),
            lambda what, data: bad(
                f"text that is no UTF-8: {what}",
                "8.1",
                lambda t: [frame(TEXT, _wrong(t, data))],
                1007,
            ),
        ),
        *each(
            BAD_TEXT.items(),
            lambda what, data: bad(
                f"text that is no UTF-8, cut by fragments: {what}",
                "8.1",
                lambda t: _one(_split(_wrong(t, data), data)),
                1007,
                CUT,
            ),
        ),
        bad("text that ends in a letter", "8.1", lambda t: [frame(TEXT, b"{\xe2\x82")], 1007),
        bad(
            "fragments of text that end in a letter",
            "8.1",
            lambda t: fragments(TEXT, [b"{\xe2", b"\x82"]),
            1007,
        ),
        bad(
            "a byte order mark of UTF-16",
            "8.1",
            lambda t: [frame(TEXT, '{"'.encode("utf-16"))],
            1007,
        ),
        # the server may say so at once, or when the message has come to its end
        bad(
            "bad text in the first of fragments, and a ping",
            "8.1; Autobahn 6.4",
            lambda t: [frame(TEXT, b"\xff", fin=False), frame(PING), frame(CONT, b"}")],
            1007,
            CUT,
        ),
        bad(
            "a letter that the next fragment makes a bad one, and a ping",
            "8.1; Autobahn 6.4",
            lambda t: [
                frame(TEXT, b"{\xf4", fin=False),
                frame(CONT, b"\x90", fin=False),
                frame(PING),
                frame(CONT, b"\x80\x80}"),
            ],
            1007,
            CUT,
        ),
        Case(
            "binary, where all is text",
            "7.4.1: 1003, or the session's own end",
            lambda t: [frame(BINARY, b"\xff\xfe")],
            (1000, 1003),
        ),
        Case(
            "binary in fragments",
            "7.4.1: 1003, or the session's own end",
            lambda t: fragments(BINARY, [b"\xff", b"\xfe"]),
            (1000, 1003),
        ),
    ),
    *only(
        "native",
        bad("text, where all is binary", "docs/protocol.md", lambda t: [frame(TEXT, b"{}")]),
        bad("an empty text", "docs/protocol.md", lambda t: [frame(TEXT)]),
        bad("text in fragments", "docs/protocol.md", lambda t: fragments(TEXT, [b"{", b"}"])),
        bad(
            "text that is no UTF-8",
            "docs/protocol.md; 8.1",
            lambda t: [frame(TEXT, b"\xff")],
            1002,
            1007,
        ),
        bad("an empty message", "docs/protocol.md", lambda t: [frame(BINARY)]),
        bad(
            "a message that is no MessagePack",
            "docs/protocol.md",
            lambda t: [frame(BINARY, b"\xc1")],
        ),
        good(
            "any bytes at all, cut at each",
            "5.6: binary has no encoding",
            lambda t: fragments(BINARY, cut(t.ask("κόσμε 🙂"), every=1)),
        ),
    ),
]
