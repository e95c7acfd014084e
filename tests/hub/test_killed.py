"""kill -9, of a client or of the hub: nothing stays, and what was taken is free again."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect

from tests.hub.test_cgroups import group as group  # a fixture
from tests.sandbox.test_ends import live, wait_until
from tests.serving import serving

PROBES = Path(__file__).parent / "envs"
HOLDER = """
import sys, anyio, envhub

async def main(folder, isolation, cgroup):
    exactly = isolation != "none"
    async with envhub.Hub(folder, isolation=isolation, exactly=exactly, cgroup=cgroup) as hub:
        for name in ("probe", "probe", "waits"):
            session = await hub.open(name)
            await session.reset()
        busy = await hub.open("probe")
        await busy.reset()
        async with anyio.create_task_group() as tasks:
            code = "open('/tmp/left', 'w'); import time; time.sleep(600)"
            tasks.start_soon(busy.step, {"code": code})
            await anyio.sleep(0)
            print("ready", flush=True)
            await anyio.sleep(600)

anyio.run(main, *sys.argv[1:], backend_options={"use_uvloop": True})
"""
CLIENT = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None) as websocket:
    for _ in range(2):
        websocket.send('{"type":"reset"}')
        assert "observation" in websocket.recv(timeout=60)
    print("ready", flush=True)
    websocket.recv()
"""


@contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Hold a program that has said that it is ready, to be killed."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert select.select([program.stdout], [], [], 60)[0]
            assert program.stdout.readline() == b"ready\n"
            yield program
        finally:
            program.kill()


def left_on_disk(pid: int) -> list[Path]:
    """What a hub of that number has made and not removed."""
    return list(Path(tempfile.gettempdir()).glob(f"envhub-{pid}-*"))


@pytest.mark.parametrize("isolation", ["strict", "uid", "landlock", "none"])
def test_a_hub_that_is_killed_leaves_no_process_and_no_file(isolation: str) -> None:
    if isolation == "uid" and os.geteuid():
        pytest.skip("only root can become other users")
    with started(HOLDER, str(PROBES), isolation, "off") as hub:
        processes = psutil.Process(hub.pid).children(recursive=True)
        made = left_on_disk(hub.pid)
        hub.kill()
        hub.wait(30)

        assert len(processes) >= 4
        assert bool(made) == (isolation in ("uid", "landlock"))
        assert wait_until(lambda: not live(processes), within_s=30), live(processes)
        assert wait_until(lambda: not left_on_disk(hub.pid), within_s=30)


@pytest.mark.parametrize("group", ["pids"], indirect=True)
def test_a_hub_that_is_killed_leaves_no_control_group(group: str) -> None:
    """The fixture looks at it once more."""
    folder = Path("/sys/fs/cgroup/pids") / group.lstrip("/")
    with started(HOLDER, str(PROBES), "strict", group) as hub:
        made = [child for child in folder.iterdir() if child.is_dir()]
        processes = psutil.Process(hub.pid).children(recursive=True)
        hub.kill()
        hub.wait(30)

        assert len(made) >= 4
        assert wait_until(lambda: not any(c.is_dir() for c in folder.iterdir()), within_s=30)
        assert wait_until(lambda: not live(processes), within_s=30), live(
            processes
        )  # a sweeper


def test_the_place_of_a_client_that_is_killed_is_free_again() -> None:
    with serving("--env", "echo", "--max-sessions", "1", "--queue-s", "60") as url:
        address = f"{url.replace('http', 'ws')}/ws"
        with started(CLIENT, address) as client:
            os.kill(client.pid, signal.SIGKILL)
            client.wait(30)
            with connect(address, proxy=None) as other:
                other.send('{"type":"reset"}')
                reply = json.loads(other.recv(timeout=60))

    assert reply["type"] == "observation"
