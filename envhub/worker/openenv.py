"""Environments written for OpenEnv, loaded from their folder and hosted as our own.

Their factory is called as upstream's server calls it: without arguments, once for each
session, in the thread that will step it. Their actions and observations pass through the
methods that upstream's server calls, since authors override them.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from envhub.authoring import schema
from envhub.authoring.schema import ModelCodec, Signature
from envhub.worker import asgi, tasks, tools, upstream
from envhub.worker.upstream import Made

# a class of ours, its types, and whether it needs an event loop
Hosting = tuple[type, Signature, bool]
_TOOL_ACTIONS = {"list_tools": "ListToolsAction", "call_tool": "CallToolAction"}


def load(app: str, folders: Sequence[str]) -> Hosting:
    """Import the module that makes the app; return a class of ours around what it makes.

    With OpenEnv's light packages, then with the whole; an application that neither function
    of OpenEnv's has made is hosted as it is.

    Args:
        app: module and variable as openenv.yaml has them, such as "server.app:app".
        folders: for `sys.path`, the environment's own last; it becomes the working folder.

    Raises:
        ImportError: OpenEnv is not installed here.
        LookupError: the module made no app.
    """
    module, _, name = app.partition(":")
    folder = folders[-1]
    package = Path(folder).name
    names = [module] if module.startswith(("envs.", f"{package}.")) else []
    names += [f"{package}.{module}", module]
    sys.path[:0] = folders
    os.chdir(folder)
    noted: list[Made] = []
    with suppress(Exception):  # what it misses is in the whole, perhaps
        upstream.replace(noted)
        importlib.import_module(_first_found(names))
    if noted:
        return hosted(noted[-1], folder)
    _forget(package, folder)
    upstream.listen(noted)
    try:
        found = importlib.import_module(_first_found(names))
    except Exception:
        if not noted:
            raise
    if noted:
        return hosted(noted[-1], folder)
    built = getattr(found, name, None)
    if not callable(built):
        raise LookupError(f"`{module}` makes no app by OpenEnv's `create_app`, and no `{name}`")
    return application(built, package)


def application(app: Any, package: str) -> Hosting:
    """Return a class of ours around an application of theirs, as `hosted` does."""
    environment = type(package, (asgi.Application,), {"app": staticmethod(app)})
    return environment, schema.read(environment), True


def hosted(made: Made, folder: str) -> Hosting:
    """Return a class of ours around theirs, its types, and whether it needs an event loop.

    Args:
        made: what the author's app was made of.
        folder: where it runs, as in the image's working folder; it can be read only.
    """
    known = _class_of(made.factory)
    name = known.__name__ if known else getattr(made.factory, "__name__", made.name)
    body = {
        "made": made,
        "folder": folder,
        "app_name": made.name or getattr(made.factory, "__name__", "environment"),
        "production": _mode(made) == "production",
        "__doc__": known and known.__doc__,
    }
    cancel = getattr(known, "cancel", None)
    environment = type(name, (_Cancelling if callable(cancel) else _Hosted,), body)
    reset_options = schema.names(_method(known, "reset"), skip=1) if known else None
    signature = Signature(
        _ActionCodec(made.action),
        _ObservationCodec(made.observation),
        ModelCodec(made.state or _base("State")),
        reset_options,
        None,
        _ObservationCodec(made.reset_observation) if made.reset_observation else None,
    )
    lists_tools = made.action in map(_tool, _TOOL_ACTIONS)
    waits = known is None or any(_overrides(known, name) for name in ("reset", "step"))
    waits = waits or inspect.iscoroutinefunction(cancel)
    on_loop = lists_tools or waits or hasattr(known, "mcp_session")
    return environment, signature, on_loop


def _mode(made: Made) -> str:
    """Return how the author wants it served.

    Raises:
        ValueError: in a way that there is not.
    """
    mode = made.mode or os.environ.get("OPENENV_MODE", "simulation")
    if mode not in ("simulation", "production"):
        raise ValueError(f"Invalid mode: {mode!r}; it is `simulation` or `production`")
    return mode


class _Hosted:
    """One environment of theirs. `reset_async` and `step_async` are there if it has its own.

    One with tools has them on the event loop, in one conversation with its tools' server that
    lasts as long as the process: what a tool remembers, it remembers from call to call.
    """

    made: Made
    folder: str
    app_name: str
    production: bool

    def __init__(self) -> None:
        os.chdir(self.folder)
        self._theirs = self.made.factory()
        self._tools = tools.Tools(self._theirs, self.made.action)
        for name in ("reset", "step"):
            if _overrides(type(self._theirs), name):
                setattr(self, f"{name}_async", partial(self._call_async, f"{name}_async"))
        if self._tools.there:
            self.invoke_async = self._invoke

    def reset(self, **options: Any) -> Any:
        return self._call("reset", **options)

    def step(self, action: Any, **options: Any) -> Any:
        return self._call("step", action, **options)

    @property
    def state(self) -> Any:
        return self._theirs.state

    def invoke(self, method: str, params: dict[str, Any]) -> Any:
        return tasks.answer(self._theirs, method, params)

    async def _invoke(self, method: str, params: dict[str, Any]) -> Any:
        if method not in tools.METHODS:
            return await asyncio.to_thread(self.invoke, method, params)
        return await self._tools.answer(method, params, self._step_once)

    async def _step_once(self, action: Any) -> Any:
        twin = getattr(self, "step_async", None)
        return await twin(action) if twin is not None else self.step(action)

    def close(self) -> None:
        close = getattr(self._theirs, "close", None)
        if callable(close):
            close()

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        method = getattr(self._theirs, name)
        return method(*arguments, **_taken(method, options, skip=len(arguments)))

    async def _call_async(self, name: str, *arguments: Any, **options: Any) -> Any:
        await self._tools.converse()
        return await self._call(name, *arguments, **options)


class _Cancelling(_Hosted):
    """One whose class has a `cancel`."""

    def cancel(self) -> Any:
        return self._theirs.cancel()


class _ActionCodec(ModelCodec):
    """Their action class; where that is no more than a base, calls of tools by their type."""

    def load(self, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in _TOOL_ACTIONS and self._model in (
            _base("Action"),
            *map(_tool, _TOOL_ACTIONS),
        ):
            return ModelCodec(_tool(kind)).load(value)
        return super().load(value)


class _ObservationCodec(ModelCodec):
    """Their observation class, which may write itself in a way of its own."""

    lifts_truncated = False

    def dump(self, value: Any) -> dict[str, Any]:
        if not hasattr(value, "model_dump"):
            return super().dump(value)
        dumped: dict[str, Any] = value.model_dump(exclude={"reward", "done"})
        return dumped


def _class_of(factory: Any) -> type | None:
    while isinstance(factory, partial):
        factory = factory.func
    return factory if isinstance(factory, type) else None


def _overrides(kind: type, name: str) -> bool:
    """Whether a class has an asynchronous method of its own, and not upstream's default."""
    twin = inspect.getattr_static(kind, f"{name}_async", None)
    default = inspect.getattr_static(_interface(), f"{name}_async", None)
    return twin is not None and twin is not default


def _method(kind: type, name: str) -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(
        kind, f"{name}_async" if _overrides(kind, name) else name
    )
    return method


def _taken(method: Any, options: dict[str, Any], *, skip: int) -> dict[str, Any]:
    """Return the options that a bound method takes; upstream drops the others, too."""
    known = schema.names(method, skip=skip) if options else None
    if known is None:
        return options
    return {name: value for name, value in options.items() if name in known}


def _tool(kind: str) -> Any:
    types = importlib.import_module("openenv.core.env_server.mcp_types")
    return getattr(types, _TOOL_ACTIONS[kind])


def _base(name: str) -> Any:
    return getattr(importlib.import_module("openenv.core.env_server.types"), name)


def _interface() -> type:
    interfaces = importlib.import_module("openenv.core.env_server.interfaces")
    kind: type = interfaces.Environment
    return kind


def _first_found(names: Sequence[str]) -> str:
    """Return the first module that there is; the last name if there is none."""
    for name in names[:-1]:
        try:
            if importlib.util.find_spec(name) is not None:
                return name
        except ModuleNotFoundError:
            pass
    return names[-1]


def _forget(package: str, folder: str) -> None:
    """Make the next import of the environment begin anew; libraries stay, as some must."""
    gone = []
    for name, module in sys.modules.items():
        # a namespace package has folders and no file
        where = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        its_own = any(str(path).startswith(f"{folder}/") for path in where)
        if name.partition(".")[0] in ("openenv", package) or its_own:
            gone.append(name)
    for name in gone:
        del sys.modules[name]
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__module__ != upstream.__name__]
