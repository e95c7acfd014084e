"""Ids of Gymnasium's as an operator and as a client use them, in real sandboxes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import envhub
from envhub import EnvClient, EnvHubProvider, HTTPEnvClient, Hub
from envhub.errors import (
    InvalidAction,
    NotAllowed,
    SchemaMismatch,
    UnknownEnvironment,
    WorkerStartFailed,
)
from tests.door.asking import ask
from tests.gym.conftest import CACHE, ENVS, PINNED
from tests.serving import serving

PONG = "gym:ALE/Pong-v5"
SCRIPT = '{"action": 1}\n0\n:state\n'


def envhub_says(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "envhub", *arguments]
    return subprocess.run(command, input=said, capture_output=True, text=True, timeout=100)


# ---------------------------------------------------------------- in a program


def test_the_hub_imports_nothing_of_gymnasiums(cache: Path) -> None:
    code = (
        "import sys, envhub\n"
        "with envhub.make('gym:CartPole-v1') as env:\n"
        "    env.reset(seed=1)\n"
        "    print(env.step(1).reward, 'gymnasium' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "1.0 False\n", done.stderr


@pytest.mark.parametrize("action", [5, -1, True, "left", None, [1], {"action": 7}, {"n": 1}])
async def test_an_action_outside_of_its_space_is_refused_and_the_episode_goes_on(
    hub: Hub, action: Any
) -> None:
    async with hub.session("gym:CartPole-v1") as env:
        await env.reset(seed=1)
        with pytest.raises(InvalidAction, match="at `\\$"):
            await env.step(action)
        assert (await env.step({"action": np.int64(1)})).reward == 1.0
        assert await env.state() == {"episode_id": None, "step_count": 1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gym:CartPol-v1", "Did you mean: `CartPole`"),
        ("gym:CartPole-v99", "versioned environments"),
        ("gym:ALE/Pon-v5", "Did you mean: `Pong`"),
        ("gym:nobodys/Thing-v0", "gym:MODULE:nobodys/Thing-v0"),
        ("gym:no_such_module:Thing-v0", "--with PACKAGE"),
    ],
)
async def test_an_id_that_there_is_not_says_what_there_is(
    hub: Hub, name: str, message: str
) -> None:
    with pytest.raises(WorkerStartFailed) as failed:
        await hub.open(name)

    assert message in str(failed.value)
    assert name in hub.broken()


async def test_a_module_of_the_folders_own_is_an_environment(hub: Hub) -> None:
    async with hub.session("grid") as env:
        first = await env.reset(seed=3)
        assert first.observation.map.shape == (3, 3)
        assert first.observation.agent.dtype == np.int32
        assert first.metadata["envhub.left_out"] == ["info.env: `Grid`"]
        last = first
        while not last.terminated:
            last = await env.step([1, 1])
        assert (last.reward, last.truncated) == (1.0, False)
        with pytest.raises(InvalidAction, match="expected -1 to 1, got 2 - at `\\$\\[1\\]`"):
            await env.reset() and await env.step([0, 2])


async def test_frames_of_an_atari_game_travel_whole(hub: Hub) -> None:
    async with hub.session(PONG) as env:
        frame = (await env.reset(seed=1)).observation
        described = json.loads((await env.describe()).observation)

        assert (frame.shape, frame.dtype) == ((210, 160, 3), np.uint8)
        assert described["properties"]["observation"]["x-gymnasium"]["high"] == 255
        assert (await env.step(0)).metadata.frame_number > 0


async def test_a_schema_can_be_pinned(hub: Hub) -> None:
    async with hub.session("gym:CartPole-v1") as env:
        described = await env.describe()
    pinned = {
        part: json.loads(getattr(described, part))
        for part in ("action", "observation", "state", "reset_observation")
    }
    async with hub.session("gym:CartPole-v1", schema=pinned):
        pass
    pinned["action"]["properties"]["action"]["maximum"] = 2
    with pytest.raises(SchemaMismatch, match="maximum: 2 became 1"):
        await hub.open("gym:CartPole-v1", schema=pinned)


# ---------------------------------------------------------------- over the network


@pytest.mark.parametrize(
    "form", ["gym:ALE/Pong-v5", "gym:ALE%2FPong-v5", "gym%3AALE%2fPong-v5"]
)
async def test_an_id_with_a_slash_has_an_address(url: str, form: str) -> None:
    address = url.removeprefix("http://")
    found = await ask(address, "GET", f"/envs/{form}")
    assert found.json["name"] == PONG
    async with EnvClient(f"{url}/envs/{form}") as env:
        result = await env.reset(seed=1)
        assert np.array(result.observation["observation"]).shape == (210, 160, 3)


def test_over_plain_http_with_an_id_of_ones_own(url: str) -> None:
    with HTTPEnvClient(f"{url}/envs/gym:CartPole-v1") as env:
        env.reset(seed=1)
        assert env.step({"action": 1}).reward == 1.0
        assert env.state()["step_count"] == 1


async def test_what_is_served_is_what_was_named(url: str) -> None:
    address = url.removeprefix("http://")
    served = (await ask(address, "GET", "/envs")).json
    names = [each["name"] for each in served["environments"]]
    before = sorted((CACHE / "pythons").iterdir())

    assert names == [PONG, "gym:CartPole-v1", "short"]
    assert served["default"] == "gym:CartPole-v1"
    for name in ("gym:Pendulum-v1", "gym:evil_package:Env-v0", "gym:Pong-v5", "grid"):
        assert (await ask(address, "GET", f"/envs/{name}/schema")).status == 404
        async with envhub.connect(url) as hub:
            with pytest.raises(UnknownEnvironment):
                await hub.open(name)
    assert sorted((CACHE / "pythons").iterdir()) == before


async def test_a_token_may_be_held_to_one_id(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("a-token-of-this-test-only name=a envs=gym:CartPole-v1\n")
    file.chmod(0o600)
    token = "a-token-of-this-test-only"
    served = ("gym:CartPole-v1", "gym:Pendulum-v1", "--token-file", str(file))
    with serving(*served) as url:
        async with envhub.connect(url, token=token) as hub:
            async with hub.session("gym:CartPole-v1") as env:
                await env.reset()
            with pytest.raises(NotAllowed):
                await hub.open("gym:Pendulum-v1")


def test_a_trainer_that_starts_its_own_server_names_an_id() -> None:
    with EnvHubProvider("gym:CartPole-v1") as provider:
        address = provider.start()
        assert address.endswith("/envs/gym:CartPole-v1")
        with EnvClient(address).sync() as env:
            env.reset(seed=1)
            assert env.step({"action": 0}).reward == 1.0


# ---------------------------------------------------------------- on the command line


def test_build_says_where_it_is_and_finds_it_again() -> None:
    first = envhub_says("build", "gym:CartPole-v1", "--with", PINNED[0])
    again = envhub_says("build", "gym:Pendulum-v1", str(ENVS / "short"), "--with", PINNED[0])

    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    where = first.stdout.rpartition(": ")[2]
    assert again.stdout == f"gym:Pendulum-v1: {where}short: {where}"


@pytest.mark.parametrize(
    ("name", "message"),
    [("gym:../x-v1", "no id of Gymnasium's"), ("envs/echo", "envhub's own Python")],
)
def test_build_refuses_what_has_no_python_of_its_own(name: str, message: str) -> None:
    done = envhub_says("build", name)

    assert done.returncode != 0
    assert message in done.stderr


def test_a_package_that_is_not_there_is_told_by_uv() -> None:
    done = envhub_says("build", "gym:CartPole-v1", "--with", "gymnasium==0.0.0")

    assert done.returncode != 0
    assert "uv says" in done.stderr


def test_run_and_schema_and_list() -> None:
    run = envhub_says("run", "gym:CartPole-v1", "--seed", "1", said=SCRIPT)
    printed = envhub_says("schema", "gym:CartPole-v1", "--digest")
    listed = envhub_says("list")

    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line["call"] for line in lines] == ["reset", "step", "step", "state"], run.stderr
    assert lines[-1]["state"]["step_count"] == 2
    assert printed.stdout.startswith("sha256:")
    assert "gym:CartPole-v1" in listed.stdout


@pytest.mark.parametrize(
    "name",
    ["gym:CartPole-v1", "gym:Blackjack-v1", str(ENVS / "grid"), "gym:MountainCarContinuous-v0"],
)
def test_it_conforms(name: str) -> None:
    done = envhub_says("check", name)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 passed" in done.stdout


def test_what_the_tests_compare_with_is_what_was_built(cache: Path) -> None:
    code = "import gymnasium; print(gymnasium.__version__)"
    built = envhub_says("build", "gym:CartPole-v1", "--with", PINNED[0]).stdout.strip()
    python = Path(built.rpartition(": ")[2]) / "bin" / "python"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True)

    assert said.stdout.strip() == gymnasium.__version__
