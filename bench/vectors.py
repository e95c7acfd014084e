"""What many environments at once cost: Gymnasium's own ways to have them, and ours.

Every round takes a burst of each, in a new order, so that a busy moment of the machine falls on
all of them; the ratios are taken within a round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gymnasium

import envhub
from bench.figures import Group
from bench.plan import CARTPOLE, Plan, environments
from envhub.hub import make

DEADLINE_S = 1200.0
_SIZES = (8, 64, 1024)
_STEPS = 20_000  # of environments, in a burst
_QUICK_STEPS = 2_000
_MOST_PROCESSES = 64  # of AsyncVectorEnv, which has one for each environment
_OURS, _SYNC, _ASYNC = "envhub, strict", "SyncVectorEnv", "AsyncVectorEnv"

Vector = gymnasium.vector.VectorEnv[Any, Any, Any]


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    with environments(cartpole=CARTPOLE) as folder, ExitStack() as stack:
        stack.callback(make.close_hubs)
        for size in _SIZES:
            _measure(plan, group, size, folder)
    return group


def _measure(plan: Plan, group: Group, size: int, folder: Path) -> None:
    makes: dict[str, Callable[[], Vector]] = {
        _OURS: lambda: envhub.make_vec("cartpole", size, envs=folder),
        f"{_OURS}, 1 process": lambda: envhub.make_vec(
            "cartpole", size, envs=folder, processes=1
        ),
        "envhub, none": lambda: envhub.make_vec(
            "cartpole", size, envs=folder, isolation="none", exactly=True
        ),
        _SYNC: lambda: gymnasium.make_vec("CartPole-v1", size, vectorization_mode="sync"),
        _ASYNC: lambda: gymnasium.make_vec("CartPole-v1", size, vectorization_mode="async"),
    }
    if size > _MOST_PROCESSES:
        del makes[_ASYNC]
    rates: dict[str, list[float]] = {name: [] for name in makes}
    with ExitStack() as stack:
        subjects = {name: stack.enter_context(_open(making)) for name, making in makes.items()}
        order = list(subjects)
        for at in range(plan.times(20) + 1):
            random.shuffle(order)
            for name in order:
                steps = _QUICK_STEPS if plan.quick else _STEPS
                rate = _burst(subjects[name], steps // (10 if name == _ASYNC else 1) // size)
                if at:  # the first round warms everything
                    rates[name].append(rate)
    for name, found in rates.items():
        group.add(f"CartPole, {size} at once, {name}", "steps/s", found)
    for name in rates:
        if name != _OURS:
            group.add_ratio(f"CartPole, {size} at once: {_OURS} ÷ {name}", rates[_OURS],
                            rates[name])  # fmt: skip


@contextmanager
def _open(making: Callable[[], Vector]) -> Iterator[tuple[Vector, Any]]:
    env = making()
    try:
        env.reset(seed=1)
        env.action_space.seed(1)
        yield env, env.action_space.sample()
    finally:
        env.close()


def _burst(subject: tuple[Vector, Any], times: int) -> float:
    env, actions = subject
    times = max(times, 2)
    start = time.perf_counter()
    for _ in range(times):
        env.step(actions)
    return times * env.num_envs / (time.perf_counter() - start)
