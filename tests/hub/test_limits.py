"""Each limit is passed by an attack: its verdict, the output that is kept, the neighbour.

Every attack has its control: the same code where the limit is wider does what it is for.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import envhub
from envhub import Hub, Session
from envhub.errors import (
    CapacityError,
    DeadlineExceeded,
    EnvironmentFailed,
    InvalidAction,
    LimitExceeded,
    SessionClosed,
    WorkerError,
    WorkerLost,
)

PROBES = Path(__file__).parent / "envs"
MIB = 1024 * 1024
GIB = 1024 * MIB

# Each says "begun" first, does `what` in `many` processes, and goes on when all have done it.
CROWD = """
import mmap, os, time
print("begun", flush=True)
done, tell = os.pipe()
for number in range({many}):
    if os.fork() == 0:
        {what}
        os.write(tell, b"x")
        time.sleep(600)
heard = 0
while heard < {many}:
    heard += len(os.read(done, {many}))
"""
SIXTY = CROWD.format(many=60, what='kept = bytearray(b"x") * (20 << 20)')
SHARED = CROWD.format(
    many=8, what='kept = mmap.mmap(-1, 60 << 20); kept.write(b"x" * (60 << 20))'
)
COPIES = 'whole = bytearray(b"x") * (80 << 20)' + CROWD.format(many=8, what="time.time()")
FILES = """
print("begun", flush=True)
for path in ("/tmp/a", "/workspace/a"):
    with open(path, "wb") as file:
        file.write(bytes(60 << 20))
kept = bytearray(b"x") * (160 << 20)
"""
FLOOD = """
print("begun", flush=True)
print("x" * 3000, flush=True)
"""
LONG_FRAME = """
import os
print("begun", flush=True)
os.write(3, (1 << 20).to_bytes(4, "big"))
"""
BUSY = """
import time
print("begun", flush=True)
until = time.process_time() + 1.5
while time.process_time() < until: pass
"""
STAY = "\nimport time; time.sleep(600)"
GO_ON = "\nresult = {'through': 1}"
TIGHT = f"[limits]\nsession_memory_bytes = {256 * MIB}\ndisk_bytes = {64 * MIB}\n"


def environment(folder: Path, manifest: str) -> Path:
    """An environment `x` that executes its actions, under the limits of a manifest."""
    folder.chmod(0o755)
    (folder / "env.toml").write_text(f'name = "x"\nentry = "env:Probe"\n{manifest}')
    (folder / "env.py").write_text((PROBES / "probe" / "env.py").read_text())
    return folder


@asynccontextmanager
async def one_of_two(
    folder: Path, manifest: str, **options: Any
) -> AsyncIterator[tuple[Hub, Session]]:
    """A session under limits, beside a neighbour that must not notice how it goes."""
    async with Hub([environment(folder, manifest), PROBES], **options) as hub:
        async with hub.session("probe") as neighbour, hub.session("x") as session:
            before = (await neighbour.reset()).observation.pid
            await session.reset()
            yield hub, session
            await neighbour.step({"code": "result = {'ok': 1}"})
            assert (await neighbour.reset()).observation.pid == before


ATTACKS = [
    ("memory_limit", "session_memory_bytes", 256 * MIB, TIGHT, SIXTY),
    ("memory_limit", "session_memory_bytes", 256 * MIB, TIGHT, SHARED),
    ("memory_limit", "session_memory_bytes", 256 * MIB, TIGHT, FILES),
    ("output_limit", "output_bytes", 2000, "[limits]\noutput_bytes = 2000\n", FLOOD),
    ("frame_limit", "frame_bytes", 5000, "[limits]\nframe_bytes = 5000\n", LONG_FRAME),
    ("cpu_limit", "cpu_s", 1, "[limits]\ncpu_s = 1\n", BUSY + "\nwhile True: pass"),
]
NAMES = ["sixty processes", "shared memory", "files", "output", "frame", "CPU"]


@pytest.mark.parametrize(("cause", "limit", "allowed", "manifest", "code"), ATTACKS, ids=NAMES)
async def test_past_a_limit_the_session_ends_and_its_neighbour_does_not(
    tmp_path: Path, cause: str, limit: str, allowed: int, manifest: str, code: str
) -> None:
    async with one_of_two(tmp_path, manifest) as (_, session):
        with pytest.raises(LimitExceeded) as caught:
            await session.step({"code": code + STAY})

        error = caught.value
        assert (error.verdict, error.limit, error.allowed) == (cause, limit, allowed)
        assert error.observed > allowed or cause == "cpu_limit"
        assert "used up its CPU time" in str(error) or cause != "cpu_limit"
        assert error.observed >= allowed
        assert error.output.startswith("begun\n")
        await session.reset()


@pytest.mark.parametrize(
    "code",
    [SIXTY, SHARED, FILES, FLOOD, BUSY],
    ids=[name for name in NAMES if name != "frame"],
)
async def test_the_same_within_the_limits_is_work(tmp_path: Path, code: str) -> None:
    async with one_of_two(tmp_path, "") as (hub, session):
        result = await session.step({"code": code + GO_ON})
        await hub._watchdog.look()

        assert result.observation.through == 1
        await session.step({"code": ""})


async def test_memory_that_forks_share_is_counted_once(tmp_path: Path) -> None:
    """Nine processes with 80 MiB resident in each: 720 MiB for a sum, 80 for the machine."""
    async with one_of_two(tmp_path, TIGHT) as (hub, session):
        await session.step({"code": COPIES + GO_ON})
        await hub._watchdog.look()

        assert hub._watchdog._not_before  # it was suspect, and measured
        await session.step({"code": ""})


async def test_a_limit_that_is_passed_between_two_calls_is_told_by_the_next(
    tmp_path: Path,
) -> None:
    async with one_of_two(tmp_path, TIGHT) as (hub, session):
        await session.step({"code": FILES})
        with anyio.fail_after(30):
            while session._conversation.link is None or session._conversation.link.alive:
                await hub._watchdog.look()
        with pytest.raises(LimitExceeded, match="between two calls, used") as caught:
            await session.step({"code": ""})

        assert (caught.value.verdict, caught.value.allowed) == ("memory_limit", 256 * MIB)
        await session.reset()


def test_the_blocking_interface_has_the_same_limits(tmp_path: Path) -> None:
    with envhub.make("x", envs=environment(tmp_path, TIGHT)) as session:
        session.reset()
        with pytest.raises(LimitExceeded, match="of memory, allowed 256 MiB") as caught:
            session.step({"code": SIXTY + STAY})

        assert caught.value.output == "begun\n"
        session.reset()


async def test_what_is_too_long_for_a_frame_is_refused_before_it_is_sent(
    tmp_path: Path,
) -> None:
    async with one_of_two(tmp_path, "[limits]\nframe_bytes = 5000\n") as (_, session):
        with pytest.raises(InvalidAction, match="is over 5000"):
            await session.step({"code": "#" * 5000})

        assert (await session.step({"code": GO_ON})).observation.through == 1


AGENT = f"""agent_code = true
[runner.limits]
session_memory_bytes = {256 * MIB}
"""
IN_AN_AGENT = f"""
from envhub import AgentSandbox
agent = AgentSandbox.open()
ran = agent.run({SIXTY + STAY!r}, timeout_s=60)
again = agent.run("print(2)")
result = {{"cut": ran.cut, "alive": ran.alive, "again": again.stdout}}
"""


async def test_an_agent_that_uses_too_much_is_cut_and_costs_its_environment_nothing(
    tmp_path: Path,
) -> None:
    """An agent that could end its episode so would have no reward instead of a bad one."""
    async with one_of_two(tmp_path, AGENT) as (_, session):
        seen = (await session.step({"code": IN_AN_AGENT})).observation

    assert (seen.cut, seen.alive, seen.again) == ("memory", False, "2\n")


# ---------------------------------------------------------------- the machine's memory


async def test_while_the_machine_is_short_of_memory_no_session_is_admitted() -> None:
    async with Hub(PROBES, queue_s=1) as hub:
        async with hub.session("probe") as session:
            hub._watchdog.floor_bytes = 2**60
            with pytest.raises(CapacityError, match="the machine is short of memory"):
                await hub.open("probe")
            await session.reset()  # too small for its end to help anybody
            hub._watchdog.floor_bytes = 0
        async with hub.session("probe"):
            pass


async def test_the_largest_session_makes_room_on_a_machine_that_is_short(
    tmp_path: Path,
) -> None:
    async with one_of_two(tmp_path, "") as (hub, session):
        await session.step({"code": 'kept = bytearray(b"x") * (100 << 20)'})
        hub._watchdog.floor_bytes = 2**60
        with anyio.fail_after(30):
            while session._conversation.link is None or session._conversation.link.alive:
                await hub._watchdog.look()
        hub._watchdog.floor_bytes = 0
        with pytest.raises(WorkerLost, match="because the machine had") as caught:
            await session.step({"code": ""})

    assert (caught.value.verdict, caught.value.limit) == ("memory_limit", "host_memory")
    assert caught.value.retryable


# ---------------------------------------------------------------- processes


@pytest.mark.skipif(os.geteuid() != 0, reason="RLIMIT_NPROC holds, and holds root only not")
async def test_without_namespaces_the_watchdog_counts_processes(tmp_path: Path) -> None:
    code = """
import threading
for _ in range(20):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
result = {"through": 1}
"""
    folder = environment(tmp_path, "[limits]\nprocesses = 4\n")
    async with Hub(folder, isolation="none") as hub, hub.session("x") as session:
        await session.reset()
        await session.step({"code": code})
        with anyio.fail_after(30):
            while session._conversation.link is None or session._conversation.link.alive:
                await hub._watchdog.look()
        with pytest.raises(LimitExceeded, match="ran 21 processes and threads") as caught:
            await session.step({"code": ""})

    error = caught.value
    assert (error.verdict, error.limit) == ("process_limit", "processes")
    assert (error.allowed, error.observed) == (16, 21)


# ---------------------------------------------------------------- clocks


async def ended(session: Session) -> None:
    """Wait until the hub has ended the session's process. It looks twice a second."""
    with anyio.fail_after(30):
        while session._conversation.link is not None and session._conversation.link.alive:
            await anyio.lowlevel.checkpoint()


async def test_a_session_that_nobody_calls_is_closed_and_says_why(tmp_path: Path) -> None:
    async with one_of_two(tmp_path, "[deadlines]\nidle_s = 0.5\n") as (hub, session):
        await ended(session)
        with pytest.raises(SessionClosed, match="without a call") as caught:
            await session.step({"code": ""})
        with anyio.fail_after(30):
            while hub.active_sessions > 1:
                await anyio.lowlevel.checkpoint()

    error = caught.value
    assert (error.verdict, error.limit, error.allowed) == ("idle", "idle_s", 0.5)
    assert error.observed > 0.5


def test_a_blocking_session_that_nobody_calls_is_closed(tmp_path: Path) -> None:
    with envhub.make("x", envs=environment(tmp_path, "[deadlines]\nidle_s = 0.5\n")) as env:
        env.reset()
        while env._background.hub.active_sessions:
            os.sched_yield()
        with pytest.raises(SessionClosed, match="without a call"):
            env.step({"code": ""})


EPISODE = "[deadlines]\nepisode_s = 1.0\n"


async def test_an_episode_is_cut_in_the_middle_of_a_step(tmp_path: Path) -> None:
    async with one_of_two(tmp_path, EPISODE) as (_, session):
        with pytest.raises(DeadlineExceeded, match="the end of its episode's time") as caught:
            await session.step({"code": "print('begun', flush=True)" + STAY})
        calls: list[Callable[[], object]] = [session.state, lambda: session.step({"code": ""})]
        for call in calls:
            with pytest.raises(DeadlineExceeded, match="whose time is over") as later:
                await call()  # type: ignore[misc]
            assert (later.value.verdict, later.value.limit) == ("episode_deadline", "episode_s")
        await session.reset()
        assert (await session.step({"code": GO_ON})).observation.through == 1

    error = caught.value
    assert (error.verdict, error.limit) == ("episode_deadline", "episode_s")
    assert (error.allowed, error.output) == (1.0, "begun\n")
    assert error.observed >= 1.0


async def test_an_episode_is_cut_between_two_steps(tmp_path: Path) -> None:
    async with one_of_two(tmp_path, EPISODE) as (_, session):
        pid = session.pid
        await ended(session)
        with pytest.raises(DeadlineExceeded, match="whose time is over"):
            await session.step({"code": ""})
        await session.reset()

        assert session.pid != pid


async def test_an_episode_that_is_over_has_no_time_left_to_pass(tmp_path: Path) -> None:
    async with one_of_two(tmp_path, EPISODE) as (hub, session):
        await session.step({"code": "result = {'done': True}"})

        assert [place.tenure._episode for place in hub._taken] == [None, None]


def test_a_blocking_session_has_the_same_episodes(tmp_path: Path) -> None:
    with envhub.make("x", envs=environment(tmp_path, EPISODE)) as session:
        session.reset()
        with pytest.raises(DeadlineExceeded, match="the end of its episode's time") as caught:
            session.step({"code": "print('begun', flush=True)" + STAY})
        with pytest.raises(DeadlineExceeded, match="whose time is over"):
            _ = session.state
        session.reset()

    assert caught.value.output == "begun\n"


async def test_a_step_past_its_deadline_says_which(tmp_path: Path) -> None:
    async with one_of_two(tmp_path, "[deadlines]\nstep_s = 0.2\n") as (_, session):
        with pytest.raises(DeadlineExceeded) as caught:
            await session.step({"code": STAY})

    assert (caught.value.verdict, caught.value.limit) == ("deadline", "step_s")
    assert caught.value.allowed == 0.2
    assert caught.value.observed >= 0.2


async def test_a_lost_process_without_a_limit_names_none(tmp_path: Path) -> None:
    async with one_of_two(tmp_path, "") as (_, session):
        with pytest.raises(WorkerError) as caught:
            await session.step({"code": "import os; os._exit(3)"})

    assert (caught.value.limit, caught.value.allowed, caught.value.observed) == ("", 0, 0)


async def test_what_an_environment_returns_past_the_limit_is_an_error_of_it(
    tmp_path: Path,
) -> None:
    async with one_of_two(tmp_path, "[limits]\nframe_bytes = 5000\n") as (_, session):
        with pytest.raises(EnvironmentFailed, match="is over 5000"):
            await session.step({"code": "result = {'x': bytes(6000)}"})
        assert (await session.step({"code": GO_ON})).observation.through == 1
