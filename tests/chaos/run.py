"""One run: server, clients, monkey; then quiet, and the count of what is left."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import envhub
from envhub.errors import EnvhubError
from tests.chaos import cell
from tests.chaos.clients import Clients
from tests.chaos.models import MODELS
from tests.chaos.monkey import Monkey
from tests.chaos.server import ENVIRONMENTS, GRACE_S, Held, Server
from tests.protocol.proxy import cutting

DISK_BYTES = 32 * 1024 * 1024
_PORT = 8000
_PROXIES = 3
_PAUSE_S = 0.15  # between two deeds of the monkey, on average
_SETTLE_S = 45.0
_LOOK_S = 0.5
_SPARE_PLACES = 8  # beyond the programs' sessions
# descriptors: at their worst five to a session, one to a connection of its own, and the hub's
_PER_SESSION, _BESIDE = 6, 200
# what may be there afterwards beyond what there was before, by name. Threads: the pool for
# blocking work grows to what was needed at once, and stays.
ALLOWED = {
    "sessions": 0, "launchers": 0, "zygotes": 0, "session_processes": 0, "runners": 0,
    "agent_processes": 0, "other_processes": 0, "descriptors": 0, "threads": 40, "mounts": 0,
    "zombies": 0, "control_groups": 0, "files": 0,
}  # fmt: skip


class Run:
    """Everything of one run.

    Args:
        seed: of all choices.
        minutes: of disturbance.
        sessions: of all clients together.
        say: told how far it is.
    """

    def __init__(
        self, seed: int, minutes: float, sessions: int, say: Callable[[str], None]
    ) -> None:
        self.seed = seed
        self.minutes = minutes
        self.sessions = sessions
        self.violations: list[str] = []
        self._say = say
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        disk, shelf = self._folder / "disk", self._folder / "shelf"
        disk.mkdir()
        shelf.mkdir()
        cell.furnish(disk, DISK_BYTES)
        self._server = Server(
            disk,
            shelf,
            _PORT,
            places=sessions + _SPARE_PLACES,
            descriptors=_PER_SESSION * sessions + _BESIDE,
        )

    async def play(self) -> dict[str, Any]:
        """Play it; return the report."""
        began = time.monotonic()
        server, loop = self._server, asyncio.get_running_loop()
        self._say("starting")
        server.start()
        before = await self._settled(None)
        async with AsyncExitStack() as stack:
            proxies = [
                await stack.enter_async_context(cutting(server.url)) for _ in range(_PROXIES)
            ]
            clients = Clients(
                server.url,
                [url for url, _ in proxies],
                self.sessions,
                think_s=max(0.1, self.sessions / 500),
                seed=self.seed,
            )
            cutters = [cutter for _, cutter in proxies]
            monkey = Monkey(server, cutters, clients.replace_one, self.seed)
            await clients.start()
            half_s, pause_s = self.minutes * 30, _PAUSE_S
            self._say("disturbed")
            await monkey.disturb(loop.time() + half_s, pause_s)
            self._say("the hub is killed")
            self.violations += await asyncio.to_thread(server.kill)
            monkey.did["SIGKILL of the hub"] += 1
            await asyncio.to_thread(server.start)
            await monkey.disturb(loop.time() + half_s, pause_s)
            self._say("let go")
            await monkey.rest()
            busiest = server.held()
            self._say("last episodes")
            await clients.finish()
        by_program = clients.by_program()
        # of a client that was killed the hub keeps the sessions, for a while
        await asyncio.sleep(GRACE_S)
        self._say("quiet")
        after = await self._settled(before)
        self._say("all places at once")
        await self._places_are_free()
        self._count_leaks(before, after)
        self.violations += server.complaints()
        self._say("told to end")
        self.violations += await asyncio.to_thread(server.stop)
        for name, tally in by_program.items():
            self.violations += [f"{name}: {wrong}" for wrong in tally.wrong]
        if self.violations:
            self._say(f"the later logs are in {server.shelf}")
        else:
            cell.clear(server.disk)
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "sessions": self.sessions,
            "took_s": round(time.monotonic() - began, 1),
            "programs": {name: tally.as_dict() for name, tally in by_program.items()},
            "operations": _sum(by_program, "operations"),
            "right": _sum(by_program, "right"),
            "wrong": _sum(by_program, "wrong"),
            "errors": dict(sum((t.errors for t in by_program.values()), Counter())),
            "monkey": dict(monkey.did),
            "before": asdict(before),
            "busiest": asdict(busiest),
            "after": asdict(after),
            "allowed": ALLOWED,
            "violations": self.violations,
        }

    async def _settled(self, like: Held | None) -> Held:
        """Use each environment once more, and return what is held when that has come to rest.

        Args:
            like: as little as that; None for whatever it is that stays the same for a while.
        """
        await self._use_each()
        until = time.monotonic() + _SETTLE_S
        held, same = self._server.held(), 0
        while time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
            now = self._server.held()
            if like is not None and not now.beyond(like, ALLOWED):
                return now
            same = same + 1 if not now.beyond(held, ALLOWED) else 0
            held = now
            if like is None and same >= 3:
                break
        return held

    async def _use_each(self) -> None:
        """Play a step of each environment, as the first of a server do and the last."""
        async with envhub.connect(self._server.url) as hub:
            for name in ENVIRONMENTS:
                try:
                    async with hub.session(name) as session:
                        await session.reset(seed=1)
                        action = {} if name == "chain" else {"code": "pass"}
                        await session.step(action)
                except EnvhubError as error:
                    self.violations.append(f"{name}, in quiet: {type(error).__name__}: {error}")

    async def _places_are_free(self) -> None:
        """Open as many sessions as there are places, at once."""
        async with envhub.connect(self._server.url) as hub:
            opening = [hub.open("chain") for _ in range(self._server.places)]
            found = await asyncio.gather(*opening, return_exceptions=True)
            failed = [one for one in found if isinstance(one, BaseException)]
            if failed:
                self.violations.append(f"{len(failed)} place(s) are not free: {failed[0]!r}")
            await asyncio.gather(
                *(one.aclose() for one in found if not isinstance(one, BaseException))
            )

    def _count_leaks(self, before: Held, after: Held) -> None:
        for name, (then, now) in after.beyond(before, ALLOWED).items():
            self.violations.append(f"leaked: {name}: {then} before, {now} after")


def _sum(by_program: dict[str, Any], name: str) -> int:
    return sum(tally.counts[name] for tally in by_program.values())


assert set(MODELS) == set(ENVIRONMENTS)
