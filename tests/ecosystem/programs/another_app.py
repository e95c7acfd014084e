"""A plugin of pytest: apps that OpenEnv's tests make in their process are served elsewhere.

The test's own file becomes the folder of an environment, which $ANOTHER_SERVER serves;
Starlette's TestClient becomes one that asks that server. An environment that is defined inside
of a function cannot be made elsewhere, so those tests are skipped; so are those that pass
without having asked a server at all, lest they count.
"""

import inspect
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import fastapi.testclient
import httpx
import pytest
import starlette.testclient
from openenv.core.env_server import http_server
from websockets.sync.client import connect

COMMAND = json.loads(os.environ["ANOTHER_SERVER"])
PROJECT = """
[project]
name = "{name}"
version = "0"
requires-python = ">=3.10"
dependencies = ["openenv>=0.10", "pytest", "pytest-asyncio", "httpx", "httpx2", "requests"]
"""
APP = """
from openenv.core.env_server.http_server import create_app
from {environment.__module__} import {environment.__name__}
from {action.__module__} import {action.__name__}
from {observation.__module__} import {observation.__name__}

app = create_app(
    {environment.__name__}, {action.__name__}, {observation.__name__}, mode="{mode}"
)
"""
_servers = {}
_asked = False
_register = http_server.HTTPEnvServer.register_routes


def register_routes(self, app, mode="simulation"):
    app.state.served = (self._env_factory, self.action_cls, self.observation_cls), str(mode)
    return _register(self, app, mode)


class Client:
    """So much of TestClient as the tests use."""

    __test__ = False  # it gets a name that pytest would collect

    def __init__(self, app):
        self._url = _served(*app.state.served)
        self._http = httpx.Client(base_url=self._url, timeout=60, trust_env=False)
        self.get, self.post = self._http.get, self._http.post

    def websocket_connect(self, path):
        return Socket(self._url.replace("http", "ws", 1) + path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.close()


class Socket:
    def __init__(self, url):
        self._connecting = connect(url, proxy=None)

    def receive_text(self):
        try:
            return self._socket.recv(timeout=60)
        except Exception as error:
            raise starlette.testclient.WebSocketDisconnect(1000) from error

    def send_json(self, data):
        self.send_text(json.dumps(data))

    def receive_json(self):
        return json.loads(self.receive_text())

    def __enter__(self):
        self._socket = self._connecting.__enter__()
        self.send_text, self.close = self._socket.send, self._socket.close
        return self

    def __exit__(self, *error):
        return self._connecting.__exit__(*error)


http_server.HTTPEnvServer.register_routes = register_routes
fastapi.testclient.TestClient = starlette.testclient.TestClient = Client


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    global _asked
    report = (yield).get_result()
    if report.when == "setup":
        _asked = False
    elif report.when == "call" and report.passed and not _asked:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, "Skipped: it asks no server")


def _served(of, mode):
    """Return the address of a server of this environment; start one if there is none."""
    global _asked
    _asked = True
    classes = dict(zip(("environment", "action", "observation"), of, strict=True))
    if None in classes.values() or any("<" in c.__qualname__ for c in classes.values()):
        pytest.skip("its environment is defined inside of a function")
    key = of, mode
    if key not in _servers:
        folder = _folder(classes, mode)
        server = subprocess.Popen(
            [*COMMAND, folder, "--port", "0"],
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            stdout=subprocess.PIPE,
            text=True,
        )
        said = ""
        while not (found := re.search(r"listening on (http://\S+)", said)):
            line = server.stdout.readline()
            assert line, f"the server ended, having said {said}"
            said += line
        _servers[key] = server, found[1], folder
    return _servers[key][1]


def _folder(classes, mode):
    """Write the folder of an environment that is defined in a file of tests."""
    file = Path(inspect.getfile(classes["environment"]))
    name = re.sub(r"\W", "_", classes["environment"].__name__).lower()
    folder = Path(tempfile.mkdtemp()) / name
    (folder / "server").mkdir(parents=True)
    folder.parent.chmod(0o755)
    (folder / "openenv.yaml").write_text(f"name: {name}\napp: server.app:app\n")
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name))
    (folder / "server" / "given.py").write_text(file.read_text())
    own = f"from {classes['environment'].__module__} "
    (folder / "server" / "app.py").write_text(
        APP.format(**classes, mode=mode).replace(own, "from .given ")
    )
    return folder


def pytest_sessionfinish():
    for server, _, folder in _servers.values():
        server.terminate()
        server.communicate(timeout=30)
        shutil.rmtree(folder.parent)
