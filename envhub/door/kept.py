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

from envhub.door.address import client_of, hub_of, manifest_of
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

    async def create(self, name: str, schema: str | None = None, client: str = "") -> Kept:
        """Open a session of an environment.

        Args, Raises: as `Hub.open`.
        """
        await self.forget_idle()
        session = await self._hub.open(name, schema=schema, client=client)
        return self.adopt(name, session)

    def adopt(self, name: str, session: Session, episode: Episode | None = None) -> Kept:
        """Give an open session an id.

        Args:
            name: of the environment.
            session: open.
            episode: of a session that is a WebSocket's own, and ends with that.
        """
        attached = episode is not None
        kept = Kept(
            str(uuid.uuid4()),
            name,
            session,
            attached,
            closing=attached,
            episode=episode or Episode(),
            clock=self._clock,
        )
        self._kept[kept.key] = kept
        return kept

    def find(self, name: str, key: str) -> Kept | None:
        """Return an environment's session of that id, which is used now."""
        kept = self._kept.get(key)
        if kept is None or kept.name != name:
            return None
        kept.touch()
        return kept

    def attach(self, name: str, key: str) -> Kept:
        """Return the session of that id, for one WebSocket alone.

        Raises:
            NotAttached: there is none, or another WebSocket has it.
        """
        kept = self.find(name, key)
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
            await kept.session.aclose()

    async def forget_idle(self) -> None:
        """Close those that nobody is attached to and nobody has called for `IDLE_S`."""
        before = self._clock() - IDLE_S
        for kept in list(self._kept.values()):
            if not (kept.attached or kept.calls) and kept.used < before:
                await self.close(kept)


@dataclass
class Caller:
    """Who asks: a client of one environment, on a connection that may have a session.

    Args:
        hub: where sessions are.
        sessions: those with an id.
        name: of the environment.
        schema: digest that the client holds it to.
        client: the peer's address, by which clients are served in turn.
        session: of this connection; None over HTTP.
        kept: the same with its id, once it has one.
        episode: of that session.
    """

    hub: Hub
    sessions: KeptSessions
    name: str
    schema: str | None = None
    client: str = ""
    session: Session | None = None
    kept: Kept | None = None
    episode: Episode = field(default_factory=Episode)

    @classmethod
    def of(cls, connection: HTTPConnection) -> Caller:
        """Return who asks on a connection that names an environment. Raises: `manifest_of`."""
        name, sessions = manifest_of(connection).name, connection.app.state.sessions
        schema = connection.headers.get(SCHEMA)
        return cls(hub_of(connection), sessions, name, schema, client_of(connection))

    async def open(self) -> Session:
        """Open a session for this connection. Raises: as `Hub.open`."""
        self.session = await self.hub.open(self.name, schema=self.schema, client=self.client)
        return self.session

    async def create(self) -> Kept:
        """Open a session with an id. Raises: as `Hub.open`."""
        return await self.sessions.create(self.name, self.schema, self.client)

    def attach(self, key: str) -> Session:
        """Have the session of that id for this connection.

        Raises:
            NotAttached: there is none, or another connection has it.
        """
        self.kept = self.sessions.attach(self.name, key)
        self.session, self.episode = self.kept.session, self.kept.episode
        return self.session

    def adopt(self) -> Kept:
        """Give this connection's own session an id, once."""
        assert self.session is not None
        if self.kept is None:
            self.kept = self.sessions.adopt(self.name, self.session, self.episode)
        return self.kept

    async def leave(self) -> None:
        """Close the connection's session, or leave it to whoever made it."""
        if self.kept is not None:
            await self.sessions.detach(self.kept)
        elif self.session is not None:
            await self.session.aclose()
