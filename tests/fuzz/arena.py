"""One real hub with hostile environments, neighbours who keep asking it, and its measures."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from envhub import Hub, Session
from envhub.door.serve import serve
from envhub.errors import SessionClosed
from envhub.hub.background import BackgroundHub
from envhub.hub.workers.pool import READY, Pool
from envhub_sandbox import launcher

HERE = Path(__file__).parent
ENVS = HERE.parents[1] / "envs"
HOSTILE = ("hostile", "hurried-hostile", "zygote", "hurried-zygote")
HURRIED_S = 0.6
PATIENT_S = 20.0
MANIFEST = """
name = "{name}"
entry = "env:Hostile"
agent_code = {agent_code}
[deadlines]
start_s = {start_s}
reset_s = {call_s}
step_s = {call_s}
state_s = {call_s}
close_s = {call_s}
"""
_LEFT_TO_INIT = ("State:\tZ", "PPid:\t1\n")  # dead, and the machine's to reap
_ANSWER_S = 60.0  # for the hub to answer at all
_BEAT_S = 0.01
T = TypeVar("T")


@dataclass(frozen=True)
class Counts:
    """What the hub holds of the machine."""

    descriptors: int
    processes: int


class Arena:
    """A hub on a thread of its own, and whom it serves.

    Args:
        settle_s: for what was ended to be gone.
    """

    def __init__(self, settle_s: float = 8.0) -> None:
        self._settle_s = settle_s
        self._folder = Path(tempfile.mkdtemp(prefix="envhub-fuzz-"))
        self._folder.chmod(0o755)  # another user than root runs it
        for name in HOSTILE:
            self._write_environment(name)
        self.errors: list[str] = []
        self.worst_lag_s = 0.0
        self._began = time.time()
        self._hook, threading.excepthook = threading.excepthook, self._note_thread
        self._uid = launcher.spare_uid() if os.geteuid() == 0 else -1
        self.hub = Hub([self._folder, ENVS])
        self.background = BackgroundHub(self.hub)
        self._tasks: list[asyncio.Task[None]] = []
        self._neighbours: dict[str, Session] = {}
        self._bases: dict[str, Counts] = {}
        self.port = self.do(self._open())
        self._way = str(self.hub.starter._ways[0])

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the hub's loop; it has a deadline."""

        async def bounded() -> T:
            async with asyncio.timeout(_ANSWER_S):
                return await work

        try:
            return self.background.do(bounded())
        except SessionClosed:
            work.close()  # perhaps it was never begun
            raise

    def program_of(self, name: str) -> Path:
        """Return the file that a zygote reads its program from."""
        return self._folder / name / "program.json"

    def prepare(self, name: str) -> None:
        """Have an environment warm, with a neighbour in it, and take its counts."""
        if name in self._bases:
            return
        if not self.is_zygote(name):
            self._neighbours[name] = self.do(self._opened(name))
        self._bases[name] = Counts(0, 0)
        self.do(self._visit(name))
        self._bases.clear()  # the counts of the others have grown by this one
        self.do(self._all_ready())
        self._bases = dict.fromkeys([*self._neighbours, *self.hub._pools], self.counts())

    def is_zygote(self, name: str) -> bool:
        """Whether programs of it are played at import."""
        return name.endswith("zygote")

    def complaints(self, name: str) -> list[str]:
        """Return what is not as it was before the case."""
        found = [*self.errors]
        self.errors.clear()
        if not self.background.alive:
            return [*found, "the hub is dead"]
        if self.worst_lag_s > 1.5:
            found.append(f"the hub's loop stood still for {self.worst_lag_s:.1f} s")
        self.worst_lag_s = 0.0
        if self._way != str(self.hub.starter._ways[0]):
            found.append("the hub gave up its launcher")
        for other, session in self._neighbours.items():
            found += self._ask(other, session)
        return found + self.unsettled(name)

    def end_worker(self, name: str) -> None:
        """Kill an environment's worker, so that the next lease starts another."""
        self.do(self._end_worker(name))

    def counts(self) -> Counts:
        """Return what is held now."""
        return Counts(len(os.listdir("/proc/self/fd")), len(self.processes()))

    def processes(self) -> set[int]:
        """Return our processes; of a root hub, also those that lost their parent."""
        if self._uid < 0:
            return _descendants(os.getpid())
        mine = f"\nUid:\t{self._uid}\t"
        found = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with suppress(OSError):
                    status = Path("/proc", entry, "status").read_text()
                    if mine in status and not all(word in status for word in _LEFT_TO_INIT):
                        found.add(int(entry))
        return found

    def close(self) -> list[str]:
        """End the hub; return what is left of it."""
        with suppress(SessionClosed):
            self.do(self._close())
        self.background.close()
        threading.excepthook = self._hook
        found = self.errors
        until = time.monotonic() + self._settle_s
        while (left := self.processes()) and time.monotonic() < until:
            os.sched_yield()
        if left:
            found.append(f"{len(left)} process(es) outlived the hub")
        for pid in left:
            with suppress(OSError):
                if Path(f"/proc/{pid}").stat().st_ctime >= self._began:  # ours for certain
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._folder)
        return found

    # ------------------------------------------------------------ on the hub's loop

    async def _open(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._note_error)
        port: asyncio.Future[int] = loop.create_future()
        door = serve(self.hub, host="127.0.0.1", port=0, default=None, on_ready=port.set_result)
        self._tasks = [loop.create_task(door), loop.create_task(self._beat())]
        self._neighbours["echo"] = await self._opened("echo")
        return await port

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            self.worst_lag_s = max(self.worst_lag_s, time.monotonic() - before - _BEAT_S)

    async def _opened(self, name: str) -> Session:
        session = await self.hub.open(name)
        await session.reset()
        return session

    async def _visit(self, name: str) -> None:
        async with self.hub.session(name) as session:
            await session.reset()
            await session.step({})
            if not self.is_zygote(name):  # the runner counts, too
                ask = "82a474797065a96f70656e6167656e74a56167656e7409"
                await session.step({"program": [{"do": "send", "to": "broker", "hex": ask}]})
                await self._until(lambda: self.hub._pools[name]._runners.current is not None)

    async def _all_ready(self) -> None:
        for pool in self.hub._pools.values():
            await self._until(lambda pool=pool: _is_ready(pool))  # type: ignore[misc]

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():  # noqa: ASYNC110  (the hub has no event for it)
            await asyncio.sleep(_BEAT_S)

    async def _end_worker(self, name: str) -> None:
        pool = self.hub._pools.get(name)
        for worker in [pool._workers.current, *pool._workers.wedged] if pool else []:
            if worker is not None and worker.alive:
                worker._launched.process.kill()
                with suppress(TimeoutError):
                    async with asyncio.timeout(3):
                        await self._until(lambda worker=worker: not worker.alive)  # type: ignore[misc]

    # ------------------------------------------------------------ checks

    def _ask(self, name: str, session: Session) -> list[str]:
        word = f"well {time.monotonic()}"
        if name == "echo":
            heard, expected = {"message": word}, "message"
        else:
            heard, expected = {"say": word}, "said"
        try:
            result = self.do(session.step(heard))
        except Exception as error:
            return [f"the neighbour in `{name}`: {type(error).__name__}: {error}"]
        if result.observation[expected] != word:
            return [f"the neighbour in `{name}` was told {result.observation}"]
        return []

    def unsettled(self, name: str) -> list[str]:
        """Return what is held beyond the base, after a while for it to go."""
        base = self._bases[name]
        until = time.monotonic() + self._settle_s
        while time.monotonic() < until:
            now = self.counts()
            if now.descriptors <= base.descriptors and now.processes <= base.processes:
                return []
            self.do(asyncio.sleep(_BEAT_S))
        found = []
        if now.descriptors > base.descriptors:
            found.append(f"{now.descriptors - base.descriptors} descriptor(s) leaked")
        if now.processes > base.processes:
            found.append(f"{now.processes - base.processes} process(es) leaked")
        return found

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"logged: {context.get('message')}: {error!r}")

    def _note_thread(self, args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.errors.append(f"the hub's thread ended: {error!r}")

    def _write_environment(self, name: str) -> None:
        folder = self._folder / name
        folder.mkdir(mode=0o755)
        hurried, is_zygote = name.startswith("hurried"), self.is_zygote(name)
        manifest = MANIFEST.format(
            name=name,
            agent_code=str(not is_zygote).lower(),
            start_s=2.0 if hurried and is_zygote else PATIENT_S,
            call_s=HURRIED_S if hurried else PATIENT_S,
        )
        (folder / "env.toml").write_text(manifest)
        (folder / "env.py").write_text((HERE / "hostile.py").read_text())


def _is_ready(pool: Pool) -> bool:
    return len(pool._ready) == READY and not pool._making_ready


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found |= {int(child), *_descendants(int(child))}
    return found


def reset_peak() -> int:
    """Forget the largest size that this process had; return its size now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Return the largest size since, in MiB."""
    return _status("VmHWM")


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) // 1024
