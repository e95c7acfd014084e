"""verifiers' own taskset for OpenEnv plays on our server, as `vf-eval` runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ecosystem.installed import python_or_skip
from tests.ecosystem.scripted import model
from tests.serving import serving

pytestmark = pytest.mark.timeout(1800)
HERE = Path(__file__).parent
# it pins an `mcp` that openenv 0.10 does not run with, and so gets an older client
VERIFIERS = ("verifiers[openenv]==0.4.0", "openenv==0.4.1")
CONFIGURATION = """
model = "scripted"
num_rollouts = 2
push = false
output_dir = "{folder}"

[client]
base_url = "{model}"
api_key_var = "NO_KEY"

[env.taskset]
id = "openenv"
base_url = "{environment}"
resets = [{{ seed = 1 }}, {{ seed = 2 }}, {{ seed = 3 }}, {{ seed = 4 }}]

[env.player.runtime]
type = "subprocess"

[env.player.harness]
id = "null"
"""


@pytest.fixture(scope="module")
def python() -> Path:
    return python_or_skip(*VERIFIERS)


@pytest.fixture(scope="module")
def url(python: Path) -> Iterator[str]:
    with serving(str(HERE / "envs" / "guess_env"), "--isolation", "strict") as url:
        yield url


def evaluate(python: Path, folder: Path, environment: str, number: int) -> list[float]:
    """Play 8 episodes with a model that always guesses `number`; return their rewards."""
    seen: list[str] = []

    def answer(asked: str) -> str:
        seen.append(json.loads(asked)["observation"]["hint"])
        return json.dumps({"number": number})

    uv = Path(sys.executable).parent  # each episode's program is a script that uv runs
    cached = subprocess.check_output([uv / "uv", "cache", "dir"], text=True).strip()
    ours = {"PATH": f"{uv}:{os.environ['PATH']}", "HOME": str(folder), "UV_CACHE_DIR": cached}
    with model(answer) as endpoint:
        file = folder / "evaluation.toml"
        file.write_text(
            CONFIGURATION.format(folder=folder, model=endpoint, environment=environment)
        )
        done = subprocess.run(
            [python.parent / "vf-eval", "@", file, "--no-rich"],
            env=os.environ | ours,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert seen == ["Guess a number from 0 to 5."] * 8, done.stdout[-4000:]
    (traces,) = folder.glob("*/traces.jsonl")
    episodes = [json.loads(line) for line in traces.read_text().splitlines()]
    assert [e["errors"] for e in episodes] == [[]] * 8
    return [e["traces"][0]["rewards"]["openenv_reward"]["score"] for e in episodes]


@pytest.mark.parametrize("path", ["", "/envs/guess_env"], ids=["at the root", "by name"])
def test_every_episode_is_rewarded(python: Path, url: str, tmp_path: Path, path: str) -> None:
    assert evaluate(python, tmp_path, url + path, number=3) == [1.0] * 8


def test_no_wrong_answer_is(python: Path, url: str, tmp_path: Path) -> None:
    assert evaluate(python, tmp_path, url, number=2) == [0.0] * 8
