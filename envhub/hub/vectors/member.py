"""One process of a vector environment: a session whose caller polls it, with shared memory.

The process is hostile: it may write anything into the memory at any time. It cannot make that
smaller, for it is sealed; what the hub decides by is read once, and lies in messages where it
can. What is in the memory is numbers, of which all are harmless to read.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeVar

from envhub.errors import (
    EnvhubError,
    HubForked,
    RemoteProtocolError,
    SessionClosed,
    WorkerError,
)
from envhub.hub.background import BackgroundHub
from envhub.hub.calls.exchange import Exchange
from envhub.hub.calls.polling import take_output
from envhub.hub.calls.tenure import Deadline
from envhub.hub.places.place import Place
from envhub.hub.vectors import memory
from envhub.hub.workers.pool import Lease
from envhub.hub.workers.process import SessionProcess
from envhub.wire import vector
from envhub.wire.lifecycle import State
from envhub.wire.messages import Close, Failed, Gather, Request
from envhub.wire.vector import (
    ANSWERED,
    ASKED,
    Autoreset,
    Gathered,
    Layout,
    Share,
    Shared,
    VectorReply,
    VectorRequest,
)

_READ_BYTES = 64 * 1024
_NUMBER_BYTES = 8
Watched = Literal["channel", "end", "output"]
R = TypeVar("R")


class Member:
    """A place of its own in the hub, and the processes that follow each other in it.

    A call is begun by `begin`, and `waiting.wait` waits for its outcome. Not for two threads.

    Args:
        background: the hub.
        place: in it, and the member's from here on.
        count: environments in the process.
        options: keyword arguments for making each environment, in MessagePack.
        whole: they are one object, of their author's vectorised class.

    Attributes:
        autoreset: how episodes follow each other; to be set before they are shared.
        count: as given.
        whole: as given.
        gathered: what the environments are; of the last process.
        layout: of the memory.
        memory: shared with the process; None without one.
        outcome: of the last call; None while it is under way.
        is_pending: it is.
        took_s: that call, from begin to end.
        watch: wakes up when there is something to look at.
        watched: by that, each by its descriptor.
        was_last: of its crew to have the outcome of a call.
    """

    watch: select.poll
    watched: dict[int, Watched]
    _channel: socket.socket

    def __init__(
        self, background: BackgroundHub, place: Place, count: int, options: bytes, *,
        whole: bool = False,
    ) -> None:  # fmt: skip
        self._background = background
        self.count = count
        self.whole = whole
        self.autoreset: Autoreset = "next_step"
        self._options = options
        self._place = place
        self._tenure = self._place.tenure
        self._limits = self._place.pool.manifest.limits
        self._lease: Lease | None = None
        self._exchange = self._new_exchange()
        self._unsent = b""
        self._stage = ""
        self._since = 0.0
        self._printed = select.poll()  # says whether the process has
        self._asked: Any = None  # where our numbers and its own are, to be seen in passing
        self._answered: Any = None
        self._closed = False
        self._sharing: mmap.mmap | None = None  # until the process has it
        self.gathered: Gathered | None = None
        self.layout: Layout | None = None
        self.memory: mmap.mmap | None = None
        self.outcome: VectorReply | EnvhubError | None = None
        self.is_pending = False
        self.took_s = 0.0
        self.was_last = False

    def _new_exchange(self) -> Exchange:
        return Exchange(self._limits, self._place.meter)

    @property
    def process(self) -> SessionProcess:
        """Its process; there must be one."""
        assert self._lease is not None
        return self._lease.process

    @property
    def pid(self) -> int:
        """The number of its process on this machine; 0 if it has none."""
        lease = self._lease
        return lease.process.pid if lease is not None and lease.process.pidfd >= 0 else 0

    @property
    def deadline(self) -> Deadline:
        """Of the call under way."""
        return self._tenure.deadline(self._stage, self._since)

    @property
    def unsent(self) -> bool:
        """Whether a part of the request waits for room in the socket."""
        return bool(self._unsent)

    def opened(self) -> None:
        """Note that the session is its client's to call."""
        self._tenure.opened()

    def count_batch(self, steps: int, episodes: int) -> None:
        """Count what the last call came to."""
        self._place.tally.batch(steps=steps, episodes=episodes, took_s=self.took_s)

    # ------------------------------------------------------------ a call

    def begin(
        self,
        stage: str,
        request: Callable[[int], Request | VectorRequest],
        descriptor: int = -1,
    ) -> None:
        """Send a request; its outcome comes to `outcome`.

        Args:
            stage: "reset", "step"…: its deadline, and the word of messages.
            request: makes it from its number.
            descriptor: goes with it.

        Raises:
            SessionClosed: nobody had called for too long, or it was closed.
            InvalidOption: the request is too long.
        """
        self._tenure.begin(stage)
        try:
            frame = self._exchange.call(stage, request)
        except EnvhubError as error:
            self._tenure.failed(error)
            self._tenure.end(stage)
            raise
        self._stage, self.outcome, self.is_pending = stage, None, True
        self._since = time.monotonic()
        self._place.meter.begin(stage)
        self._unsent = self._unsent + frame if self._unsent else frame
        self.send(descriptor)
        if self._asked is not None:  # after it was sent: who sees it need not wait for it
            self._asked[0] = self._exchange.op

    def check_usable(self) -> None:
        """Raise what a call would meet that cannot be made.

        Raises:
            HubForked: this is another process.
            SessionClosed: it is closed.
        """
        if not self._is_ours:
            raise HubForked(
                "this process was forked after the environments had been made",
                hint="call envhub.make_vec again here",
            )
        if self._closed or not self._background.alive:
            raise SessionClosed("the environments are closed")

    def send(self, descriptor: int = -1) -> None:
        """Send what there is room for."""
        channel, unsent = self._channel, self._unsent
        try:
            if descriptor >= 0:
                sent = socket.send_fds(channel, [unsent], [descriptor])
            else:
                sent = channel.send(unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(unsent)  # it has ended; the pidfd says so
        self._unsent = unsent[sent:]

    def may_have_answered(self) -> bool:
        """Whether the process says so in the memory, which may be a lie."""
        return self._answered is not None and bool(self._answered[0] == self._exchange.op)

    def receive(self) -> bool:
        """Take what has come; return whether there may be more to read."""
        try:
            data = self._channel.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            return False
        if self.process.is_killed:
            return True  # nothing counts any more
        try:
            reply: Any = self._exchange.receive(data)
        except RemoteProtocolError as error:
            self.process.kill(*self._exchange.violation(error))
            return False
        if reply is not None:
            if self._printed.poll(0):
                self.read_output()
            self._end(self._exchange.failure(reply) if isinstance(reply, Failed) else reply)
        return True

    def read_output(self) -> bool:
        """Take what was printed; False when nothing can come any more."""
        return take_output(self.process, self._exchange)

    def ended(self) -> None:
        """Note that the process has ended: so has the call, if it was not answered before."""
        self.receive()
        if not self.is_pending:
            return
        self.read_output()
        self._exchange.ended()
        verdict = self._background.do(self.process.wait_verdict())
        self._end(self._exchange.loss(verdict))

    def abandon(self) -> None:
        """Give up the call under way, and the process with it."""
        if self.is_pending and self._is_ours:
            self.process.kill("closed")
            self._end(SessionClosed("the call was interrupted"))

    def _end(self, outcome: VectorReply | EnvhubError) -> None:
        self.outcome, self.is_pending = outcome, False
        self.took_s = time.monotonic() - self._since
        self._place.meter.end()
        lost = False
        if isinstance(outcome, EnvhubError):
            lost = isinstance(outcome, WorkerError)
            self._tenure.failed(outcome)
        self._tenure.end(self._stage, None, lost=lost)

    def result(self, kind: type[R]) -> R:
        """Return the outcome of the last call.

        Raises:
            EnvhubError: that is what came of it.
            RemoteProtocolError: it is another reply than it must be; the process is killed.
        """
        outcome = self.outcome
        if isinstance(outcome, EnvhubError):
            raise outcome
        if not isinstance(outcome, kind):
            self.process.kill("protocol")
            raise RemoteProtocolError(f"a reply of another kind than {kind.__name__}")
        return outcome

    # ------------------------------------------------------------ its processes

    def begin_start(self) -> None:
        """Lease a process, and have it make the environments: the first of three steps.

        The members of a crew take each together, so that environments which are slow to make
        are made at the same time. Whoever fails in one must be dropped.
        """
        self.check_usable()
        self._lease = self._background.do(self._place.lease())
        self._exchange, self._unsent = self._new_exchange(), b""
        self.process.used = True
        self._channel = self.process.channel
        self.watch, self._printed = select.poll(), select.poll()
        self.watched = {
            self._channel.fileno(): "channel", self.process.pidfd: "end",
            self.process.output: "output",
        }  # fmt: skip
        for descriptor in self.watched:
            self.watch.register(descriptor, select.POLLIN)
        self._printed.register(self.process.output, select.POLLIN)
        self.begin("reset", lambda op: Gather(op, self.count, self._options, self.whole))

    def begin_share(self, seeds: list[int | None]) -> None:
        """Hand the process memory for what the environments are: the second step.

        Args:
            seeds: for the first reset of each environment, if that has none.

        Raises:
            UsageError: there is no such memory.
            EnvhubError: the environments could not be made.
        """
        before, gathered = self.gathered, self.result(Gathered)
        vector.check_alike(before, gathered)
        most = self._limits.session_memory_bytes or memory.MOST_BYTES
        layout = vector.laid_out(gathered, self.count, most_bytes=most)
        self.gathered, self.layout = gathered, layout
        mode, episode_s = self.autoreset, self._place.pool.manifest.deadlines.episode_s
        with memory.shared(layout.size_bytes) as (self._sharing, handed):
            self.begin("reset", lambda op: Share(op, mode, layout, seeds, episode_s), handed)

    def finish_start(self) -> tuple[mmap.mmap, Layout]:
        """Return the memory, and what lies where: the third step."""
        self.result(Shared)
        assert self._sharing is not None
        assert self.layout is not None
        self.memory, self._sharing = self._sharing, None
        self._asked, self._answered = (
            memoryview(self.memory)[at : at + _NUMBER_BYTES].cast("Q")
            for at in (ASKED, ANSWERED)
        )
        return self.memory, self.layout

    def drop(self) -> None:
        """End the process. Idempotent; nothing in a fork."""
        if not self._is_ours:
            return
        self.abandon()
        lease, self._lease = self._lease, None
        mapped, self.memory, self._sharing = self.memory or self._sharing, None, None
        self._asked = self._answered = None
        if mapped is not None:
            with suppress(BufferError):  # somebody has a view; it goes with the last of them
                mapped.close()
        if lease is not None:
            lease.process.kill("closed")
            self._background.do(self._place.end(lease))

    def is_ready(self, surely: bool = False) -> bool:
        """Whether the process can be called.

        Args:
            surely: ask the kernel whether it has ended since.
        """
        lease = self._lease
        if lease is None or self._exchange.state is not State.READY:
            return False
        if lease.process.is_killed or lease.process.pidfd < 0:
            return False
        return not surely or not lease.process.has_ended

    @property
    def _is_ours(self) -> bool:
        return os.getpid() == self._background.owner

    def begin_close(self) -> None:
        """Ask the environments to close, if they can be asked."""
        if self.is_ready():
            with suppress(EnvhubError):
                self.begin("close", Close)

    def close(self) -> None:
        """End the process, and give the place back. Idempotent; nothing in a fork."""
        if self._closed or not self._is_ours:
            return
        self._closed = True
        self._tenure.close()
        with suppress(SessionClosed):  # the hub was closed before, and everything with it
            self.drop()
            self._background.do(self._place.aclose())
