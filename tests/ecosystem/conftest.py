from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ecosystem.installed import cache


@pytest.fixture(scope="session", autouse=True)
def served_environments_are_built_beside() -> Iterator[None]:
    """Keep what `envhub serve` installs for a folder with the rest, in no developer's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVHUB_CACHE", str(cache() / "envhub"))
        yield
