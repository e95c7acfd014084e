"""The client programs of a run: started, killed, told to finish, and counted."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.tally import Tally
from tests.serving import ROOT

_FINISH_S = 300.0  # beyond every deadline of a client's


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of program.

    Args:
        program: of tests.chaos.program.
        environment: whose sessions it plays.
        share: of all sessions.
        programs: among which these are split.
        cut: it connects through a proxy.
        slower: by how much it thinks longer than others.
    """

    program: str
    environment: str
    share: float
    programs: int
    cut: bool
    slower: float = 1.0


KINDS = (
    Kind("native", "chain", 0.30, 2, cut=True),
    Kind("native", "chain", 0.10, 1, cut=False),
    Kind("batch", "chain", 0.25, 1, cut=True),
    Kind("openenv", "chain", 0.10, 1, cut=True),
    Kind("raw", "chain", 0.08, 1, cut=True),
    Kind("native", "probe", 0.12, 1, cut=True, slower=2),
    Kind("native", "coding", 0.05, 1, cut=True, slower=4),
)


@dataclass
class _Program:
    name: str
    words: list[str]
    process: asyncio.subprocess.Process
    reading: asyncio.Task[None]
    told: dict[str, Any] = field(default_factory=dict)
    was_killed: bool = False


class Clients:
    """Programs as subprocesses.

    Args:
        url: of the server.
        cut_urls: of the proxies before it.
        sessions: of all programs together.
        think_s: between two calls of one session.
        seed: of their choices.
    """

    def __init__(
        self, url: str, cut_urls: list[str], sessions: int, think_s: float, seed: int
    ) -> None:
        self._url = url
        self._cut_urls = cut_urls
        self._sessions = sessions
        self._think_s = think_s
        self._seeds = iter(random.Random(seed).sample(range(10**9), 10_000))
        self._programs: list[_Program] = []
        self._all: list[_Program] = []

    async def start(self) -> None:
        """Start all of them."""
        for kind in KINDS:
            count = max(1, round(self._sessions * kind.share / kind.programs))
            for at in range(kind.programs):
                url = self._cut_urls[at % len(self._cut_urls)] if kind.cut else self._url
                words = [
                    kind.program, "--url", url,
                    "--environments", ",".join([kind.environment] * count),
                    "--think-s", str(self._think_s * kind.slower),
                ]  # fmt: skip
                self._programs.append(await self._started(kind, words))

    async def replace_one(self, chance: random.Random) -> None:
        """Kill a program with all that it holds open, and start another like it."""
        at = chance.randrange(len(self._programs))
        victim = self._programs[at]
        victim.was_killed = True
        victim.process.send_signal(signal.SIGKILL)
        await victim.process.wait()
        kind = next(k for k in KINDS if victim.name == _name(k))
        self._programs[at] = await self._started(kind, victim.words)

    async def finish(self) -> None:
        """Have them play their last episodes undisturbed, and end."""
        for program in self._programs:
            assert program.process.stdin is not None
            program.process.stdin.close()
        await asyncio.gather(*(self._finished(program) for program in self._programs))

    def by_program(self) -> dict[str, Tally]:
        """Return what all programs of each kind have counted."""
        found: dict[str, Tally] = {}
        for program in self._all:
            tally = found.setdefault(program.name, Tally())
            if program.told:
                tally.add(program.told)
            code = program.process.returncode
            if not program.was_killed and code:
                tally.complain(f"a program ended with {code}")
        return found

    async def _started(self, kind: Kind, words: list[str]) -> _Program:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.program", *words,
            "--seed", str(next(self._seeds)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1024 * 1024,
        )  # fmt: skip
        reading = asyncio.get_running_loop().create_task(asyncio.sleep(0))
        program = _Program(_name(kind), words, process, reading)
        program.reading = asyncio.get_running_loop().create_task(self._read(program))
        self._all.append(program)
        return program

    async def _read(self, program: _Program) -> None:
        assert program.process.stdout is not None
        async for line in program.process.stdout:
            if line.endswith(b"\n"):  # not one that its end has cut
                program.told = json.loads(line)

    async def _finished(self, program: _Program) -> None:
        try:
            async with asyncio.timeout(_FINISH_S):
                await program.process.wait()
                await program.reading
        except TimeoutError:
            program.process.kill()
            await program.process.wait()
        else:
            return
        program.told.setdefault("counts", {})
        program.told.setdefault("errors", {})
        program.told.setdefault("wrong", []).append(f"{program.name} did not end")


def _name(kind: Kind) -> str:
    return f"{kind.program}, {kind.environment}{'' if kind.cut else ', no proxy'}"
