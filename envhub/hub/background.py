"""A hub on a thread of its own, for programs without an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, TypeVar

import uvloop

from envhub.errors import HubForked, SessionClosed
from envhub.hub.hub import Hub

_CLOSE_S = 30.0
_EARLY_S = 0.002  # uvloop counts whole milliseconds, and may be one early
_LOOK_S = 1.0  # between two looks at whether the hub is still there
T = TypeVar("T")


class BackgroundHub:
    """A hub on a thread of its own."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.owner = os.getpid()
        self._loop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="envhub-hub", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the hub's loop and return its result."""
        if os.getpid() != self.owner:
            work.close()
            raise HubForked(
                "this process was forked after the hub had started",
                hint="call envhub.make again here, or use the start method `spawn`",
            )
        if not self.alive:
            work.close()
            raise SessionClosed("the hub of this session is closed")
        try:
            result = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # its loop was closed since
            work.close()
            raise SessionClosed("the hub of this session is closed") from None
        while True:
            try:
                return result.result(_LOOK_S)
            except TimeoutError:
                if result.done():
                    raise  # the work's own
                if not self.alive:
                    work.close()  # perhaps it was never begun
                    raise SessionClosed("the hub was closed during the call") from None
            except CancelledError:
                raise SessionClosed("the hub was closed during the call") from None

    def later(self, delay_s: float, function: Callable[[], None]) -> None:
        """Call a function on the hub's thread after so many seconds; not after its end."""
        wait = partial(self._loop.call_later, delay_s + _EARLY_S, function)
        try:
            self._loop.call_soon_threadsafe(wait)
        except RuntimeError:
            pass  # its loop was closed, and what it had started is gone

    def close(self) -> None:
        """End it and wait. Idempotent; does nothing in a fork."""
        if os.getpid() == self.owner and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _serve(self) -> None:
        async with self.hub:
            self._started.set()
            await self._stop.wait()
