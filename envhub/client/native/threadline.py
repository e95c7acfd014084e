"""The line of one vector environment: its sessions' calls and replies, on its caller's thread.

As `Line` is for a program with an event loop, but a batch wakes up no other thread here: who
waits for replies reads them. When the connection is cut it is made again, and each session
says again what it still waits for. Between the calls a thread answers pings.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from envhub.client.native.address import Address
from envhub.client.native.dialled import Dialled
from envhub.errors import ConnectionLost, EnvhubError, HubForked
from envhub.wire import native

_PING_S = 20.0  # a hub that says nothing for so long is asked, and given up after as long
_CLOSE_S = 1.0
_FRAME_BYTES = native.MAX_FRAME_BYTES // 2  # of requests together
_TEND_S = 5.0  # between two looks at a connection that nobody uses
_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0  # between two attempts to connect


class Subscriber(Protocol):
    """A session: what it hears."""

    def resumed(self) -> list[native.Request]:
        """Return what to say first over a new connection."""
        ...

    def hear(self, reply: native.Reply) -> None:
        """Take a reply."""
        ...

    def give_up(self, error: EnvhubError) -> None:
        """Wait no more for what was asked."""
        ...


class ThreadLine:
    """A connection to a hub, from `start` to `close`.

    Args:
        address: of the hub.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._sessions: dict[int, Subscriber] = {}
        self._left: dict[int, bytes] = {}  # number and key of those that nobody wants
        self._numbers = itertools.count(1)
        self._dialled: Dialled | None = None
        self._has_heard = False  # an answer, over this connection
        self._pause_s = 0.0
        self._since = self._cut_at = (
            0.0  # when it was made; when the last that was of use ended
        )
        self._closed = threading.Event()

    def start(self) -> None:
        """Connect.

        Raises:
            ConnectionLost: nobody answers there.
            UsageError: the hub refuses us.
        """
        self._dialled = Dialled(self._address)
        self._since = self._cut_at = time.monotonic()
        threading.Thread(target=self._tend, name="envhub-tend", daemon=True).start()

    def close(self) -> None:
        """Hang up. Idempotent; in a fork the parent goes on."""
        self._closed.set()
        is_ours = os.getpid() == self._owner
        # who tends it may be about to connect; at the interpreter's end it does not go on
        is_held = is_ours and self._lock.acquire(timeout=_CLOSE_S)
        dialled, self._dialled = self._dialled, None
        if is_held:
            self._lock.release()
        if dialled is None:
            return
        if is_ours:
            with suppress(OSError):
                self._say(dialled, (), 0)
            dialled.close()
        else:
            dialled.drop()

    def check(self) -> None:
        """Raise what keeps anybody from being called.

        Raises:
            HubForked: this is another process.
            ConnectionLost: it is closed.
        """
        if os.getpid() != self._owner:
            raise HubForked(
                "this process was forked after the connection had been made",
                hint="call envhub.make_vec again here",
            )
        if self._closed.is_set():
            raise ConnectionLost("the connection to the hub is closed")

    def subscribe(self, session: Subscriber) -> int:
        """Return the number by which a session is called from now on."""
        number = next(self._numbers)
        self._sessions[number] = session
        return number

    def unsubscribe(self, number: int) -> None:
        """Forget a session. Idempotent."""
        self._sessions.pop(number, None)

    def leave(self, number: int, key: bytes) -> None:
        """Have the hub close a session with the next that is said; nobody waits for it."""
        self._left[number] = key

    def exchange(
        self,
        requests: Sequence[native.Request],
        done: Callable[[], bool],
        at_most_s: float,
        first: int = 0,
    ) -> None:
        """Send requests in one frame, and take replies until it is `done`.

        What cannot be had, for want of a connection or in time, sessions are told.

        Args:
            requests: which sessions know, and repeat when they are `resumed`.
            done: says whether to wait no more; looked at after each frame.
            at_most_s: as long as a reply may take.
            first: so many replies go together; 0 if each is to come by itself.
        """
        self.check()
        self._lock.acquire()
        try:
            self._exchange(requests, done, time.monotonic() + at_most_s, first)
        except EnvhubError as error:
            self._cut()
            for session in list(self._sessions.values()):
                session.give_up(error)
        except BaseException:  # in the middle of something, perhaps
            self._cut()
            raise
        finally:
            self._lock.release()

    # ------------------------------------------------------------ the connection

    def _exchange(
        self,
        requests: Sequence[native.Request],
        done: Callable[[], bool],
        until: float,
        first: int,
    ) -> None:
        began = time.monotonic()
        try:
            if self._dialled is not None:
                self._say(self._dialled, requests, first)
        except OSError:
            self._cut()
        is_asked = False  # whether the hub is still there
        while not done():
            dialled = self._dialled or self._dialled_again(began, until)
            left = until - time.monotonic()
            if left <= 0:
                raise ConnectionLost("the hub has not answered in time")
            try:
                self._hear(dialled.receive(min(left, _PING_S)))
                is_asked = False
            except TimeoutError:
                if left > _PING_S:
                    is_asked = self._asked(dialled, is_asked)
            except OSError:
                self._cut()

    def _asked(self, dialled: Dialled, before: bool) -> bool:
        with suppress(OSError):
            if not before:
                dialled.ping()
                return True
        self._cut()
        return False

    def _hear(self, message: bytes | None) -> None:
        if message is None:
            return
        for reply in native.replies(message):
            session = self._sessions.get(reply.session)
            if session is not None:
                session.hear(reply)
            if not isinstance(reply, native.Opened):  # or a cut after each would be nothing
                self._has_heard = True

    def _say(self, dialled: Dialled, requests: Sequence[native.Request], first: int) -> None:
        left, self._left = self._left, {}
        said: list[native.Request] = [*map(native.Close, left), *requests]
        group = 1 if first else 0
        if sum(map(native.carried_bytes, said)) > _FRAME_BYTES:  # it would be no frame
            for one in said:
                dialled.send(native.encode(native.Frame(group, first, [one])))
        elif said:
            dialled.send(native.encode(native.Frame(group, first, said)))

    def _dialled_again(self, began: float, until: float) -> Dialled:
        """Return a new connection, over which sessions have said what they wait for.

        Args:
            began: when the call did that needs one.
            until: when nobody waits for it any more.

        Raises:
            ConnectionLost: there is none to be had.
            UsageError: the hub refuses us.
        """
        until = min(until, max(began, self._cut_at) + self._address.reconnect_s)
        lost = ConnectionLost("each connection to the hub is cut")
        while not self._pause_s or time.monotonic() < until:
            time.sleep(self._pause_s)  # nothing, if the last one was of use
            try:
                return self._resumed()
            except ConnectionLost as error:
                lost = error
            except OSError:
                pass  # cut again
            self._pause_s = _longer(self._pause_s)
        raise lost

    def _resumed(self) -> Dialled:
        dialled = Dialled(self._address)
        try:
            self.check()  # it may have been closed meanwhile
            for session in self._sessions.values():
                if said := session.resumed():
                    dialled.send(native.encode(native.Frame(0, 0, said)))
            resumes = [native.Resume(*left) for left in self._left.items()]
            if resumes:
                dialled.send(native.encode(native.Frame(0, 0, list(resumes))))
            self._say(dialled, (), 0)
        except BaseException:
            dialled.drop()
            raise
        self._dialled, self._has_heard, self._since = dialled, False, time.monotonic()
        return dialled

    def _cut(self) -> None:
        dialled, self._dialled = self._dialled, None
        if dialled is not None:
            dialled.drop()
            now = time.monotonic()
            if self._has_heard or now - self._since > _LONGEST_PAUSE_S:
                self._pause_s, self._cut_at = 0.0, now
            else:  # a hub that hangs up on everybody is not asked all the time
                self._pause_s = _longer(self._pause_s)

    def _tend(self) -> None:
        """Answer pings while nobody calls, and keep sessions over a cut."""
        while not self._closed.wait(_TEND_S):
            if self._lock.acquire(blocking=False):
                try:
                    self._look()
                except (OSError, EnvhubError):
                    self._cut()
                finally:
                    self._lock.release()

    def _look(self) -> None:
        dialled = self._dialled or self._resumed()
        with suppress(TimeoutError):
            while not self._closed.is_set():
                self._hear(dialled.receive(0.001))


def _longer(pause_s: float) -> float:
    return min(max(2 * pause_s, _PAUSE_S), _LONGEST_PAUSE_S)
