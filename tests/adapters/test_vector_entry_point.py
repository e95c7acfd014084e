"""An author's own vectorised class: what it returns is what comes out."""

from __future__ import annotations

import importlib.util
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode

import envhub
from envhub import VectorEnv
from envhub.errors import EnvironmentFailed, ResetNeeded, UsageError, WorkerLost
from tests.adapters.playing import ENVS, assert_same
from tests.adapters.test_vector_losses import kill

NOTHING, END, RAISE, EXIT, NAN, SHAPE = range(6)


def ours(num_envs: int = 4, **options: Any) -> VectorEnv:
    return envhub.make_vec(
        "whole", num_envs, envs=ENVS, vectorization_mode="vector_entry_point", **options
    )


def theirs(num_envs: int, mode: str) -> Any:
    """The very class, in this process."""
    spec = importlib.util.spec_from_file_location("whole_env", ENVS / "whole" / "env.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Counting(num_envs, AutoresetMode(mode))


def test_gymnasiums_own_cartpole_plays_as_it_does_here() -> None:
    one = ours(7, which="cartpole", max_episode_steps=30)
    other = CartPoleVectorEnv(7, max_episode_steps=30)
    assert one.metadata == other.metadata
    assert one.action_space == other.action_space
    assert one.observation_space == other.observation_space
    ended = 0
    for seed in (3, 11):
        one.action_space.seed(seed)
        assert_same(one.reset(seed=seed), other.reset(seed=seed))
        for _ in range(60):
            actions = one.action_space.sample()
            seen, rewards, *rest = one.step(actions)
            expected, their_rewards, *their_rest = other.step(actions)
            assert_same(seen, expected)
            assert_same(rest, their_rest)
            np.testing.assert_array_equal(rewards, their_rewards)  # ours are of float64
            ended += int(rest[0].sum() + rest[1].sum())
    one.close()

    assert ended > 10


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
def test_its_infos_and_its_mode_are_its_own(mode: str) -> None:
    one, other = ours(3, mode=mode), theirs(3, mode)
    assert one.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert_same(one.reset(seed=5, options={"level": 2}), other.reset(
        seed=5, options={"level": 2}))  # fmt: skip
    for actions in ([NOTHING] * 3, [END, NOTHING, END]):
        assert_same(one.step(np.array(actions)), other.step(np.array(actions)))
    if mode == "Disabled":
        with pytest.raises(ResetNeeded):
            one.step([NOTHING] * 3)
        mask = np.array([True, False, True])
        assert_same(*[env.reset(options={"reset_mask": mask.copy()}) for env in (one, other)])
    assert_same(one.step(np.array([NOTHING] * 3)), other.step(np.array([NOTHING] * 3)))
    one.close()


def test_a_list_of_seeds_reaches_it_as_a_list_and_one_as_one() -> None:
    env = ours(3)
    env.reset(seed=5)
    env.reset(seed=[1, 2, None])
    env.reset()

    assert env.get_attr("seeds") == ([5, [1, 2, None], None],)
    env.close()


def test_its_attributes_and_what_it_renders() -> None:
    env = ours(2)
    env.reset()
    env.set_attr("factor", 3.0)

    assert env.step([NOTHING] * 2)[1].tolist() == [3.0, 3.0]
    assert env.get_attr("factor") == (3.0,)
    assert env.render() == ("1", "1")
    env.close()


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled"])
@pytest.mark.parametrize(
    ("act", "cause"),
    [
        (EXIT, WorkerLost),
        (RAISE, EnvironmentFailed),
        (NAN, EnvironmentFailed),
        (SHAPE, EnvironmentFailed),
    ],
)
def test_what_ends_it_ends_all_its_episodes_and_training_goes_on(
    act: int, cause: type, mode: str
) -> None:
    env = ours(3, mode=mode)
    env.reset(seed=5)
    env.step([NOTHING] * 3)
    seen, rewards, terminated, truncated, infos = env.step([NOTHING, act, NOTHING])

    assert truncated.all()
    assert not terminated.any()
    assert rewards.tolist() == [0.0] * 3
    assert all(isinstance(error, cause) for error in infos["envhub_error"])
    if mode == "SameStep":
        assert seen["n"].tolist() == [[0.0, 0.0]] * 3
        assert [last["n"].tolist() for last in infos["final_obs"]] == [[1.0, 10.0]] * 3
    else:
        assert seen["n"].tolist() == [[1.0, 10.0]] * 3
    if mode == "Disabled":
        env.reset(options={"reset_mask": np.array([True, False, True])})
        with pytest.raises(ResetNeeded):
            env.step([NOTHING] * 3)
        env.reset(options={"reset_mask": np.array([False, True, False])})
    if mode == "NextStep":
        assert env.step([NOTHING] * 3)[1].tolist() == [0.0] * 3
    assert env.step([NOTHING] * 3)[1].tolist() == [1.0] * 3
    env.close()


def test_one_that_is_killed_begins_anew_with_a_seed_that_follows_from_the_last() -> None:
    env = ours(2, mode="NextStep")
    env.reset(seed=5)
    kill(env, 0)
    assert env.step([NOTHING] * 2)[3].all()
    env.step([NOTHING] * 2)
    (seeds,) = env.get_attr("seeds")

    assert len(seeds) == 1
    assert isinstance(seeds[0], int)
    assert seeds[0] != 5
    env.close()


def test_what_it_is_not_is_said_at_once() -> None:
    with pytest.raises(UsageError, match=r"has AutoresetMode\.SAME_STEP, and no other"):
        ours(autoreset_mode="next_step")
    with pytest.raises(UsageError, match="one process"):
        ours(processes=2)
    with pytest.raises(UsageError, match=r'metadata\["autoreset_mode"\]'):
        ours(says_mode=False)
    with pytest.raises(UsageError, match=r"no gymnasium\.vector"):
        ours(which="none")
    with pytest.raises(UsageError, match="made 5 environments, asked for 4"):
        ours(which="more")
    with pytest.raises(UsageError, match="`Classic` has no vectorised class"):
        envhub.make_vec("classic", 2, envs=ENVS, vectorization_mode="vector_entry_point")
    with pytest.raises(UsageError, match="cannot be vectorised"):
        envhub.make_vec("whole", 2, envs=ENVS)
    with pytest.raises(UsageError, match="'sync': expected None"):
        envhub.make_vec("classic", 2, envs=ENVS, vectorization_mode="sync")
    env = ours(autoreset_mode="same_step")
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert isinstance(env, gymnasium.vector.VectorEnv)
    env.close()
