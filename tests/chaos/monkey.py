"""What disturbs: a seeded choice of kills, stops, cuts, a full disk, no descriptors."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress

from tests.chaos import processes
from tests.chaos.server import Server
from tests.protocol.proxy import Cutter

_FILL_AT_ONCE = 64 * 1024
_VICTIMS = ("session", "zygote", "launcher", "runner", "keeper", "interpreter")
_MARGIN = 4  # descriptors: so near to its limit the hub counts as having none
_Deed = Callable[[], Awaitable[None]]


class Monkey:
    """Disturbs one server, its processes alone, and its clients' connections.

    Args:
        server: whose processes are victims.
        cutters: the proxies that clients connect through.
        replace_client: kills a client program, and starts another in its place.
        seed: of its choices.
    """

    def __init__(
        self,
        server: Server,
        cutters: Sequence[Cutter],
        replace_client: Callable[[random.Random], Awaitable[None]],
        seed: int,
    ) -> None:
        self._server = server
        self._cutters = cutters
        self._replace_client = replace_client
        self._random = random.Random(seed)
        self._pending: set[asyncio.Task[None]] = set()  # to let a process go on
        self._lasting: set[asyncio.Task[None]] = set()  # what takes its time by itself
        self._stopped: set[int] = set()  # pidfds of those that are to go on
        self.did: Counter[str] = Counter()
        self._deeds: tuple[tuple[float, _Deed], ...] = (
            (60, self._kill),
            (30, self._stop),
            (10, self._cut),
            (2, self._beside(self._refuse)),
            (1.2, self._stop_hub),
            (0.8, self._kill_client),
            (1, self._beside(self._fill_disk)),
            (0.8, self._beside(self._exhaust_descriptors)),
        )

    async def disturb(self, until: float, mean_pause_s: float) -> None:
        """Disturb until the loop's clock says so."""
        loop = asyncio.get_running_loop()
        weights = [weight for weight, _ in self._deeds]
        rare = {
            loop.time() + self._random.uniform(0, until - loop.time()): deed
            for _, deed in self._deeds
        }  # each at least once
        while loop.time() < until:
            await asyncio.sleep(self._random.expovariate(1 / mean_pause_s))
            due = [at for at in rare if at <= loop.time()]
            some = [rare.pop(at) for at in due]
            some.append(self._random.choices(self._deeds, weights)[0][1])
            for deed in some:
                await deed()

    async def rest(self) -> None:
        """Let everything go on that was stopped."""
        await asyncio.gather(*self._lasting)
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        for pidfd in list(self._stopped):
            self._go_on(pidfd)
        for cutter in self._cutters:
            cutter.refuse(False)

    # ------------------------------------------------------------ processes

    async def _kill(self) -> None:
        kind, pidfd = self._victim()
        if pidfd >= 0:
            self.did[f"SIGKILL of {_a(kind)}"] += processes.send(pidfd, signal.SIGKILL)
            os.close(pidfd)

    async def _stop(self) -> None:
        kind, pidfd = self._victim()
        if pidfd < 0 or not processes.send(pidfd, signal.SIGSTOP):
            return
        self.did[f"SIGSTOP of {_a(kind)}"] += 1
        self._stopped.add(pidfd)
        stays = self._random.random() < 0.15  # until its deadline, or the heartbeat, ends it
        self._later(60.0 if stays else self._random.uniform(0.05, 4.0), pidfd)

    async def _stop_hub(self) -> None:
        for_s = self._random.uniform(0.5, 4.0)
        pidfd = os.pidfd_open(self._server.pid)
        try:
            processes.send(pidfd, signal.SIGSTOP)
            self.did["SIGSTOP of the hub"] += 1
            await asyncio.sleep(for_s)
        finally:
            processes.send(pidfd, signal.SIGCONT)
            os.close(pidfd)

    async def _kill_client(self) -> None:
        await self._replace_client(self._random)
        self.did["SIGKILL of a client"] += 1

    def _victim(self) -> tuple[str, int]:
        kinds = processes.by_kind(self._server.pid)
        weights = (15, 0.5, 0.4, 0.6, 2, 2)  # with a zygote end all its sessions
        kind = self._random.choices(_VICTIMS, weights)[0]
        some = sorted(kinds[kind], key=lambda process: process.pid)
        if not some:
            return kind, -1
        return kind, processes.open_victim(self._random.choice(some))

    def _later(self, after_s: float, pidfd: int) -> None:
        async def go_on() -> None:
            await asyncio.sleep(after_s)
            self._go_on(pidfd)

        task = asyncio.get_running_loop().create_task(go_on())
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def _go_on(self, pidfd: int) -> None:
        processes.send(pidfd, signal.SIGCONT)
        self._stopped.discard(pidfd)
        os.close(pidfd)

    def _beside(self, deed: Callable[[], Coroutine[None, None, None]]) -> _Deed:
        """Return a deed that goes on beside others, but not beside itself."""
        lock = asyncio.Lock()

        async def alone() -> None:
            async with lock:
                await deed()

        async def begin() -> None:
            if not lock.locked():
                task = asyncio.get_running_loop().create_task(alone())
                self._lasting.add(task)
                task.add_done_callback(self._lasting.discard)

        return begin

    # ------------------------------------------------------------ connections

    async def _cut(self) -> None:
        self._random.choice(self._cutters).cut()
        self.did["connections of a proxy cut"] += 1

    async def _refuse(self) -> None:
        cutter = self._random.choice(self._cutters)
        cutter.refuse(True)
        cutter.cut()
        self.did["connections of a proxy refused for a while"] += 1
        await asyncio.sleep(self._random.uniform(0.2, 3.0))
        cutter.refuse(False)

    # ------------------------------------------------------------ what is used up

    async def _fill_disk(self) -> None:
        path = self._server.disk / "filling"
        with suppress(OSError), path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(_FILL_AT_ONCE))
        self.did["the server's disk filled"] += 1
        try:
            await asyncio.sleep(self._random.uniform(1.0, 4.0))
        finally:
            path.unlink()

    async def _exhaust_descriptors(self) -> None:
        """Hold idle connections until the hub can accept no more."""
        server, held = self._server, []
        port = int(server.url.rpartition(":")[2])
        try:
            for _ in range(server.most_descriptors):
                idle = socket.socket()
                idle.setblocking(False)
                idle.connect_ex(("127.0.0.1", port))
                held.append(idle)
                if len(held) % 16 == 0:
                    await asyncio.sleep(0.01)
                    left = server.most_descriptors - processes.descriptors(server.pid)
                    if left <= _MARGIN:
                        break
            await asyncio.sleep(self._random.uniform(1.0, 3.0))
            left = server.most_descriptors - processes.descriptors(server.pid)
            if left <= _MARGIN:
                self.did["the hub's descriptors exhausted"] += 1
            else:  # by its own count of connections, or it is stopped at the moment
                self.did["idle connections, which the hub bears"] += 1
        finally:
            for idle in held:
                idle.close()


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "interpreter" else f"a {kind}"
