"""A server to attack, which an attack must leave as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.door.hostile.arena import Server, attacked


@pytest.fixture(scope="module")
def one_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    bounds = getattr(request.module, "BOUNDS", {})
    with attacked("--max-sessions", "8", "--queue-s", "20", **bounds) as server:
        server.episode()
        yield server


@pytest.fixture
def server(one_server: Server) -> Iterator[Server]:
    """Nothing is left of the test's attack afterwards, and the door still serves."""
    before = one_server.at_rest()
    yield one_server
    one_server.episode()
    one_server.settles(before)
