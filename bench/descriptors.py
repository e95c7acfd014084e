"""How many of the hub's descriptors a session holds."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio

import envhub
from bench.figures import Group
from bench.plan import ENVS, Plan
from bench.processes import descriptors

DEADLINE_S = 120.0
_SESSIONS = 40
_SETTLE_S = 0.3  # for the pool to have made its ready processes, which hold some, too


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    sessions = plan.times(_SESSIONS)
    plain = await _count("echo", sessions, agents=False)
    group.add("plain session (echo)", "descriptors", plain, 4)
    idle = await _count("coding", sessions, agents=False)
    group.add("session that may open agent sandboxes (coding)", "descriptors", idle)
    agent = await _count("coding", sessions, agents=True)
    group.add("the same, one agent sandbox open", "descriptors", agent, 8)
    return group


async def _count(name: str, sessions: int, *, agents: bool) -> list[float]:
    """Open sessions one by one, and return by how many descriptors each grew the hub."""
    grown: list[float] = []
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(envhub.Hub(ENVS))
        before = 0
        for at in range(sessions + 1):
            session = await stack.enter_async_context(hub.session(name))
            await session.reset(seed=1)
            if agents:
                await session.step({"code": "1"})
            await anyio.sleep(_SETTLE_S if at == 0 else _SETTLE_S / 6)
            now = descriptors()
            if at:  # the first one also started the worker
                grown.append(now - before)
            before = now
    return grown
