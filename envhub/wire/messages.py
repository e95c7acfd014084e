"""Everything hub and session process can say to each other: one Struct for each message.

A message is a MessagePack map with a "type" tag. The decoders validate in one pass; a
message with a missing, unknown or mistyped field is refused. What belongs to the
environment (actions, observations, options) travels inside as `bytes` that the hub does not
open, in one of two forms: "msgpack" for envhub's own API, "json" for OpenEnv's wire.

Two channels use these messages: the session socket (a stream of frames), and the broker
socket (one message in each packet), on which a session asks for sandboxes for agent code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from msgspec import DecodeError, Meta, Struct, ValidationError
from msgspec.msgpack import Decoder, Encoder

from envhub.errors import RemoteProtocolError

Form = Literal["msgpack", "json"]
Op = Annotated[int, Meta(ge=0, lt=2**53)]  # a JavaScript client can count that far, too
MAX_TEXT = 64 * 1024  # a traceback of 500 frames fits
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Names = Annotated[tuple[Annotated[str, Meta(max_length=1024)], ...], Meta(max_length=1024)]
MAX_BROKER_BYTES = 16 * 1024  # one packet; the longest is a refusal's message


class Message(Struct, frozen=True, tag_field="type", tag=str.lower, forbid_unknown_fields=True):
    """Base of every message; it fixes the encoding and has no fields.

    Subclasses repeat `frozen=True`: msgspec inherits it, type checkers do not know that.
    """


# ---------------------------------------------------------------- hub to session process


class Describe(Message, frozen=True):
    """Say what the environment is: its schemas and its options."""

    op: Op


class Reset(Message, frozen=True):
    """Begin an episode, constructing the environment first if that was not done yet.

    Args:
        op: number of this call; the reply repeats it.
        form: how `options` is encoded, and the reply's payload.
        options: a mapping: "seed", "episode_id" and the environment's own options.
    """

    op: Op
    form: Form
    options: bytes


class Step(Message, frozen=True):
    """Take one action.

    Args:
        op: number of this call; the reply repeats it.
        form: how `action` is encoded, and the reply's payload.
        action: whatever the environment's action type accepts.
        options: a mapping of further arguments, passed if `step` takes them; b"" for none.
        stream: reply with the first part of a step that has parts, and not with the last.
    """

    op: Op
    form: Form
    action: bytes
    options: bytes = b""
    stream: bool = False


class Continue(Message, frozen=True):
    """Go on with a step that has parts, up to the next one.

    Args:
        op: number of this call; the reply repeats it.
        form: of the reply's payload.
    """

    op: Op
    form: Form


class GetState(Message, frozen=True):
    """Return the environment's state."""

    op: Op
    form: Form


class Invoke(Message, frozen=True):
    """Do something beside the episode: OpenEnv's tools and tasks. In JSON, both ways.

    Args:
        op: number of this call; the reply repeats it.
        method: such as "tools/list", or the name of a method of the task API.
        params: a mapping.
    """

    op: Op
    method: Annotated[str, Meta(max_length=64)]
    params: bytes


class Gather(Message, frozen=True):
    """Make many environments in this process; from here on `wire/vector.py` is spoken.

    Args:
        op: number of this call; the reply repeats it.
        count: of them.
        options: keyword arguments for making each, a mapping in MessagePack.
        whole: they are one object, of their author's vectorised class.
    """

    op: Op
    count: Op
    options: bytes
    whole: bool = False


class Close(Message, frozen=True):
    """Let the environment close, then end the process."""

    op: Op


class Cancel(Message, frozen=True):
    """Have the environment leave a call early, which is answered all the same.

    The one message that comes during a call, and has no reply. A signal rings for it: see
    `envhub_sandbox.syscalls.DOORBELL`. Sent only to those who said that they `cancel`.

    Args:
        op: of the call. One that is answered already has nothing to leave.
    """

    op: Op


# ---------------------------------------------------------------- session process to hub


class Described(Message, frozen=True):
    """What the environment is. Each schema is a JSON Schema, as JSON.

    Args:
        op: of the Describe.
        title: the environment class's name.
        description: first paragraph of its docstring.
        action: schema of actions.
        observation: schema of observations.
        state: schema of the state.
        reset_observation: schema of what a reset returns.
        reset_options: names that `reset` takes; None when it takes any.
        app_name: by which an OpenEnv app calls itself; "" for an environment of ours.
        production: its author wants reset, step and state not to be had over HTTP.
        is_application: it is an ASGI application with routes of its own.
    """

    op: Op
    title: Text
    description: Text
    action: bytes
    observation: bytes
    state: bytes
    reset_observation: bytes
    reset_options: Names | None
    app_name: Text = ""
    production: bool = False
    is_application: bool = False


class Observed(Message, frozen=True):
    """The environment's answer to Reset or Step.

    Args:
        op: of the call.
        payload: the observation in the call's form; never decoded in the hub.
        reward: of this step alone; None when there is none. Finite.
        terminated: the task itself ended. (Gymnasium's sense.)
        truncated: something outside the task ended it: a step or time limit.
        metadata: the observation's metadata as a MessagePack map, for the native form.
        is_part: of a step that may have more; Continue asks for them.
    """

    op: Op
    payload: bytes
    reward: float | None = None
    terminated: bool = False
    truncated: bool = False
    metadata: bytes = b"\x80"
    is_part: bool = False


class Finished(Message, frozen=True):
    """The answer to Continue when there are no more parts."""

    op: Op


class StateRead(Message, frozen=True):
    """The environment's answer to GetState."""

    op: Op
    payload: bytes


class Invoked(Message, frozen=True):
    """The answer to Invoke: a JSON value, never decoded in the hub."""

    op: Op
    result: bytes


class Closed(Message, frozen=True):
    """The environment has closed; the process ends now."""

    op: Op


class Failed(Message, frozen=True):
    """The call could not be answered. The process goes on unless the hub ends it.

    Args:
        op: of the call.
        code: of an EnvhubError class.
        message: one line for a person.
        traceback: text, for the environment's author.
        detail: JSON; for "invalid_action" the list of errors in pydantic's form.
    """

    op: Op
    code: Annotated[str, Meta(max_length=64)]
    message: Text
    traceback: Text = ""
    detail: bytes = b""


# ---------------------------------------------------------------- broker, session to hub


class OpenAgent(Message, frozen=True):
    """Open a sandbox for agent code, forked from the runner zygote."""

    agent: Op


class KillAgent(Message, frozen=True):
    """Kill everything in that sandbox."""

    agent: Op


# ---------------------------------------------------------------- broker, hub to session


class AgentOpened(Message, frozen=True):
    """The sandbox is ready; the packet carries its socket (SCM_RIGHTS)."""

    agent: Op


class AgentRefused(Message, frozen=True):
    """There is no such sandbox; `message` says why."""

    agent: Op
    message: Text


class AgentEnded(Message, frozen=True):
    """Everything in that sandbox has ended.

    Args:
        agent: which one.
        cause: from `envhub_sandbox.Cause`, or "host_memory" when the machine ran short.
        detail: exit code or signal number.
    """

    agent: Op
    cause: Annotated[str, Meta(max_length=64)]
    detail: int


Request = Describe | Reset | Step | Continue | GetState | Invoke | Gather | Close
FromHub = Request | Cancel
Reply = Described | Observed | Finished | StateRead | Invoked | Closed | Failed
BrokerRequest = OpenAgent | KillAgent
BrokerReply = AgentOpened | AgentRefused | AgentEnded

_ENCODER = Encoder()
REQUESTS: Decoder[Request] = Decoder(Request)
FROM_HUB: Decoder[FromHub] = Decoder(FromHub)
REPLIES: Decoder[Reply] = Decoder(Reply)
BROKER_REQUESTS: Decoder[BrokerRequest] = Decoder(BrokerRequest)
BROKER_REPLIES: Decoder[BrokerReply] = Decoder(BrokerReply)

T = TypeVar("T")


# each step goes through it several times, so nothing is around it
encode: Callable[[Message], bytes] = _ENCODER.encode
NO_MESSAGE = (DecodeError, ValidationError, ValueError, RecursionError)  # that decoders raise


def decode(decoder: Decoder[T], data: bytes | bytearray) -> T:
    """Return the message in `data`.

    Raises:
        RemoteProtocolError: it is not exactly one valid message of the decoder's kinds.
    """
    try:
        return decoder.decode(data)
    except NO_MESSAGE as error:
        raise RemoteProtocolError(f"not a valid message: {error}") from error
