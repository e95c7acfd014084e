"""What an idle session costs in memory, with a thousand of them alive.

Two ways that must agree: by how much the machine's available memory fell, which counts the
kernel's share, too, and PSS, which does not. Available memory is everybody's, so it is read
before and after, and the drift between the two, other people's work, is a figure of its own.
"""

from __future__ import annotations

import gc
import statistics
import time

import anyio

import envhub
from bench import machine, processes
from bench.figures import Group
from bench.plan import ENVS, Plan
from envhub.hub.session import Session

DEADLINE_S = 1200.0
TARGET_MB = 2.0
_SESSIONS, _MANY = 1000, 4000
_MANY_TARGET_GB = 8.0
_SAMPLE = 60
_LEAST_FOR_REAL = 50  # below, the machine's own noise is larger than the sessions
_IN_FLIGHT = 4
_MB = 1e6
_KERNEL = ("SUnreclaim", "PageTables", "KernelStack", "Percpu")


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    sessions = 50 if plan.quick else _SESSIONS
    rounds = 1 if plan.quick else 3
    await _measure(group, "echo", sessions, rounds, target=TARGET_MB)
    await _measure(group, "coding", sessions, rounds, target=TARGET_MB)
    await _measure(group, "coding", sessions, 1, agents=True)
    await _measure(group, "echo", 100 if plan.quick else _MANY, 1, target=TARGET_MB, many=True)
    return group


async def _measure(
    group: Group,
    name: str,
    sessions: int,
    rounds: int,
    *,
    agents: bool = False,
    many: bool = False,
    target: float | None = None,
) -> None:
    what = f"{name} with an agent sandbox" if agents else name
    real, drift, kernel, pss, private = [], [], [], [], []
    for at in range(rounds):
        gc.collect()
        # a worker's own memory is no session's, so it is there before the first reading
        async with envhub.Hub(ENVS, max_sessions=sessions + 2, queue_s=60) as hub:
            async with hub.session(name) as first:
                await _use(first, agents=agents)
                before, kernel_before = _settled(), machine.meminfo(*_KERNEL)
                opened, curves = await _open_all(hub, name, sessions, before, agents=agents)
                used, kernel_used = before - _settled(), machine.meminfo(*_KERNEL)
                for session in _sample(opened):
                    rollups = [
                        processes.rollup(pid) for pid in _processes(session, agents=agents)
                    ]
                    pss.append(sum(r["Pss"] for r in rollups) / _MB)
                    private.append(sum(r["Private_Dirty"] for r in rollups) / _MB)
                await _close_all(opened)
                after = _settled()
        moved = (before - after) / sessions / _MB
        real.append(used / sessions / _MB - moved / 2)
        drift.append(abs(moved))
        kernel.append((kernel_used - kernel_before) / sessions / _MB)
        if not agents and not many:
            for kind, points in curves.items():
                group.series[f"{what}, {kind}, round {at + 1}"] = points
    count = f"{what}, {sessions:,} sessions"
    group.add(f"{count}: real memory, each", "MB", real, target, "fall of MemAvailable")
    if many:
        total = [one * sessions * _MB / 1e9 for one in real]
        group.add(f"{count}: real memory, all", "GB", total, _MANY_TARGET_GB)
    group.add(f"{count}: PSS, each", "MB", pss, target, "of a sample; without the kernel's")
    group.add(f"{count}: private dirty, each", "MB", private)
    group.add(f"{count}: kernel, each", "MB", kernel, note="slab, page tables, stacks, percpu")
    group.add(f"{count}: drift, each", "MB", drift, note="did not come back; the error bar")


async def _use(session: Session, *, agents: bool) -> None:
    await session.reset(seed=1)
    if agents:
        await session.step({"code": "1"})


async def _open_all(
    hub: envhub.Hub, name: str, sessions: int, before: int, *, agents: bool
) -> tuple[list[Session], dict[str, list[tuple[float, float]]]]:
    opened: list[Session] = []
    curves: dict[str, list[tuple[float, float]]] = {"PSS": [], "real": []}

    async def work(more: int) -> None:
        for _ in range(more):
            session = await hub.open(name)
            opened.append(session)
            await _use(session, agents=agents)

    for count in _checkpoints(sessions):
        shares = [(count - len(opened) + at) // _IN_FLIGHT for at in range(_IN_FLIGHT)]
        async with anyio.create_task_group() as tasks:
            for share in shares:
                tasks.start_soon(work, share)
        pss = [processes.rollup(session.pid)["Pss"] for session in _sample(opened)]
        curves["PSS"].append((count, statistics.median(pss) / _MB))
        if count >= _LEAST_FOR_REAL:
            curves["real"].append((count, (before - _settled()) / count / _MB))
    return opened, curves


def _sample(opened: list[Session]) -> list[Session]:
    return opened[:: max(1, len(opened) // _SAMPLE)]


async def _close_all(opened: list[Session]) -> None:
    async with anyio.create_task_group() as tasks:
        for session in opened:
            tasks.start_soon(session.aclose)


def _checkpoints(sessions: int) -> list[int]:
    return [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 350, 500, 700) if n < sessions] + [
        sessions
    ]


def _settled() -> int:
    """Return what memory is available, as the median of half a second."""
    readings = []
    for _ in range(11):
        time.sleep(0.05)
        readings.append(machine.available_bytes())
    return int(statistics.median(readings))


def _processes(session: Session, *, agents: bool) -> list[int]:
    """Return the session's processes; the broker's agents are children of the runner."""
    found = [session.pid, *processes.tree(session.pid)]
    lease = session._conversation.lease
    if agents and lease is not None and lease.broker is not None:
        for agent in lease.broker._agents.values():
            found += [agent.pid, *processes.tree(agent.pid)]
    return found
