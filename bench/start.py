"""How long a session waits for an isolated process of its own.

From the request to the process's own report that every layer stands: with nothing made ahead
(warm zygote), from the ready pool, and cold, beside what starting a Python interpreter costs
on the same machine in the same minute.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio

import envhub
import envhub_sandbox
from bench.figures import Group
from bench.plan import NATIVE, NUMPY, Plan, environments
from bench.processes import run_to_end
from envhub.hub.environments.catalog import Catalog
from envhub.hub.environments.manifest import Manifest
from envhub.hub.workers import views
from envhub.hub.workers.pool import READY
from envhub.hub.workers.starter import Starter
from envhub.hub.workers.worker import Worker

DEADLINE_S = 600.0
TARGET_MS = 3.0
_WARM_TARGET, _READY_TARGET = 25.0, 200.0  # of a fresh interpreter with numpy, over ours
_FORKS, _SPAWNS, _OPENS = 20, 5, 10  # in one block
_FLOORS = {
    "python -c pass": ("", "pass"),
    "bwrap, python -c pass": ("bwrap", "pass"),
    "bwrap, python -c 'import numpy'": ("bwrap", "import numpy"),
}
_FRESH = "bwrap, python -c 'import numpy'"
_BWRAP = (
    *("--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"),
    *("--proc", "/proc", "--dev", "/dev"),  # and no --tmpfs /tmp: we may live there
)


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    with environments(plain=NATIVE, numpy=NUMPY) as folder:
        await _warm(group, plan, folder)
        for launcher in plan.launchers:
            await _from_ready_pool(group, plan, folder, launcher)
        for launcher in plan.launchers:
            for name, what in (("plain", "nothing imported"), ("numpy", "numpy")):
                times = [await _cold(folder, launcher, name) for _ in range(plan.times(20))]
                group.add(f"cold, {what}, {launcher}", "ms", times, keep=True)
    return group


async def _warm(group: Group, plan: Plan, folder: Path) -> None:
    """Fork from warm zygotes and start the floors, a block of each in every round.

    In blocks, because a program started between two forks leaves the caches cold for the
    second, and sessions are opened in a row.
    """
    async with AsyncExitStack() as stack:
        workers: dict[str, Worker] = {}
        for launcher in plan.launchers:
            for name, what in (("numpy", "numpy"), ("plain", "nothing imported")):
                manifest = Catalog([folder])[name]
                worker = await _worker(manifest, launcher)
                stack.push_async_callback(worker.aclose)
                workers[f"warm zygote, {what}, {launcher}"] = worker
        floors = {
            name: _line(*how)
            for name, how in _FLOORS.items()
            if not how[0] or envhub_sandbox.bubblewrap()
        }
        times: dict[str, list[float]] = {name: [] for name in (*workers, *floors)}
        blocks: dict[str, list[float]] = {name: [] for name in times}
        order = list(times)
        for _ in range(plan.times(20)):
            random.shuffle(order)
            for name in order:
                if name in workers:
                    taken = [await _fork(workers[name]) for _ in range(_FORKS)]
                else:
                    taken = [run_to_end(floors[name]) * 1000 for _ in range(_SPAWNS)]
                times[name] += taken
                blocks[name].append(statistics.median(taken))
    for name in workers:
        target = TARGET_MS if "numpy" in name else None
        group.add(name, "ms", times[name], target, keep=True)
    for name in floors:
        group.add(name, "ms", times[name], note="floor", keep=True)
    first = next(iter(workers))
    for name in floors:
        target = _WARM_TARGET if name == _FRESH else None
        group.add_ratio(f"{name} ÷ {first}", blocks[name], blocks[first], target=target)


async def _worker(manifest: Manifest, launcher: str) -> Worker:
    return await Starter("strict", launcher).start(
        manifest.name,
        views.worker_view(manifest, {}),
        partial(views.worker_command, manifest),
        deadline_s=manifest.deadlines.start_s,
        cpu_limit_s=0,
        on_end=lambda: None,
    )


async def _fork(worker: Worker) -> float:
    start = time.perf_counter()
    process = await worker.fork(30.0, broker=False)
    taken = time.perf_counter() - start
    process.kill("closed")
    await process.wait_verdict()
    process.close_descriptors()
    return taken * 1000


def _line(sandbox: str, code: str) -> list[str]:
    python = [sys.executable, "-c", code]
    return [envhub_sandbox.bubblewrap() or "", *_BWRAP, *python] if sandbox else python


async def _from_ready_pool(group: Group, plan: Plan, folder: Path, launcher: str) -> None:
    times: list[float] = []
    blocks: list[float] = []
    fresh: list[float] = []
    async with envhub.Hub(folder, launcher=launcher) as hub:
        async with hub.session("numpy"):
            pass
        for _ in range(plan.times(20)):
            taken = [await _open(hub) for _ in range(_OPENS)]
            times += taken
            blocks.append(statistics.median(taken))
            if envhub_sandbox.bubblewrap():
                fresh.append(run_to_end(_line(*_FLOORS[_FRESH])) * 1000)
    name = f"hub.open, from the ready pool, {launcher}"
    group.add(name, "ms", times, keep=True)
    if fresh:
        group.add_ratio(f"{_FRESH} ÷ {name}", fresh, blocks, target=_READY_TARGET)


async def _open(hub: envhub.Hub) -> float:
    pool = hub._pools["numpy"]  # only to know when it is full again
    with anyio.fail_after(30):
        while len(pool._ready) < READY:  # noqa: ASYNC110 (it has no event)
            await anyio.sleep(0.001)
    start = time.perf_counter()
    session = await hub.open("numpy")
    taken = time.perf_counter() - start
    await session.aclose()
    return taken * 1000


async def _cold(folder: Path, launcher: str, name: str) -> float:
    async with envhub.Hub(folder, launcher=launcher) as hub:
        start = time.perf_counter()
        session = await hub.open(name)
        taken = time.perf_counter() - start
        await session.aclose()
    return taken * 1000
