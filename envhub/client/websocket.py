"""Clients of one environment over OpenEnv's WebSocket: `EnvClient`, and the same blocking.

The names and their meaning are OpenEnv's. What differs: errors are typed, an action may be a
plain mapping, and a session that was lost is not replaced in silence: until a reset, every
call says so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from envhub.client import speech
from envhub.errors import DeadlineExceeded, UsageError, WorkerLost
from envhub.results import StepResult

if TYPE_CHECKING:
    from envhub.client.direct import Direct

_MIB = 1024 * 1024
_MOST_UNASKED = 16  # messages
_NO_DOCKER = "start it here: EnvClient(provider=EnvHubProvider(NAME or FOLDER))"


class Provider(Protocol):
    """Starts a server for a client, such as `EnvHubProvider`; OpenEnv's RuntimeProvider."""

    def start(self) -> str:
        """Return the server's address."""
        ...

    def stop(self) -> None:
        """End what was started."""
        ...


class _Dialogue:
    """What both clients know of the server, and how values become frames."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = 60.0,
        max_message_size_mb: float = 100.0,
        headers: Mapping[str, str] | None = None,
        provider: Provider | None = None,
        schema: str | Mapping[str, Any] | None = None,
        token: str = "",
    ) -> None:
        if (base_url is None) == (provider is None):
            raise UsageError("name a base_url, or a provider that starts a server")
        if base_url is not None:
            speech.websocket_url(base_url)  # says now what is wrong with it
        self.base_url = base_url
        self._provider = provider
        self._connect_timeout_s = connect_timeout_s
        self._message_timeout_s = message_timeout_s
        self._settings: dict[str, Any] = {
            "max_size": int(max_message_size_mb * _MIB),
            "additional_headers": {**speech.authorization(token), **(headers or {})},
            "open_timeout": connect_timeout_s,
            "proxy": None,
            "compression": None,
        }
        self._schema = schema
        self._lost = False

    def _step_payload(self, action: Any) -> dict[str, Any]:
        """Return an action's fields, to send. For typed clients to override."""
        return speech.plain(action)

    def _parse_result(self, payload: dict[str, Any]) -> Any:
        """Return what a reset or a step gives. For typed clients to override."""
        return speech.result(payload)

    def _parse_state(self, payload: dict[str, Any]) -> Any:
        """Return what `state` gives. For typed clients to override."""
        return speech.fields(payload)

    def _address(self) -> str:
        if self.base_url is None:
            assert self._provider is not None
            self.base_url = self._provider.start()
        return self.base_url

    def _where(self) -> str:
        address = self._address()
        if self._schema is not None:
            from envhub.client.fetch import document
            from envhub.hub.environments.schemas import check

            headers = self._settings["additional_headers"]
            found = document(address, "/schema", headers, self._connect_timeout_s)
            check(f"the environment at {address}", found, self._schema)
        return speech.websocket_url(address)

    def _let_go(self) -> None:
        if self._provider is not None and self.base_url is not None:
            self.base_url = None
            self._provider.stop()

    def _check_episode(self, kind: str) -> None:
        if self._lost and kind != "reset":
            raise WorkerLost("the connection was lost, and its episode; reset begins another")

    def _gone(self, error: Exception) -> WorkerLost:
        self._lost = True
        return WorkerLost(f"the connection to {self.base_url} is lost: {error}")

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no reply within {self._message_timeout_s:g} s")


class EnvClient(_Dialogue):
    """A session of an environment that is served elsewhere. Asynchronous; see `sync`.

        async with EnvClient("http://127.0.0.1:8000/envs/echo") as env:
            await env.reset(seed=7)
            result = await env.step({"message": "hello"})

    Args:
        base_url: of the environment: the server's, or with /envs/NAME.
        connect_timeout_s: for connecting.
        message_timeout_s: for each reply, a place in the server's queue included.
        max_message_size_mb: longest reply, in MiB.
        headers: sent with the handshake.
        provider: starts a server when the first call is made, and stops it at the end.
        schema: what the environment's types must look like, or connecting raises
            SchemaMismatch: a digest, or a document as GET /schema gives it.
        token: that the server asks for.

    Raises:
        UsageError: neither a base_url nor a provider, or both.
    """

    _socket: Direct | None = None
    _reply: asyncio.Future[str | bytes | None] | None = None  # of the last call
    _unasked: list[str | bytes] = []  # noqa: RUF012 (replaced with each connection)

    @classmethod
    def from_docker_image(cls, image: str, provider: Any = None, **options: Any) -> Self:
        """Return a client of an image that `provider` starts; without one, say what to do.

        Raises:
            UsageError: there is no provider, and we have no Docker.
        """
        if provider is None:
            raise UsageError(f"`{image}` is a Docker image, and there is none", hint=_NO_DOCKER)
        client = cls(provider.start_container(image, **options))
        client._provider = provider
        return client

    def sync(self) -> SyncEnvClient:
        """Return a client that blocks, with this one's settings and types."""
        return SyncEnvClient(self)

    def new_session(self) -> Self:
        """Return a client of another session at the same server."""
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__, _socket=None, _reply=None, _unasked=[])
        other._lost, other._provider = False, None
        other.base_url = self._address()
        return other

    async def connect(self) -> Self:
        """Connect now, and not at the first call.

        Raises:
            WorkerLost: nobody listens there.
        """
        from websockets.exceptions import WebSocketException

        from envhub.client.direct import opened

        if self._socket is None:
            where = await asyncio.to_thread(self._where)
            self._unasked = []
            try:
                self._socket = await opened(
                    where, self._hear, cut=self._hang_up, **self._settings
                )
            except (*speech.NO_CONNECTION, WebSocketException) as error:
                raise self._gone(error) from None
            self._lost = False
            if len(self._unasked) == _MOST_UNASKED:  # it has not even waited for us
                self._socket.transport.abort()
        return self

    async def reset(self, **options: Any) -> StepResult:
        """Begin an episode; options are "seed", "episode_id" and the environment's own.

        Raises:
            CapacityError: the server has no place.
            EnvironmentFailed: the environment raised.
            WorkerError: its process, or the connection, is gone.
        """
        parsed: StepResult = self._parse_result(
            await self._ask("reset", "observation", options)
        )
        return parsed

    async def step(self, action: Any, **_: Any) -> StepResult:
        """Take one action: a mapping, or an object with the action's fields.

        Raises: as `reset`, and InvalidAction.
        """
        data = await self._ask("step", "observation", self._step_payload(action))
        parsed: StepResult = self._parse_result(data)
        return parsed

    async def state(self) -> Any:
        """Return the environment's state."""
        return self._parse_state(await self._ask("state", "state"))

    async def disconnect(self) -> None:
        """End the session; the next reset opens another."""
        websocket, self._socket = self._socket, None
        if websocket is not None:
            websocket.say(speech.request("close"))
            await websocket.close()

    async def close(self) -> None:
        """End the session, and the server if it was started for us."""
        try:
            await self.disconnect()
        finally:
            await asyncio.to_thread(self._let_go)

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(
        self, kind: str, answer: str, data: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        self._check_episode(kind)
        frame = speech.request(kind, data)
        await self.connect()
        if self._reply is not None and not self._reply.done():
            raise UsageError("a call has no reply yet", hint="new_session() gives another")
        connection, loop = self._socket, asyncio.get_running_loop()
        assert connection is not None
        self._reply = reply = loop.create_future()
        timer = loop.call_later(self._message_timeout_s, _expire, reply)
        if self._unasked:
            reply.set_result(self._unasked.pop(0))
        elif connection.is_open:
            connection.say(frame)
        else:
            reply.set_result(None)
        try:
            text = await reply
            if text is None:
                await connection.close()  # its end may not be here yet
        except BaseException as error:  # a reply that comes later would be taken for another's
            self._lost = True
            self._socket = None
            connection.transport.abort()
            if isinstance(error, TimeoutError):
                raise self._late() from None
            raise
        finally:
            timer.cancel()
        if text is None:
            self._socket = None
            raise self._gone(connection.protocol.close_exc)
        return speech.reply(text, answer)

    def _hear(self, message: str | bytes) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(message)
        elif len(self._unasked) < _MOST_UNASKED:
            self._unasked.append(message)  # why there is no session, say
        elif self._socket is not None:
            self._socket.transport.abort()

    def _hang_up(self) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(None)


def _expire(reply: asyncio.Future[str | bytes | None]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


class SyncEnvClient:
    """The same, blocking. Made by `EnvClient.sync`, and used by one thread at a time."""

    def __init__(self, client: EnvClient) -> None:
        self._client = client
        self._socket: Any = None

    @property
    def base_url(self) -> str | None:
        """Where the environment is served; None before a provider has started it."""
        return self._client.base_url

    def connect(self) -> Self:
        """Connect now, and not at the first call. Raises: as `EnvClient.connect`."""
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        if self._socket is None:
            where = self._client._where()
            try:
                # as of a `with` block, which ends in `disconnect`
                self._socket = connect(where, **self._client._settings).__enter__()
            except (*speech.NO_CONNECTION, WebSocketException) as error:
                raise self._client._gone(error) from None
            self._client._lost = False
        return self

    def new_session(self) -> SyncEnvClient:
        """Return a client of another session at the same server."""
        return self._client.new_session().sync()

    def reset(self, **options: Any) -> StepResult:
        """Begin an episode. Raises: as `EnvClient.reset`."""
        data = self._ask("reset", "observation", options)
        parsed: StepResult = self._client._parse_result(data)
        return parsed

    def step(self, action: Any, **_: Any) -> StepResult:
        """Take one action. Raises: as `EnvClient.step`."""
        data = self._ask("step", "observation", self._client._step_payload(action))
        parsed: StepResult = self._client._parse_result(data)
        return parsed

    def state(self) -> Any:
        """Return the environment's state."""
        return self._client._parse_state(self._ask("state", "state"))

    def disconnect(self) -> None:
        """End the session; the next reset opens another."""
        from websockets.exceptions import ConnectionClosed

        websocket, self._socket = self._socket, None
        if websocket is not None:
            try:
                websocket.send(speech.request("close"))
            except ConnectionClosed:
                pass
            websocket.close()

    def close(self) -> None:
        """End the session, and the server if it was started for us."""
        try:
            self.disconnect()
        finally:
            self._client._let_go()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self, kind: str, answer: str, data: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        self._client._check_episode(kind)
        frame = speech.request(kind, data)
        self.connect()
        try:
            self._socket.send(frame)
            text = self._socket.recv(timeout=self._client._message_timeout_s)
        except ConnectionClosed as error:
            self._socket = None
            raise self._client._gone(error) from None
        except BaseException as error:  # a reply that comes later would be taken for another's
            self._client._lost = True
            websocket, self._socket = self._socket, None
            websocket.socket.shutdown(socket.SHUT_RDWR)  # its thread closes the rest
            if isinstance(error, TimeoutError):
                raise self._client._late() from None
            raise
        return speech.reply(text, answer)
