"""`envhub.connect`: a hub elsewhere, with the API of one that is here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle
from types import TracebackType
from typing import TYPE_CHECKING, Any

from envhub.batch import Batch
from envhub.client.native.line import Line
from envhub.client.native.session import RemoteSession
from envhub.wire import native

if TYPE_CHECKING:
    from envhub.client.native.address import Address
    from envhub.client.native.blocking import SyncRemoteHub


class RemoteHub:
    """A hub at the other end of a connection. Made by `envhub.connect`.

    Args:
        line: to it; not started yet.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._groups = cycle(range(1, native.MAX_GROUP + 1))
        self._described: dict[str, native.Described] = {}

    @property
    def address(self) -> Address:
        """Where it is, and how it is connected to."""
        return self._line.address

    @asynccontextmanager
    async def session(
        self, name: str, *, schema: str | Mapping[str, Any] | None = None
    ) -> AsyncIterator[RemoteSession]:
        """Hold a session of environment `name` for the length of the block.

        Args, Raises: as `Hub.open`.
        """
        session = await self.open(name, schema=schema)
        try:
            yield session
        finally:
            await session.aclose()

    async def open(
        self, name: str, *, schema: str | Mapping[str, Any] | None = None
    ) -> RemoteSession:
        """Return a session of environment `name`; its owner closes it.

        Args, Raises: as `Hub.open`; and ConnectionLost.
        """
        session = RemoteSession(self._line, name)
        await session.open()
        if schema is not None:
            from envhub.hub.environments import schemas

            try:
                found = schemas.document(await session.describe())
                schemas.check(session.title, found, schema)
            except BaseException:
                await session.aclose()
                raise
        return session

    async def describe(self, name: str) -> native.Described:
        """Return the schemas and options of environment `name`.

        Raises: as `open`.
        """
        if name not in self._described:
            async with self.session(name) as session:
                self._described[name] = await session.describe()
        return self._described[name]

    def batch(
        self, sessions: Iterable[RemoteSession], first: int | None = None
    ) -> Batch[RemoteSession]:
        """Return a batch of sessions, to be stepped together.

        Args:
            sessions: of this hub.
            first: how many outcomes are received at once; see `Batch`.
        """
        group = next(self._groups)
        return Batch(sessions, first, partial(self._line.together, group))

    def sync(self) -> SyncRemoteHub:
        """Connect, and return the hub for programs without an event loop.

        Raises: as `start`.
        """
        from envhub.client.native.blocking import SyncRemoteHub

        return SyncRemoteHub(self.address)

    async def start(self) -> None:
        """Connect.

        Raises:
            ConnectionLost: nobody answers there.
            UsageError: the hub refuses us.
        """
        await self._line.start()

    async def aclose(self) -> None:
        """Hang up. Sessions that are still open the hub keeps for a while, and then closes."""
        await self._line.aclose()

    async def __aenter__(self) -> RemoteHub:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> SyncRemoteHub:
        self._blocking = self.sync()
        return self._blocking

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._blocking.close()


def connect(
    url: str,
    *,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    connect_timeout_s: float = 10.0,
    reconnect_s: float = 60.0,
) -> RemoteHub:
    """Return a hub elsewhere, to be entered: `async with`, or `with` for one that blocks.

        async with envhub.connect("http://127.0.0.1:8000") as hub, hub.session("echo") as env:
            await env.reset(seed=7)

        with envhub.connect("http://127.0.0.1:8000") as hub, hub.make("echo") as env:
            env.reset(seed=7)

    A connection that is cut is made again; calls wait meanwhile, and each is carried out
    once.

    Args:
        url: of the server, as `envhub serve` prints it.
        token: that it asks for.
        headers: sent with each handshake.
        connect_timeout_s: for each attempt to connect.
        reconnect_s: how long calls wait for a connection that was cut, before they fail with
            ConnectionLost. The hub keeps the sessions as long as its `--grace-s`.

    Raises:
        UsageError: `url` is no address.
    """
    return RemoteHub(
        Line(
            url,
            token=token,
            headers=headers or {},
            connect_timeout_s=connect_timeout_s,
            reconnect_s=reconnect_s,
        )
    )
