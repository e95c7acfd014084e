from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import gymnasium
import pytest

from envhub import Grant, Hub
from tests.serving import serving

ENVS = Path(__file__).parent / "envs"
CACHE = Path(__file__).parents[2] / ".cache" / "envhub"
# the versions that the tests compare with
PINNED = tuple(f"{name}=={importlib.metadata.version(name)}" for name in ("gymnasium", "numpy"))
TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
PLAYED = ("CartPole-v1", "FrozenLake-v1", TAXI, "Pendulum-v1", "Blackjack-v1")


@pytest.fixture(scope="session", autouse=True)
def cache() -> Iterator[Path]:
    """Keep what is built in the checkout, and no developer's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVHUB_CACHE", str(CACHE))
        yield CACHE


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    grants = {f"gym:{name}": Grant(packages=PINNED) for name in PLAYED}
    async with Hub(ENVS, grants=grants) as hub:
        yield hub


@pytest.fixture(scope="session")
def url(cache: Path) -> Iterator[str]:
    """Hold a server of two ids and a folder, and of nothing else."""
    folders = (str(ENVS / "short"), "--env", "gym:ALE/Pong-v5")
    with serving("gym:CartPole-v1", *folders, "--default", "gym:CartPole-v1") as url:
        yield url
