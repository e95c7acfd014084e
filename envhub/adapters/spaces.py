"""Gymnasium's spaces from what a session process says of them, and arrays over its memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from envhub.errors import InvalidAction, RemoteProtocolError
from envhub.wire import vector
from envhub.wire.vector import Layout, Region, Space


def build(described: Space) -> spaces.Space[Any]:
    """Return the space.

    Raises:
        RemoteProtocolError: there is no such space.
    """
    vector.leaves(described)  # their dtypes, their number and their depth
    try:
        return _build(described)
    except (ValueError, TypeError, AssertionError, OverflowError, MemoryError) as error:
        raise RemoteProtocolError(f"a space that is none: {error}") from None


def _build(described: Space) -> spaces.Space[Any]:
    match described:
        case vector.Box(dtype, shape, low, high):
            bounds = [_numbers(bound, dtype, shape) for bound in (low, high)]
            return spaces.Box(bounds[0], bounds[1], shape, np.dtype(dtype).type)
        case vector.Discrete(n, start, dtype):
            return spaces.Discrete(n, start=start, dtype=np.dtype(dtype).type)
        case vector.MultiDiscrete(dtype, shape, nvec, start):
            each = [_numbers(numbers, dtype, shape) for numbers in (nvec, start)]
            return spaces.MultiDiscrete(each[0], np.dtype(dtype).type, start=each[1])
        case vector.MultiBinary(shape):
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case vector.Tuple(parts):
            return spaces.Tuple([_build(part) for part in parts])
        case vector.Dict(names, parts):
            return spaces.Dict(
                {name: _build(part) for name, part in zip(names, parts, strict=True)}
            )


def _numbers(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    found = np.frombuffer(data, dtype)
    return np.broadcast_to(found[0], shape) if found.size == 1 else found.reshape(shape)


def flat(space: spaces.Space[Any], value: Any, what: str = "the actions") -> Iterator[Any]:
    """Return the leaves of a batched value, in the order of `vector.leaves`.

    Raises:
        InvalidAction: it has not the form of the space.
    """
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            raise InvalidAction(f"{what} must be a tuple of {len(space.spaces)}")
        for at, (part, one) in enumerate(zip(space.spaces, value, strict=True)):
            yield from flat(part, one, f"{what}[{at}]")
    elif isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.spaces.keys():
            raise InvalidAction(f"{what} must have {', '.join(map(repr, space.spaces))}")
        for name, part in space.spaces.items():
            yield from flat(part, value[name], f"{what}[{name!r}]")
    else:
        yield value


def nested(space: spaces.Space[Any], leaves: Iterator[Any]) -> Any:
    """Return arrays, one for each leaf of a space, in the space's own form."""
    if isinstance(space, spaces.Tuple):
        return tuple(nested(part, leaves) for part in space.spaces)
    if isinstance(space, spaces.Dict):
        return {name: nested(part, leaves) for name, part in space.spaces.items()}
    return next(leaves)


class Views:
    """The memory of one process, as arrays.

    Args:
        memory: mapped.
        layout: what lies where.

    Attributes:
        observations: the leaves, for each of the two turns.
        turn: which of these the last batch has written.
        has_observed: one of them was written.
        is_plain: they may be handed out as they are.
    """

    def __init__(self, memory: mmap.mmap, layout: Layout) -> None:
        def of(region: Region) -> Any:
            return np.ndarray(region.shape, region.dtype, memory, region.offset)

        self.todo = of(layout.todo)
        self.actions = [of(region) for region in layout.actions]
        self.rewards = of(layout.rewards)
        self.ends = of(layout.ends)
        self.observations = tuple([of(r) for r in turn] for turn in layout.observations)
        # what the process writes is an array of its dtype, whatever bytes it are
        self.is_plain = all(leaf.dtype != np.bool_ for leaf in self.observations[0])
        self.turn = 0
        self.has_observed = False

    def put(self, leaves: list[Any], part: slice) -> None:
        """Copy the last observations into these rows of `leaves`."""
        for seen, rows in zip(self.observations[self.turn], leaves, strict=True):
            if not self.is_plain and seen.dtype == np.bool_:
                np.not_equal(seen.view(np.uint8), 0, out=rows[part])
            else:
                rows[part] = seen

    def copies(self) -> list[Any]:
        """Return the last observations as arrays of the caller's own."""
        leaves = [np.empty(leaf.shape, leaf.dtype) for leaf in self.observations[0]]
        self.put(leaves, slice(None))
        return leaves


def leaf_kinds(described: Space) -> list[tuple[Any, tuple[int, ...]]]:
    """Return dtype and shape of each leaf."""
    return [(np.dtype(dtype), shape) for dtype, shape in vector.leaves(described)]


def taker(space: spaces.Space[Any], count: int) -> Callable[[Any], list[Any]]:
    """Return what turns a batch of actions into its leaves.

    Args:
        space: of one action.
        count: of a batch.
    """
    kinds = [(np.dtype(d), (count, *s)) for d, s in _leaf_kinds(space)]

    def take(actions: Any) -> list[Any]:
        leaves = flat(space, actions)
        return [_taken(leaf, *kind) for leaf, kind in zip(leaves, kinds, strict=True)]

    if isinstance(space, spaces.Tuple | spaces.Dict):
        return take
    ((dtype, shape),) = kinds
    return lambda actions: [_taken(actions, dtype, shape)]


def _taken(leaf: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    try:
        array = np.asarray(leaf)
    except ValueError as error:
        raise InvalidAction(f"the actions are no array: {error}") from None
    if array.shape != shape:
        raise InvalidAction(f"actions of shape {array.shape}, expected {shape}")
    if array.dtype is not dtype and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InvalidAction(f"actions of {array.dtype}, expected {dtype}")
    return array


def _leaf_kinds(space: spaces.Space[Any]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    if isinstance(space, spaces.Tuple):
        for part in space.spaces:
            yield from _leaf_kinds(part)
    elif isinstance(space, spaces.Dict):
        for part in space.spaces.values():
            yield from _leaf_kinds(part)
    else:
        yield space.dtype, space.shape or ()
