"""The programs of `remote`, `sessions` and `storm`: servers, and clients that are told.

Each is a process of its own. What they use of the processors is asked of the kernel.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes
from bench.figures import percentile
from bench.plan import ENVS, REPOSITORY
from envhub.hub.environments import build, openenv

OPENENV = REPOSITORY / "bench" / "openenv"
OPENENV_ECHO = OPENENV / "echo_env"
OPENENV_WAIT = OPENENV / "wait_env"
_START_S = 120.0
_LOG_BYTES = 64 * 1024
_LINE_BYTES = 256 * 1024 * 1024  # the times of a million steps
_SAMPLE = 40  # of the sessions' processes, whose memory is looked at
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True)
class Server:
    """A server that listens.

    Args:
        url: where.
        pid: its process; those that it has started are its sessions'.
    """

    url: str
    pid: int

    def used_s(self) -> tuple[float, float]:
        """Return the processor time of the server, and of its descendants that live."""
        below = processes.tree(self.pid)
        return processes.cpu_s(self.pid), sum(processes.cpu_s(pid) for pid in below)

    def used_with_ended_s(self) -> float:
        """Return the processor time of them all, of those that have ended, too."""
        pids = (self.pid, *processes.tree(self.pid))
        return sum(processes.cpu_s_with_ended(pid) for pid in pids)

    def memory_mb(self, but: frozenset[int] = frozenset()) -> float:
        """Return the memory (PSS) of the server, and of its descendants but some.

        Of very many, some are looked at, and the others taken to be like them.
        """
        below = [pid for pid in processes.tree(self.pid) if pid not in but]
        found = [processes.pss(pid) for pid in below[:: max(1, len(below) // _SAMPLE)]]
        each = statistics.mean(found) if found else 0.0
        return (processes.pss(self.pid) + each * len(below)) / 1e6


@dataclass(frozen=True)
class Played:
    """What came of some seconds of play.

    Args:
        times: of each step, in µs.
        took_s: in all.
        server_us: of the processor by the server, for each step.
        sessions_us: by the sessions' processes.
        client_us: by the client.
        refused: sessions that could not be opened.
        memory_mb: by how much the server and its processes grew, for each session.
    """

    times: list[float]
    took_s: float
    server_us: float
    sessions_us: float
    client_us: float
    refused: int
    memory_mb: float

    @property
    def rate(self) -> float:
        """Steps in a second."""
        return len(self.times) / self.took_s

    @property
    def serving_us(self) -> float:
        """Processor time of the server's side, for each step."""
        return self.server_us + self.sessions_us

    def percentile(self, percent: float) -> float:
        """Return that percentile of the times."""
        return percentile(self.times, percent)


class Client:
    """A client program, and the server that it plays on."""

    def __init__(self, process: asyncio.subprocess.Process, server: Server) -> None:
        self._process = process
        self.server = server

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def play(self, sessions: int, warm_s: float, play_s: float) -> Played:
        """Open sessions, step them for a while, and close them."""
        were = frozenset(processes.tree(self.server.pid))
        had_mb = self.server.memory_mb(but=were)
        opened = await self.tell({"open": sessions})
        await self.tell({"play": warm_s})
        has_mb = self.server.memory_mb(but=were)
        before = self.server.used_s()
        told = await self.tell({"play": play_s})
        after = self.server.used_s()
        await self.tell({"close": True})
        steps = len(told["times"])
        server, others = ((b - a) * 1e6 / steps for a, b in zip(before, after, strict=True))
        return Played(
            told["times"],
            told["took_s"],
            server,
            others,
            told["cpu_s"] * 1e6 / steps,
            opened["refused"],
            (has_mb - had_mb) / sessions,
        )

    async def tell(self, what: Mapping[str, Any]) -> dict[str, Any]:
        """Tell it something; return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(what)}\n".encode())
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client ended at {what}")
        found: dict[str, Any] = json.loads(line)
        return found


async def openenv_python() -> str:
    """Return a Python that has OpenEnv in it: the virtual environment of its folder.

    Raises:
        BuildFailed: uv could not install it.
    """
    home = await asyncio.to_thread(build.python_for, openenv.read(OPENENV_ECHO))
    return f"{home}/bin/python"


@asynccontextmanager
async def openenv_server(
    python: str, core: int | None = None, folder: Path = OPENENV_ECHO
) -> AsyncIterator[Server]:
    """Hold OpenEnv's own server, without its web page, which is none of a step."""
    line = [python, "-m", "uvicorn", f"{folder.name}.server.app:app", "--port", "0"]
    variables = {"PYTHONPATH": str(OPENENV), "ENABLE_WEB_INTERFACE": "false"}
    async with _server(line, variables, r"running on (http://\S+)", core) as server:
        yield server


@asynccontextmanager
async def our_server(
    folder: Path, core: int | None = None, options: Sequence[str] = ()
) -> AsyncIterator[Server]:
    """Hold `envhub serve` with the folder's environments, echo, and OpenEnv's two."""
    folders = (*_folders_in(folder), ENVS / "echo", OPENENV_ECHO, OPENENV_WAIT)
    line = [sys.executable, "-m", "envhub", "serve", "--port", "0", *options]
    line += map(str, folders)
    async with _server(line, {}, r"listening on (http://\S+)", core) as server:
        yield server


def _folders_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@asynccontextmanager
async def echo_server(core: int | None = None) -> AsyncIterator[Server]:
    """Hold a WebSocket server that says back what it is told, and does nothing else."""
    line = [sys.executable, "-m", "bench.echo_server"]
    async with _server(line, {}, r"listening on (http://\S+)", core) as server:
        yield server


@asynccontextmanager
async def our_client(
    server: Server, environment: str, how: str, core: int | None = None
) -> AsyncIterator[Client]:
    """Hold a client of ours; see `bench.player`."""
    line = [sys.executable, "-m", "bench.player", server.url, environment, how]
    async with _process(line, {}, core) as process:
        yield Client(process, server)


@asynccontextmanager
async def openenv_client(
    server: Server, python: str, path: str = "", loop: str = "asyncio", core: int | None = None
) -> AsyncIterator[Client]:
    """Hold a client of OpenEnv's own.

    Args:
        server: either.
        python: has OpenEnv in it.
        path: of the environment on the server.
        loop: "asyncio" or "uvloop".
        core: that it is to run on; None for any.
    """
    line = [python, str(OPENENV / "player.py"), f"{server.url}{path}", loop]
    async with _process(line, {"PYTHONPATH": str(REPOSITORY)}, core) as process:
        yield Client(process, server)


@asynccontextmanager
async def storm_client(server: Server, python: str, path: str = "") -> AsyncIterator[Client]:
    """Hold the client of `storm`, in a Python with OpenEnv and what that needs in it."""
    address = f"{server.url.replace('http', 'ws', 1)}{path}/ws"
    line = [python, str(OPENENV / "storm.py"), address]
    async with _process(line, {}) as process:
        yield Client(process, server)


@asynccontextmanager
async def _server(
    line: list[str], variables: Mapping[str, str], ready: str, core: int | None
) -> AsyncIterator[Server]:
    with tempfile.TemporaryFile("w+") as log:
        async with _process(line, variables, core, log.fileno()) as process:
            until = time.monotonic() + _START_S
            while not (found := re.search(ready, said := _content(log.fileno()))):
                if process.returncode is not None or time.monotonic() > until:
                    raise RuntimeError(f"`{' '.join(line)}` does not listen:\n{said}")
                await asyncio.sleep(0.05)
            yield Server(found[1], process.pid)


@asynccontextmanager
async def _process(
    line: list[str],
    variables: Mapping[str, str],
    core: int | None = None,
    log: int | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Hold a program; what it is told and says are pipes, unless there is a log."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    cores = os.sched_getaffinity(0) if core is None else {core}
    process = await asyncio.create_subprocess_exec(
        *line,
        cwd=REPOSITORY,
        env={**environment, **variables},
        stdin=asyncio.subprocess.PIPE if log is None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if log is None else log,
        stderr=log,
        limit=_LINE_BYTES,
        preexec_fn=lambda: _prepare(cores),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _prepare(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # thousands of connections


def _content(descriptor: int) -> str:
    return os.pread(descriptor, _LOG_BYTES, 0).decode(errors="replace")
