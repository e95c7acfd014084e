"""Programs that step in turns: each a process of its own, asked by a line for a burst.

Who is not at turn is stopped, all its processes, for some libraries' wait by spinning.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bench import processes
from bench.plan import REPOSITORY

_START_S, _END_S = 300.0, 60.0
_TURN_S = 300.0


@dataclass(frozen=True)
class Turn:
    """What came of a turn.

    Args:
        rate: steps in a second, of single environments.
        cpu_us: of all its processes together, for each step.
    """

    rate: float
    cpu_us: float


class Contender:
    """A program that has turns.

    Args:
        process: it, in a process group of its own.
        pauses: whether it is stopped between turns.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, pauses: bool) -> None:
        self._process = process
        self._pauses = pauses

    async def turn(self, seconds: float) -> Turn:
        """Have it step for so long."""
        self._signal(signal.SIGCONT)
        before = self._used_s()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        async with asyncio.timeout(_TURN_S + seconds):
            told = await self._said()
        used = self._used_s() - before
        self._signal(signal.SIGSTOP)
        return Turn(told["rate"], used * 1e6 / told["steps"])

    async def started(self) -> None:
        """Wait until it is ready."""
        async with asyncio.timeout(_START_S):
            await self._said()
        self._signal(signal.SIGSTOP)

    async def end(self) -> None:
        """Have it end; kill it and its processes if it does not.

        Raises:
            RuntimeError: it has not ended well.
        """
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            code = await self._process.wait()
        if code:
            raise RuntimeError(f"it ended with {code}; its last words are above")

    async def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line.startswith(b"{"):  # some libraries greet
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError(f"it ended; the last words are above ({await self._process.wait()})")

    def _used_s(self) -> float:
        pid = self._process.pid
        return sum(processes.cpu_s(one) for one in (pid, *processes.tree(pid)))

    def _signal(self, number: int) -> None:
        if self._pauses:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


@asynccontextmanager
async def contender(
    line: list[str], variables: Mapping[str, str] | None = None, *, pauses: bool = True
) -> AsyncIterator[Contender]:
    """Hold a program that says a line of JSON when it is ready, and after each burst."""
    with tempfile.TemporaryDirectory() as place:  # PufferLib leaves a link where it runs
        process = await asyncio.create_subprocess_exec(
            *line,
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(variables or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        found = Contender(process, pauses=pauses)
        try:
            await found.started()
            yield found
        finally:
            await found.end()
