"""OpenEnv's frames as a client says and hears them. Pure: no sockets, no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from envhub import errors
from envhub.errors import (
    CapacityError,
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    RemoteProtocolError,
    UsageError,
    WorkerStartFailed,
)
from envhub.results import Record, StepResult, record

# what an attempt to connect ends in, beside WebSocketException: websockets 17 asserts that a
# connection which is cut at the very beginning of its handshake was not
NO_CONNECTION = (OSError, TimeoutError, AssertionError)


def websocket_url(base_url: str) -> str:
    """Return where `base_url` has its WebSocket.

    Raises:
        UsageError: it is no address.
    """
    url = base_url if "://" in base_url else f"http://{base_url}"
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(urlsplit(url).scheme)
    if scheme is None or not urlsplit(url).netloc or "?" in url:
        raise UsageError(
            f"expected an address such as http://127.0.0.1:8000/envs/echo, got `{base_url}`"
        )
    return f"{scheme}://{url.partition('://')[2].rstrip('/')}/ws"


def http_url(base_url: str) -> str:
    """Return `base_url` as an address of HTTP, without a slash at its end.

    Raises:
        UsageError: it is no address.
    """
    return f"http{websocket_url(base_url).removeprefix('ws').removesuffix('/ws')}"


def authorization(token: str) -> dict[str, str]:
    """Return the header that bears a token; none without one."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def request(kind: str, data: Mapping[str, Any] | None = None) -> str:
    """Return a frame for the server.

    Raises:
        UsageError: `data` is nothing that JSON can say.
    """
    message = {"type": kind} if data is None else {"type": kind, "data": data}
    try:
        return json.dumps(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"a {kind} cannot be sent: {error}") from None


def plain(action: Any) -> dict[str, Any]:
    """Return the fields of an action: a mapping, a pydantic model or a dataclass.

    Raises:
        UsageError: it is none of these.
    """
    if hasattr(action, "model_dump"):
        dumped: dict[str, Any] = action.model_dump(mode="json")
        return dumped
    if is_dataclass(action) and not isinstance(action, type):
        return asdict(action)
    if isinstance(action, Mapping):
        return dict(action)
    raise UsageError(f"an action is a mapping or a model, and not a `{type(action).__name__}`")


def reply(text: str | bytes, kind: str) -> dict[str, Any]:
    """Return the data of a reply.

    Raises:
        RemoteProtocolError: it is no reply of that kind.
        EnvhubError: the server said that something went wrong; of the class that says what.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"the server's frame is not JSON: {error}") from None
    said, data = (
        (message.get("type"), message.get("data")) if isinstance(message, dict) else ("", None)
    )
    if not isinstance(data, dict):
        raise RemoteProtocolError("the server's frame has no data")
    if said == "error":
        raise failure(data)
    if said != kind:
        raise RemoteProtocolError(f"expected {kind!r} from the server, got {said!r}")
    return data


def json_object(text: bytes, longest: int, what: str) -> dict[str, Any]:
    """Return what a document says that was read up to one byte past the longest allowed.

    Raises:
        RemoteProtocolError: it is longer than `longest` bytes, or no JSON object.
    """
    if len(text) > longest:
        raise RemoteProtocolError(f"{what} is over {longest} bytes")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"{what} has no JSON: {error}") from None
    if not isinstance(found, dict):
        raise RemoteProtocolError(f"{what} has no object")
    return found


def result(data: dict[str, Any]) -> StepResult:
    """Return what a step's data says.

    The wire does not tell whether the task ended or a limit did, unless the observation does.

    Raises:
        RemoteProtocolError: it is nothing that a step can have.
    """
    reward = data.get("reward")
    done = data.get("done") is True
    observation = data.get("observation")
    truncated = isinstance(observation, dict) and observation.get("truncated") is True
    try:
        number = float(reward) if isinstance(reward, int | float) else None
        if number is not None and not isfinite(number):
            raise ValueError(f"a reward of {number}")
        return StepResult(
            fields(observation),
            number,
            terminated=done and not truncated,
            truncated=done and truncated,
            metadata=Record(data.get("metadata") or {}),
        )
    except (OverflowError, TypeError, ValueError) as error:
        raise RemoteProtocolError(f"the server's result is none: {error}") from None


def fields(value: Any) -> Any:
    """Return an observation or a state, with every mapping in it as a Record.

    Raises:
        RemoteProtocolError: it is nested too deeply.
    """
    try:
        return record(value)
    except RecursionError:
        raise RemoteProtocolError("the server's reply is nested too deeply") from None


def failure(data: Mapping[str, Any]) -> EnvhubError:
    """Return the error that an error frame, or the body of a failed request, tells of."""
    message, code = str(data.get("message", "")), data.get("code")
    if code == "CAPACITY_REACHED":
        counts = (data.get("active_sessions", 0), data.get("max_sessions", 0))
        return CapacityError(message, active=counts[0], limit=counts[1])
    if code == "VALIDATION_ERROR":
        return invalid(message, data.get("errors"))
    if cause := errors.BY_CODE.get(str(data.get("cause"))):
        return cause(message)
    if code == "FACTORY_ERROR":
        return WorkerStartFailed(message)
    if code == "EXECUTION_ERROR":
        return EnvironmentFailed(message)
    return UsageError(f"{message} ({code})")


def invalid(message: str, found: Any) -> InvalidAction:
    """Return the error for a list of pydantic's, with the first of them in its message."""
    listed = found if isinstance(found, list) else []
    first = listed[0] if listed and isinstance(listed[0], dict) else {}
    at = first.get("loc")
    where = ".".join(str(part) for part in at) if isinstance(at, list) else ""
    said = first.get("msg", message)
    text = f"{said} - at `{where}`" if where else str(said)
    return InvalidAction(text, detail=json.dumps(listed).encode())
