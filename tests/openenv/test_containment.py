"""Four accidents that end, stop or mix the sessions of a stock server: all harmless here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openenv.accidents import ACCIDENTS, STEP_S, Accident
from tests.openenv.conftest import ENVS
from tests.serving import serving

pytestmark = pytest.mark.openenv


@pytest.fixture(scope="module")
def address(cache: Path) -> Iterator[str]:
    """One server for all of them: it is to outlive them."""
    with serving(str(ENVS / "accident_env"), "--cap", f"step_s={STEP_S}") as address:
        yield address


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda accident: accident.play.__name__)
def test_an_accident_is_harmless(address: str, accident: Accident) -> None:
    assert accident.play(address) == accident.ours
