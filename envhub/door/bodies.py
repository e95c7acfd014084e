"""The bodies of POST /reset and POST /step: read, bounded, judged as upstream judges them."""

from __future__ import annotations

import json
from email.message import Message
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_BODY_BYTES = 16 * 1024 * 1024  # as a WebSocket frame


class InvalidBody(Exception):
    """The body does not fit; the reply is 422.

    Args:
        errors: a list of errors in pydantic's form, without links.
    """

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors)
        self.errors = errors


async def read(request: Request) -> bytes:
    """Return the request's body.

    Raises:
        HTTPException: 413; it is longer than MAX_BODY_BYTES.
        ClientDisconnect: the client went away before all of it had come.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is over {MAX_BODY_BYTES} bytes")
    return bytes(body)


def reset_options(headers: Headers, body: bytes) -> bytes:
    """Return the options of a reset as JSON: the keys that were sent, and only those.

    Raises:
        InvalidBody: it is not JSON, or a key has the wrong type.
        HTTPException: 400; the body cannot be decoded.
    """
    from envhub.door.envelopes import ResetBody

    return _dumped(_sent(ResetBody, _loaded(headers, body))) if body else b"{}"


def step_arguments(headers: Headers, body: bytes) -> tuple[bytes, bytes]:
    """Return the action and the further arguments of a step, each as JSON.

    The second is b"" when there are none.

    Raises:
        InvalidBody: it is not JSON, has no action, or a key has the wrong type.
        HTTPException: 400; the body cannot be decoded.
    """
    from envhub.door.envelopes import StepBody

    if not body:
        missing = {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}
        raise InvalidBody([missing])
    arguments = _sent(StepBody, _loaded(headers, body))
    action = arguments.pop("action")
    return _dumped(action), _dumped(arguments) if arguments else b""


def task_arguments(path: str, headers: Headers, body: bytes) -> dict[str, Any]:
    """Return what a request of the task API names.

    Raises: as `step_arguments`.
    """
    from envhub.door.envelopes import TASK_BODIES

    return _sent(TASK_BODIES[path], _loaded(headers, body))


def _loaded(headers: Headers, body: bytes) -> Any:
    if not _is_json(headers.get("content-type", "")):
        return body.decode(errors="replace")  # a text is no object: the model will say so
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        complaint = {
            "type": "json_invalid",
            "loc": ["body", error.pos],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": error.msg},
        }
        raise InvalidBody([complaint]) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or a number without end
        raise HTTPException(400, "There was an error parsing the body") from error


def _is_json(content_type: str) -> bool:
    """Return whether it is `application/json` or `application/<anything>+json`.

    No other type is read as JSON: a page of a foreign site can send a form or plain text
    without asking first, but not this.
    """
    header = Message()
    header["content-type"] = content_type
    kind = header.get_content_subtype()
    is_json = kind == "json" or kind.endswith("+json")
    return bool(content_type) and header.get_content_maintype() == "application" and is_json


def _sent(model: type[BaseModel], value: Any) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        # from_attributes is what makes pydantic complain in the words of FastAPI.
        found = model.model_validate(value, from_attributes=True)
    except ValidationError as error:
        listed = error.errors(include_url=False)
        raise InvalidBody([{**e, "loc": ("body", *e["loc"])} for e in listed]) from error
    return found.model_dump(exclude_unset=True)


def _dumped(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
