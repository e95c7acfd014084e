"""What `envhub serve` logs: everything that happens, and nothing that is a secret."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from envhub.cli import logs
from envhub.hub.accounts.events import LOGGER, Event
from tests.door.asking import ask
from tests.serving import serving

PROBES = Path(__file__).parents[1] / "hub" / "envs"
TOKEN, WRONG, PAYLOAD = (
    "the-good-token-of-a-test",
    "the-wrong-token-of-a-test",
    "a-payload-word",
)
HEADERS = {"authorization": f"Bearer {TOKEN}", "x-of-mine": "a-header-of-mine"}
OF_A_SESSION = ("session", "environment", "episode")
STEERING = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An environment that cannot be imported, and says so in a way to harm a log."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for path in (tmp_path, folder):
        path.chmod(0o755)
    (folder / "env.toml").write_text('name = "hostile"\nentry = "env:Hostile"\n')
    words = r"'\x1b]0;evil\x07\n{\"level\": \"error\", \"event\": \"forged\"}\n\u202e'"
    (folder / "env.py").write_text(f"raise ValueError({words} + 'x' * 10**6)\n")
    return folder


async def say(socket: ClientConnection, kind: str, **data: Any) -> Any:
    await socket.send(json.dumps({"type": kind, "data": data}))
    return json.loads(await socket.recv())


async def provoke(address: str) -> None:
    """Have everything happen that is logged."""
    async with connect(f"ws://{address}/envs/probe/ws", additional_headers=HEADERS) as socket:
        await say(socket, "reset", episode_id=PAYLOAD)
        await say(socket, "step", code=f"raise ValueError({PAYLOAD!r})")
        await say(socket, "step", code=f"print({PAYLOAD!r}); import os; os._exit(3)")
        await say(socket, "reset")
        await say(socket, "step", code="while True: print('x' * 1000)")
        refused = await ask(address, "POST", "/envs/probe/reset", {}, HEADERS)
        assert refused.status == 503
    for headers in ({}, {"authorization": f"Bearer {WRONG}"}):
        assert (
            await ask(address, "GET", f"/health?token={WRONG}", None, headers)
        ).status == 401
    page = {**HEADERS, "origin": "http://evil.example"}
    assert (await ask(address, "GET", "/health", None, page)).status == 403
    with pytest.raises(InvalidStatus):
        await connect(f"ws://{address}/ws", additional_headers={"authorization": WRONG})
    assert (await ask(address, "POST", "/envs/hostile/reset", {}, HEADERS)).status == 500
    async with connect(f"ws://{address}/envs/probe/ws", additional_headers=HEADERS) as socket:
        await say(socket, "reset")
        port = int(address.rpartition(":")[2])
        (server,) = (
            one
            for one in psutil.Process().children()
            if any(at.laddr and at.laddr.port == port for at in one.net_connections())
        )
        for launcher in server.children():  # its worker
            launcher.kill()
        while (
            'envhub_worker_deaths_total{worker="probe"} 1'
            not in (await ask(address, "GET", "/metrics", None, HEADERS)).text
        ):
            pass
        await say(socket, "step", code="")
        await say(socket, "reset")
        sessions = (await ask(address, "GET", "/v1/sessions", None, HEADERS)).json["sessions"]
        for session in sessions:
            await ask(address, "DELETE", f"/v1/sessions/{session['id']}", None, HEADERS)


async def test_a_server_says_all_that_happens_and_no_secret(
    tmp_path: Path, hostile: Path
) -> None:
    file, log = tmp_path / "tokens", tmp_path / "log"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    flags = ("--envs", str(PROBES), "--envs", str(hostile), "--default", "probe",
             "--max-sessions", "1", "--queue-s", "0.1", "--token-file", str(file),
             "--log-format", "json", "--log-level", "debug")  # fmt: skip
    with serving(*flags, log=log) as url:
        await provoke(url.removeprefix("http://"))
    written = log.read_bytes()
    lines = [json.loads(line) for line in written.splitlines()]
    said = {line["event"] for line in lines}

    assert said == {
        "worker started", "worker died", "worker replaced", "session opened", "session closed",
        "session not opened", "call failed", "episode lost", "environment broken",
        "clients refused", "drain begins", "door closes",
    }  # fmt: skip
    assert {line["why"] for line in lines if line["event"] == "clients refused"} == {
        "no_place", "token", "origin",
    }  # fmt: skip
    causes = {line["cause"] for line in lines if line["event"] == "episode lost"}
    assert causes == {"exited", "output_limit", "worker_lost"}
    for line in lines:
        if line["event"].startswith(("session", "episode", "call")):
            assert all(field in line for field in OF_A_SESSION)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    for secret in (TOKEN, WRONG, PAYLOAD, "a-header-of-mine"):
        assert secret.encode() not in written
    assert STEERING.search(written) is None
    assert "\u202e".encode() not in written
    assert max(map(len, written.splitlines())) < 8000


async def test_text_is_for_people_and_a_line_is_one_line(tmp_path: Path, hostile: Path) -> None:
    log = tmp_path / "log"
    with serving("--envs", str(PROBES), "--envs", str(hostile), "--default", "probe",
                 log=log) as url:  # fmt: skip
        address = url.removeprefix("http://")
        await ask(address, "POST", "/envs/hostile/reset", {})
        async with connect(f"ws://{address}/ws") as socket:
            await say(socket, "reset")
            await say(socket, "step", code="1/0")
    written = log.read_bytes()
    lines = written.decode().splitlines()

    assert STEERING.search(written) is None
    line = re.compile(r"\S+Z (info   |warning) [a-z]|draining: ")
    assert [odd for odd in lines if not line.match(odd)] == []
    assert any("session opened session=" in line for line in lines)
    assert any("environment broken environment=hostile error=" in line for line in lines)
    assert not any("call failed" in line for line in lines)  # unless debug is asked for
    assert max(map(len, lines)) < 8000


def test_the_least_level_is_held() -> None:
    code = (
        "import logging; from envhub.cli.logs import begin\n"
        "from envhub.hub.accounts.events import *\n"
        "begin('json', 'error')\n"
        "tell(WARNING, 'worker died')\n"
        "logging.getLogger('websockets').debug('a header')\n"
        "logging.getLogger('envhub.door').error('a bug %s', 1)\n"
        "try: 1/0\n"
        "except ZeroDivisionError: logging.getLogger('envhub.x').exception('worse')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    first, second = map(json.loads, done.stderr.splitlines())

    assert (first["level"], first["logger"], first["message"]) == (
        "error", "envhub.door", "a bug 1",
    )  # fmt: skip
    assert "ZeroDivisionError" in second["traceback"]


def test_who_does_not_read_the_log_stops_nobody() -> None:
    reading, writing = os.pipe()
    writer = logs.Writer(logs.as_json, writing)
    try:
        for number in range(30_000):  # much more than a pipe and the queue hold
            event: Any = Event("said", {"number": number})
            record = logging.LogRecord(LOGGER, logging.INFO, "", 0, event, None, None)
            writer.emit(record)
        os.set_blocking(reading, True)
        text = b""
        while b'"number":9999}' not in text:
            text += os.read(reading, 65536)
        writer.emit(record)
        while b'"number":29999}' not in text:
            text += os.read(reading, 65536)
    finally:
        os.close(reading)
        writer.finish()
        os.close(writing)
    lines = [json.loads(line) for line in text.splitlines()]
    (dropped,) = [line["lines"] for line in lines if line["event"] == "lines dropped"]

    assert dropped + len(lines) - 1 == 30_001
