"""Steps that have parts: a `step` that is a generator, of either kind.

Each part is an observation; the last is the step's result. The environment waits between two
parts until somebody asks for the next, so what nobody reads is not made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

NO_MORE = object()
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def are(value: Any) -> bool:
    """Whether this is a step under way, and no observation."""
    return inspect.isgenerator(value) or inspect.isasyncgen(value)


def following(parts: Any) -> Call:
    """Return the call that makes the next part, or NO_MORE."""
    if inspect.isgenerator(parts):
        return next, (parts, NO_MORE), {}
    return _following, (parts,), {}


def ending(parts: Any) -> Call:
    """Return the call that ends them early."""
    if inspect.isgenerator(parts):
        return parts.close, (), {}
    return _ending, (parts,), {}


async def _following(parts: Any) -> Any:
    return await anext(parts, NO_MORE)


async def _ending(parts: Any) -> None:
    await parts.aclose()
