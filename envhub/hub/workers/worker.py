"""A worker as the hub sees it: one sandbox with a zygote in it, and what it forked.

The zygote is not trusted: it imports an author's module. What it sends is one small JSON
packet at a time, decoded strictly; a descriptor that it sends must be a pidfd.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TypeGuard

import msgspec

import envhub_sandbox
from envhub.errors import WorkerStartFailed
from envhub.hub.workers import start_errors
from envhub.hub.workers.completion import to_the_end
from envhub.hub.workers.ends import Ends, has_hung_up, hear_hello
from envhub.hub.workers.packets import PACKETS, PING, Packet
from envhub.hub.workers.process import (
    ForkedProcess,
    SessionProcess,
    only_child,
    parent_of,
)
from envhub.hub.workers.pulse import PATIENCE_S, Pulse
from envhub.hub.workers.requests import Requests
from envhub.hub.workers.tail import Tail
from envhub.hub.workers.takedown import take_down
from envhub_sandbox import Grade, Launched, Receipt, pid_of, syscalls

_PACKET_BYTES = 64 * 1024


def is_want_of_descriptors(error: Exception) -> TypeGuard[OSError]:
    """Whether this process, or the machine, had no descriptor left."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


class Worker:
    """One sandbox, reused across sessions. Made by `start`, ended by `aclose`.

    Args:
        launched: the sandbox, still starting.
        name: of the environment, for messages.
        cpu_limit_s: RLIMIT_CPU of its session processes.
        on_end: called once when the worker has ended by itself.
        heartbeat_s: within which the zygote must answer.
    """

    def __init__(
        self,
        launched: Launched,
        name: str,
        *,
        cpu_limit_s: int,
        on_end: Callable[[], None] = lambda: None,
        heartbeat_s: float = PATIENCE_S,
    ) -> None:
        self._launched = launched
        self._name = name
        self._cpu_limit_s = cpu_limit_s
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._numbers = iter(range(2**53))
        self._starting: asyncio.Future[None] = self._loop.create_future()
        self._forking: dict[int, asyncio.Future[int]] = {}
        self._live: dict[int, ForkedProcess] = {}
        self._early: dict[int, tuple[int, float, int]] = {}  # of forks not yet adopted
        self._going: asyncio.Task[None] | None = None
        self._tail = Tail(launched.output)
        self._requests = Requests(launched.control)
        self._nests = False
        self._cancels = False
        self.alive = True
        self.wedged = False  # it did not answer in time, and is not asked again
        self._pulse = Pulse(heartbeat_s)
        launched.control.setblocking(False)
        self._loop.add_reader(launched.control.fileno(), self._read_control)
        self._tail.listen()

    @property
    def grade(self) -> Grade:
        """How well its sessions are isolated."""
        return self._launched.grade

    @property
    def usable(self) -> bool:
        """Whether it can be asked to fork."""
        return self.alive and not self.wedged

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds a process of it, or waits for one."""
        return not self._forking and all(p.pidfd < 0 for p in self._live.values())

    def look(self) -> None:
        """Ask a zygote that is ready whether it is there; it is wedged if it did not say so."""
        if not self.usable or not self._starting.done():
            return
        if self._pulse.is_late:
            self._read_control()  # its answer may be here, and we late
            if self._pulse.is_late and self.alive:
                self._note_wedged()
        elif self._pulse.is_due():
            with suppress(OSError):  # its queue is full, or it is gone: it will not answer
                self._launched.control.send(PING)

    async def wait_ready(self, deadline_s: float) -> None:
        """Wait until the zygote has imported its environment.

        Raises:
            LayerFailed: the sandbox could not be built.
            WorkerStartFailed: the import failed, or took too long.
        """
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.shield(self._starting)
        except TimeoutError:
            await self.aclose()
            raise start_errors.too_late(self._name, str(self._tail), deadline_s) from None
        except BaseException:
            await self.aclose()
            raise

    async def fork(self, deadline_s: float, *, broker: bool) -> SessionProcess:
        """Return a new session process, isolated, with nothing constructed in it.

        Never cancelled half-way: half a fork is a process that nobody owns. So it keeps a
        deadline of its own.

        Raises:
            WorkerStartFailed: the zygote is gone, refused, or did not answer in time.
            LayerFailed: the child could not build a layer.
        """
        work = self._fork(deadline_s, broker=broker)
        return await to_the_end(work, SessionProcess.discard)

    async def fork_agent(self, deadline_s: float) -> tuple[ForkedProcess, socket.socket]:
        """Return a new agent sandbox's process, and the environment's end of its socket.

        Raises:
            WorkerStartFailed: the zygote is gone, refused, or did not answer in time.
        """

        def discard(made: tuple[ForkedProcess, socket.socket]) -> None:
            made[1].close()
            made[0].discard()

        return await to_the_end(self._fork_agent(deadline_s), discard)

    async def aclose(self) -> None:
        """Kill the sandbox with everything in it, and reap it. Idempotent."""
        self._end()
        if self._going is None:
            down = take_down(self._launched, self._tail, hangs=self.wedged)
            self._going = self._loop.create_task(down)
        await asyncio.shield(self._going)

    async def _fork(self, deadline_s: float, *, broker: bool) -> SessionProcess:
        ends = Ends(broker=broker, uid=self._launched.uid)

        def opening() -> list[int]:
            try:
                return ends.open()
            except OSError as error:
                raise self._no_descriptors(error) from error

        try:
            number, pidfd, pid = await self._ask_to_fork(opening, deadline_s)
        except BaseException:
            ends.close()
            raise
        ends.close_theirs()
        process = SessionProcess(
            pidfd,
            pid,
            cpu_limit_s=self._cpu_limit_s,
            grade=self.grade,
            channel=ends.channel,
            output=ends.output,
            broker=ends.broker,
        )
        process.cancels = self._cancels
        self._adopt(number, process)
        try:
            layers = await hear_hello(process.channel, self._name, deadline_s)
            process.receipt = self._receipt(layers, process.pid)
        except BaseException:
            process.discard()
            raise
        return process

    async def _fork_agent(self, deadline_s: float) -> tuple[ForkedProcess, socket.socket]:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise self._no_descriptors(error) from error
        try:
            with theirs:
                handed = [theirs.fileno()]
                number, pidfd, pid = await self._ask_to_fork(lambda: handed, deadline_s)
        except BaseException:
            ours.close()
            raise
        limit_s = self._cpu_limit_s
        process = ForkedProcess(pidfd, pid, cpu_limit_s=limit_s, grade=self.grade)
        self._adopt(number, process)
        return process, ours

    def _receipt(self, layers: tuple[str, ...], pid: int) -> Receipt:
        """Look at the process from outside: is what it says it built there?"""
        grade = self.grade
        told = Receipt(grade.tier, self._launched.launcher or "", layers, missing=grade.missing)
        try:
            return envhub_sandbox.confirm(told, pid)
        except ProcessLookupError:
            what = f"a session process of `{self._name}` ended as soon as it was isolated"
            raise WorkerStartFailed(what, output=str(self._tail)) from None
        except OSError as error:
            raise self._no_descriptors(error) from error

    def _no_descriptors(self, error: OSError) -> WorkerStartFailed:
        what = f"no session process of `{self._name}`: {error.strerror}"
        return WorkerStartFailed(what, hint="close sessions, or raise `ulimit -n`")

    async def _ask_to_fork(
        self, opening: Callable[[], list[int]], deadline_s: float
    ) -> tuple[int, int, int]:
        """Send descriptors to the zygote; return the fork's number, its pidfd and pid."""
        if not self.alive:
            raise WorkerStartFailed(f"the worker of `{self._name}` has ended")
        number = next(self._numbers)
        answered: asyncio.Future[int] = self._loop.create_future()
        self._forking[number] = answered
        try:
            async with asyncio.timeout(deadline_s):
                await self._send_request(number, opening)
                pidfd = await answered
        except BaseException as error:
            self._early.pop(number, None)
            if answered.done() and not answered.cancelled() and not answered.exception():
                os.close(answered.result())
            if not isinstance(error, TimeoutError):
                raise
            self._note_wedged()
            raise WorkerStartFailed(
                f"the worker of `{self._name}` did not fork within {deadline_s:g} s",
                output=str(self._tail),
            ) from None
        finally:
            del self._forking[number]
        try:
            return number, pidfd, self._own_child(pidfd)
        except (OSError, ValueError) as error:
            self._early.pop(number, None)
            os.close(pidfd)
            if is_want_of_descriptors(error):  # ours; the child ends, for nobody holds its ends
                raise self._no_descriptors(error) from error
            self._launched.process.kill()  # no zygote of ours sends such a thing
            raise WorkerStartFailed(f"the worker of `{self._name}`: {error}") from error

    def _own_child(self, pidfd: int) -> int:
        """Return the number behind a pidfd; a hostile zygote could send one of anybody's.

        Raises:
            ValueError: it is no pidfd, or not of a child of the zygote.
        """
        pid = pid_of(pidfd)
        if pid < 0:
            return pid  # it has ended, and nobody can be killed by it
        launcher = self._launched.process.pid
        zygote = launcher if self._launched.launcher is None else only_child(launcher)
        parent = parent_of(pid)
        # 0 is the number of what a pid namespace hides: our own parent's, below `docker exec`
        if pid in (0, os.getpid()) or parent == 0 or parent not in (zygote, None):
            raise ValueError("its zygote sent the pidfd of a process that is not its child")
        return pid

    async def _send_request(self, number: int, opening: Callable[[], list[int]]) -> None:
        try:
            await self._requests.send(b"%d" % number, opening)
        except OSError as error:
            raise WorkerStartFailed(f"the worker of `{self._name}` has ended") from error

    def _adopt(self, number: int, process: ForkedProcess) -> None:
        early = self._early.pop(number, None)
        if early is not None:
            process.note_end(*early)
        elif self.alive:
            self._live[number] = process
            process.is_unreaped = self.wedged
        else:
            process.note_worker_lost()

    # ------------------------------------------------------------ what the zygote says

    def _read_control(self) -> None:
        for _ in range(64):  # then let others have the loop
            try:
                data, handed, _, _ = socket.recv_fds(self._launched.control, _PACKET_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                data, handed = b"", []
            try:
                if not data and has_hung_up(self._launched.control):
                    self._note_end()
                    return
                self._take(PACKETS.decode(data), handed)
            except (msgspec.DecodeError, ValueError, RecursionError, OSError) as error:
                if is_want_of_descriptors(error):
                    continue  # ours, and no fault of the zygote's
                self._fail_start(WorkerStartFailed(f"its zygote sent no packet: {error}"))
                self._launched.process.kill()
            finally:
                for descriptor in handed:
                    os.close(descriptor)

    def _take(self, packet: Packet, handed: list[int]) -> None:
        """Act on one packet; descriptors that stay in `handed` are closed."""
        if packet.nests:
            self._nests = True
        elif packet.failed is not None:
            self._fail_start(start_errors.told(self._name, packet.failed, stood=self._nests))
        elif packet.ready is not None:
            self._cancels = packet.ready.cancels
            if not self._starting.done():
                self._starting.set_result(None)
        elif packet.pong:
            self._pulse.heard()
        elif packet.forked is not None:
            answered = self._forking.get(packet.forked)
            if answered is not None and not answered.done() and handed:
                answered.set_result(handed.pop())
            elif answered is not None and not answered.done():
                # the kernel drops one for which there is no room here; or none was sent
                error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                answered.set_exception(self._no_descriptors(error))
            elif handed and self._own_child(handed[0]) > 0:  # nobody waits for it any more
                with suppress(ProcessLookupError):
                    syscalls.kill(handed[0])
        elif packet.refused is not None:
            answered = self._forking.get(packet.refused)
            if answered is not None and not answered.done():
                answered.set_exception(WorkerStartFailed(f"no fork: {packet.why}"))
        elif packet.ended is not None:
            process = self._live.pop(packet.ended, None)
            if process is not None:
                process.note_end(packet.status, packet.cpu_s, packet.peak_bytes)
            elif packet.ended in self._forking:
                self._early[packet.ended] = packet.status, packet.cpu_s, packet.peak_bytes

    def _fail_start(self, error: Exception) -> None:
        if not self._starting.done():
            self._starting.set_exception(error)

    def _note_wedged(self) -> None:
        """The zygote hangs, or is stopped: nobody waits for its answers any more."""
        self.wedged = True
        for answered in self._forking.values():
            if not answered.done():
                what = f"the worker of `{self._name}` does not answer"
                answered.set_exception(WorkerStartFailed(what, output=str(self._tail)))
        for process in self._live.values():
            process.is_unreaped = True

    def _note_end(self) -> None:
        """The zygote hung up: everything it forked is gone with it."""
        ended_by_itself = self.alive
        self._end()
        if ended_by_itself:
            self._on_end()

    def _end(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._tail.read_what_is_left()
        self._loop.remove_reader(self._launched.control.fileno())
        self._requests.stop()
        self._tail.stop()
        self._fail_start(start_errors.untold(self._name, str(self._tail), stood=self._nests))
        if not self._starting.cancelled():
            self._starting.exception()  # seen, even if nobody waits for it any more
        for answered in self._forking.values():
            if not answered.done():
                answered.set_exception(WorkerStartFailed("the worker ended"))
        for process in self._live.values():
            process.note_worker_lost()
        self._live.clear()
