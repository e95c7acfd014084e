"""A session of a hub elsewhere. Asynchronous; the API of `envhub.Session`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from envhub.client.native import bounds
from envhub.client.native.awaiting import AwaitedChannel
from envhub.client.native.channel import Making, stepping
from envhub.client.native.line import Line
from envhub.errors import EnvhubError, RemoteProtocolError, SessionLost
from envhub.results import Bill, Record, StepResult
from envhub.wire import calls, native

if TYPE_CHECKING:
    from envhub_sandbox import Receipt


class RemoteSession:
    """Made by `RemoteHub.session` or `RemoteHub.open`. One call at a time; a second one waits.

    When the connection is cut, a call waits for the next connection, and is carried out once
    all the same. A hub that does not know the session any more, as after its restart, is told
    of by SessionLost: the episode is lost, and the next `reset` opens a session anew.

    Args:
        line: to the hub.
        environment: its name.
    """

    def __init__(self, line: Line, environment: str) -> None:
        self._line = line
        self._environment = environment
        self._lock = asyncio.Lock()
        self._channel = AwaitedChannel(line, environment)
        self._described: native.Described | None = None
        self._closed = False

    async def open(self) -> None:
        """Open it.

        Raises: as `RemoteHub.open`.
        """
        await self._channel.open()

    @property
    def title(self) -> str:
        """The environment's name and version."""
        return self._channel.title

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force by name, the hub's caps applied; 0 is no limit."""
        return self._channel.limits

    @property
    def output(self) -> str:
        """What the environment printed during the last call, the last 64 KiB of it."""
        return self._channel.output

    @property
    def pid(self) -> int:
        """The number of the session's process on the hub's machine; 0 if none is known."""
        return self._channel.pid

    @property
    def receipt(self) -> Receipt:
        """Which isolation is live around the session's process, as the hub has confirmed it.

        Raises:
            SessionClosed: no process is known: there was no call since it was opened or lost.
        """
        return self._channel.receipt

    async def bill(self) -> Bill:
        """Return what the session has used so far, also after its end. As `Session.bill`."""
        return await self._channel.told_bill()

    async def reset(
        self, seed: int | None = None, *, episode_id: str | None = None, **options: Any
    ) -> StepResult:
        """Begin an episode. Arguments and errors are those of `Session.reset`."""
        data = bounds.checked(calls.options(seed, episode_id, options))
        async with self._lock:
            if isinstance(self._channel.over, SessionLost) and not self._closed:
                channel = AwaitedChannel(self._line, self._environment)
                await channel.open()
                self._channel = channel
            answer = await self._channel.call(
                "reset", lambda channel, op, acked: native.Reset(channel, op, acked, data)
            )
        return calls.result(calls.expect(answer, native.Observed))

    async def step(self, action: Any) -> StepResult:
        """Take one action. Arguments and errors are those of `Session.step`."""
        answer = await self._call("step", stepping(action))
        return calls.result(calls.expect(answer, native.Observed))

    def begin_step(self, action: Any, done: Callable[[StepResult | EnvhubError], None]) -> None:
        """Begin a step, and have `done` told of what it comes to. For batches.

        Raises:
            InvalidAction: it cannot be sent.
        """

        def take(answer: native.Answer | EnvhubError) -> None:
            if not isinstance(answer, EnvhubError):
                try:
                    done(calls.result(calls.expect(answer, native.Observed)))
                    return
                except RemoteProtocolError as error:
                    answer = error
            done(answer)

        self._channel.start("step", stepping(action), take)

    async def stream(self, action: Any) -> AsyncGenerator[StepResult, None]:
        """Take one action and yield each part of it. As `Session.stream`."""
        making = stepping(action, stream=True)
        while True:
            answer = await self._call("step", making)
            if isinstance(answer, native.Finished):
                return
            part = calls.expect(answer, native.Observed)
            yield calls.result(part)
            if not part.is_part:
                return
            making = native.Continue

    async def state(self) -> Record:
        """Return the environment's state."""
        answer = await self._call("state", native.State)
        return calls.state(calls.expect(answer, native.Read).payload)

    async def describe(self) -> native.Described:
        """Return the environment's schemas and options."""
        if self._described is None:
            answer = await self._call("state", native.Describe)
            self._described = calls.expect(answer, native.Described)
        return self._described

    def cancel(self) -> bool:
        """Stop the call that is under way; it ends as the environment decides, or `Cancelled`.

        Returns:
            Whether there was one.
        """
        return self._channel.cancel()

    async def aclose(self) -> None:
        """Close the session. Idempotent."""
        self._closed = True
        await self._channel.close()

    async def __aenter__(self) -> RemoteSession:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _call(self, stage: str, making: Making) -> native.Answer:
        async with self._lock:
            return await self._channel.call(stage, making)
