"""`envhub.door.splice`, seen through the frames it protects: no worker writes the envelope."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envhub.door import frames
from envhub.errors import InvalidAction, RemoteProtocolError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
BREACHES = [
    b"",
    b" ",
    b"[]",
    b"null",
    b'"x"',
    b"{} {}",
    b"{},",
    b"{}}",
    b'{},"type":"error"',
    b'{}},{"x":{}',
    b"{}],[{}",
    b'{"a":NaN}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b"\xef\xbb\xbf{}",
    b"{}\x00",
    b'{"a":' + b"1" * 4301 + b"}",
    b'{"a":-' + b"9" * 4301 + b"}",
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b"{" * 600,
    b'{"a":[' + b"1," * 1_000_001 + b"1" * 4301 + b"]}",
]


@pytest.mark.parametrize("payload", BREACHES, ids=lambda payload: repr(payload[:20]))
def test_a_payload_that_is_not_one_object_is_a_breach(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        frames.observation(payload)
    with pytest.raises(RemoteProtocolError):
        frames.state(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b" {} ",
        b'{"a":' + b"1" * 4300 + b"}",
        b'{"digits":"' + b"1" * 5000 + b'"}',
        b'{"a":' + b"[" * 250 + b"]" * 250 + b"}",
        b'{"a":[' + b"[1]," * 5000 + b"[2]]}",
        '{"a":"é😀"}'.encode(),
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_an_unusual_object_is_no_breach(payload: bytes) -> None:
    assert json.loads(frames.state(payload).text)["data"] == json.loads(payload)


def mangled(payload: bytes, at: int, junk: bytes) -> bytes:
    at %= len(payload) + 1
    return payload[:at] + junk + payload[at:]


HOSTILE = st.one_of(
    st.binary(),
    st.text(alphabet='{}[]",:\\ \n\t0123456789.eE+-tfnaNIu/\x00é').map(str.encode),
    st.builds(
        mangled,
        st.dictionaries(st.text(), JSON).map(lambda value: json.dumps(value).encode()),
        st.integers(min_value=0),
        st.one_of(
            st.binary(max_size=3), st.sampled_from([b"}", b'"', b"{}", b',"type":1', b"\\"])
        ),
    ),
    st.builds(lambda n: b'{"a":' + b"[" * n + b"]" * n + b"}", st.integers(0, 3000)),
    st.builds(lambda n: b'{"a":[0,' + b"7" * n + b"]}", st.integers(4200, 4400)),
)


@given(HOSTILE)
@example(b'{},"type":"error"')
@example(b'{"a":"\\ud800"}')
def test_no_payload_can_change_the_envelope(payload: bytes) -> None:
    try:
        answer = frames.observation(payload)
    except RemoteProtocolError:
        return

    reply = json.loads(answer.text)
    assert list(reply) == ["type", "data"]
    assert reply["type"] == "observation"
    assert repr(reply["data"]) == repr(json.loads(payload))
    assert isinstance(reply["data"], dict)
    assert answer.close_code == 0


@pytest.mark.parametrize("depth", [100, 250, *range(800, 1000, 3)])
def test_what_is_accepted_can_be_read_by_a_client_whose_stack_is_deeper(depth: int) -> None:
    def read(text: str, frames_below: int) -> None:
        if frames_below:
            read(text, frames_below - 1)
        else:
            json.loads(text)

    try:
        answer = frames.observation(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    except RemoteProtocolError:
        return
    read(answer.text, 40)


@given(HOSTILE)
def test_no_list_of_errors_can_change_the_envelope(detail: bytes) -> None:
    answer = frames.failed(InvalidAction("x", detail=detail))

    data = json.loads(answer.text)["data"]
    assert json.loads(answer.text)["type"] == "error"
    if answer.close_code:
        assert data["cause"] == "remote_protocol"
    else:
        assert list(data) == ["message", "code", "errors"]
        assert isinstance(data["errors"], list)


@given(st.dictionaries(st.text(), JSON))
def test_every_object_that_pydantic_writes_is_forwarded_as_it_is(value: dict[str, Any]) -> None:
    from pydantic_core import to_json

    payload = to_json(value, inf_nan_mode="null")

    assert frames.observation(payload).text == (
        '{"type":"observation","data":' + payload.decode() + "}"
    )
