"""The blocking shell around an Exchange: one session process, polled by the thread that calls.

No event loop is in its path. Another thread may cancel the call under way; the two agree, by a
lock that is held for moments, on which call that is.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from envhub.errors import RemoteProtocolError
from envhub.hub.calls.exchange import Exchange
from envhub.hub.calls.tenure import Deadline
from envhub.hub.workers.pool import Lease
from envhub.wire.lifecycle import State
from envhub.wire.messages import Reply, Request
from envhub_sandbox import Verdict

_READ_BYTES = 64 * 1024
_CLOSE_S = 30.0
# Python runs a signal's handler between two bytecodes, and one that comes between the last of
# them and the wait not before the wait is over
_LOOK_S = 0.5
_LOOK_MS = 500


class Poll:
    """Speaks with one session process until it ends. Owns neither it nor its descriptors.

    Args:
        lease: of the process.
        exchange: with it, and nobody else's.
    """

    def __init__(self, lease: Lease, exchange: Exchange) -> None:
        self._lease = lease
        self._process = lease.process
        self._exchange = exchange
        # held to send, and while a call is marked as begun or over. Taken twice by one thread
        # when a signal's handler cancels what it has interrupted
        self._lock = threading.RLock()
        self._unsent = b""
        self._call: object | None = None  # the one under way, which is nothing but itself
        self._asked: object | None = None  # the last one that was to be left early
        # The kernel looks at them in this order. So where it finds a reply it also finds what
        # was printed before that was sent
        self._channel = self._process.channel.fileno()
        self._poller = select.poll()
        self._poller.register(self._channel, select.POLLIN)
        self._poller.register(self._process.output, select.POLLIN)
        self._poller.register(self._process.pidfd, select.POLLIN)
        self._look = self._poller.poll
        self._awaits_room = False

    def is_over(self) -> bool:
        """Whether it cannot be called: it has ended, or spoke when nobody had asked."""
        if self._exchange.state is not State.READY or self._process.is_killed:
            return True
        if not self._look(0):
            return False
        self._receive()
        return self._process.is_killed or self._process.has_ended

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
        frame = self._exchange.call(stage, request)
        self._exchange.meter.begin(stage)
        try:
            with self._lock:
                self._unsent += frame  # a Cancel of the call before may be left in there
                self._call = object()
                self._send()
            reply = self._converse(deadline)
        except BaseException:  # KeyboardInterrupt among them: nobody could place the reply
            self._process.kill("closed")
            raise
        finally:
            self._exchange.meter.end()
            with self._lock:
                self._call = None
        if reply is None:
            self._read_output()
            self._exchange.ended()
            raise self._exchange.loss(verdict(self._lease))
        return reply

    def cancel(
        self, within: Deadline, later: Callable[[float, Callable[[], None]], None]
    ) -> bool:
        """Stop the call under way; False if there is none. May be called from any thread.

        Args:
            within: until when it may be answered, if its environment can be asked.
            later: calls a function after so many seconds.
        """
        with self._lock:
            if self._call is None:
                return False
            if not self._process.cancels:
                self._process.kill(within.reason)
                return True
            if self._asked is self._call:
                return True
            self._asked = call = self._call
            self._unsent += self._exchange.cancel()
            if self._send():
                self._process.ring()

        def kill() -> None:
            with self._lock:
                if self._call is call:
                    self._process.kill(within.reason, within.passed)

        later(within.left_s, kill)
        return True

    def _converse(self, deadline: Deadline) -> Reply | None:
        process, channel, look = self._process, self._channel, self._look
        until = deadline.until
        if self._unsent or self._awaits_room:
            self._await_room()
        while True:
            left = until - time.monotonic()
            ready = look(_LOOK_MS if left > _LOOK_S else max(left, 0.0) * 1000)
            if left <= 0:  # also while something comes: a trickle would go on for ever
                process.kill(deadline.reason, deadline.passed)
                until = time.monotonic() + _CLOSE_S
            ended = False
            for descriptor, _ in ready:
                if descriptor == channel:
                    if self._unsent:
                        self._send_rest()
                    reply, open_ = self._receive()
                    if reply is not None:
                        if len(ready) > 1:
                            self._read_output()
                        return reply
                    if not open_:
                        self._poller.unregister(channel)
                elif descriptor == process.output:
                    if not self._read_output():
                        self._poller.unregister(descriptor)
                else:
                    ended = True
            if ended:
                return self._receive()[0]

    def _await_room(self) -> None:
        """Wait also for what was not sent yet, or not any more."""
        self._awaits_room = bool(self._unsent)
        events = select.POLLIN | (select.POLLOUT if self._awaits_room else 0)
        self._poller.modify(self._channel, events)

    def _send_rest(self) -> None:
        with self._lock:
            if self._send():
                self._await_room()
                if self._asked is self._call:
                    self._process.ring()

    def _send(self) -> bool:
        """Send what there is, and return whether that was all of it. Under the lock."""
        try:
            sent = self._process.channel.send(self._unsent)
        except BlockingIOError:
            return False
        except OSError:
            sent = len(self._unsent)  # it has ended; the pidfd says so
        self._unsent = self._unsent[sent:]
        return not self._unsent

    def _receive(self) -> tuple[Reply | None, bool]:
        """Return the reply, if it is whole, and whether there may be more to read."""
        try:
            data = self._process.channel.recv(_READ_BYTES)
        except BlockingIOError:
            return None, True
        except OSError:
            data = b""
        if not data:
            return None, False
        if self._process.is_killed:
            return None, True  # nothing counts any more
        try:
            return self._exchange.receive(data), True
        except RemoteProtocolError as error:
            self._process.kill(*self._exchange.violation(error))
            return None, False

    def _read_output(self) -> bool:
        """Take what was printed; False when nothing can come any more."""
        try:
            data = os.read(self._process.output, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data and (passed := self._exchange.printed(data)):
            self._process.kill("output_limit", passed)
        return bool(data)
