"""The pool of one environment: its worker, and session processes made ahead of demand.

One worker is enough: its zygote forks faster than the machine can run what it forks. A worker
that ends, or is wedged, is replaced at the next lease. One whose *start* fails is not tried
again until the environment's files change, where it would fail the same way; where that was
perhaps the machine's fault, after a while.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from envhub.errors import BuildFailed, CapacityError, EnvhubError, WorkerStartFailed
from envhub.hub.accounts.counters import Counters
from envhub.hub.environments import build, fingerprint
from envhub.hub.environments.manifest import Manifest
from envhub.hub.places.census import Used
from envhub.hub.places.watchdog import Watchdog
from envhub.hub.workers import start_errors, views
from envhub.hub.workers.backoff import BackOff
from envhub.hub.workers.broker import Broker
from envhub.hub.workers.process import ForkedProcess, SessionProcess
from envhub.hub.workers.pulse import PATIENCE_S
from envhub.hub.workers.starter import Starter
from envhub.hub.workers.succession import Succession
from envhub.hub.workers.worker import Worker
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

    def used_so_far(self) -> Used:
        """Return what the process and its agent sandboxes have used."""
        used = self.process.used_so_far()
        return used if self.broker is None else used + self.broker.used_so_far()


@dataclass
class _Broken:
    """A start that failed.

    Args:
        error: why.
        files: fingerprint of the environment's files then.
    """

    error: EnvhubError | SandboxError
    files: bytes


class Pool:
    """Leases session processes of one environment.

    Args:
        manifest: of the environment.
        starter: starts workers.
        tasks: where background work runs; it outlives the pool.
        watchdog: holds limits that rlimits cannot.
        variables: environment variables that the operator allows it.
        heartbeat_s: within which its zygotes must answer.
    """

    def __init__(
        self,
        manifest: Manifest,
        starter: Starter,
        tasks: TaskGroup,
        watchdog: Watchdog,
        variables: Mapping[str, str],
        heartbeat_s: float = PATIENCE_S,
    ) -> None:
        self.manifest = manifest
        self._starter = starter
        self._tasks = tasks
        self._watchdog = watchdog
        self._variables = variables
        self._heartbeat_s = heartbeat_s
        start_s, name = manifest.deadlines.start_s, manifest.name
        self._workers = Succession(
            name,
            self._start,
            tasks,
            wait_s=start_s,
            on_gone=self._drop_ready,
            has_changed=self._has_changed,
        )
        self._runners = Succession(
            f"{name}, for agent code", self._start_runner, tasks, wait_s=start_s
        )
        self._ready: deque[SessionProcess] = deque()
        self._making_ready = False
        self._files = b""  # fingerprint of those of the last worker
        self._broken: _Broken | None = None
        self._starts = BackOff()  # of starts that have failed
        self._closed = False

    @property
    def broken(self) -> EnvhubError | SandboxError | None:
        """Why the environment does not start; None if it has, or nobody has tried."""
        return self._broken.error if self._broken is not None else None

    @property
    def counters(self) -> Counters:
        """Those of the hub."""
        return self._starter.counters

    @property
    def stock(self) -> tuple[int, int]:
        """How many workers live, and how many processes are ready ahead of demand."""
        return self._workers.alive + self._runners.alive, len(self._ready)

    async def lease(self) -> Lease:
        """Return a process of its own for a session.

        Raises:
            SandboxError: a layer of isolation is missing.
            WorkerStartFailed: the environment cannot be started.
            CapacityError: the hub is closing, or its workers end again and again.
        """
        if self._closed:
            raise CapacityError("the hub is closing")
        process = self._take_ready() or await self._fork_in_a_live_worker()
        self._replenish()
        broker = None
        if process.broker is not None:
            broker = Broker(process, self._runners.worker, self._hold_agent, self._tasks)
        return Lease(process, broker)

    async def end(self, lease: Lease) -> None:
        """Kill the process with everything it holds, and give its descriptors back."""
        with anyio.CancelScope(shield=True):
            if lease.broker is not None:
                await lease.broker.aclose()
            await _end(lease.process)
        self._workers.tidy()
        self._runners.tidy()

    def look(self) -> None:
        """See whether the workers still answer. To be called every now and then."""
        self._workers.look()
        self._runners.look()

    async def aclose(self) -> None:
        """End the workers, and all that they forked. Idempotent."""
        self._closed = True
        await self._workers.aclose()
        await self._runners.aclose()
        self._drop_ready()

    # ------------------------------------------------------------ session processes

    async def _fork_in_a_live_worker(self) -> SessionProcess:
        """Fork; if the worker, which had started well, is lost meanwhile, try with another."""
        worker = await self._workers.worker()
        try:
            return await self._fork(worker)
        except WorkerStartFailed:
            if worker.usable:
                raise
        return await self._fork(await self._workers.worker())

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
            while len(self._ready) < READY and (worker := self._workers.current):
                process = await self._fork(worker)
                if self._closed or worker is not self._workers.current:
                    await _end(process)
                    return  # or they would be of another worker than the next
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

    async def _start(self, on_end: Callable[[], None]) -> Worker:
        files = self._files = await self._fingerprint()
        self._raise_if_broken(files)
        try:
            manifest = await self._built()
            with anyio.CancelScope(shield=True):
                worker = await self._starter.start(
                    manifest.name,
                    views.worker_view(manifest, self._variables),
                    partial(views.worker_command, manifest),
                    deadline_s=manifest.deadlines.start_s,
                    cpu_limit_s=manifest.limits.cpu_s,
                    open_network=manifest.network == "public",
                    on_end=on_end,
                    heartbeat_s=self._heartbeat_s,
                )
        except (WorkerStartFailed, SandboxError, BuildFailed) as error:
            self._broken = _Broken(error, files)
            self.counters.broke(self.manifest.name, error)
            self._starts.failed()
            raise
        self._broken, self._starts = None, BackOff()
        return worker

    async def _start_runner(self, on_end: Callable[[], None]) -> Worker:
        manifest = self.manifest
        with anyio.CancelScope(shield=True):
            runner = await self._starter.start(
                f"{manifest.name}, for agent code",
                views.runner_view(manifest),
                partial(views.runner_command, manifest),
                deadline_s=manifest.deadlines.start_s,
                cpu_limit_s=manifest.runner.limits.cpu_s,
                on_end=on_end,
                heartbeat_s=self._heartbeat_s,
            )
        return runner

    async def _built(self) -> Manifest:
        """Return the manifest with the Python that it runs in, which is built on first use."""
        manifest = self.manifest
        if manifest.builds and not manifest.python:
            build_python = partial(build.python_for, manifest)
            folder = await anyio.to_thread.run_sync(build_python, abandon_on_cancel=True)
            manifest = msgspec.structs.replace(manifest, python=folder)
        return manifest

    def _raise_if_broken(self, files: bytes) -> None:
        if self._broken is None or files != self._broken.files:
            return
        if start_errors.is_lasting(self._broken.error) or self._starts.left_s:
            raise self._broken.error.with_traceback(None)  # or that grows each time

    async def _has_changed(self) -> bool:
        return await self._fingerprint() != self._files

    async def _fingerprint(self) -> bytes:
        work = partial(fingerprint.of_folder, self.manifest.folder)
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        except RuntimeError:  # no thread is left: what forks next says so, and names the layer
            return work()


async def _end(process: SessionProcess) -> None:
    process.kill("closed")
    with anyio.CancelScope(shield=True):  # or nobody would give its descriptors back
        await process.wait_verdict()
    process.close_descriptors()
