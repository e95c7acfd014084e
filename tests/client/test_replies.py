"""A server that says what no server should: an error of ours, whatever it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from envhub import AutoAction, HTTPEnvClient
from envhub.client import http, pinned, speech
from envhub.errors import EnvhubError, InvalidAction, RemoteProtocolError

DEEP = json.loads("[" * 800 + "]" * 800)


@contextmanager
def answering(body: Any, status: int = 200) -> Iterator[str]:
    """Hold a server that has one answer for everything."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "wrong",
    [
        {"reward": 10**400}, {"reward": float("nan")}, {"reward": float("inf")},
        {"metadata": "x"}, {"metadata": [1]}, {"observation": DEEP},
    ],
    ids=lambda wrong: str(wrong)[:30],
)  # fmt: skip
def test_what_is_no_result_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        speech.result(wrong)


@pytest.mark.parametrize("at", [1, None, {}, "x"])
def test_a_complaint_without_a_place_is_one(at: Any) -> None:
    error = speech.failure({"code": "VALIDATION_ERROR", "errors": [{"loc": at, "msg": "no"}]})

    assert isinstance(error, InvalidAction)
    assert str(error) == "no"


@pytest.mark.parametrize(
    "reply", [{"result": {}}, {"error": {"data": 3}}, {"error": {"data": "max_sessions"}}]
)
def test_a_session_without_an_id_is_an_error(reply: Any) -> None:
    with answering(reply) as url, pytest.raises(EnvhubError), HTTPEnvClient(url) as env:
        env.reset()


def test_a_reply_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LONGEST", 1000)
    with answering({"result": "x" * 1000}) as url, HTTPEnvClient(url) as env:
        with pytest.raises(RemoteProtocolError, match="over 1000 bytes"):
            env.reset()


@pytest.mark.parametrize("said", [[], None, 3])
def test_a_schema_that_is_none_cannot_be_compared(said: Any) -> None:
    with answering(said) as url, pytest.raises(RemoteProtocolError):
        pinned.check(url, {"action": {}}, {}, 5)


@pytest.mark.parametrize(
    "properties", [[], {"a": 1}, {"__base__": {}}, {"_x": {}}, {"a": {"anyOf": []}}]
)
def test_an_action_that_no_class_can_be_is_an_error(properties: Any) -> None:
    said = {
        "action": {"properties": properties},
        "environments": [{"name": "echo", "description": ""}],
    }
    with answering(said) as url, pytest.raises(RemoteProtocolError):
        AutoAction.from_env("echo", url)
