"""What an operator gives one environment, and no other gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envhub import Grant, Hub
from envhub.cli import granting
from envhub.errors import UnknownEnvironment, UsageError
from tests.hub.conftest import ENVS

READ = "import os; result = {'seen': os.environ.get('GIVEN', 'none')}"


async def result(hub: Hub, code: str) -> Any:
    async with hub.session("probe") as session:
        await session.reset()
        return (await session.step({"code": code})).observation["seen"]


async def test_a_variable_reaches_the_one_it_is_given_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIVEN", "a secret")
    async with Hub(ENVS, grants={"probe": Grant(variables=("GIVEN",))}) as hub:
        assert await result(hub, READ) == "a secret"
    async with Hub(ENVS, grants={"parts": Grant(variables=("GIVEN",))}) as hub:
        assert await result(hub, READ) == "none"


def test_what_was_given_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "env.toml").write_text(
        'name = "asks"\nentry = "env:Asks"\nvariables = ["GIVEN", "OTHER"]\n'
    )
    hub = Hub(tmp_path, grants={"asks": Grant(variables=("GIVEN",))})

    assert hub.terms.variables_not_allowed()["asks"] == ["OTHER"]


async def test_its_value_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "a-long-secret-value")
    async with Hub(ENVS, grants={"probe": Grant(variables=("GIVEN",))}) as hub:
        with pytest.raises(Exception, match="GIVEN") as failed:
            await result(hub, "import os; raise ValueError('GIVEN ' + os.environ['GIVEN'])")

    assert "a-long-secret-value" not in str(failed.value)


async def test_a_folder_can_be_read_where_it_is_and_not_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "data.txt").write_text("data")
    read = f"result = {{'seen': open({str(tmp_path / 'data.txt')!r}).read()}}"
    write = f"""
try:
    open({str(tmp_path / "more.txt")!r}, "w")
except OSError as error:
    result = {{"seen": "no"}}
"""
    async with Hub(ENVS, grants={"probe": Grant(folders=(str(tmp_path),))}) as hub:
        assert await result(hub, read) == "data"
        assert await result(hub, write) == "no"
    async with Hub(ENVS) as hub:
        with pytest.raises(Exception, match="No such file"):
            await result(hub, read)


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        (Grant(variables=("NOT_SET_ANYWHERE",)), "`NOT_SET_ANYWHERE` for `probe` is not set"),
        (Grant(folders=("/nowhere",)), "no folder `/nowhere`"),
        (Grant(packages=("numpy",)), "envhub's own Python"),
    ],
)
async def test_what_cannot_be_given_is_said(grant: Grant, words: str) -> None:
    async with Hub(ENVS, grants={"probe": grant}) as hub:
        with pytest.raises(UsageError, match=words):
            await hub.open("probe")


def test_a_grant_to_nobody_is_refused() -> None:
    with pytest.raises(UnknownEnvironment):
        Hub(ENVS, grants={"nobody": Grant()})


def test_a_command_line_gives_to_one_or_to_all() -> None:
    grants, to_all = granting.by_name(
        network=["a"], variables=["ALL", "a:ONE"], folders=["b:/x:y"], packages=["a:p>1", "a:q"]
    )

    assert to_all == ("ALL",)
    assert grants == {
        "a": Grant(network=True, variables=("ONE",), packages=("p>1", "q")),
        "b": Grant(folders=("/x:y",)),
    }


@pytest.mark.parametrize("text", ["x", ":x", "x:"])
def test_an_option_without_an_environment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected --show ENV"):
        granting.by_name([], [], [text], [])
