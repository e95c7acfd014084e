"""A server to speak to, whose bounds are those of every day."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from envhub.door.connections.guard import Bounds
from tests.door.hostile.arena import Server, attacked


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One for all cases. It must not have stumbled over any of them."""
    bounds = msgspec.structs.asdict(Bounds(ping_s=3600.0, close_s=1.0))
    with attacked("--max-sessions", "64", "--grace-s", "0", **bounds) as server:
        server.episode()
        yield server
