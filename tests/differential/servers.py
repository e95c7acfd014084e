"""The two servers that are compared: OpenEnv's own, and envhub, of one folder each."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from envhub.hub.environments import build, openenv
from tests.serving import serving

# what a process needs of ours; the rest of our variables is none of an environment's business
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")


@contextmanager
def stock(folder: Path, home: Path, variables: Mapping[str, str] = {}) -> Iterator[str]:
    """Hold OpenEnv's server in the folder's own virtual environment; yield its address.

    The module is imported as the loader does it, with the folder and the one above on
    `sys.path`, and gets the variables that the folder's image would have set. Its web page,
    which takes seconds to import and is none of the protocol, is off.

    Args:
        folder: of an OpenEnv environment, in a place that may be written to.
        home: an empty folder.
        variables: more of them; they go before the image's.
    """
    manifest = openenv.read(folder)
    python = build.python_for(manifest)
    module = manifest.entry
    if not module.startswith(f"{folder.name}."):
        module = f"{folder.name}.{module}"
    command = [f"{python}/bin/python", "-m", "uvicorn", module, "--port", "0"]
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= {**manifest.variable_defaults, **variables}
    environment |= {
        "PYTHONPATH": f"{folder.parent}:{folder}",
        "HOME": str(home),
        "ENABLE_WEB_INTERFACE": "false",
    }
    log = home / "stock.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield _address(server, log)
    finally:
        server.kill()
        server.wait()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Return where the server listens, when it says so; the test's own deadline holds it."""
    while not (found := re.search(r"running on (http://\S+)", log.read_text())):
        try:
            server.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the stock server ended:\n{log.read_text()[-4000:]}")
    return found[1]


@contextmanager
def ours(
    folder: Path, variables: Mapping[str, str] = {}, arguments: tuple[str, ...] = ()
) -> Iterator[str]:
    """Hold `envhub serve FOLDER`; yield its address.

    Args:
        folder: of an OpenEnv environment.
        variables: to hand to it; its image must name them.
        arguments: more of them.
    """
    handed = [word for name in variables for word in ("--variable", name)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with serving(str(folder), *handed, *arguments) as address:
            yield address
