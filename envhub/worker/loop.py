"""A session process on an event loop, for environments with `async` methods.

The loop keeps running between the calls, so that what an environment started goes on.
Imported only where it is needed: asyncio costs each session of a zygote memory.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from envhub.wire.framing import FrameBuffer
from envhub.wire.messages import REQUESTS, Close, decode
from envhub.worker.answer import Answering

_READ_BYTES = 64 * 1024


def run(hub: socket.socket, answering: Answering) -> None:
    """Answer the hub's requests, one at a time, until it hangs up."""
    asyncio.run(_serve(hub, answering))


def warm_up() -> None:
    """Touch in the zygote what every session will need."""
    asyncio.run(asyncio.sleep(0))


async def _serve(hub: socket.socket, answering: Answering) -> None:
    loop = asyncio.get_running_loop()
    hub.setblocking(False)
    buffer = FrameBuffer()
    with ThreadPoolExecutor(1, thread_name_prefix="environment") as thread:

        async def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            if inspect.iscoroutinefunction(function):
                return await function(*arguments, **options)
            return await loop.run_in_executor(thread, lambda: function(*arguments, **options))

        while data := await loop.sock_recv(hub, _READ_BYTES):
            buffer.receive_data(data)
            while (frame := buffer.next_frame()) is not None:
                request = decode(REQUESTS, frame)
                reply = await answering.answer_async(request, call)
                sys.stdout.flush()
                await loop.sock_sendall(hub, answering.framed(reply))
                if isinstance(request, Close):
                    return
