"""The guard of connections where the process has no descriptor left."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from contextlib import ExitStack

from envhub.door.connections.guard import Guard


class Connection:
    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.since = 0.0

    def look(self, now: float) -> bool:
        return True


async def test_connections_are_ended_also_without_a_descriptor() -> None:
    guard, loop = Guard(), asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        peers = []
        for _ in range(2):
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            guard.admit(Connection(transport), "127.0.0.1")
            stack.callback(transport.abort)
            theirs.settimeout(10)
            peers.append(stack.enter_context(theirs))
        lowest_free = os.dup(0)
        os.close(lowest_free)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        guard.abort_all()
        await asyncio.sleep(0)  # transports close their sockets in the next turn

        assert [peer.recv(1) for peer in peers] == [b"", b""]
