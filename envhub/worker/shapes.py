"""Gymnasium's spaces as data for the hub, and arrays over the memory shared with it.

Imports numpy and gymnasium, so only environments that have both get here.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, iterate

from envhub.errors import UsageError
from envhub.wire import infos, vector
from envhub.wire.vector import Gathered, Region, Space

_ONE_LEAF = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_SMALL_BYTES = 128  # an observation that is copied twice sooner than its shape is looked at
_Put = Callable[[list[Any]], None]


def describe(space: Any, where: str) -> Space:
    """Return a space as data.

    Args:
        space: one of Gymnasium's.
        where: its name, for the error.

    Raises:
        UsageError: its values have no fixed size, or it is nobody's that we know.
    """
    match type(space):
        case spaces.Box:
            low, high = (_bounds(bound) for bound in (space.low, space.high))
            return vector.Box(space.dtype.str, space.shape, low, high)
        case spaces.Discrete:
            return vector.Discrete(int(space.n), int(space.start), space.dtype.str)
        case spaces.MultiDiscrete:
            nvec, start = (np.ascontiguousarray(a, space.dtype).tobytes()
                           for a in (space.nvec, space.start))  # fmt: skip
            return vector.MultiDiscrete(space.dtype.str, space.shape, nvec, start)
        case spaces.MultiBinary:
            return vector.MultiBinary(tuple(int(n) for n in space.shape))
        case spaces.Tuple:
            parts = enumerate(space.spaces)
            return vector.Tuple(tuple(describe(part, f"{where}[{i}]") for i, part in parts))
        case spaces.Dict:
            items = space.spaces.items()
            named = tuple(describe(part, f"{where}[{name!r}]") for name, part in items)
            return vector.Dict(tuple(space.spaces), named)
    raise UsageError(
        f"cannot be vectorised: `{where}` is a `{type(space).__name__}`, whose values have no"
        " fixed size",
        hint="wrap the environment in one that has a Box, a Discrete, a MultiDiscrete, a"
        " MultiBinary, or a Tuple or Dict of such",
    )


def _bounds(bound: Any) -> bytes:
    first = bound.flat[:1]
    return bytes((first if bound.size and (bound == first).all() else bound).tobytes())


def gathered(op: int, env: Any, action: Any, observation: Any, **said: Any) -> Gathered:
    """Return what environments are.

    Args:
        op: of the request.
        env: has metadata and a `render_mode`.
        action: the space of one action.
        observation: the space of one observation.
        said: more of the metadata.
    """
    mode = env.render_mode
    return Gathered(
        op,
        describe(action, "action_space"),
        describe(observation, "observation_space"),
        infos.encode_sendable(infos.sendable({**env.metadata, **said})),
        mode if isinstance(mode, str) else None,
    )


def raw(memory: mmap.mmap, region: Region) -> memoryview:
    """Return the bytes of a region."""
    size = math.prod(region.shape) * np.dtype(region.dtype).itemsize
    return memoryview(memory)[region.offset : region.offset + size]


def arrays(memory: mmap.mmap, regions: tuple[Region, ...]) -> Iterator[Any]:
    """Return these regions of the memory as arrays."""
    for region in regions:
        yield np.ndarray(region.shape, region.dtype, memory, region.offset)


def nested(space: Any, leaves: Iterator[Any]) -> Any:
    """Return arrays, one for each leaf of a space, in the space's own shape."""
    if isinstance(space, spaces.Tuple):
        return tuple(nested(part, leaves) for part in space.spaces)
    if isinstance(space, spaces.Dict):
        return {name: nested(part, leaves) for name, part in space.spaces.items()}
    return next(leaves)


def flat(space: Any, value: Any) -> Iterator[Any]:
    """Return the leaves of a batched value."""
    if isinstance(space, spaces.Tuple):
        for at, part in enumerate(space.spaces):
            yield from flat(part, value[at])
    elif isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from flat(part, value[name])
    else:
        yield value


def fill(out: Any, value: Any, what: str) -> None:
    """Write an array into the memory.

    Raises:
        ValueError, TypeError: it has another shape, or other numbers than it must have.
    """
    found = np.asarray(value)
    if found.shape != out.shape:
        raise ValueError(f"{what} are of shape {found.shape}, expected {out.shape}")
    np.copyto(out, found, casting="same_kind")


class Actions:
    """A batch of actions in the memory.

    Args:
        space: of one action.
        memory: shared.
        regions: where the leaves are.
        count: of a batch.
    """

    def __init__(
        self,
        space: spaces.Space[Any],
        memory: mmap.mmap,
        regions: tuple[Region, ...],
        count: int,
    ) -> None:
        self._space = space
        self._batched = batch_space(space, count)
        self._leaves = tuple(arrays(memory, regions))
        self._only = self._leaves[0] if type(space) in _ONE_LEAF else None

    def taken(self) -> Any:
        """Return them one by one, as `SyncVectorEnv` hands them out.

        Copies: an environment may keep its action, and this memory changes under it.
        """
        if self._only is not None:
            return iter(self._only.copy())
        return iterate(self._batched, self.together())

    def together(self) -> Any:
        """Return all of them in the form of the batched space."""
        return nested(self._space, iter([leaf.copy() for leaf in self._leaves]))


def putter(space: spaces.Space[Any], leaves: Iterator[Any], count: int) -> _Put:
    """Return what writes the observations of all environments, given one by one.

    As Gymnasium's `concatenate` with `out`, which stacks: that is four times as slow.

    Args:
        space: of one observation.
        leaves: arrays in the memory, for each leaf of the space.
        count: of them.
    """
    if isinstance(space, spaces.Tuple):
        parts = [putter(part, leaves, count) for part in space.spaces]

        def put_tuples(seen: list[Any]) -> None:
            for at, put in enumerate(parts):
                put([one[at] for one in seen])

        return put_tuples
    if isinstance(space, spaces.Dict):
        named = {name: putter(part, leaves, count) for name, part in space.spaces.items()}

        def put_dicts(seen: list[Any]) -> None:
            for name, put in named.items():
                put([one[name] for one in seen])

        return put_dicts
    return _leaf_putter(space, next(leaves), count)


def _leaf_putter(space: spaces.Space[Any], out: Any, count: int) -> _Put:
    shape = out.shape[1:]
    if out[0].nbytes <= _SMALL_BYTES:

        def put_small(seen: list[Any]) -> None:
            try:
                together = np.array(seen)
            except ValueError:  # of different shapes
                together = None
            if together is not None and together.shape == out.shape:
                np.copyto(out, together, casting="same_kind")
            else:
                concatenate(space, seen, out)  # which says what is wrong

        return put_small
    flat, alike = out.reshape(count * shape[0], *shape[1:]), {shape}

    def put(seen: list[Any]) -> None:
        try:
            are_alike = {one.shape for one in seen} == alike
        except AttributeError:  # a list, say
            are_alike = False
        if are_alike:
            np.concatenate(seen, out=flat)
        else:
            concatenate(space, seen, out)

    return put
