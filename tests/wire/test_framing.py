from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.errors import LocalProtocolError, RemoteProtocolError
from envhub.wire.framing import HEADER, FrameBuffer, encode_frame

payloads = st.lists(st.binary(max_size=300), max_size=8)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(payloads, st.lists(st.integers(min_value=0), max_size=20))
def test_any_fragmentation_gives_the_same_frames(sent: list[bytes], cuts: list[int]) -> None:
    buffer = FrameBuffer()
    received: list[bytes] = []
    for piece in split(b"".join(map(encode_frame, sent)), cuts):
        buffer.receive_data(piece)
        while (frame := buffer.next_frame()) is not None:
            received.append(bytes(frame))

    assert received == sent
    assert len(buffer) == 0


@given(payloads, st.lists(st.integers(min_value=0), max_size=20))
def test_received_at_once_they_are_the_same(sent: list[bytes], cuts: list[int]) -> None:
    buffer = FrameBuffer()
    received: list[bytes] = []
    for piece in split(b"".join(map(encode_frame, sent)), cuts):
        frame = buffer.receive(piece)
        while frame is not None:
            received.append(bytes(frame))
            frame = buffer.next_frame()

    assert received == sent
    assert not buffer.waiting


def test_what_is_too_long_is_refused_also_when_it_came_whole() -> None:
    with pytest.raises(RemoteProtocolError, match="a frame of 11 bytes is over 10"):
        FrameBuffer(max_bytes=10).receive(encode_frame(b"01234567890"))


def test_a_length_over_the_limit_is_refused_before_its_payload_arrives() -> None:
    buffer = FrameBuffer(max_bytes=10)
    buffer.receive_data(HEADER.pack(11))

    with pytest.raises(RemoteProtocolError, match="a frame of 11 bytes is over 10"):
        buffer.next_frame()


def test_a_frame_of_exactly_the_limit_passes() -> None:
    buffer = FrameBuffer(max_bytes=10)
    buffer.receive_data(encode_frame(b"0123456789"))

    assert buffer.next_frame() == b"0123456789"


def test_we_cannot_send_a_frame_over_the_limit() -> None:
    with pytest.raises(LocalProtocolError):
        encode_frame(b"01234567890", max_bytes=10)


def test_a_frame_that_was_handed_over_is_not_touched_by_the_next() -> None:
    buffer = FrameBuffer()
    buffer.receive_data(encode_frame(b"first"))
    first = buffer.next_frame()
    buffer.receive_data(encode_frame(b"second") + encode_frame(b"third")[:6])
    second = buffer.next_frame()
    buffer.receive_data(encode_frame(b"third")[6:])

    assert (first, second, buffer.next_frame()) == (b"first", b"second", b"third")
    assert len(buffer) == 0
