"""A lane: one session of the native protocol, whoever is connected to it at the moment."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio
import msgspec
from msgspec.structs import astuple

from envhub.door.native.ledger import Ledger, Stock
from envhub.door.native.outlet import Outlet, Sink
from envhub.errors import Cancelled, EnvhubError, RemoteProtocolError, SessionClosed
from envhub.results import Bill
from envhub.wire import messages, native
from envhub.wire.failures import failed
from envhub.wire.native import Answer, Numbered
from envhub_sandbox import SandboxError

if TYPE_CHECKING:
    from envhub.hub.session import Session
    from envhub.hub.vectors.relay import Relay

_WORTH_BYTES = 64 * 1024  # kept replies that the session's memory is told of

_log = logging.getLogger(__name__)
Opening = Callable[[], Awaitable["Session"]]
Turn = Callable[[], Awaitable[None]]


class Lane:
    """A session and its numbered calls, which are carried out one after another.

    It goes on while nobody is connected: what was asked is answered, and the answer kept.

    Args:
        environment: its name.
        grace_s: how long it is kept without a connection.
        opening: opens the session.
        on_leave: called once, when nobody can come to the lane any more.
        on_end: called once, after that, when its session is closed.
        turn: waits until another call is within its holder's rate; None for any rate.
        stock: of the door.

    Attributes:
        outlet: of the connection that has it; None when none has, or it has ended.
        channel: the session's number there.
    """

    def __init__(
        self,
        environment: str,
        grace_s: float,
        opening: Opening,
        on_leave: Callable[[], None],
        on_end: Callable[[], None],
        turn: Turn | None = None,
        stock: Stock | None = None,
    ) -> None:
        self.environment = environment
        self._grace_s = grace_s
        self._on_leave = on_leave
        self._on_end = on_end
        self._turn = turn
        self._ledger = Ledger(stock)
        self._waiting: deque[Numbered] = deque()
        self._sinks: dict[int, Sink] = {}  # call → where its reply goes, if not straight out
        self._session: Session | None = None
        self._relay: Relay | None = None  # of a session that has gathered environments
        self.outlet: Outlet | None = None
        self.channel = 0
        self._told_pid = 0
        self._told_bytes = 0
        self._quiet: asyncio.Future[None] | None = None  # who closes it waits for that
        self._left = self._ended = False
        self._running = 0  # the number of the call that is under way
        self._pacing: anyio.CancelScope | None = None  # of a call that its rate delays
        self._loop = asyncio.get_running_loop()
        self._expiry: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = self._loop.create_task(self._open(opening))

    # ------------------------------------------------------------ connections

    def attach(self, outlet: Outlet, channel: int) -> None:
        """Send replies to a connection from now on, under a number. Who had the lane loses it.

        Args:
            outlet: of the connection.
            channel: the session's number there.
        """
        if self.outlet is not None:
            other = "number" if self.outlet is outlet else "connection"
            lost = SessionClosed(f"the session goes on over another {other}")
            self.outlet.send(native.encode(failed(self.channel, 0, lost)))
            self.outlet.look_again()
            self.outlet.gone(self.channel, self)
        for sink in self._sinks.values():
            sink.answer()
        self._sinks.clear()  # who has come to it anew asks again for what it misses
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.outlet, self.channel, self._told_pid = outlet, channel, 0
        if self._session is not None:
            self._say_opened()

    def detach(self, outlet: Outlet) -> None:
        """Note that a connection is gone. If it had the lane, that is kept for a while."""
        if self.outlet is outlet:
            self.outlet = None
            self._expiry = self._loop.call_later(self._grace_s, self.close)

    # ------------------------------------------------------------ calls

    def call(self, request: Numbered, sink: Sink) -> None:
        """Carry a call out in its turn, unless that was done before; and answer it.

        Args:
            request: the call.
            sink: where its reply goes, as long as this connection has the lane.
        """
        try:
            is_new, answer = self._ledger.take(request)
        except EnvhubError as error:
            sink.answer(native.encode(failed(self.channel, request.op, error)))
            return
        if answer is not None:
            sink.answer(*self._encoded(answer))
            return
        if before := self._sinks.get(request.op):
            before.answer()  # it waits for this call no longer
        self._sinks[request.op] = sink
        if not is_new:
            return
        is_idle = not (self._waiting or self._running or self._working is not None)
        self._waiting.append(request)
        if not (is_idle and not self._ledger.is_full and self._begin_step()):
            self._go_on()

    def cancel(self, op: int) -> None:
        """Stop a call that is not answered yet."""
        if op == self._running != 0 and self._session is not None:
            if self._pacing is not None:
                self._pacing.cancel()
            else:
                self._session.cancel()
        for request in self._waiting:
            if request.op == op:
                self._waiting.remove(request)
                self._note(failed(self.channel, op, Cancelled("it had not begun")))
                return

    def bill(self) -> None:
        """Say what the session has used; nothing yet while it is being opened."""
        if self.outlet is not None:
            used = asdict(self._session.meter.bill() if self._session is not None else Bill())
            self.outlet.send(native.encode(native.Billed(self.channel, used)))

    def close(self) -> None:
        """Close the session, and tell the connection. Idempotent; does not wait."""
        if self._closing is None:
            self._leave()
            self._closing = self._loop.create_task(self._close())

    async def aclose(self) -> None:
        """Close the session, and tell the connection. Idempotent."""
        self.close()
        assert self._closing is not None
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._session is None and self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        if self._session is None:
            self._refuse(SessionClosed("the session was closed before it was open"))
        else:
            try:
                await self._session.aclose()
            except Exception:
                _log.exception("a bug in envhub: a session did not close")
            if self._pacing is not None:
                self._pacing.cancel()
            if self._waiting or self._running or self._working is not None:
                self._quiet = self._loop.create_future()
                await self._quiet  # what waits is answered: the session is closed
        self._end(native.Closed(self.channel))

    # ------------------------------------------------------------ work

    async def _open(self, opening: Opening) -> None:
        try:
            self._session = await opening()
        except (EnvhubError, SandboxError) as error:
            self._fail(error)
            return
        except Exception as error:
            _log.exception("a bug in envhub: no session of %s", self.environment)
            self._fail(error)
            return
        if self.outlet is not None:
            self._say_opened()
        await self._work()

    def _go_on(self) -> None:
        """Carry out what waits. A step, most often, needs no task for that."""
        while self._waiting and not self._running and self._working is None:
            if self._ledger.is_full:
                self._refuse(self._ledger.full())
            elif not self._begin_step():
                self._working = self._loop.create_task(self._work())
        if self._quiet is not None and not self._running and self._working is None:
            self._quiet.set_result(None)
            self._quiet = None

    def _begin_step(self) -> bool:
        """Begin the next call, if it is a step and nothing has to be waited for before it."""
        request, session = self._waiting[0], self._session
        if not isinstance(request, native.Step) or request.stream or session is None:
            return False
        if self._turn is not None or (self.outlet is not None and self.outlet.is_full):
            return False

        def take(outcome: messages.Observed | EnvhubError) -> None:
            self._running = 0
            self._note(self._observed(session, request.op, outcome))
            self._go_on()

        self._waiting.popleft()
        self._running = request.op
        (self._relay or session).begin_step_raw(request.action, take)
        return True

    async def _work(self) -> None:
        """Carry out what waits, and wait with it."""
        session = self._session
        while self._waiting and session is not None:
            if self.outlet is not None and self.outlet.is_full:
                await self.outlet.room()
                continue  # what waits may have been cancelled, or be another connection's
            if self._ledger.is_full:
                self._refuse(self._ledger.full())
                continue
            request = self._waiting.popleft()
            self._running = request.op
            answer = await self._carried_out(session, request)
            self._running = 0
            self._note(answer)
        self._working = None
        self._go_on()

    async def _carried_out(self, session: Session, request: Numbered) -> Answer:
        channel, op = request.session, request.op
        try:
            if self._turn is not None:
                await self._pace(self._turn, session)
            match request:
                case native.Step(action=action, stream=False):
                    outcome = await (self._relay or session).step_raw(action)
                case native.Reset(options=options):
                    outcome = await (self._relay or session).reset_raw(options)
                case native.Gather():
                    self._relay = self._relay or session.relay()
                    return native.Gathered(channel, op, *await self._relay.gather(request))
                case native.Ask():
                    told = await (self._relay or session.relay()).ask_raw(request)
                    return native.Read(channel, op, told)
                case _ if self._relay is not None:
                    self._relay.refuse()
                case native.Step() | native.Continue():
                    if isinstance(request, native.Step):
                        part = await session.stream_raw(request.action)
                    else:
                        part = await session.continue_raw()
                    if part is None:
                        return native.Finished(channel, op)
                    outcome = part
                case native.State():
                    return native.Read(channel, op, await session.state_raw())
                case native.Describe():
                    described = astuple(await session.describe())
                    return native.Described(channel, op, *described[1:8])
        except (EnvhubError, SandboxError) as error:
            return failed(channel, op, error)
        except Exception as error:
            _log.exception("a bug in envhub: a call of a session of %s", self.environment)
            return failed(channel, op, error)
        return self._observed(session, op, outcome)

    async def _pace(self, turn: Turn, session: Session) -> None:
        """Wait until another call is within the rate; a session that is closed needs not."""
        if not session.is_open:
            return
        try:
            with anyio.CancelScope() as self._pacing:
                await turn()
            cancelled = self._pacing.cancel_called
        finally:
            self._pacing = None
        if cancelled and session.is_open:
            raise Cancelled("it had not begun")

    def _observed(
        self, session: Session, op: int, outcome: messages.Observed | EnvhubError
    ) -> Answer:
        """Return the answer to a step or a reset. Right after its end."""
        if isinstance(outcome, EnvhubError):
            return failed(self.channel, op, outcome)
        reward = outcome.reward
        if reward is not None and not math.isfinite(reward):
            try:
                with session.held_to_protocol():
                    raise RemoteProtocolError(f"the worker's reward is {reward}")
            except RemoteProtocolError as error:
                return failed(self.channel, op, error)
        return native.Observed(
            self.channel,
            op,
            outcome.payload,
            reward,
            outcome.terminated,
            outcome.truncated,
            outcome.metadata,
            outcome.is_part,
            session.output,
        )

    def _note(self, answer: Answer) -> None:
        """Keep an answer, and send it to whoever has asked for it and is still there."""
        self._ledger.answer(answer)
        if abs(self._ledger.kept_bytes - self._told_bytes) > _WORTH_BYTES and self._session:
            self._told_bytes = self._ledger.kept_bytes
            self._session.keep(self._told_bytes)
        sink = self._sinks.pop(answer.op, None)
        if sink is not None and self.outlet is not None:
            sink.answer(*self._encoded(answer))

    def _encoded(self, answer: Answer) -> list[bytes]:
        """Return what is sent for an answer: of which process, if that is news; and itself."""
        if answer.session != self.channel:
            answer = msgspec.structs.replace(answer, session=self.channel)
        found = [native.encode(answer)]
        session = self._session
        if session is not None and session.pid not in (0, self._told_pid):
            self._told_pid = session.pid
            found.insert(0, native.encode(self._process(session)))
        return found

    def _process(self, session: Session) -> native.Process:
        told = session.receipt
        of = (told.tier, told.launcher, told.layers, told.seen, told.uid, told.missing)
        return native.Process(self.channel, session.pid, *of)

    def _say_opened(self) -> None:
        session, outlet = self._session, self.outlet
        assert session is not None
        assert outlet is not None
        opened = native.Opened(
            self.channel,
            session.manifest.name,
            session.manifest.version,
            self._ledger.last,
            self._grace_s,
            session.limits,
        )
        outlet.send(native.encode(opened))

    def _fail(self, error: Exception) -> None:
        """End, for there is no session; calls that wait for it fail alike."""
        self._refuse(error)
        self._end(failed(self.channel, 0, error))

    def _refuse(self, error: Exception) -> None:
        while self._waiting:
            self._note(failed(self.channel, self._waiting.popleft().op, error))

    def _end(self, last: native.Closed | native.Failed) -> None:
        if self.outlet is not None:
            self.outlet.send(native.encode(last))
            self.outlet.gone(self.channel, self)
            self.outlet = None
        self._leave()
        if not self._ended:
            self._ended, self._relay = True, None
            self._ledger.close()
            self._on_end()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._on_leave()
