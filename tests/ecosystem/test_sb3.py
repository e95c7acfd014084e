"""Stable-Baselines3 on `envhub.make_sb3_vec`: tests/ecosystem/sb3, by a Python that has it.

It needs PyTorch, and is in one process with our package. So those tests run in a virtual
environment with both, and each of their files is one test here.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.ecosystem.installed import python_or_skip
from tests.serving import ROOT

pytestmark = pytest.mark.timeout(1800)
FILES = sorted((Path(__file__).parent / "sb3").glob("test_*.py"))
SB3 = ("stable-baselines3==2.9.2", "torch==2.13.0+cpu")
TOOLS = ("gymnasium", "numpy", "pytest", "pytest-timeout", "hypothesis", "uv")


@pytest.fixture(scope="module")
def python() -> Path:
    """A Python with SB3, and with our versions of all that we and the tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [line.partition(">")[0] for line in project["dependencies"]] + [*TOOLS]
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in ours]
    return python_or_skip(*SB3, "gymnasium[classic-control]", *pinned, cpu=True)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_all_of_it_passes(python: Path, file: Path) -> None:
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'sandbox'}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    last = done.stdout.strip().splitlines()[-1]

    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert "skipped" not in last
