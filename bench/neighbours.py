"""What the well-behaved notice of hostile sessions beside them: the latency of their steps.

Sixty sessions of the least environment step twenty times a second each, on one event loop
with the hub: an agent that thinks for 50 ms. That takes about a tenth of two cores, so that
a quiet machine has no queue, and what a neighbour adds is seen as what it is; sessions that
step as fast as they can would wait for each other. The times at which steps are due are
fixed before (an open loop), and a latency counts from there: a hub that was held up is not
let off because nobody could ask it meanwhile.

The same sixty are also measured stepping as fast as they can, as in training: there they wait
for each other already, and what a hostile session adds is one more that wants a core.

Beside them are six sessions that do harm, of one kind or of all in turn. One that was ended
is opened anew at once, and after a second at the latest. Every round has a block of each
kind, one of the mix and one without, in a new order; ratios are taken within a round.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator

import anyio
import msgspec

import envhub
from bench import hostile
from bench.figures import Group, percentile
from bench.plan import ACTION, NATIVE, Plan, environments
from bench.ticks import ticks
from envhub.errors import CapacityError, EnvhubError
from envhub.hub.session import Session

DEADLINE_S = 900.0
RATIO_TARGET = 3.0
QUIET, MIX = "quiet", "mix of all"
_FAST = "at full speed"
_NEIGHBOURS = 60
_HOSTILE = 6
_STEPS_PER_S = 20  # of each neighbour
_BLOCK_S = 2.0
_QUICK_BLOCK_S = 0.05
_SETTLE_S = 0.3  # for the end of a block's last processes
_TURN_S = 1.0


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    block_s, settle_s = (_QUICK_BLOCK_S,) * 2 if plan.quick else (_BLOCK_S, _SETTLE_S)
    blocks = {QUIET: (), **{words: (kind,) for kind, words in hostile.KINDS.items()}}
    blocks[MIX] = tuple(hostile.KINDS)
    times: dict[str, list[list[float]]] = {name: [] for name in blocks}
    fast: dict[str, list[list[float]]] = {QUIET: [], MIX: []}
    lives = dict.fromkeys(blocks, 0)
    settings = {"hostile": hostile.SETTINGS}
    with environments(settings, native=NATIVE, hostile=hostile.SOURCE) as folder:
        async with envhub.Hub(folder) as hub, Neighbours(hub) as neighbours:
            async with hub.session("hostile"):
                pass  # its worker is started
            await neighbours.steps(block_s)
            for _ in range(plan.times(6)):
                for name in random.sample(list(blocks), len(blocks)):
                    async with Hostile(hub, blocks[name]) as others:
                        times[name].append(await neighbours.steps(block_s))
                    lives[name] += others.lives
                    await anyio.sleep(settle_s)
                for name in random.sample(list(fast), len(fast)):
                    async with Hostile(hub, blocks[name]):
                        fast[name].append(await neighbours.steps_without_pause(block_s))
                    await anyio.sleep(settle_s)
    group = _figures(times, lives)
    _add_fast(group, fast)
    return group


def _figures(times: dict[str, list[list[float]]], lives: dict[str, int]) -> Group:
    group = Group()
    p99 = {name: [percentile(one, 99) for one in rounds] for name, rounds in times.items()}
    for name, rounds in times.items():
        note = f"beside {lives[name]:,} hostile lives" if name != QUIET else ""
        group.add(
            f"{name}: one step", "ms", [one for taken in rounds for one in taken], note=note
        )
        p50 = [percentile(one, 50) for one in rounds]
        group.series[name] = list(zip(p50, p99[name], strict=True))
    for name in times:
        if name != QUIET:
            ratios = [a / b for a, b in zip(p99[name], p99[QUIET], strict=True)]
            target = RATIO_TARGET if name == MIX else None
            group.add(f"{name} ÷ {QUIET}: p99 of a step", "ratio", ratios, target)
    return group


def _add_fast(group: Group, fast: dict[str, list[list[float]]]) -> None:
    for name, rounds in fast.items():
        taken = [one for times in rounds for one in times]
        group.add(f"{_FAST}, {name}: one step", "ms", taken)
    p99 = {name: [percentile(one, 99) for one in rounds] for name, rounds in fast.items()}
    ratios = [a / b for a, b in zip(p99[MIX], p99[QUIET], strict=True)]
    group.add(f"{_FAST}, {MIX} ÷ {QUIET}: p99 of a step", "ratio", ratios, RATIO_TARGET)


class Neighbours:
    """The well-behaved sessions. An asynchronous context manager."""

    def __init__(self, hub: envhub.Hub) -> None:
        self._hub = hub
        self._sessions: list[Session] = []

    async def __aenter__(self) -> Neighbours:
        for _ in range(_NEIGHBOURS):
            self._sessions.append(await self._hub.open("native"))
            await self._sessions[-1].reset()
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions:
            await session.aclose()

    async def steps(self, block_s: float) -> list[float]:
        """Step for a while, one session after the other; return the latencies in ms."""
        times: list[float] = []
        turns = itertools.cycle(random.sample(self._sessions, _NEIGHBOURS))

        async def step(session: Session, due: float) -> None:
            await session.step(ACTION)
            times.append((time.perf_counter() - due) * 1000)

        async with anyio.create_task_group() as tasks:
            with ticks(
                1 / (_NEIGHBOURS * _STEPS_PER_S),
                lambda due: tasks.start_soon(step, next(turns), due),
            ):
                await anyio.sleep(block_s)
        return times

    async def steps_without_pause(self, block_s: float) -> list[float]:
        """Step each session as fast as it can for a while; return the latencies in ms."""
        times: list[float] = []
        until = time.perf_counter() + block_s

        async def run(session: Session) -> None:
            while (began := time.perf_counter()) < until:
                await session.step(ACTION)
                times.append((time.perf_counter() - began) * 1000)

        async with anyio.create_task_group() as tasks:
            for session in self._sessions:
                tasks.start_soon(run, session)
        return times


class Hostile:
    """The hostile sessions of one block. An asynchronous context manager.

    Args:
        hub: of the neighbours, too.
        kinds: what they do, each next life the next; nothing for no session.

    Attributes:
        lives: how many were begun.
    """

    def __init__(self, hub: envhub.Hub, kinds: tuple[str, ...]) -> None:
        self._hub = hub
        self._kinds: Iterator[str] = itertools.cycle(random.sample(kinds, len(kinds)))
        self._count = _HOSTILE if kinds else 0
        self._tasks = anyio.create_task_group()
        self.lives = 0

    async def __aenter__(self) -> Hostile:
        await self._tasks.__aenter__()
        for _ in range(self._count):
            self._tasks.start_soon(self._live)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def _live(self) -> None:
        while True:
            action = msgspec.msgpack.encode({"do": next(self._kinds)})
            self.lives += 1
            try:
                async with self._hub.session("hostile") as session:
                    await session.reset()
                    with anyio.move_on_after(_TURN_S):
                        while True:
                            # what a client makes of the bytes is its own time, not the hub's
                            await session.step_raw(action)
            except CapacityError:
                await anyio.sleep(0.01)
            except EnvhubError:
                pass  # it was ended, as it should be
