"""CartPole, 64 and 1,024 at once, and a mere counter, in everybody's way to have many.

Each is a program of its own, with its library in a virtual environment of its own; in every
round each of them steps for a moment, in a new order, while the others are stopped. Ratios are
taken within a round. All get the same actions, at random.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import Group
from bench.plan import CARTPOLE, COUNTER, OTHERS, Plan, environments
from bench.pythons import ENVPOOL, PUFFERLIB, SB3, Library, NotInstalledError
from bench.turns import Contender, Turn, contender

DEADLINE_S = 3600.0
CARTPOLES, COUNTERS = "CartPole", "counter"
SIZES = (64, 1024)
PARTS = ((CARTPOLES, 64), (CARTPOLES, 1024), (COUNTERS, 64))
OURS = "envhub, strict"
AUTHORS = f"{OURS}, an author's class for all"
_PLAYER = str(OTHERS / "vector.py")
_ROUNDS, _TURN_S, _QUICK_TURN_S = 10, 0.4, 0.05


@dataclass(frozen=True)
class Way:
    """One way to have many environments.

    Args:
        name: in the table.
        how: of the player's WAYS, and what that is told besides.
        library: whose; None for what is installed beside us.
        parts: of PARTS, that it is measured in.
    """

    name: str
    how: str
    library: Library | None = None
    parts: tuple[tuple[str, int], ...] = PARTS


@dataclass(frozen=True)
class Goal:
    """What a ratio to the fastest of some ways is promised to be.

    Args:
        name: of those ways together.
        ways: their names.
        targets: by size.
        ours: what is compared with it.
        what: ours is, for people.
    """

    name: str
    ways: tuple[str, ...]
    targets: dict[int, float] = field(default_factory=dict)
    ours: str = OURS
    what: str = ""


_WHOLE = "Gymnasium's class for all of them"
_PUFFERS = ("PufferLib, 1 process", "PufferLib, 2 processes")
_AT_64 = tuple(part for part in PARTS if part[1] == 64)
_CARTPOLES = tuple(part for part in PARTS if part[0] == CARTPOLES)
WAYS = (
    Way(OURS, "envhub"),
    Way(AUTHORS, "envhub-whole", None, _CARTPOLES),
    Way("SyncVectorEnv", "sync"),
    Way("AsyncVectorEnv", "async"),
    Way(_WHOLE, "vectorised", None, _CARTPOLES),
    Way("SubprocVecEnv", "subproc", SB3, _AT_64),
    Way(_PUFFERS[0], "puffer 1", PUFFERLIB),
    Way(_PUFFERS[1], "puffer 2", PUFFERLIB),
    Way("EnvPool", "envpool", ENVPOOL, _CARTPOLES),
)
GOALS = (
    Goal("AsyncVectorEnv", ("AsyncVectorEnv",), {64: 14.0, 1024: 40.0}),
    Goal("SubprocVecEnv", ("SubprocVecEnv",), {64: 14.0}),
    Goal("PufferLib, the faster of both", _PUFFERS, {64: 2.5}),
    Goal("SyncVectorEnv", ("SyncVectorEnv",), {64: 1.8}),
    Goal("EnvPool", ("EnvPool",), {64: 0.8, 1024: 0.5}),
    Goal("EnvPool", ("EnvPool",), {64: 1.0, 1024: 1.0}, AUTHORS, ", an author's class for all"),
)


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    pythons = await asyncio.to_thread(_pythons, plan, group)
    with environments(cartpole=CARTPOLE, counter=COUNTER) as folder:
        for part in PARTS[:1] if plan.quick else PARTS:
            ways = [way for way in WAYS if way.name in pythons and part in way.parts]
            turns = await _measure(plan, part, ways, pythons, folder)
            _add(group, part, turns)
    return group


def _pythons(plan: Plan, group: Group) -> dict[str, str]:
    """Return a Python for each way there is, and tell the group of those that are not."""
    found = {}
    for way in WAYS:
        try:
            found[way.name] = (
                way.library.python(install=plan.install) if way.library else sys.executable
            )
        except NotInstalledError as error:
            group.absent[way.name] = str(error)
    return found


async def _measure(
    plan: Plan,
    part: tuple[str, int],
    ways: list[Way],
    pythons: dict[str, str],
    folder: Path,
) -> dict[str, list[Turn]]:
    seconds = _QUICK_TURN_S if plan.quick else _TURN_S
    turns: dict[str, list[Turn]] = {way.name: [] for way in ways}
    async with AsyncExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for way in ways:
            how, _, told = way.how.partition(" ")
            line = [pythons[way.name], _PLAYER, how, *map(str, part), told or str(folder)]
            # ours sleeps between turns by itself
            held = contender(line, pauses=not way.name.startswith(OURS))
            contenders[way.name] = await stack.enter_async_context(held)
        for at in range(plan.times(_ROUNDS) + 1):
            for name in random.sample(list(contenders), len(contenders)):
                turn = await contenders[name].turn(seconds)
                if at:  # the first round warms everything
                    turns[name].append(turn)
    return turns


def _add(group: Group, part: tuple[str, int], turns: dict[str, list[Turn]]) -> None:
    game, size = part
    at_once = f"{game}, {size:,} at once"
    for name, found in turns.items():
        group.add(f"{at_once}, {name}", "steps/s", [turn.rate for turn in found], keep=True)
    for name, found in turns.items():
        used = [turn.cpu_us for turn in found]
        group.add(f"{at_once}, {name}: processor time of all, each step", "µs", used)
    for goal in GOALS:
        there = [turns[name] for name in goal.ways if name in turns]
        if there and goal.ours in turns:
            ours = [turn.rate for turn in turns[goal.ours]]
            fastest = [max(turn.rate for turn in round_) for round_ in zip(*there, strict=True)]
            name = f"{at_once}: {goal.ours} ÷ {goal.name}"
            target = goal.targets.get(size) if game == CARTPOLES else None
            group.add_ratio(name, ours, fastest, target=target)
