"""The same seeds and actions give the same trajectories as `DummyVecEnv`, to the bit."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

import envhub
from envhub.errors import UsageError
from tests.ecosystem.sb3.pairs import ENVS, assert_same, ours, play_alike, theirs
from tests.serving import serving

TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
# id, environments, steps of each, options
GAMES: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "an array": ("CartPole-v1", 8, 3000, {}),
    "continuous actions": ("Pendulum-v1", 4, 3000, {}),
    "a number": ("FrozenLake-v1", 4, 3000, {}),
    "a number, infos of arrays": (TAXI, 4, 1500, {}),
    "continuous, and both ends": ("MountainCarContinuous-v0", 3, 3000, {}),
    "a tuple": ("Blackjack-v1", 4, 1000, {}),
    "names": ("CartPole-v1", 4, 1500, {"wrappers": ["named"]}),
    "names, and infos of every kind": (
        "CartPole-v1", 4, 1500, {"wrappers": ["named", "telling"], "max_episode_steps": 15}
    ),
}  # fmt: skip


@pytest.mark.parametrize("game", GAMES)
def test_they_are_those_of_dummyvecenv(game: str) -> None:
    which, num_envs, steps, options = GAMES[game]
    one, other = ours(which, num_envs, **options), theirs(which, num_envs, **options)
    ended = play_alike(one, other, seed=7, steps=steps)
    ended += play_alike(one, other, seed=2**31, steps=50)
    one.close()
    other.close()

    assert ended > num_envs


@pytest.mark.parametrize("processes", [1, 3])
def test_whatever_the_number_of_processes(processes: int) -> None:
    one = ours("CartPole-v1", 6, processes=processes)
    other = theirs("CartPole-v1", 6)
    ended = play_alike(one, other, seed=3, steps=500)
    one.close()
    other.close()

    assert ended > 6


def test_resets_without_a_seed_go_on_with_the_generators() -> None:
    one, other = ours("CartPole-v1", 3), theirs("CartPole-v1", 3)
    play_alike(one, other, seed=1, steps=10)
    firsts = [one.reset() for _ in range(2)]
    assert_same(firsts, [other.reset() for _ in range(2)])
    one.close()
    other.close()

    assert (firsts[0] != firsts[1]).any()


def test_options_are_told_once_to_all_or_to_each() -> None:
    pair = [make("CartPole-v1", 3, wrappers=["telling"]) for make in (ours, theirs)]
    given: list[Any] = [{"low": -0.1}, [{"a": 1}, {}, {"a": 1}], None, {"reset_mask": 3}]
    seen = []
    for options in given:
        for venv in pair:
            venv.seed(5)
            venv.set_options(options)
        assert_same(pair[0].reset(), pair[1].reset())
        assert_same(pair[0].reset_infos, pair[1].reset_infos)
        seen.append([info["options"] for info in pair[0].reset_infos])
        assert_same(pair[0].reset(), pair[1].reset())
        assert pair[0].reset_infos[0]["options"] is None
    for venv in pair:
        venv.close()

    assert seen[1] == [{"a": 1}, None, {"a": 1}]
    assert seen[2:] == [[None] * 3, [{"reset_mask": 3}] * 3]


def test_what_is_returned_is_the_callers_own() -> None:
    venv = ours("CartPole-v1", 3, wrappers=["named", "telling"])
    venv.seed(1)
    venv.reset()
    first = venv.step([0, 0, 0])
    kept = {key: value.copy() for key, value in first[0].items()}
    first[3][0].clear()
    second = venv.step([1, 1, 1])

    assert_same(first[0], kept)
    assert second[3][0]["text"] == "step 2"
    venv.close()


def test_an_id_of_gymnasiums_plays_the_same() -> None:
    one = envhub.make_sb3_vec("gym:CartPole-v1", 4)
    other = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 4)
    ended = play_alike(one, other, seed=11, steps=500)
    one.close()

    assert ended > 4


def test_in_a_hub_elsewhere_they_are_the_same() -> None:
    game: dict[str, Any] = {"wrappers": ["named", "telling"], "max_episode_steps": 15}
    with serving(str(ENVS / "boxed")) as url:
        one = envhub.make_sb3_vec("boxed", 4, hub=url, processes=2, **game)
        other = theirs("CartPole-v1", 4, **game)
        ended = play_alike(one, other, seed=7, steps=200)
        for venv in (one, other):
            venv.set_attr("mark", 3, indices=[2, 0])
        assert one.get_attr("mark", [0, 2]) == other.get_attr("mark", [0, 2])
        with pytest.raises(UsageError, match="elsewhere"):
            one.env_method("__reduce__")
        one.close()
        other.close()

    assert ended > 4
