"""Virtual environments with other people's packages: each is made once, by uv, and kept.

They contradict each other, so each set of requirements has an environment of its own, named by
them.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.serving import ROOT

INSTALL_S = 1200
TOOLS = ("gymnasium", "numpy", "pytest", "pytest-timeout", "hypothesis", "uv")


class NotInstallable(Exception):
    """The index has not what is asked for, or does not answer. Says it in uv's words."""


def cache() -> Path:
    """Return the folder that the environments are kept in: $ENVHUB_TEST_CACHE, if it is set."""
    chosen = os.environ.get("ENVHUB_TEST_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "envhub-tests"


def python_with(*requirements: str, cpu: bool = False) -> Path:
    """Return the interpreter of an environment with exactly these; make it if need be.

    Args:
        requirements: as pip has them; pin them, for an environment is never renewed.
        cpu: also look where PyTorch keeps its builds without CUDA.

    Raises:
        NotInstallable: uv could not install them.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256("\n".join([version, *sorted(requirements)]).encode()).hexdigest()
    first = "".join(c if c.isalnum() or c in ".-" else "-" for c in requirements[0])
    folder = cache() / f"{first}-{key[:12]}"
    complete = folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests want it at once
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder, requirements, cpu=cpu)
            complete.write_text("\n".join(requirements) + "\n")
    return folder / "bin" / "python"


def python_with_us(*requirements: str, cpu: bool = False) -> Path:
    """As `python_with`, also with our versions of all that we and our tests need.

    So a program that has our package beside theirs can run in it, from this checkout.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [line.partition(">")[0] for line in project["dependencies"]] + [*TOOLS]
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in names]
    return python_with(*requirements, *pinned, cpu=cpu)


def _install(folder: Path, requirements: tuple[str, ...], *, cpu: bool) -> None:
    _uv("venv", "--python", sys.executable, str(folder))
    install = ["pip", "install", "--python", str(folder / "bin" / "python")]
    try:
        _uv(*install, *requirements)
    except NotInstallable as first:
        if not cpu:
            raise
        try:
            _uv(*install, "--torch-backend", "cpu", *requirements)
        except NotInstallable as second:
            raise NotInstallable(f"{first}\nand from PyTorch itself:\n{second}") from None


def _uv(*arguments: str) -> None:
    """Run uv.

    Raises:
        NotInstallable: it failed, or took too long.
    """
    # where pip is told to look is where wheels of this machine's own are, for uv as well
    links = {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "uv", "--quiet", *arguments],
            env={k: v for k, v in links.items() if v} | os.environ,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
    except subprocess.TimeoutExpired:
        raise NotInstallable(f"uv was not done after {INSTALL_S} s") from None
    if done.returncode != 0:
        raise NotInstallable(done.stderr.strip())


def python_or_skip(*requirements: str, cpu: bool = False) -> Path:
    """Return what `python_with` does; where that cannot be installed, skip and say why."""
    try:
        return python_with(*requirements, cpu=cpu)
    except NotInstallable as error:
        pytest.skip(f"uv could not install {', '.join(requirements)}: {error}")


def run(python: Path, *arguments: str | Path, timeout_s: float = 300, **variables: str) -> str:
    """Run a program of this folder, which sees nothing of this repository; return its output.

    Args:
        python: of an environment made above.
        arguments: the program's path and what it is told.
        timeout_s: after which it has failed.
        variables: set beside this process's own.
    """
    done = subprocess.run(
        [python, "-I", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
