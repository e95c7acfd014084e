"""A server that is started for a client: shared, stopped with the last, never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from envhub import AutoAction, AutoEnv, EnvClient, EnvHubProvider
from envhub.errors import UnknownEnvironment, UsageError, WorkerStartFailed
from tests.serving import ROOT, serving

ECHO = str(ROOT / "envs" / "echo")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def servers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [child for child in children if "--stop-on-eof" in child.cmdline()]


def test_a_client_starts_a_server_and_ends_it() -> None:
    with EnvClient(provider=EnvHubProvider("echo")).sync() as env:
        env.reset()
        assert env.step({"message": "hello"}).reward == 5.0
        assert len(servers()) == 1

    assert servers() == []


def test_a_server_that_says_much_goes_on() -> None:
    """Nobody reads the complaints of one that was started for a client."""
    with EnvHubProvider("echo") as provider:
        url = provider.start()
        where = urlsplit(url)
        for _ in range(2500):  # of some 32 bytes each; a pipe holds 64 KiB
            with socket.create_connection((where.hostname, where.port), timeout=20) as client:
                client.sendall(b"no HTTP\r\n\r\n")
                assert client.recv(1)
        with EnvClient(url).sync() as env:
            assert not env.reset().done


def test_a_folder_that_is_named_like_an_option_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ECHO, tmp_path / "--host=localhost")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with EnvClient(provider=EnvHubProvider("--host=localhost")).sync() as env:
        assert not env.reset().done


@pytest.mark.parametrize("image", ["echo", "echo-env:latest", "registry.example/me/echo_env"])
async def test_an_image_s_name_means_an_environment(image: str) -> None:
    provider = EnvHubProvider(envs=ROOT / "envs")
    env = EnvClient.from_docker_image(image, provider=provider)
    async with env:
        await env.reset()
        assert (await env.step({"message": "hi"})).reward == 2.0

    assert servers() == []


def test_alike_providers_share_one_server() -> None:
    with EnvHubProvider(ECHO) as one, EnvHubProvider(ECHO) as other:
        assert one.start() == other.start()
        assert len(servers()) == 1
        one.stop()
        assert len(servers()) == 1

    assert servers() == []


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "env.toml").write_text('name = "broken"\nentry = "env:Gone"\n')
    with pytest.raises(WorkerStartFailed, match=r"env"):
        EnvHubProvider(tmp_path).start()
    with pytest.raises(UnknownEnvironment, match="no environment `nothing`"):
        EnvHubProvider("nothing").start()
    with pytest.raises(UsageError, match="no environment is named"):
        EnvHubProvider().start()

    assert servers() == []


def test_a_program_that_is_killed_leaves_no_server() -> None:
    code = (
        "import sys, time; from envhub import EnvHubProvider; "
        f"EnvHubProvider({ECHO!r}).start(); print('started', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"started\n"
        (server,) = psutil.Process(program.pid).children()
        os.kill(program.pid, signal.SIGKILL)
    server.wait(60)

    assert not server.is_running()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("--envs", "envs") as url:
        yield url


def test_environments_are_listed(url: str) -> None:
    there = AutoEnv.list_environments(url)

    assert there.keys() >= {"echo", "coding"}
    assert AutoEnv.list_environments().keys() >= there.keys()


def test_an_environment_by_its_name_plays(url: str) -> None:
    action = AutoAction.from_env("me/echo-env", base_url=url)
    with AutoEnv.from_env("echo_env", base_url=url).sync() as env:
        env.reset()

        assert env.step(action(message="hello")).reward == 5.0


def test_an_action_has_the_environment_s_fields(url: str) -> None:
    action = AutoAction.from_env("echo", base_url=url)

    assert action.__name__ == "EchoAction"
    with pytest.raises(ValueError, match="message"):
        action()
    with pytest.raises(ValueError, match="massage"):
        action(message="x", massage="y")


def test_without_a_server_one_is_started() -> None:
    action = AutoAction.from_env("echo")
    with AutoEnv.from_env("echo").sync() as env:
        env.reset()

        assert env.step(action(message="hello")).reward == 5.0
    assert servers() == []


def test_an_unknown_name_lists_the_known(url: str) -> None:
    with pytest.raises(UnknownEnvironment) as unknown:
        AutoEnv.from_env("nothing", base_url=url)

    assert "echo" in unknown.value.hint


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH", "ENVHUB_TOKEN"])
def test_a_variable_that_would_change_the_server_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is for the server itself"):
        EnvHubProvider(ECHO).start(env_vars={name: "x"})

    assert servers() == []
