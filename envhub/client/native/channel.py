"""One session's half of a line: its numbered calls, until each has its reply. No I/O.

A call is kept until it is answered, so that it can be said again over a new connection, in
order and under its number; the hub carries it out once. What a reply changes is changed in an
order that may be left off anywhere, as by a KeyboardInterrupt, and done again: whoever waits is
told before what would ask for the reply again is forgotten.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from envhub.client.native import bounds
from envhub.errors import ConnectionLost, EnvhubError, InvalidAction, SessionClosed
from envhub.results import Bill
from envhub.wire import calls, native
from envhub.wire.failures import exception

if TYPE_CHECKING:
    from envhub_sandbox import Receipt

Done = Callable[["native.Answer | EnvhubError"], object]
Told = Callable[["EnvhubError | None"], object]  # that it is so, or why it will not be
Making = Callable[[int, int, int], native.Numbered]  # of channel, number, and acked
L = TypeVar("L", bound="Spoken")


class Spoken(Protocol):
    """A line, as its sessions see it."""

    def subscribe(self, subscriber: Any, /) -> int:
        """Return the number by which a session is called over this line."""
        ...

    def unsubscribe(self, number: int, /) -> None:
        """Forget a session. Idempotent."""
        ...

    def send(self, request: native.Request, /) -> None:
        """Have a request sent; ConnectionLost if the line is closed."""
        ...


@dataclass(slots=True)
class Call:
    """One numbered call that has no reply yet.

    Args:
        request: what is sent, and sent again over a new connection.
        done: told of its reply, or why there is none; None when nobody waits any more.
        until: when it is given up.
        cancelled: it is to be stopped.
    """

    request: native.Numbered
    done: Done | None
    until: float
    cancelled: bool = False


class Channel(Generic[L]):
    """A session of the hub's, from its opening to its end. Not opened again after that.

    Args:
        line: to the hub.
        environment: its name.

    Attributes:
        opened: what the hub said of it; None before.
        bill: what the hub said last of what it has used.
        output: what was printed during the last call.
        over: why nobody may call it any more; None as long as one may.
    """

    def __init__(self, line: L, environment: str) -> None:
        self._line = line
        self._environment = environment
        self._key = os.urandom(16)
        self._op = self._acked = 0
        self._calls: dict[int, Call] = {}
        self._opening: list[Told] = []
        self._billing: list[Told] = []
        self._pausing: list[Told] = []  # calls that wait for others' answers
        self._ending: list[Told] = []
        self._is_closing = self._is_ended = False
        self._process: native.Process | None = None
        self.opened: native.Opened | None = None
        self.bill = Bill()
        self.output = ""
        self.over: EnvhubError | None = None
        self._number = line.subscribe(self)

    # ------------------------------------------------------------ what is known of it

    @property
    def title(self) -> str:
        """The environment's name and version."""
        opened = self.opened
        return f"{opened.environment} {opened.version}" if opened else self._environment

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force by name."""
        return dict(self.opened.limits) if self.opened is not None else {}

    @property
    def pid(self) -> int:
        """The number of its process on the hub's machine; 0 if none is known."""
        return self._process.pid if self._process is not None else 0

    @property
    def receipt(self) -> Receipt:
        """Which isolation is live around its process.

        Raises:
            SessionClosed: no process is known.
        """
        from envhub_sandbox import Receipt

        told = self._process
        if told is None:
            raise SessionClosed("the session has no process yet", hint="reset begins one")
        return Receipt(told.tier, told.launcher, told.layers, told.seen, told.uid, told.missing)

    # ------------------------------------------------------------ what is asked

    def begin_open(self, told: Told) -> None:
        """Have the session opened."""
        self._opening.append(told)
        self._line.send(self._open())

    def begin(self, stage: str, making: Making, done: Done) -> Call:
        """Make one call.

        Args:
            stage: "reset", "step" or "state", for its deadline.
            making: makes the request.
            done: told of its answer, or why there is none.

        Raises:
            EnvhubError: why it cannot be made; `done` is not told.
        """
        if self.over is not None:
            raise self.over
        if self._op + 1 in self._calls:
            self._op += 1  # an interrupt came between the two lines below
        if self.is_full:
            raise ConnectionLost(f"{native.WINDOW} calls have no answer yet")
        op = self._op + 1
        until = time.monotonic() + bounds.allowed_s(self.opened, stage)
        call = Call(making(self._number, op, self._acked), done, until)
        self._calls[op] = call
        self._op = op
        try:
            self._line.send(call.request)
        except EnvhubError:
            self._op = op - 1
            del self._calls[op]
            raise
        return call

    def start(self, stage: str, making: Making, done: Done) -> None:
        """As `begin`, but `done` is told, too, why the call cannot be made."""
        try:
            self.begin(stage, making, done)
        except EnvhubError as error:
            done(error)

    @property
    def is_full(self) -> bool:
        """Whether no other call can be made: those that were given up are answered, too."""
        return self._op - self._acked >= native.WINDOW

    def begin_pause(self, told: Told) -> None:
        """Have somebody told once another call may be possible."""
        self._pausing.append(told)

    def stop(self, call: Call) -> None:
        """Have a call stopped at the hub."""
        call.cancelled = True
        try:
            self._line.send(native.Cancel(self._number, call.request.op))
        except EnvhubError:
            pass  # nobody is there to be told

    def cancel(self) -> bool:
        """Stop the calls under way; False if there is none."""
        under_way = [call for call in list(self._calls.values()) if not call.cancelled]
        for call in under_way:
            self.stop(call)
        return bool(under_way)

    def begin_bill(self, told: Told) -> None:
        """Have the hub say what the session has used so far."""
        self._billing.append(told)
        self._line.send(native.Bill(self._number))

    def begin_close(self, told: Told) -> None:
        """Have the session closed."""
        self._is_closing = True
        self._ending.append(told)
        self._line.send(native.Bill(self._number))
        self._line.send(native.Close(self._number))

    def forget(self) -> None:
        """Hear no more of the session, which is over."""
        self._line.unsubscribe(self._number)
        if self.over is not None:
            self.cut_off(self.over)

    def _open(self) -> native.Open:
        return native.Open(self._number, self._key, self._environment)

    # ------------------------------------------------------------ what the line says

    def resumed(self) -> list[native.Request]:
        """Return what to say first over a new connection."""
        if self._is_ended:
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
                self.opened = self.opened or reply
                _tell(self._opening)
            case native.Process():
                self._process = reply
            case native.Billed():
                self.bill = calls.bill(reply.used)
                _tell(self._billing)
            case native.Closed():
                self.end(SessionClosed("the hub has closed the session"))
            case native.Failed(op=0):
                self.end(exception(reply))
            case _:
                self._take(reply)

    def _take(self, answer: native.Answer) -> None:
        call = self._calls.get(answer.op)
        if call is None:
            return
        if isinstance(answer, native.Observed):
            self.output = answer.output
        if call.done is not None:
            call.done(exception(answer) if isinstance(answer, native.Failed) else answer)
        self._calls.pop(answer.op, None)
        while self._acked < self._op and self._acked + 1 not in self._calls:
            self._acked += 1
        _tell(self._pausing)

    def end(self, error: EnvhubError) -> None:
        """The session has ended: the hub has said so, or cannot be spoken with."""
        self._process = None
        if self.over is None:
            self.over = error
        _tell(self._ending)
        self.cut_off(self.over)
        self._is_ended = True
        self._line.unsubscribe(self._number)

    def cut_off(self, error: EnvhubError) -> None:
        """Give up all that waits. The calls stay, to be asked for again in their order."""
        for call in list(self._calls.values()):
            _give_up(call, error)
        for waiting in (self._opening, self._billing, self._pausing, self._ending):
            _tell(waiting, error)

    def look(self, now: float) -> None:
        """Give up what has waited for too long."""
        for call in list(self._calls.values()):
            if call.until < now:
                _give_up(call, ConnectionLost(bounds.LATE))


def resetting(seed: int | None, episode_id: str | None, options: dict[str, Any]) -> Making:
    """Return what makes the request of a reset.

    Raises:
        InvalidOption: it cannot be sent.
    """
    data = bounds.checked(calls.options(seed, episode_id, options))
    return lambda channel, op, acked: native.Reset(channel, op, acked, data)


def stepping(action: Any, *, stream: bool = False) -> Making:
    """Return what makes the request of a step.

    Raises:
        InvalidAction: it cannot be sent.
    """
    data = calls.action(action)
    if len(data) > native.MOST_CARRIED_BYTES:
        most = native.MOST_CARRIED_BYTES
        raise InvalidAction(f"an action of {len(data)} bytes is over {most}")
    return lambda channel, op, acked: native.Step(channel, op, acked, data, stream)


def _give_up(call: Call, error: EnvhubError) -> None:
    if call.done is not None:
        call.done(error)
        call.done = None


def _tell(waiting: list[Told], error: EnvhubError | None = None) -> None:
    for told in list(waiting):
        told(error)
    waiting.clear()
