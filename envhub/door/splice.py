"""Whether bytes from a worker may stand inside a reply. Pure: no sockets, no clock.

A worker is hostile once an environment's code runs in it. Its JSON is forwarded as it came,
so it must be shown to be exactly one value that ends where its bytes end: otherwise
`{},"type":"error"` would rewrite the frame around it. msgspec checks that without building
objects, and its grammar is the standard library's but for two things, which are checked here
because every official client reads with `json.loads`.
"""

from __future__ import annotations

import json

import msgspec

from envhub.errors import RemoteProtocolError

_RAW = msgspec.json.Decoder(msgspec.Raw)
_SMALL_BYTES = 512  # too short to nest deeper than _PLAIN_DEPTH or to hold a long number
_PLAIN_DEPTH = 256  # pydantic's own serializer stops at 255
_MARGIN = 64  # levels left for the envelope and for the stack of whoever reads the reply
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_MANY_COMMAS = 1_000_000  # values that are built to look for a long number among them
_LONG_NUMBER = b"0" * 4301  # `int()` takes 4,300 digits (CVE-2020-10735)


def json_object(payload: bytes) -> str:
    """Return `payload` as text, if it is one JSON object that `json.loads` reads.

    Raises:
        RemoteProtocolError: it is anything else.
    """
    return _checked(payload, "{", "object")


def json_array(payload: bytes) -> str:
    """Return `payload` as text, if it is one JSON array that `json.loads` reads.

    Raises:
        RemoteProtocolError: it is anything else.
    """
    return _checked(payload, "[", "array")


def json_value(payload: bytes) -> str:
    """Return `payload` as text, if it is one JSON value that `json.loads` reads.

    Raises:
        RemoteProtocolError: it is anything else.
    """
    return _checked(payload, "", "value")


def may_hold_a_long_number(payload: bytes) -> bool:
    """Return False only if `payload` has no integer that is too long for `json.loads`."""
    return len(payload) >= len(_LONG_NUMBER) and _LONG_NUMBER in payload.translate(_DIGITS)


def _checked(payload: bytes, opening: str, kind: str) -> str:
    try:
        text = payload.decode("utf-8")  # msgspec does not look inside strings
        _RAW.decode(payload)
        if len(payload) > _SMALL_BYTES:
            _check_depth(payload)
            if may_hold_a_long_number(payload):
                if payload.count(b",") > _MANY_COMMAS:
                    raise ValueError("digits without end, among too many values to look at")
                json.loads(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"expected JSON from the worker: {error}") from error
    if not text.lstrip(" \t\r\n").startswith(opening):
        raise RemoteProtocolError(f"expected a JSON {kind} from the worker")
    return text


def _check_depth(payload: bytes) -> None:
    """Refuse what is nested so deeply that only the hub's own stack has room for it.

    Raises:
        RecursionError: no room is left for `_MARGIN` more levels.
    """
    if payload.count(b"[") + payload.count(b"{") > _PLAIN_DEPTH:
        _RAW.decode(b"[" * _MARGIN + payload + b"]" * _MARGIN)
