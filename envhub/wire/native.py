"""The native protocol: all that a client and the hub say to each other at /v1/connect. Pure.

Each WebSocket message is one binary frame, MessagePack: many sessions share a connection, and
many requests or replies share a frame. A message is an array that begins with its name, its
fields in the order in which they stand here. docs/protocol.md tells the whole of it; what
belongs to an environment travels inside as `bin`, and is never opened between the two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import DecodeError, Meta, Struct, ValidationError
from msgspec.msgpack import Decoder, Encoder

from envhub.errors import RemoteProtocolError
from envhub.wire.messages import MAX_TEXT, Op, Text
from envhub.wire.vector import Autoreset, Count, Seeds

VERSION = "envhub.v1"  # the WebSocket's subprotocol
MAX_FRAME_BYTES = 16 * 1024 * 1024  # of a client's frame
MOST_CARRIED_BYTES = MAX_FRAME_BYTES - 1024  # by one request; the rest of its frame
MAX_REQUESTS = 8192  # in one frame
MAX_GROUP = 1023
WINDOW = 16  # numbered requests of a session that may be without an acknowledged reply
Channel = Annotated[int, Meta(ge=0, lt=2**32)]
Key = Annotated[bytes, Meta(min_length=16, max_length=64)]
Name = Annotated[str, Meta(max_length=255)]
MAX_DETAIL = 4 * MAX_TEXT
_OUTPUT = Annotated[str, Meta(max_length=MAX_DETAIL)]


class Message(Struct, frozen=True, array_like=True, tag=str.lower, forbid_unknown_fields=True):
    """Base of every message; it fixes the encoding and has no fields."""


# ---------------------------------------------------------------- client to hub


class Open(Message, frozen=True):
    """Open a session; if one of that key is there, go on with it instead.

    Args:
        session: by which this connection will call it; any number that is not in use.
        key: which the client has made up, at random: who knows it has the session.
        environment: its name.
        schema: digest that its types must have; "" for any.
    """

    session: Channel
    key: Key
    environment: Name
    schema: Name = ""


class Resume(Message, frozen=True):
    """Go on with a session over this connection; one that still has it loses it. As Open."""

    session: Channel
    key: Key


class Reset(Message, frozen=True):
    """Begin an episode.

    Args:
        op: number of this call: one more than the last one's; the first is 1.
        acked: the highest number up to which every reply has arrived.
        options: a map: "seed", "episode_id" and the environment's own options.
    """

    session: Channel
    op: Op
    acked: Op
    options: bytes


class Step(Message, frozen=True):
    """Take one action.

    Args:
        action: whatever the environment's action type accepts.
        stream: reply with the first part of a step that has parts, and not with the last.
    """

    session: Channel
    op: Op
    acked: Op
    action: bytes
    stream: bool = False


class Continue(Message, frozen=True):
    """Go on with a step that has parts, up to the next one."""

    session: Channel
    op: Op
    acked: Op


class State(Message, frozen=True):
    """Return the environment's state."""

    session: Channel
    op: Op
    acked: Op


class Describe(Message, frozen=True):
    """Return the environment's schemas."""

    session: Channel
    op: Op
    acked: Op


class Gather(Message, frozen=True):
    """Have a fresh process with many environments. Step and Reset are batches from then on.

    Args:
        options: for making each, a map as `encode_info` writes it; b"" for none.
        seeds: for the first reset of each, if that has none; () for none.
    """

    session: Channel
    op: Op
    acked: Op
    count: Count
    autoreset: Autoreset
    options: bytes = b""
    whole: bool = False
    seeds: Seeds = ()


class Ask(Message, frozen=True):
    """Read an attribute of each environment, call it or set it. As `vector.Ask`; for Read."""

    session: Channel
    op: Op
    acked: Op
    name: Name
    given: bytes
    assign: bool = False


class Cancel(Message, frozen=True):
    """Stop that call, if it is not answered yet. The call itself is answered, in any case."""

    session: Channel
    op: Op


class Bill(Message, frozen=True):
    """Return what the session has used."""

    session: Channel


class Close(Message, frozen=True):
    """Close the session."""

    session: Channel


# ---------------------------------------------------------------- hub to client


class Opened(Message, frozen=True):
    """The session is this connection's.

    Args:
        environment: its name.
        version: of the environment.
        op: number of the last call that the hub has taken; 0 in a new session.
        grace_s: how long it is kept without a connection.
        limits: in force, by name; seconds, bytes or a count, as the name ends.
    """

    session: Channel
    environment: Name
    version: Name
    op: Op
    grace_s: float
    limits: dict[str, float]


class Process(Message, frozen=True):
    """The session has a process, perhaps not that of before. Comes ahead of its first reply.

    Args:
        pid: its number on the hub's machine.
        tier: of its isolation.
        launcher: what built it.
        layers: that are live.
        seen: those of them that were confirmed from outside.
        uid: the user it runs as on the hub's machine.
        missing: what the tier `strict` has and this has not, in words.
    """

    session: Channel
    pid: int
    tier: Name
    launcher: Name
    layers: tuple[Text, ...]
    seen: tuple[Text, ...]
    uid: int
    missing: tuple[Text, ...]


class Observed(Message, frozen=True):
    """The environment's answer to Reset, Step or Continue.

    Args:
        payload: the observation.
        reward: of this step alone; None when there is none.
        terminated: the task itself ended.
        truncated: something outside the task ended it.
        metadata: a map, for people and logs.
        is_part: of a step that may have more; Continue asks for them.
        output: what was printed meanwhile, the last part of it.
    """

    session: Channel
    op: Op
    payload: bytes
    reward: float | None
    terminated: bool
    truncated: bool
    metadata: bytes
    is_part: bool
    output: _OUTPUT = ""


class Finished(Message, frozen=True):
    """The answer to Continue when there are no more parts."""

    session: Channel
    op: Op


class Read(Message, frozen=True):
    """The answer to State: a map."""

    session: Channel
    op: Op
    payload: bytes


class Described(Message, frozen=True):
    """The answer to Describe. Each schema is a JSON Schema, as JSON.

    Args:
        title: the environment class's name.
        description: first paragraph of its docstring.
        action: schema of actions.
        observation: schema of observations.
        state: schema of the state.
        reset_observation: schema of what a reset returns.
        reset_options: names that `reset` takes; None when it takes any.
    """

    session: Channel
    op: Op
    title: Text
    description: Text
    action: bytes
    observation: bytes
    state: bytes
    reset_observation: bytes
    reset_options: tuple[str, ...] | None


class Gathered(Message, frozen=True):
    """The answer to Gather.

    Args:
        action: the space of each environment's actions, as `vector.encode_space` writes it.
        observation: of their observations, likewise.
        metadata: what they say of themselves, a map as `encode_info` writes it.
        render_mode: theirs.
    """

    session: Channel
    op: Op
    action: bytes
    observation: bytes
    metadata: bytes
    render_mode: Text | None


class Billed(Message, frozen=True):
    """The answer to Bill: numbers, by name; seconds, bytes or a count, as the name ends."""

    session: Channel
    used: dict[str, float]


class Closed(Message, frozen=True):
    """The answer to Close."""

    session: Channel


class Failed(Message, frozen=True):
    """A call failed, or, with `op` 0, an Open, a Resume, or the session as a whole.

    Args:
        op: of the call; 0 when it is no numbered one.
        code: of an error in envhub.errors.
        message: one line for a person.
        hint: what to do next, or "".
        details: the error's other fields, by name.
    """

    session: Channel
    op: Op
    code: Name
    message: Text
    hint: Text
    details: dict[Name, _OUTPUT | float | tuple[Text, ...]]


Numbered = Reset | Step | Continue | State | Describe | Gather | Ask
NUMBERED = (Step, Reset, Continue, State, Describe, Gather, Ask)  # the likeliest first
Request = Open | Resume | Numbered | Cancel | Bill | Close
Answer = Observed | Finished | Read | Described | Gathered | Failed  # to a numbered request
Reply = Opened | Process | Answer | Billed | Closed


class Frame(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a client sends: requests, and how their replies may travel.

    Args:
        group: in which replies to the numbered requests of this frame wait for each other;
            0 for none: each goes as soon as it is there.
        first: how many of them go together, from now on: the first K of N, and then the next.
            They go, too, when the group waits for no other.
        requests: in order.
    """

    group: Annotated[int, Meta(ge=0, le=MAX_GROUP)]
    first: Annotated[int, Meta(ge=0, le=MAX_REQUESTS)]
    requests: Annotated[list[Request], Meta(max_length=MAX_REQUESTS)]


_NO_FRAME = (DecodeError, ValidationError, ValueError, RecursionError)
_ENCODER = Encoder()
_FRAMES: Decoder[Frame] = Decoder(Frame)
_REPLIES: Decoder[list[Reply]] = Decoder(list[Reply])
_FIX, _SHORT = 16, 2**16


def encode(message: Message | Frame) -> bytes:
    """Return a message, or a client's frame, as MessagePack."""
    return _ENCODER.encode(message)


def carried_bytes(request: Request) -> int:
    """Return how long that is which a request carries, beside its fields."""
    match request:
        case Step(action=data) | Reset(options=data) | Gather(options=data) | Ask(given=data):
            return len(data)
    return 0


def joined(messages: Sequence[bytes]) -> bytes:
    """Return one frame of replies that are encoded already."""
    count = len(messages)
    if count < _FIX:
        head = bytes((0x90 | count,))
    elif count < _SHORT:
        head = b"\xdc" + count.to_bytes(2)
    else:
        head = b"\xdd" + count.to_bytes(4)
    return head + b"".join(messages)


def requests(frame: bytes) -> Frame:
    """Return what a client has sent.

    Raises:
        RemoteProtocolError: it is no such frame.
    """
    try:
        return _FRAMES.decode(frame)
    except _NO_FRAME as error:
        raise RemoteProtocolError(f"not a valid frame: {error}") from error


def replies(frame: bytes) -> list[Reply]:
    """Return what the hub has sent.

    Raises:
        RemoteProtocolError: it is no such frame.
    """
    try:
        return _REPLIES.decode(frame)
    except _NO_FRAME as error:
        raise RemoteProtocolError(f"not a valid frame: {error}") from error
