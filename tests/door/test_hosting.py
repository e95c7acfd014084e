"""`create_app` and `HTTPEnvServer`, under a real uvicorn, as authors start them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from envhub import EnvClient, HTTPEnvServer, create_app
from envhub.errors import EnvironmentFailed, UsageError
from tests.door.asking import ask

ENVIRONMENT = """
from pathlib import Path
from envhub import Action, Environment, Observation, State

class SumAction(Action):
    number: int = 0
    read: str = ""

class SumObservation(Observation):
    sum: int = 0
    text: str = ""

class Sum(Environment[SumAction, SumObservation, State]):
    def reset(self, seed=None, episode_id=None) -> SumObservation:
        self.sum = 0
        return SumObservation()

    def step(self, action: SumAction) -> SumObservation:
        self.sum += action.number
        text = Path(action.read).read_text() if action.read else ""
        return SumObservation(sum=self.sum, reward=1.0, text=text)

    @property
    def state(self) -> State:
        return State(step_count=self.sum)
"""
CREATED = """
from envhub import create_app
from .environment import Sum, SumAction, SumObservation
app = create_app(Sum, SumAction, SumObservation, env_name="My Sum")
"""
REGISTERED = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from envhub import HTTPEnvServer
from .environment import Sum, SumAction, SumObservation

async def about(request):
    return PlainTextResponse("mine")

app = Starlette(routes=[Route("/about", about)])
HTTPEnvServer(Sum, SumAction, SumObservation).register_routes(app, mode="production")
"""
DIFFERS = """
from envhub import Action, create_app
from .environment import Sum, SumObservation
app = create_app(Sum, Action, SumObservation)
"""
Start = Callable[[str], str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    server = tmp_path / "mine" / "server"
    server.mkdir(parents=True)
    for folder in (server, server.parent):
        (folder / "__init__.py").touch()
    (server / "environment.py").write_text(ENVIRONMENT)
    (tmp_path / "secret.txt").write_text("of the project")
    return tmp_path


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Start uvicorn with the text of an app's module; return its address."""
    with ExitStack() as stack:

        def begin(app: str) -> str:
            (project / "mine" / "server" / "app.py").write_text(app)
            command = [sys.executable, "-m", "uvicorn", "mine.server.app:app", "--port", "0"]
            server = stack.enter_context(
                subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
            )
            stack.callback(server.terminate)
            assert server.stderr is not None
            said = ""
            while not (found := re.search(r"running on http://(\S+)", said)):
                line = server.stderr.readline()
                if not line:
                    raise RuntimeError(said)
                said += line
            return found[1]

        yield begin


def test_an_app_around_a_class_is_played(start: Start, project: Path) -> None:
    address = start(CREATED)
    with EnvClient(f"http://{address}").sync() as env:
        env.reset()
        env.step({"number": 2})
        assert env.step({"number": 3}).observation.sum == 5
        own = env.step({"read": str(project / "mine" / "server" / "app.py")})
        assert own.observation.text == CREATED
        with pytest.raises(EnvironmentFailed, match="No such file"):
            env.step({"read": str(project / "secret.txt")})
    with EnvClient(f"http://{address}/envs/my-sum").sync() as env:
        env.reset()


async def test_routes_are_added_to_an_application_that_has_its_own(start: Start) -> None:
    address = start(REGISTERED)
    about = await ask(address, "GET", "/about")
    hidden = await ask(address, "POST", "/reset")
    schema = await ask(address, "GET", "/schema")
    async with EnvClient(address) as env:
        await env.reset()

    assert (about.text, hidden.status, schema.status) == ("mine", 404, 200)


def test_types_that_differ_are_found_at_the_start(start: Start) -> None:
    with pytest.raises(RuntimeError, match="is annotated with another action than `Action`"):
        start(DIFFERS)


def test_what_no_sandbox_could_import_is_refused() -> None:
    class Local:
        pass

    given: list[Any] = [Local(), Local, lambda: Local()]
    for env in given:
        with pytest.raises(UsageError):
            create_app(env, Any, Any)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected a mode"):
        HTTPEnvServer(Path, Any, Any).register_routes(Starlette(), "fast")  # type: ignore[arg-type]
