"""One to 4,096 sessions by OpenEnv's own client, on OpenEnv's server and on ours.

At each number, in every round, each pair opens its sessions, steps them as fast as they go, and
closes them, in a new order; ratios are taken within a round. On our server each session is a
process in a sandbox of its own.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

from bench import peers
from bench.figures import Group
from bench.peers import Client, Played
from bench.plan import NATIVE, Plan, environments

DEADLINE_S = 3600.0
NUMBERS = (1, 4, 16, 64, 256, 1024, 4096)
_QUICK_NUMBERS = (1, 16)
STOCK = "OpenEnv's server and client"
FOLDER = "envhub, OpenEnv's folder and client"
ECHO = "envhub, echo, OpenEnv's client"
OURS = "envhub, echo, envhub.connect"
RATE, P50, P99 = "rate", "p50 of a step", "p99 of a step"
PROCESSOR = "processor time of the server's side, each step"
MEMORY = "memory of the server's side, each session"
# at these numbers, the rate over OpenEnv's is to be at least; and our p99 at most its half
_RATES = {64: 2.0, 256: 2.2, 1024: 3.0}
_HALF = 2.0
_MOST = 4096
_ROUNDS, _FEW_ROUNDS = 6, 2  # the latter from _MOST on
_PLAY_S, _LONG_PLAY_S, _QUICK_PLAY_S = 1.0, 6.0, 0.05
_WARM = 0.2  # of the time to play, before
_LEAST_FOR_MEMORY = 64  # below, the machine's noise is larger than the sessions
_OPTIONS = ("--max-sessions", "4200", "--max-connections", "4400", "--queue-s", "120")


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    with environments(native=NATIVE) as folder:
        async with AsyncExitStack() as stack:
            clients = await _clients(stack, folder)
            for number in _QUICK_NUMBERS if plan.quick else NUMBERS:
                found = await _measure(plan, clients, number)
                _add(plan, group, number, found)
    return group


async def _clients(stack: AsyncExitStack, folder: Path) -> dict[str, Client]:
    python = await peers.openenv_python()
    stock = await stack.enter_async_context(peers.openenv_server(python))
    ours = await stack.enter_async_context(peers.our_server(folder, options=_OPTIONS))
    at = "/envs"
    waiting = {
        STOCK: peers.openenv_client(stock, python),
        FOLDER: peers.openenv_client(ours, python, f"{at}/openenv_echo"),
        ECHO: peers.openenv_client(ours, python, f"{at}/echo"),
        OURS: peers.our_client(ours, "echo", "multiplexed"),
    }
    return {name: await stack.enter_async_context(held) for name, held in waiting.items()}


async def _measure(
    plan: Plan, clients: dict[str, Client], number: int
) -> dict[str, list[Played]]:
    play_s = _QUICK_PLAY_S if plan.quick else _LONG_PLAY_S if number >= _MOST else _PLAY_S
    rounds = _FEW_ROUNDS if plan.quick or number >= _MOST else _ROUNDS
    found: dict[str, list[Played]] = {name: [] for name in clients}
    for name in clients:  # the first sessions start the workers, and fill the ready pools
        await clients[name].play(min(number, 16), _QUICK_PLAY_S, _QUICK_PLAY_S)
    for _ in range(rounds):
        for name in random.sample(list(clients), len(clients)):
            found[name].append(await clients[name].play(number, _WARM * play_s, play_s))
    return found


def _add(plan: Plan, group: Group, number: int, found: dict[str, list[Played]]) -> None:
    at = f"{number:,} session{'s' if number > 1 else ''}"
    for name, rounds in found.items():
        values: dict[str, tuple[str, list[float]]] = {
            RATE: ("steps/s", [one.rate for one in rounds]),
            P50: ("ms", [one.percentile(50) / 1000 for one in rounds]),
            P99: ("ms", [one.percentile(99) / 1000 for one in rounds]),
            PROCESSOR: ("µs", [one.serving_us for one in rounds]),
        }
        if number >= _LEAST_FOR_MEMORY or plan.quick:
            values[MEMORY] = ("MB", [one.memory_mb for one in rounds])
        for what, (unit, samples) in values.items():
            group.add(f"{at}, {name}: {what}", unit, samples)
            curve = group.series.setdefault(f"{what}: {name}", [])
            curve.append((float(number), group.figures[-1].median))
        refused = [float(one.refused) for one in rounds]
        target = 0.0 if number >= _MOST and name == FOLDER else None
        group.add(f"{at}, {name}: refused", "sessions", refused, target)
    stock = found[STOCK]
    for name in (FOLDER, ECHO, OURS):
        ours, target = found[name], _RATES.get(number) if name != OURS else None
        over, under = ([one.rate for one in rounds] for rounds in (ours, stock))
        group.add_ratio(f"{at}: {name} ÷ {STOCK}: rate", over, under, target=target)
        over, under = ([one.percentile(99) for one in rounds] for rounds in (stock, ours))
        half = _HALF if target else None
        group.add_ratio(f"{at}: {STOCK} ÷ {name}: p99", over, under, target=half)
