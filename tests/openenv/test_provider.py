"""OpenEnv's own typed clients start an environment here instead of in Docker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.openenv.conftest import ENVS
from tests.serving import ROOT

pytestmark = [pytest.mark.openenv, pytest.mark.timeout(600)]
PYTHON = ROOT / ".cache" / "openenv-and-envhub" / "bin" / "python"
PLAY = """
import asyncio, sys
import psutil
from envhub import EnvHubProvider
from openenv import GenericEnvClient
from openenv.core.mcp_client import MCPToolClient
sys.path.append(sys.argv[1])
from counter_env import CounterAction, CounterEnv

counter, tools = f"{sys.argv[1]}/counter_env", f"{sys.argv[1]}/tools_env"

def plays(env):
    env.reset()
    result = env.step(CounterAction(by=3))
    assert (result.observation.count, result.reward) == (6, 0.5), result

with CounterEnv(base_url=None, provider=EnvHubProvider(counter)).sync() as env:
    plays(env)
image = EnvHubProvider(envs=sys.argv[1])
with CounterEnv.from_docker_image("me/counter-env:latest", provider=image).sync() as env:
    plays(env)
runtime = EnvHubProvider(counter)
with CounterEnv.from_env("me/counter", use_docker=False, provider=runtime).sync() as env:
    plays(env)
with MCPToolClient(base_url=None, provider=EnvHubProvider(tools)).sync() as env:
    assert env.call_tool("add", number=4) == 4

async def asynchronously():
    async with GenericEnvClient(provider=EnvHubProvider(counter)) as env:
        await env.reset()
        assert (await env.step({"by": 1})).observation["count"] == 2

asyncio.run(asynchronously())
assert not [p for p in psutil.Process().children() if "serve" in p.cmdline()]
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the interpreter of a trainer's virtual environment, with both packages."""
    complete = PYTHON.parents[1] / "complete"
    if not complete.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", str(PYTHON.parents[1])], check=True)
        packages = ["openenv==0.10.0", "uv", "-e", str(ROOT)]
        install = [*uv, "pip", "install", "-q", "--python", str(PYTHON), *packages]
        subprocess.run(install, check=True, timeout=500)
        complete.touch()
    return PYTHON


def test_unmodified_clients_take_it_as_their_provider(python: Path, cache: Path) -> None:
    command = [str(python), "-c", PLAY, str(ENVS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
