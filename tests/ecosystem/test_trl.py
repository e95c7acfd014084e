"""TRL's GRPOTrainer learns from an environment in our sandboxes, by OpenEnv's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.installed import python_or_skip, run
from tests.serving import serving

pytestmark = pytest.mark.timeout(1800)
HERE = Path(__file__).parent
TRL = ("trl==1.16.0", "transformers==5.23.0", "torch==2.13.0+cpu", "openenv==0.10.0")


@pytest.fixture(scope="module")
def python() -> Path:
    return python_or_skip(*TRL, cpu=True)


@pytest.fixture(scope="module")
def url(python: Path) -> Iterator[str]:
    with serving(str(HERE / "envs" / "guess_env"), "--isolation", "strict") as url:
        yield url


def train(python: Path, url: str, rewards: str) -> dict[str, Any]:
    said = run(python, HERE / "programs" / "train.py", HERE / "envs", url, rewards)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def test_a_policy_learns_the_rewarded_guess(python: Path, url: str) -> None:
    trained = train(python, url, "by guess")

    assert trained["before"] < 0.3
    assert trained["after"] > 0.8
    assert trained["failures"] == []  # of tool calls: each went through our wire


def test_it_does_not_when_a_coin_rewards(python: Path, url: str) -> None:
    """The control: what is learned comes from the environment's rewards, not the set-up."""
    trained = train(python, url, "by coin")

    assert trained["after"] < 0.5
    assert 0 < sum(trained["rewards"]) / len(trained["rewards"]) < 1
