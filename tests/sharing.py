"""Fixtures of a module whose tests share a hub: import them there, by their names.

A hub is started in a third of a second. What is about one of its sessions, and not about the
hub, need not wait for that each time; the module is held to leave nothing behind as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import leaving_nothing


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One event loop for all of them."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True, scope="module")
def nothing_leaks() -> Iterator[None]:
    with leaving_nothing():
        yield
