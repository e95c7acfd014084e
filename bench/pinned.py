"""`python -m bench.pinned ROUNDS`: one blocking session and its floors, all on one core.

For `steps`. It keeps itself to a core before it starts anything, so that what it starts is
there, too: then no core has to be woken, and a round trip is the work that it takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import envhub
from bench import floors
from bench.plan import ACTION, ENVS, REPOSITORY, environments
from bench.plan import NATIVE as NATIVE_SOURCE
from envhub.hub import make

NATIVE, ECHO = "native, sync, strict", "echo, sync, strict"
PIPE, SOCKET = "multiprocessing.Pipe echo", "socket and msgspec echo"
FRAMED = "stream socket and msgspec echo, framed"
_BURST = 512
_DEADLINE_S = 300.0


async def measured(rounds: int) -> dict[str, list[float]]:
    """Return the median time of each round, in µs, by name. Runs this as a program."""
    line = [sys.executable, "-m", "bench.pinned", str(rounds)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*line, cwd=REPOSITORY, stdout=pipe)
    try:
        async with asyncio.timeout(_DEADLINE_S):
            said, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    found: dict[str, list[float]] = json.loads(said)
    return found


def main(rounds: int) -> None:
    """Measure, and print."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    medians: dict[str, list[float]] = {}
    with environments(native=NATIVE_SOURCE) as folder, ExitStack() as stack:
        stack.callback(make.close_hubs)
        bursts: dict[str, Callable[[], list[float]]] = {
            PIPE: _run(stack.enter_context(floors.pipe_echo()).burst),
            SOCKET: _run(stack.enter_context(floors.socket_echo()).burst),
            FRAMED: _run(stack.enter_context(floors.framed_echo()).burst),
        }
        actions: dict[str, dict[str, Any]] = {NATIVE: ACTION, ECHO: {"message": "hello"}}
        for name, action in actions.items():
            kind = name.partition(",")[0]
            session = stack.enter_context(envhub.make(kind, envs=(folder, ENVS)))
            session.reset()
            bursts[name] = _stepping(session.step, action)
        for at in range(rounds + 1):
            for name in random.sample(list(bursts), len(bursts)):
                median = statistics.median(bursts[name]())
                if at:  # the first round warms everything
                    medians.setdefault(name, []).append(median)
    print(json.dumps(medians))


def _run(burst: Callable[[int], Awaitable[list[float]]]) -> Callable[[], list[float]]:
    async def once() -> list[float]:
        return await burst(_BURST)

    return lambda: asyncio.run(once())


def _stepping(step: Callable[[Any], object], action: Any) -> Callable[[], list[float]]:
    def burst() -> list[float]:
        times = []
        for _ in range(_BURST):
            start = time.perf_counter()
            step(action)
            times.append((time.perf_counter() - start) * 1e6)
        return times

    return burst


if __name__ == "__main__":
    main(int(sys.argv[1]))
