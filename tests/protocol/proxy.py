"""A TCP proxy that cuts connections where a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


class Cutter:
    """Passes bytes on, and tears each connection after so many of them, both ways together.

    Args:
        url: of the server.
        after: bytes after which the first connection is cut, the second, …; none is cut
            when these are used up.
    """

    def __init__(self, url: str, after: Iterable[int]) -> None:
        self.move(url)
        self._refusing = False
        self._after = iter(after)
        self._open: set[asyncio.StreamWriter] = set()
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        if self._refusing:
            writer.transport.abort()
            return
        try:
            theirs, ours = await asyncio.open_connection(*self._server)
        except OSError:  # there is no server at the moment
            writer.transport.abort()
            return
        left = next(self._after, None)
        ends = {writer, ours}
        self._open |= ends
        budget = [left]
        passing = [
            asyncio.ensure_future(self._pass(source, sink, budget))
            for source, sink in ((reader, ours), (theirs, writer))
        ]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.transport.abort()
        for task in passing:
            task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await task
        self._open -= ends

    def move(self, url: str) -> None:
        """Pass further connections on to another server."""
        parts = urlsplit(url)
        self._server = parts.hostname, parts.port

    def refuse(self, refusing: bool) -> None:
        """Have further connections torn at once, or no longer."""
        self._refusing = refusing

    def cut(self) -> None:
        """Tear every connection now."""
        for end in list(self._open):
            end.transport.abort()

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        budget: list[int | None],
    ) -> None:
        while data := await source.read(65536):
            if budget[0] is not None:
                data = data[: budget[0]]
                budget[0] -= len(data)
            sink.write(data)
            await sink.drain()
            if budget[0] == 0:
                self.cuts += 1
                return


@asynccontextmanager
async def cutting(url: str, after: Iterable[int] = ()) -> AsyncIterator[tuple[str, Cutter]]:
    """Hold a proxy; yield its address, and itself."""
    cutter = Cutter(url, after)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", cutter
        cutter.cut()


@contextmanager
def beside(opening: AbstractAsyncContextManager[T]) -> Iterator[tuple[T, Any]]:
    """Hold what is asynchronous on a thread of its own; yield it, and what calls there."""
    ready: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        end = asyncio.Event()
        async with opening as opened:
            ready.set_result((opened, asyncio.get_running_loop(), end))
            await end.wait()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    opened, loop, end = ready.result()
    try:
        yield opened, loop.call_soon_threadsafe
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


@contextmanager
def cutting_beside(url: str, after: Sequence[int] = ()) -> Iterator[tuple[str, Cutter, Any]]:
    """Hold a proxy; yield its address, itself, and what calls it."""
    with beside(cutting(url, after)) as ((cut_url, cutter), call):
        yield cut_url, cutter, call
