"""The contract that every environment of the catalog keeps, in a real worker."""

from __future__ import annotations

import json

import pytest

import envhub
from envhub.errors import InvalidAction, InvalidOption, ResetNeeded
from envhub.hub.environments.catalog import Catalog
from tests.conftest import ENVS
from tests.sharing import nothing_leaks as nothing_leaks

CATALOG = Catalog([ENVS])
NAMES = CATALOG.names()


def test_the_catalog_is_whole() -> None:
    assert NAMES == ["coding", "echo"]
    assert CATALOG.broken == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_first_observation(name: str) -> None:
    with envhub.make(name, envs=ENVS) as env:
        first = env.reset(seed=11)
        env.reset(seed=12)

        assert env.reset(seed=11) == first
        assert first.reward is None
        assert not first.done


@pytest.mark.parametrize("name", NAMES)
def test_a_step_before_reset_is_refused(name: str) -> None:
    with envhub.make(name, envs=ENVS) as env, pytest.raises(ResetNeeded):
        env.step({})


@pytest.mark.parametrize("name", NAMES)
def test_an_action_of_another_shape_is_refused_and_the_episode_goes_on(name: str) -> None:
    with envhub.make(name, envs=ENVS) as env:
        env.reset(seed=1)
        with pytest.raises(InvalidAction, match="no_such_field"):
            env.step({"no_such_field": 1, "message": "x", "code": ""})

        assert env.state.step_count == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused_with_the_known_ones(name: str) -> None:
    with envhub.make(name, envs=ENVS) as env, pytest.raises(InvalidOption, match="`seed`"):
        env.reset(no_such_option=1)


@pytest.mark.parametrize("name", NAMES)
async def test_it_says_what_it_is(name: str) -> None:
    async with envhub.Hub(ENVS) as hub:
        described = await hub.describe(name)

    assert described.title
    assert described.description
    for schema in (described.action, described.observation, described.state):
        assert json.loads(schema)["properties"]
