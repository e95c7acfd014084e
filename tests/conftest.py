"""Fixtures every test gets. None of them is a mock."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings

import envhub_sandbox
from envhub_sandbox import landlock

ENVS = Path(__file__).parent.parent / "envs"
_SETTLE_S = 5.0  # for a process that was killed, and reaped by somebody else, to be gone

# a shell gives what it starts in the background an ignored SIGINT
signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow or busy machine must not turn a true property into a failure.
settings.register_profile(
    "envhub",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("envhub")


# minutes of benchmarks, of kills under load, imitated machines, hostile clients, OpenEnv's own
# server and folders, Gymnasium's environments, others' clients, malformed frames, deleted
# protections, and a thousand sessions
_LONG = (
    "bench", "chaos", "contexts", "differential", "door/hostile", "door/websocket/slow",
    "ecosystem", "fuzz", "gym", "openenv", "sabotage", "test_thousand.py",
)  # fmt: skip
LONG = [Path(__file__).parent / name for name in _LONG]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--openenv-envs",
        metavar="DIR",
        help="a folder of OpenEnv's environments, for tests/differential; see CONTRIBUTING.md",
    )
    parser.addoption(
        "--gymnasium",
        metavar="DIR",
        help="a checkout of Gymnasium's repository, for tests/ecosystem; see CONTRIBUTING.md",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the long tests to those who name them."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return True if everything and collection_path in LONG else None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the machine can do: half of a sandbox's bugs are the machine's."""
    bwrap = envhub_sandbox.bubblewrap() or "not installed"
    abi = landlock.version()
    machine = (
        f"kernel {platform.release()}, uid {os.geteuid()}, landlock {abi}, bubblewrap {bwrap}"
    )
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return [machine]
    names = ", ".join(folder.name for folder in LONG)
    return [machine, f"left to `just long`, and to CI: {names}"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


def children() -> set[int]:
    """The processes that this one has started and not reaped."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread may end while we look
            found.update(map(int, (task / "children").read_text().split()))
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True, scope="session")
def _first_loop() -> None:
    """Libuv keeps a pipe for signals from the first loop on; it is nobody's leak."""
    uvloop.new_event_loop().close()


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Hold a block to it that it leaves behind no child process and no open descriptor."""
    before, open_before = children(), descriptors()
    yield
    # imported here: a test of something smaller must not load the hub
    from envhub.hub.make import close_hubs

    close_hubs()
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        if children() <= before and descriptors() <= open_before:
            return
        time.sleep(0.01)
    assert children() <= before, "a child process outlived the test"
    assert descriptors() <= open_before, "a file descriptor outlived the test"


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """A test leaves nothing behind. Modules with `tests.sharing` do so as a whole."""
    with leaving_nothing():
        yield
