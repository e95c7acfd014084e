from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import serving

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / folder) for folder in ("tests/protocol/envs", "tests/hub/envs", "envs")]


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """A server of these tests, which ends at once: they leave sessions behind."""
    envs = [word for folder in FOLDERS for word in ("--envs", folder)]
    with serving(*envs, "--default", "echo", "--cap", "step_s=10", "--drain-s", "0") as url:
        yield url
