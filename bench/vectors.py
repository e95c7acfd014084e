"""What many environments at once cost: Gymnasium's own ways to have them, and ours.

Every round takes a burst of each, in a new order, so that a busy moment of the machine falls on
all of them; the ratios are taken within a round. Processor time is that of our own process and
of those that step, so that it can be compared on a busy machine, too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

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
_BARE = "one after another, in a loop"
_PIXELS = 16  # environments of 210 x 160 x 3 bytes
_SCREEN = '''"""A screen as large as an Atari's, which is another array after each step."""
import gymnasium
import numpy as np

class Env(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0, 255, (210, 160, 3), np.uint8)

    def __init__(self):
        self.screen = np.zeros((210, 160, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        return self.screen.copy(), {}

    def step(self, action):
        return self.screen.copy(), 0.0, False, False, {}
'''

Vector = gymnasium.vector.VectorEnv[Any, Any, Any]


class Stepping:
    """A vector environment that steps.

    Args:
        env: it.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        env.reset(seed=1)
        env.action_space.seed(1)
        self.actions = env.action_space.sample()

    def play(self, times: int) -> None:
        """Step all environments so often."""
        for _ in range(times):
            self.env.step(self.actions)

    def burst(self, steps: int) -> tuple[float, float]:
        """Take so many steps of environments; return steps/s, and the processor's µs of one."""
        times = max(steps // self.env.num_envs, 2)
        pids = getattr(self.env, "pids", ())
        used = sum(map(_used_us, pids)) + time.process_time() * 1e6
        start = time.perf_counter()
        self.play(times)
        took = time.perf_counter() - start
        used = sum(map(_used_us, pids)) + time.process_time() * 1e6 - used
        done = times * self.env.num_envs
        return done / took, used / done


class Receiving(Stepping):
    """The same by `send` and `recv`, of the first process that is ready."""

    def play(self, times: int) -> None:
        """Have as many steps as if all environments stepped so often."""
        env, left = self.env, times * self.env.num_envs
        env.send(self.actions, np.arange(env.num_envs))
        while env._sent:
            seen, _, _, _, infos = env.recv()
            ids = infos["env_id"]
            left -= len(ids)
            if left > 0:
                env.send(self.actions[ids], ids)
            del seen, infos


class Alone(Stepping):
    """Environments without any of it: what the rest is added to."""

    def __init__(self, envs: list[gymnasium.Env[Any, Any]]) -> None:
        self.envs, self.num_envs = envs, len(envs)
        self.env: Any = self
        for at, env in enumerate(envs):
            env.reset(seed=at)

    def play(self, times: int) -> None:
        """Step all so often; a reset counts as a step, as it does for the rest."""
        action, over = np.int64(1), [False] * self.num_envs
        for _ in range(times):
            for at, env in enumerate(self.envs):
                if over[at]:
                    env.reset()
                    over[at] = False
                else:
                    _, _, terminated, truncated, _ = env.step(action)
                    over[at] = terminated or truncated

    def close(self) -> None:
        """Close them."""
        for env in self.envs:
            env.close()


def _used_us(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e3


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    with environments(cartpole=CARTPOLE, screen=_SCREEN) as folder, ExitStack() as stack:
        stack.callback(make.close_hubs)
        for size in _SIZES:
            _measure(plan, group, f"CartPole, {size} at once", size, _cartpoles(size, folder))
        _measure(plan, group, f"Pixels, {_PIXELS} at once", _PIXELS, _pixels(folder))
    return group


def _cartpoles(size: int, folder: Path) -> dict[str, Callable[[], Stepping]]:
    def ours(**options: Any) -> Vector:
        return envhub.make_vec("cartpole", size, envs=folder, **options)

    def theirs(mode: str) -> Vector:
        return gymnasium.make_vec("CartPole-v1", size, vectorization_mode=mode)

    found: dict[str, Callable[[], Stepping]] = {
        _OURS: lambda: Stepping(ours()),
        f"{_OURS}, 1 process": lambda: Stepping(ours(processes=1)),
        f"{_OURS}, send and recv": lambda: Receiving(ours()),
        f"{_OURS}, 4 processes": lambda: Stepping(ours(processes=4)),
        f"{_OURS}, an author's vectorised class": lambda: Stepping(
            ours(vectorization_mode="vector_entry_point")
        ),
        "envhub, none": lambda: Stepping(ours(isolation="none", exactly=True)),
        _SYNC: lambda: Stepping(theirs("sync")),
        _BARE: lambda: Alone([gymnasium.make("CartPole-v1") for _ in range(size)]),
    }
    if size <= _MOST_PROCESSES:
        found[_ASYNC] = lambda: Stepping(theirs("async"))
    return found


def _pixels(folder: Path) -> dict[str, Callable[[], Stepping]]:
    def ours(**options: Any) -> Vector:
        return envhub.make_vec("screen", _PIXELS, envs=folder, **options)

    def theirs(kind: type) -> Any:
        names: dict[str, Any] = {}
        exec(_SCREEN, names)
        return kind([names["Env"]] * _PIXELS)

    return {
        _OURS: lambda: Stepping(ours()),
        f"{_OURS}, 1 process, no copy": lambda: Stepping(ours(copy=False, processes=1)),
        f"{_OURS}, send and recv, no copy": lambda: Receiving(ours(copy=False)),
        _SYNC: lambda: Stepping(theirs(gymnasium.vector.SyncVectorEnv)),
        _ASYNC: lambda: Stepping(theirs(gymnasium.vector.AsyncVectorEnv)),
    }


def _measure(
    plan: Plan, group: Group, what: str, size: int, makes: dict[str, Callable[[], Stepping]]
) -> None:
    rates: dict[str, list[float]] = {name: [] for name in makes}
    used: dict[str, list[float]] = {name: [] for name in makes}
    with ExitStack() as stack:
        subjects = {name: stack.enter_context(_open(making)) for name, making in makes.items()}
        order = list(subjects)
        for at in range(plan.times(20) + 1):
            random.shuffle(order)
            for name in order:
                steps = _QUICK_STEPS if plan.quick else _STEPS
                found = subjects[name].burst(steps // (10 if name == _ASYNC else 1))
                if at:  # the first round warms everything
                    rates[name].append(found[0])
                    used[name].append(found[1])
    for name in rates:
        group.add(f"{what}, {name}", "steps/s", rates[name])
    for name in rates:
        if name != _ASYNC:  # whose processes nobody lists
            group.add(f"{what}, {name}: processor time of a step", "µs", used[name])
    for name in rates:
        if name != _OURS:
            group.add_ratio(f"{what}: {_OURS} ÷ {name}", rates[_OURS], rates[name])


@contextmanager
def _open(making: Callable[[], Stepping]) -> Iterator[Stepping]:
    subject = making()
    try:
        yield subject
    finally:
        subject.env.close()
