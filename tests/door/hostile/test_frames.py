"""Frames that no honest client sends. Each ends its own connection, and nothing else."""

from __future__ import annotations

import pytest

from tests.door.hostile.arena import RESET, Server, frame, is_over, until

BOUNDS = {"ping_s": 3600.0}  # or a ping without an answer would end what these bounds should
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
STEP_OF_NOTHING = b'{"type":"step","data":%s}'

WRONG = {
    "unmasked": (frame(RESET.encode(), masked=False), 1002),
    "reserved bit 1, which is compression's": (frame(RESET.encode(), rsv=4), 1002),
    "reserved bit 2": (frame(RESET.encode(), rsv=2), 1002),
    "reserved bit 3": (frame(RESET.encode(), rsv=1), 1002),
    "an opcode that there is not": (frame(b"", 3), 1002),
    "a control opcode that there is not": (frame(b"", 11), 1002),
    "a continuation of nothing": (frame(b"x", CONT), 1002),
    "a message within another": (frame(b"x", TEXT, fin=False) + frame(b"x", TEXT), 1002),
    "a ping in fragments": (frame(b"", PING, fin=False), 1002),
    "a ping that is too long": (frame(b"x" * 126, PING), 1002),
    "a close code that there is not": (frame(b"\x03\xed", CLOSE), 1002),
    "a close code of one byte": (frame(b"\x03", CLOSE), 1002),
    "a close with a reason that is no text": (frame(b"\x03\xe8\xff", CLOSE), 1007),
    "a close in a message": (frame(b"x", TEXT, fin=False) + frame(b"", CLOSE), 1002),
    "text that is not UTF-8": (frame(b"\xff\xfe"), 1007),
    "text that is cut within a letter": (frame(b"\xc3"), 1007),
    "a surrogate in text": (frame(b'"\xed\xa0\x80"'), 1007),
    "a length of more than there can be": (b"\x81\xff" + b"\xff" * 8 + bytes(4), 1009),
    "a length over the bound": (b"\x81\xff" + (2**24 + 1).to_bytes(8, "big") + bytes(4), 1009),
    "fragments over the bound": (
        frame(b"x" * 2**24, TEXT, fin=False) + frame(b"x", CONT, fin=False), 1009,
    ),
}  # fmt: skip


def close_code(said: bytes) -> int:
    """Return the code of the close frame that ends what the server has said."""
    at = said.rindex(b"\x88")
    return int.from_bytes(said[at + 2 : at + 4], "big")


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_frame_ends_its_connection_with_the_right_code(
    server: Server, what: str
) -> None:
    data, code = WRONG[what]
    hostile = server.websocket()
    hostile.sendall(data)
    said = is_over(hostile)

    assert close_code(said) == code


NO_REQUESTS = {
    "no JSON": (b"{", b"INVALID_JSON"),
    "JSON, and no object": (b"[]", b"SESSION_ERROR"),
    "a number without end": (b"9" * 5000, b"SESSION_ERROR"),
    "nesting without end": (b"[" * 1_000_000, b"SESSION_ERROR"),
    "objects without end": (b'{"a":' * 500_000, b"SESSION_ERROR"),
    "an action nested without end": (
        STEP_OF_NOTHING % (b'{"message":' + b"[" * 500_000 + b"]" * 500_000 + b"}"), b"error",
    ),
    "NaN": (STEP_OF_NOTHING % b'{"message":NaN}', b"VALIDATION_ERROR"),
    "NUL": (b"\0", b"INVALID_JSON"),
    "an empty message": (b"", b"INVALID_JSON"),
    "another type": (b'{"type":"__class__"}', b"UNKNOWN_TYPE"),
    "a type that is none": (b'{"type":{"a":1}}', b"UNKNOWN_TYPE"),
    "a key twice": (b'{"type":"step","type":"nothing"}', b"UNKNOWN_TYPE"),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_REQUESTS)
def test_what_is_no_request_is_an_error_frame(server: Server, what: str) -> None:
    data, word = NO_REQUESTS[what]
    hostile = server.websocket()
    hostile.sendall(frame(data))
    hostile.sendall(frame(b'{"type":"close"}'))
    said = is_over(hostile)

    assert b'"type":"error"' in said
    assert word in said


def test_binary_ends_the_session_in_words(server: Server) -> None:
    hostile = server.websocket()
    hostile.sendall(frame(RESET.encode(), BINARY))

    assert b"SESSION_ERROR" in is_over(hostile)


@pytest.mark.parametrize("path", ["/ws", "/mcp"])
def test_a_message_that_drips_is_cut_off_and_nobody_waits_for_it(
    server: Server, path: str
) -> None:
    """A byte at a time, each in time for any timeout that counts from the last one."""
    hostile = server.websocket(path)
    message = iter(frame(b"x" * 120_000))
    hostile.settimeout(0.05)
    server.episode()

    def is_cut() -> bool:
        try:
            hostile.sendall(bytes([next(message)]))
            return hostile.recv(4096) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    until(is_cut, "the end of a dripping client")
    hostile.close()


@pytest.mark.parametrize(
    "data",
    [frame(b"x", TEXT, fin=False), b"\x81", frame(b"x" * 4096)[:-1], frame(RESET.encode())[:3]],
    ids=["a fragment", "half a header", "a frame without its last byte", "half a mask"],
)
def test_a_message_without_end_is_cut_off(server: Server, data: bytes) -> None:
    hostile = server.websocket()
    hostile.sendall(data)
    server.episode()
    is_over(hostile)


def test_fragments_of_nothing_are_counted(server: Server) -> None:
    """Six bytes each, and a place in a list: no bound on a message's length holds them."""
    hostile = server.websocket()
    sent = frame(b"x", TEXT, fin=False) + frame(b"", CONT, fin=False) * 70_000
    try:
        hostile.sendall(sent)
    except ConnectionError:
        pass
    server.episode()
    is_over(hostile)


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_a_flood_of_control_frames_ends_its_connection(server: Server, opcode: int) -> None:
    hostile = server.websocket()
    try:
        for _ in range(1000):
            hostile.sendall(frame(b"x" * 125, opcode) * 1000)
        raise AssertionError("a million control frames were taken")
    except ConnectionError:
        pass
    server.episode()
    hostile.close()


def test_pings_of_an_honest_client_are_answered(server: Server) -> None:
    """The control: a bound that refused every ping would pass the test above."""
    honest = server.websocket()
    honest.sendall(frame(b"one", PING) + frame(b"two", PING))
    said = b""
    while said.count(b"\x8a\x03") < 2:
        said += honest.recv(4096)
    honest.close()

    assert b"\x8a\x03one" in said
    assert b"\x8a\x03two" in said


def test_compression_is_not_spoken(server: Server) -> None:
    more = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    hostile = server.websocket(more=more)  # which looks that it was not agreed to
    hostile.sendall(frame(b"\x00\x00\x00\xff\xff" * 1000, rsv=4))

    assert close_code(is_over(hostile)) == 1002
