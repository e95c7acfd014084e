"""A hub that was stopped for a while, or has a bug, makes no session pay for it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

import envhub
from envhub.errors import EnvhubError
from envhub.hub.places.place import Place
from envhub.hub.workers.pool import Lease
from envhub.wire import native
from tests.protocol.raw import Raw, key, packed
from tests.serving import serving


def test_a_reply_that_came_while_the_hub_was_stopped_is_in_time() -> None:
    envs = ("--envs", "tests/hub/envs", "--env", "probe", "--drain-s", "0")
    with serving(*envs, "--cap", "step_s=1") as url, Raw(url) as client:
        hub = server(url)
        client.say(native.Open(1, key(), "probe"), native.Reset(1, 1, 0, b""))
        client.hear(), client.hear()
        code = "import time; time.sleep(0.5); result = {'x': 'x' * 1000000}"
        client.say(native.Step(1, 2, 1, packed(code=code)), native.Bill(1))
        client.hear()  # so that the step has begun
        os.kill(hub, signal.SIGSTOP)
        try:
            time.sleep(2)
        finally:
            os.kill(hub, signal.SIGCONT)

        assert isinstance(client.hear(), native.Observed)


def server(url: str) -> int:
    port = int(url.rpartition(":")[2])
    for listening in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = listening.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
            inode = fields[9]
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
        except OSError:
            pass
    raise AssertionError("nobody listens")


async def test_a_bug_at_the_end_of_a_call_does_not_keep_the_turn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with envhub.Hub("tests/hub/envs") as hub, hub.session("probe") as env:
        await env.reset()
        end, told = Place.end, asyncio.Event()
        heard: list[object] = []

        async def failing(self: Place, lease: Lease) -> None:
            await end(self, lease)
            raise OSError("of the test")

        def take(outcome: object) -> None:
            heard.append(outcome)
            told.set()

        monkeypatch.setattr(Place, "end", failing)
        env.begin_step({"code": "import os; os._exit(3)"}, take)
        await asyncio.wait_for(told.wait(), 10)
        monkeypatch.setattr(Place, "end", end)
        await asyncio.wait_for(env.reset(), 10)

    assert isinstance(heard[0], EnvhubError)
    assert "of the test" in caplog.text
