"""The broker: opens sandboxes for agent code on a session's behalf.

The session's process asks on a socket of its own, and is sent one end of a new one; the hub
receives no descriptor from it. What it may cost is bounded here: sandboxes at a time, and
wishes that wait.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from anyio.abc import TaskGroup

from envhub.errors import EnvhubError, RemoteProtocolError
from envhub.hub.places.census import Used
from envhub.hub.workers.process import ForkedProcess, SessionProcess
from envhub.hub.workers.worker import Worker
from envhub.wire.messages import (
    BROKER_REQUESTS,
    MAX_BROKER_BYTES,
    AgentEnded,
    AgentOpened,
    AgentRefused,
    BrokerReply,
    KillAgent,
    OpenAgent,
    decode,
    encode,
)
from envhub_sandbox import SandboxError
from envhub_sandbox.verdict import HOST_MEMORY

_log = logging.getLogger(__name__)
MAX_AGENTS = 4  # at once: a session then holds eight descriptors of the hub
_FORK_S = 15.0
_MESSAGE_CHARACTERS = 4000


class Broker:
    """Serves one session process until it ends.

    Args:
        process: whose `broker` socket is served.
        runner: returns the worker that agent sandboxes are forked from.
        hold: puts the limits of an agent sandbox around its process.
        tasks: where forks run.
    """

    def __init__(
        self,
        process: SessionProcess,
        runner: Callable[[], Awaitable[Worker]],
        hold: Callable[[ForkedProcess], None],
        tasks: TaskGroup,
    ) -> None:
        assert process.broker is not None
        self._process = process
        self._socket = process.broker
        self._socket.setblocking(False)
        self._runner = runner
        self._hold = hold
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._opening: set[int] = set()
        self._taken = 0  # sandboxes that are there, or on their way
        self._idle = asyncio.Event()
        self._idle.set()
        self._agents: dict[int, ForkedProcess] = {}
        self._used = Used()  # by those that have ended
        self._closed = False
        self._loop.add_reader(self._socket.fileno(), self._read)

    def used_so_far(self) -> Used:
        """Return what the agent sandboxes have used. May be called from any thread."""
        return sum((process.used_so_far() for process in [*self._agents.values()]), self._used)

    async def aclose(self) -> None:
        """Kill every agent sandbox of the session and reap it. Idempotent."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())
        for process in list(self._agents.values()):
            process.kill("closed")
        await self._idle.wait()
        for number, process in list(self._agents.items()):
            process.kill("closed")
            await self._end(process)
            self._count(number)

    def _read(self) -> None:
        try:
            data = self._socket.recv(MAX_BROKER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            return
        try:
            request = decode(BROKER_REQUESTS, data)
        except RemoteProtocolError:
            self._process.kill("protocol")
            return
        match request:
            case OpenAgent(agent=number):
                self._ask_to_open(number)
            case KillAgent(agent=number):
                if number in self._agents:
                    self._agents[number].kill("closed")

    def _ask_to_open(self, number: int) -> None:
        repeated = number in self._opening or number in self._agents
        if repeated or len(self._opening) >= MAX_AGENTS:
            self._process.kill("protocol")  # it does not wait for answers, or repeats itself
            return
        self._opening.add(number)
        self._idle.clear()
        self._tasks.start_soon(self._open, number)

    async def _open(self, number: int) -> None:
        try:
            if not await self._wait_for_room():
                self._tell(AgentRefused(number, f"a session has at most {MAX_AGENTS} of them"))
                return
            self._taken += 1
            try:
                worker = await self._runner()
                process, theirs = await worker.fork_agent(_FORK_S)
            except BaseException:
                self._taken -= 1
                raise
            with theirs:
                self._agents[number] = process
                self._hold(process)
                self._loop.add_reader(process.pidfd, self._note_end, number, process)
                if not self._closed:
                    self._tell(AgentOpened(number), theirs)
        except (EnvhubError, SandboxError, OSError) as error:
            self._tell(AgentRefused(number, str(error)[:_MESSAGE_CHARACTERS]))
        except Exception:  # a bug of ours must not end the tasks of every session
            _log.exception("no agent sandbox")
            self._process.kill("worker_lost")
        finally:
            self._opening.discard(number)
            if not self._opening:
                self._idle.set()

    async def _wait_for_room(self) -> bool:
        """One that was just killed still counts until it is reaped: give it that moment."""
        for process in list(self._agents.values()):
            if self._taken < MAX_AGENTS:
                break
            if process.is_killed:
                await process.wait_verdict()
                await asyncio.sleep(0)  # for `_forget` to give its place back
        return self._taken < MAX_AGENTS

    def _note_end(self, number: int, process: ForkedProcess) -> None:
        self._loop.remove_reader(process.pidfd)
        self._tasks.start_soon(self._forget, number, process)

    async def _forget(self, number: int, process: ForkedProcess) -> None:
        verdict = await process.wait_verdict()
        if self._count(number):
            self._taken -= 1
            process.close_descriptors()
            # the machine's want of memory is no fault of the agent
            cause = HOST_MEMORY if verdict.limit == HOST_MEMORY else verdict.cause
            self._tell(AgentEnded(number, cause, verdict.detail))

    def _count(self, number: int) -> bool:
        """Forget one that has ended, but not what it used; False if that was done before."""
        process = self._agents.pop(number, None)
        if process is not None:
            self._used += process.used_so_far()
        return process is not None

    async def _end(self, process: ForkedProcess) -> None:
        if process.pidfd >= 0:
            self._loop.remove_reader(process.pidfd)
        await process.wait_verdict()
        process.close_descriptors()

    def _tell(self, message: BrokerReply, handed: socket.socket | None = None) -> None:
        descriptors = [handed.fileno()] if handed is not None else []
        try:
            socket.send_fds(self._socket, [encode(message)], descriptors)
        except BlockingIOError:
            self._process.kill("protocol")  # it asks and does not read
        except OSError:
            pass  # it has ended; its session ends us
