"""The examples with ids of Gymnasium's run as they are written; test_docs.py runs the rest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.test_docs import DOCS, README, blocks

PAGE = (DOCS / "gymnasium.md").read_text()
# those for Stable-Baselines3 are run where that is: tests/ecosystem/sb3
CODE = [
    block
    for block in blocks(README, "python") + blocks(PAGE, "python")
    if "import envhub" in block and "gym:" in block and "stable_baselines3" not in block
]


@pytest.mark.parametrize("code", CODE)
def test_an_example_runs(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout or "print" not in code


def test_there_are_three_of_them() -> None:
    assert len(CODE) == 3
