"""Two vector environments side by side: everything that they return must be the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envhub
from envhub import VectorEnv

ENVS = Path(__file__).parent / "envs"
MODES = ("next_step", "same_step", "disabled")


def ours(name: str, num_envs: int, **options: Any) -> VectorEnv:
    return envhub.make_vec("classic", num_envs, envs=ENVS, which=name, **options)


def theirs(name: str, num_envs: int, mode: str, **options: Any) -> SyncVectorEnv:
    made = [lambda: gymnasium.make(name, **options)] * num_envs
    return SyncVectorEnv(made, autoreset_mode=AutoresetMode[mode.upper()])


def assert_same(one: Any, other: Any) -> None:
    """The same values, of the same types, in the same places."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype == object:
            assert_same(one.tolist(), other.tolist())
        else:
            np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def play_alike(
    one: gymnasium.vector.VectorEnv[Any, Any, Any],
    other: gymnasium.vector.VectorEnv[Any, Any, Any],
    *,
    seed: int,
    steps: int,
) -> int:
    """Play both, and return how many episodes have ended."""
    mode = one.metadata["autoreset_mode"]
    assert one.action_space == other.action_space
    assert one.observation_space == other.observation_space
    assert one.single_action_space == other.single_action_space
    assert one.single_observation_space == other.single_observation_space
    assert_same(one.metadata, other.metadata)
    one.action_space.seed(seed)
    assert_same(one.reset(seed=seed), other.reset(seed=seed))
    ended = 0
    for _ in range(steps):
        actions = one.action_space.sample()
        result = one.step(actions)
        assert_same(result, other.step(actions))
        over = result[2] | result[3]
        ended += int(over.sum())
        if mode is AutoresetMode.DISABLED and over.any():
            resets = [
                env.reset(seed=None, options={"reset_mask": over.copy()})
                for env in (one, other)
            ]
            assert_same(*resets)
    return ended
