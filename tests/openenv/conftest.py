from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from envhub import Hub

ENVS = Path(__file__).parent / "envs"
CACHE = Path(__file__).parents[2] / ".cache" / "envhub"


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
