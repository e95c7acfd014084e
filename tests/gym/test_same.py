"""The same seeds give the same trajectories as Gymnasium in this process, to the bit."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import envhub
from envhub import EnvClient, Hub
from tests.gym.conftest import ENVS, PLAYED

STEPS = 200
SEEDS = (0, 7, 2**31)


def same(mine: Any, theirs: Any) -> bool:
    """Whether an observation is the other's; a tuple has come as a list."""
    if isinstance(theirs, np.ndarray):
        return (
            isinstance(mine, np.ndarray)
            and mine.dtype == theirs.dtype
            and mine.shape == theirs.shape
            and mine.tobytes() == theirs.tobytes()
        )
    if isinstance(theirs, tuple):
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    if isinstance(theirs, dict):
        return mine.keys() == theirs.keys() and all(same(mine[k], theirs[k]) for k in theirs)
    return bool(type(mine) in (int, float, str) and mine == theirs)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLAYED)
async def test_of_an_id(hub: Hub, name: str, seed: int) -> None:
    ends = set()
    with gymnasium.make(name) as theirs:
        theirs.action_space.seed(seed)
        async with hub.session(f"gym:{name}") as mine:
            first, (observation, info) = await mine.reset(seed=seed), theirs.reset(seed=seed)
            assert same(first.observation, observation)
            assert same(first.metadata, info)
            assert first.reward is None
            for _ in range(STEPS):
                action = theirs.action_space.sample()
                got = await mine.step(action)
                observation, reward, terminated, truncated, info = theirs.step(action)

                assert same(got.observation, observation)
                assert (got.terminated, got.truncated) == (terminated, truncated)
                assert got.reward == float(reward)
                assert same(got.metadata, info)
                if terminated or truncated:  # the generator goes on from where it is
                    ends.add((terminated, truncated))
                    again, (observation, info) = await mine.reset(), theirs.reset()
                    assert same(again.observation, observation)
                    assert same(again.metadata, info)
    assert ends  # an episode has ended, one way or the other
    if name == "Pendulum-v1":
        assert ends == {(False, True)}


def test_blocking_with_limits_of_the_folders_own() -> None:
    with gymnasium.make("Pendulum-v1", max_episode_steps=3, g=9.81) as theirs:
        with envhub.make("short", envs=ENVS) as mine:
            assert same(mine.reset(seed=5).observation, theirs.reset(seed=5)[0])
            for step in range(1, 4):
                got = mine.step(np.array([0.25]))
                observation, reward, *ends, _ = theirs.step(np.array([0.25], np.float32))
                assert same(got.observation, observation)
                assert (got.reward, got.terminated, got.truncated) == (reward, *ends)
                assert got.truncated is (step == 3)


async def test_over_the_network_in_both_forms(url: str) -> None:
    """An OpenEnv client gets lists, and numbers of 64 bits that are those of 32."""
    with gymnasium.make("CartPole-v1") as theirs:
        observation, _ = theirs.reset(seed=4)
        async with (
            envhub.connect(url) as hub,
            hub.session("gym:CartPole-v1") as native,
            EnvClient(f"{url}/envs/gym:CartPole-v1") as openenv,
        ):
            here, there = await native.reset(seed=4), await openenv.reset(seed=4)
            assert same(here.observation, observation)
            assert there.observation["observation"] == observation.tolist()
            done = False
            while not done:
                here, there = await native.step(1), await openenv.step({"action": 1})
                observation, reward, terminated, truncated, _ = theirs.step(1)
                assert same(here.observation, observation)
                assert there.observation["observation"] == observation.tolist()
                assert here.reward == there.reward == reward
                assert there.observation["metadata"]["terminated"] is terminated
                done = terminated or truncated
                assert here.done is there.done is done
