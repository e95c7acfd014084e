"""Gymnasium's own tests of vector environments pass on ours, but for those that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ecosystem.gymnasium_own import DIFFERENT, NEEDED, PLACES, Played, play, reason
from tests.ecosystem.installed import NotInstallable, python_with_us

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    if request.config.getoption("--gymnasium") is None:
        pytest.skip("`--gymnasium DIR` names a checkout of Gymnasium's repository: its tests")
    try:
        return python_with_us(*NEEDED)
    except NotInstallable as error:
        pytest.skip(f"uv could not install {', '.join(NEEDED)}: {error}")


@pytest.fixture(scope="module")
def repository(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.getoption("--gymnasium")).absolute()


@pytest.fixture(scope="module")
def played(python: Path, repository: Path) -> dict[str, Played]:
    """What came of them: in each place, and, under "", on Gymnasium's own."""
    return {place: play(python, repository, place) for place in ("", *PLACES)}


@pytest.mark.parametrize("place", PLACES)
def test_what_does_not_pass_has_its_reason(played: dict[str, Played], place: str) -> None:
    stock, found = played[""].passed, played[place]
    differ = sorted(found.failed.keys() & found.ours & stock)

    assert [name for name in differ if not reason(name)] == []
    assert len(found.passed & found.ours & stock) > len(differ)


def test_every_reason_is_needed(played: dict[str, Played]) -> None:
    differ = {name for place in PLACES for name in played[place].failed if reason(name)}

    assert {reason(name) for name in differ} == {*DIFFERENT.values()}
