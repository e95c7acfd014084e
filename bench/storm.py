"""The storm of OpenEnv's scaling study: sessions that all connect at once, for one step each.

Each connects, resets, takes a step that sleeps for a second, and closes. The environment is
written for OpenEnv and unmodified, on OpenEnv's server and on ours, where each session is a
process in a sandbox of its own. One client program for both.
"""

from __future__ import annotations

import random
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.figures import Group, percentile
from bench.peers import Client
from bench.plan import NATIVE, Plan, environments

DEADLINE_S = 1800.0
NUMBERS = (2048, 4096)
_QUICK_NUMBERS = (32,)
STOCK, OURS = "OpenEnv's server", "envhub"
_WAIT_S = 1.0
_ROUNDS = 5
_TARGET = 1.5
_PARTS = ("connect", "reset", "step", "close")
_OPTIONS = ("--max-sessions", "4200", "--max-connections", "4400", "--queue-s", "120",
            "--queue", "4200")  # fmt: skip


@dataclass(frozen=True)
class Storm:
    """What came of one storm.

    Args:
        sessions: that were to be.
        times: of each that came to its end, in seconds, for each of _PARTS.
        cpu_ms: of the server's side, for each session.
    """

    sessions: int
    times: list[list[float]]
    cpu_ms: float

    @property
    def success(self) -> float:
        """How many came to their end, in percent."""
        return 100.0 * len(self.times) / self.sessions

    def total_s(self, percent: float) -> float:
        """Return that percentile of what a session took in all."""
        return percentile([sum(one) for one in self.times], percent)


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    with environments(native=NATIVE) as folder:
        async with AsyncExitStack() as stack:
            clients = await _clients(stack, folder)
            for client in clients.values():  # starts the workers
                await _storm(client, 8, 0.0)
            for number in _QUICK_NUMBERS if plan.quick else NUMBERS:
                found: dict[str, list[Storm]] = {name: [] for name in clients}
                for _ in range(2 if plan.quick else _ROUNDS):
                    for name in random.sample(list(clients), len(clients)):
                        found[name].append(await _storm(clients[name], number, _WAIT_S))
                _add(group, number, found)
    return group


async def _clients(stack: AsyncExitStack, folder: Path) -> dict[str, Client]:
    python = await peers.openenv_python()
    stock = peers.openenv_server(python, folder=peers.OPENENV_WAIT)
    ours = await stack.enter_async_context(peers.our_server(folder, options=_OPTIONS))
    waiting = {
        STOCK: peers.storm_client(await stack.enter_async_context(stock), python),
        OURS: peers.storm_client(ours, python, "/envs/openenv_wait"),
    }
    return {name: await stack.enter_async_context(held) for name, held in waiting.items()}


async def _storm(client: Client, sessions: int, wait_s: float) -> Storm:
    before = client.server.used_with_ended_s()
    told = await client.tell({"sessions": sessions, "wait_s": wait_s})
    used_s = client.server.used_with_ended_s() - before
    for words, times in told["failures"].items():
        print(f"{times} times {words}", file=sys.stderr)
    return Storm(sessions, told["times"], used_s * 1000 / sessions)


def _add(group: Group, number: int, found: dict[str, list[Storm]]) -> None:
    at = f"{number:,} at once"
    for name, storms in found.items():
        for percent in (50, 99):
            values = [storm.total_s(percent) for storm in storms]
            group.add(f"{at}, {name}: p{percent} of the whole", "s", values)
        for at_part, part in enumerate(_PARTS):
            values = [percentile([one[at_part] for one in storm.times], 50) for storm in storms]
            group.add(f"{at}, {name}: p50 of {part}", "s", values)
        used = [storm.cpu_ms for storm in storms]
        what = "processor time of the server's side, each session"
        group.add(f"{at}, {name}: {what}", "ms", used)
        success = [storm.success for storm in storms]
        target = 100.0 if name == OURS else None
        group.add(f"{at}, {name}: success", "%", success, target, at_least=True)
    over, under = ([storm.total_s(99) for storm in found[name]] for name in (STOCK, OURS))
    group.add_ratio(f"{at}: {STOCK} ÷ {OURS}: p99 of the whole", over, under, target=_TARGET)
