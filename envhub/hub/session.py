"""A session: one client's use of one environment, over many episodes. Asynchronous."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio

from envhub.batch import Outcome
from envhub.errors import EnvhubError, RemoteProtocolError, SessionClosed
from envhub.hub.accounts.meter import Meter
from envhub.hub.calls.conversation import Conversation
from envhub.hub.calls.later import Done, Later
from envhub.hub.environments import caps
from envhub.hub.environments.manifest import Manifest
from envhub.hub.places.place import Place
from envhub.hub.vectors.relay import Relay
from envhub.hub.workers.pool import Lease
from envhub.hub.workers.process import SessionProcess
from envhub.results import Bill, Record, StepResult
from envhub.wire import calls
from envhub.wire.messages import (
    Close,
    Continue,
    Describe,
    Described,
    Finished,
    Form,
    GetState,
    Invoke,
    Invoked,
    Observed,
    Reply,
    Request,
    Reset,
    StateRead,
    Step,
)
from envhub_sandbox import Receipt


class Session:
    """Made by `Hub.session` or `Hub.open`. One call at a time; a second one waits its turn.

    After a WorkerError the episode is lost and the session is not: the next `reset` gets a
    fresh process. Limits that were passed between two calls are told by the next one.

    Args:
        place: where its processes come from.
        lease: the first of them.
    """

    def __init__(self, place: Place, lease: Lease) -> None:
        self._place = place
        self._conversation = Conversation(place, lease)
        self._call = self._conversation.call
        place.on_close(self.aclose)
        place.tenure.opened()
        self._described: Described | None = None
        self._later = Later(f"a step of {self.manifest.name}")

    @property
    def _process(self) -> SessionProcess | None:
        lease = self._conversation.lease
        return lease.process if lease is not None else None

    @property
    def manifest(self) -> Manifest:
        """The environment's manifest."""
        return self._place.pool.manifest

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force by name, the hub's caps applied; 0 is no limit."""
        return caps.in_force(self.manifest)

    @property
    def output(self) -> str:
        """What the environment printed during the last call, the last 64 KiB of it."""
        link = self._conversation.link
        return link.output if link is not None else ""

    @property
    def receipt(self) -> Receipt:
        """Which isolation is live around the session's process.

        Confirmed from outside before the process was handed to the session: one around which
        the kernel does not show a layer of its tier is never leased.

        Raises:
            SessionClosed: there is no process.
        """
        if self._process is None:
            raise SessionClosed("the session has no process")
        return self._process.receipt

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it: neither its owner nor the hub."""
        return not self._conversation.closed

    @property
    def pid(self) -> int:
        """The number of the session's process on this machine; 0 if it has none."""
        lease = self._conversation.lease
        return lease.process.pid if lease is not None else 0

    @property
    def has_process(self) -> bool:
        """Whether there is one, and nobody has killed it, as a call does that is cancelled."""
        return self._process is not None and not self._process.is_killed

    @property
    def meter(self) -> Meter:
        """What the session has used, as it is counted."""
        return self._place.meter

    async def bill(self) -> Bill:
        """Return what the session has used so far, also after its end.

        What the live processes have used is read now: some system calls for each of them.
        """
        return self._place.meter.bill()

    async def reset(
        self, seed: int | None = None, *, episode_id: str | None = None, **options: Any
    ) -> StepResult:
        """Begin an episode.

        Args:
            seed: the environment's only source of randomness; None for any.
            episode_id: a name for the episode.
            options: the environment's own.

        Raises:
            InvalidOption: the environment does not know an option, or its type is wrong.
            EnvironmentFailed: the environment raised.
            WorkerError: its process ended, or was killed at a limit or at its deadline.
        """
        data = calls.options(seed, episode_id, options)
        observed = await self.reset_raw(data, form="msgpack")
        with self.held_to_protocol():
            return calls.result(observed)

    async def step(self, action: Any) -> StepResult:
        """Take one action: a mapping, or an object with the action's fields.

        Raises:
            InvalidAction: it does not fit; the message has the path.
            ResetNeeded: there is no episode.
            EnvironmentFailed: the environment raised.
            WorkerError: its process ended, or was killed at a limit or at its deadline.
        """
        observed = await self.step_raw(calls.action(action), form="msgpack")
        with self.held_to_protocol():
            return calls.result(observed)

    def begin_step(self, action: Any, done: Callable[[Outcome], None]) -> None:
        """Begin a step, and have `done` told of what it comes to. For batches.

        Raises:
            InvalidAction: it cannot be sent.
        """

        def take(observed: Observed | EnvhubError) -> None:
            if isinstance(observed, EnvhubError):
                done(observed)
                return
            try:
                with self.held_to_protocol():
                    done(calls.result(observed))
            except RemoteProtocolError as error:
                done(error)

        self.begin_step_raw(calls.action(action), take)

    def begin_step_raw(
        self,
        action: bytes,
        done: Done,
        form: Form = "msgpack",
    ) -> None:
        """Begin a step, and have `done` told, once, of what it comes to, in encoded form."""

        def take(reply: Reply | EnvhubError) -> None:
            if isinstance(reply, Observed | EnvhubError):
                done(reply)
                return
            try:
                with self.held_to_protocol():
                    calls.expect(reply, Observed)
            except RemoteProtocolError as error:
                done(error)

        if not self._conversation.begin("step", lambda op: Step(op, form, action), take):
            self._later.begin(self.step_raw(action, form), done)

    async def stream(self, action: Any) -> AsyncGenerator[StepResult, None]:
        """Take one action and yield each part of it as it is made; the last is the result.

        A `step` that is a generator has parts; any other has one. The environment waits until
        the next is asked for. What is left when the loop is left early, the next call ends.

        Raises: as `step`.
        """
        part = await self.stream_raw(calls.action(action))
        while part is not None:
            with self.held_to_protocol():
                found = calls.result(part)
            yield found
            part = await self.continue_raw() if part.is_part else None

    async def state(self) -> Record:
        """Return the environment's state."""
        payload = await self.state_raw(form="msgpack")
        with self.held_to_protocol():
            return calls.state(payload)

    async def describe(self) -> Described:
        """Return the environment's schemas and options."""
        if self._described is None:
            reply = await self._call("describe", Describe)
            with self.held_to_protocol():
                self._described = calls.expect(reply, Described)
        return self._described

    async def reset_raw(self, options: bytes, form: Form = "msgpack") -> Observed:
        """Begin an episode, with options and observation in encoded form."""
        reply = await self._call("reset", lambda op: Reset(op, form, options))
        with self.held_to_protocol():
            return calls.expect(reply, Observed)

    async def step_raw(
        self, action: bytes, form: Form = "msgpack", options: bytes = b""
    ) -> Observed:
        """Take one action, with action and observation in encoded form."""
        reply = await self._call("step", lambda op: Step(op, form, action, options))
        with self.held_to_protocol():
            return calls.expect(reply, Observed)

    async def stream_raw(self, action: bytes, form: Form = "msgpack") -> Observed | None:
        """Take one action up to its first part, in encoded form; None where there is none."""
        return await self._part(lambda op: Step(op, form, action, stream=True))

    async def continue_raw(self, form: Form = "msgpack") -> Observed | None:
        """Return the next part of a step in encoded form; None when there is none."""
        return await self._part(lambda op: Continue(op, form))

    async def _part(self, request: Callable[[int], Request]) -> Observed | None:
        reply = await self._call("step", request)
        with self.held_to_protocol():
            return None if isinstance(reply, Finished) else calls.expect(reply, Observed)

    async def state_raw(self, form: Form = "msgpack") -> bytes:
        """Return the state in encoded form."""
        reply = await self._call("state", lambda op: GetState(op, form))
        with self.held_to_protocol():
            return calls.expect(reply, StateRead).payload

    async def invoke_raw(self, method: str, params: bytes) -> bytes:
        """Do something beside the episode, and return its result; JSON both ways.

        Args:
            method: "tools/list", "tools/call", or a method of OpenEnv's task API.
            params: a mapping.

        Raises:
            UsageError: the environment has no such thing.
            EnvironmentFailed: it raised.
            WorkerError: its process ended, or was killed at a limit or a step's deadline.
        """
        reply = await self._call("step", lambda op: Invoke(op, method, params))
        with self.held_to_protocol():
            return calls.expect(reply, Invoked).result

    async def close_environment(self) -> None:
        """Have the environment close, and be told how that went; then the process ends.

        `aclose` does this, too, and keeps what went wrong to itself.

        Raises:
            EnvironmentFailed: its `close` raised.
            WorkerError: its process ended in it, or was killed at the deadline.
        """
        await self._call("close", Close)

    def cancel(self) -> bool:
        """Stop the call under way, which another task awaits; False if there is none.

        An environment whose class has a `cancel` is asked to leave the call, and what `step`
        then returns or raises is the reply. Where it has none, or has not answered within
        `cancel_s`, its process is killed: the call raises Cancelled, and the next `reset`
        gets a fresh one. Does not wait for either.
        """
        return self._conversation.cancel()

    def relay(self) -> Relay:
        """Return what has many environments in the session's process, in encoded form.

        From its first call on, the session's own are refused.
        """
        return Relay(self._conversation, self._place)

    def keep(self, count: int) -> None:
        """Note how many bytes are kept for the session outside of it: they count as its own."""
        self._place.keep(count)

    def held_to_protocol(self) -> AbstractContextManager[None]:
        """Kill the process if, in this block, its last payload turns out to be none.

        Entered right after the call: there must be no other between the two.
        """
        process = self._process
        return process.held_to_protocol() if process is not None else nullcontext()

    async def aclose(self) -> None:
        """Close the environment, and give the place back. Idempotent.

        An environment that does not close in time is killed; so is one in the middle of a
        call, whose caller then gets SessionClosed.
        """
        if self._conversation.closed:
            return
        self._place.tenure.close()
        with anyio.CancelScope(shield=True):
            try:
                await self._conversation.close()
            finally:
                await self._place.aclose()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
