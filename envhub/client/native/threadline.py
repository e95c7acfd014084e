"""The line of a program without an event loop: its sessions' calls and replies.

As `Line` is for a program with one, but a call wakes up no other thread here: who waits for
replies reads them. Several threads may wait at once. One of them reads for all, until it has
its own, and then lets another read. When the connection is cut it is made again, and each
session says again what it still waits for. Between the calls a thread answers pings.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from envhub.client.native.address import Address
from envhub.client.native.bounds import framed
from envhub.client.native.dialled import NOTICE_S, Cut, Dialled
from envhub.client.native.pauses import Pauses
from envhub.client.native.readers import Readers, Waiting
from envhub.client.native.subscriber import Subscriber
from envhub.client.native.tending import Tending, Word
from envhub.errors import ConnectionLost, EnvhubError, HubForked, RemoteProtocolError
from envhub.wire import native

_PING_S = 20.0  # a hub that says nothing for so long is asked, and given up after as long
_CLOSE_S = 1.0
_LOOK_S = 0.05


class ThreadLine:
    """A connection to a hub, from `start` to `close`.

    Args:
        address: of the hub.
        made_by: what a program calls to have one.

    Attributes:
        lock: of its sessions, and of all that is said and heard; held for no wait.
    """

    def __init__(self, address: Address, made_by: str = "envhub.make_vec") -> None:
        self._address = address
        self._made_by = made_by
        self._owner = os.getpid()
        self.lock = threading.RLock()
        self._sessions: dict[int, Subscriber] = {}
        self._left: deque[tuple[int, bytes]] = deque()  # number and key of who nobody wants
        self._numbers = itertools.count(1)
        self._requests: list[native.Request] = []
        self._readers = Readers()
        self._dialled: Dialled | None = None
        self._dropping: weakref.finalize[..., ThreadLine] | None = None
        self._pauses = Pauses()
        self._closed = False
        self._tending = Tending(self)

    def start(self) -> None:
        """Connect.

        Raises:
            ConnectionLost: nobody answers there.
            UsageError: the hub refuses us.
        """
        self._hold(Dialled(self._address))
        self._pauses.cut_at = time.monotonic()
        self._tending.start()

    def close(self) -> None:
        """Hang up. Who waits is told. Idempotent; in a fork the parent goes on."""
        self._closed = True
        if os.getpid() != self._owner:
            self._drop()
            return
        # who has the lock does not go on at the interpreter's end
        is_held = self.lock.acquire(timeout=_CLOSE_S)
        try:
            if self._dialled is not None:
                with suppress(OSError):
                    self._speak()
                self._dialled.close()
            self._fail(ConnectionLost("the connection to the hub was closed"))
        finally:
            if is_held:
                self.lock.release()
        self._tending.end()

    def check(self) -> None:
        """Raise what keeps anybody from being called.

        Raises:
            HubForked: this is another process.
            ConnectionLost: it is closed.
        """
        if os.getpid() != self._owner:
            raise HubForked(
                "this process was forked after the connection had been made",
                hint=f"call {self._made_by} again here",
            )
        if self._closed:
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
        """Have the hub close a session; nobody waits for it."""
        self._left.append((number, key))
        self._tending.soon(None)

    # ------------------------------------------------------------ calls

    def until(
        self, begin: Callable[[], object], done: Callable[[], bool], until: float
    ) -> bool:
        """Begin something, and take replies until it is `done`; False if it was not in time.

        Interrupted, as by a KeyboardInterrupt, the line has been cut: all is said again.

        Args:
            begin: sends requests, and lets nobody else do so meanwhile.
            done: says whether to wait no more; looked at after each frame.
            until: when nobody waits for it any more.

        Raises:
            HubForked, ConnectionLost: as `check`; and what `begin` raises.
        """
        self.check()
        waiting = Waiting(done)
        try:
            with self.lock:
                begin()
                self._speak()
            return self._wait(waiting, until)
        except EnvhubError:
            raise
        except BaseException:  # in the middle of something, perhaps
            with self.lock:
                self._drop()
                self._readers.leave(waiting)
            self._tending.soon(None)
            raise
        finally:
            self._leave(waiting)

    def send(self, request: native.Request) -> None:
        """Have a request sent with what is begun.

        Raises:
            HubForked, ConnectionLost: as `check`.
        """
        self.check()
        self._requests.append(request)

    def send_soon(self, request: native.Request) -> None:
        """Have a request sent by another thread: a signal's handler may call this, too."""
        self._tending.soon(request)

    @contextmanager
    def together(self, group: int, first: int) -> Iterator[None]:
        """Have the requests of the block sent in a frame of their own.

        Args:
            group: whose replies wait for each other.
            first: until so many are there.
        """
        self._speak()
        try:
            yield
        finally:
            self._speak(group, first)

    def fail(self, error: EnvhubError) -> None:
        """Have no session wait any more for what it has asked."""
        with self.lock:
            self._fail(error)

    def look_again(self) -> None:
        """Have those go on who have what they wait for."""
        with self.lock:
            self._readers.wake_done()

    # ------------------------------------------------------------ waiting

    def _wait(self, waiting: Waiting, until: float) -> bool:
        began = time.monotonic()
        while not waiting.done():
            with self.lock:
                is_reader = self._readers.take(waiting)
                if is_reader and waiting.beneath is not None:
                    self._drop()  # what that one was about to read is said again
            left = until - time.monotonic()
            if left <= 0:
                break
            if not is_reader:
                self._follow(waiting, left)
                continue
            try:
                self._read(waiting, began, until)
            except EnvhubError as error:
                self.fail(error)
                if not waiting.done():
                    self.check()
                    break
        return waiting.done()

    def _fail(self, error: EnvhubError) -> None:
        self._drop()
        for session in list(self._sessions.values()):
            session.give_up(error)
        self._readers.wake_all()

    def _leave(self, waiting: Waiting) -> None:
        try:
            with self.lock:
                self._readers.leave(waiting)
        except BaseException:  # another one would wait for it for ever
            with self.lock:
                self._readers.leave(waiting)
            raise

    def _follow(self, waiting: Waiting, left: float) -> None:
        dialled = self._dialled
        if dialled is None or not dialled.is_behind:
            waiting.sleep(min(left, NOTICE_S))
            return
        try:
            dialled.send_on(min(left, _LOOK_S))
        except OSError:
            self._cut(dialled)

    def _read(self, waiting: Waiting, began: float, until: float) -> None:
        """Take replies for everybody, until we need not wait any more."""
        is_asked = False  # whether the hub is still there
        while not waiting.done():
            dialled = self._dialled or self._dialled_again(waiting, began, until)
            left = until - time.monotonic()
            if dialled is None or left <= 0:
                return
            try:
                self._hear(dialled, dialled.receive(min(left, _PING_S)))
                is_asked = False
            except TimeoutError:
                if left > _PING_S:
                    is_asked = self._asked(dialled, is_asked)
            except OSError:
                self._cut(dialled)
            except RemoteProtocolError:
                if dialled is self._dialled:  # and not one that was dropped meanwhile
                    raise

    def _asked(self, dialled: Dialled, before: bool) -> bool:
        with suppress(OSError):
            if not before:
                dialled.ping()
                return True
        self._cut(dialled)
        return False

    def _hear(self, dialled: Dialled, message: bytes | None) -> None:
        if message is None:
            return
        replies = native.replies(message)
        with self.lock:
            if dialled is not self._dialled:
                return  # it is said again over another
            for reply in replies:
                session = self._sessions.get(reply.session)
                if session is not None:
                    session.hear(reply)
                if not isinstance(reply, native.Opened):  # or a cut after each would be nothing
                    self._pauses.has_heard = True
            self._readers.wake_done()

    # ------------------------------------------------------------ the connection

    def _speak(self, group: int = 0, first: int = 0) -> None:
        """Send what waits. Without a connection it is said again over the next."""
        dialled = self._dialled
        if dialled is None or not (self._requests or self._left):
            return
        said, self._requests = self._requests, []
        while self._left:
            said.append(native.Close(self._left.popleft()[0]))
        try:
            for frame in framed(said, group, first):
                dialled.send(native.encode(frame))
        except OSError:
            self._cut(dialled)

    def _dialled_again(self, waiting: Waiting, began: float, until: float) -> Dialled | None:
        """Return a new connection, over which sessions have said what they wait for.

        Args:
            waiting: who reads, and needs it.
            began: when its call did.
            until: when it does not wait any more; then there is None.

        Raises:
            ConnectionLost: there is none to be had.
            UsageError: the hub refuses us.
        """
        patience = max(began, self._pauses.cut_at) + self._address.reconnect_s
        lost = ConnectionLost("each connection to the hub is cut")
        while not self._pauses.next_s or time.monotonic() < patience:
            if self._pauses.next_s:  # none, if the last connection was of use
                left = min(until, patience) - time.monotonic()
                waiting.sleep(min(self._pauses.next_s, max(left, 0.0)))
            if time.monotonic() >= until:
                return None
            self.check()  # it may have been closed meanwhile
            try:
                return self._resumed()
            except ConnectionLost as error:
                lost = error
            except OSError:
                pass  # cut again
            self._pauses.failed()
        self._pauses.given_up()
        raise lost

    def _resumed(self) -> Dialled:
        dialled = Dialled(self._address)
        try:
            with self.lock:
                self.check()
                said: list[native.Request] = []
                for session in list(self._sessions.values()):
                    said += session.resumed()
                while self._left:
                    number, key = self._left.popleft()
                    said += [native.Resume(number, key), native.Close(number)]
                self._requests = said
                self._hold(dialled)
                self._speak()
        except BaseException:
            dialled.drop()
            raise
        if dialled is not self._dialled:
            raise Cut("it is cut already")
        return dialled

    def _hold(self, dialled: Dialled) -> None:
        self._dialled = dialled
        self._pauses.made()
        self._dropping = weakref.finalize(self, dialled.drop)
        self._dropping.atexit = False

    def _cut(self, dialled: Dialled) -> None:
        """Drop a connection that is none any more, if nobody has."""
        with self.lock:
            if dialled is self._dialled:
                self._drop()

    def _drop(self) -> None:
        dialled, self._dialled = self._dialled, None
        self._requests = []  # they are said again
        if dialled is None:
            return
        dialled.drop()
        if self._dropping is not None:
            self._dropping.detach()
        self._pauses.cut()

    def tend(self, word: Word) -> None:
        """Say that, answer pings if nobody reads, and keep sessions over a cut."""
        waiting = Waiting(lambda: True)
        dialled: Dialled | None = None
        try:
            with self.lock:
                if word is not None:
                    self._requests.append(word)
                self._speak()
                if self._readers.is_anybody or self._closed:
                    return
                self._readers.take(waiting)
            dialled = self._dialled or self._resumed()
            while not self._closed:
                self._hear(dialled, dialled.receive(0.001))
        except TimeoutError:
            pass
        except (OSError, EnvhubError) as error:
            with self.lock:
                if dialled is self._dialled:
                    self._drop()
                    if isinstance(error, RemoteProtocolError):
                        self._fail(error)
        finally:
            self._leave(waiting)
