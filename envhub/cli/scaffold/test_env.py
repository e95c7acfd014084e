"""Plays guess as its clients will: in a sandbox, through the same API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import envhub
from envhub.errors import InvalidAction

HERE = Path(__file__).parent


@pytest.fixture
def env() -> Iterator[envhub.EmbeddedSession]:
    """Hold a session. Your own code needs no certain isolation: take the best there is."""
    with envhub.make("guess", envs=HERE, isolation="best") as session:
        yield session


def test_halving_the_range_finds_the_number(env: envhub.EmbeddedSession) -> None:
    """A hundred numbers, seven tries: that is enough."""
    result = env.reset(seed=1)
    low, high = 1, 100
    while not result.done:
        middle = (low + high) // 2
        result = env.step({"number": middle})
        if result.observation.hint == "higher":
            low = middle + 1
        else:
            high = middle - 1

    assert result.terminated
    assert result.reward == 1.0


def test_an_episode_without_the_number_is_cut_short(env: envhub.EmbeddedSession) -> None:
    """Truncated, and not terminated: the task was not solved."""
    env.reset(seed=1, highest=10, tries=2)
    env.step({"number": 100})
    result = env.step({"number": 100})

    assert result.observation == {"hint": "lower", "tries_left": 0}
    assert result.truncated
    assert not result.terminated


def test_a_guess_out_of_range_is_refused(env: envhub.EmbeddedSession) -> None:
    """By its type: the environment never sees it, and no try is lost."""
    env.reset(seed=1)
    with pytest.raises(InvalidAction, match="number"):
        env.step({"number": 0})

    assert env.state.step_count == 0
