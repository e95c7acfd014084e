"""The synchronous API: `envhub.make`.

The hub of a synchronous program runs on a background thread that lives as long as the
program, because a worker asks the kernel to be killed when the *thread* that started it
ends (PR_SET_PDEATHSIG). It leases processes and brokers agent sandboxes. Each call goes
straight from the caller's thread to the session's process: it polls socket, pidfd and
output, and kills at the deadline. No event loop is in the path.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from envhub.errors import (
    Cancelled,
    DeadlineExceeded,
    EnvhubError,
    HubForked,
    RemoteProtocolError,
    SessionClosed,
    WorkerError,
)
from envhub.hub.background import BackgroundHub
from envhub.hub.calls.exchange import Exchange
from envhub.hub.calls.polling import Poll
from envhub.hub.environments import caps as limits
from envhub.hub.environments import schemas
from envhub.hub.environments.schemas import Pinned
from envhub.hub.workers.pool import Lease, Pool
from envhub.results import Bill, Record, StepResult
from envhub.wire import calls
from envhub.wire.lifecycle import State
from envhub.wire.messages import (
    Close,
    Continue,
    Describe,
    Described,
    Failed,
    GetState,
    Observed,
    Reply,
    Request,
    Reset,
    StateRead,
    Step,
)
from envhub_sandbox import Receipt, Verdict


class EmbeddedSession:
    """One client's use of one environment, over many episodes. Blocking; see `make`.

    Not for two threads at once: a session has one caller. Only `cancel` is for others.
    """

    def __init__(
        self, background: BackgroundHub, name: str, schema: Pinned | None = None
    ) -> None:
        self._background = background
        self._owner = background.owner
        self._name = name
        self._place = background.do(background.hub.reserve(name))
        self._tenure = self._place.tenure
        self._pool: Pool = self._place.pool
        self._lease: Lease | None = None
        self._exchange = Exchange(self._pool.manifest.limits, self._place.meter)
        self._poll: Poll | None = None  # with the lease
        self._waits = threading.RLock()  # held to end or to cancel a call's wait for a process
        self._waiting = self._cancelled = False
        self._closed = False
        try:
            self._start()
            self._tenure.opened()
            if schema is not None:
                found = schemas.document(self.describe())
                schemas.check(self._pool.manifest.title, found, schema)
        except BaseException:
            self.close()
            raise

    def reset(
        self, seed: int | None = None, *, episode_id: str | None = None, **options: Any
    ) -> StepResult:
        """Begin an episode. Arguments and errors are those of `Session.reset`."""
        data = calls.options(seed, episode_id, options)
        return self._result(self._call("reset", lambda op: Reset(op, "msgpack", data)))

    def step(self, action: Any) -> StepResult:
        """Take one action. Arguments and errors are those of `Session.step`."""
        data = calls.action(action)
        return self._result(self._call("step", lambda op: Step(op, "msgpack", data)))

    def stream(self, action: Any) -> Generator[StepResult, None, None]:
        """Take one action and yield each part of it. As `Session.stream`."""
        data = calls.action(action)
        reply = self._call("step", lambda op: Step(op, "msgpack", data, stream=True))
        while True:
            with self._held_to_protocol():
                if (part := calls.part(reply)) is None:
                    return
            yield part
            if not calls.has_more(reply):
                return
            reply = self._call("step", lambda op: Continue(op, "msgpack"))

    @property
    def state(self) -> Record:
        """The environment's state."""
        reply = self._call("state", lambda op: GetState(op, "msgpack"))
        with self._held_to_protocol():
            return calls.state(calls.expect(reply, StateRead).payload)

    def describe(self) -> Described:
        """Return the environment's schemas and options."""
        reply = self._call("describe", Describe)
        with self._held_to_protocol():
            return calls.expect(reply, Described)

    def cancel(self) -> bool:
        """Stop the call that another thread makes; False if there is none. As `Session.cancel`.

        Does not wait for it. A signal's handler may call it, too.
        """
        poll = self._poll
        if poll is not None and poll.cancel(self._tenure.cancelled(), self._background.later):
            return True
        with self._waits:
            self._cancelled = self._waiting
            return self._cancelled

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force by name, the hub's caps applied; 0 is no limit."""
        return limits.in_force(self._pool.manifest)

    @property
    def output(self) -> str:
        """What the environment printed during the last call, the last 64 KiB of it."""
        return self._exchange.output

    @property
    def receipt(self) -> Receipt:
        """Which isolation is live around the session's process: see `Session.receipt`."""
        if not self.pid:
            raise SessionClosed("the session has no process")
        assert self._lease is not None
        return self._lease.process.receipt

    @property
    def pid(self) -> int:
        """The number of the session's process on this machine; 0 if it has none."""
        lease = self._lease
        return lease.process.pid if lease is not None and lease.process.pidfd >= 0 else 0

    @property
    def bill(self) -> Bill:
        """What the session has used so far, also after its end: see `Session.bill`."""
        return self._place.meter.bill()

    def close(self) -> None:
        """Close the environment, and give the place back. Idempotent; nothing in a fork."""
        if self._closed or os.getpid() != self._background.owner:
            return
        self._closed = True
        if not self._tenure.close():
            return  # the hub has closed it, and given the place back
        try:
            self._end_process(ask=True)
            self._background.do(self._place.aclose())
        except SessionClosed:
            pass  # the hub was closed before, and everything with it

    def __enter__(self) -> EmbeddedSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ the process

    def _start(self) -> None:
        self._lease = self._background.do(self._place.lease())
        self._exchange = Exchange(self._pool.manifest.limits, self._place.meter)
        self._poll = Poll(self._lease, self._exchange)

    def _start_for_call(self, stage: str) -> None:
        self._cancelled, self._waiting = False, True
        try:
            self._start()
        finally:
            with self._waits:
                self._waiting = False
        if self._cancelled:
            raise Cancelled(f"`{stage}` was cancelled while it waited for a process")

    def _end_process(self, *, ask: bool) -> None:
        lease, poll = self._lease, self._poll
        self._lease = self._poll = None
        if lease is None or poll is None:
            return
        ready = self._exchange.state is State.READY and not lease.process.is_killed
        if ask and lease.process.used and ready:
            try:
                deadline = self._tenure.deadline("close")
                poll.call("close", Close, deadline, self._verdict)
            except EnvhubError:
                pass  # it could not close, or not in time: nobody needs it any more
        self._background.do(self._place.end(lease))

    def _held_to_protocol(self) -> AbstractContextManager[None]:
        return self._lease.process.held_to_protocol() if self._lease else nullcontext()

    def _result(self, reply: Reply) -> StepResult:
        try:  # no context manager: each step would pay for it
            if type(reply) is Observed:
                return calls.result(reply)
            return calls.result(calls.expect(reply, Observed))
        except RemoteProtocolError:
            if self._lease is not None:
                self._lease.process.kill("protocol")
            raise

    def _call(self, stage: str, request: Callable[[int], Request]) -> Reply:
        if os.getpid() != self._owner:
            raise HubForked(
                "this process was forked after the session had been opened",
                hint="call envhub.make again here",
            )
        if self._closed:
            raise SessionClosed("the session is closed")
        tenure = self._tenure
        try:
            tenure.begin(stage)
        except DeadlineExceeded:
            self._end_process(ask=False)
            raise
        reply: Reply | None = None
        lost = True
        try:
            poll = self._poll
            if poll is None or stage == "reset" or poll.is_over():
                poll = self._live_poll(stage)
            if stage == "step" or stage == "reset":
                poll.process.used = True
            try:
                said = poll.call(stage, request, tenure.deadline(stage), self._verdict)
            except WorkerError:
                self._end_process(ask=False)
                raise
            if isinstance(said, Failed):
                raise self._exchange.failure(said)
            reply, lost = said, False
            return said
        except EnvhubError as error:
            lost = isinstance(error, WorkerError)
            tenure.failed(error)
            raise
        finally:
            tenure.end(stage, reply, lost=lost)

    def _live_poll(self, stage: str) -> Poll:
        """Return a live process to call, another one where that is needed."""
        lease, poll = self._lease, self._poll
        pristine = stage == "reset" and self._pool.manifest.reset == "pristine"
        if lease is not None and pristine and lease.process.used:
            self._end_process(ask=True)
            lease = None
        if lease is not None and poll is not None and poll.is_over():
            verdict = self._verdict(lease)
            self._end_process(ask=False)
            if verdict.cause != "closed" and lease.process.used and stage != "reset":
                raise self._exchange.loss(verdict, during="between two calls")
            lease = None
        if lease is None:
            self._start_for_call(stage)
        assert self._poll is not None
        return self._poll

    def _verdict(self, lease: Lease) -> Verdict:
        return self._background.do(lease.process.wait_verdict())
