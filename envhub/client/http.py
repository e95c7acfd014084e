"""A client of one environment over plain HTTP, where a WebSocket does not get through.

OpenEnv's server forgets between two requests. Ours keeps a session for whoever names it, so
this client has an episode: it is made by the first call, and ended by `close`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPException
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from envhub.client import speech
from envhub.client.exchange import exchange
from envhub.errors import (
    CapacityError,
    DeadlineExceeded,
    NotAllowed,
    RemoteProtocolError,
    SessionClosed,
    UsageError,
    WorkerLost,
    WorkerStartFailed,
)
from envhub.results import StepResult

_UNKNOWN_SESSION = -32602
_LONGEST = 100 * 1024 * 1024  # of a reply, as over a WebSocket


class HTTPEnvClient:
    """A session over HTTP. Blocking; used by one thread at a time.

        with HTTPEnvClient("http://127.0.0.1:8000/envs/echo") as env:
            env.reset(seed=7)
            result = env.step({"message": "hello"})

    Args:
        base_url: of the environment: the server's, or with /envs/NAME.
        request_timeout_s: for each call, from the connection to the reply's last byte, a
            place in the server's queue included.
        default_headers: sent with every request.
        token: that the server asks for.

    Raises:
        UsageError: `base_url` is no address.
    """

    def __init__(
        self,
        base_url: str,
        request_timeout_s: float = 60.0,
        default_headers: Mapping[str, str] | None = None,
        token: str = "",
    ) -> None:
        self._url = urlsplit(speech.http_url(base_url))
        self.base_url = base_url
        self._timeout_s = request_timeout_s
        self._prefix = self._url.path
        own = {"content-type": "application/json", **speech.authorization(token)}
        self._headers = {**own, **(default_headers or {})}
        self._key = ""

    def reset(self, **options: Any) -> StepResult:
        """Begin an episode; options are "seed", "episode_id" and the environment's own.

        Raises:
            CapacityError: the server has no place.
            EnvironmentFailed: the environment raised.
            WorkerError: its process, or the server, is gone.
        """
        return speech.result(self._ask("POST", "reset", options))

    def step(self, action: Any) -> StepResult:
        """Take one action: a mapping, or an object with the action's fields.

        Raises: as `reset`, and InvalidAction.
        """
        return speech.result(self._ask("POST", "step", {"action": speech.plain(action)}))

    def state(self) -> Any:
        """Return the environment's state."""
        return speech.fields(self._ask("GET", "state"))

    def close(self) -> None:
        """End the session. Idempotent."""
        key, self._key = self._key, ""
        try:
            if key:
                self._call("openenv/session/close", {"session_id": key})
        except (SessionClosed, WorkerLost, DeadlineExceeded):
            pass  # it is gone, or goes when its place is wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, method: str, verb: str, body: Any = None) -> dict[str, Any]:
        if not self._key:
            key = self._call("openenv/session/create", {}).get("session_id")
            if not (key and isinstance(key, str)):
                raise RemoteProtocolError("the server's session has no id")
            self._key = key
        path = f"/{verb}?{urlencode({'session_id': self._key})}"
        status, reply = self._exchange(method, path, body)
        if status == 200:
            return reply
        detail = reply.get("detail")
        if status == 404:
            self._key = ""
            raise SessionClosed(f"{detail}; the next call opens another")
        if status == 422:
            raise speech.invalid("the request does not fit", detail)
        raise speech.failure({"message": detail, "cause": reply.get("cause"), "code": status})

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        _, reply = self._exchange("POST", "/mcp", request)
        error, result = reply.get("error"), reply.get("result")
        if isinstance(error, dict):
            counts = error.get("data")
            if isinstance(counts, dict) and "max_sessions" in counts:
                active, limit = counts.get("active_sessions", 0), counts["max_sessions"]
                raise CapacityError(str(error.get("message")), active=active, limit=limit)
            unknown = error.get("code") == _UNKNOWN_SESSION
            raise (SessionClosed if unknown else WorkerStartFailed)(str(error.get("message")))
        if not isinstance(result, dict):
            raise RemoteProtocolError("the server's reply has no result")
        return result

    def _exchange(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        try:
            data = None if body is None else json.dumps(body)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"it cannot be sent: {error}") from None
        try:
            status, text = exchange(
                self._url,
                method,
                self._prefix + path,
                data,
                self._headers,
                timeout_s=self._timeout_s,
                longest=_LONGEST,
            )
        except TimeoutError:
            raise DeadlineExceeded(f"no reply within {self._timeout_s:g} s") from None
        except (OSError, HTTPException) as error:
            raise WorkerLost(f"the connection to {self.base_url} is lost: {error!r}") from None
        if status == 401:
            raise UsageError(f"{self.base_url} asks for a token", hint="token=…")
        found = speech.json_object(text, _LONGEST, f"the server's reply of status {status}")
        if status == 403:
            raise NotAllowed(str(found.get("detail")))
        return status, found
