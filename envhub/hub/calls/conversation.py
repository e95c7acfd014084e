"""A session's calls: one at a time, each to a live process, and a fresh one after a loss."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

import anyio

from envhub.errors import (
    Cancelled,
    DeadlineExceeded,
    EnvhubError,
    ResetNeeded,
    SessionClosed,
    WorkerError,
)
from envhub.hub.calls.link import Link, Making
from envhub.hub.places.place import Place
from envhub.hub.workers.pool import Lease
from envhub.wire.messages import Close, Failed, Reply

_log = logging.getLogger(__name__)
Done = Callable[[Reply | EnvhubError], None]


class Conversation:
    """What a session says to its processes, and hears.

    There are two ways to make a call. `call` waits for whatever is needed: another call, a
    process, the verdict on one that ended. `begin` makes one that need not wait for anything,
    and so needs no task; that is almost every step.

    Args:
        place: where its processes come from.
        lease: the first of them.

    Attributes:
        lease: of the process that it speaks with; None if it has none.
        link: to it.
        closed: nobody may call any more.
        at_drop: called when it parts with a process.
    """

    def __init__(self, place: Place, lease: Lease) -> None:
        self._place = place
        self._tenure = place.tenure
        self._meter = place.meter
        self.lease: Lease | None = lease
        self.link: Link | None = Link(lease.process, self._meter)
        self.closed = False
        self.at_drop: Callable[[], None] = lambda: None
        self._turn = anyio.Semaphore(1, max_value=1, fast_acquire=True)
        self._waiting: anyio.CancelScope | None = None  # a call, for a process
        self._failing: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way."""
        return self._turn.value == 0

    async def call(
        self, stage: str, making: Making, of: Lease | None = None, descriptor: int = -1
    ) -> Reply:
        """Make one call and return its reply.

        Args:
            stage: "reset", "step"…
            making: makes the request from its number.
            of: the process that it must be of; None for any.
            descriptor: goes with it.

        Raises:
            EnvhubError: as the reply says, or because the process ended.
            ResetNeeded: it is another process now.
        """
        since = time.monotonic() if self.is_busy else 0.0
        async with self._turn:
            if since:
                self._meter.waited_s += time.monotonic() - since
            if self.closed:
                raise self._tenure.closed()
            try:
                self._tenure.begin(stage)
            except DeadlineExceeded:
                await self._drop_process(ask=False)
                raise
            reply: Reply | None = None
            lost = True
            try:
                reply = await self._call_process(stage, making, of, descriptor)
                lost = False
            except EnvhubError as error:
                lost = isinstance(error, WorkerError)
                self._tenure.failed(error)
                raise
            finally:
                self._tenure.end(stage, reply, lost=lost)
            return reply

    def begin(self, stage: str, making: Making, done: Done) -> bool:
        """Make one call, and have `done` told of its reply, or why there is none.

        Returns:
            Whether it was made. If it must wait for something first it is not.
        """
        link = self.link
        if self.is_busy or self.closed or link is None or not link.alive or stage == "reset":
            return False
        try:
            self._tenure.begin(stage)
        except EnvhubError:
            return False  # `call` meets the same, and has somebody to tell it to
        self._turn.acquire_nowait()

        def take(reply: Reply | None) -> None:
            if reply is None or isinstance(reply, Failed):
                self._later(self._fail(stage, link, reply, done))
            else:
                self._over(stage, reply, done)

        assert self.lease is not None
        self.lease.process.used = True
        try:
            link.begin(stage, making, self._tenure.deadline(stage), take)
        except EnvhubError as error:  # it is too long to be sent
            self._over(stage, error, done)
        return True

    def cancel(self) -> bool:
        """Stop the call under way; False if there is none."""
        if self.link is not None and self.link.cancel(self._tenure.cancelled()):
            return True
        if self._waiting is not None:
            self._waiting.cancel()
        return self._waiting is not None

    async def close(self) -> None:
        """End the process, which closes its environment unless it is in a call."""
        self.closed = True
        await self._drop_process(ask=not self.is_busy)

    # ------------------------------------------------------------ the end of a call

    def _over(self, stage: str, outcome: Reply | EnvhubError, done: Done) -> None:
        if isinstance(outcome, EnvhubError):
            self._tenure.failed(outcome)
            self._tenure.end(stage, None, lost=isinstance(outcome, WorkerError))
        else:
            self._tenure.end(stage, outcome)
        self._turn.release()
        done(outcome)

    async def _fail(self, stage: str, link: Link, reply: Failed | None, done: Done) -> None:
        try:
            error = await link.failure(reply)
            if isinstance(error, WorkerError):
                error = await self._lost(error)
        except Exception:  # or the turn would be taken for ever, and nobody be told
            _log.exception("a bug in envhub: the end of a call")
            error = EnvhubError("a bug in envhub")
        self._over(stage, error, done)

    def _later(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._failing.add(task)
        task.add_done_callback(self._failing.discard)

    # ------------------------------------------------------------ processes

    async def _call_process(
        self, stage: str, making: Making, of: Lease | None, descriptor: int
    ) -> Reply:
        link, fresh = self.link, stage == "reset" and self._needs_fresh_process()
        if of is not None:
            link = await self._link_of(of)
        elif fresh or link is None or not link.alive:
            link = await self._wait_for_link(stage, fresh=fresh)
        if stage in ("reset", "step"):
            assert self.lease is not None
            self.lease.process.used = True
        try:
            return await link.call(stage, making, self._tenure.deadline(stage), descriptor)
        except WorkerError as error:
            raise await self._lost(error) from None

    async def _lost(self, error: WorkerError) -> EnvhubError:
        """Part with the process; return what its caller is told."""
        closed = self.closed
        await self._drop_process(ask=False)
        return SessionClosed("the session was closed during the call") if closed else error

    async def renew(self) -> None:
        """Part with the process, if it was used: the next call gets another."""
        async with self._turn:
            if self.lease is not None and self.lease.process.used:
                await self._drop_process(ask=True)

    def _needs_fresh_process(self) -> bool:
        pristine = self._place.pool.manifest.reset == "pristine"
        return pristine and self.lease is not None and self.lease.process.used

    async def _wait_for_link(self, stage: str, *, fresh: bool) -> Link:
        """Return the link to a live process, to another one if `fresh`, unless cancelled."""
        link: Link | None = None
        try:
            with anyio.CancelScope() as self._waiting:
                if fresh:
                    await self._drop_process(ask=True)
                link = await self._live_link(stage)
            cancelled = self._waiting.cancel_called
        finally:
            self._waiting = None
        if cancelled or link is None:
            raise Cancelled(f"`{stage}` was cancelled while it waited for a process")
        return link

    async def _link_of(self, lease: Lease) -> Link:
        """Return the link to this process, if it is still the session's and lives."""
        loss: EnvhubError | None = None
        if lease is self.lease and self.link is not None:
            if self.link.alive:
                return self.link
            loss = await self.link.loss_between_calls()
            await self._drop_process(ask=False)
        raise loss or ResetNeeded("its process has ended")

    async def _live_link(self, stage: str) -> Link:
        if self.link is not None and not self.link.alive:
            loss = await self.link.loss_between_calls()
            was_used = self.lease is not None and self.lease.process.used
            await self._drop_process(ask=False)
            if loss is not None and was_used and stage != "reset":
                raise loss
        if self.link is None:
            lease = await self._place.lease()
            if self.closed:
                await self._place.end(lease)
                raise self._tenure.closed()
            self.lease, self.link = lease, Link(lease.process, self._meter)
        return self.link

    async def _drop_process(self, *, ask: bool) -> None:
        """End the process; `ask` lets its environment close first, if it has one."""
        lease, link = self.lease, self.link
        self.lease = self.link = None
        if lease is None or link is None:
            return
        try:
            if ask and lease.process.used and link.alive:
                await link.call("close", Close, self._tenure.deadline("close"))
        except EnvhubError:
            pass  # it could not close, or not in time: nobody needs it any more
        finally:
            lease.process.kill("closed")
            link.detach()  # on every path, before others may get these descriptors
            self.at_drop()
            await self._place.end(lease)
