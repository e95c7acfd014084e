"""Our `VecEnv` and Stable-Baselines3's `DummyVecEnv`, of the same environments."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

import envhub

ENVS = Path(__file__).parent / "envs"


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("boxed", ENVS / "boxed" / "env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


boxed = _module()


def ours(which: str, num_envs: int, *, processes: int = 2, **options: Any) -> Any:
    return envhub.make_sb3_vec(
        "boxed", num_envs, envs=ENVS, which=which, processes=processes, **options
    )


def theirs(which: str, num_envs: int, **options: Any) -> Any:
    return DummyVecEnv([lambda: boxed.make(which, **options)] * num_envs)


def assert_same(one: Any, other: Any) -> None:
    """The same values to the bit, of the same types."""
    if isinstance(other, dict):
        assert isinstance(one, dict)
        assert set(one) == set(other)
        for key in other:
            assert_same(one[key], other[key])
    elif isinstance(other, list | tuple):
        assert type(one) is type(other)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(other, np.ndarray):
        assert isinstance(one, np.ndarray)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    else:
        assert type(one) is type(other)
        assert one == other


def play_alike(one: Any, other: Any, *, seed: int, steps: int) -> int:
    """Play both, and return how many episodes have ended."""
    assert one.num_envs == other.num_envs
    assert one.observation_space == other.observation_space
    assert one.action_space == other.action_space
    assert one.render_mode == other.render_mode
    assert_same(one.metadata, other.metadata)
    one.action_space.seed(seed)
    assert one.seed(seed) == other.seed(seed)
    assert_same(one.reset(), other.reset())
    assert_same(one.reset_infos, other.reset_infos)
    ended = 0
    for _ in range(steps):
        actions = np.array([one.action_space.sample() for _ in range(one.num_envs)])
        result = one.step(actions)
        assert_same(result, other.step(actions))
        assert_same(one.reset_infos, other.reset_infos)
        ended += int(result[2].sum())
    return ended
