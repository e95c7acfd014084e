"""Batches as bytes: what of a vector session's memory travels where no memory is shared.

A request is one end of that memory, as `vector.lay_out` lays it out, and a reply the other:
each array begins at the next multiple of 64. Both sides compute the places from the spaces, so
neither takes a size from the other: bytes of any other length are refused.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import DecodeError, Meta, Struct, ValidationError
from msgspec.msgpack import Decoder, Encoder

from envhub.errors import RemoteProtocolError
from envhub.wire.vector import (
    MAX_TOGETHER,
    RESET,
    SKIP,
    STEP,
    Failure,
    Layout,
    Seeds,
    Space,
)

_KNOWN = bytes((SKIP, STEP, RESET))


class Resets(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the options of a batch's reset are.

    Args:
        todo: SKIP or RESET for each environment.
        seeds: one for each; or none, for any.
        options: what `reset` gets, a map as `encode_info` writes it; b"" for none.
    """

    todo: Annotated[bytes, Meta(max_length=MAX_TOGETHER)]
    seeds: Seeds = ()
    options: bytes = b""


class Told(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a batch comes to beside its arrays; the metadata of its reply. See `Batched`."""

    infos: bytes = b""
    failures: Annotated[tuple[Failure, ...], Meta(max_length=MAX_TOGETHER)] = ()


class Places:
    """Where both blobs lie in a memory.

    Args:
        layout: of it.

    Attributes:
        todo: SKIP, STEP or RESET for each environment; the request's first bytes.
        request: that, and the actions.
        reply: rewards, both flags, and the observations of the first turn.
        results: the first three of these.
        observations: the last, in each of both turns.
    """

    def __init__(self, layout: Layout) -> None:
        todo, rewards, end = layout.todo.offset, layout.rewards.offset, layout.size_bytes
        first, second = (seen[0].offset if seen else end for seen in layout.observations)
        self.todo = slice(todo, todo + layout.todo.shape[0])
        self.request = slice(todo, rewards)
        self.reply = slice(rewards, second)
        self.results = slice(rewards, first)
        self.observations = slice(first, second), slice(second, end)
        self._ends = layout.ends.offset - rewards

    def check(self, blob: bytes) -> bytes:
        """Return what is to be done, from a request.

        Raises:
            RemoteProtocolError: it is no such request.
        """
        allowed = self.request.stop - self.request.start
        if len(blob) != allowed:
            raise RemoteProtocolError(f"a batch of {len(blob)} bytes, expected {allowed}")
        count = self.todo.stop - self.todo.start
        return check_todo(blob[:count], count)

    def ends(self, blob: bytes, count: int) -> int:
        """Return how many episodes have ended, from a reply of so many environments."""
        at = self._ends
        ends, cuts = blob[at : at + count], blob[at + count : at + 2 * count]
        if not ends.strip(b"\0") and not cuts.strip(b"\0"):
            return 0
        return sum(1 for end, cut in zip(ends, cuts, strict=True) if end or cut)


def check_todo(todo: bytes, count: int) -> bytes:
    """Return what is to be done with each of so many environments.

    Raises:
        RemoteProtocolError: it is something else.
    """
    if len(todo) != count or todo.translate(None, _KNOWN):
        raise RemoteProtocolError(f"each of {count} environments is skipped, stepped or reset")
    return todo


T = TypeVar("T")
_ENCODER = Encoder()
_RESETS: Decoder[Resets] = Decoder(Resets)
_TOLD: Decoder[Told] = Decoder(Told)
_SPACE: Decoder[Space] = Decoder(Space)


def encode(value: Resets | Told) -> bytes:
    """Return it as MessagePack."""
    return _ENCODER.encode(value)


def resets(data: bytes) -> Resets:
    """Return what a reset's options say.

    Raises:
        RemoteProtocolError: they are no such thing.
    """
    return _decoded(_RESETS, data)


def told(data: bytes) -> Told:
    """Return what a reply's metadata says.

    Raises:
        RemoteProtocolError: it is no such thing.
    """
    return _decoded(_TOLD, data) if data else Told()


def space(data: bytes) -> Space:
    """Return a space.

    Raises:
        RemoteProtocolError: it is none.
    """
    return _decoded(_SPACE, data)


def _decoded(decoder: Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (DecodeError, ValidationError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"not what a batch says: {error}") from error
