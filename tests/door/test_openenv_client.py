"""OpenEnv's own client against `envhub serve`, each in a process of its own.

The client lives in a virtual environment that is made once, in `.cache`: openenv brings a
hundred distributions that nothing else here needs.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import serving

pytestmark = [pytest.mark.openenv, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
VERSION = "0.10.0"
CACHE = ROOT / ".cache" / f"openenv-{VERSION}"

# Plays at {base}: once with the asynchronous client, once with the synchronous one.
ECHO = """
async with GenericEnvClient(base_url=base) as env:
    first = await env.reset(seed=7, unknown_to_it=1)
    assert first.observation["message"] == "seed 7", first
    assert (first.reward, first.done) == (None, False), first
    second = await env.step({"message": "hello"})
    assert second.observation["message"] == "hello", second
    assert (second.reward, second.done) == (5.0, False), second
    assert (await env.step({"message": "bye"})).done
    state = await env.state()
    assert (state["step_count"], state["last"]) == (2, "bye"), state
    try:
        await env.step({"massage": "x"})
    except RuntimeError as error:
        assert "VALIDATION_ERROR" in str(error), error
    else:
        raise AssertionError("an invalid action was accepted")
    assert (await env.step({"message": "again"})).observation["message"] == "again"
"""
CODING = """
async with GenericEnvClient(base_url=base) as env:
    await env.reset()
    result = await env.step({"code": "print(2**10)"})
    assert result.observation["stdout"] == "1024\\n", result
"""
# The worker ends in the middle of a step. `probe` is this folder's own environment.
RECOVERY = """
async with GenericEnvClient(base_url=base) as env:
    await env.reset()
    try:
        await env.step({"op": "os_exit"})
    except RuntimeError as error:
        assert "EXECUTION_ERROR" in str(error), error
    else:
        raise AssertionError("a dead worker answered")
    fresh = await env.reset(seed=3)
    assert fresh.observation["text"] == "reset seed=3 diff=easy", fresh
    assert (await env.state())["step_count"] == 0
"""
# A reply that is late costs the connection; the next call begins on another one. And one
# client may have several sessions, at the root and by name.
CONNECTIONS = """
async with GenericEnvClient(base_url=base + "/envs/probe", message_timeout_s=1) as env:
    await env.reset()
    try:
        await env.step({"op": "hang"})
    except Exception as error:
        assert "imeout" in type(error).__name__, error
    else:
        raise AssertionError("it answered")
    fresh = await env.reset(seed=3)
    assert fresh.observation["text"] == "reset seed=3 diff=easy", fresh
    await env.disconnect()
    assert (await env.reset(seed=4)).observation["text"] == "reset seed=4 diff=easy"
for path in "", "/envs/echo":
    async with GenericEnvClient(base_url=base + path, headers={"x-any": "thing"}) as env:
        await env.reset(seed=1)
        async with await env.new_session() as other:
            await other.reset(seed=2)
            await env.step({"message": "hello"})
            assert (await other.state())["step_count"] == 0
        assert (await env.state())["step_count"] == 1
"""
# name → the play, where, and whether the synchronous client plays it, too
PLAYS = {
    "echo at the root": (ECHO, "", True),
    "echo by name": (ECHO, "/envs/echo", True),
    "coding by name": (CODING, "/envs/coding", True),
    "after a worker died": (RECOVERY, "/envs/probe", True),
    "again and again, and several at once": (CONNECTIONS, "", False),
}
# Plays them all in one process, for it takes seconds to import; says what came of each.
PROGRAM = """
import asyncio, json, sys, traceback
from openenv import GenericEnvClient

said = {}
for name, (base, *plays) in json.loads(sys.argv[1]).items():
    said[name] = []
    for play in plays:
        try:
            exec(play, {"asyncio": asyncio, "GenericEnvClient": GenericEnvClient, "base": base})
        except BaseException:
            said[name].append(traceback.format_exc())
print(json.dumps(said))
"""


def asynchronous(play: str) -> str:
    body = "".join(f"    {line}\n" for line in play.strip().splitlines())
    return f"async def main():\n{body}\nasyncio.run(main())\n"


def synchronous(play: str) -> str:
    play = play.replace("async with GenericEnvClient(base_url=base) as", "with {} as")
    return play.replace("await ", "").replace("{}", "GenericEnvClient(base_url=base).sync()", 1)


@pytest.fixture(scope="session")
def openenv_python() -> Path:
    """Return the interpreter of a virtual environment with OpenEnv; make it if need be."""
    python = CACHE / "bin" / "python"
    complete = CACHE / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", CACHE], check=True)
        uv = [sys.executable, "-m", "uv", "pip", "install", "--python", str(python)]
        pip = [str(python), "-m", "pip", "install"]
        install = uv if importlib.util.find_spec("uv") else pip
        subprocess.run([*install, "--quiet", f"openenv=={VERSION}"], check=True, timeout=500)
        complete.touch()
    return python


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Hold `envhub serve` on a free port."""
    folders = ("--envs", "envs", "--envs", "tests/door/envs")
    with serving(*folders, "--default", "echo") as url:
        yield url


@pytest.fixture(scope="module")
def played(openenv_python: Path, base_url: str) -> dict[str, list[str]]:
    """What went wrong in each play, by OpenEnv's interpreter: it knows nothing of us."""
    plays = {
        name: [base_url + path, asynchronous(play), *[synchronous(play)] * both]
        for name, (play, path, both) in PLAYS.items()
    }
    command = [str(openenv_python), "-I", "-c", PROGRAM, json.dumps(plays)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said: dict[str, list[str]] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("name", PLAYS)
def test_the_official_client_plays(played: dict[str, list[str]], name: str) -> None:
    """Asynchronously, then synchronously."""
    assert played[name] == []


def test_the_official_validator_misses_nothing(openenv_python: Path, base_url: str) -> None:
    openenv = openenv_python.with_name("openenv")
    command = ["validate", "--url", f"{base_url}/envs/echo", "--json"]
    done = subprocess.run([openenv, *command], capture_output=True, text=True, timeout=120)

    report = json.loads(done.stdout)
    assert [c["id"] for c in report["criteria"] if not c["passed"]] == []
    assert report["passed"]
