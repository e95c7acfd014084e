"""The pool of one environment: its worker, and session processes made ahead of demand.

One worker is enough: its zygote forks faster than the machine can run what it forks. A worker
that dies is replaced at the next lease; one whose *start* fails is not tried again until the
environment's files change, for it would fail the same way.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from envhub.errors import BuildFailed, CapacityError, EnvhubError, WorkerStartFailed
from envhub.hub import build, views
from envhub.hub.broker import Broker
from envhub.hub.manifest import Manifest
from envhub.hub.process import ForkedProcess, SessionProcess
from envhub.hub.starter import Starter
from envhub.hub.watchdog import Watchdog
from envhub.hub.worker import Worker
from envhub_sandbox import Limits, SandboxError

_log = logging.getLogger(__name__)
READY = 2  # processes kept ahead: one for the next session, one while that is replaced


@dataclass
class Lease:
    """A session's hold on one process. Ended by `Pool.end`.

    Args:
        process: isolated, with nothing constructed when it is new.
        broker: what serves its wishes for agent sandboxes; None if it may have none.
    """

    process: SessionProcess
    broker: Broker | None


class Pool:
    """Leases session processes of one environment.

    Args:
        manifest: of the environment.
        starter: starts workers.
        tasks: where background work runs; it outlives the pool.
        watchdog: holds limits that rlimits cannot.
        variables: environment variables that the operator allows it.
    """

    def __init__(
        self,
        manifest: Manifest,
        starter: Starter,
        tasks: TaskGroup,
        watchdog: Watchdog,
        variables: Mapping[str, str],
    ) -> None:
        self.manifest = manifest
        self._starter = starter
        self._tasks = tasks
        self._watchdog = watchdog
        self._variables = variables
        self._worker: Worker | None = None
        self._runner: Worker | None = None
        self._starting = anyio.Lock()
        self._starting_runner = anyio.Lock()
        self._wedged: list[Worker] = []
        self._ready: deque[SessionProcess] = deque()
        self._making_ready = False
        self._broken: tuple[float, Exception] | None = None
        self._closed = False

    async def lease(self) -> Lease:
        """Return a process of its own for a session.

        Raises:
            SandboxError: a layer of isolation is missing.
            WorkerStartFailed: the environment cannot be started.
            CapacityError: the hub is closing.
        """
        if self._closed:
            raise CapacityError("the hub is closing")
        process = self._take_ready() or await self._fork_in_a_live_worker()
        self._replenish()
        broker = None
        if process.broker is not None:
            broker = Broker(process, self._ready_runner, self._hold_agent, self._tasks)
        return Lease(process, broker)

    async def end(self, lease: Lease) -> None:
        """Kill the process with everything it holds, and give its descriptors back."""
        with anyio.CancelScope(shield=True):
            if lease.broker is not None:
                await lease.broker.aclose()
            await _end(lease.process)
        self._tidy()

    async def aclose(self) -> None:
        """End the workers, and all that they forked. Idempotent."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            # a start under way holds its lock, so that its worker is here when we have it
            async with self._starting, self._starting_runner:
                for worker in (self._worker, self._runner, *self._wedged):
                    if worker is not None:
                        await worker.aclose()
                self._drop_ready()

    # ------------------------------------------------------------ session processes

    async def _fork_in_a_live_worker(self) -> SessionProcess:
        """Fork; if the worker, which had started well, dies meanwhile, try with another."""
        worker = await self._ready_worker()
        try:
            return await self._fork(worker)
        except WorkerStartFailed:
            if worker.alive:
                raise
        return await self._fork(await self._ready_worker())

    async def _fork(self, worker: Worker) -> SessionProcess:
        process = await worker.fork(
            self.manifest.deadlines.start_s, broker=self.manifest.agent_code
        )
        self._hold(process, self.manifest.limits)
        return process

    def _hold_agent(self, process: ForkedProcess) -> None:
        self._hold(process, self.manifest.runner.limits)

    def _hold(self, process: ForkedProcess, limits: Limits) -> None:
        """Have limits held that the process cannot hold on itself."""
        process.limits = limits
        self._watchdog.watch(process, count_processes=not self._starter.grade.counts_processes)

    def _take_ready(self) -> SessionProcess | None:
        while self._ready:
            process = self._ready.popleft()
            if process.verdict is None and not process.has_ended:
                return process
            process.discard()  # its end may be a lie
        return None

    def _replenish(self) -> None:
        if not self._making_ready and not self._closed:
            self._making_ready = True
            self._tasks.start_soon(self._make_ready)

    async def _make_ready(self) -> None:
        try:
            while len(self._ready) < READY and self._worker is not None and not self._closed:
                process = await self._fork(self._worker)
                if self._closed:
                    await _end(process)
                    return
                self._ready.append(process)
        except (EnvhubError, SandboxError, OSError):
            pass  # the next lease meets the same error, and has somebody to tell it to
        except Exception:  # a bug of ours must not end every pool's tasks
            _log.exception("no process made ahead for %s", self.manifest.name)
        finally:
            self._making_ready = False

    def _drop_ready(self) -> None:
        while self._ready:
            self._ready.popleft().discard()

    # ------------------------------------------------------------ workers

    async def _ready_worker(self) -> Worker:
        async with self._starting:
            if self._closed:
                raise CapacityError("the hub is closing")
            if self._worker is not None and self._worker.usable:
                return self._worker
            await self._forget_worker()
            self._raise_if_broken()
            changed = self._newest_change()
            try:
                manifest = await self._built()
                with anyio.CancelScope(shield=True):
                    worker = self._worker = await self._starter.start(
                        manifest.name,
                        views.worker_view(manifest, self._variables),
                        partial(views.worker_command, manifest),
                        deadline_s=manifest.deadlines.start_s,
                        cpu_limit_s=manifest.limits.cpu_s,
                        open_network=manifest.network == "public",
                        on_end=self._drop_ready,
                    )
            except (WorkerStartFailed, SandboxError, BuildFailed) as error:
                self._broken = (changed, error)
                raise
            return worker

    async def _built(self) -> Manifest:
        """Return the manifest with the Python that it runs in, which is built on first use."""
        manifest = self.manifest
        if manifest.format == "openenv" and not manifest.python:
            build_python = partial(build.python_for, manifest)
            folder = await anyio.to_thread.run_sync(build_python, abandon_on_cancel=True)
            manifest = msgspec.structs.replace(manifest, python=folder)
        return manifest

    async def _ready_runner(self) -> Worker:
        async with self._starting_runner:
            if self._closed:
                raise CapacityError("the hub is closing")
            if self._runner is not None and self._runner.usable:
                return self._runner
            if self._runner is not None:
                await self._part_with(self._runner)
            manifest = self.manifest
            with anyio.CancelScope(shield=True):
                runner = self._runner = await self._starter.start(
                    f"{manifest.name}, for agent code",
                    views.runner_view(manifest),
                    partial(views.runner_command, manifest),
                    deadline_s=manifest.deadlines.start_s,
                    cpu_limit_s=manifest.runner.limits.cpu_s,
                    on_end=lambda: None,
                )
            return runner

    async def _forget_worker(self) -> None:
        if self._worker is not None:
            self._drop_ready()
            await self._part_with(self._worker)
            self._worker = None

    async def _part_with(self, worker: Worker) -> None:
        """End a worker that has ended; leave a wedged one to the sessions that it holds."""
        if worker.alive:
            self._wedged.append(worker)
            self._tidy()
        else:
            await worker.aclose()

    def _tidy(self) -> None:
        """Close wedged workers that no session needs any more; it takes them a while."""
        if not self._closed and any(worker.is_idle for worker in self._wedged):
            self._tasks.start_soon(self._close_wedged)

    async def _close_wedged(self) -> None:
        with anyio.CancelScope(shield=True):
            for worker in [worker for worker in self._wedged if worker.is_idle]:
                await worker.aclose()
                if worker in self._wedged:
                    self._wedged.remove(worker)

    def _raise_if_broken(self) -> None:
        if self._broken is None:
            return
        since, error = self._broken
        if self._newest_change() == since:
            raise error
        self._broken = None

    def _newest_change(self) -> float:
        newest = 0.0
        for folder, _, files in os.walk(self.manifest.folder):
            for name in files:
                if not name.endswith(".pyc"):
                    newest = max(newest, Path(folder, name).stat().st_mtime)
        return newest


async def _end(process: SessionProcess) -> None:
    process.kill("closed")
    with anyio.CancelScope(shield=True):  # or nobody would give its descriptors back
        await process.wait_verdict()
    process.close_descriptors()
