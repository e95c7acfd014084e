"""Batches as bytes: where they lie in a memory, and what is said beside them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.errors import RemoteProtocolError
from envhub.wire import blobs, vector
from envhub.wire.blobs import Places, Resets, Told
from envhub.wire.vector import Box, Failure
from tests.wire.test_vector import NUMBER, spaces

seeds = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
resets = st.builds(Resets, st.binary(max_size=9), st.lists(seeds).map(tuple), st.binary())
failures = st.builds(
    Failure, st.integers(0, vector.MAX_TOGETHER - 1), *[st.text(max_size=9)] * 3
)
tolds = st.builds(Told, st.binary(), st.lists(failures, max_size=4).map(tuple))


@given(resets)
def test_what_a_reset_says_is_heard(said: Resets) -> None:
    assert blobs.resets(blobs.encode(said)) == said


@given(tolds)
def test_what_is_said_beside_the_arrays_is_heard(said: Told) -> None:
    assert blobs.told(blobs.encode(said)) == said


@given(spaces)
def test_a_space_is_heard(said: vector.Space) -> None:
    assert blobs.space(vector.encode_space(said)) == said


@given(st.binary(max_size=100))
def test_other_bytes_are_refused_or_whole(data: bytes) -> None:
    for decode in (blobs.resets, blobs.told, blobs.space):
        try:
            decode(data)
        except RemoteProtocolError:
            continue


@given(resets, st.data())
def test_a_reset_cut_short_is_refused(said: Resets, data: st.DataObject) -> None:
    whole = blobs.encode(said)
    cut = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(RemoteProtocolError):
        blobs.resets(whole[:cut])


@given(spaces, spaces, st.integers(1, 9))
def test_every_array_is_in_one_blob_and_begins_at_a_multiple_of_64(
    action: vector.Space, observation: vector.Space, count: int
) -> None:
    layout = vector.lay_out(action, observation, count, most_bytes=2**30)
    places = Places(layout)
    asked = [layout.todo, *layout.actions]
    told = [layout.rewards, layout.ends, *layout.observations[0]]

    for regions, part in ((asked, places.request), (told, places.reply)):
        at = part.start
        for region in regions:
            assert region.offset == at
            at += _bytes_of(region)
        assert at == part.stop
    first, second = places.observations
    assert (places.results.start, places.results.stop) == (places.reply.start, first.start)
    assert (first.stop, first.stop - first.start) == (
        places.reply.stop,
        second.stop - second.start,
    )


def _bytes_of(region: vector.Region) -> int:
    size = int(region.dtype[2:])
    for length in region.shape:
        size *= length
    return -(-size // 64) * 64


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=3, max_size=3), st.binary(max_size=200))
def test_only_a_whole_request_is_one(todo: list[int], rest: bytes) -> None:
    layout = vector.lay_out(NUMBER, Box("<f4", (4,), b"", b""), 3, most_bytes=10**6)
    places = Places(layout)
    blob = bytes(todo) + rest
    if len(blob) == 128:
        assert places.check(blob) == bytes(todo)
    else:
        with pytest.raises(RemoteProtocolError, match="expected 128"):
            places.check(blob)
    with pytest.raises(RemoteProtocolError, match="skipped, stepped or reset"):
        places.check(bytes([*todo[:2], 3]).ljust(128, b"\0"))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=3, max_size=3))
def test_the_ends_of_episodes_are_counted(flags: list[tuple[int, int]]) -> None:
    layout = vector.lay_out(NUMBER, NUMBER, 3, most_bytes=10**6)
    reply = bytearray(3 * 64)
    for at, (end, cut) in enumerate(flags):
        reply[64 + at], reply[64 + 3 + at] = end, cut

    assert Places(layout).ends(bytes(reply), 3) == sum(any(both) for both in flags)


def test_a_space_of_too_many_parts_is_refused_before_it_is_laid_out() -> None:
    head = b"\x82\xa4kind\xa5tuple\xa6spaces\x91"
    with pytest.raises(RemoteProtocolError):
        blobs.space(head * 5000 + msgspec.msgpack.encode({"kind": "multibinary", "shape": []}))
