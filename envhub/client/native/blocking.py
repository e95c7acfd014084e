"""The same for programs without an event loop: the API of `envhub.make`'s sessions.

Each call is said and heard by the thread that makes it: see `ThreadLine`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from types import TracebackType
from typing import TYPE_CHECKING, Any

from envhub.batch import Gathering, Outcome
from envhub.client.native import bounds
from envhub.client.native.blocked import BlockedChannel
from envhub.client.native.channel import Making, resetting, stepping
from envhub.client.native.threadline import ThreadLine
from envhub.client.native.unwaited import Unwaited
from envhub.errors import ConnectionLost, HubForked, SessionLost
from envhub.results import Bill, Record, StepResult
from envhub.wire import calls, native

if TYPE_CHECKING:
    from envhub.client.native.address import Address


class SyncRemoteHub:
    """A hub at the other end of a connection. Blocking. Made by `RemoteHub.sync`.

    Its sessions may be used by several threads at once; they share the connection.

    Args:
        address: of the hub.

    Raises: as `RemoteHub.start`.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._line = ThreadLine(address, "envhub.connect")
        self._groups = cycle(range(1, native.MAX_GROUP + 1))
        self._described: dict[str, native.Described] = {}
        self._line.start()

    def make(
        self, name: str, *, schema: str | Mapping[str, Any] | None = None
    ) -> SyncRemoteSession:
        """Return a session of environment `name`, as `envhub.make` does.

        Raises: as `Hub.open`; and ConnectionLost.
        """
        session = SyncRemoteSession(self._line, name)
        if schema is not None:
            from envhub.hub.environments import schemas

            try:
                found = schemas.document(session.describe())
                schemas.check(session.title, found, schema)
            except BaseException:
                session.close()
                raise
        return session

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
        return self._address

    def describe(self, name: str) -> native.Described:
        """Return the schemas and options of environment `name`."""
        self._line.check()
        if name not in self._described:
            with self.session(name) as session:
                self._described[name] = session.describe()
        return self._described[name]

    def batch(
        self, sessions: Iterable[SyncRemoteSession], first: int | None = None
    ) -> SyncBatch:
        """Return a batch of sessions, to be stepped together. As `RemoteHub.batch`."""
        return SyncBatch(self._line, next(self._groups), sessions, first)

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._line.close()

    def __enter__(self) -> SyncRemoteHub:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SyncRemoteSession(Unwaited[BlockedChannel]):
    """One client's use of one environment, over many episodes. Blocking; see RemoteSession.

    Args:
        line: to the hub.
        environment: its name.

    Raises: as `SyncRemoteHub.make`.
    """

    def __init__(self, line: ThreadLine, environment: str) -> None:
        line.check()
        self._line = line
        self._environment = environment
        self._lock = threading.Lock()  # one call at a time; each has its deadline
        self._described: native.Described | None = None
        self._closed = False
        self._channel = self._opened()

    def _opened(self) -> BlockedChannel:
        channel = BlockedChannel(self._line, self._environment)
        channel.open()
        return channel

    def reset(
        self, seed: int | None = None, *, episode_id: str | None = None, **options: Any
    ) -> StepResult:
        """Begin an episode. Arguments and errors are those of `Session.reset`."""
        making = resetting(seed, episode_id, options)
        with self._lock:
            if isinstance(self._channel.over, SessionLost) and not self._closed:
                self._channel = self._opened()
            answer = self._channel.call("reset", making)
        return calls.result(calls.expect(answer, native.Observed))

    def step(self, action: Any) -> StepResult:
        """Take one action. Arguments and errors are those of `Session.step`."""
        answer = self._call("step", stepping(action))
        return calls.result(calls.expect(answer, native.Observed))

    def stream(self, action: Any) -> Generator[StepResult, None, None]:
        """Take one action and yield each part of it. As `Session.stream`."""
        making = stepping(action, stream=True)
        while True:
            answer = self._call("step", making)
            if isinstance(answer, native.Finished):
                return
            part = calls.expect(answer, native.Observed)
            yield calls.result(part)
            if not part.is_part:
                return
            making = native.Continue

    @property
    def state(self) -> Record:
        """The environment's state."""
        answer = self._call("state", native.State)
        return calls.state(calls.expect(answer, native.Read).payload)

    def describe(self) -> native.Described:
        """Return the environment's schemas and options."""
        if self._described is None:
            answer = self._call("state", native.Describe)
            self._described = calls.expect(answer, native.Described)
        return self._described

    @property
    def bill(self) -> Bill:
        """What the session has used so far, also after its end: see `Session.bill`."""
        return self._channel.told_bill()

    def cancel(self) -> bool:
        """Stop the call that another thread waits for. As `RemoteSession.cancel`.

        Does not wait for it. A signal's handler may call it, too.
        """
        self._line.check()
        return self._channel.cancel()

    def close(self) -> None:
        """Close the session. Idempotent; nothing in a fork."""
        try:
            self._line.check()
        except (ConnectionLost, HubForked):
            return  # the hub closes it
        self._closed = True
        self._channel.close()

    @property
    def _step_allowed_s(self) -> float:
        """How long an answer to a step may take."""
        return bounds.allowed_s(self._channel.opened, "step")

    def _give_up_late(self, now: float) -> None:
        """Give up what should have an answer by now. For batches."""
        with self._line.lock:
            self._channel.look(now)

    def __enter__(self) -> SyncRemoteSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, stage: str, making: Making) -> native.Answer:
        with self._lock:
            return self._channel.call(stage, making)


class SyncBatch(Gathering[SyncRemoteSession]):
    """Sessions that are stepped together. Blocking; see `envhub.batch.Batch`.

    Args:
        line: to their hub.
        group: whose replies wait for each other.
        sessions: open.
        first: how many outcomes are received at once.
    """

    def __init__(
        self,
        line: ThreadLine,
        group: int,
        sessions: Iterable[SyncRemoteSession],
        first: int | None,
    ) -> None:
        super().__init__(sessions, first, partial(line.together, group))
        self._line = line

    def send(self, actions: Mapping[SyncRemoteSession, Any]) -> None:
        """Begin a step of each of these sessions. As `Batch.send`."""
        self._start(actions, self._first)

    def recv(self, first: int | None = None) -> dict[SyncRemoteSession, Outcome]:
        """Return what is ready, once so many sessions are. As `Batch.recv`."""
        self._want(first)
        at_most_s = max((one._step_allowed_s for one in self.sessions), default=0.0)
        while not self._line.until(
            lambda: None, lambda: self._is_enough, time.monotonic() + at_most_s
        ):
            now = time.monotonic()
            for session in self.sessions:
                session._give_up_late(now)
        with self._line.lock:
            return self._taken()

    def step(self, actions: Iterable[Any]) -> list[Outcome]:
        """Step every session. As `Batch.step`."""
        count = len(self.sessions)
        self._start(dict(zip(self.sessions, actions, strict=True)), count)
        outcomes = self.recv(count)
        return [outcomes[session] for session in self.sessions]

    def _start(self, actions: Mapping[SyncRemoteSession, Any], first: int | None) -> None:
        self._line.until(lambda: self._begin(actions, first), lambda: True, time.monotonic())
