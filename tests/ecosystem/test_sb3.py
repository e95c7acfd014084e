"""Stable-Baselines3 on `envhub.make_sb3_vec`: tests/ecosystem/sb3, by a Python that has it.

It needs PyTorch, and is in one process with our package. So those tests run in a virtual
environment with both, and each of their files is one test here.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.ecosystem.installed import NotInstallable, python_with_us
from tests.serving import ROOT

pytestmark = pytest.mark.timeout(1800)
FILES = sorted((Path(__file__).parent / "sb3").glob("test_*.py"))
SB3 = ("stable-baselines3==2.9.2", "torch==2.13.0+cpu", "gymnasium[classic-control]")


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return python_with_us(*SB3, cpu=True)
    except NotInstallable as error:
        pytest.skip(f"uv could not install {', '.join(SB3)}: {error}")


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
