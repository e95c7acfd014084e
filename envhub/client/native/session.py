"""A session of a hub elsewhere. Asynchronous; the API of `envhub.Session`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from envhub.client.native.line import Line
from envhub.errors import (
    ConnectionLost,
    EnvhubError,
    InvalidAction,
    InvalidOption,
    RemoteProtocolError,
    SessionClosed,
    SessionLost,
)
from envhub.results import Record, StepResult
from envhub.wire import calls, native
from envhub.wire.failures import exception

if TYPE_CHECKING:
    from envhub_sandbox import Receipt

_MARGIN_S = 30.0  # beyond the hub's own deadline for a call
_CLOSE_S = 5.0  # likewise, for one that nobody misses
_OPEN_S = 600.0  # for a place in the hub's queue, and a worker's start
_ROOM_BYTES = 1024  # of a frame, beside an action
_MOST_BYTES = native.MAX_FRAME_BYTES - _ROOM_BYTES

Done = Callable[["native.Answer | EnvhubError"], None]
Making = Callable[[int, int], native.Numbered]


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


class RemoteSession:
    """Made by `RemoteHub.session` or `RemoteHub.open`. One call at a time; a second one waits.

    When the connection is cut, a call waits for the next connection, and is carried out once
    all the same. A hub that does not know the session any more, as after its restart, is told
    of by SessionLost: the episode is lost, and the next `reset` opens a session anew.

    Args:
        line: to the hub.
        environment: its name.
    """

    def __init__(self, line: Line, environment: str) -> None:
        self._line = line
        self._environment = environment
        self._version = ""
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._channel = 0
        self._closed: EnvhubError | None = None
        self._lost: EnvhubError | None = None
        self._described: native.Described | None = None
        self._process: native.Process | None = None
        self.output = ""
        self._begin()

    def _begin(self) -> None:
        """Be a session that is not open yet, under a number of its own."""
        self._line.unsubscribe(self._channel)
        self._channel = self._line.subscribe(self)
        self._key = os.urandom(16)
        self._op = self._acked = 0
        self._calls: dict[int, _Call] = {}
        self._opened: asyncio.Future[native.Opened] = self._loop.create_future()
        self._bills: list[asyncio.Future[native.Billed]] = []
        self._ended = asyncio.Event()
        self._is_closing = False
        self._limits: dict[str, float] = {}

    async def open(self) -> None:
        """Open it.

        Raises: as `RemoteHub.open`.
        """
        self._line.send(native.Open(self._channel, self._key, self._environment))
        try:
            async with asyncio.timeout(_OPEN_S):
                opened = await self._opened
        except TimeoutError:
            self.abandon()
            raise ConnectionLost(f"the hub opened no session within {_OPEN_S:g} s") from None
        except BaseException:
            self.abandon()
            raise
        self._limits = opened.limits
        self._environment = opened.environment
        self._version = opened.version
        self._lost = None

    # ------------------------------------------------------------ the API of a session

    @property
    def title(self) -> str:
        """The environment's name and version."""
        return f"{self._environment} {self._version}"

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force by name, the hub's caps applied; 0 is no limit."""
        return dict(self._limits)

    @property
    def pid(self) -> int:
        """The number of the session's process on the hub's machine; 0 if none is known."""
        return self._process.pid if self._process is not None else 0

    @property
    def receipt(self) -> Receipt:
        """Which isolation is live around the session's process, as the hub has confirmed it.

        Raises:
            SessionClosed: no process is known: there was no call since it was opened or lost.
        """
        from envhub_sandbox import Receipt

        told = self._process
        if told is None:
            raise SessionClosed(
                "the session has no process yet", hint="reset begins an episode"
            )
        return Receipt(told.tier, told.launcher, told.layers, told.seen, told.uid, told.missing)

    async def reset(
        self, seed: int | None = None, *, episode_id: str | None = None, **options: Any
    ) -> StepResult:
        """Begin an episode. Arguments and errors are those of `Session.reset`."""
        data = calls.options(seed, episode_id, options)
        if len(data) > _MOST_BYTES:
            raise InvalidOption(f"options of {len(data)} bytes are over {_MOST_BYTES}")
        async with self._lock:
            if self._lost is not None and self._closed is None:
                self._begin()
                await self.open()
            reply = await self._call("reset", lambda op, ack: self._reset(op, ack, data))
        return calls.result(calls.expect(reply, native.Observed))

    async def step(self, action: Any) -> StepResult:
        """Take one action. Arguments and errors are those of `Session.step`."""
        making = self._step(action)
        async with self._lock:
            reply = await self._call("step", making)
        return calls.result(calls.expect(reply, native.Observed))

    async def stream(self, action: Any) -> AsyncGenerator[StepResult, None]:
        """Take one action and yield each part of it. As `Session.stream`."""
        making = self._step(action, stream=True)
        while True:
            async with self._lock:
                reply = await self._call("step", making)
            if isinstance(reply, native.Finished):
                return
            part = calls.expect(reply, native.Observed)
            yield calls.result(part)
            if not part.is_part:
                return
            making = self._continue

    async def state(self) -> Record:
        """Return the environment's state."""
        async with self._lock:
            reply = await self._call("state", self._state)
        return calls.state(calls.expect(reply, native.Read).payload)

    async def describe(self) -> native.Described:
        """Return the environment's schemas and options."""
        if self._described is None:
            async with self._lock:
                reply = await self._call("state", self._describe)
            self._described = calls.expect(reply, native.Described)
        return self._described

    def cancel(self) -> bool:
        """Stop the call that is under way; it ends as the environment decides, or `Cancelled`.

        Returns:
            Whether there was one.
        """
        under_way = [call for call in self._calls.values() if not call.cancelled]
        for call in under_way:
            self._stop(call)
        return bool(under_way)

    async def aclose(self) -> None:
        """Close the session. Idempotent."""
        if self._closed is not None:
            return
        self._closed = SessionClosed("the session is closed")
        if self._lost is None and self._opened.done():
            self._is_closing = True
            try:
                self._line.send(native.Close(self._channel))
                async with asyncio.timeout(self._limits["close_s"] + _CLOSE_S):
                    await self._ended.wait()
            except (EnvhubError, TimeoutError):
                pass  # the hub closes it when it has not heard from us for a while
        self._line.unsubscribe(self._channel)
        self.cut_off(self._closed)

    async def __aenter__(self) -> RemoteSession:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------ one call

    def begin_step(self, action: Any, done: Callable[[StepResult | EnvhubError], None]) -> None:
        """Begin a step, and have `done` told of what it comes to. For batches.

        Raises:
            InvalidAction: it cannot be sent.
        """

        def take(reply: native.Answer | EnvhubError) -> None:
            try:
                if isinstance(reply, EnvhubError):
                    done(reply)
                else:
                    done(calls.result(calls.expect(reply, native.Observed)))
            except RemoteProtocolError as error:
                done(error)

        making = self._step(action)
        try:
            self._line.send(self._numbered("step", making, take).request)
        except EnvhubError as error:
            done(error)

    async def _call(self, stage: str, making: Making) -> native.Answer:
        future: asyncio.Future[native.Answer] = self._loop.create_future()

        def take(reply: native.Answer | EnvhubError) -> None:
            if future.done():
                return
            if isinstance(reply, EnvhubError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        call = self._numbered(stage, making, take)
        self._line.send(call.request)
        try:
            return await future
        except asyncio.CancelledError:
            self._stop(call)
            raise

    def _numbered(self, stage: str, making: Making, done: Done) -> _Call:
        if self._closed is not None:
            raise self._closed
        if self._lost is not None:
            raise self._lost
        self._op += 1
        until = time.monotonic() + self._limits[f"{stage}_s"] + _MARGIN_S
        call = _Call(making(self._op, self._acked), done, until)
        self._calls[self._op] = call
        return call

    def _stop(self, call: _Call) -> None:
        call.cancelled = True
        try:
            self._line.send(native.Cancel(self._channel, call.request.op))
        except EnvhubError:
            pass  # nobody is there to be told

    def _reset(self, op: int, acked: int, data: bytes) -> native.Reset:
        return native.Reset(self._channel, op, acked, data)

    def _step(self, action: Any, *, stream: bool = False) -> Making:
        data = calls.action(action)
        if len(data) > _MOST_BYTES:
            raise InvalidAction(f"an action of {len(data)} bytes is over {_MOST_BYTES}")
        return lambda op, acked: native.Step(self._channel, op, acked, data, stream)

    def _continue(self, op: int, acked: int) -> native.Continue:
        return native.Continue(self._channel, op, acked)

    def _state(self, op: int, acked: int) -> native.State:
        return native.State(self._channel, op, acked)

    def _describe(self, op: int, acked: int) -> native.Describe:
        return native.Describe(self._channel, op, acked)

    # ------------------------------------------------------------ what the line says

    def resumed(self) -> list[native.Request]:
        """Return what to say first over a new connection."""
        if self._lost is not None:
            return []
        if not self._opened.done():
            return [native.Open(self._channel, self._key, self._environment)]
        said: list[native.Request] = [native.Resume(self._channel, self._key)]
        for op, call in sorted(self._calls.items()):
            said.append(call.request)
            if call.cancelled:
                said.append(native.Cancel(self._channel, op))
        if self._is_closing:
            said.append(native.Close(self._channel))
        return said

    def hear(self, reply: native.Reply) -> None:
        """Take a reply."""
        match reply:
            case native.Opened():
                if not self._opened.done():
                    self._opened.set_result(reply)
            case native.Process():
                self._process = reply
            case native.Billed():
                for bill in self._bills:
                    if not bill.done():
                        bill.set_result(reply)
                self._bills.clear()
            case native.Closed():
                self._over(SessionClosed("the hub has closed the session"))
            case native.Failed(op=0):
                self._over(exception(reply))
            case _:
                self._take(reply)

    def _take(self, answer: native.Answer) -> None:
        call = self._calls.pop(answer.op, None)
        if call is None:
            return
        while self._acked < self._op and self._acked + 1 not in self._calls:
            self._acked += 1
        if isinstance(answer, native.Observed):
            self.output = answer.output
        if call.done is not None:
            call.done(exception(answer) if isinstance(answer, native.Failed) else answer)

    def _over(self, error: EnvhubError) -> None:
        """The session has ended: the hub has said so."""
        self._ended.set()
        self._process = None
        if not self._opened.done():
            self._opened.set_exception(error)
            return
        self.cut_off(error)
        if isinstance(error, SessionLost):
            self._lost = error
        elif self._closed is None:
            self._closed = error
            self._line.unsubscribe(self._channel)

    def cut_off(self, error: EnvhubError) -> None:
        """Give up all that waits. The calls stay, to be numbered and asked for in order."""
        if not self._opened.done():
            self._opened.set_exception(error)
        for call in self._calls.values():
            done, call.done = call.done, None
            if done is not None:
                done(error)

    def look(self, now: float) -> None:
        """Give up what has waited for too long."""
        for call in list(self._calls.values()):
            if call.done is not None and call.until < now:
                done, call.done = call.done, None
                done(ConnectionLost("the hub has not answered in time"))

    def abandon(self) -> None:
        """Be closed without a word: the hub closes it when nobody asks for it."""
        self._line.unsubscribe(self._channel)
        if not self._opened.done():
            self._opened.cancel()
