"""TRL's GRPOTrainer learns from an environment in our sandboxes, by OpenEnv's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.installed import python_or_skip, run
from tests.serving import serving

pytestmark = pytest.mark.timeout(1800)
HERE = Path(__file__).parent
REWARDS = ("by guess", "by coin")
TRL = ("trl==1.16.0", "transformers==5.23.0", "torch==2.13.0+cpu", "openenv==0.10.0")


@pytest.fixture(scope="module")
def python() -> Path:
    return python_or_skip(*TRL, cpu=True)


@pytest.fixture(scope="module")
def url(python: Path) -> Iterator[str]:
    with serving(str(HERE / "envs" / "guess_env"), "--isolation", "strict") as url:
        yield url


@pytest.fixture(scope="module")
def trained(python: Path, url: str) -> dict[str, dict[str, Any]]:
    """What came of each way to reward: two trainers at once, of a thread each."""

    def train(rewards: str) -> dict[str, Any]:
        program = HERE / "programs" / "train.py"
        said = run(python, program, HERE / "envs", url, rewards, OMP_NUM_THREADS="1")
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    with ThreadPoolExecutor() as together:
        return dict(zip(REWARDS, together.map(train, REWARDS), strict=True))


def test_a_policy_learns_the_rewarded_guess(trained: dict[str, dict[str, Any]]) -> None:
    by_guess = trained["by guess"]

    assert by_guess["before"] < 0.3
    assert by_guess["after"] > 0.8
    assert by_guess["failures"] == []  # of tool calls: each went through our wire


def test_it_does_not_when_a_coin_rewards(trained: dict[str, dict[str, Any]]) -> None:
    """The control: what is learned comes from the environment's rewards, not the set-up."""
    by_coin = trained["by coin"]

    assert by_coin["after"] < 0.5
    assert 0 < sum(by_coin["rewards"]) / len(by_coin["rewards"]) < 1
