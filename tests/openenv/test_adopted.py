"""A folder for OpenEnv under the conformance checks, and a copy of it with another name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envhub import Hub
from envhub.check import conformance
from envhub.check.subject import Plan
from envhub.cli.adopting import adopt
from tests.openenv.conftest import ENVS

PLAN = Plan(steps=3, episodes=9, sessions=4)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    list(adopt(ENVS / "counter_env", tmp_path / "my_env", "my_env"))
    return tmp_path / "my_env"


async def test_a_copy_is_an_environment_of_its_own(copied: Path) -> None:
    async with Hub(copied) as hub, hub.session("my_env") as session:
        await session.reset()
        result = await session.step({"by": 3})

    assert result.observation["count"] == 6  # by the variable of its openenv.yaml


def test_the_copy_s_own_test_passes(copied: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(copied / "tests")],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=copied.parent,
        env=dict(os.environ),
    )

    assert done.returncode == 0, done.stdout


async def test_it_is_checked_on_the_wire_that_it_was_written_for(copied: Path) -> None:
    report = await conformance.run(lambda: Hub(copied), "my_env", PLAN)
    failed = {r.id: r.verdict.seen for r in report.results if r.verdict.status == "failed"}

    assert failed == {}
    assert report.about["format"] == "openenv"


async def test_of_a_server_of_its_own_nothing_is_claimed_but_that_it_starts() -> None:
    folder = ENVS / "own_server_env"
    report = await conformance.run(lambda: Hub(folder), "own_server_env", PLAN)
    statuses = {r.id: r.verdict.status for r in report.results}

    assert statuses.pop("start") == "passed"
    assert {*statuses.values()} == {"not applicable"}
