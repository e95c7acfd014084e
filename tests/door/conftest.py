"""What the door's tests share: a running door, and a hub that plays a script.

The script stands where only an event can decide the moment: a step that never ends, a worker
that lies. `test_stream.py` holds the scripted session to the interface of the real one.
"""

import asyncio
import logging
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

from envhub.door.serve import serve
from envhub.errors import EnvhubError, RemoteProtocolError, UnknownEnvironment
from envhub.hub.accounts.counters import Counters
from envhub.hub.environments.manifest import Manifest
from envhub.wire.messages import Described, Form, Observed
from envhub_sandbox import Receipt

# libuv makes one pipe for signals with the first loop of a process and keeps it for ever
uvloop.new_event_loop().close()

_log = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
SCHEMA = b'{"type":"object"}'
Play = Callable[[str, bytes], Awaitable[bytes]]
Served = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def fresh_python() -> Callable[[str], None]:
    """Run code in an interpreter that has imported nothing; its failure is the test's."""

    def run(code: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(code)]
        subprocess.run(command, check=True, timeout=30, cwd=ROOT)

    return run


class ScriptedSession:
    """A session whose replies a function makes up."""

    receipt = Receipt("strict", "built-in", ("seccomp",), ("seccomp",), 1000)
    has_process = True

    def __init__(self, play: Play) -> None:
        self.play = play
        self.closed = anyio.Event()
        self.breaches = 0  # for which the real one kills its process
        self._stepping: set[asyncio.Task[None]] = set()

    async def reset_raw(self, options: bytes, form: Form = "msgpack") -> Observed:
        assert form == "json"
        return Observed(op=0, payload=await self.play("reset", options))

    async def step_raw(
        self, action: bytes, form: Form = "msgpack", options: bytes = b""
    ) -> Observed:
        assert form == "json"
        return Observed(op=0, payload=await self.play("step", action + options))

    def begin_step_raw(
        self,
        action: bytes,
        done: Callable[[Observed | EnvhubError], None],
        form: Form = "msgpack",
    ) -> None:
        async def step() -> None:
            try:
                outcome: Observed | EnvhubError = await self.step_raw(action, form)
            except EnvhubError as error:
                outcome = error
            except Exception:
                _log.exception("a bug in a script")
                outcome = EnvhubError("a bug in envhub")
            done(outcome)

        task = asyncio.get_running_loop().create_task(step())
        self._stepping.add(task)
        task.add_done_callback(self._stepping.discard)

    async def state_raw(self, form: Form = "msgpack") -> bytes:
        assert form == "json"
        return await self.play("state", b"")

    @contextmanager
    def held_to_protocol(self) -> Iterator[None]:
        try:
            yield
        except RemoteProtocolError:
            self.breaches += 1
            raise

    async def aclose(self) -> None:
        for task in self._stepping:
            task.cancel()
        self.closed.set()


class ScriptedCatalog(dict[str, Manifest]):
    def __missing__(self, name: str) -> Manifest:
        raise UnknownEnvironment(f"no environment `{name}`", hint="there is play")

    def names(self) -> list[str]:
        return sorted(self)

    def close(self) -> None:
        """There are no ids in it."""


class ScriptedHub:
    """A hub with one environment, `play`; `sessions` are those that were opened."""

    def __init__(
        self, play: Play, opening: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.catalog = ScriptedCatalog(
            play=Manifest(name="play", entry="env:Play", description="A script.", version="2.0")
        )
        self.counters = Counters()
        self.sessions: list[ScriptedSession] = []
        self._play = play
        self._opening = opening

    async def open(self, name: str, *, schema: Any = None, client: str = "") -> ScriptedSession:
        if self._opening is not None:
            await self._opening()
        self.sessions.append(ScriptedSession(self._play))
        return self.sessions[-1]

    def every_look(self, call: Callable[[], Awaitable[None]]) -> None:
        """It does not look after anything."""

    async def describe(self, name: str) -> Described:
        return Described(0, "Play", "", SCHEMA, SCHEMA, SCHEMA, SCHEMA, None)


@pytest.fixture
def scripted() -> type[ScriptedHub]:
    return ScriptedHub


@pytest.fixture(scope="session")
def served() -> Served:
    """Hold a door on a free port of loopback; yield `127.0.0.1:PORT`."""

    @asynccontextmanager
    async def hold(
        hub: Any, default: str | None = "play", **options: Any
    ) -> AsyncIterator[str]:
        ports: list[int] = []
        ready = anyio.Event()

        def on_ready(port: int) -> None:
            ports.append(port)
            ready.set()

        async def run() -> None:
            await serve(
                hub, host="127.0.0.1", port=0, default=default, on_ready=on_ready, **options
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with anyio.fail_after(10):
                await ready.wait()
            yield f"127.0.0.1:{ports[0]}"
            tasks.cancel_scope.cancel()

    return hold
