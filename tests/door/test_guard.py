"""The guard of connections where the process has no descriptor left."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

from envhub.door.guard import Guard


class Connection:
    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.since = 0.0

    def look(self, now: float) -> bool:
        return True


async def test_connections_are_ended_also_without_a_descriptor() -> None:
    guard, loop = Guard(), asyncio.get_running_loop()
    peers = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        guard.admit(Connection(transport), "127.0.0.1")
        theirs.setblocking(False)
        peers.append(theirs)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        guard.abort_all()
        said = [await loop.sock_recv(peer, 1) for peer in peers]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for peer in peers:
        peer.close()

    assert said == [b"", b""]
