"""The event loop's shell around an Exchange: one session process, one call at a time."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

from envhub.errors import EnvhubError, RemoteProtocolError
from envhub.hub.accounts.meter import Meter
from envhub.hub.calls.exchange import Exchange
from envhub.hub.calls.tenure import Deadline
from envhub.hub.workers.process import SessionProcess
from envhub.wire.lifecycle import State
from envhub.wire.messages import Failed, Reply, Request
from envhub.wire.vector import VectorRequest

_READ_BYTES = 64 * 1024
_AT_ONCE_BYTES = 1024 * 1024  # of output are read as they come in each call, and then
_PAUSE_S = 0.004  # is waited after each read: 16 MB/s at most
_END_AFTER_HANG_UP_S = 1.0
_LATE_S = 0.25  # of the loop with a timer: somebody had stopped us, or the machine was busy
_AFTER_SLEEP_S = 0.5
_EARLY_S = 0.002  # uvloop counts whole milliseconds, and may be one early
Making = Callable[[int], Request | VectorRequest]  # a request from its number


class Link:
    """Speaks with one session process until it ends. Owns neither it nor its descriptors.

    Readers are registered for the whole life of the link, so an end, output, or a word that
    nobody asked for is noticed between the calls, too.
    """

    def __init__(self, process: SessionProcess, meter: Meter) -> None:
        self._process = process
        self._meter = meter
        self._exchange = Exchange(process.limits, meter)
        self._loop = asyncio.get_running_loop()
        self._done: Callable[[Reply | None], None] | None = None  # of the call under way
        self._deadline: Deadline | None = None  # likewise
        # one timer for many calls: when it goes off it looks how long the one of then may last
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._unsent = b""
        self._at_once_bytes = _AT_ONCE_BYTES
        self._pause: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None  # of a call that was cancelled
        self._channel = process.channel
        # noted here: once closed, they do not know their numbers, and others may have them
        self._listened: tuple[int, ...] = (
            self._channel.fileno(),
            process.output,
            process.pidfd,
        )
        callbacks = (self._read, self._read_output, self._note_end)
        for descriptor, callback in zip(self._listened, callbacks, strict=True):
            self._loop.add_reader(descriptor, callback)

    @property
    def alive(self) -> bool:
        """Whether the process can be called."""
        return not self._process.is_killed and self._exchange.state is State.READY

    async def call(
        self, stage: str, making: Making, deadline: Deadline, descriptor: int = -1
    ) -> Reply:
        """Make one call and return its reply.

        Cancelling it kills the process: what it would answer, nobody could place any more.

        Raises:
            EnvhubError: as the reply says, or because the process ended.
        """
        future: asyncio.Future[Reply | None] = self._loop.create_future()

        def take(reply: Reply | None) -> None:
            if not future.done():
                future.set_result(reply)

        self.begin(stage, making, deadline, take, descriptor)
        try:
            reply = await future
        except BaseException:
            self._process.kill("closed")
            self._end()
            raise
        if reply is None or isinstance(reply, Failed):
            raise await self.failure(reply)
        return reply

    def begin(
        self,
        stage: str,
        making: Making,
        deadline: Deadline,
        done: Callable[[Reply | None], None],
        descriptor: int = -1,
    ) -> None:
        """Make one call, and have `done` told of its reply; of None if the process ends.

        Args:
            stage: "reset", "step"…
            making: makes the request from its number.
            deadline: until when it must be answered.
            done: called once, in the loop.
            descriptor: goes with it.

        Raises:
            InvalidAction, InvalidOption: it is too long to be sent.
        """
        frame = self._exchange.call(stage, making)
        self._at_once_bytes = _AT_ONCE_BYTES
        self._done = done
        self._deadline = deadline
        if self._timer is None or deadline.until < self._timer_at:
            self._arm(deadline)
        self._meter.begin(stage)
        if descriptor >= 0:
            frame = self._hand_over(frame, descriptor)
        self._send(frame)

    async def failure(self, reply: Failed | None) -> EnvhubError:
        """Return the error for a call with that reply."""
        if reply is not None:
            return self._exchange.failure(reply)
        verdict = await self._process.wait_verdict()
        self._read_output()
        return self._exchange.loss(verdict)

    def cancel(self, within: Deadline) -> bool:
        """Stop the call under way; False if there is none, or its reply is here.

        Args:
            within: until when it may be answered, if its environment can be asked.
        """
        if self._done is None:
            return False
        if not self._process.cancels:
            self._process.kill(within.reason)
        elif self._leaving is None:
            self._leaving = self._loop.call_later(
                within.left_s + _EARLY_S, self._kill_at, within
            )
            self._send(self._exchange.cancel())
            if not self._unsent:
                self._process.ring()
        return True

    async def loss_between_calls(self) -> EnvhubError | None:
        """Return the error for a process that ended by itself, or at a limit, between calls."""
        verdict = await self._process.wait_verdict()
        self._read_output()
        if verdict.cause == "closed":
            return None  # by us, for a call that was cancelled: its caller knows
        return self._exchange.loss(verdict, during="between two calls")

    @property
    def output(self) -> str:
        """The tail of what the environment printed during the last call."""
        return self._exchange.output

    def detach(self) -> None:
        """Stop listening, and end a call that waits. Before the descriptors are closed.

        Idempotent.
        """
        for timer in (self._pause, self._timer):
            if timer is not None:
                timer.cancel()
        for descriptor in self._listened:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._listened = ()
        self._resolve(None)

    def _kill_at(self, deadline: Deadline) -> None:
        self._process.kill(deadline.reason, deadline.passed)

    def _send(self, frame: bytes) -> None:
        if self._unsent:
            self._unsent += frame
            return
        try:
            sent = self._channel.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has ended; the pidfd says so
        if sent < len(frame):
            self._unsent = frame[sent:]
            self._loop.add_writer(self._channel.fileno(), self._send_rest)

    def _hand_over(self, frame: bytes, descriptor: int) -> bytes:
        """Send a descriptor, and return what of its frame is still to be sent."""
        try:
            if self._unsent:
                raise BlockingIOError
            return frame[socket.send_fds(self._channel, [frame], [descriptor]) :]
        except BlockingIOError:  # it has answered the last call, and not read it
            self._process.kill("protocol")
        except OSError:
            pass  # it has ended; the pidfd says so
        return b""

    def _send_rest(self) -> None:
        try:
            sent = self._channel.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._loop.remove_writer(self._channel.fileno())
            if self._leaving is not None:
                self._process.ring()

    def _read(self) -> None:
        try:
            data = self._channel.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # it hung up because it ends, which the pidfd will say with the true reason; one
            # that only closed its end gets no second word
            self._loop.remove_reader(self._channel.fileno())
            self._loop.call_later(_END_AFTER_HANG_UP_S, self._process.kill, "protocol")
            return
        if self._process.is_killed:
            return  # nothing counts any more
        try:
            reply = self._exchange.receive(data)
        except RemoteProtocolError as error:
            self._process.kill(*self._exchange.violation(error))
            return
        if reply is not None:
            self._resolve(reply)

    def _read_output(self) -> None:
        try:
            data = os.read(self._process.output, _READ_BYTES)
        except (BlockingIOError, OSError):
            return
        if not data:
            self._loop.remove_reader(self._process.output)
            return
        if passed := self._exchange.printed(data):
            self._process.kill("output_limit", passed)
        self._at_once_bytes -= len(data)
        if self._at_once_bytes < 0 and self._pause is None:
            self._loop.remove_reader(self._process.output)
            self._pause = self._loop.call_later(_PAUSE_S, self._resume_output)

    def _resume_output(self) -> None:
        """Read output again: who prints without an end waits for us, and not others."""
        self._pause = None
        if self._listened:
            self._loop.add_reader(self._process.output, self._read_output)

    def _note_end(self) -> None:
        self._loop.remove_reader(self._process.pidfd)
        self._read()  # the last reply may still be there
        self._exchange.ended()
        self._resolve(None)

    def _resolve(self, reply: Reply | None) -> None:
        if (done := self._done) is not None:
            self._end()
            if reply is not None:
                self._read_output()
            done(reply)

    def _end(self) -> None:
        """End the call under way."""
        self._done = self._deadline = None
        self._meter.end()
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _arm(self, deadline: Deadline) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline.until
        self._timer = self._loop.call_later(deadline.left_s + _EARLY_S, self._look)

    def _look(self) -> None:
        """Kill the process if its call is overdue."""
        self._timer = None
        now = time.monotonic()
        if self._deadline is None:
            return  # the next call arms it again
        if now - self._timer_at > _LATE_S:  # it is we who slept: first hear what it has said
            self._timer_at = now + _AFTER_SLEEP_S
            self._timer = self._loop.call_later(_AFTER_SLEEP_S, self._look)
        elif self._deadline.left_s > 0:
            self._arm(self._deadline)
        else:
            self._kill_at(self._deadline)
