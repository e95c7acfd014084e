"""What a connection holds of a session; and sessions that clients name by an id.

A client makes one by POST /mcp, attaches a WebSocket to it by its id, and calls tools over
HTTP meanwhile, or steps it there. One that crashes never closes it; so a session that nobody
is attached to, and nobody has called for a while, is closed: the hub looks for such.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from envhub.door.address import hub_of, manifest_of
from envhub.door.holders import ANONYMOUS, Holder, Seat, holder_of
from envhub.errors import WorkerError

if TYPE_CHECKING:
    from envhub.hub.hub import Hub
    from envhub.hub.session import Session

SCHEMA = "envhub-schema"  # a header: the digest that a client expects, or that there is
IDLE_S = 900.0  # an agent may think for minutes


class NotAttached(Exception):
    """A WebSocket cannot have the session that it names; the message says why."""


@dataclass(eq=False)
class Episode:
    """Of one session. A step of a fresh process must not pass as one of the episode before.

    Args:
        lost: with the process that it ran in; a reset begins another.
    """

    lost: bool = False

    @contextmanager
    def at_stake(self, session: Session) -> Iterator[None]:
        """Note it when a call in this block ends the process of the episode's session.

        Whoever called may be somebody else than the client that steps, or nobody any more: a
        call that is cancelled kills the process, too.
        """
        try:
            yield
        except BaseException as failure:
            if isinstance(failure, WorkerError) or not session.has_process:
                self.lost = True
            raise


@dataclass(eq=False)
class Kept:
    """One session with an id.

    Args:
        key: its id, which nobody can guess.
        name: of the environment.
        session: open.
        owner: name of the holder whose it is.
        seat: which that holder has for it; None for a WebSocket's own, which has it itself.
        attached: a WebSocket has it.
        closing: it is closed as soon as none has.
        episode: of the session.
        clock: the monotonic one.
        calls: that are under way.
        used: when.
    """

    key: str
    name: str
    session: Session
    owner: str = ANONYMOUS
    seat: Seat | None = None
    attached: bool = False
    closing: bool = False
    episode: Episode = field(default_factory=Episode)
    clock: Callable[[], float] = time.monotonic
    calls: int = 0
    used: float = field(init=False)

    def __post_init__(self) -> None:
        self.touch()

    def touch(self) -> None:
        """Note that it is used now."""
        self.used = self.clock()

    @contextmanager
    def in_use(self) -> Iterator[Session]:
        """Hold the session for a call: it is not idle meanwhile, however long that takes."""
        self.calls += 1
        try:
            with self.episode.at_stake(self.session):
                yield self.session
        finally:
            self.calls -= 1
            self.touch()


class KeptSessions:
    """Those of one door. The hub closes what is left when it closes.

    Args:
        hub: where they are opened.
        clock: the monotonic one.
    """

    def __init__(self, hub: Hub, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._clock = clock
        self._kept: dict[str, Kept] = {}

    async def create(
        self, name: str, schema: str | None = None, holder: Holder | None = None
    ) -> Kept:
        """Open a session of an environment.

        Args, Raises: as `Hub.open`; and CapacityError when `holder` has all of its own open.
        """
        await self.forget_idle()
        holder = holder or Holder(ANONYMOUS, ANONYMOUS)
        seat = await holder.enter()
        try:
            session = await self._hub.open(name, schema=schema, client=holder.key)
        except BaseException:
            seat.leave()
            raise
        key = str(uuid.uuid4())
        return self._keep(Kept(key, name, session, holder.name, seat, clock=self._clock))

    def adopt(self, name: str, session: Session, episode: Episode, owner: str) -> Kept:
        """Give a WebSocket's own session an id. It still ends with the WebSocket.

        Args:
            name: of the environment.
            session: open.
            episode: of the session.
            owner: name of its holder.
        """
        key = str(uuid.uuid4())
        kept = Kept(key, name, session, owner, None, True, True, episode, clock=self._clock)
        return self._keep(kept)

    def _keep(self, kept: Kept) -> Kept:
        self._kept[kept.key] = kept
        return kept

    def find(self, name: str, key: str, owner: str = ANONYMOUS) -> Kept | None:
        """Return an environment's session of that id and owner, which is used now."""
        kept = self._kept.get(key)
        if kept is None or (kept.name, kept.owner) != (name, owner):
            return None
        kept.touch()
        return kept

    def attach(self, name: str, key: str, owner: str = ANONYMOUS) -> Kept:
        """Return the session of that id and owner, for one WebSocket alone.

        Raises:
            NotAttached: there is none, or another WebSocket has it.
        """
        kept = self.find(name, key, owner)
        if kept is None:
            raise NotAttached(f"Unknown session_id: {key}")
        if kept.attached:
            raise NotAttached(f"Session {key} already has an attached WebSocket")
        kept.attached = True
        return kept

    async def detach(self, kept: Kept) -> None:
        """Note that the WebSocket is gone; close the session if that was wanted meanwhile."""
        kept.attached = False
        kept.touch()
        if kept.closing:
            await self.close(kept)

    async def close(self, kept: Kept) -> None:
        """Close a session and forget its id. While it is attached, only note the wish."""
        kept.closing = True
        if not kept.attached and self._kept.pop(kept.key, None) is not None:
            try:
                await kept.session.aclose()
            finally:
                if kept.seat is not None:
                    kept.seat.leave()

    async def forget_idle(self) -> None:
        """Close those that nobody is attached to and nobody has called for `IDLE_S`."""
        before = self._clock() - IDLE_S
        for kept in list(self._kept.values()):
            if kept.attached or kept.calls:
                continue
            if kept.used < before or not kept.session.is_open:  # the hub, too, closes idle ones
                await self.close(kept)


@dataclass
class Caller:
    """Who asks: a client of one environment, on a connection that may have a session.

    Args:
        hub: where sessions are.
        sessions: those with an id.
        name: of the environment.
        holder: whose it will be.
        schema: digest that the client holds it to.
        session: of this connection; None over HTTP.
        seat: for that session.
        kept: the same with its id, once it has one.
        episode: of that session.
    """

    hub: Hub
    sessions: KeptSessions
    name: str
    holder: Holder
    schema: str | None = None
    session: Session | None = None
    seat: Seat | None = None
    kept: Kept | None = None
    episode: Episode = field(default_factory=Episode)

    @classmethod
    def of(cls, connection: HTTPConnection) -> Caller:
        """Return who asks on a connection that names an environment. Raises: `manifest_of`."""
        name, sessions = manifest_of(connection).name, connection.app.state.sessions
        holder, schema = holder_of(connection), connection.headers.get(SCHEMA)
        return cls(hub_of(connection), sessions, name, holder, schema)

    async def open(self) -> Session:
        """Open a session for this connection. Raises: as `Hub.open` and `Holder.enter`."""
        self.seat = await self.holder.enter()
        self.session = await self.hub.open(
            self.name, schema=self.schema, client=self.holder.key
        )
        return self.session

    async def create(self) -> Kept:
        """Open a session with an id. Raises: as `Hub.open` and `Holder.enter`."""
        return await self.sessions.create(self.name, self.schema, self.holder)

    def find(self, key: str) -> Kept | None:
        """Return this holder's session of that id, which is used now."""
        return self.sessions.find(self.name, key, self.holder.name)

    def attach(self, key: str) -> Session:
        """Have the session of that id for this connection.

        Raises:
            NotAttached: there is none, or another connection has it.
        """
        self.kept = self.sessions.attach(self.name, key, self.holder.name)
        self.session, self.episode = self.kept.session, self.kept.episode
        return self.session

    def adopt(self) -> Kept:
        """Give this connection's own session an id, once."""
        assert self.session is not None
        if self.kept is None:
            self.kept = self.sessions.adopt(
                self.name, self.session, self.episode, self.holder.name
            )
        return self.kept

    async def leave(self) -> None:
        """Close the connection's session, or leave it to whoever made it."""
        try:
            if self.kept is not None:
                await self.sessions.detach(self.kept)
            elif self.session is not None:
                await self.session.aclose()
        finally:
            if self.seat is not None:
                self.seat.leave()
