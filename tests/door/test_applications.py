"""What an application in a sandbox may make the door say: nothing but a response."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envhub.door import applications
from envhub.errors import RemoteProtocolError

HEADERS = st.lists(st.lists(st.text(max_size=9), min_size=2, max_size=2), max_size=4)


def answer(**changed: Any) -> bytes:
    body = base64.b64encode(b"hello").decode()
    return json.dumps(
        {"status": 200, "headers": [["x", "y"]], "body": body, **changed}
    ).encode()


def test_an_answer_is_forwarded_but_for_what_is_the_connection_s() -> None:
    headers = [["link", "a"], ["link", "b"], ["transfer-encoding", "chunked"]]
    found = applications.response(answer(status=418, headers=headers))

    assert (found.status_code, found.body) == (418, b"hello")
    assert found.headers.getlist("link") == ["a", "b"]
    assert "transfer-encoding" not in found.headers
    assert found.headers["content-length"] == "5"
    assert found.headers["content-security-policy"].startswith("sandbox")


def test_it_sets_no_cookies_for_other_servers_of_this_machine() -> None:
    headers = [["Set-Cookie", "a=1; Path=/"], ["clear-site-data", '"cookies"']]
    found = applications.response(answer(headers=headers))

    assert not {"set-cookie", "clear-site-data"} & set(found.headers)


def test_its_own_policy_does_not_replace_ours() -> None:
    found = applications.response(answer(headers=[["Content-Security-Policy", "none"]]))

    assert found.headers.getlist("content-security-policy") == ["sandbox allow-scripts"]


@pytest.mark.parametrize(
    "broken",
    [
        b"", b"[]", b"{}", b"[" * 10_000, answer(status=99), answer(status=101),
        answer(status="200"), answer(body="?"), answer(body=None), answer(headers=[["x"]]),
        answer(headers=[["x", "a\r\nset-cookie: b"]]), answer(headers=[["x y", "a"]]),
        answer(headers=[["", "a"]]), answer(headers=[["x", "\u20ac"]]),
        answer(headers=[["x", "y"]] * 257),
    ],
    ids=lambda data: data[:40].decode(),
)  # fmt: skip
def test_what_is_no_response_is_refused(broken: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        applications.response(broken)


@given(st.binary(max_size=64) | HEADERS.map(lambda headers: answer(headers=headers)))
@example(answer(headers=[["content-length", "99"]]))
def test_no_bytes_make_more_than_one_response(data: bytes) -> None:
    try:
        found = applications.response(data)
    except RemoteProtocolError:
        return
    assert all(not set(value) & set(b"\r\n\0") for _, value in found.raw_headers)
    assert found.headers["content-length"] == str(len(found.body))
