"""What a step costs: one session and many, blocking and on an event loop, beside the floors.

Every round takes a burst of each, in a new order, so that a busy moment of the machine falls
on all of them; the ratios are taken within a round.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

import envhub
from bench import floors, pinned
from bench.figures import Group
from bench.plan import ACTION, ENVS, NATIVE, Plan, environments
from envhub.hub import make
from envhub.hub.embedded import EmbeddedSession
from envhub.hub.session import Session

DEADLINE_S = 900.0
_SESSIONS = 64
_BURST = 512
_PINNED_TARGET = 1.3
_LEAST_BURST = 32  # of one session among many
_ACTIONS: dict[str, dict[str, Any]] = {"native": ACTION, "echo": {"message": "hello"}}
_CALL = "plain function call"
_PIPE = "multiprocessing.Pipe echo"
_SOCKET = "socket and msgspec echo"
_ASYNC_SOCKET = "socket and msgspec echo, event loop"

Burst = Callable[[int], Awaitable[list[float]]]


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    times: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    medians: dict[str, list[float]] = {}
    with environments(native=NATIVE) as folder:
        async with AsyncExitStack() as stack:
            subjects = await _subjects(stack, folder)
            order = list(subjects)
            for at in range(plan.times(40) + 1):
                random.shuffle(order)
                for name in order:
                    start = time.perf_counter()
                    taken = await subjects[name](_BURST)
                    elapsed = time.perf_counter() - start
                    if at:  # the first round warms everything
                        times.setdefault(name, []).extend(taken)
                        rates.setdefault(name, []).append(len(taken) / elapsed)
                        medians.setdefault(name, []).append(statistics.median(taken))
    for name in subjects:
        note = f"with {_SESSIONS} in flight" if str(_SESSIONS) in name else ""
        group.add(f"{name}: one step", "µs", times[name], note=note)
        group.add(f"{name}: rate", "steps/s", rates[name])
    _add_ratios(group, medians, rates)
    _add_pinned(group, await pinned.measured(plan.times(40)))
    return group


def _add_pinned(group: Group, medians: dict[str, list[float]]) -> None:
    """One core for the program, the session and the floor: no wake-up of another in it."""
    for name, found in medians.items():
        group.add(f"one core, {name}: p50 of one step", "µs", found)
    for floor in (pinned.FRAMED, pinned.SOCKET):
        for name in (pinned.NATIVE, pinned.ECHO):
            is_promised = (name, floor) == (pinned.NATIVE, pinned.FRAMED)
            target = _PINNED_TARGET if is_promised else None
            ratio = f"one core, {name} ÷ {floor}"
            group.add_ratio(ratio, medians[name], medians[floor], target=target, at_least=False)


def _add_ratios(
    group: Group, medians: dict[str, list[float]], rates: dict[str, list[float]]
) -> None:
    for kind in _ACTIONS:
        own = {
            _SOCKET: medians[f"{kind}, sync, strict"],
            _PIPE: medians[f"{kind}, sync, strict"],
            _ASYNC_SOCKET: medians[f"{kind}, async, strict"],
        }
        for floor, ours in own.items():
            how = "async" if floor == _ASYNC_SOCKET else "sync"
            group.add_ratio(f"{kind}, {how}, strict ÷ {floor}", ours, medians[floor])
    for kind in _ACTIONS:
        for how in ("sync", "async"):
            name = f"{kind}, {how}"
            strict, none = medians[f"{name}, strict"], medians[f"{name}, none"]
            group.add_ratio(f"{name}: strict ÷ none", strict, none)
        name = f"{kind}, {_SESSIONS} sessions"
        strict, none = rates[f"{name}, strict"], rates[f"{name}, none"]
        group.add_ratio(f"{name}: rate, none ÷ strict", none, strict)


async def _subjects(stack: AsyncExitStack, folder: Path) -> dict[str, Burst]:
    """Return what is measured, by name; the floors first."""
    socket_echo = stack.enter_context(floors.socket_echo())
    subjects: dict[str, Burst] = {
        _CALL: _call,
        _PIPE: stack.enter_context(floors.pipe_echo()).burst,
        _SOCKET: socket_echo.burst,
        _ASYNC_SOCKET: socket_echo.burst_async,
    }
    stack.callback(make.close_hubs)
    for kind, action in _ACTIONS.items():
        for isolation in ("strict", "none"):
            envs = (folder, ENVS)
            sync = stack.enter_context(envhub.make(kind, envs=envs, isolation=isolation))
            sync.reset()
            subjects[f"{kind}, sync, {isolation}"] = _Sync(sync, action).burst
            hub = envhub.Hub(envs, isolation=isolation)
            await stack.enter_async_context(hub)
            many = []
            for _ in range(_SESSIONS):
                many.append(await stack.enter_async_context(hub.session(kind)))
                await many[-1].reset()
            subjects[f"{kind}, async, {isolation}"] = _Async(many[:1], action).burst
            name = f"{kind}, {_SESSIONS} sessions, {isolation}"
            subjects[name] = _Async(many, action).burst
    return subjects


class _Here:
    """The native environment's step, without any process between."""

    def __init__(self) -> None:
        self.count = 0

    def step(self, action: dict[str, int]) -> dict[str, float]:
        self.count += action["add"]
        return {"count": self.count, "reward": 1.0}


async def _call(count: int) -> list[float]:
    here, times = _Here(), []
    for _ in range(count):
        start = time.perf_counter()
        here.step(ACTION)
        times.append((time.perf_counter() - start) * 1e6)
    return times


class _Sync:
    """One blocking session."""

    def __init__(self, session: EmbeddedSession, action: dict[str, Any]) -> None:
        self._session = session
        self._action = action

    async def burst(self, count: int) -> list[float]:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self._session.step(self._action)
            times.append((time.perf_counter() - start) * 1e6)
        return times


class _Async:
    """Some sessions on the running event loop, all of them stepping at once."""

    def __init__(self, sessions: list[Session], action: dict[str, Any]) -> None:
        self._sessions = sessions
        self._action = action

    async def burst(self, count: int) -> list[float]:
        times: list[float] = []
        share = max(count // len(self._sessions), _LEAST_BURST)
        async with anyio.create_task_group() as tasks:
            for session in self._sessions:
                tasks.start_soon(self._steps, session, share, times)
        return times

    async def _steps(self, session: Session, count: int, times: list[float]) -> None:
        for _ in range(count):
            start = time.perf_counter()
            await session.step(self._action)
            times.append((time.perf_counter() - start) * 1e6)
