"""What `DummyVecEnv` answers, or a typed error where a boundary cannot be crossed."""

from __future__ import annotations

import copy
import math
import os
import select
import signal
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import OrderEnforcing, RecordEpisodeStatistics, TimeLimit
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize

import envhub
from envhub.adapters.sb3 import VecEnv
from envhub.errors import (
    EnvironmentFailed,
    InvalidAction,
    ResetNeeded,
    SessionClosed,
    UsageError,
    WorkerLost,
)
from tests.ecosystem.sb3.pairs import ENVS, assert_same, ours, play_alike, theirs
from tests.sharing import nothing_leaks as nothing_leaks

Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def pair(nothing_leaks: None) -> Iterator[Pair]:
    made = [
        make("CartPole-v1", 4, wrappers=["troubled"], render_mode="rgb_array")
        for make in (ours, theirs)
    ]
    for venv in made:
        venv.seed(0)
        venv.reset()
    yield made[0], made[1]
    for venv in made:
        venv.close()


def kill(venv: Any, at: int) -> None:
    """Kill a process from outside, and wait until it is gone."""
    pidfd = os.pidfd_open(venv.vector_env.pids[at])
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [], 10)
    os.close(pidfd)


# ---------------------------------------------------------------- attributes


@pytest.mark.parametrize("indices", [None, 2, [3, 0], [1, 1], -1, []], ids=str)
def test_attributes_are_read_set_and_methods_called_of_those_that_are_named(
    pair: Pair, indices: Any
) -> None:
    for venv in pair:
        venv.set_attr("mark", None)
        venv.set_attr("mark", {"a": [1, 2.5]}, indices=indices)
    one, other = pair

    assert_same(one.get_attr("mark"), other.get_attr("mark"))
    assert_same(one.get_attr("mark", indices), other.get_attr("mark", indices))
    assert_same(
        one.env_method("twice", 3, more=1, indices=indices),
        other.env_method("twice", 3, more=1, indices=indices),
    )
    with pytest.raises(IndexError):
        one.get_attr("mark", 4)


def test_an_attribute_is_set_where_dummyvecenv_sets_it(pair: Pair) -> None:
    """On the outermost wrapper; a method of the environment's reaches further."""
    for venv in pair:
        venv.set_attr("gravity", 1.0)
        assert venv.get_attr("gravity") == [1.0] * 4
        venv.env_method("__delattr__", "gravity")
        assert venv.get_attr("gravity") == [9.8] * 4
        venv.env_method("set_wrapper_attr", "gravity", 2.0, indices=[1])
        assert venv.get_attr("gravity") == [9.8, 2.0, 9.8, 9.8]
        venv.env_method("set_wrapper_attr", "gravity", 9.8)


@pytest.mark.parametrize("name", ["gravity", "twice", "render_mode", "fit", "nothing"])
def test_has_attr_says_what_there_is(pair: Pair, name: str) -> None:
    one, other = pair

    assert one.has_attr(name) == other.has_attr(name) == (name != "nothing")


def test_what_is_not_there_is_an_attribute_error(pair: Pair) -> None:
    for venv in pair:
        with pytest.raises(AttributeError, match="nothing"):
            venv.get_attr("nothing")
        with pytest.raises(AttributeError, match="nothing"):
            venv.env_method("nothing")


def test_what_cannot_cross_is_a_usage_error(pair: Pair) -> None:
    venv = pair[0]
    for name in ("twice", "np_random", "observation_space"):
        with pytest.raises(UsageError, match="plain data"):
            venv.get_attr(name)
    with pytest.raises(UsageError, match="`Troubled`"):
        venv.env_method("itself")
    with pytest.raises(UsageError, match="`object`"):
        venv.env_method("twice", object())
    with pytest.raises(UsageError, match="`function`"):
        venv.set_attr("mark", lambda: 1)

    assert venv.env_method("twice", 4, indices=0) == [8]


def test_what_a_method_raises_is_told_with_its_traceback(pair: Pair) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        pair[0].env_method("twice", None)

    assert "in twice" in caught.value.traceback


@pytest.mark.parametrize(
    "wrapper", [gymnasium.Wrapper, TimeLimit, OrderEnforcing, RecordEpisodeStatistics, Monitor]
)
def test_wrappers_are_known_by_their_names(pair: Pair, wrapper: Any) -> None:
    one, other = pair

    assert_same(one.env_is_wrapped(wrapper), other.env_is_wrapped(wrapper))
    assert_same(one.env_is_wrapped(wrapper, [1]), other.env_is_wrapped(wrapper, [1]))


# ---------------------------------------------------------------- pictures


def test_pictures_are_those_of_dummyvecenv(pair: Pair) -> None:
    for venv in pair:
        venv.seed(3)
        venv.reset()
    one, other = pair

    assert_same(one.get_images(), other.get_images())
    assert_same(one.render(), other.render())
    assert one.render().shape == (800, 1200, 3)


def test_without_a_render_mode_there_are_none() -> None:
    venv = ours("CartPole-v1", 2)
    with pytest.warns(UserWarning, match="None"):
        assert venv.get_images() == [None, None]
    with pytest.warns(UserWarning, match="render"):
        assert venv.render() is None
    venv.close()


# ---------------------------------------------------------------- calls


def test_a_step_is_begun_and_waited_for(pair: Pair) -> None:
    for venv in pair:
        venv.seed(9)
        venv.reset()
        venv.step_async(np.array([0, 1, 0, 1]))
    assert_same(pair[0].step_wait(), pair[1].step_wait())
    venv = pair[0]
    with pytest.raises(UsageError, match="without"):
        venv.step_wait()
    venv.step_async([0, 0, 0, 0])
    with pytest.raises(UsageError, match="under way"):
        venv.step_async([0, 0, 0, 0])
    with pytest.raises(UsageError, match="under way"):
        venv.get_attr("gravity")
    first = venv.reset()  # whose step is given up

    assert (np.abs(first) < 0.05).all()
    venv.step([0, 0, 0, 0])


def test_actions_that_do_not_fit_are_refused(pair: Pair) -> None:
    with pytest.raises(InvalidAction, match="shape"):
        pair[0].step(np.zeros(3, np.int64))
    with pytest.raises(InvalidAction, match="float"):
        pair[0].step(np.zeros(4))

    pair[0].step(np.zeros(4, np.int32))


def test_what_is_not_begun_or_is_closed_cannot_be_stepped() -> None:
    venv = ours("CartPole-v1", 2)
    with pytest.raises(ResetNeeded):
        venv.step([0, 0])
    venv.reset()
    venv.close()
    venv.close()
    with pytest.raises(SessionClosed):
        venv.step([0, 0])


def test_seeds_without_a_number_differ() -> None:
    venv = ours("CartPole-v1", 2)
    np.random.seed(5)
    seeds = venv.seed()
    first = venv.reset()
    np.random.seed(5)

    assert venv.seed() == seeds
    assert_same(venv.reset(), first)
    venv.close()


def test_what_make_vec_has_made_is_taken_in_the_mode_of_the_same_step() -> None:
    one, other = (
        envhub.make_vec("boxed", 2, envs=ENVS, autoreset_mode=mode)
        for mode in ("same_step", "next_step")
    )
    venv = VecEnv(one)
    venv.reset()
    venv.step([0, 0])
    venv.close()
    with pytest.raises(UsageError, match="NextStep") as caught:
        VecEnv(other)
    other.close()

    assert "same_step" in caught.value.hint


def test_observations_that_sb3_does_not_have_are_refused_in_its_words() -> None:
    with pytest.raises(NotImplementedError, match=r"[Nn]ested"):
        ours("CartPole-v1", 1, wrappers=["named", "nested"])


def test_a_vectorised_class_is_refused() -> None:
    with pytest.raises(UsageError, match="a vectorised class"):
        envhub.make_sb3_vec("boxed", 2, envs=ENVS, vectorization_mode="vector_entry_point")


# ---------------------------------------------------------------- losses


def test_a_process_that_is_killed_ends_its_episodes_and_training_goes_on() -> None:
    venv, sane = (ours("CartPole-v1", 4) for _ in range(2))
    for one in (venv, sane):
        one.seed(1)
        one.reset()
        last = one.step([0, 1, 0, 1])[0]
    kill(venv, 0)
    seen, rewards, dones, infos = venv.step([1, 0, 1, 0])
    rest = sane.step([1, 0, 1, 0])

    assert dones.tolist() == [True, True, False, False]
    assert rewards.tolist() == [0.0, 0.0, 1.0, 1.0]
    for i in range(2):
        assert sorted(infos[i]) == [
            "TimeLimit.truncated", "envhub_error", "terminal_observation"
        ]  # fmt: skip
        assert infos[i]["TimeLimit.truncated"] is True
        assert isinstance(infos[i]["envhub_error"], WorkerLost)
        assert_same(infos[i]["terminal_observation"], last[i])
        assert isinstance(copy.deepcopy(infos[i])["envhub_error"], WorkerLost)
    assert_same([seen[2:], rewards[2:], infos[2:]], [rest[0][2:], rest[1][2:], rest[3][2:]])
    assert (np.abs(seen[:2]) < 0.05).all()
    assert venv.reset_infos[:2] == [{}, {}]
    assert venv.step([1, 1, 1, 1])[1].tolist() == [1.0] * 4
    venv.close()
    sane.close()


@pytest.mark.parametrize(
    ("trouble", "lost"),
    [("raise", [False, True, False, False]), ("exit", [True, True, False, False])],
)
def test_an_environment_that_fails_ends_its_own_episode(trouble: str, lost: Any) -> None:
    venv = ours("CartPole-v1", 4, wrappers=["named", "telling", "troubled"])
    venv.reset()
    last = venv.step([0] * 4)[0]
    venv.set_attr("trouble", trouble, indices=1)
    _, rewards, dones, infos = venv.step([0] * 4)

    assert dones.tolist() == lost
    assert rewards.tolist() == [0.0 if one else 1.0 for one in lost]
    errors = [info.get("envhub_error") for info in infos]
    kind = EnvironmentFailed if trouble == "raise" else WorkerLost
    assert [isinstance(error, kind) for error in errors] == lost
    final = infos[1]["terminal_observation"]
    for name in ("state", "image"):
        assert_same(final[name], last[name][1])
    assert final["halves"] == last["halves"][1]
    assert venv.reset_infos[1]["began"] is True
    assert not venv.step([0] * 4)[2].any()
    venv.close()


# ---------------------------------------------------------------- with the rest of SB3


def test_sb3s_own_wrappers_work_on_it() -> None:
    one, other = (
        VecFrameStack(VecNormalize(VecMonitor(make("CartPole-v1", 4))), 3)
        for make in (ours, theirs)
    )
    for venv in (one, other):
        venv.seed(4)
    assert_same(one.reset(), other.reset())
    lengths = []
    for _ in range(200):
        actions = [one.action_space.sample() for _ in range(4)]
        seen, rewards, dones, infos = one.step(actions)
        expected = other.step(actions)
        assert_same((seen, rewards, dones), expected[:3])
        for info, theirs_ in zip(infos, expected[3], strict=True):
            if "episode" in info:  # but for the time that it took
                assert info["episode"]["r"] == theirs_["episode"]["r"]
                lengths.append(info["episode"]["l"])
    one.close()
    other.close()

    assert len(lengths) > 10
    assert math.isfinite(sum(lengths))


def test_one_that_sb3_has_made_plays_the_same() -> None:
    other = make_vec_env("CartPole-v1", 3)  # which wraps each in a Monitor
    one = ours("CartPole-v1", 3)
    for venv in (one, other):
        venv.seed(8)
    assert_same(one.reset(), other.reset())
    for _ in range(100):
        actions = np.array([one.action_space.sample() for _ in range(3)])
        assert_same(one.step(actions)[:3], other.step(actions)[:3])
    one.close()
    other.close()


def test_they_play_alike_after_losses_and_a_reset_with_seeds() -> None:
    one, other = ours("CartPole-v1", 4), theirs("CartPole-v1", 4)
    one.reset()
    kill(one, 1)
    assert one.step([0] * 4)[2].tolist() == [False, False, True, True]

    assert play_alike(one, other, seed=2, steps=100) > 4
    one.close()
    other.close()
