from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.errors import RemoteProtocolError
from envhub.wire import messages
from envhub.wire.messages import (
    BROKER_REPLIES,
    BROKER_REQUESTS,
    FROM_HUB,
    REPLIES,
    REQUESTS,
    Message,
    decode,
    encode,
)

CHANNELS = [
    (REQUESTS, messages.Request),
    (FROM_HUB, messages.FromHub),
    (REPLIES, messages.Reply),
    (BROKER_REQUESTS, messages.BrokerRequest),
    (BROKER_REPLIES, messages.BrokerReply),
]
KINDS = [(decoder, kind) for decoder, union in CHANNELS for kind in get_args(union)]
finite = st.floats(allow_nan=False)


def values(name: str, kind: Any) -> st.SearchStrategy[Any]:
    """What a field of a message may hold."""
    special: dict[str, st.SearchStrategy[Any]] = {
        "form": st.sampled_from(["json", "msgpack"]),
        "op": st.integers(0, 2**53 - 1),
        "agent": st.integers(0, 2**53 - 1),
        "count": st.integers(0, 2**53 - 1),
        "detail": st.integers(-(2**31), 2**31) if kind is int else st.binary(max_size=50),
        "reward": st.none() | finite,
        "reset_options": st.none() | st.lists(st.text(max_size=9), max_size=4).map(tuple),
        "code": st.text(max_size=64),
        "cause": st.text(max_size=64),
        "method": st.text(max_size=64),
    }
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        bytes: st.binary(max_size=200),
        bool: st.booleans(),
    }
    if name in special:
        return special[name]
    return by_type.get(kind, st.text(max_size=200))


def instances(kind: type[Message]) -> st.SearchStrategy[Message]:
    hints = {f.name: f.type for f in msgspec.structs.fields(kind)}
    return st.builds(kind, **{name: values(name, hint) for name, hint in hints.items()})


@pytest.mark.parametrize(("decoder", "kind"), KINDS, ids=lambda v: getattr(v, "__name__", ""))
@given(data=st.data())
def test_every_message_survives_the_wire(decoder: Any, kind: Any, data: st.DataObject) -> None:
    message = data.draw(instances(kind))

    assert decode(decoder, encode(message)) == message


@pytest.mark.parametrize("decoder", [d for d, _ in CHANNELS])
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_are_a_message_or_a_protocol_error(decoder: Any, data: bytes) -> None:
    try:
        decode(decoder, data)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "step", "op": 1, "form": "json"},
        {"type": "step", "op": 1, "form": "json", "action": b"", "extra": 1},
        {"type": "step", "op": -1, "form": "json", "action": b""},
        {"type": "step", "op": 2**53, "form": "json", "action": b""},
        {"type": "step", "op": 1, "form": "pickle", "action": b""},
        {"type": "step", "op": 1, "form": "json", "action": "text"},
        {"type": "observed", "op": 1, "payload": b""},
        {"op": 1},
        [1, 2],
    ],
    ids=["missing", "unknown", "negative", "huge", "form", "mistyped", "reply", "tag", "list"],
)
def test_a_request_that_is_not_exactly_one_is_refused(fields: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(REQUESTS, msgspec.msgpack.encode(fields))


def test_a_cancel_is_refused_where_nobody_has_said_that_he_cancels() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(REQUESTS, encode(messages.Cancel(1)))


def test_bytes_after_a_message_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(REQUESTS, encode(messages.Close(1)) + b"\xc0")


def test_a_text_over_its_limit_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(REPLIES, encode(messages.Failed(1, "code", "x" * (messages.MAX_TEXT + 1))))


def test_nesting_too_deep_for_the_decoder_is_a_protocol_error() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(REPLIES, b"\x91" * 100_000)


def test_a_payload_is_opaque_and_cannot_reach_its_neighbour() -> None:
    hostile = encode(messages.Observed(7, b"", reward=1.0, terminated=True))
    carried = decode(REPLIES, encode(messages.Observed(3, hostile, reward=0.0)))

    assert carried == messages.Observed(3, hostile, reward=0.0)
