"""A session's channel for a program with an event loop: what is asked is awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from envhub.client.native import bounds
from envhub.client.native.channel import Channel, Making, Told
from envhub.client.native.line import Line
from envhub.errors import ConnectionLost, EnvhubError, SessionClosed
from envhub.results import Bill
from envhub.wire import native


class AwaitedChannel(Channel[Line]):
    """As `Channel`."""

    async def open(self) -> None:
        """Open the session.

        Raises: as `RemoteHub.open`.
        """
        try:
            await _told(self.begin_open, bounds.OPEN_S, bounds.NOT_OPENED)
        except BaseException:
            self._line.unsubscribe(self._number)
            with suppress(EnvhubError):  # it may have a place all the same, or get one
                self._line.send(native.Close(self._number))
            raise

    async def call(self, stage: str, making: Making) -> native.Answer:
        """Make one call and return its answer. Cancelled, it is stopped at the hub as well.

        Raises:
            EnvhubError: as the hub says; ConnectionLost if it says nothing.
        """
        future: asyncio.Future[native.Answer] = asyncio.get_running_loop().create_future()

        def take(answer: native.Answer | EnvhubError) -> None:
            if future.done():
                return
            if isinstance(answer, EnvhubError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        until = time.monotonic() + bounds.allowed_s(self.opened, stage)
        while self.is_full and self.over is None:
            self._line.want()
            await _told(self.begin_pause, until - time.monotonic())
        call = self.begin(stage, making, take)
        try:
            return await future
        except asyncio.CancelledError:
            self.stop(call)
            raise

    async def told_bill(self) -> Bill:
        """Return what the session has used so far; after its end, what it had used."""
        if self.over is None:
            await _told(self.begin_bill, bounds.MARGIN_S)
        return self.bill

    async def close(self) -> None:
        """Close the session. Idempotent."""
        if self.over is not None:
            return
        self.over = SessionClosed("the session is closed")
        if self.opened is not None:
            try:
                at_most_s = bounds.allowed_s(self.opened, "close", bounds.CLOSE_S)
                await _told(self.begin_close, at_most_s)
            except EnvhubError:
                pass  # the hub closes it when it has not heard from us for a while
            finally:
                self.forget()


async def _told(
    begin: Callable[[Told], None], at_most_s: float, late: str = bounds.LATE
) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def told(error: EnvhubError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    begin(told)
    try:
        async with asyncio.timeout(at_most_s):
            await future
    except TimeoutError:
        raise ConnectionLost(late) from None
