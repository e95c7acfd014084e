"""`envhub top` beside a server that is used."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from envhub import EnvClient
from envhub.hub.accounts.facts import HubFacts, SessionFacts, Summary, Usage
from tests.cli.test_logs import PROBES, TOKEN
from tests.serving import serving

QUICK = ("--interval", "0.2")


def top(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "envhub", "top", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("--envs", str(PROBES), "--default", "probe", "--max-sessions", "7") as url:
        yield url


@contextmanager
def busy(url: str) -> Iterator[None]:
    """Have a session step all the time, in a thread."""
    over, begun = threading.Event(), threading.Event()

    def play() -> None:
        with EnvClient(url).sync() as env:
            env.reset()
            while not over.is_set():
                env.step({"code": ""})
                begun.set()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        over.set()
        thread.join()


def test_one_picture_has_places_environments_and_busiest_sessions(url: str) -> None:
    with busy(url):
        done = top(url, "--once", *QUICK)

    assert done.returncode == 0, done.stderr
    assert "places 1/7 · queue 0" in done.stdout
    assert "isolation strict" in done.stdout
    row = re.search(r"^\s*probe +1 +\d +(\d+\.\d) ", done.stdout, re.MULTILINE)
    assert row is not None
    assert float(row[1]) > 0
    assert re.search(r"^\s*[0-9a-f]{12} ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout  # it is no terminal


def test_json_is_one_object_with_rates(url: str) -> None:
    with busy(url):
        said = json.loads(top(url, "--json", *QUICK).stdout)
    (probe,) = [row for row in said["environments"] if row["name"] == "probe"]
    (session,) = said["sessions"]

    assert probe["steps_per_s"] > 0
    assert session["steps_per_s"] > 0
    assert (session["environment"], session["tier"]) == ("probe", "strict")
    assert (said["hub"]["places"], said["hub_cpu"] > 0) == (7, True)


def test_on_a_terminal_it_draws_until_it_is_told_to_stop(url: str) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    command = [sys.executable, "-m", "envhub", "top", url, *QUICK]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(theirs)
        drawn = b""
        while drawn.count(b"places 0/7") < 3:
            drawn += os.read(ours, 65536)
        process.send_signal(2)
        try:
            while os.read(ours, 65536):
                pass
        except OSError:
            pass  # how a terminal says that nobody is left
    os.close(ours)

    assert process.returncode == 0


def test_a_server_that_wants_a_token_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVHUB_TOKEN", TOKEN)
    with serving("--envs", str(PROBES), "--default", "probe") as guarded:
        without = top(guarded, "--once", *QUICK, ENVHUB_TOKEN="")
        given = top(guarded, "--once", *QUICK)
        named = top(guarded, "--once", *QUICK, "--token", TOKEN, ENVHUB_TOKEN="")

    assert without.returncode == 2
    assert "--token TOKEN" in without.stderr
    assert (given.returncode, named.returncode) == (0, 0)


def test_nobody_there_is_one_line_and_a_hint() -> None:
    with socket.socket() as bound:  # nobody listens on it
        bound.bind(("127.0.0.1", 0))
        done = top(f"http://127.0.0.1:{bound.getsockname()[1]}")

    assert done.returncode == 2
    assert "Connection refused" in done.stderr
    assert "envhub serve" in done.stderr
    assert "Traceback" not in done.stderr


class Said:
    """A server that says whatever a test wants."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    @contextmanager
    def serving(self) -> Iterator[str]:
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answers[self.path])

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


EVIL = "a\x1b[2J\x9b1m\x07[bold]\n\u202eb"


def test_no_word_of_a_servers_steers_the_terminal() -> None:
    hub = HubFacts(EVIL, "best", EVIL, 1, 1, 0, False, False, 1, 1, EVIL, {}, {}, {})
    row = Usage(EVIL, 1, 0, 1, 1, 1, 0.1, 0, 1, 1, EVIL)
    session = SessionFacts(
        EVIL, EVIL, EVIL, EVIL, "idle", EVIL, 1, 0, 1, 1, 1, 0, EVIL, 1, 0, 0
    )
    summary = Summary(hub, {EVIL: EVIL}, {EVIL: 1}, {}, [row])
    answers = {
        "/v1/hub": msgspec.json.encode(summary),
        "/v1/sessions": msgspec.json.encode({"sessions": [session]}),
    }
    with Said(answers).serving() as url:
        done = top(url, *QUICK)

    assert done.returncode == 0, done.stderr
    assert "[bold]" in done.stdout
    assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stdout) is None


@pytest.mark.parametrize("said", [b"no json", b"[]", b"{}", b'{"hub": 1}'])
def test_another_program_there_is_no_traceback(said: bytes) -> None:
    with Said({"/v1/hub": said, "/v1/sessions": said}).serving() as url:
        done = top(url)

    assert done.returncode == 2
    assert "is no server of this version of envhub" in done.stderr
    assert "Traceback" not in done.stderr
