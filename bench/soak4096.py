"""4,096 sessions of a server, stepping for ten minutes, and what they leave behind.

Half of them have a connection each, over OpenEnv's protocol; the others share one, over ours.
Each is a process in a sandbox of its own. All step as fast as they go, and every observation is
compared; one that is wrong, or a step that fails, ends the benchmark. It is run by its name.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

from bench import machine, peers, processes
from bench.figures import Group, percentile
from bench.peers import Server
from bench.plan import NATIVE, Plan, environments

DEADLINE_S = 3600.0
SESSIONS, _QUICK_SESSIONS = 4096, 16
_SPANS, _SPAN_S = 60, 10.0  # between two looks
_QUICK_SPANS, _QUICK_SPAN_S = 3, 0.2
_WARM = 0.2  # of the time, after which memory is to stay where it is
_GROWTH = 5.0  # percent, from then on
_SETTLE_S = 120.0
_OPTIONS = ("--max-sessions", "4200", "--max-connections", "4400", "--queue-s", "300")


@dataclass(frozen=True)
class Look:
    """What a server holds at one moment.

    Args:
        hub_mb: of the server's own process (PSS).
        sessions_mb: of all its descendants (PSS), taken from some of them.
        client_mb: of the client program (PSS).
        available_mb: of the machine, not used by anybody.
    """

    descriptors: int
    processes: int
    threads: int
    hub_mb: float
    sessions_mb: float
    client_mb: float
    available_mb: float


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    sessions = _QUICK_SESSIONS if plan.quick else SESSIONS
    spans, span_s = (_QUICK_SPANS, _QUICK_SPAN_S) if plan.quick else (_SPANS, _SPAN_S)
    looks: list[tuple[float, Look]] = []
    played: list[dict[str, float]] = []
    with environments(native=NATIVE) as folder:
        async with peers.our_server(folder, options=_OPTIONS) as server:
            async with peers.our_client(server, "echo", "mixed") as client:
                # the first sessions start the worker and fill the ready pool
                await client.play(_QUICK_SESSIONS, _QUICK_SPAN_S, _QUICK_SPAN_S)
                before = await _settled(server, client.pid)
                opened = await client.tell({"open": sessions})
                began = time.perf_counter()
                for _ in range(spans):
                    played.append(_summary(await client.tell({"play": span_s})))
                    after_s = time.perf_counter() - began
                    looks.append((after_s, await asyncio.to_thread(_look, server, client.pid)))
                await client.tell({"close": True})
                after = await _settled(server, client.pid, before)
    group = Group()
    at = f"{sessions:,} sessions"
    group.add(f"{at}: refused", "sessions", [float(opened["refused"])], 0.0)
    for what, unit in (("rate", "steps/s"), ("p50 of a step", "s"), ("p99 of a step", "s")):
        group.add(f"{at}: {what}", unit, [span[what] for span in played])
    for what, percent in _growths([look for _, look in looks]).items():
        group.add(f"{at}: growth of {what}", "%", [percent], _GROWTH, "from when it was warm")
    for what in ("descriptors", "processes", "threads"):
        left = float(getattr(after, what) - getattr(before, what))
        group.add(f"{at}: {what} left behind", what, [left], 0.0)
    for name in Look.__dataclass_fields__:
        group.series[name] = [(0.0, float(getattr(before, name)))]
        group.series[name] += [(at_s, float(getattr(look, name))) for at_s, look in looks]
        group.series[f"{name}, at last"] = [(looks[-1][0], float(getattr(after, name)))]
    return group


def _summary(told: dict[str, Any]) -> dict[str, float]:
    times: list[float] = told["times"]
    return {
        "rate": len(times) / float(told["took_s"]),
        "p50 of a step": percentile(times, 50) / 1e6,
        "p99 of a step": percentile(times, 99) / 1e6,
    }


def _growths(looks: list[Look]) -> dict[str, float]:
    """Return by how many percent memory grew from when it was warm to the last tenth."""
    warm = looks[int(len(looks) * _WARM)]
    last = looks[-max(1, len(looks) // 10) :]
    found = {}
    for what, name in (("the hub", "hub_mb"), ("the sessions", "sessions_mb")):
        now = statistics.median(getattr(look, name) for look in last)
        found[what] = 100.0 * (now / getattr(warm, name) - 1)
    return found


async def _settled(server: Server, client: int, first: Look | None = None) -> Look:
    """Look when all is at rest: as at first, or unchanged for a second."""
    until = time.monotonic() + _SETTLE_S
    was: Look | None = None
    while True:
        now = await asyncio.to_thread(_look, server, client)
        known = first or was
        counts = (now.descriptors, now.processes, now.threads)
        if known and counts == (known.descriptors, known.processes, known.threads):
            return now
        if time.monotonic() > until:
            return now
        was = now
        await asyncio.sleep(1.0)


def _look(server: Server, client: int) -> Look:
    hub = processes.pss(server.pid) / 1e6
    return Look(
        descriptors=processes.descriptors_of(server.pid),
        processes=len(processes.tree(server.pid)),
        threads=processes.threads_of(server.pid),
        hub_mb=hub,
        sessions_mb=server.memory_mb() - hub,
        client_mb=processes.pss(client) / 1e6,
        available_mb=machine.available_bytes() / 1e6,
    )
