"""A session of a hub elsewhere. Asynchronous; the API of `envhub.Session`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any

from envhub.client.native.awaiting import AwaitedChannel
from envhub.client.native.channel import Making, resetting, stepping
from envhub.client.native.line import Line
from envhub.client.native.unwaited import Unwaited
from envhub.errors import SessionLost
from envhub.results import Bill, Record, StepResult
from envhub.wire import calls, native


class RemoteSession(Unwaited[AwaitedChannel]):
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

    async def bill(self) -> Bill:
        """Return what the session has used so far, also after its end. As `Session.bill`."""
        return await self._channel.told_bill()

    async def reset(
        self, seed: int | None = None, *, episode_id: str | None = None, **options: Any
    ) -> StepResult:
        """Begin an episode. Arguments and errors are those of `Session.reset`."""
        making = resetting(seed, episode_id, options)
        async with self._lock:
            if isinstance(self._channel.over, SessionLost) and not self._closed:
                channel = AwaitedChannel(self._line, self._environment)
                await channel.open()
                self._channel = channel
            answer = await self._channel.call("reset", making)
        return calls.result(calls.expect(answer, native.Observed))

    async def step(self, action: Any) -> StepResult:
        """Take one action. Arguments and errors are those of `Session.step`."""
        answer = await self._call("step", stepping(action))
        return calls.result(calls.expect(answer, native.Observed))

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
