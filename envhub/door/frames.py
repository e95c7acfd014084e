"""OpenEnv's WebSocket frames: text to requests, replies to text. Pure: no sockets, no clock.

Almost every frame takes the fast path: msgspec splits the envelope and leaves what belongs
to the environment as the bytes that came. Whatever msgspec refuses, and whatever is not a
valid request, is read again by the standard library and judged by `envelopes`, so that an
error says what upstream's server would say.

The protocol (OpenEnv 0.10) has five requests, four replies, seven error codes and no ids:
replies come in the order of the requests. One request is ours, {"type": "receipt"}, which says
how the session is isolated.
"""

from __future__ import annotations

import json
from typing import Literal

import msgspec

from envhub.door.splice import json_array, json_object, may_hold_a_long_number
from envhub.errors import (
    CapacityError,
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    ProtocolError,
    RemoteProtocolError,
    SessionClosed,
    WorkerLost,
    WorkerStartFailed,
)
from envhub_sandbox import Receipt, SandboxError

Verb = Literal["reset", "step", "state", "mcp", "close", "receipt"]
NORMAL, BROKEN = 1000, 1011  # close codes (RFC 6455, 7.4.1)
Failure = EnvhubError | SandboxError  # what a call to the hub may raise
FAILURES = (EnvhubError, SandboxError)
EPISODE_LOST = "the episode was lost with its process; reset begins another"
_FATAL = (ProtocolError, SessionClosed)  # nothing is left that could answer


class Request(msgspec.Struct, frozen=True):
    """What a client wants of its session.

    Args:
        verb: what to do.
        data: the action of a step, the options of a reset, or a JSON-RPC request, as a JSON
            object.
    """

    verb: Verb
    data: bytes = b"{}"


class Answer(msgspec.Struct, frozen=True):
    """A frame for the client.

    Args:
        text: the frame.
        close_code: with which the connection is closed after it; 0 when it stays open.
    """

    text: str
    close_code: int = 0


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    type: Verb
    data: msgspec.Raw = msgspec.Raw()


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_ENCODER = msgspec.json.Encoder()
_PLAIN_CHARS = 4300  # a frame this short holds no number that only msgspec reads


def parse(frame: str | None) -> Request | Answer:
    """Return the request in a text frame, or the answer if there is none in it.

    Args:
        frame: None for a binary frame. The protocol has none; upstream's KeyError says so.
    """
    if frame is None:
        return Answer(error("SESSION_ERROR", "'text'"), close_code=NORMAL)
    if len(frame) <= _PLAIN_CHARS or not may_hold_a_long_number(frame.encode()):
        try:
            request = _request(_ENVELOPE.decode(frame))
        except (msgspec.DecodeError, RecursionError):
            request = None
        if request is not None:
            return request
    try:
        return _parse_slowly(frame)
    except (ValueError, RecursionError) as failure:  # a number or a nesting without end
        return Answer(error("SESSION_ERROR", str(failure)), close_code=NORMAL)


def _request(envelope: _Envelope) -> Request | None:
    data = bytes(envelope.data)
    match envelope.type:
        case "step" | "mcp" if data.startswith(b"{"):
            return Request(envelope.type, data)
        case "reset" if not data or data.startswith(b"{"):
            return Request("reset", data or b"{}")
        case "state" | "close" | "receipt" if not data:
            return Request(envelope.type)
    return None


def _parse_slowly(frame: str) -> Request | Answer:
    """Read a frame as upstream does.

    Raises:
        ValueError, RecursionError: the standard library gave up on it.
    """
    from envhub.door import envelopes  # brings pydantic, which a valid frame need not pay

    try:
        message = json.loads(frame)
    except json.JSONDecodeError as failure:
        return Answer(error("INVALID_JSON", f"Invalid JSON: {failure}"))
    if not isinstance(message, dict):
        complaint = f"'{type(message).__name__}' object has no attribute 'get'"
        return Answer(error("SESSION_ERROR", complaint), close_code=NORMAL)
    kind = message.get("type", "")
    if not isinstance(kind, str) or kind not in envelopes.BY_TYPE:
        return Answer(error("UNKNOWN_TYPE", f"Unknown message type: {kind}"))
    errors = envelopes.errors_in(envelopes.BY_TYPE[kind], message)
    if errors is not None:
        return Answer(_invalid_message(errors))
    # Dumped again, not forwarded: what msgspec refused may be no JSON but Python's dialect
    # of it (NaN, Infinity) or a lone surrogate; this form is read alike by both libraries.
    return Request(msgspec.convert(kind, Verb), json.dumps(message.get("data", {})).encode())


def observation(payload: bytes) -> Answer:
    """Return the reply to a reset or a step.

    Raises:
        RemoteProtocolError: the worker's payload is not one JSON object.
    """
    return Answer(f'{{"type":"observation","data":{json_object(payload)}}}')


def state(payload: bytes) -> Answer:
    """Return the reply to a state request.

    Raises:
        RemoteProtocolError: the worker's payload is not one JSON object.
    """
    return Answer(f'{{"type":"state","data":{json_object(payload)}}}')


def mcp(reply: str) -> Answer:
    """Return the frame around a JSON-RPC reply."""
    return Answer(f'{{"type":"mcp","data":{reply}}}')


def receipt(live: Receipt) -> Answer:
    """Return the reply to a request for the session's receipt."""
    return Answer(_ENCODER.encode({"type": "receipt", "data": live}).decode())


def failed(failure: Failure) -> Answer:
    """Return the reply to a call that `failure` ended.

    The author's own exception looks as upstream shows it. Whatever else went wrong is not
    the environment's doing: `cause` is its permanent code, for programs to tell it apart.
    A lost process leaves the connection open: closed, the official client's next call would
    race with the close. The session has a fresh process at the next reset.
    """
    match failure:
        case InvalidAction(detail=detail):
            try:
                return Answer(_invalid_message(json_array(detail)))
            except RemoteProtocolError as breach:
                return failed(breach)
        case EnvironmentFailed():
            return Answer(error("EXECUTION_ERROR", str(failure)))
    if type(failure) is EnvhubError:  # of no kind: we are at fault
        return internal()
    text = error("EXECUTION_ERROR", str(failure), cause=cause_of(failure))
    return Answer(text, close_code=BROKEN if isinstance(failure, _FATAL) else 0)


def episode_lost() -> Answer:
    """Return the reply to a call that needs the episode which a lost process took with it.

    Upstream would step an environment that was never reset; a failure must not pass as that.
    """
    return Answer(error("EXECUTION_ERROR", EPISODE_LOST, cause=WorkerLost.code))


def refused(failure: Failure, name: str) -> Answer:
    """Return what a client is told of a session that could not be opened.

    Args:
        failure: why.
        name: of the environment.
    """
    match failure:
        case CapacityError(active=active, limit=limit) if limit:
            message = (
                f"Server at capacity: {active}/{limit} sessions active. "
                "Cannot accept new connections."
            )
            counts = {"active_sessions": active, "max_sessions": limit}
            return Answer(error("CAPACITY_REACHED", message, **counts), NORMAL)
        case CapacityError():
            return Answer(error("CAPACITY_REACHED", str(failure)), NORMAL)
    why = f"{failure}; {failure.hint}" if failure.hint else str(failure)
    message = f"Environment factory '{name}' failed to create instance. {why}"
    is_the_author_s = isinstance(failure, WorkerStartFailed)
    more = {} if is_the_author_s else {"cause": cause_of(failure)}
    return Answer(error("FACTORY_ERROR", message, factory_name=name, **more), NORMAL)


def not_attached(why: str) -> Answer:
    """Return what a client is told that cannot attach to the session that it names."""
    return Answer(error("SESSION_ERROR", why), NORMAL)


def internal() -> Answer:
    """Return what a client is told when envhub itself is at fault."""
    message = "internal error: please file a bug"
    return Answer(error("EXECUTION_ERROR", message, cause=EnvhubError.code), BROKEN)


def cause_of(failure: Failure) -> str:
    """Return the permanent code of what went wrong."""
    return failure.code if isinstance(failure, EnvhubError) else "sandbox"


def error(code: str, message: str, **more: str | int) -> str:
    """Return an error frame; `more` are further keys beside message and code."""
    frame = {"type": "error", "data": {"message": message, "code": code, **more}}
    try:
        return _ENCODER.encode(frame).decode()
    except UnicodeEncodeError:  # the client's own lone surrogate, quoted back to it
        return json.dumps(frame, separators=(",", ":"))


def _invalid_message(errors: str) -> str:
    """Return the frame for an envelope or an action of the wrong shape.

    Args:
        errors: pydantic's list of them, as well-formed JSON.
    """
    return (
        '{"type":"error","data":{"message":"Invalid message","code":"VALIDATION_ERROR",'
        f'"errors":{errors}}}}}'
    )
