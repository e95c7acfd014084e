"""A server that says what no server should: an error of ours, whatever it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from envhub import AutoAction, AutoEnv, HTTPEnvClient
from envhub.client import fetch, http, speech
from envhub.errors import EnvhubError, InvalidAction, RemoteProtocolError, WorkerLost

DEEP = json.loads("[" * 800 + "]" * 800)
_POLL_S = 0.01  # half a second is the default, and an end waits for it


@contextmanager
def answering(
    body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Iterator[str]:
    """Hold a server that has one answer for everything."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,))
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
def test_a_document_is_an_object(said: Any) -> None:
    with answering(said) as url, pytest.raises(RemoteProtocolError):
        fetch.document(url, "/schema")


def test_a_document_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_LONGEST", 1000)
    with answering({"x": "x" * 1000}) as url:
        with pytest.raises(RemoteProtocolError, match="over 1000 bytes"):
            fetch.document(url, "/schema")


def test_a_redirect_is_not_followed_with_a_token() -> None:
    """Nor is any other: whom the server names has not been asked."""
    with answering({"stolen": True}) as elsewhere:
        with answering({}, 302, {"location": f"{elsewhere}/schema"}) as url:
            with pytest.raises(WorkerLost, match="302"):
                fetch.document(url, "/schema", {"authorization": "Bearer secret"})


@pytest.mark.parametrize("environments", [None, 3, [3], [{"name": "x"}]])
def test_a_list_of_environments_is_one(environments: Any) -> None:
    with answering({"environments": environments}) as url:
        with pytest.raises(RemoteProtocolError, match="list is none"):
            AutoEnv.list_environments(url)


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
