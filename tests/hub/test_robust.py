"""What an adversarial review found: each of these once killed, hung or leaked the hub."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import envhub
from envhub import Hub
from envhub.errors import (
    AgentSandboxFailed,
    CapacityError,
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    WorkerStartFailed,
)
from envhub.hub.make import close_hubs
from tests.conftest import children

PROBES = Path(__file__).parent / "envs"
# an environment that rewrites its zygote while it is imported
DEPUTY = """
import os, socket
from envhub_sandbox import zygote

SO_PEERPIDFD = 77

def fork_session(self, session, descriptors):
    pid, _ = self._fork(descriptors, self._begin)
    self._sessions[pid] = session
    hub = self._control.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    socket.send_fds(self._control, [zygote._packet(forked=session)], [hub])

zygote._Zygote._fork_session = fork_session
"""
FORGED_END = """
import os, socket
from envhub_sandbox import zygote

really = zygote._Zygote._fork_session

def fork_session(self, session, descriptors):
    really(self, session, descriptors)
    self._control.send(zygote._packet(ended=session, status=0, cpu_s=0.0, peak_bytes=0))

zygote._Zygote._fork_session = fork_session
"""
ENVIRONMENT = """
class X:
    def reset(self): return {}
    def step(self, action): exec(action["code"]); return {}
"""


def environment(folder: Path, first: str = "", manifest: str = "") -> Path:
    folder.chmod(0o755)
    (folder / "env.toml").write_text(f'name = "x"\nentry = "env:X"\n{manifest}')
    (folder / "env.py").write_text(first + ENVIRONMENT)
    return folder


def zygote_of(session: envhub.Session) -> int:
    stat = Path(f"/proc/{session.pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


async def test_a_zygote_that_sends_the_hubs_own_pidfd_kills_nobody(tmp_path: Path) -> None:
    """Its close would have sent SIGKILL to this process."""
    async with Hub(environment(tmp_path, DEPUTY)) as hub:
        with pytest.raises(WorkerStartFailed):
            await hub.open("x")


@pytest.mark.timeout(60)
async def test_an_end_that_was_forged_hangs_no_call_and_no_neighbour(tmp_path: Path) -> None:
    async with Hub([environment(tmp_path, FORGED_END), PROBES]) as hub:
        for _ in range(3):
            session = await hub.open("x")
            with anyio.move_on_after(2):
                async with anyio.create_task_group() as tasks:

                    async def play(session: envhub.Session = session) -> None:
                        with pytest.raises(EnvhubError):
                            await session.reset()
                            await session.step({"code": "import time; time.sleep(60)"})

                    tasks.start_soon(play)
                    await anyio.sleep(0.05)
                    await session.aclose()
            async with hub.session("probe") as neighbour:
                await neighbour.reset()


@pytest.mark.timeout(60)
async def test_closing_while_the_zygote_dies_hangs_no_call() -> None:
    async with Hub(PROBES) as hub:
        for _ in range(10):
            session = await hub.open("probe")
            await session.reset()
            worker = hub._pools["probe"]._workers.current
            assert worker is not None
            step = asyncio.ensure_future(session.step({"code": "import time; time.sleep(60)"}))
            await anyio.lowlevel.checkpoint()
            worker._launched.process.send_signal(signal.SIGKILL)
            await session.aclose()
            with pytest.raises(EnvhubError):
                await step
            while worker.alive:
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("left", range(1, 13))
async def test_running_out_of_descriptors_is_an_error_and_passes(left: int) -> None:
    """Wherever it happens: a session's start takes eight or so, one after another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Hub(PROBES) as hub:
        async with hub.session("probe") as first:
            await first.reset()
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + left, hard))
            try:
                with pytest.raises(EnvhubError):
                    for _ in range(8):
                        await hub.open("probe")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            await first.step({"code": ""})
        async with hub.session("probe") as later:
            await later.reset()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_bill_is_told_and_a_session_closed_without_a_descriptor_left() -> None:
    """What /proc would say of the process is not known then; the rest is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Hub(PROBES) as hub:
        session = await hub.open("probe")
        await session.reset()
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            bill = await session.bill()
            await session.aclose()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        assert bill.calls == 1
        assert hub.active_sessions == 0


async def test_a_worker_that_starts_while_the_hub_closes_is_ended() -> None:
    """`nothing_leaks` sees the launcher, if it is left."""
    before = children()
    async with anyio.create_task_group() as tasks:
        async with Hub(PROBES) as hub:

            async def late() -> None:
                with pytest.raises((EnvhubError, anyio.get_cancelled_exc_class())):
                    await hub.open("probe")

            tasks.start_soon(late)
            while children() <= before:
                await anyio.lowlevel.checkpoint()


async def test_opens_that_wait_for_a_place_end_with_the_hub() -> None:
    ended: list[type[Exception]] = []
    async with anyio.create_task_group() as tasks:
        async with Hub(PROBES, max_sessions=1, queue_s=60) as hub:
            await hub.open("probe")

            async def wait() -> None:
                try:
                    await hub.open("probe")
                except CapacityError as error:
                    ended.append(type(error))

            for _ in range(3):
                tasks.start_soon(wait)
            while hub.waiting_sessions < 3:
                await anyio.lowlevel.checkpoint()

    assert ended == [CapacityError] * 3


async def test_a_zygote_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    """At the first fork that it does not answer, if no heartbeat was missing before."""
    manifest = "[deadlines]\nstart_s = 1.0\n"
    async with Hub(environment(tmp_path, manifest=manifest), heartbeat_s=3600) as hub:
        async with hub.session("x") as first:
            await first.reset()
            stopped = zygote_of(first)
            os.kill(stopped, signal.SIGSTOP)
            others = [await hub.open("x") for _ in range(4)]  # of which some were made ahead
            assert zygote_of(others[-1]) != stopped
            await others[-1].reset()
            await first.step({"code": ""})  # and its session lived on


async def test_what_is_too_large_for_a_frame_is_an_error_and_loses_no_episode(
    tmp_path: Path,
) -> None:
    async with Hub(PROBES) as hub, hub.session("probe") as env:
        await env.reset()
        with pytest.raises(EnvironmentFailed, match="is over"):
            await env.step({"code": "result = {'x': bytes(65 << 20)}"})
        with pytest.raises(InvalidAction, match="is over"):
            await env.step({"code": "x" * (65 << 20)})

        assert (await env.step({"code": "result = {'ok': 1}"})).observation.ok == 1


async def test_an_action_without_an_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    async with Hub(PROBES) as hub, hub.session("probe") as env:
        await env.reset()
        with pytest.raises(InvalidAction, match="cannot be sent"):
            await env.step(endless)


@pytest.mark.timeout(60)
def test_closing_the_hubs_blocks_no_thread() -> None:
    outcomes: list[str] = []

    def play() -> None:
        try:
            with envhub.make("probe", envs=PROBES) as env:
                env.reset()
                env.step({"code": "import time; time.sleep(60)"})
        except EnvhubError as error:
            outcomes.append(type(error).__name__)

    for _ in range(3):
        others = children()  # a server of other tests among them
        thread = threading.Thread(target=play)
        thread.start()
        while children() <= others:
            pass  # a worker is on its way
        close_hubs()
        thread.join(20)
        assert not thread.is_alive()

    assert len(outcomes) == 3


@pytest.mark.parametrize("isolation", ["strict", "none"])
def test_a_program_that_ignores_its_children_can_use_a_hub(isolation: str) -> None:
    program = (
        "import signal, sys, envhub; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "with envhub.make('probe', envs=sys.argv[1], isolation=sys.argv[2]) as env:\n"
        "    env.reset(); print(env.step({'code': 'result = {\"x\": 1}'}).observation.x)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, PROBES, isolation],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout, done.stderr) == ("1\n", "")


FIVE_AGENTS = """
from envhub import AgentSandbox
self.kept = []
while True:
    self.kept.append(AgentSandbox.open())
"""
ANOTHER = """
from envhub import AgentSandbox
self.kept.pop().close()
AgentSandbox.open()
"""


async def test_a_session_never_has_more_agent_sandboxes_than_it_may(tmp_path: Path) -> None:
    folder = environment(tmp_path, manifest="agent_code = true\n")
    async with Hub(folder) as hub, hub.session("x") as env:
        await env.reset()
        with pytest.raises(AgentSandboxFailed, match="at most 4"):
            await env.step({"code": FIVE_AGENTS})
        await env.step({"code": ANOTHER})
