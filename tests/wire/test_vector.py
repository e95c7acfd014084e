"""Where the arrays of many environments lie, and infos that keep their types."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.errors import RemoteProtocolError, UsageError
from envhub.wire import infos, vector
from envhub.wire.vector import Box, Dict, Discrete, Layout, MultiBinary, Region, Tuple

BOX = Box("<f4", (4,), b"", b"")
NUMBER = Discrete(2, 0, "<i8")


def regions(layout: Layout) -> list[Region]:
    both = [region for turn in layout.observations for region in turn]
    flags = [layout.todo, layout.rewards, layout.ends]
    return [*flags, *layout.actions, *both]


shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
boxes = st.builds(
    Box, st.sampled_from(["<f4", "<f8", "|u1", "|b1"]), shapes, *[st.just(b"")] * 2
)
spaces = st.recursive(
    boxes | st.just(NUMBER) | st.builds(MultiBinary, shapes),
    lambda inner: st.builds(Tuple, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=6,
)


@given(spaces, spaces, st.integers(1, 9))
def test_no_two_arrays_lie_on_each_other_or_outside(
    action: vector.Space, observation: vector.Space, count: int
) -> None:
    layout = vector.lay_out(action, observation, count, most_bytes=2**30)
    places = sorted(
        (r.offset, r.offset + int(np.prod(r.shape)) * np.dtype(r.dtype).itemsize)
        for r in regions(layout)
    )

    assert places[0][0] > vector.ANSWERED + 8
    assert all(a[1] <= b[0] for a, b in pairwise(places))
    assert places[-1][1] <= layout.size_bytes
    assert all(count in r.shape[:2] and r.offset % 64 == 0 for r in regions(layout))


def test_what_is_too_large_too_deep_or_no_number_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="over 1000000 bytes"):
        vector.lay_out(NUMBER, Box("|u1", (2**39, 2**39), b"", b""), 4, most_bytes=10**6)
    with pytest.raises(RemoteProtocolError, match=r"dtype `\|O`"):
        vector.leaves(Box("|O", (), b"", b""))
    with pytest.raises(RemoteProtocolError, match="too many"):
        vector.leaves(Tuple((NUMBER,) * 1000))
    deep: Any = NUMBER
    for _ in range(40):
        deep = Tuple((deep,))
    with pytest.raises(RemoteProtocolError, match="too many"):
        vector.leaves(deep)


def test_a_space_survives_the_wire() -> None:
    said = vector.Gathered(1, NUMBER, Dict(("a", "b"), (BOX, MultiBinary((3,)))), b"", None)
    data = msgspec.msgpack.encode(said)

    assert vector.VECTOR_REPLIES.decode(data) == said


@pytest.mark.parametrize(
    "value",
    [
        (1, 2.5, ("a", None)),
        {"pair": (True, [1, (2,)])},
        np.float32(2.5),
        np.int64(-3),
        np.bool_(True),
        2**64 - 1,
    ],
    ids=str,
)
def test_an_info_keeps_the_types_of_its_values(value: Any) -> None:
    found = infos.decode_info(infos.encode_info(value))

    assert found == value
    assert type(found) is type(value)


def test_what_cannot_be_sent_of_an_info_is_left_out_and_named() -> None:
    info = {"kept": 1, "lost": object(), 3: 4, "deep": {"huge": 2**70}, "half": "\ud800"}

    assert infos.sendable(info) == {
        "kept": 1,
        "deep": {},
        infos.LEFT_OUT: [
            "info.lost: `object`",
            "info['3']: its key is no text",
            "info.deep.huge: `int`",
            "info.half: `str`",
        ],
    }


def test_what_is_sent_as_a_whole_loses_nothing() -> None:
    with pytest.raises(UsageError, match=r"there is a\.deep\[1\]: `object`, a\.also: `object`"):
        infos.encode_info({"kept": 1, "deep": [1, object()], "also": object()}, "a")
