"""The frame that is read and written by hand is the one that the library reads and writes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from envhub.wire import websocket

MASKS = st.binary(min_size=4, max_size=4)
SIZES = st.sampled_from([0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 100_800])


def judged(data: bytes) -> list[Frame] | None:
    """Return the frames in a client's bytes, as the library reads them; None for an error."""
    protocol = ServerProtocol(max_size=None)
    protocol.state = OPEN
    protocol.parser = super(ServerProtocol, protocol).parse()  # after the handshake
    next(protocol.parser)
    protocol.receive_data(data)
    if protocol.parser_exc is not None:
        return None
    return [event for event in protocol.events_received() if isinstance(event, Frame)]


def masked(first: int, payload: bytes, mask: bytes, *, width: int = 0) -> bytes:
    """Return a client's frame; its length in `width` bytes, or as few as do."""
    length = len(payload)
    width = width or (0 if length < 126 else 2 if length < 65_536 else 8)
    head = {0: length, 2: 126, 8: 127}[width] | 0x80
    said = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((first, head)) + (length.to_bytes(width) if width else b"") + mask + said


@given(st.binary(max_size=200), MASKS, st.sampled_from([0x81, 0x82]))
def test_a_message_in_one_frame_is_read(payload: bytes, mask: bytes, first: int) -> None:
    found = websocket.read(masked(first, payload, mask), masked=True)

    try:
        said = payload.decode() if first == 0x81 else payload
    except UnicodeDecodeError:
        said = None
    assert found == said


@given(SIZES, MASKS)
def test_of_every_size(size: int, mask: bytes) -> None:
    found = websocket.read(masked(0x82, bytes(size), mask), masked=True)

    assert found == bytes(size)


@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            masked,
            st.integers(0, 255),
            st.binary(max_size=140),
            MASKS,
            width=st.sampled_from([0, 2, 8]),
        ),
    ),
    st.binary(max_size=3),
)
@example(b"\x81\xfe\x00\x01abcdx", b"")  # a length in more bytes than it needs
@example(b"\x81\xff" + bytes(7) + b"\x01abcdx", b"")  # likewise
@example(b"\x82\xff\x80" + bytes(7) + b"abcd", b"")  # a length that there cannot be
@example(b"\x81\x01x", b"")  # unmasked
@example(b"\x01\x81abcdx", b"")  # a fragment
@example(b"\xc1\x81abcdx", b"")  # a reserved bit
@example(b"\x89\x81abcdx", b"")  # a ping
def test_what_is_read_is_what_the_library_reads(data: bytes, more: bytes) -> None:
    data += more
    found = websocket.read(data, masked=True)
    if found is None:
        return
    frames = judged(data)

    assert frames is not None
    [frame] = frames
    assert frame.fin
    assert frame.opcode is (Opcode.TEXT if isinstance(found, str) else Opcode.BINARY)
    assert bytes(frame.data) == (found.encode() if isinstance(found, str) else found)


@pytest.mark.parametrize("cut", range(1, 8))
def test_half_a_frame_is_none(cut: int) -> None:
    assert websocket.read(masked(0x81, b"hello", b"abcd")[:-cut], masked=True) is None


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_a_message_is_written_as_the_library_writes_it(message: str | bytes) -> None:
    assert websocket.written(message) == of_library(message)


@given(SIZES, st.booleans())
def test_likewise_of_every_size(size: int, is_text: bool) -> None:
    message = "x" * size if is_text else bytes(size)

    assert websocket.written(message) == of_library(message)


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)), MASKS)
def test_a_client_s_message_is_read_by_a_server(message: str | bytes, mask: bytes) -> None:
    frame = websocket.written(message, mask)

    assert websocket.read(frame, masked=True) == message
    [found] = judged(frame) or []
    assert bytes(found.data) == (message.encode() if isinstance(message, str) else message)


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_a_server_s_message_is_read_by_a_client(message: str | bytes) -> None:
    assert websocket.read(of_library(message), masked=False) == message
    assert websocket.read(of_library(message), masked=True) is None


def of_library(message: str | bytes) -> bytes:
    """Return a server's frame, as the library writes it."""
    is_text = isinstance(message, str)
    data = message.encode() if isinstance(message, str) else message
    return Frame(Opcode.TEXT if is_text else Opcode.BINARY, data).serialize(mask=False)
