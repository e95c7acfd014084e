"""`envhub serve`, with bounds short enough to be waited for, that says how it is when asked.

Started as a program: each line on its standard input is answered on its standard output by
what the process holds. The first argument has the bounds, the others are those of `serve`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

import psutil

import envhub.door.serve as door
from envhub.cli import main
from envhub.door.connections.guard import Bounds, Guard

_serve = door.serve
_process = psutil.Process()
_bounds = Bounds()


async def serve(hub: Any, **options: Any) -> None:
    loop = asyncio.get_running_loop()
    guards: list[Guard] = []

    class Seen(Guard):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            guards.append(self)

    vars(door)["Guard"] = Seen

    def tell() -> None:
        held = {
            "sessions": hub.active_sessions,
            "tasks": len(asyncio.all_tasks()),
            "descriptors": _process.num_fds(),
            "connections": guards[0].connections,
            "processes": len(_process.children(recursive=True)),
            "memory": _process.memory_info().rss,
        }
        print(json.dumps(held), flush=True)

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=listen, daemon=True).start()
    await _serve(hub, bounds=_bounds, **options)


if __name__ == "__main__":
    door.serve = serve
    _bounds = Bounds(**json.loads(sys.argv[1]))
    sys.argv = ["envhub", "serve", *sys.argv[2:]]
    main()
