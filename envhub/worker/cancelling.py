"""How a call is left early: by an environment that has a `cancel`, when the hub asks for it.

The hub writes a Cancel, with the number of the call, and then rings: a signal, whose handler
reads it between two bytecodes of whatever the environment does. The signal alone tells nothing,
so one that comes late, when another call has begun, does no harm.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

from envhub.wire.framing import FrameBuffer
from envhub.wire.messages import FROM_HUB, Cancel, Close, Request, decode
from envhub.worker.answer import Answering
from envhub_sandbox.syscalls import DOORBELL

_READ_BYTES = 64 * 1024


def serve(hub: socket.socket, answering: Answering) -> None:
    """Answer the hub's requests in this thread, one at a time, until it hangs up."""
    hearing = _Hearing(hub, answering)
    answering.by = hearing.call
    signal.signal(DOORBELL, hearing.ring)
    while (request := hearing.next()) is not None:
        reply = answering.answer(request)
        sys.stdout.flush()
        hub.sendall(answering.framed(reply))
        if isinstance(request, Close):
            return


class _Hearing:
    """The hub's words, also during a call."""

    def __init__(self, hub: socket.socket, answering: Answering) -> None:
        self._hub = hub
        self._answering = answering
        self._buffer = FrameBuffer()
        self._requests: deque[Request] = deque()
        self._op = 0  # of the call under way, or of the last
        self._asked = 0  # number of the call that the hub wants left
        self._is_inside = False  # the environment's code: what `cancel` raises may leave it
        self._has_rung = False  # when nobody could listen

    def next(self) -> Request | None:
        """Return the next request; None when the hub has hung up."""
        while not self._requests:
            data = self._hub.recv(_READ_BYTES)
            if not data:
                return None
            self._take(data)
        request = self._requests.popleft()
        self._op = request.op
        return request

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Call the environment, which may meanwhile be asked to leave."""
        try:
            self._is_inside = True
            if self._has_rung or self._asked == self._op:  # before it had begun
                self.ring()
            return function(*arguments, **options)
        finally:
            self._is_inside = False

    def ring(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Listen, and ask the environment if that is for the call it is in."""
        if not self._is_inside:
            self._has_rung = True
            return
        self._is_inside = self._has_rung = False  # nobody else listens now
        try:
            self._take(self._hub.recv(_READ_BYTES, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass  # it was read before, behind the call's request
        if self._asked == self._op:
            self._asked = 0
            self._answering.cancel()  # asked once: nobody listens in this call any more
        else:
            self._is_inside = True

    def _take(self, data: bytes) -> None:
        self._buffer.receive_data(data)
        while (frame := self._buffer.next_frame()) is not None:
            message = decode(FROM_HUB, frame)
            if isinstance(message, Cancel):
                self._asked = message.op
            else:
                self._requests.append(message)
