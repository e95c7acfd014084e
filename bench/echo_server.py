"""`python -m bench.echo_server`: a WebSocket server that says back what it is told, no more."""

from __future__ import annotations

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def main() -> None:
    """Listen, and say where."""
    async with serve(_echo, "127.0.0.1", 0) as server:
        _, port = next(iter(server.sockets)).getsockname()
        print(f"listening on http://127.0.0.1:{port}", flush=True)
        await asyncio.get_running_loop().create_future()


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


if __name__ == "__main__":
    uvloop.run(main())
