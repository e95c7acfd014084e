"""Many environments in a session's process, for a caller who is elsewhere: batches as bytes.

The counterpart of `Member`, on the event loop and without numpy. What comes is copied into the
memory shared with the process, what is asked for out of it; both are as long as the hub says,
from the spaces, and nothing else is taken from either side.
"""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Callable
from typing import NoReturn

from envhub.errors import (
    EnvhubError,
    InvalidAction,
    InvalidOption,
    RemoteProtocolError,
    ResetNeeded,
    UsageError,
)
from envhub.hub.calls.conversation import Conversation
from envhub.hub.calls.later import Done, Later
from envhub.hub.places.place import Place
from envhub.hub.vectors import memory
from envhub.hub.workers.pool import Lease
from envhub.wire import blobs, native, vector
from envhub.wire.calls import expect
from envhub.wire.messages import Gather, Observed, Reply
from envhub.wire.vector import (
    OF_SOME,
    RESET,
    STEP,
    Answered,
    Ask,
    Batched,
    Gathered,
    Layout,
    ResetBatch,
    Share,
    Shared,
    StepBatch,
    VectorReply,
    VectorRequest,
)

_NO_OPTIONS = b"\x80"  # a map of none
Made = tuple[bytes, bytes, bytes, str | None]


def _step(op: int) -> StepBatch:
    return StepBatch(op, 0)


class _Shared:
    """A process that has its environments, and the memory shared with it.

    Its head stays empty: who finds no number there blocks at once. A process that looked for
    the next call would do so in vain, for that has a network to cross, and take from this one
    and the client the processors that they share.
    """

    def __init__(
        self, lease: Lease, mapped: mmap.mmap, layout: Layout, wanted: native.Gather
    ) -> None:
        self.lease = lease
        self.mapped = mapped
        self.count = layout.todo.shape[0]
        self.places = blobs.Places(layout)
        self.is_same_step = wanted.autoreset == "same_step"
        self.seeds = (self.count, 1) if wanted.whole else (self.count,)  # how many there may be


class Relay:
    """Has a session's process hold many environments. One call at a time.

    A process that ends takes all of them with it: then `gather` again, or reset all of them.

    Args:
        conversation: of the session; nobody else calls.
        place: likewise.
    """

    def __init__(self, conversation: Conversation, place: Place) -> None:
        self._conversation = conversation
        conversation.at_drop = self._let_go
        self._place = place
        self._limits = place.pool.manifest.limits
        self._episode_s = place.pool.manifest.deadlines.episode_s
        self._now: _Shared | None = None
        self._wanted: native.Gather | None = None  # by its caller, the last time
        self._found: Gathered | None = None  # likewise
        self._later = Later("a batch")

    async def gather(self, request: native.Gather) -> Made:
        """Make the environments, in a fresh process; return what they are.

        Returns:
            The spaces of actions and of observations, metadata and render mode, encoded.

        Raises:
            InvalidOption: there is not a seed for each.
            UsageError: they cannot be vectorised, or their batches would be too long.
            EnvhubError: as of a reset.
        """
        seeds = list(request.seeds) or [None] * request.count
        if len(seeds) != request.count:
            raise InvalidOption(f"{len(seeds)} seeds for {request.count} environments")
        self._found, self._wanted = None, request
        await self._conversation.renew()
        gathered = self._found = await self._gathered(request, seeds)
        action, observation = map(vector.encode_space, (gathered.action, gathered.observation))
        return action, observation, gathered.metadata, gathered.render_mode

    async def _gathered(self, wanted: native.Gather, seeds: list[int | None]) -> Gathered:
        count, mode, whole = wanted.count, wanted.autoreset, wanted.whole
        given = wanted.options or _NO_OPTIONS
        made = await self._conversation.call(
            "reset", lambda op: Gather(op, count, given, whole)
        )
        lease = self._conversation.lease
        if lease is None:  # it was closed meanwhile
            raise self._place.tenure.closed()
        lease.process.cancels = False  # it hears nothing in the middle of a batch
        try:
            with lease.process.held_to_protocol():
                gathered = expect(made, Gathered)
            layout = self._layout(gathered, count)
            with memory.shared(layout.size_bytes) as (mapped, descriptor):
                self._now = _Shared(lease, mapped, layout, wanted)
                shared = await self._conversation.call(
                    "reset",
                    lambda op: Share(op, mode, layout, seeds, self._episode_s),
                    lease,
                    descriptor,
                )
            with lease.process.held_to_protocol():
                expect(shared, Shared)
        except BaseException:
            lease.process.kill("closed")
            self._let_go()
            raise
        return gathered

    async def _renew(self, todo: bytes) -> None:
        """Make the environments anew if their process is gone, and all are to be reset."""
        wanted, before, conversation = self._wanted, self._found, self._conversation
        if wanted is None or before is None or todo.count(RESET) != wanted.count:
            return
        now, link = self._now, conversation.link
        if now is not None and link is not None and conversation.lease is now.lease:
            if link.alive and not now.lease.process.has_ended:
                return
            await conversation.renew()
        vector.check_alike(before, await self._gathered(wanted, [None] * len(todo)))

    def _layout(self, gathered: Gathered, count: int) -> Layout:
        most = self._limits.session_memory_bytes or memory.MOST_BYTES
        layout = vector.laid_out(gathered, count, most_bytes=most)
        places = blobs.Places(layout)
        for what, part, allowed in (
            ("actions", places.request, native.MOST_CARRIED_BYTES),
            ("observations", places.reply, self._limits.frame_bytes),
        ):
            if part.stop - part.start > allowed:
                raise UsageError(
                    f"the {what} of {count} environments are over {allowed} bytes",
                    hint="have fewer of them in each session, and more sessions",
                )
        return layout

    async def reset_raw(self, options: bytes) -> Observed:
        """Reset environments: as `blobs.Resets` says, encoded.

        Raises:
            InvalidOption: it says nothing of the kind.
            EnvironmentFailed: an environment raised.
            WorkerError: the process has ended.
            ResetNeeded: it had before.
        """
        try:
            asked = blobs.resets(options)
        except RemoteProtocolError as error:
            raise InvalidOption(str(error)) from None
        await self._renew(asked.todo)
        now = self._live()
        try:
            blobs.check_todo(asked.todo, now.count)
        except RemoteProtocolError as error:
            raise InvalidOption(str(error)) from None
        seeds = list(asked.seeds) or [None] * now.count
        if len(seeds) not in now.seeds or STEP in asked.todo:
            raise InvalidOption("a reset has a seed for each environment, and no steps")
        now.mapped[now.places.todo] = asked.todo
        return await self._batch(
            "reset", lambda op: ResetBatch(op, 0, seeds, asked.options), asked.todo
        )

    async def step_raw(self, action: bytes) -> Observed:
        """Step environments: as the memory begins, encoded.

        Raises:
            InvalidAction: it is no such thing.
            WorkerError: the process has ended.
            ResetNeeded: it had before.
        """
        if self._wanted is not None:
            await self._renew(action[: self._wanted.count])
        todo = self._put(action)
        return await self._batch("step", _step, todo)

    def begin_step_raw(self, action: bytes, done: Done) -> None:
        """Begin that, and have `done` told, once, of what it comes to."""
        now, since = self._now, time.monotonic()
        if now is None:
            self._later.begin(self.step_raw(action), done)
            return
        try:
            todo = self._put(action)
        except EnvhubError as error:
            done(error)
            return

        def take(reply: Reply | EnvhubError) -> None:
            try:
                done(self._observed(now, reply, todo, since))
            except EnvhubError as error:
                done(error)

        conversation = self._conversation
        if conversation.lease is not now.lease or not conversation.begin("step", _step, take):
            self._later.begin(self.step_raw(action), done)

    async def ask_raw(self, request: native.Ask) -> bytes:
        """Read an attribute of each environment, call it or set it; encoded. As `vector.Ask`.

        Raises:
            UsageError: it is Python's own.
            EnvironmentFailed: it raised, or there is none.
            WorkerError: the process has ended.
            ResetNeeded: it had before.
        """
        name, given, assign = request.name, request.given, request.assign
        if name.removeprefix(OF_SOME).startswith("__"):
            raise UsageError(f"`{name}` is not for callers from elsewhere")
        now = self._live()
        reply = await self._conversation.call(
            "state", lambda op: Ask(op, name, given, assign), now.lease
        )
        with now.lease.process.held_to_protocol():
            return expect(reply, Answered).values

    def refuse(self) -> NoReturn:
        """Refuse a call that is of one environment.

        Raises:
            UsageError: that is so.
        """
        raise UsageError("a session of many environments has `reset`, `step` and `ask` only")

    # ------------------------------------------------------------ batches

    def _live(self) -> _Shared:
        if self._conversation.closed:
            raise self._place.tenure.closed()
        if self._now is None:
            raise ResetNeeded(
                "there are no environments, or their process has ended", hint="gather them"
            )
        return self._now

    def _put(self, action: bytes) -> bytes:
        """Put a step's bytes where its process looks for them; return what is to be done."""
        now = self._live()
        try:
            todo = now.places.check(action)
        except RemoteProtocolError as error:
            raise InvalidAction(str(error)) from None
        now.mapped[now.places.request] = action
        return todo

    async def _batch(
        self, stage: str, request: Callable[[int], VectorRequest], todo: bytes
    ) -> Observed:
        now, since = self._live(), time.monotonic()
        outcome: VectorReply | Reply | EnvhubError
        try:
            outcome = await self._conversation.call(stage, request, now.lease)
        except EnvhubError as error:
            outcome = error
        return self._observed(now, outcome, todo, since)

    def _observed(
        self,
        now: _Shared,
        reply: VectorReply | Reply | EnvhubError,
        todo: bytes,
        since: float,
    ) -> Observed:
        """Return what a batch came to. Right after its end."""
        if isinstance(reply, EnvhubError):
            raise reply
        if self._now is not now:  # it was closed meanwhile
            self._live()
        with now.lease.process.held_to_protocol():
            batched = expect(reply, Batched)
            payload = now.mapped[now.places.reply]
            rewards = memoryview(payload)[: 8 * now.count].cast("d")
            if not math.isfinite(sum(rewards)) and not all(map(math.isfinite, rewards)):
                raise RemoteProtocolError("rewards that are not finite")
            if any(failure.index >= now.count for failure in batched.failures):
                raise RemoteProtocolError("the failure of an environment that is not there")
        episodes = todo.count(RESET)
        if now.is_same_step:
            episodes += now.places.ends(payload, now.count)
        took_s = time.monotonic() - since
        self._place.tally.batch(steps=todo.count(STEP), episodes=episodes, took_s=took_s)
        told = b""
        if batched.infos or batched.failures:
            told = blobs.encode(blobs.Told(batched.infos, batched.failures))
        return Observed(batched.op, payload, metadata=told)

    def _let_go(self) -> None:
        """Let go of the memory of a process that is the session's no more. Idempotent."""
        now, self._now = self._now, None
        if now is not None:
            now.mapped.close()
