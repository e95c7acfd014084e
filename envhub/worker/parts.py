"""Steps that have parts: a `step` that is a generator, of either kind.

Each part is an observation; the last is the step's result. The environment waits between two
parts until somebody asks for the next, so what nobody reads is not made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import GeneratorType
from typing import Any

NO_MORE = object()
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def has(environment: type) -> bool:
    """Whether the steps of a class have parts. Asked once: each session would pay for more."""
    steps = (getattr(environment, name, None) for name in ("step", "step_async"))
    return any(inspect.isgeneratorfunction(s) or inspect.isasyncgenfunction(s) for s in steps)


def following(parts: Any) -> Call:
    """Return the call that makes the next part, or NO_MORE."""
    if isinstance(parts, GeneratorType):
        return next, (parts, NO_MORE), {}
    return _following, (parts,), {}


def ending(parts: Any) -> Call:
    """Return the call that ends them early."""
    if isinstance(parts, GeneratorType):
        return parts.close, (), {}
    return _ending, (parts,), {}


async def _following(parts: Any) -> Any:
    return await anext(parts, NO_MORE)


async def _ending(parts: Any) -> None:
    await parts.aclose()
