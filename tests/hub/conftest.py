from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envhub import Hub

ENVS = Path(__file__).parent / "envs"


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(ENVS) as hub:
        yield hub
