from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.wire import arrays


@given(
    st.sampled_from(["<f4", "<f8", "|u1", "<i8", "|b1"]),
    st.lists(st.integers(0, 4), max_size=3),
)
def test_an_array_keeps_dtype_shape_and_values(dtype: str, shape: list[int]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    back = arrays.decode(arrays.ENCODER.encode([array]))[0]

    if shape:
        assert back.dtype == array.dtype
        assert back.shape == array.shape
    assert np.array_equal(back, array)


def test_a_scalar_arrives_as_a_number() -> None:
    assert arrays.decode(arrays.ENCODER.encode(np.float32(1.5))) == 1.5


@pytest.mark.parametrize(
    "array", [np.array(["é", "ab"]), np.array([b"ab"]), np.array([1j]), np.array([True])]
)
def test_text_and_complex_numbers_arrive_too(array: np.ndarray) -> None:
    back = arrays.decode(arrays.ENCODER.encode(array))

    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_an_array_of_times_cannot_be_sent() -> None:
    with pytest.raises(TypeError, match="datetime64"):
        arrays.ENCODER.encode(np.array(["2020-01-01"], "M8[s]"))


def test_an_array_of_objects_cannot_be_sent() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        arrays.ENCODER.encode(np.array([object()]))


def test_a_hostile_array_is_an_error_and_not_an_object() -> None:
    for array in (
        arrays.Array("|O", (1,), b"12345678"),
        arrays.Array("<f4", (1000, 1000), b""),
        arrays.Array("nonsense", (1,), b""),
        arrays.Array("<f4", (1,) * 40, b"1234"),
        arrays.Array("<M8[ns]", (1,), b"12345678"),
        arrays.Array("<m8[0s]", (1,), b"12345678"),
        arrays.Array("|V4", (1,), b"1234"),
        arrays.Array("(9,9)f8", (1,), bytes(648)),
        arrays.Array("<U0", (1,), b""),
        arrays.Array("<U1", (1,), b"\xff\xff\xff\xff"),  # no character: its repr raises
        arrays.Array("<f16", (1,), bytes(16)),
    ):
        ext = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(array))
        with pytest.raises((ValueError, TypeError)):
            arrays.decode(msgspec.msgpack.encode(ext))


def test_an_unknown_extension_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown extension 5"):
        arrays.decode(msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"")))
