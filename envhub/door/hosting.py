"""An application around one class: `create_app` and `HTTPEnvServer`, by OpenEnv's names.

    app = create_app(MyEnvironment, MyAction, MyObservation, env_name="mine")

    uvicorn server.app:app

The class is imported here only to learn where it is. Its sessions import it again, each
episode in a process of its own, in a sandbox that shows its module, or its package, alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from envhub.door import app as door
from envhub.errors import UsageError
from envhub.hub.environments import schemas
from envhub.hub.environments.manifest import Manifest
from envhub.hub.hub import Hub

if TYPE_CHECKING:
    from pydantic import BaseModel

_MODES = ("simulation", "production")


def create_app(
    env: type,
    action_cls: type[BaseModel],
    observation_cls: type[BaseModel],
    env_name: str | None = None,
    max_concurrent_envs: int | None = None,
    *,
    mode: str = "simulation",
    **options: Any,
) -> Starlette:
    """Return an ASGI application that serves an environment class in sandboxes.

    Args:
        env: a class in a file of its own module.
        action_cls: what its `step` is annotated with.
        observation_cls: what its `step` returns.
        env_name: by default the class's name.
        max_concurrent_envs: sessions at once; None for what memory and descriptors allow.
        mode: "simulation", or "production" without reset, step and state over HTTP.
        options: further ones of `Hub`, such as isolation="best".

    Raises:
        UsageError: `env` is no class that a sandbox could import.
    """
    app = Starlette()
    server = HTTPEnvServer(
        env, action_cls, observation_cls, max_concurrent_envs, env_name=env_name, **options
    )
    server.register_routes(app, mode)
    return app


class HTTPEnvServer:
    """Adds the routes of an environment to an application of Starlette's or FastAPI's.

    Args: as `create_app`.

    Raises: as `create_app`.
    """

    def __init__(
        self,
        env: type,
        action_cls: type[BaseModel],
        observation_cls: type[BaseModel],
        max_concurrent_envs: int | None = None,
        *,
        env_name: str | None = None,
        **options: Any,
    ) -> None:
        self._types = {"action": action_cls, "observation": observation_cls}
        self._manifest = _manifest(env, env_name)
        self._options = {"max_sessions": max_concurrent_envs, **options}

    def register_routes(self, app: Starlette, mode: str = "simulation") -> None:
        """Add the routes; the hub opens and closes with the application.

        Raises:
            UsageError: there is no such mode.
        """
        if mode not in _MODES:
            raise UsageError(f"expected a mode among {', '.join(_MODES)}, got `{mode}`")
        name = self._manifest.name
        door.install(app, default=name, production=mode == "production")
        before = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(running: Any) -> AsyncIterator[Any]:
            async with self._hub() as hub, before(running) as state:
                await self._check_types(hub)
                door.connect(app, hub)
                yield state

        app.router.lifespan_context = lifespan

    def _hub(self) -> Hub:
        hub = Hub(**self._options)
        hub.catalog.only(self._manifest)
        return hub

    async def _check_types(self, hub: Hub) -> None:
        """Say at the start, and not at the first step, that two places differ."""
        found = schemas.document(await hub.describe(self._manifest.name))
        for what, given in self._types.items():
            if given.model_json_schema() != found[what]:
                raise UsageError(
                    f"`{self._manifest.entry}` is annotated with another {what} than"
                    f" `{given.__name__}`",
                    hint="annotate `step(self, action: …) -> …` with the classes given here",
                )


def _manifest(env: Any, name: str | None) -> Manifest:
    """Return where a class is, for a sandbox to import it.

    Raises:
        UsageError: it is an instance, a function, or in no module of its own.
    """
    if not isinstance(env, type):
        raise UsageError(
            f"expected a class, got `{type(env).__name__}`: each session imports it anew",
            hint="write a class without arguments around what makes it",
        )
    module, file = env.__module__, Path(inspect.getfile(env)).resolve()
    if module == "__main__" or "<locals>" in env.__qualname__:
        raise UsageError(
            f"`{env.__qualname__}` is in `{module}`, which nobody else can import",
            hint="move it to the top of a module",
        )
    depth = len(module.split(".")) - (file.name != "__init__.py")
    slug = re.sub(r"[^a-z0-9_-]+", "-", (name or env.__name__).lower()).strip("-_")[:64]
    return Manifest(
        name=slug or "environment",
        entry=f"{module}:{env.__qualname__}",
        folder=str(file.parents[depth]),
        reset="reuse",
    )
