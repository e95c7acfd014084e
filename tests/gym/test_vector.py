"""Ids of Gymnasium's many times at once, beside its own SyncVectorEnv."""

from __future__ import annotations

from typing import Any

import pytest

import envhub
from tests.adapters.playing import MODES, play_alike, theirs
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
