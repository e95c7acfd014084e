"""Which environments are played, and the word at the end on those that are not."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from envhub.hub import openenv
from tests.differential.account import ACCOUNT, Account
from tests.differential.plays import NOT_PLAYED, PLAYS

OURS = Path(__file__).parents[1] / "openenv" / "envs"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ACCOUNT] = Account()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "environment" not in metafunc.fixturenames:
        return
    there = _folders(metafunc.config)
    played = sorted(path for name, path in there.items() if name in PLAYS)
    metafunc.parametrize("environment", played, ids=lambda path: path.name)
    not_run = metafunc.config.stash[ACCOUNT].not_run
    for name in sorted({*there, *NOT_PLAYED, *PLAYS} - {path.name for path in played}):
        not_run[name] = _why(name, there)


def _why(name: str, there: dict[str, Path]) -> str:
    if name in NOT_PLAYED:
        return NOT_PLAYED[name]
    if name in there:
        return "there is no script for it in plays.py"
    return "its folder is not here: --openenv-envs names a folder of them"


def _folders(config: pytest.Config) -> dict[str, Path]:
    """Return the environments that are there, by the name of their folder."""
    found = {path.name: path for path in OURS.iterdir() if (path / openenv.FILE).exists()}
    given = config.getoption("openenv_envs")
    if given is None:
        return found | _installed()
    folders = {p.name: p for p in Path(given).iterdir() if (p / openenv.FILE).exists()}
    if not folders:
        raise pytest.UsageError(f"--openenv-envs: no folder in {given} has an {openenv.FILE}")
    return found | folders


def _installed() -> dict[str, Path]:
    """Return the environments that were installed from an index, as `openenv-NAME`."""
    found: dict[str, Path] = {}
    for distribution in metadata.distributions():
        if (distribution.metadata["Name"] or "").lower().startswith("openenv-"):
            for file in distribution.files or ():
                if file.name == openenv.FILE:
                    folder = Path(str(distribution.locate_file(file))).parent
                    found[folder.name] = folder
    return found


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
