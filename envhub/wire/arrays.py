"""Arrays inside MessagePack: dtype, shape and raw bytes, as extension 1.

numpy is never imported for this: values are recognised by what they are, and a decoder
without numpy hands out the `Array` itself.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import msgspec

from envhub.wire import keys

_ARRAY = 1
MAX_DIMENSIONS = 32  # numpy 1's own limit
# numbers and text, nothing that is an object, has fields or a unit of its own
_DTYPES = re.compile(
    r"\|?b1|[<>|][iu][1248]|[<>][fc][248]|[<>]c16|\|S[1-9]\d{0,5}|[<>]U[1-9]\d{0,5}"
)
_MAX_CODE_POINT = 0x10FFFF


class Array(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An array as it travels.

    Args:
        dtype: as numpy's `dtype.str`, such as "<f4".
        shape: lengths, outermost first.
        data: the elements, in C order.
    """

    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data: bytes


_PACK = msgspec.msgpack.Encoder()
_UNPACK = msgspec.msgpack.Decoder(Array)


def _encode_other(value: Any) -> Any:
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        if value.dtype.hasobject:
            raise TypeError("an array of Python objects cannot be sent")
        if value.shape and not _DTYPES.fullmatch(value.dtype.str):
            raise TypeError(f"an array of dtype `{value.dtype}` cannot be sent")
        if value.shape == ():
            return value.item()
        array = Array(value.dtype.str, tuple(value.shape), value.tobytes())
        return msgspec.msgpack.Ext(_ARRAY, _PACK.encode(array))
    raise TypeError(f"a `{type(value).__name__}` cannot be sent; make it plain data")


def is_plain(dtype: str) -> bool:
    """Whether arrays of it travel."""
    return _DTYPES.fullmatch(dtype) is not None


def decode_other(code: int, data: memoryview) -> Any:
    """Return the array of an extension, for decoders.

    Raises:
        ValueError, msgspec.DecodeError: it is none.
    """
    if code != _ARRAY:
        raise ValueError(f"unknown extension {code}")
    return decode_array(data)


def decode_array(data: memoryview) -> Any:
    """Return the array that is encoded so.

    Raises:
        ValueError, msgspec.DecodeError: there is none.
    """
    array = _UNPACK.decode(data)
    if len(array.shape) > MAX_DIMENSIONS:
        raise ValueError(f"an array of {len(array.shape)} dimensions")
    if not _DTYPES.fullmatch(array.dtype):
        raise ValueError(f"an array of dtype `{array.dtype[:40]}`")
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return array
    if array.dtype[1] == "U":
        codes = numpy.frombuffer(array.data, f"{array.dtype[0]}u4")
        if codes.size and codes.max() > _MAX_CODE_POINT:
            raise ValueError("an array of text that is none")
    return numpy.frombuffer(array.data, numpy.dtype(array.dtype)).reshape(array.shape)


ENCODER = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_DECODER = msgspec.msgpack.Decoder(ext_hook=decode_other)


def decode(data: bytes) -> Any:
    """Return what ENCODER was given, arrays included.

    Raises:
        msgspec.DecodeError, ValueError, TypeError, RecursionError: it is no such thing.
    """
    if len(data) >= keys.LEAST_BYTES:
        keys.check(data)
    return _DECODER.decode(data)


def as_builtin(value: Any) -> Any:
    """Return numpy's scalars and arrays as numbers and lists.

    Raises:
        TypeError: it is something else, in the words that OpenEnv's server uses.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Unable to serialize unknown type: {type(value)}")
