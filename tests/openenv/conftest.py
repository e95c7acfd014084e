from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from envhub import Hub
from tests.serving import serving

ENVS = Path(__file__).parent / "envs"
CACHE = Path(__file__).parents[2] / ".cache" / "envhub"
SERVED = ("counter_env", "own_server_env", "tools_env", "whole_env")


@pytest.fixture(scope="session", autouse=True)
def cache() -> Iterator[Path]:
    """Keep what is built in the checkout, and no developer's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVHUB_CACHE", str(CACHE))
        yield CACHE


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(ENVS, caps={"step_s": 2}) as hub:
        yield hub


@pytest.fixture(scope="session")
def url(cache: Path) -> Iterator[str]:
    """Hold `envhub serve FOLDER…`, which builds what the folders need."""
    with serving(*(str(ENVS / name) for name in SERVED)) as url:
        yield url


@pytest.fixture(scope="session")
def address(url: str) -> str:
    return url.removeprefix("http://")
