"""Steps that have parts: a `step` that is a generator, of either kind.

Each part is an observation; the last is the step's result. The environment waits between two
parts until somebody asks for the next, so what nobody reads is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, GeneratorType
from typing import Any

NO_MORE = object()
KINDS = (GeneratorType, AsyncGeneratorType)  # of a step that is under way
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


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
