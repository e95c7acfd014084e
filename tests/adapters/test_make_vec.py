"""`envhub.make_vec` beside Gymnasium's own: step for step the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import envhub
from envhub.errors import (
    CapacityError,
    InvalidAction,
    InvalidOption,
    ResetNeeded,
    UsageError,
)
from envhub.hub.background import BackgroundHub
from envhub.hub.hub import Hub
from envhub.hub.vectors.reserving import reserve_all
from tests.adapters.playing import ENVS, MODES, assert_same, ours, play_alike, theirs
from tests.sharing import nothing_leaks as nothing_leaks

# id, steps until some episodes have ended, options
GAMES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "numbers": ("CartPole-v1", 60, {}),
    "one number": ("FrozenLake-v1", 60, {}),
    "actions that are numbers": ("Pendulum-v1", 45, {"max_episode_steps": 20}),
    "tuples": ("Blackjack-v1", 20, {}),
    "an info of arrays": ("Taxi-v4", 25, {"max_episode_steps": 10}),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("game", GAMES)
def test_it_is_step_for_step_what_gymnasium_is(game: str, mode: str) -> None:
    name, steps, options = GAMES[game]
    one = ours(name, 5, processes=2, autoreset_mode=mode, **options)
    other = theirs(name, 5, mode, **options)
    with_ends = 0
    for seed in (0, 7):
        with_ends += play_alike(one, other, seed=seed, steps=steps)
    one.close()
    other.close()

    assert with_ends > 2


@pytest.mark.parametrize("mode", MODES)
def test_one_process_and_three_play_the_same(mode: str) -> None:
    one, three = (ours("CartPole-v1", 6, processes=n, autoreset_mode=mode) for n in (1, 3))
    ended = play_alike(one, three, seed=3, steps=50)
    one.close()
    three.close()

    assert ended > 2
    assert three.processes == ((0, 1), (2, 3), (4, 5))


@pytest.fixture(scope="module")
def cartpoles(nothing_leaks: None) -> Iterator[Any]:
    env = ours("CartPole-v1", 4, processes=2)
    yield env
    env.close()


def test_a_list_of_seeds_seeds_each(cartpoles: Any) -> None:
    seen, _ = cartpoles.reset(seed=[5, 9, 5, None])

    np.testing.assert_array_equal(seen[0], seen[2])
    assert (seen[0] != seen[1]).any()
    with pytest.raises(ValueError, match="3 seeds for 4"):
        cartpoles.reset(seed=[1, 2, 3])
    with pytest.raises(InvalidOption, match="63 bits"):
        cartpoles.reset(seed=2**64)


def test_what_each_was_seeded_with_is_told(cartpoles: Any) -> None:
    cartpoles.reset(seed=7)
    cartpoles.reset()

    assert cartpoles.np_random_seed == (7, 8, 9, 10)


def test_actions_that_do_not_fit_are_refused_and_nothing_has_happened(cartpoles: Any) -> None:
    cartpoles.reset(seed=1)
    with pytest.raises(InvalidAction, match="shape"):
        cartpoles.step(np.zeros(3, np.int64))
    with pytest.raises(InvalidAction, match="float64"):
        cartpoles.step(np.zeros(4))
    seen = cartpoles.step([0, 1, 0, 1])[0]

    cartpoles.reset(seed=1)
    np.testing.assert_array_equal(cartpoles.step(np.array([0, 1, 0, 1]))[0], seen)


def test_what_is_returned_is_the_callers_own(cartpoles: Any) -> None:
    seen, _ = cartpoles.reset(seed=1)
    kept = seen.copy()
    cartpoles.step([0, 1, 0, 1])

    np.testing.assert_array_equal(seen, kept)


def test_without_copies_the_next_step_but_one_overwrites_them() -> None:
    env = ours("CartPole-v1", 4, processes=1, copy=False)
    first = env.reset(seed=1)[0]
    env.step([0, 0, 0, 0])
    third = env.step([0, 0, 0, 0])[0]

    assert np.shares_memory(first, third)
    del first, third
    env.close()


def test_attributes_and_methods_of_each(cartpoles: Any) -> None:
    cartpoles.set_attr("gravity", [1.0, 2.0, 3.0, 4.0])

    assert cartpoles.get_attr("gravity") == (1.0, 2.0, 3.0, 4.0)
    assert cartpoles.call("has_wrapper_attr", "gravity") == (True,) * 4


def test_what_cannot_be_sent_is_refused_and_not_left_out(cartpoles: Any) -> None:
    with pytest.raises(UsageError, match="`object`"):
        cartpoles.call("set_wrapper_attr", "gravity", [object()])
    with pytest.raises(UsageError, match="`object`"):
        cartpoles.set_attr("gravity", [1.0, 2.0, object(), 4.0])
    with pytest.raises(UsageError, match=r"options\.high: `object`"):
        cartpoles.reset(options={"low": -0.1, "high": object()})
    with pytest.raises(UsageError, match=r"options\.render_mode: `type`"):
        ours("CartPole-v1", 1, render_mode=int)


def test_pixels_are_rendered() -> None:
    env = ours("FrozenLake-v1", 2, processes=2, render_mode="ansi")
    env.reset(seed=1)

    assert env.render_mode == "ansi"
    assert "SFFF" in env.render()[1].replace("\x1b[41m", "").replace("\x1b[0m", "")
    env.close()


def test_a_step_before_a_reset_or_of_an_episode_that_is_over_is_refused() -> None:
    env = ours("CartPole-v1", 2, autoreset_mode="disabled")
    with pytest.raises(ResetNeeded):
        env.step([0, 0])
    env.reset(seed=1)
    for _ in range(40):
        if (over := env.step([0, 0])[2]).any():
            break
    with pytest.raises(ResetNeeded):
        env.step([0, 0])
    env.reset(options={"reset_mask": over})
    env.step([0, 0])
    env.close()


def test_send_and_recv_play_what_step_plays() -> None:
    one, other = (ours("CartPole-v1", 4, processes=2) for _ in range(2))
    assert_same(one.reset(seed=3)[0], other.reset(seed=3)[0])
    results: dict[int, list[Any]] = {i: [] for i in range(4)}
    one.send([0, 1, 1, 0], [0, 1, 2, 3])
    for _ in range(40):
        seen, *_, infos = one.recv(2)
        ids = infos["env_id"]
        for i, row in zip(ids, seen, strict=True):
            results[i].append(row)
        if any(len(results[i]) < 15 for i in ids):
            one.send([len(results[i]) % 2 for i in ids], ids)
        if not one._sent:
            break
    actions = np.array([0, 1, 1, 0])
    for at in range(15):
        seen = other.step(actions)[0]
        actions = np.full(4, (at + 1) % 2)
        for i in range(4):
            np.testing.assert_array_equal(results[i][at], seen[i])
    one.close()
    other.close()


def test_send_and_recv_refuse_what_cannot_be(cartpoles: Any) -> None:
    cartpoles.reset(seed=1)
    with pytest.raises(UsageError, match="without"):
        cartpoles.recv()
    with pytest.raises(UsageError, match="all of those"):
        cartpoles.send([0], [1])
    cartpoles.send([0, 0], [2, 3])
    with pytest.raises(UsageError, match="under way"):
        cartpoles.send([0, 0], [2, 3])
    with pytest.raises(UsageError, match="under way"):
        cartpoles.step([0, 0, 0, 0])

    assert cartpoles.recv()[4]["env_id"].tolist() == [2, 3]


def test_spaces_without_a_size_and_other_environments_are_not_vectorised() -> None:
    with pytest.raises(UsageError, match=r"`observation_space` is a `Text`"):
        envhub.make_vec("odd", 1, envs=ENVS, observation="text")
    with pytest.raises(UsageError, match=r"`observation_space\['deep'\]\[1\]` is a `Graph`"):
        envhub.make_vec("odd", 1, envs=ENVS, observation="graph")
    with pytest.raises(UsageError, match="no gymnasium"):
        envhub.make_vec("echo", 1)


def test_gymnasiums_own_wrappers_of_vectors_work_on_it() -> None:
    env = RecordEpisodeStatistics(ours("CartPole-v1", 4, processes=2))
    env.reset(seed=1)
    for _ in range(60):
        infos = env.step(np.zeros(4, np.int64))[4]
        if "episode" in infos:
            break

    assert infos["episode"]["r"].max() > 5
    env.close()


def test_without_copies_what_recv_returns_is_what_the_process_wrote() -> None:
    env = ours("CartPole-v1", 4, processes=2, copy=False)
    env.reset(seed=1)
    env.send([0, 0], [2, 3])
    seen = env.recv()[0]

    views = env._crew.seen.views[1]
    assert views is not None
    assert np.shares_memory(seen, views.observations[views.turn][0])
    del seen, views
    env.close()


def test_where_gymnasium_is_missing_its_extra_is_named() -> None:
    code = "import sys; sys.modules['gymnasium'] = None; import envhub; envhub.make_vec"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert found.returncode == 1
    assert "ModuleNotFoundError: there is no module `gymnasium`" in found.stderr
    assert "pip install 'envhub-rl[gymnasium]'" in found.stderr


def test_places_are_had_for_all_processes_or_for_none() -> None:
    background = BackgroundHub(Hub((ENVS,), max_sessions=3, queue_s=0.0))

    async def reserve(count: int) -> None:
        for place in await reserve_all(background.hub, "odd", count):
            await place.aclose()

    try:
        (taken,) = background.do(reserve_all(background.hub, "odd", 1))
        with pytest.raises(CapacityError, match="no place within"):
            background.do(reserve(3))
        assert background.hub.active_sessions == 1
        background.do(reserve(2))
        background.do(taken.aclose())
        with pytest.raises(CapacityError, match="there are 3"):
            background.do(reserve(4))

        assert background.hub.active_sessions == 0
    finally:
        background.close()


def test_two_that_want_more_than_there_is_between_them_both_come_to_an_end() -> None:
    background = BackgroundHub(Hub((ENVS,), max_sessions=4, queue_s=20.0))

    async def have(count: int) -> int:
        found = await reserve_all(background.hub, "odd", count)
        await anyio.lowlevel.checkpoint()  # the other one tries meanwhile
        for place in found:
            await place.aclose()
        return len(found)

    async def both() -> list[int]:
        return list(await asyncio.gather(have(3), have(3)))

    try:
        assert background.do(both()) == [3, 3]
    finally:
        background.close()
