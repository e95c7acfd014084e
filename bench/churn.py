"""Whole lives of sessions per second: open, reset, step, close."""

from __future__ import annotations

import time

import anyio

import envhub
from bench.figures import Group
from bench.plan import ENVS, Plan

DEADLINE_S = 300.0
_ROUND = 50


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    async with envhub.Hub(ENVS) as hub:
        await _lives(hub, 1, 2)
        rates: dict[int, list[float]] = {1: [], 8: []}
        for _ in range(plan.times(20)):
            for in_flight in rates:
                start = time.perf_counter()
                await _lives(hub, in_flight, _ROUND)
                rates[in_flight].append(_ROUND / (time.perf_counter() - start))
        group.add("echo, one after the other", "lives/s", rates[1])
        group.add("echo, 8 in flight", "lives/s", rates[8])
        group.add_ratio("8 in flight ÷ one after the other", rates[8], rates[1])
    return group


async def _lives(hub: envhub.Hub, in_flight: int, count: int) -> None:
    left = iter(range(count))

    async def live() -> None:
        for _ in left:
            async with hub.session("echo") as session:
                await session.reset(seed=1)
                await session.step({"message": "hello"})

    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(live)
