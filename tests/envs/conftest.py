"""The environments of envs/: their modules, imported as in a worker, and live sessions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import envhub
from envhub.hub.embedded import EmbeddedSession

ENVS = Path(__file__).parents[2] / "envs"


@contextmanager
def imported(folder: Path, *names: str) -> Iterator[SimpleNamespace]:
    """Hold the named modules of a folder; afterwards none of them is in `sys.modules`.

    Two folders may use the same plain names, so they must not meet in this process.
    """
    sys.path.insert(0, str(folder))
    try:
        modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in names}
        yield SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]


@pytest.fixture(scope="module")
def coding() -> Iterator[SimpleNamespace]:
    """`tasks` and `grader` of envs/coding."""
    with imported(ENVS / "coding", "tasks", "grader") as modules:
        yield modules


@pytest.fixture
def env() -> Iterator[EmbeddedSession]:
    """A session of envs/coding."""
    with envhub.make("coding", envs=ENVS) as session:
        yield session


@pytest.fixture
def plain(env: EmbeddedSession) -> EmbeddedSession:
    """An episode without a task."""
    env.reset()
    return env


@pytest.fixture
def posed(env: EmbeddedSession) -> EmbeddedSession:
    """An episode with the task `clamp`."""
    env.reset(task="basics/0", task_set="basics")
    return env
