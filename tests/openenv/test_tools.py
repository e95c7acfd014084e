"""An environment with tools, served, and played by OpenEnv's own tool client."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envhub.hub.environments import build, openenv
from tests.openenv.conftest import ENVS
from tests.serving import serving

pytestmark = pytest.mark.openenv
PLAY = """
import sys
from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.mcp_client import MCPToolClient

def play(url):
    def client():
        return MCPToolClient(base_url=url).sync()

    with client() as env, client() as other:
        assert env.reset().observation.metadata == {"ready": True}
        other.reset()
        assert [tool.name for tool in env.list_tools()] == ["add", "fail"]
        assert env.call_tool("add", number=4) == 4
        stepped = env.step(CallToolAction(tool_name="add", arguments={"number": 3}))
        assert stepped.observation.result["data"] == 7, stepped  # of the same session
        assert other.call_tool("add", number=1) == 1
        listed = env.step(ListToolsAction()).observation.tools
        assert [tool.name for tool in listed] == ["add", "fail"]
        for name, words in ("fail", "as asked"), ("nothing", "Unknown tool: 'nothing'"):
            try:
                env.call_tool(name)
            except RuntimeError as error:
                assert words in str(error), error
            else:
                raise AssertionError(name)
        failed = env.step(CallToolAction(tool_name="fail", arguments={})).observation
        assert failed.error is not None, failed
        assert env.state().step_count == 7

for url in sys.argv[1:]:
    play(url)
"""


@pytest.fixture(scope="module")
def url(cache: Path) -> Iterator[str]:
    """Hold `envhub serve FOLDER`, which builds what the folder needs."""
    with serving(str(ENVS / "tools_env")) as url:
        yield url


def test_the_official_tool_client_plays(url: str) -> None:
    """At the root, and by the environment's name."""
    python = build.python_for(openenv.read(ENVS / "tools_env"))
    command = [f"{python}/bin/python", "-I", "-c", PLAY, url, f"{url}/envs/tools_env"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "body", "reply"),
    [
        ("/list_environments", None, ["tools_env"]),
        (
            "/tools_env/splits",
            None,
            [
                {"name": "train", "type": "train"},
                {"name": "dev", "type": "validation"},
                {"name": "held out", "type": "test"},
            ],
        ),
        ("/TOOLS_env/num_tasks", {"split": "x"}, {"num_tasks": 3}),
        (
            "/tools_env/tasks",
            {"split": "x"},
            {"tasks": [{"id": n, "split": "x"} for n in range(3)], "env_name": "tools_env"},
        ),
        ("/tools_env/task", {"split": "x", "index": 2}, {"task": {"id": 2, "split": "x"}}),
        (
            "/tools_env/task_range",
            {"split": "x", "start": 1},
            {"tasks": [{"id": 1, "split": "x"}, {"id": 2, "split": "x"}]},
        ),
    ],
)
def test_tasks_are_listed_and_fetched(url: str, path: str, body: Any, reply: Any) -> None:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"})

    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer) == reply


def test_a_task_that_is_not_there_is_the_client_s_mistake(url: str) -> None:
    data = json.dumps({"split": "x", "index": 3}).encode()
    request = urllib.request.Request(
        f"{url}/tools_env/task", data, {"content-type": "application/json"}
    )

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    with refused.value as answer:
        assert (answer.code, json.load(answer)) == (400, {"detail": "Invalid task index"})
