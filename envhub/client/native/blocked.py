"""A session's channel for a program without an event loop: who asks waits, and reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from envhub.client.native import bounds
from envhub.client.native.channel import Call, Channel, Making, Told
from envhub.client.native.threadline import ThreadLine
from envhub.errors import ConnectionLost, EnvhubError, RemoteProtocolError, SessionClosed
from envhub.results import Bill
from envhub.wire import native


class BlockedChannel(Channel[ThreadLine]):
    """As `Channel`."""

    def open(self) -> None:
        """Open the session.

        Raises: as `RemoteHub.open`.
        """
        try:
            self._wait(self.begin_open, bounds.OPEN_S, bounds.NOT_OPENED)
        except BaseException:
            self._leave()  # it may have a place all the same, or get one
            raise

    def call(self, stage: str, making: Making) -> native.Answer:
        """Make one call and return its answer. Interrupted, it is stopped at the hub as well.

        Raises:
            EnvhubError: as the hub says; ConnectionLost if it says nothing.
        """
        at_most_s = bounds.allowed_s(self.opened, stage)
        until = time.monotonic() + at_most_s
        while self.is_full and self.over is None:
            self._wait(self.begin_pause, until - time.monotonic())
        answers: list[native.Answer | EnvhubError] = []
        begun: list[Call] = []
        take = answers.append
        try:
            self._line.until(
                lambda: begun.append(self.begin(stage, making, take)),
                lambda: bool(answers),
                time.monotonic() + at_most_s,
            )
        except EnvhubError:
            raise
        except BaseException:
            for call in list(self._calls.values()):
                if call.done is take:
                    call.done = None
                    self.stop(call)
            raise
        if not answers:
            begun[0].done = None
            raise ConnectionLost(bounds.LATE)
        answer = answers[0]
        if isinstance(answer, EnvhubError):
            raise answer
        return answer

    def stop(self, call: Call) -> None:
        """Have a call stopped at the hub. A signal's handler may do so, too."""
        call.cancelled = True
        self._line.send_soon(native.Cancel(self._number, call.request.op))

    def told_bill(self) -> Bill:
        """Return what the session has used so far; after its end, what it had used."""
        if self.over is None:
            self._wait(self.begin_bill, bounds.MARGIN_S)
        return self.bill

    def close(self) -> None:
        """Close the session. Idempotent."""
        if self.over is not None:
            return
        self.over = SessionClosed("the session is closed")
        try:
            with suppress(EnvhubError):  # or the hub closes it, after a while
                at_most_s = bounds.allowed_s(self.opened, "close", bounds.CLOSE_S)
                self._wait(self.begin_close, at_most_s)
        finally:
            if not self._is_ended:
                self._leave()
            self.forget()
            self._line.look_again()

    def give_up(self, error: EnvhubError) -> None:
        """Wait no more. What the hub did not understand is never said again."""
        if isinstance(error, RemoteProtocolError):
            self.end(error)
        else:
            self.cut_off(error)

    def _wait(
        self, begin: Callable[[Told], None], at_most_s: float, late: str = bounds.LATE
    ) -> None:
        told: list[EnvhubError | None] = []
        until = time.monotonic() + at_most_s
        self._line.until(lambda: begin(told.append), lambda: bool(told), until)
        if not told:
            raise ConnectionLost(late)
        if told[0] is not None:
            raise told[0]

    def _leave(self) -> None:
        self._line.unsubscribe(self._number)
        self._line.leave(self._number, self._key)
