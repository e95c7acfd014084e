"""A server installs nothing that a client names: ids are its operator's to name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from starlette.routing import Match, Mount, Route
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import envhub
from envhub.door.address import NAME
from envhub.errors import UnknownEnvironment
from tests.door.asking import ask
from tests.serving import serving
from tests.sharing import anyio_backend, nothing_leaks  # noqa: F401

ASKED = [
    "gym:CartPole-v1", "gym:ALE/Pong-v5", "gym:ALE%2FPong-v5", "gym:evil_package:Env-v0",
    "gym:..%2F..%2Fx-v1", "gym:-v1",
]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache") / "envhub"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVHUB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def url(cache: Path) -> Iterator[str]:
    """Hold a server of everything that is found, with no id named."""
    with serving("--envs", "envs", "--default", "echo") as url:
        yield url


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize(
    ("method", "route"),
    [("GET", ""), ("GET", "/schema"), ("GET", "/metadata"), ("POST", "/reset")],
)
async def test_no_route_knows_an_id_that_nobody_here_named(
    url: str, cache: Path, name: str, method: str, route: str
) -> None:
    answered = await ask(url.removeprefix("http://"), method, f"/envs/{name}{route}")

    assert answered.status == 404
    assert not cache.exists()


@pytest.mark.parametrize("name", ASKED)
async def test_no_websocket_does(url: str, cache: Path, name: str) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(f"{url.replace('http', 'ws')}/envs/{name}/ws"):
            pass
    assert not cache.exists()


@pytest.mark.parametrize("name", ["gym:CartPole-v1", "gym:ALE/Pong-v5", "gym:../x-v1", "gym:"])
async def test_the_native_protocol_does_not(url: str, cache: Path, name: str) -> None:
    async with envhub.connect(url) as hub:
        with pytest.raises(UnknownEnvironment, match="no environment"):
            await hub.open(name)
        async with hub.session("echo") as env:  # the connection is as good as before
            await env.reset()
    assert not cache.exists()


@pytest.mark.parametrize(
    ("path", "name", "rest"),
    [
        ("/envs/echo/ws", "echo", "ws"),
        ("/envs/gym:CartPole-v1/ws", "gym:CartPole-v1", "ws"),
        ("/envs/gym:CartPole-v1/x-v1/splits", "gym:CartPole-v1", "x-v1/splits"),
        ("/envs/gym:CartPole-v1x/ws", "gym:CartPole-v1x", "ws"),
        ("/envs/gym%3ACartPole-v1/", "gym:CartPole-v1", ""),
        ("/envs/gym:ALE/Pong-v5/ws", "gym:ALE/Pong-v5", "ws"),
        ("/envs/gym:ALE%2FPong-v5/ws", "gym:ALE/Pong-v5", "ws"),
        ("/envs/gym:a.b:c/D-v5/gym:E-v1/tasks", "gym:a.b:c/D-v5", "gym:E-v1/tasks"),
        ("/envs/gym:ALE/Pong-v5x/ws", "gym:ALE", "Pong-v5x/ws"),
        ("/envs/gym:ALE/Pong-v5", "gym:ALE/Pong-v5", None),
        ("/envs/gym:ALE%2fPong-v5", "gym:ALE/Pong-v5", None),
        ("/envs/echo", "echo", None),
    ],
)
def test_an_id_stands_in_a_path_as_it_is(path: str, name: str, rest: str | None) -> None:
    route = Route(f"/envs/{NAME}", print) if rest is None else Mount(f"/envs/{NAME}", routes=[])
    asked = {"type": "http", "method": "GET", "path": unquote(path), "root_path": ""}
    match, found = route.matches(asked)

    assert match == Match.FULL
    assert found["path_params"]["name"] == name
    if rest is not None:
        assert found["root_path"] == f"/envs/{name}"
        assert asked["path"] == f"/envs/{name}/{rest}"
