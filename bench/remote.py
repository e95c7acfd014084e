"""A server's steps: OpenEnv's and ours, by its client and ours, 64 sessions and one.

The environment says back what it is told; in ours each session is a process in a sandbox of
its own. Server and client are programs of their own. In every round each pair opens its
sessions, steps them as fast as it can for a second, and closes them, in a new order; ratios
are taken within a round. Every observation is checked.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.figures import Group
from bench.peers import Client, Played
from bench.plan import COUNTERS, NATIVE, Plan, environments

DEADLINE_S = 1800.0
SESSIONS = 64
STOCK = f"{SESSIONS} sessions, OpenEnv's server and client"
TOGETHER = f"{SESSIONS} environments in one session, make_vec"
SERVING = "processor time of the server and the sessions' processes"
PROGRAMS = ("the server", "the sessions' processes", "the client")
_ONE = "1 session, one core"
ONE_STOCK = f"{_ONE}, OpenEnv's server and client"
_CONNECTIONS_TARGET, _MULTIPLEXED_TARGET, _BATCHED_TARGET = 4.0, 8.0, 10.0
_VECTOR_TARGET = 40.0
_FOLDER, _ECHO, _NATIVE, _COUNTERS = "openenv_echo", "echo", "native", "counters"
WEBSOCKET = "websocket"
_ROUNDS = 10
_PLAY_S, _QUICK_PLAY_S = 1.0, 0.05
_WARM_S = 0.2


@dataclass(frozen=True)
class Pair:
    """A server and a client.

    Args:
        name: in the table.
        environment: its name on our server; "" on OpenEnv's; or WEBSOCKET, for none at all.
        how: of `bench.player.HOWS`; or the event loop that OpenEnv's client runs on.
        target: of its rate over that of STOCK; of one session, of the stock p50 over its own.
        cpu_target: of one session, of the stock server's processor time over its server's and
            its sessions' together.
    """

    name: str
    environment: str
    how: str
    target: float | None = None
    cpu_target: float | None = None

    @property
    def is_one(self) -> bool:
        """Whether it has a single session, and a single core."""
        return self.name.startswith(_ONE)


def _pairs() -> Iterator[Pair]:
    many = f"{SESSIONS} sessions"
    yield Pair(STOCK, "", "asyncio")
    yield Pair(f"{STOCK} on uvloop", "", "uvloop")
    yield Pair(f"{many}, envhub, OpenEnv's folder and client", _FOLDER, "asyncio")
    yield Pair(f"{many}, envhub, EnvClient, echo", _ECHO, "env-clients")
    over = f"{many}, envhub.connect"
    for environment in (_ECHO, _NATIVE):
        each = f"{over}, a connection each, {environment}"
        yield Pair(each, environment, "connections", _CONNECTIONS_TARGET)
        multiplexed = f"{over}, a task each, {environment}"
        yield Pair(multiplexed, environment, "multiplexed", _MULTIPLEXED_TARGET)
        yield Pair(f"{over}, batch, {environment}", environment, "batched", _BATCHED_TARGET)
        yield Pair(f"{over}, first 16 of batch, {environment}", environment, "first-ready")
    yield Pair(f"{over}, batch, OpenEnv's folder", _FOLDER, "batched")
    yield Pair(f"{TOGETHER}, counters", _COUNTERS, "vector", _VECTOR_TARGET)
    yield Pair(f"{TOGETHER}, their vectorised class", _COUNTERS, "vectorised", _VECTOR_TARGET)
    yield Pair(f"{many}, a WebSocket echo, no environment", WEBSOCKET, "websockets")
    yield Pair(ONE_STOCK, "", "asyncio")
    yield Pair(f"{_ONE}, envhub, OpenEnv's folder and client", _FOLDER, "asyncio", 2.0, 4.0)
    yield Pair(f"{_ONE}, envhub, echo, OpenEnv's client", _ECHO, "asyncio", 2.0, 4.0)
    yield Pair(f"{_ONE}, envhub, EnvClient, echo", _ECHO, "env-clients")
    yield Pair(f"{_ONE}, envhub.connect, OpenEnv's folder", _FOLDER, "multiplexed", 6.0)
    yield Pair(f"{_ONE}, envhub.connect, echo", _ECHO, "multiplexed")
    yield Pair(f"{_ONE}, envhub.connect, native", _NATIVE, "multiplexed", 8.0)
    blocking = f"{_ONE}, envhub.connect, blocking"
    yield Pair(f"{blocking}, OpenEnv's folder", _FOLDER, "blocking", 6.0)
    yield Pair(f"{blocking}, echo", _ECHO, "blocking")
    yield Pair(f"{blocking}, native", _NATIVE, "blocking", 8.0)
    yield Pair(f"{_ONE}, a WebSocket echo, no environment", WEBSOCKET, "websockets")


PAIRS = tuple(_pairs())


def processor_time(pair: str, who: str) -> str:
    """Return the name of the figure that says what one of PROGRAMS uses."""
    return f"{pair}: processor time of {who}, each step"


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    play_s = _QUICK_PLAY_S if plan.quick else _PLAY_S
    warm_s = min(_WARM_S, play_s)
    found: dict[str, list[Played]] = {pair.name: [] for pair in PAIRS}
    with environments(native=NATIVE, counters=COUNTERS) as folder:
        async with AsyncExitStack() as stack:
            clients = await _clients(stack, folder)
            for at in range(plan.times(_ROUNDS) + 1):
                for pair in random.sample(PAIRS, len(PAIRS)):
                    sessions = 1 if pair.is_one else SESSIONS
                    played = await clients[pair.name].play(sessions, warm_s, play_s)
                    if at:  # the first round starts the workers, and warms everything
                        found[pair.name].append(played)
    return _figures(found)


async def _clients(stack: AsyncExitStack, folder: Path) -> dict[str, Client]:
    """Start servers and clients; return the clients by the names of their pairs."""
    python = await peers.openenv_python()
    found: dict[str, Client] = {}
    for core in (None, max(os.sched_getaffinity(0))):
        stock = await stack.enter_async_context(peers.openenv_server(python, core))
        ours = await stack.enter_async_context(peers.our_server(folder, core))
        echo = await stack.enter_async_context(peers.echo_server(core))
        for pair in PAIRS:
            if pair.is_one == (core is None):
                continue
            server = {"": stock, WEBSOCKET: echo}.get(pair.environment, ours)
            if pair.how in ("asyncio", "uvloop"):
                path = f"/envs/{pair.environment}" if pair.environment else ""
                client = peers.openenv_client(server, python, path, pair.how, core)
            else:
                client = peers.our_client(server, pair.environment, pair.how, core)
            found[pair.name] = await stack.enter_async_context(client)
    return found


def _figures(found: dict[str, list[Played]]) -> Group:
    group = Group()
    for name, rounds in found.items():
        times = [one for played in rounds for one in played.times]
        group.add(f"{name}: one step", "µs", times)
        rates = [played.rate for played in rounds]
        group.add(f"{name}: rate", "steps/s", rates)
        costs = [(one.server_us, one.sessions_us, one.client_us) for one in rounds]
        for who, used in zip(PROGRAMS, zip(*costs, strict=True), strict=True):
            if any(used):  # OpenEnv's sessions have no processes
                group.add(processor_time(name, who), "µs", used)
        group.series[name] = [(float(at), rate) for at, rate in enumerate(rates)]
    for pair in PAIRS:
        if pair.is_one and pair.name != ONE_STOCK:
            _add_latency(group, pair, found[ONE_STOCK], found[pair.name])
        elif pair.name != STOCK and not pair.is_one:
            rates, stock = (
                [played.rate for played in found[name]] for name in (pair.name, STOCK)
            )
            name = f"{pair.name} ÷ OpenEnv's server and client: rate"
            group.add_ratio(name, rates, stock, target=pair.target)
    return group


def _add_latency(group: Group, pair: Pair, stock: list[Played], found: list[Played]) -> None:
    name = f"{ONE_STOCK} ÷ {pair.name[len(_ONE) + 2 :]}"
    over, under = ([played.percentile(50) for played in one] for one in (stock, found))
    group.add_ratio(f"{name}: p50", over, under, target=pair.target)
    over, under = ([played.serving_us for played in one] for one in (stock, found))
    group.add_ratio(f"{name}: {SERVING}", over, under, target=pair.cpu_target)
