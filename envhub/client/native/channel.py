"""One session's half of a line: its numbered calls, until each has its reply.

A call is kept until it is answered, so that it can be said again over a new connection, in
order and under its number; the hub carries it out once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from envhub.client.native import bounds
from envhub.client.native.line import Line
from envhub.errors import ConnectionLost, EnvhubError, SessionClosed
from envhub.results import Bill
from envhub.wire import calls, native
from envhub.wire.failures import exception

Done = Callable[["native.Answer | EnvhubError"], None]
Making = Callable[[int, int, int], native.Numbered]  # of channel, number, and acked


@dataclass(slots=True)
class _Call:
    """One numbered call that has no reply yet.

    Args:
        request: what is sent, and sent again over a new connection.
        done: told once of its reply, or why there is none; None when nobody waits any more.
        until: when it is given up.
        cancelled: it is to be stopped.
    """

    request: native.Numbered
    done: Done | None
    until: float
    cancelled: bool = False


class Channel:
    """A session of the hub's, from its opening to its end. Not opened again after that.

    Args:
        line: to the hub.
        environment: its name.

    Attributes:
        opened: what the hub said of it; None before.
        process: that answers, as far as the hub has said; None before the first reply.
        output: what was printed during the last call.
        over: why nobody may call it any more; None as long as one may.
    """

    def __init__(self, line: Line, environment: str) -> None:
        self._line = line
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._number = line.subscribe(self)
        self._key = os.urandom(16)
        self._op = self._acked = 0
        self._calls: dict[int, _Call] = {}
        self._opening: asyncio.Future[native.Opened] = self._loop.create_future()
        self._bill = Bill()
        self._billing: list[asyncio.Future[None]] = []
        self._pausing: list[asyncio.Future[None]] = []  # calls that wait for others' answers
        self._ended = asyncio.Event()
        self._is_closing = False
        self.opened: native.Opened | None = None
        self.process: native.Process | None = None
        self.output = ""
        self.over: EnvhubError | None = None

    async def open(self) -> None:
        """Open the session.

        Raises: as `RemoteHub.open`.
        """
        try:
            self._line.send(self._open())
            async with asyncio.timeout(bounds.OPEN_S):
                self.opened = await self._opening
        except TimeoutError:
            raise ConnectionLost(
                f"the hub opened no session within {bounds.OPEN_S:g} s"
            ) from None
        finally:
            if self.opened is None:
                self._line.unsubscribe(self._number)
                self._opening.cancel()
                with suppress(EnvhubError):  # it may have a place all the same, or get one
                    self._line.send(native.Close(self._number))

    async def call(self, stage: str, making: Making) -> native.Answer:
        """Make one call and return its answer. Cancelled, it is stopped at the hub as well.

        Args:
            stage: "reset", "step" or "state", for its deadline.
            making: makes the request.

        Raises:
            EnvhubError: as the hub says; ConnectionLost if it says nothing.
        """
        future: asyncio.Future[native.Answer] = self._loop.create_future()

        def take(answer: native.Answer | EnvhubError) -> None:
            if future.done():
                return
            if isinstance(answer, EnvhubError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        await self._wait_for_room(bounds.allowed_s(self.opened, stage))
        call = self._begin(stage, making, take)
        try:
            return await future
        except asyncio.CancelledError:
            self._stop(call)
            raise

    def begin(self, stage: str, making: Making, done: Done) -> None:
        """Make one call, and have `done` told, once, of its answer or why there is none."""
        try:
            self._begin(stage, making, done)
        except EnvhubError as error:
            done(error)

    def cancel(self) -> bool:
        """Stop the calls under way; False if there is none."""
        under_way = [call for call in self._calls.values() if not call.cancelled]
        for call in under_way:
            self._stop(call)
        return bool(under_way)

    async def bill(self) -> Bill:
        """Return what the session has used so far; after its end, what it had used."""
        if self.over is None:
            told: asyncio.Future[None] = self._loop.create_future()
            self._line.send(native.Bill(self._number))
            self._billing.append(told)
            await _within(told, bounds.MARGIN_S)
        return self._bill

    async def close(self) -> None:
        """Close the session. Idempotent."""
        if self.over is not None:
            return
        self.over = SessionClosed("the session is closed")
        if self.opened is not None:
            self._is_closing = True
            try:
                self._line.send(native.Bill(self._number))
                self._line.send(native.Close(self._number))
                async with asyncio.timeout(
                    bounds.allowed_s(self.opened, "close", bounds.CLOSE_S)
                ):
                    await self._ended.wait()
            except (EnvhubError, TimeoutError):
                pass  # the hub closes it when it has not heard from us for a while
            finally:
                self._line.unsubscribe(self._number)
                self.cut_off(self.over)

    # ------------------------------------------------------------ calls

    def _begin(self, stage: str, making: Making, done: Done) -> _Call:
        if self.over is not None:
            raise self.over
        assert self.opened is not None
        op = self._op + 1
        if op - self._acked > native.WINDOW:
            raise ConnectionLost(f"{native.WINDOW} calls have no answer yet")
        until = time.monotonic() + bounds.allowed_s(self.opened, stage)
        call = _Call(making(self._number, op, self._acked), done, until)
        self._line.send(call.request)
        self._op = op
        self._calls[op] = call
        return call

    async def _wait_for_room(self, at_most_s: float) -> None:
        """Wait until there may be another call: those that were given up are answered, too."""
        until = time.monotonic() + at_most_s
        while self._op - self._acked >= native.WINDOW and self.over is None:
            self._line.want()
            answered: asyncio.Future[None] = self._loop.create_future()
            self._pausing.append(answered)
            await _within(answered, until - time.monotonic())

    def _stop(self, call: _Call) -> None:
        call.cancelled = True
        try:
            self._line.send(native.Cancel(self._number, call.request.op))
        except EnvhubError:
            pass  # nobody is there to be told

    def _open(self) -> native.Open:
        return native.Open(self._number, self._key, self._environment)

    # ------------------------------------------------------------ what the line says

    def resumed(self) -> list[native.Request]:
        """Return what to say first over a new connection."""
        if self._ended.is_set():
            return []
        if self.opened is None:
            return [self._open()]
        said: list[native.Request] = [native.Resume(self._number, self._key)]
        for op, call in sorted(self._calls.items()):
            said.append(call.request)
            if call.cancelled:
                said.append(native.Cancel(self._number, op))
        if self._billing or self._is_closing:
            said.append(native.Bill(self._number))
        if self._is_closing:
            said.append(native.Close(self._number))
        return said

    def hear(self, reply: native.Reply) -> None:
        """Take a reply."""
        match reply:
            case native.Observed():  # nearly all are
                self._take(reply)
            case native.Opened():
                if not self._opening.done():
                    self._opening.set_result(reply)
            case native.Process():
                self.process = reply
            case native.Billed():
                self._bill = calls.bill(reply.used)
                _tell(self._billing)
            case native.Closed():
                self.end(SessionClosed("the hub has closed the session"))
            case native.Failed(op=0):
                self.end(exception(reply))
            case _:
                self._take(reply)

    def _take(self, answer: native.Answer) -> None:
        call = self._calls.pop(answer.op, None)
        if call is None:
            return
        while self._acked < self._op and self._acked + 1 not in self._calls:
            self._acked += 1
        _tell(self._pausing)
        if isinstance(answer, native.Observed):
            self.output = answer.output
        if call.done is not None:
            call.done(exception(answer) if isinstance(answer, native.Failed) else answer)

    def end(self, error: EnvhubError) -> None:
        """The session has ended: the hub has said so, or cannot be spoken with."""
        self._ended.set()
        self.process = None
        if self.over is None:
            self.over = error
        self.cut_off(error)
        self._line.unsubscribe(self._number)

    def cut_off(self, error: EnvhubError) -> None:
        """Give up all that waits. The calls stay, to be asked for again in their order."""
        if not self._opening.done():
            self._opening.set_exception(error)
        for call in self._calls.values():
            done, call.done = call.done, None
            if done is not None:
                done(error)
        _tell(self._billing, error)
        _tell(self._pausing, error)

    def look(self, now: float) -> None:
        """Give up what has waited for too long."""
        for call in list(self._calls.values()):
            if call.done is not None and call.until < now:
                done, call.done = call.done, None
                done(ConnectionLost("the hub has not answered in time"))


async def _within(told: asyncio.Future[None], at_most_s: float) -> None:
    try:
        async with asyncio.timeout(at_most_s):
            await told
    except TimeoutError:
        raise ConnectionLost("the hub has not answered in time") from None


def _tell(waiting: list[asyncio.Future[None]], error: EnvhubError | None = None) -> None:
    for told in waiting:
        if not told.done() and error is None:
            told.set_result(None)
        elif not told.done() and error is not None:
            told.set_exception(error)
    waiting.clear()
