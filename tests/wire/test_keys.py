from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.wire import arrays, keys

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | (
    st.text(max_size=300) | st.binary(max_size=300)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20)
    | st.dictionaries(st.integers(0, 2**63), inner, max_size=15),
    max_leaves=40,
)  # fmt: skip


def large_map(key: Any) -> bytes:
    """A map of 16 entries: fifteen texts, and this."""
    return msgspec.msgpack.encode({**{f"{n}": n for n in range(15)}, key: 0})


def test_the_shortest_large_map_is_as_long_as_is_looked_at() -> None:
    shortest = b"\xde" + (16).to_bytes(2, "big") + b"".join(bytes((n, 0)) for n in range(16))

    assert len(shortest) == keys.LEAST_BYTES
    with pytest.raises(ValueError, match="keys that are not text"):
        arrays.decode(shortest)


@given(values)
def test_maps_with_text_keys_or_few_pass(value: Any) -> None:
    encoded = msgspec.msgpack.encode([{str(n): value for n in range(16)}, value])

    keys.check(encoded)


@pytest.mark.parametrize("key", [1, -1, 2**40, 1.5, None, True, b"x", (1, 2)])
@given(before=values)
def test_a_large_map_with_another_key_is_refused_wherever_it_is(key: Any, before: Any) -> None:
    hidden = msgspec.Raw(large_map(key))

    with pytest.raises(ValueError, match="keys that are not text"):
        keys.check(msgspec.msgpack.encode([before, {"a": [hidden]}]))


@given(st.binary(max_size=300).map(lambda tail: b"\xde\x00" + tail))
def test_bytes_that_are_no_messagepack_end_the_walk(data: bytes) -> None:
    try:
        keys.check(data)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "value", [b"\x80", b"\x90", b"\xdc\x00\x00", b"\xdf\0\0\0\0", b"\xd4\x01\x00", b"\xc7\0\1"]
)
def test_a_bomb_of_small_containers_is_refused(value: bytes) -> None:
    """A byte each, and an object of a hundred: 4 MiB would become 600."""
    count = 4_000_000 // len(value)

    with pytest.raises(ValueError, match="values"):
        keys.check(b"\xdd" + count.to_bytes(4) + value * count)


def test_large_data_and_many_numbers_pass() -> None:
    keys.check(msgspec.msgpack.encode({"image": bytes(32 << 20), "list": [0.5] * 500_000}))


def test_more_values_than_anybody_needs_are_refused() -> None:
    many = b"\x92" + large_map("x") + b"\xdd" + (keys.MAX_VALUES + 1).to_bytes(4)

    with pytest.raises(ValueError, match="values"):
        keys.check(many + bytes(keys.MAX_VALUES + 1))


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"]
)
def test_a_depth_that_only_some_interpreters_refuse_is_refused(opening: bytes) -> None:
    keys.check(opening * keys.MAX_DEPTH + b"\x01")  # as deep as that passes

    with pytest.raises(ValueError, match="in each other"):
        keys.check(opening * (keys.MAX_DEPTH + 1) + b"\x01")


def test_many_containers_side_by_side_are_not_deep() -> None:
    keys.check(msgspec.msgpack.encode([[n] for n in range(5000)]))
