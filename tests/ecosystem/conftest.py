from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.ecosystem.installed import cache

# where there is none, test_sb3.py runs them in a Python that has it
collect_ignore = [] if importlib.util.find_spec("stable_baselines3") else ["sb3"]


@pytest.fixture(scope="session", autouse=True)
def served_environments_are_built_beside() -> Iterator[None]:
    """Keep what `envhub serve` installs for a folder with the rest, in no developer's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVHUB_CACHE", str(cache() / "envhub"))
        yield
