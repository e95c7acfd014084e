"""`python -m bench.holder FOLDER N`: hold a hub with N sessions until killed. For `kill`."""

from __future__ import annotations

import sys

import anyio

import envhub


async def main(folder: str, sessions: int) -> None:
    """Open the sessions, say "ready", and wait."""
    async with envhub.Hub(folder) as hub:
        for _ in range(sessions):
            session = await hub.open("echo")
            await session.reset()
        await anyio.sleep(0.1)  # the pool makes its ready processes meanwhile
        print("ready", end="", flush=True)
        await anyio.sleep(600)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), backend_options={"use_uvloop": True})
