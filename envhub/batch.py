"""A batch: sessions that are stepped together, and answered as they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, Protocol, TypeVar

from envhub.errors import EnvhubError, UsageError
from envhub.results import StepResult

Outcome = StepResult | EnvhubError


class Steppable(Protocol):
    """A session that can begin a step without waiting for it."""

    def begin_step(self, action: Any, done: Callable[[Outcome], None]) -> None:
        """Begin a step, and have `done` told, once, of what it comes to."""
        ...


S = TypeVar("S", bound=Steppable)


class Gathering(Generic[S]):
    """Sessions whose steps are begun, and their outcomes as far as they are there.

    Args:
        sessions: open; their owner closes them.
        first: how many are received at once, if it is not told; None for all under way.
        together: makes the requests of its block travel together, and their replies as soon
            as so many are there.
    """

    def __init__(
        self,
        sessions: Iterable[S],
        first: int | None,
        together: Callable[[int], AbstractContextManager[None]],
    ) -> None:
        if first is not None and first < 1:
            raise UsageError(f"`first` is 1 or more, and is {first}")
        self.sessions = tuple(sessions)
        self._first = first
        self._together = together
        self._under_way: dict[S, Callable[[Outcome], None]] = {}
        self._ready: dict[S, Outcome] = {}
        self._wanted = 0

    def _begin(self, actions: Mapping[S, Any], first: int | None) -> None:
        if any(s in self._under_way or s in self._ready for s in actions):
            raise UsageError("a step of that session is under way", hint="`recv` it first")
        left = len(self._under_way) + len(actions)
        # replies that wait for each other here need not travel one by one
        with nullcontext() if first is None else self._together(min(first, left)):
            for session, action in actions.items():
                take = self._under_way[session] = self._taker(session)
                try:
                    session.begin_step(action, take)
                except BaseException:
                    self._under_way.pop(session, None)
                    raise

    def _want(self, first: int | None) -> None:
        left = len(self._under_way) + len(self._ready)
        wanted = first or self._first
        self._wanted = left if wanted is None else min(wanted, left)

    @property
    def _is_enough(self) -> bool:
        return len(self._ready) >= self._wanted

    def _taken(self) -> dict[S, Outcome]:
        ready, self._ready = self._ready, {}
        return ready

    def _tell(self) -> None:
        """Note that there is an outcome more."""

    def _taker(self, session: S) -> Callable[[Outcome], None]:
        def take(outcome: Outcome) -> None:
            if self._under_way.get(session) is take:  # and it is told for the first time
                self._ready[session] = outcome
                del self._under_way[session]
                self._tell()

        return take


class Batch(Gathering[S]):
    """Sessions that are stepped together. Made by `Hub.batch` or `RemoteHub.batch`.

        batch = hub.batch(sessions)
        outcomes = await batch.step([{"message": "hello"}] * len(sessions))

    Or the first that are ready, while the others go on:

        batch = hub.batch(sessions, first=8)
        batch.send({session: action for session in sessions})
        while ready := await batch.recv():
            batch.send({session: act(outcome) for session, outcome in ready.items()})

    One session's failure is its own: it is an outcome, an EnvhubError in a result's place.

    Args:
        sessions: open; their owner closes them.
        first: how many `recv` waits for, if it is not told; None for all that are under way.
        together: makes the requests of its block travel together, and their replies as soon
            as so many are there.
    """

    def __init__(
        self,
        sessions: Iterable[S],
        first: int | None = None,
        together: Callable[[int], AbstractContextManager[None]] = lambda first: nullcontext(),
    ) -> None:
        super().__init__(sessions, first, together)
        self._enough = asyncio.Event()

    def send(self, actions: Mapping[S, Any]) -> None:
        """Begin a step of each of these sessions.

        Raises:
            UsageError: a step of one of them is under way; nothing has begun.
            InvalidAction: an action cannot be sent; those before it have begun.
        """
        self._begin(actions, self._first)

    async def recv(self, first: int | None = None) -> dict[S, Outcome]:
        """Return what is ready, once so many sessions are, in the order in which they were.

        Args:
            first: how many to wait for, if so many are under way; None for as many as the
                batch was made with.

        Returns:
            Outcomes by session; none if nothing is under way.
        """
        self._want(first)
        while not self._is_enough:
            self._enough.clear()
            await self._enough.wait()
        return self._taken()

    async def step(self, actions: Iterable[Any]) -> list[Outcome]:
        """Step every session, and return what each has come to, in the order of `sessions`.

        Args:
            actions: one for each session.

        Raises: as `send`.
        """
        count = len(self.sessions)
        self._begin(dict(zip(self.sessions, actions, strict=True)), count)
        outcomes = await self.recv(count)
        return [outcomes[session] for session in self.sessions]

    def _tell(self) -> None:
        if self._is_enough:
            self._enough.set()
