"""What shows only in a hub of its own: first to start, last to close, far from home."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import envhub_sandbox
from envhub import Hub
from envhub.errors import WorkerStartFailed

ROOT = Path(__file__).parents[2]
ENVIRONMENT = """
class X:
    def reset(self): return {}
    def step(self, action): return {}
"""
FAILS_TO_CLOSE = ENVIRONMENT + "    def close(self): raise ValueError('no')\n"
FORGED_LAYER = """
import json, os, socket, sys
control = socket.socket(fileno=os.dup(int(sys.argv[2])))
control.send(json.dumps({"failed": {"layer": "user namespace", "what": "no"}}).encode())
"""
DEPUTY = """
import os, socket
from envhub_sandbox import zygote
def fork_session(self, session, descriptors):
    pid, _ = self._fork(descriptors, self._begin)
    self._sessions[pid] = session
    hub = self._control.getsockopt(socket.SOL_SOCKET, 77)  # SO_PEERPIDFD
    socket.send_fds(self._control, [zygote._packet(forked=session)], [hub])
zygote._Zygote._fork_session = fork_session
"""
# prints how many children are left when its hub has closed
PROGRAM = """
import asyncio, sys
from tests.conftest import children
from envhub import EnvhubError, Hub
async def main():
    try:
        async with Hub(sys.argv[1]) as hub:
            for _ in range(2):
                session = await hub.open("x")
                await session.reset()
    except* EnvhubError:
        pass
    print(len(children()))
asyncio.run(main())
"""


def environment(folder: Path, code: str) -> Path:
    folder.chmod(0o755)
    (folder / "env.toml").write_text('name = "x"\nentry = "env:X"\n')
    (folder / "env.py").write_text(code)
    return folder


def line(folder: Path) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(folder)]


def test_a_hub_closes_though_an_environment_fails_to(tmp_path: Path) -> None:
    folder = environment(tmp_path, FAILS_TO_CLOSE)
    done = subprocess.run(line(folder), capture_output=True, text=True, cwd=ROOT, timeout=60)

    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


@pytest.mark.skipif(envhub_sandbox.bubblewrap() is None, reason="nothing to give up")
async def test_no_environment_decides_for_the_others_how_they_are_isolated(
    tmp_path: Path,
) -> None:
    async with Hub(environment(tmp_path, FORGED_LAYER + ENVIRONMENT)) as hub:
        with pytest.raises(WorkerStartFailed):
            await hub.open("x")

        assert hub.starter.passed_over == []


@contextmanager
def process_namespace() -> Iterator[int]:
    """Hold a pid namespace; yield its first process."""
    holder = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
         "echo; sleep 60"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()  # it is there
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    try:
        yield int(children.read_text())
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nsenter") is None, reason="takes root and nsenter"
)
def test_a_hub_whose_parent_is_elsewhere_is_not_killed(tmp_path: Path) -> None:
    """As below `docker exec`: its parent's number is 0."""
    folder = environment(tmp_path, DEPUTY + ENVIRONMENT)
    with process_namespace() as first:
        enter = ["nsenter", "-t", str(first), "-p", "-m", f"--wd={ROOT}"]
        done = subprocess.run(
            [*enter, *line(folder)], capture_output=True, text=True, timeout=60
        )

    assert done.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert done.stdout == "0\n", done.stderr
