"""`python -m bench.player URL ENVIRONMENT HOW`: our clients play. For `remote`.

HOW is one of `HOWS`; each is a way to step many sessions.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy
import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket

import envhub
from bench.plan import ACTION
from bench.playing import Echoed, Player, each, obey, some_at_once

_FIRST = 16


class _Counted:
    """As `Echoed`, for the environment that adds what it is told."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> dict[str, int]:
        self._count += 1
        return ACTION

    def check(self, observation: Any) -> None:
        if observation.count != self._count:
            raise ValueError(f"step {self._count} came to {observation}")


class _Said:
    """As `Echoed`, of whole actions and observations."""

    def __init__(self, number: int) -> None:
        self._echoed = Echoed(number)

    def next(self) -> dict[str, str]:
        return {"message": self._echoed.next()}

    def check(self, observation: Any) -> None:
        self._echoed.check(observation.message)


Script = _Counted | _Said


class _WebSocket:
    """A connection that says back what it is told, as if it were a session."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.close = connection.close

    async def reset(self) -> None:
        pass

    async def step(self, action: dict[str, str]) -> SimpleNamespace:
        await self._connection.send(action["message"])
        heard = await self._connection.recv()
        return SimpleNamespace(observation=SimpleNamespace(message=heard))


class _Each:
    """Sessions that are stepped by a task each."""

    def __init__(self, url: str, environment: str) -> None:
        self._url = url
        self._environment = environment
        self._stack = AsyncExitStack()
        self._sessions: dict[Any, Script] = {}

    async def open(self, sessions: int) -> int:
        """Open so many sessions, and reset them; return how many were refused."""
        opened = await some_at_once(self._open for _ in range(sessions))
        there = [env for env in opened if env is not None]
        self._sessions = {env: _script(self._environment, at) for at, env in enumerate(there)}
        return sessions - len(there)

    async def _open(self) -> Any:
        env = await self._opened()
        await env.reset()
        return env

    async def _opened(self) -> Any:
        raise NotImplementedError

    async def play(self, until: float) -> list[float]:
        """Step each in a task of its own."""
        return await each([_steps(*one) for one in self._sessions.items()], until)

    async def close(self) -> None:
        """Close them."""
        closes = [getattr(env, "aclose", None) or env.close for env in self._sessions]
        await some_at_once(closes)
        self._sessions.clear()
        await self._stack.aclose()


class EnvClients(_Each):
    """A connection a session, over OpenEnv's protocol."""

    async def _opened(self) -> Any:
        env = envhub.EnvClient(f"{self._url}/envs/{self._environment}")
        await env.connect()
        return env


class Connections(_Each):
    """A connection a session, over our own."""

    async def _opened(self) -> Any:
        hub = await self._stack.enter_async_context(envhub.connect(self._url))
        return await hub.open(self._environment)


class WebSockets(_Each):
    """A connection each, and nothing behind it but an echo."""

    async def _opened(self) -> Any:
        address = self._url.replace("http", "ws", 1)
        return _WebSocket(await self._stack.enter_async_context(websocket(address)))


class Multiplexed(_Each):
    """One connection for all sessions, each of them stepped by a task of its own."""

    async def open(self, sessions: int) -> int:
        """Open so many sessions, and reset them; return how many were refused."""
        self.hub = await self._stack.enter_async_context(envhub.connect(self._url))
        return await super().open(sessions)

    async def _opened(self) -> Any:
        return await self.hub.open(self._environment)


class Batched(Multiplexed):
    """One connection, and all sessions stepped by one call, which waits for all of them."""

    async def play(self, until: float) -> list[float]:
        """Step all together; each has taken as long as its batch."""
        batch, scripts = self.hub.batch(self._sessions), list(self._sessions.values())
        times: list[float] = []
        while (began := time.perf_counter()) < until:
            outcomes = await batch.step([script.next() for script in scripts])
            took_us = (time.perf_counter() - began) * 1e6
            times += [took_us] * len(outcomes)
            for script, outcome in zip(scripts, outcomes, strict=True):
                script.check(_result(outcome).observation)
        return times


class FirstReady(Multiplexed):
    """One connection, and the first sessions that are ready get their next action."""

    async def play(self, until: float) -> list[float]:
        """Step those that are ready; each has taken from its action to its turn."""
        scripts, batch = self._sessions, self.hub.batch(self._sessions, first=_FIRST)
        began = dict.fromkeys(scripts, time.perf_counter())
        times: list[float] = []
        batch.send({session: script.next() for session, script in scripts.items()})
        while ready := await batch.recv():
            now = time.perf_counter()
            for session, outcome in ready.items():
                scripts[session].check(_result(outcome).observation)
                times.append((now - began[session]) * 1e6)
            if now < until:
                now = time.perf_counter()
                began.update(dict.fromkeys(ready, now))
                batch.send({session: scripts[session].next() for session in ready})
        return times


class Blocking:
    """One connection, and its sessions stepped one after the other. Blocking."""

    def __init__(self, url: str, environment: str) -> None:
        self._url = url
        self._environment = environment
        self._stack = ExitStack()
        self._sessions: dict[envhub.SyncRemoteSession, Script] = {}

    async def open(self, sessions: int) -> int:
        """Open so many sessions, and reset them."""
        hub = self._stack.enter_context(envhub.connect(self._url).sync())
        for at in range(sessions):
            session = self._stack.enter_context(hub.make(self._environment))
            session.reset()
            self._sessions[session] = _script(self._environment, at)
        return 0

    async def play(self, until: float) -> list[float]:
        """Step each, and then each again."""
        times: list[float] = []
        while (began := time.perf_counter()) < until:
            for session, script in self._sessions.items():
                script.check(session.step(script.next()).observation)
                now = time.perf_counter()
                times.append((now - began) * 1e6)
                began = now
        return times

    async def close(self) -> None:
        """Close them."""
        self._sessions.clear()
        self._stack.close()


class Vector:
    """One session with as many environments, stepped by one call. Blocking.

    Args:
        url: of the server.
        environment: of `bench.plan.COUNTERS`.
        whole: the author's vectorised class, and not one environment after another.
    """

    def __init__(self, url: str, environment: str, *, whole: bool = False) -> None:
        self._url = url
        self._environment = environment
        self._mode = "vector_entry_point" if whole else None
        self._env: Any = None
        self._count = 0

    async def open(self, sessions: int) -> int:
        """Open a session of so many environments, and reset them."""
        self._env = envhub.make_vec(
            self._environment, sessions, hub=self._url, vectorization_mode=self._mode
        )
        self._env.reset()
        self._actions, self._count = [1] * sessions, 0
        return 0

    async def play(self, until: float) -> list[float]:
        """Step them; each has taken as long as its batch."""
        times: list[float] = []
        actions = numpy.array(self._actions)
        while (began := time.perf_counter()) < until:
            seen = self._env.step(actions)[0]
            took_us = (time.perf_counter() - began) * 1e6
            times += [took_us] * len(actions)
            self._count += 1
            if not (seen == self._count).all():
                raise ValueError(f"step {self._count} came to {seen}")
        return times

    async def close(self) -> None:
        """Close it."""
        self._env.close()


class Mixed:
    """Half of the sessions as `EnvClients` has them, the others as `Multiplexed`."""

    def __init__(self, url: str, environment: str) -> None:
        self._halves = (EnvClients(url, environment), Multiplexed(url, environment))

    async def open(self, sessions: int) -> int:
        """Open so many sessions, and reset them; return how many were refused."""
        first, second = self._halves
        return await first.open(sessions // 2) + await second.open(sessions - sessions // 2)

    async def play(self, until: float) -> list[float]:
        """Step each in a task of its own."""
        found = await asyncio.gather(*(half.play(until) for half in self._halves))
        return [one for times in found for one in times]

    async def close(self) -> None:
        """Close them."""
        for half in self._halves:
            await half.close()


HOWS: dict[str, Callable[[str, str], Player]] = {
    "env-clients": EnvClients,
    "connections": Connections,
    "websockets": WebSockets,
    "multiplexed": Multiplexed,
    "batched": Batched,
    "first-ready": FirstReady,
    "blocking": Blocking,
    "mixed": Mixed,
    "vector": Vector,
    "vectorised": partial(Vector, whole=True),
}


def _script(environment: str, number: int) -> Script:
    return _Counted() if environment == "native" else _Said(number)


def _steps(env: Any, script: Script) -> Callable[[], Awaitable[None]]:
    async def step() -> None:
        script.check((await env.step(script.next())).observation)

    return step


def _result(outcome: envhub.StepResult | envhub.EnvhubError) -> envhub.StepResult:
    if isinstance(outcome, envhub.EnvhubError):
        raise outcome
    return outcome


if __name__ == "__main__":
    url, environment, how = sys.argv[1:]
    uvloop.run(obey(HOWS[how](url, environment)))
