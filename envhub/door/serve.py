"""Run the door: bind, serve until a signal, drain, stop cleanly."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING

import anyio
import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from envhub.door.app import create_app
from envhub.door.connections.guard import BOUNDS, Bounds, Config, Guard
from envhub.door.connections.http import GuardedHTTP
from envhub.door.connections.websocket import GuardedWebSocket
from envhub.door.drain import Drain
from envhub.door.native.lanes import GRACE_S
from envhub.door.tokens import Tokens
from envhub.errors import UsageError
from envhub.hub.accounts.events import INFO, tell

if TYPE_CHECKING:
    from envhub.hub.hub import Hub

BACKLOG = 2048  # connections that the kernel holds while the loop is busy
FINISH_S = 3  # for requests that still run when a signal comes
LAST_WORDS_S = 10.0  # for sessions to be closed after that
END = signal.SIGUSR1  # ends the server, too, but a second one is not impatience


class _Server(uvicorn.Server):
    """A server that tells when it is ready and leaves the end of the process to its caller.

    Args:
        config: uvicorn's.
        on_ready: called once, when connections are accepted.
        drain: what comes between a signal and the end.
    """

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], drain: Drain
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether it is time to end."""
        self.should_exit = self.should_exit or self._drain.is_over()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at the next, and then wait for no request."""
        self.force_exit = self.force_exit or (self.should_exit and sig != END)
        self._drain.ask(again=sig != END)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        clients = len(self.server_state.connections)
        tell(INFO, "door closes", clients=clients, grace_s=GRACE_S)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT, SIGTERM and END.

        uvicorn's own raises the signal once more when it has stopped, which would end the
        process before the caller can close its hub.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers; then somebody else stops us
            return
        numbers = (*HANDLED_SIGNALS, END)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listener(host: str, port: int, *, anywhere: bool = False) -> socket.socket:
    """Return a socket bound to the first address of `host`; port 0 picks a free one.

    Args:
        host: name or address.
        port: to listen on.
        anywhere: it need not be loopback's.

    Raises:
        UsageError: the address is not loopback's.
        OSError: no such host, or the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    if not anywhere and not ip_address(address[0]).is_loopback:
        raise UsageError(
            f"expected a loopback address, got `{host}`: whoever reaches the door may use it",
            hint="have clients bear a token: --token-file FILE",
        )
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError:
        found.close()
        raise
    return found


async def serve(
    hub: Hub,
    *,
    host: str,
    port: int,
    default: str | None,
    production: bool = False,
    tokens: Tokens | None = None,
    insecure: bool = False,
    certificate: str | None = None,
    key: str | None = None,
    drain_s: float = 0.0,
    grace_s: float = GRACE_S,
    on_drain: Callable[[int], None] = lambda sessions: None,
    max_connections: int | None = None,
    bounds: Bounds = BOUNDS,
    on_ready: Callable[[int], None],
) -> None:
    """Serve `hub` until SIGINT, SIGTERM or cancellation; then let go of every client.

    At a signal the hub drains: no new sessions, and those that are open may come to their
    end. At a second one, or cancelled, it does not wait. When it returns, every session that
    a client of the door held is closed. The hub is the caller's to close.

    Args:
        hub: running.
        host: name or address to bind.
        port: 0 for a free one.
        default: the environment at the root; None for none.
        production: hide reset, step and state over HTTP.
        tokens: one of which every client must bear. Without, only loopback is served.
        insecure: serve everybody who reaches the address all the same.
        certificate: file, for TLS.
        key: file of its private key, if it is another one.
        drain_s: how long open sessions may go on after a signal.
        grace_s: how long a session of the native protocol is kept without a connection.
        on_drain: called with how many they are, when it begins to wait for them.
        max_connections: at once; None for what descriptors allow.
        bounds: of each connection.
        on_ready: called with the real port, when connections are accepted.

    Raises:
        UsageError: the address is not loopback's, and there are no tokens.
        OSError: the address cannot be bound, or the certificate not be read.
    """
    bound = listener(host, port, anywhere=insecure or tokens is not None)
    address, real_port = bound.getsockname()[:2]
    app = create_app(
        hub,
        default=default,
        host=host,
        production=production,
        tokens=tokens,
        any_host=tokens is not None or not ip_address(address).is_loopback,
        grace_s=grace_s,
    )
    guard = Guard(bounds, max_connections)
    config = Config(
        app,
        guard,
        http=GuardedHTTP,
        ws=GuardedWebSocket,
        ws_max_size=bounds.frame_bytes,
        ws_ping_interval=bounds.ping_s,
        ws_ping_timeout=bounds.ping_s,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # not what clients do wrong: they could fill a disk with it
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=FINISH_S,
        timeout_keep_alive=bounds.idle_s,
    )
    drain = Drain(hub, app.state.applications, drain_s, on_drain)
    server = _Server(config, lambda: on_ready(real_port), drain)
    running = asyncio.ensure_future(server.serve([bound]))
    watching = asyncio.ensure_future(guard.watch())
    try:
        await asyncio.shield(running)
    finally:
        server.should_exit = True  # cancelled, it stops as it does at a signal
        with anyio.CancelScope(shield=True):
            await running
            if server.server_state.tasks:  # uvicorn cancels them and does not wait
                await asyncio.wait(server.server_state.tasks, timeout=LAST_WORDS_S)
            await app.state.lanes.aclose()
            watching.cancel()
            guard.abort_all()
        bound.close()
