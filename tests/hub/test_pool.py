"""Workers that do not start, and what is kept ahead of those that do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anyio
import pytest

from envhub import Hub
from envhub.errors import CapacityError, ManifestError, UsageError, WorkerStartFailed
from envhub.hub.workers.pool import READY
from envhub_sandbox import LayerFailed

ENVS = Path(__file__).parent / "envs"


async def test_an_import_that_fails_is_reported_with_its_traceback(hub: Hub) -> None:
    with pytest.raises(WorkerStartFailed, match="a_module_that_nobody_has") as caught:
        await hub.open("broken")

    assert "env.py" in caught.value.output
    assert hub.active_sessions == 0


async def test_a_broken_environment_is_not_started_again_until_its_files_change(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(ENVS / "broken", folder)
    async with Hub(folder) as hub:
        with pytest.raises(WorkerStartFailed) as first:
            await hub.open("broken")
        with pytest.raises(WorkerStartFailed) as second:
            await hub.open("broken")
        (folder / "env.py").write_text("class Broken:\n    def reset(self): return {}\n"
                                       "    def step(self, action): return {}\n")  # fmt: skip
        async with hub.session("broken") as env:
            await env.reset()

    assert first.value is second.value


async def test_threads_at_import_are_refused_with_the_reason(hub: Hub) -> None:
    with pytest.raises(WorkerStartFailed, match="cannot be forked"):
        await hub.open("threads")


async def test_an_import_past_its_deadline_is_killed(hub: Hub) -> None:
    with pytest.raises(WorkerStartFailed, match="was not imported within 1 s"):
        await hub.open("slow")


async def test_ready_processes_are_kept_ahead(hub: Hub) -> None:
    async with hub.session("probe"):
        pool = hub._pools["probe"]
        with anyio.fail_after(10):
            while len(pool._ready) < READY:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        ahead = pool._ready[0].pid
        async with hub.session("probe") as env:
            assert env.pid == ahead


async def test_cancelling_an_open_at_any_moment_leaks_nothing() -> None:
    """`nothing_leaks` is the assertion; the moments sweep over a worker's start and after."""
    for delay_ms in (0, 1, 5, 20, 50, 100, 200):
        async with Hub(ENVS) as hub:
            with anyio.move_on_after(delay_ms / 1000):
                async with hub.session("probe") as env:
                    await env.reset()
                    await anyio.sleep_forever()

            assert hub.active_sessions == 0


async def test_a_hub_that_is_not_entered_says_how_to_use_it() -> None:
    with pytest.raises(CapacityError, match="the hub is not open"):
        await Hub(ENVS).open("probe")


@pytest.mark.parametrize("argument", [{"isolation": "vm"}, {"launcher": "docker"}])
def test_an_unknown_tier_or_launcher_is_a_usage_error(argument: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Hub(ENVS, **argument)  # type: ignore[arg-type]


async def test_a_package_that_is_not_installed_cannot_be_promised_to_agents(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)  # under root, sandboxes run as another user
    (tmp_path / "env.toml").write_text(
        'name = "x"\nentry = "env:X"\nagent_code = true\n[runner]\npackages = ["nope-zz"]\n'
    )
    (tmp_path / "env.py").write_text(
        "from envhub import AgentSandbox\n"
        "class X:\n"
        "    def reset(self): AgentSandbox.open()\n"
        "    def step(self, action): ...\n"
    )
    async with Hub(tmp_path) as hub, hub.session("x") as env:
        with pytest.raises(Exception, match=r"nope-zz.*not installed") as caught:
            await env.reset()

    assert not isinstance(caught.value, ManifestError)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's sandboxes run as another user")
async def test_a_private_folder_under_root_is_an_error_that_names_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "env.toml").write_text('name = "x"\nentry = "env:X"\n')
    async with Hub(tmp_path) as hub:
        with pytest.raises(LayerFailed, match=f"cannot read `{tmp_path}`") as caught:
            await hub.open("x")

    assert "chmod o+rX" in caught.value.hint
