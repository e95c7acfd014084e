"""Work that is finished even when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_running: set[asyncio.Task[Any]] = set()  # a loop itself holds tasks weakly


async def to_the_end(work: Coroutine[Any, Any, T], discard: Callable[[T], None]) -> T:
    """Return what `work` returns; if the caller is cancelled, finish it and discard that.

    For what makes a process or ends one: half of it is a process that nobody owns. The work
    must keep a deadline of its own. anyio's shields do not stop a `Task.cancel()`; this does.
    """
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)

    def dispose(done: asyncio.Task[T]) -> None:
        if not done.cancelled() and done.exception() is None:
            discard(done.result())

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(dispose)
        raise
