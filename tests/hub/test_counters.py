"""What a hub knows of its sessions, and what it has counted."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

import envhub
from envhub import Hub
from envhub.errors import (
    CapacityError,
    EnvironmentFailed,
    InvalidOption,
    LimitExceeded,
    SessionClosed,
    WorkerLost,
    WorkerStartFailed,
)
from envhub.hub import make as making
from envhub.hub.accounts.events import LOGGER, Event
from envhub.hub.accounts.tally import BOUNDS_S

ENVS = Path(__file__).parent / "envs"
CRASH = {"code": "import os; os._exit(5)"}


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    """What was said, in order."""
    said = [record.msg for record in caplog.records if record.name == LOGGER]
    return [(event.what, dict(event.fields)) for event in said if isinstance(event, Event)]


async def test_a_session_is_known_by_what_it_is_and_does(hub: Hub) -> None:
    before = time.time()
    assert hub.sessions() == []
    async with hub.session("probe") as env:
        (opened,) = hub.sessions()
        await env.reset()
        for _ in range(3):
            await env.step({"code": ""})
        await env.reset()
        (known,) = hub.sessions()

        assert (opened.environment, opened.version, opened.client) == ("probe", "0.1.0", "")
        assert (opened.state, opened.stage, opened.episode, opened.steps) == (
            "idle", "open", 0, 0,
        )  # fmt: skip
        assert (known.state, known.stage, known.episode, known.steps) == ("idle", "reset", 2, 3)
        assert (known.id, known.tier, known.pid) == (opened.id, "strict", env.pid)
        assert before <= known.opened_at <= time.time()
        assert 0 <= known.stage_s <= known.age_s
    assert hub.sessions() == []


async def test_what_a_session_is_in_the_middle_of_is_seen(hub: Hub) -> None:
    async with hub.session("probe") as env, anyio.create_task_group() as tasks:
        await env.reset()
        tasks.start_soon(env.step, {"code": "import time; time.sleep(60)"})
        while (state := hub.sessions()[0].state) == "idle":
            await checkpoint()
        assert (state, hub.sessions()[0].stage) == ("calling", "step")
        tasks.cancel_scope.cancel()
    assert hub.sessions() == []


async def test_a_lost_episode_is_counted_with_its_cause_and_over_at_the_next_reset(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with hub.session("probe") as env:
        await env.reset()
        with pytest.raises(WorkerLost):
            await env.step(CRASH)
        (lost,) = hub.sessions()
        await env.reset()
        (back,) = hub.sessions()
        with pytest.raises(LimitExceeded):
            await env.step({"code": "while True: print('x' * 1000)"})

    assert (lost.state, lost.pid, lost.tier, lost.errors) == ("lost", 0, "", 1)
    assert (back.state, back.tier) == ("idle", "strict")
    totals = hub.counters.totals()["probe"]
    assert totals.errors == {
        ("worker_lost", "exited"): 1,
        ("limit_exceeded", "output_limit"): 1,
    }
    losses = [fields for what, fields in events(caplog) if what == "episode lost"]
    assert [(f["cause"], f["episode"], f["stage"]) for f in losses] == [
        ("exited", 1, "step"),
        ("output_limit", 2, "step"),
    ]
    assert (losses[1]["limit"], losses[1]["session"]) == ("output_bytes", back.id)


async def test_totals_outlive_their_sessions(hub: Hub) -> None:
    for _ in range(2):
        async with hub.session("probe") as env:
            await env.reset()
            await env.step({"code": ""})
            with pytest.raises(EnvironmentFailed):
                await env.step({"code": "1/0"})
            with pytest.raises(InvalidOption):
                await env.reset(nope=1)
    async with hub.session("probe") as env:
        await env.reset()
        await env.step({"code": ""})
        totals = hub.counters.totals()["probe"]

    assert (totals.opened, totals.closed) == (3, {"closed": 2})
    assert (totals.episodes, totals.steps) == (3, 3)
    assert totals.errors == {("environment_failed", ""): 2, ("invalid_option", ""): 2}
    assert (len(totals.buckets), sum(totals.buckets)) == (len(BOUNDS_S) + 1, 3)
    assert totals.step_s > 0


async def test_the_parts_of_a_step_are_one_step(hub: Hub) -> None:
    async with hub.session("parts") as env:
        await env.reset()
        parts = [part async for part in env.stream({"to": 3})]
        (known,) = hub.sessions()

    assert len(parts) > 1
    assert known.steps == 1


def test_the_blocking_shell_counts_in_its_own_thread() -> None:
    with envhub.make("probe", envs=ENVS) as env:
        env.reset()
        env.step({"code": ""})
        with pytest.raises(WorkerLost):
            env.step(CRASH)
        (hub,) = (background.hub for background in making._hubs.values())
        (known,) = hub.sessions()
        assert (known.episode, known.steps, known.errors, known.state) == (1, 1, 1, "lost")
    totals = hub.counters.totals()["probe"]

    assert (totals.opened, totals.closed, totals.steps) == (1, {"closed": 1}, 1)
    assert totals.errors == {("worker_lost", "exited"): 1}


async def test_why_a_session_was_closed_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with Hub(ENVS, caps={"idle_s": 0.1}) as hub:
        left = await hub.open("probe")
        while hub.sessions():  # no event: it is closed by a clock
            await checkpoint()
        with pytest.raises(SessionClosed):
            await left.reset()
        by_operator = await hub.open("probe")
        assert await hub.counters.end(hub.sessions()[0].id)
        assert not await hub.counters.end("000000000000")
        with pytest.raises(SessionClosed):
            await by_operator.reset()
        await hub.open("probe")

    closed = hub.counters.totals()["probe"].closed
    assert closed == {"idle": 1, "operator": 1, "hub closed": 1}
    said = [fields["why"] for what, fields in events(caplog) if what == "session closed"]
    assert said == ["idle", "operator", "hub closed"]


async def test_clients_that_are_refused_are_counted_by_why() -> None:
    async with Hub(ENVS, max_sessions=1, queue_s=0.05) as hub:
        async with hub.session("probe"):
            for _ in range(2):
                with pytest.raises(CapacityError):
                    await hub.open("probe")
        hub._watchdog.floor_bytes = 2**62
        with pytest.raises(CapacityError):
            await hub.open("probe")

        assert hub.counters.refused == {"no_place": 2, "memory": 1}


async def test_a_worker_that_dies_is_told_of_and_so_is_the_one_in_its_place(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with hub.session("probe"):
        worker = hub._pools["probe"]._workers.current
        assert worker is not None
        os.kill(worker._launched.process.pid, signal.SIGKILL)
        while worker.alive:
            await checkpoint()
    async with hub.session("probe"):
        pass

    assert hub.counters.worker_starts == {"probe": 2}
    assert hub.counters.worker_deaths == {"probe": 1}
    said = [what for what, _ in events(caplog) if what.startswith("worker")]
    assert said == ["worker started", "worker died", "worker replaced"]


async def test_a_broken_environment_is_told_of_once_with_what_it_said(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    for _ in range(2):
        with pytest.raises(WorkerStartFailed):
            await hub.open("broken")
    (told,) = [fields for what, fields in events(caplog) if what == "environment broken"]

    assert "a_module_that_nobody_has" in str(told["error"])
    assert "import a_module_that_nobody_has" in str(told["output"])
    assert hub.counters.totals()["broken"].errors == {("worker_start_failed", ""): 2}
    assert hub.counters.totals()["broken"].opened == 0


def test_a_program_without_logging_is_shown_nothing() -> None:
    import subprocess
    import sys

    code = (
        "import envhub\n"
        f"with envhub.make('probe', envs={str(ENVS)!r}) as env:\n"
        "    env.reset()\n"
        "    try: env.step({'code': 'import os; os._exit(1)'})\n"
        "    except envhub.errors.WorkerLost: print('lost')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("lost\n", "")
