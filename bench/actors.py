"""64 sessions in lockstep, ours beside Ray's actors: all take a step, and then all the next.

Each actor and each session is a process, ours in a sandbox, too. They step in turns.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import AsyncExitStack

from bench.figures import Group
from bench.plan import NATIVE, OTHERS, Plan, environments
from bench.pythons import RAY, NotInstalledError
from bench.turns import Contender, Turn, contender

DEADLINE_S = 3600.0
SESSIONS = 64
OURS, RAYS = "envhub, strict", "Ray's actors"
_ROUNDS, _TURN_S, _QUICK_TURN_S = 10, 1.0, 0.1
# nothing leaves the machine
_VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0"}


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    pythons = {OURS: ("envhub", sys.executable)}
    try:
        pythons[RAYS] = ("ray", await asyncio.to_thread(RAY.python, install=plan.install))
    except NotInstalledError as error:
        group.absent[RAYS] = str(error)
    turns: dict[str, list[Turn]] = {name: [] for name in pythons}
    with environments(native=NATIVE) as folder:
        async with AsyncExitStack() as stack:
            contenders: dict[str, Contender] = {}
            for name, (way, python) in pythons.items():
                player = str(OTHERS / "lockstep.py")
                line = [python, player, way, str(SESSIONS), str(folder)]
                held = contender(line, _VARIABLES, pauses=False)
                contenders[name] = await stack.enter_async_context(held)
            for at in range(plan.times(_ROUNDS) + 1):
                for name in random.sample(list(contenders), len(contenders)):
                    turn = await contenders[name].turn(_QUICK_TURN_S if plan.quick else _TURN_S)
                    if at:  # the first round warms everything
                        turns[name].append(turn)
    at_once = f"{SESSIONS} in lockstep"
    for name, found in turns.items():
        group.add(f"{at_once}, {name}", "steps/s", [turn.rate for turn in found])
        used = [turn.cpu_us for turn in found]
        group.add(f"{at_once}, {name}: processor time of all, each step", "µs", used)
    if RAYS in turns:
        over, under = ([turn.rate for turn in turns[name]] for name in (OURS, RAYS))
        group.add_ratio(f"{at_once}: {OURS} ÷ {RAYS}", over, under)
    return group
