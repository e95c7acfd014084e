from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envhub_sandbox import Bind, Launcher
from tests.sandbox import outside
from tests.sandbox.alone import Zygote, launchers


@pytest.fixture(scope="module", params=launchers())
def launcher(request: pytest.FixtureRequest) -> Launcher:
    chosen: Launcher = request.param
    return chosen


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What attacks are after, as the host knows it."""
    with outside.targets(tmp_path_factory.mktemp("targets")) as found:
        yield found


@pytest.fixture(scope="module")
def shown(targets: dict[str, Any]) -> Bind:
    """A folder that anybody may write to, shown in the sandbox."""
    return Bind(targets["shown"], "/opt/shown")


@pytest.fixture(scope="module")
def zygote(launcher: Launcher, shown: Bind) -> Iterator[Zygote]:
    """A zygote that all tests of a module share; each has sessions of its own."""
    with Zygote(launcher, extra=(shown,)) as zygote:
        yield zygote


@pytest.fixture
def victim(targets: dict[str, Any]) -> Iterator[int]:
    with outside.victim(targets["token"]) as number:
        yield number


@pytest.fixture
def given_free(targets: dict[str, Any], victim: int, tmp_path: Path) -> dict[str, Any]:
    """Where an attack finds things when it runs on the host."""
    folders = {name: str(tmp_path) for name in ("scratch", "tmp", "shm")}
    return {**targets, **folders, "victim": victim}


@pytest.fixture
def given_inside(targets: dict[str, Any], victim: int) -> dict[str, Any]:
    """Where it finds them, or would, in a session."""
    folders = {"scratch": "/workspace", "tmp": "/tmp", "shm": "/dev/shm", "shown": "/opt/shown"}
    return {**targets, **folders, "victim": victim}
