"""PPO learns CartPole in our sandboxes, and to the bit what it learns without them."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from envhub.errors import WorkerLost
from tests.ecosystem.sb3.pairs import ours, theirs
from tests.serving import ROOT

pytestmark = pytest.mark.timeout(600)
SOLVED = 475.0  # Gymnasium's own mark for CartPole-v1


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # so small a network is no work for two


def learned(venv: Any, *, steps: int, callback: Any = None) -> Any:
    """Train, and close what was trained on."""
    model = PPO(
        "MlpPolicy", venv, n_steps=32, batch_size=256, n_epochs=20, gamma=0.98, gae_lambda=0.8,
        learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left,
        seed=0, device="cpu",
    )  # fmt: skip
    model.learn(steps, callback=callback)
    venv.close()
    return model


def rewards(model: Any) -> list[float]:
    """The sums of 40 episodes."""
    venv = VecMonitor(ours("CartPole-v1", 4))
    venv.seed(100)
    found: list[float]
    found, _ = evaluate_policy(model, venv, n_eval_episodes=40, return_episode_rewards=True)
    venv.close()
    return found


def weights(model: Any) -> bytes:
    return b"".join(one.detach().numpy().tobytes() for one in model.policy.parameters())


class Killing(BaseCallback):
    """Kills a process now and then, and keeps what the infos say of it."""

    def __init__(self, env: Any, every: int) -> None:
        super().__init__()
        self.env = env
        self.every = every
        self.lost: list[Any] = []

    def _on_step(self) -> bool:
        self.lost += [info for info in self.locals["infos"] if "envhub_error" in info]
        if self.n_calls % self.every == 0:
            pidfd = os.pidfd_open(self.env.pids[self.n_calls // self.every % 2])
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 10)
            os.close(pidfd)
        return True


def test_the_example_of_the_page_learns() -> None:
    page = (ROOT / "docs" / "gymnasium.md").read_text()
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "PPO(" in b]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= SOLVED


def test_it_learns_though_processes_are_killed() -> None:
    venv = ours("CartPole-v1", 8)
    killing = Killing(venv.vector_env, every=1000)
    found = rewards(learned(VecMonitor(venv), steps=40_000, callback=killing))

    assert killing.n_calls == 5024
    assert len(killing.lost) == 5 * 4  # as many deaths, of four environments each
    assert all(isinstance(info["envhub_error"], WorkerLost) for info in killing.lost)
    assert all(info["TimeLimit.truncated"] for info in killing.lost)
    assert all("episode" in info for info in killing.lost)  # VecMonitor's
    assert np.mean(found) > 300  # without learning it is 20


def test_it_learns_to_the_bit_what_it_learns_on_dummyvecenv() -> None:
    one, other = (learned(make("CartPole-v1", 8), steps=8_000) for make in (ours, theirs))

    assert weights(one) == weights(other)
