"""A client program of `remote` and `sessions`: told by lines on its standard input what to do.

Standard library only, for it also runs where OpenEnv is installed and envhub is not. Each line
is a JSON object, and so is each answer: `{"open": N}` opens and resets N sessions,
`{"play": SECONDS}` steps them all for so long, as fast as they go, `{"close": true}` closes
them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

_AT_ONCE = 32
T = TypeVar("T")


class Player(Protocol):
    """What plays, and how."""

    async def open(self, sessions: int) -> int:
        """Open so many sessions, and reset them; return how many were refused."""
        ...

    async def play(self, until: float) -> list[float]:
        """Step all of them until perf_counter says `until`; return the time of each, in µs."""
        ...

    async def close(self) -> None:
        """Close them."""
        ...


async def obey(player: Player) -> None:
    """Do what standard input says, until its end."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer: dict[str, Any] = {}
        match json.loads(line):
            case {"open": sessions}:
                answer = {"refused": await player.open(sessions)}
            case {"play": seconds}:
                began, used = time.perf_counter(), time.process_time()
                times = await player.play(began + seconds)
                answer = {
                    "cpu_s": time.process_time() - used,
                    "took_s": time.perf_counter() - began,
                    "times": [round(one, 1) for one in times],
                }
            case {"close": True}:
                await player.close()
            case other:
                raise ValueError(f"nothing that a player does: {other}")
        print(json.dumps(answer), flush=True)


async def each(steps: Iterable[Callable[[], Awaitable[None]]], until: float) -> list[float]:
    """Take these steps again and again, each in a task of its own; return their times in µs."""
    times: list[float] = []

    async def run(step: Callable[[], Awaitable[None]]) -> None:
        while (began := time.perf_counter()) < until:
            await step()
            times.append((time.perf_counter() - began) * 1e6)

    async with asyncio.TaskGroup() as tasks:
        for step in steps:
            tasks.create_task(run(step))
    return times


async def some_at_once(jobs: Iterable[Callable[[], Awaitable[T]]]) -> list[T | None]:
    """Do all of these, some at a time; return what came of each, None of one that failed."""
    found: list[T | None] = []
    left = iter(jobs)

    async def work() -> None:
        for job in left:
            try:
                found.append(await job())
            except Exception as error:
                print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
                found.append(None)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(work())
    return found


class Echoed:
    """One session's messages, no two alike, and a check of what has come of each.

    Args:
        number: of the session.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._count = 0
        self._said = ""

    def next(self) -> str:
        """Return what is said next."""
        self._count += 1
        self._said = f"{self._number}:{self._count}"
        return self._said

    def check(self, heard: str) -> None:
        """Check the observation.

        Raises:
            ValueError: it is another's.
        """
        if heard != self._said:
            raise ValueError(f"session {self._number} said {self._said}, and heard {heard}")
