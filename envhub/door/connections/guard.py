"""What bounds a connection, whoever is at its other end, and who looks that it holds.

uvicorn and websockets bound how large a message is. They do not bound how long one takes to
come, how many connections say nothing, or how long a reply waits for a client that does not
read: those are bounded here. Looks are taken once a second, so that a step pays for none.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import resource
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Protocol

import msgspec
import uvicorn

_log = logging.getLogger(__name__)


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a connection a client may have of what it does not need.

    Args:
        header_s: for the header of a request, from the connection or its first byte on.
        body_s: for its body.
        idle_s: between two requests.
        message_s: for one message over a WebSocket, from its first byte to its last.
        stall_s: that what is sent, or a close, may wait for a client that does not read.
        close_s: for the answer to a close over a WebSocket.
        ping_s: between pings over a WebSocket, and for the answer to one.
        frame_bytes: of a message over a WebSocket, whatever its fragments.
        header_bytes: of a request's line and headers, while they are not complete.
        chunks: of a request's body, and fragments of a message over a WebSocket.
        controls: control frames between two looks.
        frames_at_once: over a WebSocket, in what one read brings.
        look_s: between two looks.
        settle_s: that a connection may be silent before it can lose its place to another.
    """

    header_s: float = 10.0
    body_s: float = 60.0
    idle_s: float = 5.0
    message_s: float = 60.0
    stall_s: float = 60.0
    close_s: float = 10.0
    ping_s: float = 20.0  # upstream's, both for the interval and for the patience
    frame_bytes: int = 16 * 1024 * 1024  # upstream's limit, by uvicorn's default
    header_bytes: int = 16 * 1024
    chunks: int = 65_536
    controls: int = 200
    frames_at_once: int = 16_384
    look_s: float = 1.0
    settle_s: float = 1.0


BOUNDS = Bounds()
_AT_ONCE = struct.pack("ii", 1, 0)  # no lingering: unsent data goes, and the peer is told
_LEAST, _MOST = 64, 16_384  # connections, where nobody says how many


def affordable_connections() -> int:
    """Return how many connections descriptors allow: a quarter of them, the rest is the hub's.

    More than the hub's places, which take eight each.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_LEAST, min(_MOST, descriptors // 4))


class Watched(Protocol):
    """One connection."""

    transport: asyncio.Transport
    since: float

    def look(self, now: float) -> bool:
        """Return whether it has passed a bound."""


class Guard:
    """Counts a door's connections, and ends those that have passed a bound.

    When there are too many, the one that has been silent for longest since it was accepted
    loses its place to the new one: clients who want something say so at once.

    Args:
        bounds: of each.
        max_connections: at once; None for what descriptors allow. One host off loopback may
            have half of them.
    """

    def __init__(self, bounds: Bounds = BOUNDS, max_connections: int | None = None) -> None:
        self.bounds = bounds
        self.max_connections = max_connections or affordable_connections()
        self._hosts: dict[Watched, str] = {}  # "" for loopback's
        self._counts: dict[str, int] = {}
        self._silent: dict[Watched, None] = {}  # the oldest first

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._hosts)

    def admit(self, connection: Watched, host: str) -> bool:
        """Count a connection that was accepted; return whether there is a place for it.

        One without a place must be closed, and is counted until it is.
        """
        self._hosts[connection] = place = "" if _is_loopback(host) else host
        self._counts[place] = self._counts.get(place, 0) + 1
        if place and self._counts[place] > max(1, self.max_connections // 2):
            return False
        if self.connections > self.max_connections:
            oldest = next(iter(self._silent), None)
            if oldest is None or connection.since - oldest.since < self.bounds.settle_s:
                return False
            self.heard(oldest)
            _reset(oldest.transport)
        self._silent[connection] = None
        return True

    def heard(self, connection: Watched) -> None:
        """Note that a connection has sent a request: its place is its own. Idempotent."""
        self._silent.pop(connection, None)

    def replace(self, before: Watched, after: Watched) -> None:
        """Note that a connection has changed its protocol."""
        self.heard(before)
        self._hosts[after] = self._hosts.pop(before, "")

    def forget(self, connection: Watched) -> None:
        """Note that a connection is lost. Idempotent."""
        self.heard(connection)
        host = self._hosts.pop(connection, None)
        if host is None:
            return
        self._counts[host] -= 1
        if not self._counts[host]:
            del self._counts[host]

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.bounds.look_s)
            now = loop.time()
            for connection in list(self._hosts):
                try:
                    if connection.look(now):
                        _reset(connection.transport)
                except Exception:  # of one connection; the others are still to be looked at
                    _log.exception("a bug in envhub: a connection could not be looked at")
                    connection.transport.abort()

    def abort_all(self) -> None:
        """End every connection at once, whatever it still has to send."""
        for connection in list(self._hosts):
            _reset(connection.transport)


class Stall:
    """How long a client has not read what was sent to it, or has not let go of its end."""

    def __init__(self, allowed_s: float) -> None:
        self._allowed_s = allowed_s
        self._since = math.inf

    def is_over(self, transport: asyncio.Transport, is_paused: bool, now: float) -> bool:
        """Note what a look has found; return whether that has gone on for too long.

        Closed, a transport waits for its peer to take what is left: for ever, if that one
        does not read.
        """
        if not (is_paused or transport.is_closing()):
            self._since = math.inf
            return False
        self._since = min(self._since, now)
        return now - self._since > self._allowed_s


class Config(uvicorn.Config):
    """uvicorn's, with who guards the connections.

    Args:
        app: that is served.
        guard: of its connections.
        options: uvicorn's.
    """

    def __init__(self, app: Any, guard: Guard, **options: Any) -> None:
        super().__init__(app, **options)
        self.guard = guard


def _reset(transport: asyncio.Transport) -> None:
    """End a connection, and have the kernel forget what its peer did not take, too."""
    found = transport.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        with suppress(OSError):  # no descriptor is left; then it forgets later
            same = socket.socket(fileno=os.dup(found.fileno()))  # uvloop's has no options
            with same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return True  # a socket of this machine
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
