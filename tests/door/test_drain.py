"""A server that is told to end lets open sessions come to their end, for a while."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from envhub.door.drain import Drain

ROOT = Path(__file__).parents[2]
LONG = "3600"  # a test that waited for it would fail


class Server:
    """`envhub serve`, which is told to end by the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.address = re.search(r"listening on http://(\S+)", self.read_to("listening on"))[1]  # type: ignore[index]

    def read_to(self, word: str) -> str:
        assert self.process.stdout is not None
        said = ""
        while word not in said:
            line = self.process.stdout.readline()
            assert line, f"the server ended, having said {said}"
            said += line
        return said

    def open(self) -> ClientConnection:
        return connect(f"ws://{self.address}/ws", proxy=None)


@contextmanager
def server(*arguments: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "envhub", "serve", "--env", "echo", "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(
        [*command, *arguments], cwd=ROOT, stdin=subprocess.PIPE, text=True, **pipes
    )
    with process:
        try:
            yield Server(process)
        finally:
            process.kill()


def ask(websocket: ClientConnection, kind: str, **data: Any) -> Any:
    websocket.send(json.dumps({"type": kind, "data": data}))
    return json.loads(websocket.recv(timeout=30))


def end_of_input(running: Server) -> None:
    assert running.process.stdin is not None
    running.process.stdin.close()


def test_sessions_go_on_and_new_ones_are_refused_until_the_last_is_closed() -> None:
    with server("--drain-s", LONG) as running:
        with running.open() as first:
            ask(first, "reset")
            running.process.send_signal(signal.SIGTERM)
            said = running.read_to("draining")
            with running.open() as second:
                refused = json.loads(second.recv(timeout=30))
            stepped = ask(first, "step", message="still here")
            again = ask(first, "reset")
            assert running.process.poll() is None
        code = running.process.wait(30)

    assert "waiting for 1 open session" in said
    assert refused["data"] == {
        "message": "the server is draining",
        "code": "CAPACITY_REACHED",
    }
    assert stepped["data"]["observation"]["message"] == "still here"
    assert again["type"] == "observation"
    assert code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_an_open_session_it_ends_at_once(number: signal.Signals) -> None:
    with server("--drain-s", LONG) as running:
        with running.open() as websocket:
            ask(websocket, "reset")
            ask(websocket, "state")
        running.process.send_signal(number)

        assert running.process.wait(30) == 0


def test_a_second_signal_ends_the_sessions() -> None:
    with server("--drain-s", LONG) as running, running.open() as websocket:
        ask(websocket, "reset")
        running.process.send_signal(signal.SIGTERM)
        running.read_to("draining")
        running.process.send_signal(signal.SIGINT)

        assert running.process.wait(30) == 0


def test_without_patience_the_first_one_does() -> None:
    with server("--drain-s", "0") as running, running.open() as websocket:
        ask(websocket, "reset")
        running.process.send_signal(signal.SIGTERM)

        assert running.process.wait(30) == 0


def test_the_end_of_input_drains_and_is_no_second_signal() -> None:
    with server("--drain-s", LONG, "--stop-on-eof") as running:
        with running.open() as websocket:
            ask(websocket, "reset")
            running.process.send_signal(signal.SIGTERM)
            running.read_to("draining")
            end_of_input(running)
            for _ in range(5):
                stepped = ask(websocket, "step", message="still here")
        code = running.process.wait(30)

    assert stepped["data"]["observation"]["message"] == "still here"
    assert code == 0


def test_the_end_of_input_alone_drains() -> None:
    with server("--drain-s", LONG, "--stop-on-eof") as running:
        with running.open() as websocket:
            ask(websocket, "reset")
            end_of_input(running)
            running.read_to("draining")
            ask(websocket, "step", message="still here")
        assert running.process.wait(30) == 0


class Hub:
    def __init__(self) -> None:
        self.active_sessions = 3
        self.draining = False

    def drain(self) -> None:
        self.draining = True


class Applications:
    resting = 1


def test_patience_has_an_end_and_an_applications_own_session_is_not_waited_for() -> None:
    hub, now, told = Hub(), [100.0], list[int]()
    drain = Drain(hub, Applications(), 20.0, told.append, lambda: now[0])  # type: ignore[arg-type]
    before = drain.is_over()
    drain.ask()
    seen = [drain.is_over()]
    now[0] += 19.9
    seen.append(drain.is_over())
    hub.active_sessions = 1
    early = drain.is_over()
    hub.active_sessions = 2
    now[0] += 0.1
    seen.append(drain.is_over())

    assert (before, hub.draining, told) == (False, True, [2])
    assert seen == [False, False, True]
    assert early
