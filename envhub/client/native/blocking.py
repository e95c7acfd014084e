"""The same for programs without an event loop: the API of `envhub.make`'s sessions."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from envhub.batch import Outcome
from envhub.errors import ConnectionLost, HubForked
from envhub.results import Bill, Record, StepResult
from envhub.wire import native

if TYPE_CHECKING:
    from envhub.client.native.address import Address
    from envhub.client.native.hub import RemoteHub
    from envhub.client.native.session import RemoteSession
    from envhub_sandbox import Receipt

T = TypeVar("T")
_CLOSE_S = 60.0


class _Background:
    """An event loop on a thread of its own, where the connection lives."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="envhub-remote", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and return its result; interrupted, it is cancelled."""
        if os.getpid() != self._owner or not self._thread.is_alive():
            work.close()
            if os.getpid() != self._owner:
                raise HubForked(
                    "this process was forked after the connection had been made",
                    hint="call envhub.connect again here",
                )
            raise ConnectionLost("the connection to the hub is closed")
        result = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return result.result()
        except BaseException:
            result.cancel()
            raise

    def stop(self) -> None:
        """End the thread. Idempotent."""
        if os.getpid() == self._owner and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()


class SyncRemoteHub:
    """A hub at the other end of a connection. Blocking. Made by `RemoteHub.sync`.

    Args:
        hub: not connected yet.
    """

    def __init__(self, hub: RemoteHub) -> None:
        self._hub = hub
        self._background = _Background()
        try:
            self._background.do(hub.start())
        except BaseException:
            self._background.stop()
            raise

    def make(
        self, name: str, *, schema: str | Mapping[str, Any] | None = None
    ) -> SyncRemoteSession:
        """Return a session of environment `name`, as `envhub.make` does.

        Raises: as `Hub.open`; and ConnectionLost.
        """
        return SyncRemoteSession(
            self._background, self._background.do(self._hub.open(name, schema=schema))
        )

    @contextmanager
    def session(
        self, name: str, *, schema: str | Mapping[str, Any] | None = None
    ) -> Iterator[SyncRemoteSession]:
        """Hold a session of environment `name` for the length of the block."""
        with self.make(name, schema=schema) as session:
            yield session

    @property
    def address(self) -> Address:
        """Where it is, and how it is connected to."""
        return self._hub.address

    def describe(self, name: str) -> native.Described:
        """Return the schemas and options of environment `name`."""
        return self._background.do(self._hub.describe(name))

    def batch(
        self, sessions: Iterable[SyncRemoteSession], first: int | None = None
    ) -> SyncBatch:
        """Return a batch of sessions, to be stepped together. As `RemoteHub.batch`."""
        return SyncBatch(self._background, self._hub, sessions, first)

    def close(self) -> None:
        """Hang up. Idempotent."""
        try:
            self._background.do(self._hub.aclose())
        except (ConnectionLost, HubForked):
            return  # closed before, or not ours
        self._background.stop()

    def __enter__(self) -> SyncRemoteHub:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SyncRemoteSession:
    """One client's use of one environment, over many episodes. Blocking; see RemoteSession."""

    def __init__(self, background: _Background, remote: RemoteSession) -> None:
        self._background = background
        self._remote = remote

    def reset(
        self, seed: int | None = None, *, episode_id: str | None = None, **options: Any
    ) -> StepResult:
        """Begin an episode. Arguments and errors are those of `Session.reset`."""
        return self._background.do(self._remote.reset(seed, episode_id=episode_id, **options))

    def step(self, action: Any) -> StepResult:
        """Take one action. Arguments and errors are those of `Session.step`."""
        return self._background.do(self._remote.step(action))

    def stream(self, action: Any) -> Generator[StepResult, None, None]:
        """Take one action and yield each part of it. As `Session.stream`."""
        parts = self._remote.stream(action)
        while (part := self._background.do(anext(parts, None))) is not None:
            yield part

    @property
    def state(self) -> Record:
        """The environment's state."""
        return self._background.do(self._remote.state())

    def describe(self) -> native.Described:
        """Return the environment's schemas and options."""
        return self._background.do(self._remote.describe())

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force by name, the hub's caps applied; 0 is no limit."""
        return self._remote.limits

    @property
    def output(self) -> str:
        """What the environment printed during the last call, the last 64 KiB of it."""
        return self._remote.output

    @property
    def receipt(self) -> Receipt:
        """Which isolation is live around the session's process: see `RemoteSession.receipt`."""
        return self._remote.receipt

    @property
    def pid(self) -> int:
        """The number of the session's process on the hub's machine; 0 if none is known."""
        return self._remote.pid

    @property
    def bill(self) -> Bill:
        """What the session has used so far, also after its end: see `Session.bill`."""
        return self._background.do(self._remote.bill())

    def cancel(self) -> bool:
        """Stop the call that another thread waits for. As `RemoteSession.cancel`."""

        async def cancel() -> bool:
            return self._remote.cancel()

        return self._background.do(cancel())

    def close(self) -> None:
        """Close the session. Idempotent; nothing in a fork."""
        try:
            self._background.do(self._remote.aclose())
        except (ConnectionLost, HubForked):
            pass  # the hub closes it

    def __enter__(self) -> SyncRemoteSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SyncBatch:
    """Sessions that are stepped together. Blocking; see `envhub.batch.Batch`."""

    def __init__(
        self,
        background: _Background,
        hub: RemoteHub,
        sessions: Iterable[SyncRemoteSession],
        first: int | None,
    ) -> None:
        self.sessions = tuple(sessions)
        self._background = background
        self._by_remote = {session._remote: session for session in self.sessions}
        self._batch = hub.batch(self._by_remote, first)

    def send(self, actions: Mapping[SyncRemoteSession, Any]) -> None:
        """Begin a step of each of these sessions. As `Batch.send`."""

        async def send() -> None:
            self._batch.send({session._remote: a for session, a in actions.items()})

        self._background.do(send())

    def recv(self, first: int | None = None) -> dict[SyncRemoteSession, Outcome]:
        """Return what is ready, once so many sessions are. As `Batch.recv`."""
        ready = self._background.do(self._batch.recv(first))
        return {self._by_remote[remote]: outcome for remote, outcome in ready.items()}

    def step(self, actions: Iterable[Any]) -> list[Outcome]:
        """Step every session. As `Batch.step`."""
        return self._background.do(self._batch.step(actions))
