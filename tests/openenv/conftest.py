from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from envhub import Hub

ENVS = Path(__file__).parent / "envs"
CACHE = Path(__file__).parents[2] / ".cache" / "envhub"


@pytest.fixture(scope="session", autouse=True)
def cache() -> Iterator[Path]:
    """Keep what is built in the checkout, and no developer's own cache."""
    before = os.environ.get("ENVHUB_CACHE")
    os.environ["ENVHUB_CACHE"] = str(CACHE)
    yield CACHE
    if before is None:
        del os.environ["ENVHUB_CACHE"]
    else:
        os.environ["ENVHUB_CACHE"] = before


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(ENVS, caps={"step_s": 2}) as hub:
        yield hub
