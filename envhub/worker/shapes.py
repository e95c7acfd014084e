"""Gymnasium's spaces as data for the hub, and arrays over the memory shared with it.

Imports numpy and gymnasium, so only environments that have both get here.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from envhub.errors import UsageError
from envhub.wire import vector
from envhub.wire.vector import Region, Space


def describe(space: Any) -> Space:
    """Return a space as data.

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
            return vector.Tuple(tuple(describe(part) for part in space.spaces))
        case spaces.Dict:
            parts = tuple(describe(part) for part in space.spaces.values())
            return vector.Dict(tuple(space.spaces), parts)
    raise UsageError(
        f"a `{type(space).__name__}` space cannot be vectorised: its values have no fixed size"
    )


def _bounds(bound: Any) -> bytes:
    first = bound.flat[:1]
    return bytes((first if bound.size and (bound == first).all() else bound).tobytes())


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
