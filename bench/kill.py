"""How long the end takes: of a session that is a fork bomb, and of everything with the hub.

Both are found in /proc before the kill and watched by pidfds, so the waiting costs the dying
nothing. *Dead* is the kernel's word that a process has ended; *gone* is that it has been
reaped and /proc knows it no more.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import envhub
from bench.figures import Group
from bench.plan import ENVS, REPOSITORY, Plan, environments
from bench.processes import Deaths, tree
from envhub_sandbox import syscalls

DEADLINE_S = 600.0
BOMB_TARGET_MS = 20.0
HUB_TARGET_MS = 100.0
_BOMB_PROCESSES = 64
_SESSIONS = 50
_SET_CHILD_SUBREAPER = 36  # prctl(2)
_BOMB = '''"""Forks until it may not any more; every fork spins."""

import os

class Env:
    def reset(self, seed: int | None = None) -> dict:
        return {}

    def step(self, action: dict) -> dict:
        count = 1
        try:
            while True:
                if os.fork() == 0:
                    while action["spin"] or not __import__("signal").pause():
                        pass
                count += 1
        except BlockingIOError:
            return {"count": count}
'''


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    with environments(bomb=_BOMB) as folder:
        for what, spin in (("asleep", False), ("spinning", True)):
            dead, gone = await _kill_bombs(folder, plan.times(40), spin=spin)
            name = f"{_BOMB_PROCESSES}-process bomb, {what}"
            group.add(f"{name}: SIGKILL to all dead", "ms", dead, BOMB_TARGET_MS, keep=True)
            group.add(f"{name}: SIGKILL to all gone", "ms", gone)
    dead, gone = [], []
    syscalls.prctl(_SET_CHILD_SUBREAPER, 1)  # pid 1 of a container may reap nobody
    try:
        for _ in range(plan.times(20)):
            times = _kill_hub()
            dead.append(times[0])
            gone.append(times[1])
    finally:
        syscalls.prctl(_SET_CHILD_SUBREAPER, 0)
    name = f"the hub with {_SESSIONS} sessions"
    group.add(f"{name}: SIGKILL to all dead", "ms", dead)
    group.add(f"{name}: SIGKILL to all gone", "ms", gone, HUB_TARGET_MS, keep=True)
    return group


async def _kill_bombs(
    folder: Path, times: int, *, spin: bool
) -> tuple[list[float], list[float]]:
    dead, gone = [], []
    async with envhub.Hub(folder) as hub:
        for _ in range(times):
            async with hub.session("bomb") as session:
                await session.reset()
                count = (await session.step({"spin": spin})).observation["count"]
                pids = [session.pid, *tree(session.pid)]
                if not count == len(pids) == _BOMB_PROCESSES:
                    raise RuntimeError(f"{count} processes said, {len(pids)} found")
                pidfd = os.pidfd_open(session.pid)
                deaths = Deaths(pids)
                try:
                    start = time.perf_counter()
                    syscalls.kill(pidfd)
                    dead.append((deaths.wait_dead(30) - start) * 1000)
                    gone.append((deaths.wait_gone(30) - start) * 1000)
                finally:
                    deaths.close()
                    os.close(pidfd)
    return dead, gone


def _kill_hub() -> tuple[float, float]:
    """Start a hub in a process of its own, SIGKILL it, and return the times to the end."""
    line = [sys.executable, "-m", "bench.holder", str(ENVS), str(_SESSIONS)]
    hub = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert hub.stdout is not None
    try:
        if not select.select([hub.stdout], [], [], 60)[0] or hub.stdout.read(5) != b"ready":
            raise RuntimeError("the hub to be killed did not start")
        pids = tree(hub.pid)
        if len(pids) < _SESSIONS:
            raise RuntimeError(f"{len(pids)} processes found, {_SESSIONS} or more expected")
        deaths = Deaths(pids)
        try:
            start = time.perf_counter()
            hub.kill()
            dead = deaths.wait_dead(30)
            gone = deaths.wait_gone(30)
        finally:
            deaths.close()
    finally:
        hub.kill()
        hub.wait(30)
        hub.stdout.close()
    left = tree(os.getpid())
    if left:
        raise RuntimeError(f"processes {left} were orphaned to us after the kill")
    return (dead - start) * 1000, (gone - start) * 1000
