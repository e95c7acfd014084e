"""Starts a hub for a client that has no server: OpenEnv's clients take it as `provider=`.

    from envhub import EnvHubProvider
    with MyEnv(base_url=None, provider=EnvHubProvider("path/to/my_env")).sync() as env: ...
    env = await MyEnv.from_docker_image("my-env:latest", provider=EnvHubProvider(envs="envs"))

It has the methods of OpenEnv's RuntimeProvider and of its ContainerProvider, and neither as a
base class: OpenEnv itself need not be installed here. Providers that want the same server
share one; it ends with the last of them, or with this program, however that ends.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from envhub.errors import UnknownEnvironment, UsageError, WorkerStartFailed
from envhub.hub.environments import gym
from envhub.hub.environments.catalog import Catalog, search_path

START_S = 1800.0  # for a folder's packages may be installed first
_STOP_S = 15.0
_OF_THE_SERVER = ("LD_", "PYTHON", "ENVHUB_")  # what would change the program that starts
_LISTENING = b"listening on "


class EnvHubProvider:
    """Starts `envhub serve`, and stops it when nobody needs it any more.

    Args:
        env: a name on the search path, or the folder of an environment; "" when
            `start_container` will name it by its image.
        envs: folders to look in first.
        options: further ones of `envhub serve`, such as ("--isolation", "best").
    """

    def __init__(
        self,
        env: str | Path = "",
        *,
        envs: str | Path | Iterable[str | Path] = (),
        options: Iterable[str] = (),
    ) -> None:
        self._env = str(env)
        folders = [envs] if isinstance(envs, str | Path) else envs
        self._folders = [str(folder) for folder in folders]
        self._arguments = [*(f"--envs={folder}" for folder in self._folders), *options]
        self._server: _Server | None = None

    def start(
        self, port: int | None = None, env_vars: Mapping[str, str] | None = None, **_: Any
    ) -> str:
        """Start the server, unless there is one that will do, and return its address.

        Args:
            port: to listen on; None for any free one.
            env_vars: for the environment.

        Raises:
            UsageError: it is started already, or no environment was named.
            UnknownEnvironment: there is none of that name.
            WorkerStartFailed: the server ended, having said why.
        """
        return self._start(self._env, port, env_vars or {})

    def start_container(
        self,
        image: str = "",  # OpenEnv's clients call it without, if it may be left out
        port: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        **_: Any,
    ) -> str:
        """Serve the environment that an image's name means: "me/echo-env:latest" is `echo`.

        Raises: as `start`.
        """
        return self._start(self._env or image, port, env_vars or {})

    def wait_for_ready(self, base_url: str = "", timeout_s: float = 30.0) -> None:
        """Return at once: what `start` has returned is an address that answers."""

    def stop(self) -> None:
        """Stop the server, if no other provider needs it. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            _release(server)

    stop_container = close = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, env: str, port: int | None, variables: Mapping[str, str]) -> str:
        if self._server is not None:
            raise UsageError("this provider has started its server already")
        if not env:
            raise UsageError("no environment is named", hint="EnvHubProvider(NAME or FOLDER)")
        for variable in variables:
            if variable.startswith(_OF_THE_SERVER):
                raise UsageError(f"`{variable}` is for the server itself")
        name = env if gym.is_id(env) else named(env, Catalog(self._path(env)).names())
        arguments = [*self._arguments, f"--port={port or 0}", f"--env={name}"]
        arguments += [f"--variable={name}:{variable}" for variable in variables]
        arguments += [str(Path(env).absolute())] if Path(env).is_dir() else []
        self._server = _acquire(tuple(arguments), variables)
        return f"{self._server.address}/envs/{name}"

    def _path(self, env: str) -> list[Path]:
        return [Path(env)] if Path(env).is_dir() else search_path(self._folders)


@dataclass
class _Server:
    """One `envhub serve`, a child of this process.

    Args:
        key: what it was started with.
        process: it stops when its standard input ends, as that does when we die.
        address: where it listens.
        users: providers that need it.
    """

    key: object
    process: subprocess.Popen[bytes]
    address: str
    users: int = 0


_servers: dict[object, _Server] = {}
_lock = threading.Lock()


def _acquire(arguments: tuple[str, ...], variables: Mapping[str, str]) -> _Server:
    key = (os.getpid(), os.getcwd(), arguments, tuple(sorted(variables.items())))
    with _lock:
        server = _servers.get(key)
        if server is None or server.process.poll() is not None:
            server = _servers[key] = _started(key, arguments, variables)
        server.users += 1
        return server


def _release(server: _Server) -> None:
    with _lock:
        server.users -= 1
        if server.users:
            return
        if _servers.get(server.key) is server:
            del _servers[server.key]
    _end(server.process)


def _started(key: object, arguments: tuple[str, ...], variables: Mapping[str, str]) -> _Server:
    ends = ["--stop-on-eof", "--drain-s=0"]  # when nobody needs its sessions any more
    command = [sys.executable, "-m", "envhub", "serve", *ends, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, **pipes, env={**os.environ, **variables})  # type: ignore[call-overload]
    try:
        address = _address(process)
    except BaseException:
        _end(process)
        process.stdout.close()
        raise
    threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
    return _Server(key, process, address)


def _drain(said: IO[bytes]) -> None:
    """Read what the server still says: one whose pipe is full would stop in its tracks."""
    with suppress(OSError, ValueError), said:
        while said.read1(65536):  # type: ignore[attr-defined]
            pass


def _address(process: subprocess.Popen[bytes]) -> str:
    """Return what the server says that it listens on.

    Raises:
        WorkerStartFailed: it ended, or took too long; the message is what it said.
    """
    assert process.stdout is not None
    said = b""
    ends = time.monotonic() + START_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0, ends - time.monotonic())):
            chunk = os.read(process.stdout.fileno(), 4096)
            said += chunk
            _, found, after = said.partition(_LISTENING)
            address, ended, _ = after.partition(b"\n")  # its log may go on at once
            if found and ended:
                return address.decode().strip()
            if not chunk:
                break
    raise WorkerStartFailed(f"`envhub serve` did not start; it says:\n{said.decode().strip()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def named(env: str, names: Iterable[str]) -> str:
    """Return which of these a name means: of an environment, a folder, an image.

    Raises:
        UnknownEnvironment: none.
    """
    names = list(names)
    if env in names:
        return env
    known = {_short(name): name for name in names if not gym.is_id(name)}
    if len(known) == 1 and Path(env).is_dir():
        return next(iter(known.values()))
    if (found := known.get(_short(env))) is None:
        there = ", ".join(known.values())
        raise UnknownEnvironment(f"no environment `{env}`", hint=f"there is {there or 'none'}")
    return found


def _short(name: str) -> str:
    """Return the part of a name that means the environment: of "me/echo-env:1", "echo"."""
    plain = name.rsplit("/", 1)[-1].partition(":")[0].lower().replace("-", "_")
    return plain.removesuffix("_env") or plain
