"""A session process on an event loop, for environments with `async` methods.

The loop keeps running between the calls, so that what an environment started goes on; and
during them, so that the hub is heard when it asks the environment to leave one.
Imported only where it is needed: asyncio costs each session of a zygote memory.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from envhub.wire.framing import FrameBuffer
from envhub.wire.messages import FROM_HUB, Cancel, Close, Request, decode
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
    with ThreadPoolExecutor(1, thread_name_prefix="environment") as thread:
        calls = _Calls(hub, answering, thread)
        try:
            while (request := await calls.next()) is not None:
                reply = await answering.answer_async(request, calls.call)
                calls.over()
                sys.stdout.flush()
                await loop.sock_sendall(hub, answering.framed(reply))
                if isinstance(request, Close):
                    return
        finally:
            loop.remove_reader(hub)


class _Calls:
    """The hub's words, also during a call, and the calls into the environment.

    Args:
        hub: listened to from now on.
        answering: has the environment.
        thread: for its ordinary methods.
    """

    def __init__(
        self, hub: socket.socket, answering: Answering, thread: ThreadPoolExecutor
    ) -> None:
        self._hub = hub
        self._answering = answering
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._buffer = FrameBuffer()
        self._requests: deque[Request | Exception | None] = deque()
        self._more = asyncio.Event()
        self._op = 0  # of the call under way; 0 outside of one
        self._asked = 0  # number of the last call that the hub wanted left
        self._is_waiting = False  # in a method that is awaited, and so can be interrupted
        self._raised: BaseException | None = None  # by `cancel`
        self._asking: asyncio.Task[None] | None = None
        self._loop.add_reader(hub, self._read)

    async def next(self) -> Request | None:
        """Return the next request; None when the hub has hung up."""
        while not self._requests:
            self._more.clear()
            await self._more.wait()
        request = self._requests.popleft()
        if isinstance(request, Exception):
            raise request
        if request is not None:
            self._op = request.op
            self._ask_if_wanted()
        return request

    def over(self) -> None:
        """End the call: it is answered, and what would leave it comes late."""
        self._op = 0
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    async def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the environment."""
        if not inspect.iscoroutinefunction(function):
            work = lambda: function(*arguments, **options)  # noqa: E731
            return await self._loop.run_in_executor(self._thread, work)
        self._is_waiting = True
        try:
            return await function(*arguments, **options)
        finally:
            self._is_waiting = False
            if self._raised is not None:
                self._leave()

    def _read(self) -> None:
        try:
            data = self._hub.recv(_READ_BYTES)
            self._buffer.receive_data(data)
            while (frame := self._buffer.next_frame()) is not None:
                self._take(decode(FROM_HUB, frame))
        except BlockingIOError:
            return
        except Exception as error:
            self._end(error)
            return
        if not data:
            self._end(None)

    def _end(self, why: Exception | None) -> None:
        self._loop.remove_reader(self._hub)
        self._requests.append(why)
        self._more.set()

    def _take(self, message: Request | Cancel) -> None:
        if not isinstance(message, Cancel):
            self._requests.append(message)
            self._more.set()
        else:
            self._asked = message.op
            self._ask_if_wanted()

    def _ask_if_wanted(self) -> None:
        if self._asked == self._op and self._asking is None:
            self._asking = self._loop.create_task(self._ask())

    async def _ask(self) -> None:
        """Have the environment leave the call it is in; what its `cancel` raises ends it."""
        try:
            if inspect.isawaitable(asked := self._answering.cancel()):
                await asked
        except Exception as error:
            if not self._is_waiting or self._task is None:
                traceback.print_exc()  # a thread cannot be interrupted
                return
            self._raised = error
            self._task.cancel()

    def _leave(self) -> None:
        """Raise in the call what `cancel` has raised, whatever else has come of it."""
        raised, self._raised = self._raised, None
        if self._task is not None:
            self._task.uncancel()
        assert raised is not None
        raise raised from None
