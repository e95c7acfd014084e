"""Values of MessagePack as JSON would have them, so that both can be compared."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any

import pydantic_core

from envhub.wire import arrays

DIGEST = "sha256 of array"  # the key by which a large array is known
_LARGE = 16 * 1024  # elements; a larger array is told by its digest
_LETTERS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I",
    "u8": "Q", "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


def plain(value: Any) -> Any:
    """Return a value as JSON would have it; what has no form there, in one that can be told."""
    try:
        text = pydantic_core.to_json(value, inf_nan_mode="null", fallback=_other)
    except ValueError:  # bytes that are no text
        text = pydantic_core.to_json(
            value, inf_nan_mode="null", bytes_mode="base64", fallback=_other
        )
    return json.loads(text)


def _other(value: Any) -> Any:
    if type(value).__module__ == "numpy" and getattr(value, "shape", ()) != ():
        value = arrays.Array(value.dtype.str, tuple(value.shape), value.tobytes())
    if isinstance(value, arrays.Array):
        return _array(value)
    try:
        return arrays.as_builtin(value)
    except TypeError:
        return repr(value)


def _array(array: arrays.Array) -> Any:
    letter = _LETTERS.get(array.dtype[1:])
    if letter is None or math.prod(array.shape) > _LARGE:
        digest = hashlib.sha256(array.data).hexdigest()
        return {DIGEST: digest, "dtype": array.dtype, "shape": array.shape}
    order = ">" if array.dtype[0] == ">" else "<"
    values = [value for (value,) in struct.iter_unpack(f"{order}{letter}", array.data)]
    for length in reversed(array.shape[1:]):
        values = [values[at : at + length] for at in range(0, len(values), length or 1)]
    return values
