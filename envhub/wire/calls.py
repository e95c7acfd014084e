"""What a session's caller says and hears: arguments to bytes, replies to results. No I/O."""

from __future__ import annotations

from math import isfinite
from typing import Any, TypeVar

import msgspec

from envhub.errors import InvalidAction, InvalidOption, RemoteProtocolError
from envhub.results import Bill, Record, StepResult, record, step_result
from envhub.wire import arrays, native
from envhub.wire.framing import MAX_FRAME_BYTES
from envhub.wire.messages import Finished, Observed, Reply

T = TypeVar("T")
MAX_ACTION_BYTES = MAX_FRAME_BYTES - 1024  # the rest of its frame
_EMPTY = b"\x80"  # a map of none: what most metadata is
_UNSENDABLE = (TypeError, ValueError, OverflowError, RecursionError)


def options(seed: int | None, episode_id: str | None, others: dict[str, Any]) -> bytes:
    """Return the options of a reset, encoded.

    Raises:
        InvalidOption: one cannot be sent.
    """
    try:
        return arrays.ENCODER.encode({"seed": seed, "episode_id": episode_id, **others})
    except _UNSENDABLE as error:
        raise InvalidOption(f"an option cannot be sent: {error}") from None


def action(value: Any) -> bytes:
    """Return an action, encoded.

    Raises:
        InvalidAction: it cannot be sent.
    """
    if type(value) is not dict and hasattr(value, "model_dump"):
        value = value.model_dump()
    try:
        data = arrays.ENCODER.encode(value)
    except _UNSENDABLE as error:
        raise InvalidAction(f"the action cannot be sent: {error}") from None
    if len(data) > MAX_ACTION_BYTES:
        raise InvalidAction(f"an action of {len(data)} bytes is over {MAX_ACTION_BYTES}")
    return data


def result(observed: Observed | native.Observed) -> StepResult:
    """Return what the user sees of an observation.

    Raises:
        RemoteProtocolError: the worker's bytes are no such thing, or its reward no number.
    """
    reward, metadata = observed.reward, observed.metadata
    if reward is not None and not isfinite(reward):
        raise RemoteProtocolError(f"the worker's reward is {reward}")
    return step_result(
        _decode(observed.payload),
        reward,
        observed.terminated,
        observed.truncated,
        Record() if metadata == _EMPTY else _mapping(metadata),
    )


def state(payload: bytes) -> Record:
    """Return what the user sees of a state.

    Raises:
        RemoteProtocolError: the worker's bytes are no such thing.
    """
    return _mapping(payload)


def bill(used: dict[str, float]) -> Bill:
    """Return what the user sees of a bill.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        return msgspec.convert(used, Bill, strict=False)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise RemoteProtocolError(f"the hub's bill is none: {error}") from None


def part(reply: Reply) -> StepResult | None:
    """Return one part of a step; None when there are no more.

    Raises:
        RemoteProtocolError: it is neither.
    """
    return None if isinstance(reply, Finished) else result(expect(reply, Observed))


def has_more(reply: Reply) -> bool:
    """Whether the step that this is a part of may have another."""
    return isinstance(reply, Observed) and reply.is_part


def expect(reply: object, kind: type[T]) -> T:
    """Return the reply if it is of the kind that answers the call.

    Raises:
        RemoteProtocolError: it is of another.
    """
    if not isinstance(reply, kind):
        name = type(reply).__name__
        raise RemoteProtocolError(f"a reply `{name}`, expected `{kind.__name__}`")
    return reply


def _decode(data: bytes) -> Any:
    try:
        return record(arrays.decode(data))
    except (msgspec.DecodeError, ValueError, TypeError, SyntaxError, RecursionError) as error:
        raise RemoteProtocolError(f"the worker's payload is not MessagePack: {error}") from None


def _mapping(data: bytes) -> Record:
    found = _decode(data)
    if not isinstance(found, Record):
        raise RemoteProtocolError(f"a `{type(found).__name__}` from the worker, no mapping")
    return found
