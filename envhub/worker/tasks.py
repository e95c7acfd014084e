"""OpenEnv's task API: what an environment can pose, by split and index; and its metadata."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from envhub.errors import InvalidOption, UsageError

# the method of theirs, and which parameters it is called with
METHODS = {
    "list_splits": (),
    "list_tasks": ("split",),
    "num_tasks": ("split",),
    "get_task": ("split", "index"),
    "get_task_range": ("split", "start", "stop"),
    "get_metadata": (),
}


def answer(environment: Any, method: str, params: dict[str, Any]) -> Any:
    """Return what one of METHODS returns.

    Raises:
        UsageError: the environment has none of that name, or no tools.
        InvalidOption: there is no such task.
    """
    if method not in METHODS:
        raise UsageError("Environment does not support MCP")
    function = getattr(environment, method, None)
    if not callable(function):
        raise UsageError(f"{method} is not supported for this environment")
    try:
        value = function(*(params.get(name) for name in METHODS[method]))
        if inspect.isawaitable(value):
            value = asyncio.run(_waited(value))
    except IndexError:
        raise InvalidOption("Invalid task index") from None
    except NotImplementedError:
        raise UsageError(f"{method} is not supported for this environment") from None
    return [_split(split) for split in value] if method == "list_splits" else value


async def _waited(value: Any) -> Any:
    return await value


def _split(split: Any) -> Any:
    """Return a split as upstream's server describes it."""
    if hasattr(split, "model_dump"):
        return split.model_dump()
    if isinstance(split, dict):
        return split
    known = split in ("train", "validation", "test")
    return {"name": str(split), "type": split if known else "validation"}
