"""Infos, options and attributes as they are in Python: numpy's scalars and tuples stay such.

A payload of the native form turns both into plain numbers and lists; what Gymnasium makes of an
info's values depends on their types.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from envhub.errors import UsageError
from envhub.wire import arrays, keys

LEFT_OUT = "envhub.left_out"  # among an info: what of it cannot be sent
_SCALAR, _TUPLE, _OBJECTS = 2, 3, 4  # extensions, beside 1 of arrays
_DEEPEST = 16
_MOST_LEFT_OUT = 16
_SURROGATES = re.compile("[\ud800-\udfff]")
_NOTHING = object()
Walk = Callable[[Any, str, list[str], int], Any]
_PLAIN = (bool, float, type(None))


def encode_info(value: Any, name: str = "value") -> bytes:
    """Return what `decode_info` reads: all of a value.

    Args:
        value: what to send.
        name: of it, for the error.

    Raises:
        UsageError: it, or a part of it, cannot be sent.
    """
    return arrays.ENCODER.encode(whole_as_sent(value, name))


def whole_as_sent(value: Any, name: str = "value") -> Any:
    """Return one value as it is sent. Raises what `encode_info` does."""
    lost: list[str] = []
    sent = _sendable(value, name, lost, _DEEPEST)
    if lost:
        raise UsageError(f"only plain data can be sent, and there is {', '.join(lost)}")
    return sent


def sendable(info: Any) -> dict[str, Any]:
    """Return of one environment's info what can be sent, and a note of what cannot."""
    return noted(info, _sendable)


def noted(info: Any, walk: Walk) -> dict[str, Any]:
    """Return of an info what can be sent, and a note of what cannot.

    Args:
        info: as an environment gave it.
        walk: returns of a mapping what can be sent. It is given that, its name, a list for
            the names of what is lost, and how deep it may go.
    """
    lost: list[str] = []
    sent: dict[str, Any] = {}
    if isinstance(info, Mapping):
        sent = walk(info, "info", lost, _DEEPEST)
    elif info is not None:
        lost.append(f"info: `{type(info).__name__}`")
    if lost:
        more = [f"and {len(lost) - _MOST_LEFT_OUT} more"] if len(lost) > _MOST_LEFT_OUT else []
        sent[LEFT_OUT] = lost[:_MOST_LEFT_OUT] + more
    return sent


def is_text(value: Any) -> bool:
    """Whether it is a text that both forms can carry; half of a surrogate pair is not."""
    return isinstance(value, str) and (value.isascii() or not _SURROGATES.search(value))


def encode_sendable(value: Any) -> bytes:
    """Return bytes of what consists of such."""
    return arrays.ENCODER.encode(value)


def as_sent(value: Any) -> Any:
    """Return one value as it is sent; None for what cannot be."""
    sent = _sendable(value, "", [], _DEEPEST)
    return None if sent is _NOTHING else sent


def decode_info(data: bytes) -> Any:
    """Return what `encode_info` was given.

    Raises:
        ValueError, TypeError, RecursionError, msgspec.DecodeError: it is no such thing.
    """
    keys.check(data)
    return _DECODER.decode(data)


def _sendable(value: Any, path: str, lost: list[str], depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        if -(2**63) <= value < 2**64:
            return value
    elif kind is str:
        if is_text(value):
            return value
    elif kind.__module__ == "numpy" and hasattr(value, "dtype"):
        if (found := _numpy(value, path, lost, depth)) is not _NOTHING:
            return found
    elif depth and isinstance(value, Mapping):
        sent = {}
        for key, item in value.items():
            if not is_text(key):
                lost.append(f"{path}[{str(key)[:40]!a}]: its key is no text")
                continue
            one = _sendable(item, f"{path}.{key}", lost, depth - 1)
            if one is not _NOTHING:
                sent[key] = one
        return sent
    elif depth and kind in (list, tuple):
        items = [_sendable(v, f"{path}[{i}]", lost, depth - 1) for i, v in enumerate(value)]
        kept = [item for item in items if item is not _NOTHING]
        if kind is list:
            return kept
        return msgspec.msgpack.Ext(_TUPLE, arrays.ENCODER.encode(kept))
    lost.append(f"{path}: `{kind.__name__}`")
    return _NOTHING


def _numpy(value: Any, path: str, lost: list[str], depth: int) -> Any:
    dtype = value.dtype.str
    if arrays.is_plain(dtype):
        if value.shape:
            return value
        array = arrays.Array(dtype, (), value.tobytes())
        return msgspec.msgpack.Ext(_SCALAR, msgspec.msgpack.encode(array))
    if dtype != "|O" or value.ndim != 1 or not depth:
        return _NOTHING  # of dates, of fields
    items = [
        _sendable(one, f"{path}[{i}]", lost, depth - 1) for i, one in enumerate(value.tolist())
    ]
    kept = [None if item is _NOTHING else item for item in items]
    return msgspec.msgpack.Ext(_OBJECTS, arrays.ENCODER.encode(kept))


def _decode_other(code: int, data: memoryview) -> Any:
    numpy: Any = sys.modules.get("numpy")
    if code in (_TUPLE, _OBJECTS):
        items = decode_info(bytes(data))
        if not isinstance(items, list):
            raise ValueError("a tuple that is none")
        if code == _TUPLE or numpy is None:
            return tuple(items)
        objects = numpy.empty(len(items), object)
        for at, item in enumerate(items):
            objects[at] = item
        return objects
    if code == _SCALAR:
        array = arrays.decode_array(data)
        return array if numpy is None else array[()]
    return arrays.decode_other(code, data)


_DECODER = msgspec.msgpack.Decoder(ext_hook=_decode_other)
