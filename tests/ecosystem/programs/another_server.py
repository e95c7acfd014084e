"""A plugin of pytest: OpenEnv's tests start the server that we say, not the one they name.

They start `uvicorn` or `gunicorn` on `envs.NAME.server.app:app`. Told $ANOTHER_SERVER, a
command as JSON, this starts that with the folder of the environment and the port; else uvicorn,
on loopback where gunicorn was to listen everywhere.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

COMMAND = json.loads(os.environ.get("ANOTHER_SERVER", "null"))
ENVS = os.environ["ANOTHER_SERVER_ENVS"]
HELD = os.environ.get("ANOTHER_SERVER_HELD")  # served while the tests run, on port 8000
WAIT_S = 60


class Popen(subprocess.Popen):
    def __init__(self, args, **options):
        given = " ".join(args) if isinstance(args, list) else ""
        app = re.search(r"\benvs\.(\w+)\.server\.app:app\b", given)
        port = re.search(r"(?:--port |:)(\d+)", given)
        if app and port:
            args, options["env"] = _server(app[1], port[1], options.get("env") or {})
        super().__init__(args, **options)
        if app and port:
            self._until_it_answers(port[1])

    def _until_it_answers(self, port):
        """Wait here: the tests give up after ten seconds, which a busy machine may need."""
        deadline = time.monotonic() + WAIT_S
        while self.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            time.sleep(0.2)


def _server(name, port, env):
    """Return the command and the variables of a server of this environment."""
    if COMMAND is None:
        app = f"envs.{name}.server.app:app"
        command = [sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", port]
        return command, {**os.environ, **env, "PYTHONPATH": os.environ["PYTHONPATH"]}
    own = {**os.environ, **env}
    own.pop("PYTHONPATH")
    given = [key for key in env if key not in os.environ]
    variables = [word for key in given for word in ("--variable", key)]
    return [*COMMAND, os.path.join(ENVS, name), "--port", port, *variables], own


subprocess.Popen = Popen


@pytest.fixture(autouse=True, scope="session")
def held():
    if not HELD:
        yield
        return
    app = f"envs.{HELD}.server.app:app"
    with Popen(["uvicorn", app, "--port", "8000"], stdout=subprocess.DEVNULL) as server:
        assert server.poll() is None, "the server has ended; is port 8000 free?"
        try:
            yield
        finally:
            server.kill()


def pytest_collection_modifyitems(items):
    """Run what is left out because a stock server holds one session unless told otherwise."""
    for item in items:
        item.own_markers = [
            mark
            for mark in item.own_markers
            if not (mark.name == "skip" and "Concurrency" in mark.kwargs.get("reason", ""))
        ]
