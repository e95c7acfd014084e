"""Ids of Gymnasium's many times at once, beside its own SyncVectorEnv."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import envhub
from envhub.errors import UsageError
from tests.adapters.playing import MODES, assert_same, play_alike, theirs
from tests.gym.conftest import TAXI


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1", TAXI, "Blackjack-v1"])
def test_an_id_is_step_for_step_what_gymnasium_has(name: str, mode: str) -> None:
    options: dict[str, Any] = {"max_episode_steps": 25}
    one = envhub.make_vec(f"gym:{name}", 6, processes=2, autoreset_mode=mode, **options)
    other = theirs(name, 6, mode, **options)
    ended = play_alike(one, other, seed=5, steps=60)
    one.close()
    other.close()

    assert ended > 2


def test_an_id_with_a_vectorised_class_plays_as_gymnasium_s_make_vec() -> None:
    how: dict[str, Any] = {"vectorization_mode": "vector_entry_point", "max_episode_steps": 25}
    one = envhub.make_vec("gym:CartPole-v1", 6, **how)
    other = gymnasium.make_vec("CartPole-v1", 6, **how)
    one.action_space.seed(4)
    assert_same(one.reset(seed=9), other.reset(seed=9))
    ended = 0
    for _ in range(60):
        actions = one.action_space.sample()
        mine, theirs_ = one.step(actions), other.step(actions)
        assert_same((mine[0], *mine[2:]), (theirs_[0], *theirs_[2:]))
        np.testing.assert_array_equal(mine[1], theirs_[1])
        ended += int((mine[2] | mine[3]).sum())
    one.close()

    assert ended > 6


def test_an_id_without_one_says_so() -> None:
    with pytest.raises(UsageError, match="`FrozenLake-v1` has no vectorised class"):
        envhub.make_vec("gym:FrozenLake-v1", 2, vectorization_mode="vector_entry_point")
