"""Many environments in one session process: spaces, shared memory and messages, as plain data.

After a Gather a session's channel carries the messages of this file. Actions and observations
do not travel in them but lie in memory that both sides map; a message says that they do. The
hub lays that memory out, for it does not take sizes and places from a session process.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.msgpack import Decoder

from envhub.errors import RemoteProtocolError, UsageError
from envhub.wire.messages import Close, Closed, Failed, Message, Op, Text

Autoreset = Literal["next_step", "same_step", "disabled"]
# before a name: an attribute of some environments, asked for as envhub/worker/asked.py says
OF_SOME = "envhub.of_some:"
MAX_TOGETHER = 65536  # environments in one process
SKIP, STEP, RESET = 0, 1, 2  # what to do with one of them
ASKED, ANSWERED = 0, 64  # where the numbers of the last call and reply lie: a cache line each
_HEAD_BYTES = 4096
_ALIGNMENT = 64
_DTYPES = re.compile(r"\|[bi]1|\|u1|<[iu][248]|<f[248]")
_MAX_DIMENSIONS = 32
_MAX_LEAVES = 256
_MAX_DEPTH = 16

Count = Annotated[int, Meta(ge=1, le=MAX_TOGETHER)]
MAX_SEED = 2**63 - 1
Seeds = Annotated[
    tuple[Annotated[int, Meta(ge=-MAX_SEED, le=MAX_SEED)] | None, ...],
    Meta(max_length=MAX_TOGETHER),
]
Length = Annotated[int, Meta(ge=0, lt=2**40)]
Shape = Annotated[tuple[Length, ...], Meta(max_length=_MAX_DIMENSIONS)]
Dtype = Annotated[str, Meta(max_length=8)]


class _Space(Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    pass


class Box(_Space, frozen=True, tag="box"):
    """Numbers within bounds.

    Args:
        dtype: as numpy's `dtype.str`.
        shape: of one of them.
        low: the least, in C order; of one element if they are all the same.
        high: the greatest, likewise.
    """

    dtype: Dtype
    shape: Shape
    low: bytes
    high: bytes


class Discrete(_Space, frozen=True, tag="discrete"):
    """One of `n` whole numbers, from `start` on."""

    n: Annotated[int, Meta(ge=1)]
    start: int
    dtype: Dtype


class MultiDiscrete(_Space, frozen=True, tag="multidiscrete"):
    """Several of them; `nvec` and `start` hold numbers of the dtype, in C order."""

    dtype: Dtype
    shape: Shape
    nvec: bytes
    start: bytes


class MultiBinary(_Space, frozen=True, tag="multibinary"):
    """Zeros and ones."""

    shape: Shape


class Tuple(_Space, frozen=True, tag="tuple"):
    """One of each of these."""

    spaces: tuple[Space, ...]


class Dict(_Space, frozen=True, tag="dict"):
    """One of each of these, by name, in this order."""

    names: tuple[Text, ...]
    spaces: tuple[Space, ...]


Space = Box | Discrete | MultiDiscrete | MultiBinary | Tuple | Dict


class Region(Struct, frozen=True, array_like=True):
    """One array in the memory.

    Args:
        offset: bytes from its beginning.
        dtype: as numpy's `dtype.str`.
        shape: with the number of environments first; of `ends`, second.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]


class Layout(Struct, frozen=True):
    """What lies where in the memory of one session process.

    Args:
        size_bytes: of all of it.
        todo: SKIP, STEP or RESET for each environment. The hub's to write, as are the actions.
        actions: the leaves of the action space, in order.
        rewards: the process's to write, as are all that follow.
        ends: first who terminated, then who was truncated; 0 is no.
        observations: the leaves of the observation space, twice: batches take turns, so that
            the last observations are whole when a process ends within a batch.
    """

    size_bytes: int
    todo: Region
    actions: tuple[Region, ...]
    rewards: Region
    ends: Region
    observations: tuple[tuple[Region, ...], tuple[Region, ...]]


# ---------------------------------------------------------------- hub to session process


class Share(Message, frozen=True):
    """Map the memory whose descriptor comes with this frame.

    Args:
        op: number of this call; the reply repeats it.
        autoreset: how episodes follow each other.
        layout: of the memory.
        seeds: for the first reset of each environment, if that has none of its own.
        episode_s: that an episode of one of them may take; 0 is no limit.
    """

    op: Op
    autoreset: Autoreset
    layout: Layout
    seeds: list[int | None]
    episode_s: float


class ResetBatch(Message, frozen=True):
    """Reset the environments that are marked so.

    Args:
        op: number of this call; the reply repeats it.
        turn: which of the two places takes the observations.
        seeds: one for each environment of the process, or none.
        options: what `reset` gets, as `encode_info` writes it; b"" for none.
    """

    op: Op
    turn: Literal[0, 1]
    seeds: list[int | None]
    options: bytes = b""


class StepBatch(Message, frozen=True):
    """Step or reset the environments, as marked."""

    op: Op
    turn: Literal[0, 1]


class Ask(Message, frozen=True):
    """Read an attribute of each environment, or call it where it is a method.

    Args:
        op: number of this call; the reply repeats it.
        name: of the attribute, perhaps with OF_SOME before it.
        given: positional and named arguments, as `encode_info` writes them.
        assign: set it instead, to one positional argument for each environment.
    """

    op: Op
    name: Text
    given: bytes
    assign: bool = False


# ---------------------------------------------------------------- session process to hub


class Gathered(Message, frozen=True):
    """The environments are there.

    Args:
        op: of the Gather.
        action: the space of their actions.
        observation: and of their observations.
        metadata: what they say of themselves, a mapping as `encode_info` writes it.
        render_mode: theirs.
    """

    op: Op
    action: Space
    observation: Space
    metadata: bytes
    render_mode: Text | None


class Shared(Message, frozen=True):
    """The memory is mapped."""

    op: Op


class Failure(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One environment has raised, and its episode is over.

    Args:
        index: which, among those of the process.
        code: as in Failed.
        message: as in Failed.
        traceback: as in Failed.
    """

    index: Annotated[int, Meta(ge=0, lt=MAX_TOGETHER)]
    code: Annotated[str, Meta(max_length=64)]
    message: Text
    traceback: Text


class Batched(Message, frozen=True):
    """The batch is done; what came of it lies in the memory.

    Args:
        op: of the call.
        infos: those that are not empty, as `encode_info` writes a list of `[index, info]` or,
            where a reset followed in the same step, `[index, info, final_obs, final_info]`;
            b"" when all are.
        failures: environments that have raised in `step`.
    """

    op: Op
    infos: bytes = b""
    failures: Annotated[tuple[Failure, ...], Meta(max_length=MAX_TOGETHER)] = ()


class Answered(Message, frozen=True):
    """One value of each environment, as `encode_info` writes a list; the answer to Ask."""

    op: Op
    values: bytes


VectorRequest = Share | ResetBatch | StepBatch | Ask | Close
VectorReply = Gathered | Shared | Batched | Answered | Closed | Failed
VECTOR_REQUESTS: Decoder[VectorRequest] = Decoder(VectorRequest)
VECTOR_REPLIES: Decoder[VectorReply] = Decoder(VectorReply)


def leaves(space: Space) -> list[tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of each array that a value of the space consists of, in order.

    Raises:
        RemoteProtocolError: there are too many, or one that cannot be shared.
    """
    found: list[tuple[str, tuple[int, ...]]] = []
    _collect(space, found, 0)
    return found


def _collect(space: Space, found: list[tuple[str, tuple[int, ...]]], depth: int) -> None:
    if depth > _MAX_DEPTH or len(found) > _MAX_LEAVES:
        raise RemoteProtocolError("a space of too many parts")
    match space:
        case Tuple(spaces=parts) | Dict(spaces=parts):
            for part in parts:
                _collect(part, found, depth + 1)
            return
        case MultiBinary(shape=shape):
            found.append(("|i1", shape))
        case Discrete(dtype=dtype):
            found.append((dtype, ()))
        case Box(dtype=dtype, shape=shape) | MultiDiscrete(dtype=dtype, shape=shape):
            found.append((dtype, shape))
    if not _DTYPES.fullmatch(found[-1][0]):
        raise RemoteProtocolError(f"an array of dtype `{found[-1][0]}`")


def lay_out(action: Space, observation: Space, count: int, *, most_bytes: int) -> Layout:
    """Return where everything of `count` environments lies.

    Raises:
        RemoteProtocolError: it would be more than `most_bytes`, or cannot be shared.
    """
    at = _HEAD_BYTES

    def place(dtype: str, shape: tuple[int, ...], *, before: tuple[int, ...] = ()) -> Region:
        nonlocal at
        region = Region(at, dtype, (*before, count, *shape))
        at += math.prod(region.shape) * int(dtype[2:])
        at += -at % _ALIGNMENT
        if at > most_bytes:
            raise RemoteProtocolError(
                f"the arrays of {count} environments are over {most_bytes} bytes"
            )
        return region

    todo = place("|u1", ())
    actions = tuple(place(*leaf) for leaf in leaves(action))
    rewards, ends = place("<f8", ()), place("|u1", (), before=(2,))
    seen = leaves(observation)
    first, second = (tuple(place(*leaf) for leaf in seen) for _ in range(2))
    return Layout(at, todo, actions, rewards, ends, (first, second))


def encode_space(space: Space) -> bytes:
    """Return bytes that are the same for equal spaces."""
    return msgspec.msgpack.encode(space)


def are_alike(one: Gathered, other: Gathered) -> bool:
    """Whether the environments of two processes have the same spaces."""
    return all(
        encode_space(a) == encode_space(b)
        for a, b in ((one.action, other.action), (one.observation, other.observation))
    )


def check_alike(before: Gathered | None, found: Gathered) -> None:
    """Hold a fresh process to what the one before it had, if there was one.

    Raises:
        UsageError: it has other spaces.
    """
    if before is not None and not are_alike(before, found):
        raise UsageError("cannot be vectorised: another process has other spaces")


def laid_out(gathered: Gathered, count: int, *, most_bytes: int) -> Layout:
    """As `lay_out`, for whoever has asked for the environments.

    Raises:
        UsageError: there is no such memory.
    """
    try:
        return lay_out(gathered.action, gathered.observation, count, most_bytes=most_bytes)
    except RemoteProtocolError as error:
        raise UsageError(f"cannot be vectorised: {error}") from None


def mapping(value: Any) -> dict[str, Any]:
    """Return the value, which must be a mapping with text for keys.

    Raises:
        RemoteProtocolError: it is none.
    """
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise RemoteProtocolError("an info that is no mapping of names")
    return value
