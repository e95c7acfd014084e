"""A thousand sessions at once, each its own process: they open, answer, close, and are gone."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import envhub
from tests.conftest import ENVS, children

COUNT = 1000
ACTIONS = {"echo": {"message": "x"}, "coding": {"code": "print(2**10)"}}
ANSWERS = {"echo": ("message", "x"), "coding": ("stdout", "1024\n")}


def alive_with(ancestors: set[int]) -> set[int]:
    """Every process that descends from one of these, and these."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = set(ancestors) & set(parents)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.mark.thousand
@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", ["echo", "coding"])
async def test_a_thousand_sessions_answer_and_are_gone(name: str) -> None:
    answers: list[object] = []
    pids: set[int] = set()
    turn = anyio.Semaphore(8)
    key, expected = ANSWERS[name]
    before = children()
    async with envhub.Hub(ENVS, max_sessions=COUNT) as hub:
        async with anyio.create_task_group() as tasks:
            opened = anyio.Event()
            sessions: list[envhub.Session] = []

            async def play(seed: int) -> None:
                async with turn:
                    session = await hub.open(name)
                    sessions.append(session)
                    await session.reset(seed=seed)
                if len(sessions) == COUNT:
                    opened.set()
                await opened.wait()
                async with turn:
                    result = await session.step(ACTIONS[name])
                answers.append(result.observation[key])
                pids.add(session.pid)

            for seed in range(COUNT):
                tasks.start_soon(play, seed)
        descriptors = len(os.listdir("/proc/self/fd"))
        tree = alive_with(children() - before)

        assert answers == [expected] * COUNT
        assert len(pids) == COUNT
        assert pids <= tree
        assert descriptors <= (5 if name == "coding" else 4) * COUNT + 64
        for session in sessions:
            await session.aclose()
        assert not pids & alive_with(children() - before)
    assert not tree & alive_with(tree - before)
