"""OpenEnv's own modules, without what its packages drag in; notes what an app was made of.

An environment written for OpenEnv ends in `app = create_app(Class, Action, Observation)`. It
gets upstream's classes from upstream's files; only two `__init__` files, which import gradio,
fastmcp and every client (3.5 s, 150 MB), become packages that import a name when it is asked
for, and the module that builds the server becomes one that notes what it was given.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_CORE, _SERVER = "openenv.core", "openenv.core.env_server"


@dataclass(frozen=True, slots=True)
class Made:
    """What an app was made of.

    Args:
        factory: makes an environment, called without arguments: a class or a function.
        action: pydantic class of actions.
        observation: of what a step returns.
        state: of the state; None where the author named none.
        reset_observation: of what a reset returns; None where it is the same.
        name: by which the author calls it, "" for none.
        mode: "simulation", or "production" for a server without reset, step and state; ""
            where the author has not said.
    """

    factory: Callable[[], Any]
    action: Any
    observation: Any
    state: Any
    reset_observation: Any
    name: str
    mode: str = ""


def replace(noted: list[Made]) -> None:
    """Put the light packages where the heavy ones would be imported.

    Args:
        noted: is appended to for each app.

    Raises:
        ImportError: OpenEnv is not installed, or is none that we know.
    """
    openenv = importlib.import_module("openenv")
    root = Path(openenv.__path__[0])
    server = _Light(_SERVER, root / "core" / "env_server")
    core = _Light(_CORE, root / "core", otherwise=server)
    sys.modules |= {_CORE: core, _SERVER: server}
    vars(core)["env_server"] = server
    vars(openenv)["core"] = core
    building = _Building(noted)
    sys.modules[building.__name__] = building
    vars(server)["http_server"] = building
    sys.meta_path.insert(0, _NoPages())


def listen(noted: list[Made]) -> None:
    """Import the real packages, and replace only what makes an app and its web pages.

    Raises:
        ImportError: OpenEnv is not installed.
    """
    sys.meta_path.insert(0, _NoPages())
    building = _Building(noted)
    for name in (f"{_SERVER}.http_server", _SERVER, _CORE):
        module = importlib.import_module(name)
        for function in ("create_app", "create_fastapi_app"):
            setattr(module, function, getattr(building, function))


class _Light(ModuleType):
    """A package whose names are imported when they are asked for (PEP 562)."""

    def __init__(self, name: str, folder: Path, otherwise: ModuleType | None = None) -> None:
        super().__init__(name)
        self.__path__ = [str(folder)]
        self.__package__ = name
        self.__spec__ = ModuleSpec(name, None, origin=str(folder), is_package=True)
        self.__spec__.submodule_search_locations = self.__path__
        self._homes = _homes(folder / "__init__.py")
        self._otherwise = otherwise

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._homes:
            home = importlib.import_module(f"{self.__name__}.{self._homes[name]}")
            value = getattr(home, name)
        elif self._otherwise is not None and hasattr(self._otherwise, name):
            value = getattr(self._otherwise, name)
        else:
            try:
                value = importlib.import_module(f"{self.__name__}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{self.__name__}.{name}":
                    raise
                text = f"module {self.__name__!r} has no attribute {name!r}"
                raise AttributeError(text) from None
        setattr(self, name, value)
        return value


def _homes(file: Path) -> dict[str, str]:
    """Return which module beside an `__init__` file each of its names comes from."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found |= {alias.asname or alias.name: node.module for alias in node.names}
    found.pop("*", None)
    return found


class _Building(ModuleType):
    """`http_server`: the same functions, which note their arguments and build nothing."""

    def __init__(self, noted: list[Made]) -> None:
        super().__init__(f"{_SERVER}.http_server")

        # names and order are upstream's, which authors look at by `inspect.signature`
        def create_app(
            env: Callable[[], Environment],  # type: ignore[name-defined]  # noqa: F821
            action_cls: Any,
            observation_cls: Any,
            env_name: str | None = None,
            max_concurrent_envs: int | None = None,
            concurrency_config: Any = None,
            gradio_builder: Any = None,
            custom_tab_name: str = "Custom",
            custom_tab_primary: bool = False,
            show_default_tab: bool = True,
            title_override: str | None = None,
            state_cls: Any = None,
            *,
            mode: Any = None,
            reset_observation_cls: Any = None,
            **_: Any,
        ) -> _App:
            if not callable(env):
                kind = type(env).__name__
                raise TypeError(f"env must be a callable that makes one, and is a {kind}")
            noted.append(
                Made(
                    env,
                    action_cls,
                    observation_cls,
                    state_cls,
                    reset_observation_cls,
                    env_name or "",
                    str(getattr(mode, "value", mode or "")),
                )
            )
            return _App()

        def create_fastapi_app(
            env: Callable[[], Environment],  # type: ignore[name-defined]  # noqa: F821
            action_cls: Any,
            observation_cls: Any,
            max_concurrent_envs: int | None = None,
            concurrency_config: Any = None,
            env_name: str | None = None,
            state_cls: Any = None,
            *,
            mode: Any = None,
            reset_observation_cls: Any = None,
            **_: Any,
        ) -> _App:
            return create_app(
                env,
                action_cls,
                observation_cls,
                env_name,
                state_cls=state_cls,
                mode=mode,
                reset_observation_cls=reset_observation_cls,
            )

        self.create_app = create_app
        self.create_fastapi_app = create_fastapi_app
        self.HTTPEnvServer = _NoServer


class _NoServer:
    """A base for those who would register routes of their own; of no use here."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("this environment builds a server of its own, which is not run here")


class _App:
    """What an author may still decorate with routes, which nobody will call."""

    def __init__(self) -> None:
        self.state = ModuleType("state")
        self.routes: list[Any] = []
        self.router = self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: lambda function: function


class _NoPages:
    """Imports `gradio` as a module in which everything is, and does nothing."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "gradio":
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it has everything."""


class _Anything(ModuleType):
    def __init__(self, name: str = "anything", *_: Any, **__: Any) -> None:
        super().__init__(name if isinstance(name, str) else "anything")

    def __call__(self, *_: Any, **__: Any) -> _Anything:
        return _Anything()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()

    def __or__(self, other: object) -> type:
        return object

    __ror__ = __or__
