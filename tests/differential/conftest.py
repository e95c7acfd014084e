"""Which environments are played, and the word at the end on those that are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.account import ACCOUNT, Account
from tests.differential.folders import found
from tests.differential.plays import NOT_PLAYED, PLAYS
from tests.openenv.conftest import CACHE


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ACCOUNT] = Account()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "environment" not in metafunc.fixturenames:
        return
    there = found(_given(metafunc.config))
    played = [there[name] for name in sorted(there) if name in PLAYS]
    metafunc.parametrize("environment", played, ids=lambda path: path.name)
    not_run = metafunc.config.stash[ACCOUNT].not_run
    for name in {*there, *NOT_PLAYED, *PLAYS} - {path.name for path in played}:
        not_run[name] = NOT_PLAYED.get(name) or (
            "there is no script for it in tests/differential/plays.py"
            if name in there
            else "not here: neither in a folder by --openenv-envs nor installed"
        )


@pytest.fixture(scope="session", autouse=True)
def cache(request: pytest.FixtureRequest) -> Iterator[None]:
    """Share what tests/openenv builds; for OpenEnv's own, gigabytes, take the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        if _given(request.config) is None:
            patch.setenv("ENVHUB_CACHE", str(CACHE))
        yield


def _given(config: pytest.Config) -> Path | None:
    folder = config.getoption("openenv_envs")
    if folder is not None and not Path(folder).is_dir():
        raise pytest.UsageError(f"--openenv-envs: {folder} is no folder")
    return Path(folder) if folder else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    account = terminalreporter.config.stash[ACCOUNT]
    if account.compared:
        terminalreporter.section("replies of OpenEnv's server and of envhub")
    for name, (replies, declared) in sorted(account.compared.items()):
        line = f"{name}: {replies} compared, {declared} of them differ as declared"
        terminalreporter.line(line)
    if account.not_run:
        terminalreporter.section("environments of OpenEnv that were not compared")
    for name, why in sorted(account.not_run.items()):
        terminalreporter.line(f"{name}: {why}")
