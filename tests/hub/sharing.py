"""One hub for all tests of a module, which imports these fixtures by their names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from envhub import Hub
from tests.hub.conftest import ENVS
from tests.sharing import anyio_backend as anyio_backend
from tests.sharing import nothing_leaks as nothing_leaks


@pytest.fixture(scope="module")
async def shared(nothing_leaks: None) -> AsyncIterator[Hub]:
    async with Hub(ENVS) as hub:
        yield hub


@pytest.fixture
def hub(shared: Hub) -> Iterator[Hub]:
    """Its places are free before and after each test."""
    yield shared
    assert shared.active_sessions == 0
