"""The blocking shell around an Exchange: one session process, polled by the thread that calls.

No event loop is in its path. Another thread may cancel the call under way; the two agree, by a
lock that is held for moments, on which call that is.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from envhub.errors import RemoteProtocolError
from envhub.hub.calls.exchange import Exchange
from envhub.hub.calls.tenure import Deadline
from envhub.hub.workers.pool import Lease
from envhub.hub.workers.process import SessionProcess
from envhub.wire.lifecycle import State
from envhub.wire.messages import Reply, Request
from envhub_sandbox import Verdict

_READ_BYTES = 64 * 1024
_CLOSE_S = 30.0
# Python runs a signal's handler between two bytecodes, and one that comes between the last of
# them and the wait not before the wait is over
_LOOK_S = 0.5
_LOOK_MS = int(_LOOK_S * 1000)


class Poll:
    """Speaks with one session process until it ends. Owns neither it nor its descriptors.

    Args:
        lease: of the process.
        exchange: with it, and nobody else's.

    Attributes:
        process: that of the lease.
    """

    def __init__(self, lease: Lease, exchange: Exchange) -> None:
        self._lease = lease
        self.process = lease.process
        self._exchange = exchange
        # Held by who acts on a call that another thread makes, which looks at `_is_acting` when
        # it has marked the call as over, and else need not take it: each step would pay. Taken
        # twice by one thread when a signal's handler cancels what it has interrupted
        self._lock = threading.RLock()
        self._is_acting = False
        self._unsent = b""
        self._call = 0  # number of the one under way, once it was sent as far as it can be
        self._asked = 0  # of the last one that was to be left early
        # The kernel looks at them in this order. So where it finds a reply it also finds what
        # was printed before that was sent
        self._channel = self.process.channel.fileno()
        self._poller = select.poll()
        self._poller.register(self._channel, select.POLLIN)
        self._poller.register(self.process.output, select.POLLIN)
        self._poller.register(self.process.pidfd, select.POLLIN)
        self._look = self._poller.poll
        self._awaits_room = False
        self._hears = True

    def is_over(self) -> bool:
        """Whether it cannot be called: it has ended, or spoke when nobody had asked."""
        if self._exchange.state is not State.READY or self.process.is_killed:
            return True
        if not self._look(0):
            return False
        self._receive()
        return self.process.is_killed or self.process.has_ended

    def call(
        self,
        stage: str,
        request: Callable[[int], Request],
        deadline: Deadline,
        verdict: Callable[[Lease], Verdict],
    ) -> Reply:
        """Make one call and return its reply.

        Raises:
            WorkerError: the process ended.
        """
        exchange = self._exchange
        meter = exchange.meter
        frame = exchange.call(stage, request)
        meter.begin(stage)
        try:
            if self._unsent:  # a Cancel of the call before
                frame = self._unsent + frame
            self._unsent = self._rest_of(frame)
            self._call = exchange.op
            reply = self._converse(deadline)
        except BaseException:  # KeyboardInterrupt among them: nobody could place the reply
            self.process.kill("closed")
            raise
        finally:
            meter.end()
            self._call = 0
            if self._is_acting:  # on having found a call under way: until that is done
                self._lock.acquire()
                self._lock.release()
        if reply is None:
            take_output(self.process, self._exchange)
            exchange.ended()
            raise exchange.loss(verdict(self._lease))
        return reply

    def cancel(
        self, within: Deadline, later: Callable[[float, Callable[[], None]], None]
    ) -> bool:
        """Stop the call under way; False if there is none. May be called from any thread.

        Args:
            within: until when it may be answered, if its environment can be asked.
            later: calls a function after so many seconds.
        """
        with self._acting():
            if not (call := self._call):
                return False
            if not self.process.cancels:
                self.process.kill(within.reason)
                return True
            if self._asked == call:
                return True
            self._asked = call
            self._unsent = self._rest_of(self._unsent + self._exchange.cancel())
            if not self._unsent:
                self.process.ring()

        def kill() -> None:
            with self._acting():
                if self._call == call:
                    self.process.kill(within.reason, within.passed)

        later(within.left_s, kill)
        return True

    @contextmanager
    def _acting(self) -> Iterator[None]:
        """Hold the call that is found in here, if it is one, from being over."""
        with self._lock:
            was, self._is_acting = self._is_acting, True
            try:
                yield
            finally:
                self._is_acting = was

    def _converse(self, deadline: Deadline) -> Reply | None:
        process, channel, look = self.process, self._channel, self._look
        until = deadline.until
        if self._unsent or self._awaits_room:
            self._await_room()
        while True:
            left = until - monotonic()
            ready = look(_LOOK_MS if left > _LOOK_S else max(left, 0.0) * 1000)
            if left <= 0:  # also while something comes: a trickle would go on for ever
                process.kill(deadline.reason, deadline.passed)
                until = monotonic() + _CLOSE_S
            ended = False
            for descriptor, _ in ready:
                if descriptor == channel:
                    if self._unsent:
                        self._send_rest()
                    reply = self._receive()
                    if reply is not None:
                        if len(ready) > 1:
                            take_output(self.process, self._exchange)
                        return reply
                elif descriptor == process.output:
                    if not take_output(self.process, self._exchange):
                        self._poller.unregister(descriptor)
                else:
                    ended = True
            if ended:
                return self._receive()

    def _await_room(self) -> None:
        """Wait also for what was not sent yet, or not any more."""
        if self._hears:
            self._awaits_room = bool(self._unsent)
            events = select.POLLIN | (select.POLLOUT if self._awaits_room else 0)
            self._poller.modify(self._channel, events)

    def _send_rest(self) -> None:
        with self._lock:
            self._unsent = self._rest_of(self._unsent)
            if not self._unsent:
                self._await_room()
                if self._asked == self._call:
                    self.process.ring()

    def _rest_of(self, data: bytes) -> bytes:
        """Send what there is room for, and return the rest."""
        try:
            sent = self.process.channel.send(data)
        except BlockingIOError:
            return data
        except OSError:
            return b""  # it has ended; the pidfd says so
        return data[sent:]

    def _receive(self) -> Reply | None:
        """Return the reply, if it is whole. Listens no more to one who has hung up."""
        try:
            data = self.process.channel.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self._hear_no_more()
            return None
        if self.process.is_killed:
            return None  # nothing counts any more
        try:
            return self._exchange.receive(data)
        except RemoteProtocolError as error:
            self.process.kill(*self._exchange.violation(error))
            self._hear_no_more()
            return None

    def _hear_no_more(self) -> None:
        if self._hears:
            self._hears = False
            self._poller.unregister(self._channel)


def take_output(process: SessionProcess, exchange: Exchange) -> bool:
    """Take what a process has printed; False when nothing can come any more."""
    try:
        data = os.read(process.output, _READ_BYTES)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if data and (passed := exchange.printed(data)):
        process.kill("output_limit", passed)
    return bool(data)
