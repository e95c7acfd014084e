"""A hub whose sessions have control groups of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envhub import Hub
from envhub.errors import EnvironmentFailed, LimitExceeded, UsageError
from tests.hub.test_limits import MIB, SHARED, STAY, one_of_two
from tests.sandbox.test_cgroups import place

PROBES = Path(__file__).parent / "envs"
FORTY = """
import threading
for _ in range(40):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[str]:
    folder = place(request.param)
    folder.mkdir()
    yield "/" + folder.name
    assert [child for child in folder.iterdir() if child.is_dir()] == []  # nothing is left
    folder.rmdir()


async def test_without_a_group_of_our_own_the_watchdog_holds_memory() -> None:
    async with Hub(PROBES, cgroup="off") as hub:
        assert hub.memory_control == "watchdog"


async def test_a_group_that_was_named_and_is_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match="`/envhub-no-such-group` cannot be used"):
        async with Hub(PROBES, cgroup="/envhub-no-such-group"):
            pass


@pytest.mark.parametrize("group", ["pids"], indirect=True)
async def test_a_session_is_in_its_group_before_it_runs_anything(group: str) -> None:
    async with Hub(PROBES, cgroup=group, isolation="none") as hub:
        async with hub.session("probe") as session, hub.session("probe") as neighbour:
            await session.reset()
            await neighbour.reset()
            own = Path(f"/proc/{session.pid}/cgroup").read_text()
            with pytest.raises(EnvironmentFailed, match="can't start new thread"):
                await session.step({"code": FORTY})
            await neighbour.step({"code": ""})

    assert f":pids:{group}/envhub-" in own


@pytest.mark.parametrize("group", ["pids"], indirect=True)
async def test_outside_of_a_group_root_has_as_many_as_it_likes(group: str) -> None:
    """The control."""
    async with Hub(PROBES, cgroup="off", isolation="none") as hub:
        async with hub.session("probe") as session:
            await session.reset()
            await session.step({"code": FORTY})


@pytest.mark.parametrize("group", ["memory"], indirect=True)
async def test_the_kernels_kill_has_a_verdict_from_its_own_account(
    group: str, tmp_path: Path
) -> None:
    tight = f"[limits]\nsession_memory_bytes = {64 * MIB}\n"
    async with one_of_two(tmp_path, tight, cgroup=group) as (hub, session):
        assert hub.memory_control == "cgroup v1"
        with pytest.raises(LimitExceeded) as caught:
            await session.step({"code": SHARED + STAY})

    error = caught.value
    assert (error.verdict, error.limit) == ("memory_limit", "session_memory_bytes")
    assert (error.allowed, error.output) == (64 * MIB, "begun\n")
